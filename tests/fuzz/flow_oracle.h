/*
 * flow_oracle.h - what is known of the connections of flow_packets.c, and what must be so of all that leaves.
 *
 * Enters: each packet before the tracker has it (offer), and the tracker's calls, of which the worker's part is played here
 * as the operations have set it. Leaves: nothing, or an end with the condition that did not hold.
 *
 * Never seen: in DIALOGUE and SEALING an octet leaves that was not taken in order from a packet with a right checksum
 * and approved, or in two forms before it is acknowledged, or behind a FIN; a frame of a flow that was cut or taken over
 * leaves; payload of one that has closed unreleased leaves; an acknowledgment of what was never forwarded leaves; the
 * counters do not add up; a flow is not reported as over exactly once.
 */
#ifndef FUZZ_FLOW_ORACLE_H
#define FUZZ_FLOW_ORACLE_H

#include <string.h>

#include <rte_mbuf.h>

#include "flow/private.h"
#include "frame.h"
#include "must.h"

enum { FLOW_HASH = 7, CONNS = 4, FIRST_PORT = 1000, STREAM_MAX = 8192, FRAMES = 255, OPERATIONS_MAX = 600, LOG_MAX = OPERATIONS_MAX * 4, FRAME_MAX = 2048 };

/* One pair of ports. The numbers of the peers outlive a flow; the oracle's notes are of the flow with `id`. */
struct conn {
	uint32_t isn[SIDES], says[SIDES], hears[SIDES]; /* of the peers: next to say, next to acknowledge */
	uint64_t id;
	bool established, taken, released, over;
	uint32_t first[SIDES], left_end[SIDES], fin_at[SIDES]; /* first octet's number; behind the last that left; where the FIN stands */
	bool fin_left[SIDES], seal_at_take, observed;
	uint8_t fed[SIDES][STREAM_MAX];
	size_t fed_len[SIDES], take_upto[SIDES];
	uint64_t approve[SIDES];
	struct classifier_sealed handed_over;
};

static struct {
	struct rte_mempool *pool;
	struct flow_table *table[2]; /* [1]: few may be held */
	struct stats *stats[2];
	struct flow_table *flows;
	struct stats *count;
	bool ipv6, offloads, bursts, astray;
	uint64_t now, start, before[STATS_COUNTERS_N];
	enum stats_counter drop[STATS_COUNTERS_N]; /* those of them that a packet came for */
	unsigned drops;
	struct conn conn[CONNS];
	uint64_t given, sent, handed_over, opened, closed;
	/* which values were offered at a sequence number, and where, to clear it again */
	uint8_t offered[CONNS][SIDES][STREAM_MAX][32];
	struct { uint8_t conn, side; uint32_t seq; uint16_t len; } log[LOG_MAX];
	unsigned logged;
} f;

static uint64_t moved(enum stats_counter counter) { return stats_get(f.count, counter) - f.before[counter]; }
static struct conn *conn_of(const struct flow *flow) { return &f.conn[flow->key.client_port - FIRST_PORT]; }
static bool is_watched(const struct flow *flow) { return flow->state == FLOW_DIALOGUE || flow->state == FLOW_SEALING; }

static struct flow *flow_of(unsigned number)
{
	for (uint32_t i = 0; i < flow_places(f.flows); i++) {
		struct flow *flow = flow_at(f.flows, i);
		if (flow && flow->key.client_port == FIRST_PORT + number)
			return flow;
	}
	return NULL;
}

/* ---- what has come ---- */

static void offer(const struct shape *s)
{
	MUST(f.logged < LOG_MAX);
	unsigned conn = s->port - FIRST_PORT;
	f.log[f.logged].conn = (uint8_t)conn;
	f.log[f.logged].side = s->side;
	f.log[f.logged].seq = s->seq;
	f.log[f.logged++].len = s->len;
	for (uint32_t i = 0; i < s->len; i++) {
		uint8_t value = content(s->seq + i, s->variant);
		f.offered[conn][s->side][(s->seq + i) % STREAM_MAX][value / 8] |= (uint8_t)(1 << value % 8);
	}
}

/* ---- what the worker would do ---- */

static void new_flow(struct flow *flow)
{
	struct conn *conn = conn_of(flow);
	struct conn fresh = {.id = flow->id};
	memcpy(fresh.isn, conn->isn, sizeof(fresh.isn));
	memcpy(fresh.says, conn->says, sizeof(fresh.says));
	memcpy(fresh.hears, conn->hears, sizeof(fresh.hears));
	fresh.take_upto[CLIENT] = fresh.take_upto[SERVER] = STREAM_MAX;
	fresh.approve[CLIENT] = fresh.approve[SERVER] = UINT64_MAX;
	*conn = fresh;
	f.opened++;
}

