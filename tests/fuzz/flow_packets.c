/*
 * flow_packets.c - the tracker under sequences of packets of both peers, and of decisions by its worker.
 *
 * Input: a byte (bit 0 = IPv6, bit 1 = few packet buffers, bit 2 = room for few held segments, bit 3 = sealed flows pass
 * elsewhere, bit 4 = the short way is tried, bit 5 = the index has wrong hints), then operations; the low three bits of the
 * first octet are the kind (enum kind). A packet's numbers are offsets from what its peer has said and heard, so that small
 * mutations stay near the window's edges. Its octets are a function of sequence number and variant: two variants of one
 * octet differ, as an attacker's would.
 *
 * Never seen: in DIALOGUE and SEALING an octet leaves that was not taken in order from a packet with a right checksum
 * and approved, or in two forms before it is acknowledged, or behind a FIN; a frame of a flow that was cut or taken over
 * leaves; payload of one that has closed unreleased leaves; an acknowledgment of what was never forwarded leaves; a
 * buffer does not come back; the counters do not add up; a flow is not reported as over exactly once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "flow/private.h"
#include "frame.h"

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

enum { FLOW_HASH = 7, CONNS = 4, FIRST_PORT = 1000, STREAM_MAX = 8192, FRAMES = 255, OPERATIONS_MAX = 600, LOG_MAX = OPERATIONS_MAX * 4, FRAME_MAX = 2048 };
enum kind { KIND_PACKET, KIND_PACKET_2, KIND_PACKET_3, KIND_PACKET_4, KIND_FOLLOW, KIND_TIME, KIND_STATE, KIND_HANDSHAKE };

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

static void gone(void *context, const struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context;
	(void)from;
	(void)packet;
	MUST(flow->state == FLOW_CUT || (flow->state == FLOW_CLOSED && flow->taken));
}

/* Elsewhere nothing passes: what the tracker is told when it takes a flow back is what it handed over. */
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
	*idle_us = UINT64_MAX;
	return conn->id == flow->id && !(seen->from[CLIENT].next & 8); /* else: it has given way to another */
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

/* ---- packets ---- */

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

static struct flow *flow_of(unsigned number)
{
	for (uint32_t i = 0; i < flow_places(f.flows); i++) {
		struct flow *flow = flow_at(f.flows, i);
		if (flow && flow->key.client_port == FIRST_PORT + number)
			return flow;
	}
	return NULL;
}

/* The port that the first packet of a flow's client came by is the client's. */
static bool by_its_port(const struct shape *s, enum port_side from)
{
	const struct flow *flow = flow_of(s->port - FIRST_PORT);
	return !flow || from == (s->side == CLIENT ? (enum port_side)flow->client_port_side : port_other(flow->client_port_side));
}

/* As the worker tries it first; of a burst of one. */
static bool short_way(struct rte_mbuf *mbuf, const struct shape *s, const struct packet *packet, enum port_side from)
{
	struct verdict *verdict = (struct verdict *)(rte_pktmbuf_mtod(mbuf, uint8_t *) - WAXSEAL_VERDICT_BYTES);
	struct flow_burst burst;
	*verdict = (struct verdict){.magic = WAXSEAL_VERDICT_MAGIC, .action = VERDICT_SMTP, .flow_hash = FLOW_HASH, .l3_off = packet->l3_off,
	                            .l4_off = packet->l4_off, .flags = (s->side == CLIENT ? VERDICT_TO_PORT_25 : VERDICT_FROM_PORT_25) | (f.ipv6 ? VERDICT_IPV6 : 0)};
	flow_burst_find(f.flows, &burst, &mbuf, 1, from);
	if (!flow_burst_pass(f.flows, &burst, 0, mbuf, f.now))
		return false;
	const struct flow *flow = flow_of(s->port - FIRST_PORT);
	MUST(flow && flow->state == FLOW_SEALED && !flow->taken && !(s->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST)) && by_its_port(s, from));
	check_table();
	return true;
}

