/*
 * packet.h - one TCP/IP frame, seen and changed in place.
 *
 * Enters: a contiguous Ethernet frame (VLAN and QinQ tags, IPv4 with options, IPv6 with extension
 * headers). Leaves: a view with offsets and host-order fields, edits that keep lengths and checksums
 * right, and new frames built from a template of a direction's headers. Pure: bytes only.
 *
 * A view points into the frame and owns nothing. Addresses are 16 bytes in network order, IPv4 as
 * ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2). Every offset in an accepted view lies inside the frame,
 * and the IP length never exceeds it (Ethernet padding behind it is ignored).
 */
#ifndef WAXSEAL_PACKET_H
#define WAXSEAL_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_VLANS_MAX 2
#define PACKET_IPV6_EXTENSIONS_MAX 6
#define PACKET_SACK_MAX 4
#define PACKET_HEADERS_MAX 192 /* L2 + IP + extension headers that a template keeps */

enum packet_tcp_flags {
	PACKET_FIN = 0x01, PACKET_SYN = 0x02, PACKET_RST = 0x04, PACKET_PSH = 0x08,
	PACKET_ACK = 0x10, PACKET_URG = 0x20, PACKET_ECE = 0x40, PACKET_CWR = 0x80
};

/* Options seen in the TCP header. */
enum packet_tcp_options {
	PACKET_OPT_MSS = 1 << 0, PACKET_OPT_WSCALE = 1 << 1, PACKET_OPT_SACK_OK = 1 << 2, PACKET_OPT_TS = 1 << 3,
	PACKET_OPT_MD5 = 1 << 4 /* RFC 2385 */, PACKET_OPT_AO = 1 << 5 /* RFC 5925 */,
	PACKET_OPT_TFO = 1 << 6 /* RFC 7413 */, PACKET_OPT_MPTCP = 1 << 7 /* RFC 8684 */,
};

struct packet_sack { uint32_t start, end; };

struct packet {
	uint8_t *frame;
	uint16_t frame_len;   /* without Ethernet padding */
	uint16_t l3_off, l4_off, payload_off, payload_len;
	uint8_t family;       /* 4 or 6 */
	uint8_t vlan_count;
	uint16_t vlan[PACKET_VLANS_MAX]; /* VLAN ids, outer first */
	uint8_t addr_src[16], addr_dst[16];
	uint16_t port_src, port_dst;
	uint32_t seq, ack;
	uint16_t window;      /* as on the wire, unscaled */
	uint8_t flags;        /* enum packet_tcp_flags */
	uint8_t options;      /* enum packet_tcp_options */
	uint16_t mss;         /* valid with PACKET_OPT_MSS, and so on */
	uint8_t wscale;
	uint32_t tsval, tsecr;
	uint8_t sack_count;
	struct packet_sack sack[PACKET_SACK_MAX];
};

enum packet_verdict {
	PACKET_OK,
	PACKET_NOT_TCP,   /* sound, but not TCP (ICMP, UDP ...) */
	PACKET_FRAGMENT,  /* an IP fragment; an IPv6 atomic fragment (RFC 6946) counts as whole */
	PACKET_MALFORMED, /* truncated, bad lengths, bad options, too many headers */
};

enum packet_verdict packet_parse(struct packet *packet, uint8_t *frame, size_t len);

/* IPv4 header checksum and TCP checksum are right. */
bool packet_checksums_ok(const struct packet *packet);

/* Sequence space the segment takes: payload, plus one each for SYN and FIN. */
uint32_t packet_seq_len(const struct packet *packet);

/* ---- edits; each leaves lengths and checksums right ---- */

void packet_keep_head(struct packet *packet, uint16_t payload_len); /* cut the payload's tail, and FIN and PSH with it */
void packet_drop_head(struct packet *packet, uint16_t bytes);       /* cut the payload's first bytes; seq moves on */
/* Puts bytes behind the payload. The frame's buffer has room for them. */
void packet_append(struct packet *packet, const uint8_t *bytes, uint16_t len);
void packet_overwrite(struct packet *packet, uint16_t payload_at, const uint8_t *bytes, uint16_t len);
void packet_clear_urgent(struct packet *packet);                    /* URG flag and pointer: urgent data is inline, RFC 6093 */
/* Of a SYN: TFO and MPTCP options become NOPs, data is cut. true if anything was changed. */
bool packet_clean_syn(struct packet *packet);
void packet_update_checksums(struct packet *packet);

/* Turns a view's frame into an RST towards its receiver, sequence number `seq` (RFC 9293, section
 * 3.10.7.1): no payload, no options. For resets in the name of the other peer. */
void packet_make_reset(struct packet *packet, uint32_t seq, uint32_t ack);

/* ---- new frames ---- */

/* The headers of a direction as its peer sends them: MAC, VLAN, TTL, DSCP, flow label, addresses, ports. */
struct packet_template {
	uint8_t headers[PACKET_HEADERS_MAX]; /* Ethernet .. end of the IP header; IPv4 options and IPv6 extension headers left out */
	uint8_t len, l3_off, family;
	uint16_t port_src_be, port_dst_be;
	uint16_t ip_id; /* next IPv4 identification */
};

void packet_template_from(struct packet_template *out, const struct packet *packet);
/* The template of the opposite direction, where no packet of that direction has been seen. */
void packet_template_reverse(struct packet_template *out, const struct packet_template *in);

struct packet_tcp { /* what to put in the TCP header */
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;  /* as on the wire */
	bool ts;
	uint32_t tsval, tsecr;
	uint8_t sack_count;
	struct packet_sack sack[PACKET_SACK_MAX];
};

/* Bytes of headers that packet_build will write for `tcp`. */
size_t packet_build_headers_len(const struct packet_template *tmpl, const struct packet_tcp *tcp);
/* Writes all headers in front of `payload_len` bytes that already stand at
 * out + packet_build_headers_len(), checksums included. Returns the frame's length; 0 if cap is too small. */
size_t packet_build(struct packet_template *tmpl, const struct packet_tcp *tcp, uint16_t payload_len, uint8_t *out, size_t cap);

/* ---- ICMP about a flow (RFC 5927) ---- */

struct packet_icmp {
	uint8_t addr_src[16], addr_dst[16]; /* of the quoted packet */
	uint16_t port_src, port_dst;
	uint8_t vlan_count;
	uint16_t vlan[PACKET_VLANS_MAX]; /* of the frame that brought the error: the flow's own tags */
	uint32_t seq;      /* of the quoted packet; only 8 TCP bytes are needed */
	bool too_big;      /* IPv4 type 3 code 4, IPv6 type 2 */
	uint16_t mtu;
};
/* true: an ICMP or ICMPv6 error that quotes a TCP packet with port 25 at either end. */
bool packet_icmp_parse(struct packet_icmp *out, const uint8_t *frame, size_t len);

/* ---- sequence numbers, RFC 9293 section 3.4: modulo 2^32 ---- */

static inline bool seq_before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline bool seq_after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }
static inline bool seq_between(uint32_t x, uint32_t low, uint32_t high) { return x - low <= high - low; } /* low <= x <= high */

#endif