static void opened(void *context, struct flow *flow, const struct packet *packet)
{
	(void)context;
	(void)packet;
	new_flow(flow);
}

static void established(void *context, struct flow *flow)
{
	struct conn *conn = conn_of(flow);
	(void)context;
	MUST(conn->id == flow->id && !conn->established && flow->state == FLOW_DIALOGUE);
	conn->established = true;
	for (int s = 0; s < SIDES; s++)
		conn->first[s] = conn->left_end[s] = flow->side[s].isn + 1;
}

static void joined(void *context, struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context;
	(void)from;
	if (conn_of(flow)->id != flow->id)
		new_flow(flow);
	struct conn *conn = conn_of(flow);
	MUST(flow->state == FLOW_HANDSHAKE && flow->joined);
	switch (packet->payload_len % 4) { /* 0 and 1: not decided yet */
	case 2:
		conn->released = true;
		flow_enter_state(f.flows, flow, packet->seq & 1 ? FLOW_SEALED : FLOW_CLEAR, f.now);
		break;
	case 3:
		flow_enter_state(f.flows, flow, FLOW_CUT, f.now);
		break;
	}
}

static void closed(void *context, struct flow *flow)
{
	struct conn *conn = conn_of(flow);
	(void)context;
	MUST(conn->id == flow->id && !conn->over);
	conn->over = true;
	f.closed++;
}

static size_t take(void *context, struct flow *flow, enum side side, const uint8_t *bytes, size_t len)
{
	struct conn *conn = conn_of(flow);
	(void)context;
	MUST(conn->id == flow->id && conn->established && (is_watched(flow) || flow->observed));
	size_t room = conn->take_upto[side] > conn->fed_len[side] ? conn->take_upto[side] - conn->fed_len[side] : 0;
	size_t n = conn->observed || len < room ? len : room;
	for (size_t i = 0; i < n; i++) {
		uint32_t seq = conn->first[side] + (uint32_t)(conn->fed_len[side] + i);
		MUST(f.offered[conn - f.conn][side][seq % STREAM_MAX][bytes[i] / 8] & 1 << bytes[i] % 8);
		if (!conn->observed || is_watched(flow)) /* let go, what was held is still watched as it leaves */
			conn->fed[side][(conn->fed_len[side] + i) % STREAM_MAX] = bytes[i];
	}
	conn->fed_len[side] += n;
	if (n && conn->seal_at_take && !conn->observed && flow->state == FLOW_DIALOGUE)
		flow_enter_state(f.flows, flow, FLOW_SEALING, f.now);
	return n;
}

static uint64_t approved(void *context, const struct flow *flow, enum side side)
{
	const struct conn *conn = conn_of(flow);
	(void)context;
	return conn->approve[side] < conn->fed_len[side] ? conn->approve[side] : conn->fed_len[side];
}

static void taken(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet)
{
	(void)context;
	(void)from;
	MUST(flow->state == FLOW_TAKEN && conn_of(flow)->taken && packet->frame == rte_pktmbuf_mtod(mbuf, uint8_t *));
	f.handed_over++;
	rte_pktmbuf_free(mbuf);
}

/* Of a name alone: an odd one is to be watched from its beginning. */
static bool must_open(void *context, const struct flow *flow)
{
	(void)context;
	MUST(!flow->id && !flow_of(flow->key.client_port - FIRST_PORT));
	return flow->key.client_port & 1;
}

static void gone(void *context, const struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context;
	(void)from;
	(void)packet;
	MUST(flow->state == FLOW_CUT || (flow->state == FLOW_CLOSED && flow->taken));
}

/* Elsewhere nothing passes but a FIN: what the tracker is told of the rest when it takes a flow back is what it handed over. */
static bool offload(void *context, const struct flow *flow, const struct classifier_sealed *begin)
{
	struct conn *conn = conn_of(flow);
	(void)context;
	MUST(flow->state == FLOW_SEALED && conn->released && !flow->reopening);
	conn->handed_over = *begin;
	return f.offloads;
}

static bool offloaded(void *context, const struct flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	struct conn *conn = conn_of(flow);
	(void)context;
	(void)take_back;
	*seen = conn->handed_over;
	for (int s = 0; s < SIDES; s++) {
		seen->from[s].fin = seen->from[s].next >> 4 & 1;
		seen->from[s].next += seen->from[s].fin;
	}
	*idle_us = UINT64_MAX;
	return conn->id == flow->id && !(conn->handed_over.from[CLIENT].next & 8); /* else: it has given way to another */
}

/* ---- what leaves ---- */

