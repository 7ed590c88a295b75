/*
 * flow.c - the table of flows by its size: insert, look-up, ageing, and a packet of a sealed flow.
 *
 *   flow [BPF_DIR] [N ...]      1000 100000 1000000 unless said otherwise, and 10000000 where 8 GB are free
 */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include "flow/private.h"
#include "frames.h"
#include "port/port.h"

#define LOOKUPS 1000000u

static struct rte_mbuf *sent[FRAMES_BURST * 2];
static unsigned sent_count;

static size_t take(void *context, struct flow *flow, enum side side, const uint8_t *bytes, size_t len)
{
	(void)context, (void)flow, (void)side, (void)bytes;
	return len;
}
static uint64_t approved(void *context, const struct flow *flow, enum side side)
{
	(void)context, (void)flow, (void)side;
	return UINT64_MAX;
}
static void send_frame(void *context, const struct flow *flow, enum side from, struct rte_mbuf *mbuf)
{
	(void)context, (void)flow, (void)from;
	sent[sent_count++] = mbuf;
}
static void taken(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet)
{
	(void)context, (void)flow, (void)from, (void)mbuf, (void)packet;
	micro_die("a flow is taken");
}
static void opened(void *context, struct flow *flow, const struct packet *packet) { (void)context, (void)flow, (void)packet; }
static void one(void *context, struct flow *flow) { (void)context, (void)flow; }

static struct flow_table *table;
static uint64_t now = 1000000;

static void joined(void *context, struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context, (void)from, (void)packet;
	flow_enter_state(table, flow, FLOW_SEALED, now);
}

static void make_table(uint32_t n, struct stats *stats)
{
	static unsigned made;
	char name[32];
	struct flow_limits limits = flow_limits_default;
	struct flow_ops ops = {.take = take, .approved = approved, .send = send_frame, .taken = taken, .opened = opened, .established = one,
	                       .joined = joined, .closed = one};
	limits.flows_max = n;
	snprintf(name, sizeof(name), "bench%u", made++);
	table = flow_table_new(name, &limits, &ops, stats, 0, SOCKET_ID_ANY);
	if (!table)
		micro_die("no memory for the table");
}

static struct flow_key key_of(uint32_t i)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct flow_key key = {.client_port = FRAME_CLIENT_PORT, .server_port = 25};
	uint32_t address[2] = {frame_client(i), frame_server(i)};
	memcpy(key.client, mapped, 12);
	memcpy(key.client + 12, &address[0], 4);
	memcpy(key.server, mapped, 12);
	memcpy(key.server + 12, &address[1], 4);
	return key;
}

/* A table whose places have all been touched before: the kernel's page faults are not the table's cost. */
static void insert_and_remove(uint32_t n, struct stats *stats)
{
	struct micro insert = {.count = 0}, remove = {.count = 0};
	unsigned rounds = n > 1000000 ? 1 : n > 100000 ? 3 : MICRO_ROUNDS - 1;
	make_table(n, stats);
	for (unsigned round = 0; round <= rounds; round++) {
		uint64_t from = __rdtsc();
		for (uint32_t i = 0; i < n; i++) {
			struct flow_key key = key_of(micro_shuffled(i, n));
			struct flow *flow = flow_insert(table, &key, frame_hash(micro_shuffled(i, n)), now);
			if (!flow)
				micro_die("the table is full too early");
			flow_enter_state(table, flow, FLOW_SEALED, now); /* one in HANDSHAKE gives way to others */
		}
		if (round)
			micro_note(&insert, (double)(__rdtsc() - from) / n);
		from = __rdtsc();
		for (uint32_t i = 0; i < n; i++) {
			struct flow_key key = key_of(micro_shuffled(n - 1 - i, n));
			flow_remove(table, flow_find(table, &key, frame_hash(micro_shuffled(n - 1 - i, n))));
		}
		if (round)
			micro_note(&remove, (double)(__rdtsc() - from) / n);
	}
	micro_print(&insert, "flow_insert", n, "cycles");
	micro_print(&remove, "flow_remove", n, "cycles");
	flow_table_free(table);
}

static void look_up(uint32_t n)
{
	struct micro find = {.count = 0};
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t found = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++) {
			struct flow_key key = key_of(micro_shuffled(i % n, n));
			found += flow_find(table, &key, frame_hash(micro_shuffled(i % n, n)))->state == FLOW_SEALED;
		}
		micro_note(&find, (double)(__rdtsc() - from) / LOOKUPS);
		if (found != LOOKUPS)
			micro_die("a flow is missing");
	}
	micro_print(&find, "flow_find", n, "cycles");
}