static void give(struct shape *s)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(f.pool);
	struct packet packet;

	if (!mbuf)
		return;
	uint8_t *frame = (uint8_t *)rte_pktmbuf_append(mbuf, FRAME_MAX);
	size_t len = make_frame(frame, s);
	rte_pktmbuf_trim(mbuf, (uint16_t)(FRAME_MAX - len));
	MUST(packet_parse(&packet, frame, len) == PACKET_OK);
	packet_update_checksums(&packet);
	enum port_side from = (s->side == CLIENT) != s->other_port ? INSIDE : OUTSIDE;
	if (s->bad_sum)
		frame[packet.l4_off + 16] ^= 0x55;
	else if (by_its_port(s, from))
		offer(s);
	f.given++;
	if (f.bursts && short_way(mbuf, s, &packet, from))
		return;
	flow_packet(f.flows, mbuf, &packet, from, FLOW_HASH, f.now);
	check_table();
}

/* ---- operations ---- */

static uint32_t clock_ms(void) { return (uint32_t)((f.now - f.start) / 1000) + 1000; }

static uint32_t near(uint32_t number, uint8_t offset)
{
	int8_t by = (int8_t)offset;
	if (by > 100)
		return number + (1u << (by - 100 + 4)); /* up to 2^31 away */
	if (by < -100)
		return number - (1u << (-by - 100 + 3));
	return number + (uint32_t)(int32_t)by;
}

static void packet_operation(const uint8_t *b)
{
	static const uint16_t windows[] = {8192, 0, 40, 65535};
	struct shape s = {.side = b[0] & 8 ? SERVER : CLIENT, .port = FIRST_PORT + (b[0] >> 4 & 3), .ipv6 = f.ipv6, .bad_sum = (b[0] & 0xc0) == 0x40,
	                  .other_port = (b[0] & 0xc0) == 0x80, .flags = b[1] & 0x3f, .ts = b[1] & 0x40, .sack = b[1] & 0x80,
	                  .urgent = b[1] & PACKET_URG, .variant = b[5] & 3, .window = windows[b[5] >> 2 & 3],
	                  .syn_options = b[1] & PACKET_SYN && !(b[1] & 0x80)};
	struct conn *conn = &f.conn[s.port - FIRST_PORT];
	uint8_t len = b[4] & 63;

	s.len = len < 48 ? len : (uint16_t)((len - 47) * 85);
	s.seq = near(conn->says[s.side], b[2]);
	s.ack = s.flags & PACKET_ACK ? near(conn->hears[s.side], b[3]) : 0;
	s.tsval = clock_ms() + (uint32_t)((b[5] >> 4) - 8) * 8;
	if (!b[2] && !s.bad_sum && !s.other_port && !(s.flags & PACKET_RST))
		conn->says[s.side] += s.len + !!(s.flags & PACKET_SYN) + !!(s.flags & PACKET_FIN);
	give(&s);
}

static void handshake_operation(const uint8_t *b)
{
	struct shape s = {.port = FIRST_PORT + (b[0] >> 4 & 3), .ipv6 = f.ipv6, .window = 8192, .ts = b[1] & 1, .syn_options = b[1] & 2, .tsval = clock_ms()};
	struct conn *conn = &f.conn[s.port - FIRST_PORT];
	for (int side = 0; side < SIDES; side++)
		conn->isn[side] = conn->says[side] = near(conn->says[side], b[2]);
	for (unsigned step = 0; step < 3; step++) {
		s.side = step == 1 ? SERVER : CLIENT;
		s.flags = step == 0 ? PACKET_SYN : step == 1 ? PACKET_SYN | PACKET_ACK : PACKET_ACK;
		s.syn_options = step < 2 && b[1] & 2;
		s.seq = conn->isn[s.side] + (step == 2);
		s.ack = step ? conn->isn[side_other(s.side)] + 1 : 0;
		conn->says[s.side] = conn->isn[s.side] + 1;
		give(&s);
	}
}

/* What is taken, and what of it passes: a stream offset, or all. */
static void follow_operation(const uint8_t *b)
{
	struct conn *conn = &f.conn[b[0] >> 4 & 3];
	enum side side = b[0] & 8 ? SERVER : CLIENT;
	struct flow *flow = flow_of(b[0] >> 4 & 3);

	if (b[0] & 0x40)
		conn->take_upto[side] = b[1] == 255 ? STREAM_MAX : conn->fed_len[side] + b[1];
	else if (b[1] == 255)
		conn->approve[side] = UINT64_MAX;
	else if (conn->approve[side] == UINT64_MAX) /* approvals only grow */
		conn->approve[side] = conn->fed_len[side] + b[1];
	else
		conn->approve[side] += b[1];
	conn->seal_at_take = b[0] & 0x80;
	if (conn->take_upto[side] > STREAM_MAX)
		conn->take_upto[side] = STREAM_MAX;
	if (flow && is_watched(flow) && b[0] & 0x80)
		flow_follow_held(f.flows, flow);
}

