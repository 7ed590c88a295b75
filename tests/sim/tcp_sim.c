/*
 * tcp_sim.c - seeded simulation of dataplane/tcp: --seed S --runs N; run i has the seed S + i.
 *
 * An endpoint adopted in mid-stream, against a naive reference peer or against another endpoint, over a link
 * that loses, doubles, reorders and delays. Checked on every segment: bytes, right edge, the peer's edge,
 * SACK blocks that name only what arrived, TSval; at the end: both streams whole, both FINs, no chunk in
 * use. A failure prints the seed and the command that replays it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tcp_reference.h"

enum { PACKETS_MAX = 8192, STEPS_MAX = 20000000 };
#define TIME_MAX_US (3ull * 3600 * 1000000)

struct packet {
	uint64_t at_us, order;
	int to;
	struct tcp_segment segment;
	uint8_t bytes[2048];
};

struct node {
	struct tcp_endpoint *ep; /* NULL: the reference */
	uint32_t iss, irs;       /* sequence numbers of offset 0 */
	uint8_t out_scale, in_scale;
	uint16_t mss;
	bool sack_ok, ts_ok;
	uint32_t total, written, read; /* of the stream it sends; of the stream it gets */
	bool shut, half_close_early, eof, closed;
	uint64_t wake_us;
	uint32_t lazy_us;        /* the longest time between two looks of its application */
	/* what has been seen on the wire */
	uint32_t edge;           /* offset of the right edge it has offered */
	int64_t allowed;         /* offset of the highest right edge it has been given */
	uint8_t arrived[STREAM_BYTES_MAX];
	uint32_t tsval;
	bool tsval_seen;
};

static struct sim {
	uint64_t random, now_us, order;
	uint64_t seed;
	struct tcp_pool *pool;
	struct reference reference;
	struct node node[2];
	struct packet *heap[PACKETS_MAX];
	int packets;
	unsigned loss, duplicate, reorder, no_frame; /* per mille */
	uint32_t delay_us, jitter_us;
	const char *program;
	bool verbose;
	uint64_t lost, sent;
} sim;

static uint64_t draw(void)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random * 0x2545f4914f6cdd1dull >> 16;
}

static uint32_t below(uint32_t n) { return n ? (uint32_t)(draw() % n) : 0; }
static bool chance(unsigned per_mille) { return below(1000) < per_mille; }

static void fail(const char *what, int who)
{
	fprintf(stderr, "tcp_sim: seed %" PRIu64 ": at %" PRIu64 " us, node %d: %s\n", sim.seed, sim.now_us, who, what);
	fprintf(stderr, "replay: %s --seed %" PRIu64 " --runs 1 --verbose\n", sim.program, sim.seed);
	exit(1);
}

static void require(bool ok, const char *what, int who)
{
	if (!ok)
		fail(what, who);
}

/* ---- the link: a heap of packets by time ---- */

