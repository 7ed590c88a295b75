/*
 * private.h - what flow/'s own files share: the table and the stream of a watched flow.
 */
#ifndef WAXSEAL_FLOW_PRIVATE_H
#define WAXSEAL_FLOW_PRIVATE_H

#include <string.h>

#include <rte_prefetch.h>

#include "flow.h"

struct rte_hash;

#define FLOW_LINE 64 /* bytes that come from memory at once */

#define BUG_ON(condition)                                                                                              \
	do {                                                                                                           \
		if (__builtin_expect(!!(condition), 0))                                                                \
			flow_bug(#condition, __FILE__, __LINE__);                                                      \
	} while (0)
void flow_bug(const char *what, const char *file, int line) __attribute__((noreturn));

#define FLOW_SHARE_ROWS 2
#define FLOW_SHARE_SLOTS 8192
struct flow_share {
	uint32_t seed[FLOW_SHARE_ROWS];
	uint32_t flows[FLOW_SHARE_ROWS][FLOW_SHARE_SLOTS];
};

#define FLOW_HINTS_LINE (FLOW_LINE / sizeof(uint32_t))
struct flow_index {
	struct rte_hash *hash; /* of pointers to keys: those of flows, which stay where they are */
	uint32_t *hints;       /* in lines; 0: none */
	uint32_t lines;
	uint32_t places;
	unsigned place_bits;   /* of a hint, the lower ones: a place's number and 1; above are bits of the signature */
	struct flow *flows;
};

TAILQ_HEAD(flow_queue, flow);

#define FLOW_READY_MAX 64 /* between two ticks; one more is made ready by its next packet */

struct flow_table {
	struct flow_index index;
	struct flow *flows;
	uint32_t places;    /* of flows */
	uint32_t fresh;     /* places from here on have never been used */
	uint32_t freed;     /* the one freed last, whose `reopen_isn` is the one before it; NO_PLACE: none */
	uint64_t changes;   /* flows added and removed */
	uint32_t count;
	struct flow_queue unanswered, answered; /* in HANDSHAKE, the oldest first */
	uint32_t embryonic_count;               /* of both */
	uint32_t answered_count;
	uint64_t forgotten_until_us;            /* so long the SYN-ACK of one that has given way may come */
	struct flow_share share;
	struct flow *ready[FLOW_READY_MAX];     /* to be handed over */
	uint32_t ready_count;
	uint32_t held_total;
	uint32_t sweep_at;
	uint64_t swept_us;
	uint64_t ids;
	struct flow_limits limits;
	struct flow_ops ops;
	struct stats *stats;
};

/* A segment that waits: for the bytes before it, or for approval. Sorted by seq, no overlaps. */
struct flow_held {
	struct flow_held *later;
	struct rte_mbuf *mbuf;
	struct packet packet;
};

struct flow_kept { /* bytes [start, start + len) of the stream, forwarded and not acknowledged */
	uint32_t start;
	uint32_t len;
	uint8_t bytes[FLOW_KEPT_BYTES_MAX];
};

struct flow_stream {
	uint64_t fed[SIDES]; /* bytes given to flow_ops.take and taken: stream offsets */
	struct flow_held *held[SIDES];
	uint32_t held_count;
	bool have_template[SIDES];
	struct packet_template template[SIDES];
	struct flow_kept kept[SIDES];
};

/* Only forward, as the adopted endpoint's clock must: RFC 7323, section 5.4. */
static inline void flow_note_timestamp(struct flow *flow, enum side side, const struct packet *packet)
{
	struct flow_track *track = &flow->side[side];
	if (!(packet->options & PACKET_OPT_TS) || (track->ts_seen && !seq_after(packet->tsval, track->tsval)))
		return;
	track->tsval = packet->tsval;
	track->tsval_at = (uint32_t)flow->seen_us;
	track->ts_seen = true;
}

/* stream.c */
struct flow_stream *flow_stream_new(const struct flow *flow);
void flow_stream_free(struct flow_table *table, struct flow *flow);
/* A segment with payload or FIN of a watched flow; takes the mbuf. */
void flow_stream_segment(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet);
/* The same of a CLEAR flow that is followed: the mbuf is only looked at (copied when out of order). */
void flow_stream_observe(struct flow_table *table, struct flow *flow, enum side side, const struct rte_mbuf *mbuf, const struct packet *packet);
/* Feeds, approves and releases whatever has become possible. */
void flow_stream_advance(struct flow_table *table, struct flow *flow);
/* Forwards everything held, in order, whatever its approval. */
void flow_stream_release_all(struct flow_table *table, struct flow *flow);
/* The headers of a side as it sends them. */
void flow_stream_template(struct flow *flow, enum side side, const struct packet *packet);
void flow_stream_acked(struct flow *flow, enum side side, uint32_t ack);

/* offload.c */
void flow_offload_sealed(struct flow_table *table, struct flow *flow); /* it is, and may be handed over */
/* A packet of a flow in SEALED has come up: after this the numbers of the flow are right for it. */
void flow_offload_packet(struct flow_table *table, struct flow *flow, uint8_t tcp_flags, uint32_t payload);
void flow_offload_end(struct flow_table *table, struct flow *flow);
void flow_offload_stale(struct flow_table *table, const struct flow *flow); /* it begins: nothing of it may pass elsewhere */
void flow_offload_forget(struct flow_table *table, const struct flow *flow); /* it is no flow any more */
/* Has something passed elsewhere since flow->seen_us, which it then moves? */
bool flow_offload_alive(struct flow_table *table, struct flow *flow, uint64_t now_us);

/* share.c */
uint32_t flow_share_of(struct flow_share *share, const uint8_t client[16]);
void flow_share_take(struct flow_share *share, const uint8_t client[16]);
void flow_share_give(struct flow_share *share, const uint8_t client[16]);

/* table.c */
/* NULL: refused, and counted. May remove the oldest embryonic flow. */
struct flow *flow_insert(struct flow_table *table, const struct flow_key *key, uint32_t hash, uint64_t now_us);
void flow_remove(struct flow_table *table, struct flow *flow);
void flow_finish(struct flow_table *table, struct flow *flow); /* flow_ops.closed, once */

/* The server has taken the SYN of a flow in HANDSHAKE. */
void flow_answered(struct flow_table *table, struct flow *flow);
/* Zeros, touched as they are used, in huge pages where the kernel has them: a miss of the TLB less a packet. */
void *flow_memory_new(size_t bytes);
void flow_memory_free(void *memory, size_t bytes);

/* index.c */
/* VLANs are not in the classifier's hash: one connection in many of them must not crowd a bucket. */
static inline uint32_t flow_signature(const struct flow_key *key, uint32_t hash)
{
	return hash ^ ((uint32_t)key->vlan[0] << 16 | key->vlan[1]) * 0x9e3779b1u;
}
int flow_index_init(struct flow_index *index, const char *name, struct flow *flows, uint32_t places, int socket);
void flow_index_dispose(struct flow_index *index);
int flow_index_add(struct flow_index *index, struct flow *flow); /* not 0: no memory */
void flow_index_remove(struct flow_index *index, struct flow *flow);
/* NULL: none of that name. */
struct flow *flow_index_find(struct flow_index *index, const struct flow_key *key, uint32_t signature);
/* The same of up to FLOW_BURST_MAX, whose lines of hints have been asked for before. */
void flow_index_find_bulk(struct flow_index *index, const struct flow_key *const *keys, const uint32_t *signatures, unsigned count,
                          struct flow **out);
/* By the upper bits of the signature; the lower ones stand in the hint. */
static inline uint32_t *flow_index_line(const struct flow_index *index, uint32_t signature)
{
	return index->hints + ((uint64_t)signature * index->lines >> 32) * FLOW_HINTS_LINE;
}
static inline size_t flow_index_bytes(const struct flow_index *index) { return (size_t)index->lines * FLOW_LINE; } /* of hints */

static inline void flow_prefetch(const struct flow *flow)
{
	for (unsigned line = 0; line < sizeof(*flow) / FLOW_LINE; line++)
		rte_prefetch0((const uint8_t *)flow + line * FLOW_LINE);
}

static inline uint32_t stream_seq(const struct flow *flow, enum side side, uint64_t offset)
{
	return flow->side[side].isn + 1 + (uint32_t)offset;
}

#endif