/* A decision of the worker's, between packets: only the edges that it uses. */
static void state_operation(const uint8_t *b)
{
	struct flow *flow = flow_of(b[0] >> 4 & 3);
	struct conn *conn = flow ? conn_of(flow) : NULL;
	enum flow_state to = b[1] % FLOW_STATES;

	if (!flow || conn->over)
		return;
	bool dialogue = flow->state == FLOW_DIALOGUE, sealing = flow->state == FLOW_SEALING;
	if (to == FLOW_CUT && (dialogue || sealing || flow->state == FLOW_CLEAR)) {
		flow_enter_state(f.flows, flow, FLOW_CUT, f.now);
	} else if (to == FLOW_SEALING && dialogue) {
		flow_enter_state(f.flows, flow, FLOW_SEALING, f.now);
	} else if (to == FLOW_SEALED && sealing) {
		conn->released = true;
		flow_enter_state(f.flows, flow, FLOW_SEALED, f.now);
	} else if (to == FLOW_CLEAR && dialogue) {
		if (b[1] & 0x80) {
			conn->observed = flow->observed = true;
			conn->approve[CLIENT] = conn->approve[SERVER] = UINT64_MAX;
			memset(conn->take_upto, 0xff, sizeof(conn->take_upto));
		}
		conn->released = true;
		if (b[1] & 0x80)
			flow_follow_held(f.flows, flow);
		flow_enter_state(f.flows, flow, FLOW_CLEAR, f.now);
	} else if (to == FLOW_TAKEN && dialogue) {
		conn->taken = true;
		flow_enter_state(f.flows, flow, FLOW_TAKEN, f.now);
		flow_drain(f.flows, flow);
	} else if (to == FLOW_CLOSED && flow->state == FLOW_TAKEN) {
		flow_enter_state(f.flows, flow, FLOW_CLOSED, f.now);
	}
}

static void time_operation(const uint8_t *b)
{
	f.now += (uint64_t)b[1] << (b[0] >> 3 & 31); /* up to six days */
	for (unsigned i = 0; i <= flow_places(f.flows); i++) {
		f.now += FLOW_SWEEP_US;
		flow_sweep(f.flows, f.now);
	}
}

/* ---- runs ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char *eal[] = {"flow_packets", "--no-huge", "--no-pci", "-m", "64", "--no-telemetry", "--no-shconf", "--log-level=*:error", "-l", "0"};
	static const struct flow_ops ops = {.take = take, .approved = approved, .send = send_out, .taken = taken, .gone = gone, .opened = opened,
	                                    .established = established, .joined = joined, .closed = closed, .offload = offload, .offloaded = offloaded};
	(void)argc;
	(void)argv;
	MUST(rte_eal_init(sizeof(eal) / sizeof(eal[0]), eal) >= 0);
	MUST(f.pool = rte_pktmbuf_pool_create("frames", FRAMES, 0, 0, FRAME_MAX + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY));
	for (enum stats_counter c = 0; c < STATS_COUNTERS_N; c++)
		if (!strncmp(stats_counter_name(c), "drop_", 5) && c != STAT_drop_no_mbuf)
			f.drop[f.drops++] = c;
	for (int few = 0; few < 2; few++) {
		struct flow_limits limits = flow_limits_default;
		limits.flows_max = 8; /* rte_hash has none smaller */
		limits.embryonic_percent = 70;
		limits.prefix_percent = 100;
		limits.held_segments_max = few ? 4 : 24;
		limits.held_segments_total_max = few ? 8 : 64;
		f.stats[few] = stats_new();
		MUST(f.table[few] = flow_table_new(few ? "few" : "many", &limits, &ops, f.stats[few], 1, SOCKET_ID_ANY));
		f.table[few]->limits.flows_max = CONNS - 1;
	}
	return 0;
}

