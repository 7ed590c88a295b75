/*
 * flow.h - the table of TCP connections, and the tracking of both directions.
 *
 * Enters: parsed packets of port 25, one at a time, and time. Leaves: packets to forward (through
 * flow_ops.send), and changes of state. One table belongs to one worker; no locks. The only code that
 * frees a flow.
 *
 * The tracker knows no SMTP and no TLS: in-order bytes go to flow_ops.take (worker/ joins them), and
 * flow_ops.approved says up to which byte of a side may be forwarded. Invariant in DIALOGUE and
 * SEALING: no byte of payload leaves that was not in order, checksum-valid and approved, and what left
 * once never leaves with other content (first copy wins).
 *
 * Every mbuf given to flow_packet is taken: sent, held or freed. Sequence numbers are modulo 2^32;
 * times are microseconds of the caller's monotonic clock.
 */
#ifndef WAXSEAL_FLOW_H
#define WAXSEAL_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "../../bpf/verdict.h"
#include "../packet/packet.h"
#include "../side.h"
#include "../stats/stats.h"

struct rte_mbuf;

enum flow_state {
	FLOW_HANDSHAKE, /* SYN seen, not yet established */
	FLOW_DIALOGUE,  /* watched: nothing passes but approved bytes */
	FLOW_SEALING,   /* 220 to STARTTLS seen: TLS must begin, at or above the floor */
	FLOW_SEALED,    /* encrypted end to end: passes */
	FLOW_CLEAR,     /* let go in clear: passes, the envelope is followed */
	FLOW_TAKEN,     /* adopted: no packet of either endpoint is forwarded again */
	FLOW_CUT,       /* reset both ways: everything is dropped */
	FLOW_CLOSED,    /* over: lingers for retransmissions, then is freed */
	FLOW_STATES
};
const char *flow_state_name(enum flow_state state);

struct flow_key { /* addresses in network order, IPv4 as v4-mapped; ports and VLAN ids in host order */
	uint8_t client[16], server[16];
	uint16_t client_port, server_port;
	uint16_t vlan[PACKET_VLANS_MAX];
};

struct flow_limits {
	uint32_t flows_max;
	uint32_t embryonic_percent;       /* of flows_max, in HANDSHAKE: past it the oldest of them gives way, ... */
	uint32_t answered_percent;        /* ... and not one whose server has answered, while these are not more than this part of them */
	uint32_t prefix_percent;          /* of flows_max, of one prefix of clients (IPv4 /24, IPv6 /48), once the table is half full */
	uint32_t held_segments_max;       /* of one flow, both sides */
	uint32_t held_segments_total_max; /* of one table: packet buffers that may be tied up */
	uint64_t handshake_timeout_us;
	uint64_t dialogue_timeout_us;
	uint64_t sealed_timeout_us;       /* SEALED, CLEAR: longer than RFC 5321's and RFC 5382's times */
	uint64_t closed_linger_us;
	uint64_t cut_linger_us;           /* of flows cut or taken over: an end may not know yet that it is over */
};
extern const struct flow_limits flow_limits_default;

#define FLOW_KEPT_BYTES_MAX 4096 /* of one side: forwarded and not yet acknowledged */

/* One side's stream. The numbers are those of the table "the moment of adoption" in README.md. */
struct flow_track {
	uint32_t isn;        /* of its SYN */
	uint32_t next;       /* first sequence number that has not been approved and forwarded */
	uint32_t acked;      /* highest acknowledgment of its bytes by the other side */
	uint32_t edge;       /* highest right edge it has advertised: what the other side may send; before the SYN-ACK its window */
	uint32_t tsval;      /* highest TSval relayed from it ... */
	uint32_t tsval_at;   /* ... and when: low half of the time, see flow_time_us */
	uint32_t ts_recent;  /* what its receiver compares its TSvals with: RFC 7323, 4.3 */
	union {
		uint32_t fin_seq; /* sequence number of its FIN, valid with fin_sent */
		uint32_t rtt_us;  /* before: from here to that side and back, seen in the handshake */
	};
	uint16_t mss;
	uint8_t wscale;      /* 0 unless both SYNs had the option */
	bool wscale_ok : 1;  /* its SYN had the option */
	bool syn_seen : 1, fin_sent : 1 /* forwarded */, fin_acked : 1;
	bool ts_seen : 1;    /* tsval_at holds */
	bool heard : 1;      /* of a joined flow: it has said something */
};

