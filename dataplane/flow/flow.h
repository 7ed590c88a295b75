/*
 * flow.h - the table of TCP connections, and the tracking of both directions.
 *
 * Enters: parsed packets of port 25, one at a time, and time. Leaves: for each packet a verdict (send,
 * held, drop), segments released from holding, state changes, and the numbers from which takeover/
 * adopts. One table belongs to one worker; no locks. The only code that frees a flow.
 *
 * The tracker knows no SMTP and no TLS: in-order bytes go to flow_ops.approve (worker.c joins them),
 * which says how many may be forwarded. Invariant in DIALOGUE and SEALING: no byte of payload leaves
 * that was not in order, checksum-valid and approved; first copy wins. shared numbers: see the table
 * "the moment of adoption" in README.md.
 */
#ifndef WAXSEAL_FLOW_H
#define WAXSEAL_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "../packet/packet.h"
#include "../side.h"
#include "../stats/stats.h"

struct rte_mbuf;

enum flow_state {
	FLOW_HANDSHAKE, /* SYN seen, not yet ACKed */
	FLOW_DIALOGUE,  /* watched: nothing passes but approved bytes */
	FLOW_SEALING,   /* 220 to STARTTLS seen: TLS must begin, at or above the floor */
	FLOW_SEALED,    /* encrypted end to end: passes */
	FLOW_CLEAR,     /* let go in clear: passes, envelope counted */
	FLOW_TAKEN,     /* adopted: no packet of either endpoint is forwarded again */
	FLOW_CUT,       /* reset both ways: everything is dropped */
	FLOW_CLOSED,    /* over: lingers to answer retransmissions, then is freed */
	FLOW_STATES
};
const char *flow_state_name(enum flow_state state);

struct flow_key {
	uint8_t client[16], server[16];
	uint16_t client_port, server_port;
	uint16_t vlan[PACKET_VLANS_MAX];
};

struct flow_limits {
	uint32_t flows_max;
	uint32_t held_segments_max;   /* a flow, both sides */
	uint32_t kept_bytes_max;      /* a side */
	uint64_t handshake_timeout_us, dialogue_timeout_us, sealed_timeout_us, closed_linger_us, cut_linger_us;
};
extern const struct flow_limits flow_limits_default;

/* A side's stream, by the tracker; takeover.md's table. All sequence numbers modulo 2^32. */
struct flow_track {
	uint32_t isn;     /* of the SYN */
	uint32_t next;    /* first byte that has not been approved and forwarded */
	uint32_t acked;   /* highest acknowledgment of this side's bytes by the other side */
	uint32_t edge;    /* highest right edge this side has advertised: what the other may send */
	uint32_t window;  /* last advertised window, in bytes, scaled */
	uint32_t tsval;   /* last TSval relayed from this side */
	uint64_t tsval_at_us;
	uint32_t fin_seq; /* valid with fin_seen */
	uint16_t mss;
	uint8_t wscale;   /* valid when both sides sent the option */
	bool syn_seen, fin_seen, fin_acked;
};

struct flow; /* opaque to all but flow/; accessors below */
struct flow_table;

#endif