static void check_watched(struct conn *conn, const struct flow *flow, enum side from, const struct packet *p)
{
	uint64_t passes = approved(NULL, flow, from);
	uint32_t acked = flow->side[from].acked, end = p->seq + p->payload_len;

	MUST(conn->established && flow->side[from].isn + 1 == conn->first[from]);
	for (uint32_t i = 0; i < p->payload_len; i++) {
		uint32_t seq = p->seq + i, at = seq - conn->first[from];
		if (seq_before(seq, acked))
			continue; /* its receiver has it */
		MUST(at < passes && p->frame[p->payload_off + i] == conn->fed[from][at % STREAM_MAX]);
	}
	if (!packet_seq_len(p))
		return; /* an empty segment may have any number */
	if (p->flags & PACKET_FIN) {
		MUST(!seq_before(end, acked) || conn->fin_left[from]);
		MUST(conn->fin_left[from] ? end == conn->fin_at[from] : end - conn->first[from] <= passes && !seq_before(end, conn->left_end[from]));
		conn->fin_left[from] = true;
		conn->fin_at[from] = end++;
	}
	if (seq_after(end, conn->left_end[from]))
		conn->left_end[from] = end;
	MUST(!conn->fin_left[from] || !seq_after(p->seq + p->payload_len, conn->fin_at[from]));
}

static void send_out(void *context, const struct flow *flow, enum side from, struct rte_mbuf *mbuf)
{
	struct conn *conn = conn_of(flow);
	struct packet p;
	(void)context;

	f.sent++;
	MUST(packet_parse(&p, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)) == PACKET_OK);
	MUST(p.frame_len == rte_pktmbuf_data_len(mbuf) && p.frame_len == rte_pktmbuf_pkt_len(mbuf));
	MUST(p.port_src == (from == CLIENT ? flow->key.client_port : 25) && p.port_dst == (from == CLIENT ? 25 : flow->key.client_port));
	if (flow->id) { /* else a stray SYN or RST */
		MUST(flow->id == conn->id && flow->state != FLOW_CUT && flow->state != FLOW_TAKEN && !conn->taken);
		MUST(!(p.flags & PACKET_SYN) || !p.payload_len || flow->state == FLOW_CLOSED);
		MUST(packet_checksums_ok(&p) || flow->state == FLOW_SEALED);
		if (!conn->released && !flow->joined && (flow->state == FLOW_CLOSED || p.flags & PACKET_RST))
			MUST(!p.payload_len);
		else if (is_watched(flow) && !(p.flags & (PACKET_SYN | PACKET_RST)))
			check_watched(conn, flow, from, &p);
		if (is_watched(flow) && p.flags & PACKET_ACK && !(p.flags & (PACKET_SYN | PACKET_RST)))
			MUST(!seq_after(p.ack, flow->side[side_other(from)].next));
	}
	uint32_t end = p.seq + packet_seq_len(&p), *hears = &conn->hears[side_other(from)];
	if (p.flags & PACKET_SYN || (packet_seq_len(&p) && seq_after(end, *hears)))
		*hears = end;
	rte_pktmbuf_free(mbuf);
}

static const struct flow_ops flow_ops = {
	.take = take, .approved = approved, .send = send_out, .taken = taken, .gone = gone, .opened = opened, .established = established,
	.joined = joined, .must_open = must_open, .closed = closed, .offload = offload, .offloaded = offloaded,
};

/* ---- after each packet ---- */

static void check_table(void)
{
	uint64_t came = f.given + moved(STAT_split_segments), went = f.sent + f.handed_over + moved(STAT_flows_refused) + moved(STAT_flows_refused_prefix);
	uint32_t held = 0, flows = 0;

	for (unsigned i = 0; i < f.drops; i++)
		went += moved(f.drop[i]);
	for (uint32_t i = 0; i < flow_places(f.flows); i++) {
		const struct flow *flow = flow_at(f.flows, i);
		if (!flow)
			continue;
		flows++;
		MUST(!flow->offloaded || (flow->state == FLOW_SEALED && !flow->reopening));
		for (int s = 0; s < SIDES && is_watched(flow); s++) {
			uint32_t kept;
			flow_kept(flow, s, &kept);
			MUST(kept <= FLOW_KEPT_BYTES_MAX && !seq_after(flow->side[s].acked, flow->side[s].next));
		}
		if (is_watched(flow)) {
			held += flow->stream->held_count;
			MUST(flow->stream->held_count <= f.flows->limits.held_segments_max + SIDES); /* and what is next in order */
		}
	}
	MUST(came == went + held);
	MUST(flows == flow_count(f.flows) && flows <= f.flows->limits.flows_max && f.opened - f.closed <= flows);
	MUST(flow_held_total(f.flows) <= f.flows->limits.held_segments_total_max);
}

#endif