struct flow_stream; /* held segments and kept bytes, while the flow is watched; stream.c */

/* Three cache lines, and a sealed flow has nothing else but its place in the index. Ageing looks at the second one alone. */
struct flow {
	struct flow_key key;
	uint64_t bytes[SIDES];    /* payload, as forwarded */
	uint64_t id;
	uint64_t seen_us;
	uint32_t hash;            /* the classifier's symmetric hash: finds the flow, and places it for `percent` */
	uint8_t state;            /* enum flow_state; changed by flow_enter_state alone */
	uint8_t client_port_side; /* enum port_side of the client */
	uint8_t offload_in;       /* packets seen here until it is handed over (again); offload.c */
	uint8_t version_index;    /* stats_version_index of a sealed session */
	bool used : 1;
	bool joined : 1;          /* no SYN was seen */
	bool taken : 1;           /* has been TAKEN: no packet of an endpoint passes ever after */
	bool released : 1;        /* has been SEALED or CLEAR: its payload passes to the end */
	bool reopening : 1;       /* a SYN with reopen_isn came for the pair of ports in use */
	bool no_adopt : 1;        /* MD5 or AO: its segments cannot be made by others */
	bool sack_ok : 1, ts_ok : 1; /* offered by both */
	bool counted : 1;         /* flow_ops.closed was called */
	bool observed : 1;        /* CLEAR: bytes still go to flow_ops.take */
	bool offloaded : 1;       /* SEALED: its packets pass elsewhere */
	bool owned : 1;           /* flow_ops.hold wants to know when it goes */
	bool answered : 1;        /* HANDSHAKE: the server has taken its SYN */
	uint16_t cipher;          /* of a sealed session */
	uint32_t reopen_isn;
	struct flow_track side[SIDES];
	uint64_t opened_us;
	struct stats_destination *destination;
	union {
		TAILQ_ENTRY(flow) embryonic; /* in HANDSHAKE, which has no stream and no session */
		struct {
			struct flow_stream *stream;
			void *session;       /* the worker's; released by flow_ops.closed */
		};
	};
};

/* The time in microseconds whose low half is `at`: not more than 71 minutes before now. */
static inline uint64_t flow_time_us(uint32_t at, uint64_t now_us) { return now_us - (uint32_t)((uint32_t)now_us - at); }
/* The worker's session; NULL where there is none, or cannot be yet. */
static inline void *flow_session(const struct flow *flow) { return flow->state == FLOW_HANDSHAKE ? NULL : flow->session; }

struct flow_ops {
	/* In-order bytes of a watched flow, each byte once. Returns how many were taken; the rest is offered again
	 * after anything else was taken. May change the flow's state. len 0: has anything become due? */
	size_t (*take)(void *context, struct flow *flow, enum side side, const uint8_t *bytes, size_t len);
	/* How many of the bytes taken from that side may be forwarded: a stream offset that only grows. */
	uint64_t (*approved)(void *context, const struct flow *flow, enum side side);
	/* Forward a frame to the port of the peer opposite to `from`; takes the mbuf. */
	void (*send)(void *context, const struct flow *flow, enum side from, struct rte_mbuf *mbuf);
	/* A packet of a TAKEN flow; takes the mbuf. */
	void (*taken)(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet);
	/* Bytes or a FIN of a connection that is over for waxseal alone (cut, or taken over and done with): the RST that
	 * told its sender may have been lost. NULL: nothing is said. */
	void (*gone)(void *context, const struct flow *flow, enum side from, const struct packet *packet);
	/* A flow was opened (its SYN passes), is established, is joined in the middle. */
	void (*opened)(void *context, struct flow *flow, const struct packet *packet);
	void (*established)(void *context, struct flow *flow);
	/* First packet of a flow joined mid-way: must enter a state (SEALED, CLEAR or CUT), or free to leave it undecided. */
	void (*joined)(void *context, struct flow *flow, enum side from, const struct packet *packet);
	/* A SYN-ACK of no flow, while its SYN may have given way to newer ones: is its connection to be watched from the
	 * beginning? Then it is dropped, and the SYN, sent again, opens a flow. `flow` is a name alone. NULL: it passes. */
	bool (*must_open)(void *context, const struct flow *flow);
	/* The session is over (once a flow): count it, release flow->session. */
	void (*closed)(void *context, struct flow *flow);
	/* The packets of a sealed flow pass elsewhere from now on, but for SYN, RST and what ends it. false: not now. NULL: there
	 * is no such place. */
	bool (*offload)(void *context, const struct flow *flow, const struct classifier_sealed *begin);
	/* What has passed there so far, and for how long nothing did (UINT64_MAX: nothing ever). take_back: from now on
	 * nothing passes there. false: the flow is not there, it has given way to others. */
	bool (*offloaded)(void *context, const struct flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us);
	/* A flow has its place in this table: its packets are to come here while it lives. False: `release` is not to be called
	 * when it goes. NULL: they come here anyway. */
	bool (*hold)(void *context, uint32_t hash);
	void (*release)(void *context, uint32_t hash);
	void *context;
};

