/*
 * verdict.h - contract between the classifier (bpf/) and the fast path (dataplane/).
 *
 * The classifier writes one struct verdict into the WAXSEAL_VERDICT_BYTES right in front of the first
 * byte of the frame: as XDP metadata (bpf_xdp_adjust_meta) in AF_XDP mode, into the mbuf's headroom by
 * librte_bpf where DPDK owns the port. Nothing else flags that metadata is there, so a magic word does.
 *
 * Host byte order throughout; the writer and the reader are on one machine. The layout is fixed: both
 * programs are compiled apart from each other, and assert its size.
 */
#ifndef WAXSEAL_VERDICT_H
#define WAXSEAL_VERDICT_H

#include <linux/types.h>

#define WAXSEAL_VERDICT_MAGIC 0x57585631u /* "WXV1" */
#define WAXSEAL_VERDICT_BYTES 32
#define WAXSEAL_SMTP_PORT 25
#define WAXSEAL_VLAN_TAGS_MAX 2       /* 802.1Q and QinQ */
#define WAXSEAL_IPV6_EXTENSIONS_MAX 6 /* longer chains are VERDICT_UNPARSED */
#define WAXSEAL_WORKERS_MAX 16
#define WAXSEAL_POOLS_MAX 16
#define WAXSEAL_DESTINATION_NONE 0 /* no prefix matches: rule "*" and pool 0 */

/* What the frame is. Everything but VERDICT_FORWARD enters user space. */
enum verdict_action {
	VERDICT_FORWARD = 0,  /* not TCP port 25: to the other port, untouched */
	VERDICT_SMTP = 1,     /* TCP with port 25 at either end */
	VERDICT_FRAGMENT = 2, /* first fragment of a TCP datagram with port 25, or too short to tell */
	VERDICT_UNPARSED = 3, /* extension-header chain past the limit: the TCP header cannot be found */
	VERDICT_ICMP = 4,     /* an ICMP or ICMPv6 error that quotes TCP port 25: path MTU for adopted endpoints */
};

enum verdict_flags {
	VERDICT_IPV6 = 1 << 0,
	VERDICT_TO_PORT_25 = 1 << 1,   /* destination port is 25 */
	VERDICT_FROM_PORT_25 = 1 << 2, /* source port is 25 (both: the outside endpoint counts as server) */
};

struct verdict {
	__u32 magic;
	__u32 destination; /* index of the image's destination for the port-25 endpoint's address */
	__u32 flow_hash;   /* symmetric: both directions of a connection have the same */
	__u8 action;       /* enum verdict_action */
	__u8 worker;       /* 0-based, out of the destination's pool by flow_hash */
	__u8 flags;        /* enum verdict_flags */
	__u8 vlan_tags;    /* tags walked: 0, 1 or 2 */
	__u16 l3_off;      /* bytes from the start of the frame to the IP header */
	__u16 l4_off;      /* ... to the TCP header; 0 unless VERDICT_SMTP */
	__u32 reserved[3]; /* zero */
};

/* Per-direction configuration of the XDP program, in the pinned array map "waxseal_config",
 * keyed by enum port_side. Written by port/ before the program is attached. */
struct classifier_config {
	__u32 ifindex_self; /* how a program knows which port it runs on */
	__u32 ifindex_peer; /* where VERDICT_FORWARD frames are redirected */
	__u32 fail_open;    /* 1: port 25 is redirected too when no socket takes it; 0: dropped */
	__u32 hash_seed;    /* of flow_hash; drawn at each start, so that peers cannot choose their worker */
	__u32 changed;      /* what port/ changed on the netdev, for `waxseald --detach` to put back; enum netdev_change */
	__u32 reserved[3];
};

/* A pool of workers: flows go to workers[flow_hash % count]. Pool 0 is the default one. */
struct classifier_pool {
	__u32 count; /* 1..WAXSEAL_WORKERS_MAX */
	__u8 workers[WAXSEAL_WORKERS_MAX];
};

/* Value of the longest-prefix-match tries "waxseal_dest4" and "waxseal_dest6". */
struct classifier_destination {
	__u32 destination;
	__u32 pool;
};

/* Keys of those tries, as bpf(2) lays them out: prefix length, then the address in network order. */
struct classifier_key4 {
	__u32 prefix_len;
	__u8 addr[4];
};
struct classifier_key6 {
	__u32 prefix_len;
	__u8 addr[16];
};

/* The pinned map "waxseal_sealed": flows that need no more inspection. The program sends their packets on to the
 * other port by itself, but for those with SYN, FIN or RST, and keeps here what the tracker will need when the
 * flow comes back to it. Past WAXSEAL_SEALED_MAX the flow that was silent longest gives way: its packets then enter
 * user space again. Key: as dataplane/flow/ has it; addresses in network order, IPv4 as v4-mapped, the rest in
 * host order. */
#define WAXSEAL_SEALED_MAX (1u << 17)
struct classifier_flow {
	__u8 client[16], server[16];
	__u16 client_port, server_port;
	__u16 vlan[WAXSEAL_VLAN_TAGS_MAX];
};
/* One side's packets, written by the CPU that receives them; the other side's reads `next`. */
struct classifier_passed {
	__u64 packets, bytes; /* passed by the program; payload bytes */
	__u64 seen_ns;        /* CLOCK_MONOTONIC, coarse, of the last one; 0: none */
	__u32 next, ack;      /* first sequence number that it has not sent; last acknowledgment that counted */
	__u32 edge;           /* highest right edge that it has advertised */
	__u16 wscale;         /* of its windows; written by the worker */
	__u16 fin;            /* 1: its FIN has passed, just before `next` */
};
struct classifier_sealed {
	struct classifier_passed from[2]; /* enum side */
	__u32 client_port_side;           /* enum port_side: packets that come in by the other port are not the flow's */
	__u32 reserved;
};

/* Where DPDK owns the port, the program's argument is the struct verdict with the frame right behind it.
 * Before the program runs, these stand in the verdict's place. */
#define WAXSEAL_DPDK_SECTION "waxseal"
struct classifier_input {
	__u32 frame_len;
	__u32 from_outside; /* enum port_side */
	__u32 hash_seed;
	__u32 unused[5];
};
/* ... and it calls these two. They return destination | worker << 32; addresses as they lie in memory. */
#define WAXSEAL_STEER4 "waxseal_steer4" /* (address, flow_hash) */
#define WAXSEAL_STEER6 "waxseal_steer6" /* (first half, second half, flow_hash) */

#define WAXSEAL_PIN_DIR "/sys/fs/bpf" /* LIBBPF_PIN_BY_NAME's default */
#define WAXSEAL_PREFIXES_MAX (1u << 21)

#endif