static bool sooner(const struct packet *a, const struct packet *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_push(struct packet *packet)
{
	int i = sim.packets++;
	require(i < PACKETS_MAX, "too many packets under way", -1);
	for (; i && sooner(packet, sim.heap[(i - 1) / 2]); i = (i - 1) / 2)
		sim.heap[i] = sim.heap[(i - 1) / 2];
	sim.heap[i] = packet;
}

static struct packet *heap_pop(void)
{
	struct packet *first = sim.heap[0], *last = sim.heap[--sim.packets];
	int i = 0;
	for (int child; (child = 2 * i + 1) < sim.packets; i = child) {
		if (child + 1 < sim.packets && sooner(sim.heap[child + 1], sim.heap[child]))
			child++;
		if (!sooner(sim.heap[child], last))
			break;
		sim.heap[i] = sim.heap[child];
	}
	if (sim.packets)
		sim.heap[i] = last;
	return first;
}

static void link_send(int from, const struct tcp_segment *segment, const uint8_t *bytes)
{
	if (sim.verbose)
		printf("%10" PRIu64 " %d seq %u len %u ack %u win %u%s%s sack %u [%u-%u]\n", sim.now_us, from, segment->seq - sim.node[from].iss, segment->payload_len,
		       segment->ack - sim.node[from].irs, (uint32_t)segment->window << sim.node[from].out_scale,
		       segment->flags & F_FIN ? " FIN" : "", segment->flags & F_RST ? " RST" : "", segment->sack_count,
		       segment->sack_count ? segment->sack[0].start - sim.node[from].irs : 0, segment->sack_count ? segment->sack[0].end - sim.node[from].irs : 0);
	sim.sent++;
	for (int copies = 1 + chance(sim.duplicate); copies; copies--) {
		if (chance(sim.loss)) {
			sim.lost++;
			continue;
		}
		struct packet *packet = malloc(sizeof(*packet));
		require(packet != NULL, "no memory", from);
		packet->to = !from;
		packet->segment = *segment;
		packet->order = sim.order++;
		packet->at_us = sim.now_us + sim.delay_us + below(sim.jitter_us);
		if (chance(sim.reorder))
			packet->at_us += below(3 * sim.delay_us + 1000);
		if (segment->payload_len)
			memcpy(packet->bytes, bytes, segment->payload_len);
		heap_push(packet);
	}
}

/* ---- what an endpoint may put on the wire ---- */

static void check_sacks(const struct node *node, const struct tcp_segment *segment, int who)
{
	for (int i = 0; i < segment->sack_count; i++) {
		uint32_t start = segment->sack[i].start - node->irs, end = segment->sack[i].end - node->irs;
		require(node->sack_ok, "SACK was not negotiated", who);
		require(start < end && end <= STREAM_BYTES_MAX, "a SACK block is empty or outside", who);
		for (uint32_t at = start; at < end; at++)
			require(node->arrived[at], "a SACK block names a byte that has not arrived", who);
		if (i)
			require(start > segment->ack - node->irs, "a SACK block that is not the first lies below the ACK", who);
	}
}

static bool emit(void *context, struct tcp_endpoint *ep, const struct tcp_segment *segment)
{
	struct node *node = context;
	int who = (int)(node - sim.node);
	uint8_t bytes[2048];
	uint32_t at = segment->seq - node->iss, options = (node->ts_ok ? 12 : 0) + (segment->sack_count ? 4 + 8 * segment->sack_count : 0);

	if (chance(sim.no_frame))
		return false;
	require(!(segment->flags & F_RST), "an RST", who);
	require(segment->payload_len + options <= node->mss, "a segment is larger than the MSS", who);
	require(segment->ts == node->ts_ok, "timestamps were not negotiated like that", who);
	tcp_payload(ep, segment, bytes);
	for (uint32_t i = 0; i < segment->payload_len; i++)
		require(bytes[i] == stream_byte(who, at + i), "a byte is sent wrong", who);
	int64_t end = (int64_t)(int32_t)at + segment->payload_len;
	if (segment->payload_len > 1)
		require(end <= node->allowed, "bytes beyond the peer's edge", who);
	else if (segment->payload_len) /* a zero-window probe is one byte */
		require(end <= node->allowed + 1, "a probe beyond the peer's edge", who);
	uint32_t edge = segment->ack - node->irs + ((uint32_t)segment->window << node->out_scale);
	require(edge >= node->edge, "the right edge shrinks", who);
	node->edge = edge;
	require(!node->tsval_seen || (int32_t)(segment->tsval - node->tsval) >= 0, "TSval goes back", who);
	node->tsval = segment->tsval;
	node->tsval_seen = node->ts_ok;
	check_sacks(node, segment, who);
	link_send(who, segment, bytes);
	return true;
}

/* ---- events ---- */

static void note_events(int who, unsigned events)
{
	require(!(events & TCP_EVENT_RESET), "a reset", who);
	require(!(events & TCP_EVENT_TIMEOUT), "gave up", who);
	if (events & TCP_EVENT_CLOSED)
		sim.node[who].closed = true;
}

static void flush(int who)
{
	struct node *node = &sim.node[who];
	struct tcp_segment segment;
	uint8_t bytes[2048];
	if (node->ep) {
		tcp_output(node->ep, sim.now_us, emit, node);
		return;
	}
	for (int i = 0; i < 64 && reference_output(&sim.reference, &segment, bytes, sim.now_us); i++)
		link_send(who, &segment, bytes);
	if (sim.reference.complaint)
		fail(sim.reference.complaint, who);
}

static void deliver(struct packet *packet)
{
	struct node *node = &sim.node[packet->to];
	struct tcp_segment *segment = &packet->segment;
	int64_t allowed = (int32_t)(segment->ack - node->iss) + ((int64_t)segment->window << node->in_scale);
	uint32_t at = segment->seq - node->irs;

	segment->payload = packet->bytes;
	if (allowed > node->allowed)
		node->allowed = allowed;
	for (uint32_t i = 0; i < segment->payload_len && at + i < STREAM_BYTES_MAX; i++)
		node->arrived[at + i] = 1;
	if (node->ep)
		note_events(packet->to, tcp_input(node->ep, segment, sim.now_us));
	else
		reference_input(&sim.reference, segment, packet->bytes, sim.now_us);
	flush(packet->to);
	free(packet);
}

static void read_endpoint(struct node *node, int who, size_t want)
{
	while (want) {
		size_t len;
		const uint8_t *bytes = tcp_peek(node->ep, &len);
		if (!bytes)
			break;
		if (len > want)
			len = want;
		for (size_t i = 0; i < len; i++)
			require(bytes[i] == stream_byte(!who, node->read + (uint32_t)i), "a byte is read wrong", who);
		tcp_consume(node->ep, len);
		node->read += (uint32_t)len;
		want -= len;
	}
	if (tcp_eof(node->ep))
		node->eof = true;
}

static void write_endpoint(struct node *node, int who, size_t want)
{
	uint8_t bytes[8192];
	if (want > sizeof(bytes))
		want = sizeof(bytes);
	if (want > node->total - node->written)
		want = node->total - node->written;
	for (size_t i = 0; i < want; i++)
		bytes[i] = stream_byte(who, node->written + (uint32_t)i);
	size_t room = tcp_write_room(node->ep), done = tcp_write(node->ep, bytes, want);
	require(done <= room && (done == want || done == room), "tcp_write takes what tcp_write_room says", who);
	node->written += (uint32_t)done;
}

/* The application looks: reads some, writes some, closes at times. */
static void application(int who)
{
	struct node *node = &sim.node[who];
	struct reference *p = &sim.reference;
	uint32_t reads = below(2) ? below(200) : below(60000), writes = below(2) ? below(100) : below(40000);
	node->wake_us = sim.now_us + 100 + below(node->lazy_us);
	if (node->ep) {
		read_endpoint(node, who, reads);
		if (!node->shut)
			write_endpoint(node, who, writes);
	} else {
		uint32_t ready = p->next - p->read;
		p->read += reads < ready ? reads : ready;
		if (p->edge - p->next < 2000 && p->read + p->buffer >= p->edge + 2000)
			p->ack_due = true; /* a window update */
		node->read = p->read;
		node->eof = p->fin_taken && p->read == p->fin_at;
		if (!node->shut)
			node->written = node->written + writes < node->total ? node->written + writes : node->total;
		p->written = node->written;
	}
	bool other_done = node->eof || node->half_close_early;
	if (!node->shut && node->written == node->total && other_done && chance(500)) {
		node->shut = true;
		if (node->ep)
			tcp_shutdown(node->ep);
		else
			p->closing = true;
	}
	flush(who);
}

/* ---- a run ---- */

static void adopt(int who, uint32_t unacked)
{
	static const char *const names[] = {"cubic", "newreno", "unknown"};
	struct node *node = &sim.node[who], *other = &sim.node[!who];
	uint8_t bytes[STREAM_BYTES_MAX / 64];
	struct tcp_limits limits = {
		.send_buffer_bytes_max = 4096 + below(120000),
		.receive_buffer_bytes_max = 4096 + below(120000),
		.idle_timeout_us = chance(300) ? 5000000 : 0,
		.tail_probes = chance(700),
		.congestion = names[below(3)],
	};
	for (uint32_t i = 0; i < unacked; i++)
		bytes[i] = stream_byte(who, i);
	struct tcp_adoption adoption = {
		.snd_una = node->iss,
		.snd_nxt = node->iss + unacked,
		.rcv_nxt = node->irs,
		.rcv_edge = node->irs + node->edge,
		.snd_wnd = (uint32_t)node->allowed,
		.snd_wscale = node->in_scale,
		.rcv_wscale = node->out_scale,
		.mss = node->mss,
		.sack_ok = node->sack_ok,
		.ts_ok = node->ts_ok,
		.tsval = node->tsval,
		.tsval_at_us = sim.now_us - below(100000),
		.ts_recent = other->tsval,
		.rtt_us = chance(500) ? 0 : 2 * sim.delay_us,
		.unacked = bytes,
	};
	node->ep = tcp_adopt(sim.pool, &adoption, &limits, sim.now_us);
	require(node->ep != NULL, "adoption", who);
	node->written = unacked;
	node->tsval_seen = node->ts_ok;
}

static void set_up_link(void)
{
	sim.now_us = 1000000 + below(1000000);
	sim.delay_us = 100 + below(below(4) ? 20000 : 200000);
	sim.jitter_us = below(3) ? 0 : below(5000);
	sim.loss = below(3) ? below(100) : below(2) ? 0 : below(250);
	sim.duplicate = below(2) ? 0 : below(100);
	sim.reorder = below(2) ? 0 : below(300);
	sim.no_frame = below(2) ? 0 : below(50);
}

static void set_up_nodes(void)
{
	struct node *a = &sim.node[0], *b = &sim.node[1];
	bool sack_ok = chance(700), ts_ok = chance(600), scaled = chance(700);
	for (int i = 0; i < 2; i++) {
		struct node *node = &sim.node[i];
		node->iss = below(2) ? 0u - below(200000) : (uint32_t)draw();
		node->out_scale = scaled ? (uint8_t)below(15) : 0;
		node->mss = (uint16_t)(below(3) ? 1460 : 88 + below(1372));
		node->sack_ok = sack_ok;
		node->ts_ok = ts_ok;
		node->total = below(4) ? below(60000) : below(STREAM_BYTES_MAX - 1000);
		node->half_close_early = chance(600);
		node->lazy_us = chance(200) ? 3000000 : 100 + below(100000);
		node->wake_us = sim.now_us + below(1000);
		node->edge = below(3) ? 20000 + below(20000) : below(4000);
		node->tsval = below(2) ? 0u - below(5000) : (uint32_t)draw();
	}
	if (!a->half_close_early && !b->half_close_early) /* each would wait for the other */
		sim.node[below(2)].half_close_early = true;
	if (!ts_ok && sim.loss > 100) /* Karn: without timestamps a backed-off RTO lasts, and a run would take a day */
		sim.loss = 100;
	a->irs = b->iss;
	b->irs = a->iss;
	a->in_scale = b->out_scale;
	b->in_scale = a->out_scale;
	a->allowed = b->edge;
	b->allowed = a->edge;
}

static void set_up(uint64_t seed, const char *program, bool verbose)
{
	memset(&sim, 0, sizeof(sim));
	sim.seed = seed;
	sim.random = seed * 0x9e3779b97f4a7c15ull ^ 0xd1b54a32d192ed03ull;
	sim.program = program;
	sim.verbose = verbose;
	for (int i = 0; i < 8; i++)
		draw();
	sim.pool = tcp_pool_new(below(3) ? 512 : 64 + below(64));
	set_up_link();
	set_up_nodes();
	/* Adopted in mid-stream: some bytes are under way; a prefix of them has arrived. */
	for (int i = 0; i < 2; i++) {
		struct node *node = &sim.node[i], *other = &sim.node[!i];
		uint32_t most = node->total < 3000 ? node->total : 3000;
		if (most > node->allowed)
			most = (uint32_t)node->allowed;
		uint32_t unacked = below(2) ? 0 : below(most + 1);
		if (i == 0 || chance(500)) {
			adopt(i, unacked);
			continue;
		}
		sim.reference = (struct reference){
			.direction = 1, .iss = node->iss, .irs = node->irs, .out_scale = node->out_scale, .in_scale = node->in_scale,
			.mss = node->mss, .sack_ok = node->sack_ok, .ts_ok = node->ts_ok, .nxt = unacked, .sent_max = unacked,
			.written = unacked, .allowed = (uint32_t)node->allowed, .rto_us = 250000, .timer_us = sim.now_us + 250000,
			.edge = node->edge, .buffer = 3000 + below(60000) + (1u << node->out_scale), .ts_recent = other->tsval,
			.ts_offset = node->tsval - (uint32_t)(sim.now_us / 1000),
		};
		node->written = unacked;
		uint32_t had = below(other->written + 1);
		memset(sim.reference.got, 1, had);
		sim.reference.next = sim.reference.got_max = sim.reference.last_ack = had;
	}
}

static bool step(void)
{
	uint64_t next = TCP_NEVER;
	int what = -1;
	for (int i = 0; i < 2; i++) {
		struct node *node = &sim.node[i];
		uint64_t timer = node->ep ? tcp_deadline_us(node->ep) : reference_deadline_us(&sim.reference);
		if (node->wake_us < next)
			next = node->wake_us, what = i;
		if (timer < next)
			next = timer, what = 2 + i;
	}
	if (sim.packets && sim.heap[0]->at_us <= next)
		next = sim.heap[0]->at_us, what = 4;
	sim.now_us = next > sim.now_us ? next : sim.now_us;
	if (what == 4) {
		deliver(heap_pop());
	} else if (what >= 2) {
		if (sim.node[what - 2].ep)
			note_events(what - 2, tcp_tick(sim.node[what - 2].ep, sim.now_us));
		flush(what - 2);
	} else {
		application(what);
	}
	return !sim.node[0].closed && !sim.node[1].closed;
}

static void finish(void)
{
	for (int i = 0; i < 2; i++) {
		struct node *node = &sim.node[i];
		if (node->ep)
			read_endpoint(node, i, STREAM_BYTES_MAX);
		else {
			node->read = sim.reference.next;
			node->eof = sim.reference.fin_taken;
		}
	}
	for (int i = 0; i < 2; i++) {
		require(sim.node[i].read == sim.node[!i].total, "the stream is not whole", i);
		require(sim.node[i].eof, "the FIN has not arrived", i);
		tcp_free(sim.node[i].ep);
	}
	while (sim.packets)
		free(heap_pop());
	require(tcp_pool_used(sim.pool) == 0, "chunks leak", -1);
	tcp_pool_free(sim.pool);
}

static void run(uint64_t seed, const char *program, bool verbose)
{
	unsigned steps = 0;
	set_up(seed, program, verbose);
	flush(0);
	flush(1);
	while (step()) {
		require(++steps < STEPS_MAX, "does not end: too many steps", -1);
		require(sim.now_us < TIME_MAX_US, "does not end: too much time", -1);
	}
	finish();
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, runs = 300, sent = 0, lost = 0;
	bool verbose = false;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--runs") && i + 1 < argc)
			runs = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else {
			fprintf(stderr, "usage: %s [--seed S] [--runs N] [--verbose]\n", argv[0]);
			return 2;
		}
	}
	for (uint64_t i = 0; i < runs; i++) {
		run(seed + i, argv[0], verbose);
		sent += sim.sent;
		lost += sim.lost;
	}
	printf("tcp_sim: %" PRIu64 " runs from seed %" PRIu64 ": %" PRIu64 " segments, %" PRIu64 " lost\n", runs, seed, sent, lost);
	return 0;
}