static void begin(uint8_t how)
{
	f.start = f.now;
	f.ipv6 = how & 1;
	f.offloads = how & 8;
	f.bursts = how & 16;
	f.astray = how & 32;
	f.flows = f.table[how >> 2 & 1];
	f.count = f.stats[how >> 2 & 1];
	for (enum stats_counter c = 0; c < STATS_COUNTERS_N; c++)
		f.before[c] = stats_get(f.count, c);
	f.given = f.sent = f.handed_over = f.opened = f.closed = 0;
	for (unsigned i = 0; i < CONNS; i++) {
		memset(f.conn[i].hears, 0, sizeof(f.conn[i].hears));
		f.conn[i].id = 0;
		f.conn[i].says[CLIENT] = 0xfffffff0u - i; /* wraps early */
		f.conn[i].says[SERVER] = 77000u;
		f.conn[i].isn[CLIENT] = f.conn[i].isn[SERVER] = 0;
	}
}

/* To any place, there or not, by this signature or another. */
static void lead_astray(void)
{
	for (size_t i = 0; i < f.flows->index.lines * FLOW_HINTS_LINE; i++)
		f.flows->index.hints[i] = (uint32_t)((f.now + i) * 0x9e3779b97f4a7c15ull >> 59 | (i & 1 ? (uint64_t)FLOW_HASH << f.flows->index.place_bits : 0));
}

static bool no_hints(void)
{
	uint32_t any = 0;
	for (size_t i = 0; i < f.flows->index.lines * FLOW_HINTS_LINE; i++)
		any |= f.flows->index.hints[i];
	return !any;
}

/* Everything ages out by itself, but for what is taken over: that is its takeover's business. */
static void end(void)
{
	for (uint32_t i = 0; i < flow_places(f.flows); i++) {
		struct flow *flow = flow_at(f.flows, i);
		if (flow && flow->state == FLOW_TAKEN)
			flow_enter_state(f.flows, flow, FLOW_CLOSED, f.now);
	}
	time_operation((const uint8_t[]){31 << 3, 8});
	MUST(!flow_count(f.flows) && !flow_held_total(f.flows) && !f.flows->embryonic_count && !f.flows->answered_count && f.opened == f.closed);
	MUST(!rte_mempool_in_use_count(f.pool));
	if (f.astray)
		memset(f.flows->index.hints, 0, flow_index_bytes(&f.flows->index));
	MUST(no_hints());
	uint8_t client[2][16] = {{[10] = 0xff, 0xff, 10, 77, 0, 1}, {0xfd, 0x77, [15] = 1}};
	MUST(!flow_share_of(&f.flows->share, client[f.ipv6]));
	while (f.logged--)
		for (uint32_t i = 0; i < f.log[f.logged].len; i++)
			memset(f.offered[f.log[f.logged].conn][f.log[f.logged].side][(f.log[f.logged].seq + i) % STREAM_MAX], 0, 32);
	f.logged = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rte_mbuf *away[FRAMES];
	static const uint8_t lengths[] = {6, 6, 6, 6, 2, 2, 2, 3};
	unsigned n_away = 0, operations = 0;

	if (!size)
		return 0;
	begin(data[0]);
	if (data[0] & 2)
		while (rte_mempool_avail_count(f.pool) > 2)
			MUST(away[n_away++] = rte_pktmbuf_alloc(f.pool));
	for (size_t at = 1; at < size && operations++ < OPERATIONS_MAX;) {
		uint8_t b[6] = {0};
		enum kind kind = data[at] & 7;
		memcpy(b, data + at, size - at < sizeof(b) ? size - at : sizeof(b));
		at += lengths[kind];
		f.now += 1000;
		if (f.astray)
			lead_astray();
		switch (kind) {
		case KIND_PACKET:
		case KIND_PACKET_2:
		case KIND_PACKET_3:
		case KIND_PACKET_4:
			packet_operation(b);
			break;
		case KIND_FOLLOW:
			follow_operation(b);
			break;
		case KIND_TIME:
			time_operation(b);
			break;
		case KIND_STATE:
			state_operation(b);
			break;
		case KIND_HANDSHAKE:
			handshake_operation(b);
			break;
		}
		check_table();
		MUST(rte_mempool_in_use_count(f.pool) == n_away + flow_held_total(f.flows));
	}
	rte_pktmbuf_free_bulk(away, n_away);
	end();
	return 0;
}
