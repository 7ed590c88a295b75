/*
 * flow_packets.c - the tracker under sequences of packets of both peers, and of decisions by its worker.
 *
 * Input: a byte (bit 0 = IPv6, bit 1 = few packet buffers, bit 2 = room for few held segments, bit 3 = sealed flows pass
 * elsewhere, bit 4 = the short way is tried, bit 5 = the index has wrong hints), then operations; the low three bits of the
 * first octet are the kind (enum kind). A packet's numbers are offsets from what its peer has said and heard, so that small
 * mutations stay near the window's edges. Its octets are a function of sequence number and variant: two variants of one
 * octet differ, as an attacker's would.
 *
 * What must never be seen stands in flow_oracle.h; beside that, no buffer is lost, and everything ages out.
 */
#include <rte_eal.h>

#include "flow_oracle.h"

enum kind { KIND_PACKET, KIND_PACKET_2, KIND_PACKET_3, KIND_PACKET_4, KIND_FOLLOW, KIND_TIME, KIND_STATE, KIND_HANDSHAKE };

/* ---- packets ---- */

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
	if (!f.bursts || !short_way(mbuf, s, &packet, from))
		flow_packet(f.flows, mbuf, &packet, from, FLOW_HASH, f.now);
	if (s->seq & 1) /* else more come in the same burst */
		flow_offload_ready(f.flows);
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
		MUST(f.table[few] = flow_table_new(few ? "few" : "many", &limits, &flow_ops, f.stats[few], 1, SOCKET_ID_ANY));
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