struct flow_table;

/* NULL without memory or with a name that is taken. `name` is unique in the process. */
struct flow_table *flow_table_new(const char *name, const struct flow_limits *limits, const struct flow_ops *ops,
                                  struct stats *stats, uint8_t worker, int socket);
void flow_table_free(struct flow_table *table); /* closes every flow first */

/* One frame with port 25 at either end that came in on port `from`. */
void flow_packet(struct flow_table *table, struct rte_mbuf *mbuf, struct packet *packet, enum port_side from,
                 uint32_t hash, uint64_t now_us);

/* A burst of frames that came in on port `from`, each with a verdict in front: finds all their flows at once, so that the
 * memory they stand in comes while others are looked for. */
#define FLOW_BURST_MAX 32
struct flow_burst {
	struct flow_key key[FLOW_BURST_MAX];
	struct flow *flow[FLOW_BURST_MAX]; /* NULL: not looked for, or none */
	uint64_t changes;                  /* of the table, when it was looked into */
	enum port_side from;
};
void flow_burst_find(struct flow_table *table, struct flow_burst *burst, struct rte_mbuf *const *mbufs, unsigned count, enum port_side from);
/* Takes the frame, if it is of a SEALED flow and can change no more than its numbers: the short way of flow_packet.
 * false: not taken; parse it, and give it to flow_packet. */
bool flow_burst_pass(struct flow_table *table, const struct flow_burst *burst, unsigned index, struct rte_mbuf *mbuf, uint64_t now_us);

/* Ageing: looks at the next part of the table; call it every FLOW_SWEEP_US. */
#define FLOW_SWEEP_US 10000
#define FLOW_SWEEP_ROUND_US 10000000 /* the whole table is seen once in this time */
void flow_sweep(struct flow_table *table, uint64_t now_us);

/* The single setter of flow->state. Allowed edges stand in one table; any other is our bug. Leaving the
 * watched states releases or drops what is held as the new state says: SEALED and CLEAR forward it, CUT
 * and CLOSED drop it, TAKEN leaves it for flow_drain. */
void flow_enter_state(struct flow_table *table, struct flow *flow, enum flow_state state, uint64_t now_us);

/* For adoption: is every forwarded byte of both sides also taken, and nothing half-passed? */
bool flow_has_held(const struct flow *flow, enum side side);
/* Copies of the forwarded, unacknowledged bytes of a side: [acked, next). Valid until the flow changes. */
const uint8_t *flow_kept(const struct flow *flow, enum side side, uint32_t *len);
/* Offers what is held once more, after the owner of the bytes has changed its mind about them. */
void flow_follow_held(struct flow_table *table, struct flow *flow);
/* Hands the held segments of a TAKEN flow to flow_ops.taken, in order, and frees its stream. */
void flow_drain(struct flow_table *table, struct flow *flow);

/* The headers of a side as it sends them; false before its first packet after the handshake. */
const struct packet_template *flow_template(const struct flow *flow, enum side side);

/* Hands over what has been sealed. Call when all packets of before have been sent: one that passes elsewhere would overtake. */
void flow_offload_ready(struct flow_table *table);
/* Payload bytes of both sides, with those that have passed elsewhere. */
void flow_bytes(const struct flow_table *table, const struct flow *flow, uint64_t bytes[SIDES]);

/* `hash` is the classifier's, of any packet of the flow. */
struct flow *flow_find(struct flow_table *table, const struct flow_key *key, uint32_t hash);
struct flow *flow_at(struct flow_table *table, uint32_t index); /* NULL: a free place. For listing */
uint32_t flow_places(const struct flow_table *table); /* flow_at's indices are below it */
uint32_t flow_count(const struct flow_table *table);
uint32_t flow_held_total(const struct flow_table *table);

#endif