/* One round over the whole table in which nothing is old enough. */
static void age(uint32_t n)
{
	struct micro sweep = {.count = 0};
	uint32_t before = flow_count(table);
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t spent = 0;
		for (uint64_t passed = 0; passed < FLOW_SWEEP_ROUND_US; passed += FLOW_SWEEP_US) {
			now += FLOW_SWEEP_US;
			uint64_t from = __rdtsc();
			flow_sweep(table, now);
			spent += __rdtsc() - from;
		}
		micro_note(&sweep, (double)spent / flow_places(table));
	}
	if (flow_count(table) != before)
		micro_die("a flow has aged too early");
	micro_print(&sweep, "flow_age", n, "cycles/place");
}

static void the_long_way(struct rte_mbuf *mbuf)
{
	struct packet packet;
	const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mbuf, void *));
	if (packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)) == PACKET_OK)
		flow_packet(table, mbuf, &packet, INSIDE, verdict->flow_hash, now);
}

/* The short way, and to fill the table the long one, in bursts; making the frames is not timed, and leaves them in the cache. */
static void packets(uint32_t n, struct rte_mbuf **mbufs, bool fill)
{
	struct micro cost = {.count = 0};
	static struct flow_burst burst;
	uint32_t at = 0, count = fill ? n : LOOKUPS / 4;
	for (unsigned round = 0; round < (fill ? 1 : MICRO_ROUNDS); round++) {
		uint64_t spent = 0;
		for (uint32_t done = 0; done < count; done += FRAMES_BURST) {
			for (unsigned i = 0; i < FRAMES_BURST; i++)
				frame_fill_sealed(mbufs[i], micro_shuffled(at++ % n, n));
			sent_count = 0;
			now++;
			uint64_t from = __rdtsc();
			flow_burst_find(table, &burst, mbufs, FRAMES_BURST, INSIDE);
			for (unsigned i = 0; i < FRAMES_BURST; i++)
				if (!flow_burst_pass(table, &burst, i, mbufs[i], now))
					the_long_way(mbufs[i]);
			spent += __rdtsc() - from;
			if (sent_count != FRAMES_BURST)
				micro_die("a frame of a sealed flow did not pass");
			memcpy(mbufs, sent, sizeof(mbufs[0]) * FRAMES_BURST);
		}
		micro_note(&cost, (double)spent / count);
	}
	if (!fill)
		micro_print(&cost, "flow_packet_sealed", n, "cycles");
}

static void bench(uint32_t n, struct rte_mempool *pool)
{
	struct rte_mbuf *mbufs[FRAMES_BURST];
	struct stats *stats = stats_new();
	insert_and_remove(n, stats);
	size_t before = micro_heap();
	make_table(n, stats);
	size_t index = micro_heap() - before + flow_index_bytes(&table->index);
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, FRAMES_BURST))
		micro_die("no packet buffers");
	packets(n, mbufs, true);
	if (flow_count(table) != n)
		micro_die("not all flows are there");
	micro_print_one("flow_bytes", n, "B/flow", (double)index / n + (double)sizeof(struct flow));
	look_up(n);
	packets(n, mbufs, false);
	age(n);
	rte_pktmbuf_free_bulk(mbufs, FRAMES_BURST);
	flow_table_free(table);
	stats_free(stats);
}

int main(int argc, char **argv)
{
	static const char *usual[] = {"1000", "100000", "1000000", "10000000"};
	const char **sizes = argc > 2 ? (const char **)argv + 2 : usual;
	unsigned count = argc > 2 ? (unsigned)argc - 2 : micro_available_mb() > 8192 ? 4 : 3, most = 0;
	for (unsigned i = 0; i < count; i++)
		most = (unsigned)atoi(sizes[i]) > most ? (unsigned)atoi(sizes[i]) : most;
	micro_eal(64 + most / 1000000 * 256);
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 255, 0, 0, 2048, SOCKET_ID_ANY);
	if (!pool)
		micro_die("no memory for frames");
	for (unsigned i = 0; i < count; i++)
		bench((uint32_t)atoi(sizes[i]), pool);
	return 0;
}
