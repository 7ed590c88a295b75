/*
 * scene.h - one worker as it runs in waxseald, between a client and a server that make their frames octet by octet.
 *
 * Enters: segments as an attacker would write them (struct seg). What the worker has handed over as sealed passes in
 * front of it, as in the kernel. Leaves: what came out at either port, put together as a receiver would, and the
 * counters. The clock is the scene's own. Nothing of packet/ makes or reads a watched frame here: a mistake there must
 * not hide itself.
 *
 * Of every row, checked by itself: a frame that leaves has right checksums; while a session is watched or taken over,
 * no byte of its streams leaves in two forms; in the end the counters add up (packets in = packets out + drops by
 * reason), and every packet buffer has come back.
 */
#ifndef EVASION_SCENE_H
#define EVASION_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "../../bpf/verdict.h"
#include "../unit/kernel_model.h"
#include "../unit/policy_lines.h"
#include "flow/private.h"
#include "worker_private.h"

#define SCENE __attribute__((unused)) static

#define ISN_CLIENT 0xffffffe0u /* wraps within the first commands */
#define ISN_SERVER 77000u
#define SCENE_PORT 40000
#define SCENE_CLIENT 0x0a4d0101u /* 10.77.1.1 */
#define SCENE_SERVER 0x0a4d0201u /* 10.77.2.1 */
#define SCENE_WINDOW 32768
#ifndef SCENE_STREAM_MAX
#define SCENE_STREAM_MAX 300000
#endif
#ifndef SCENE_FLOWS
#define SCENE_FLOWS 512
#endif
#define SCENE_BUFFERS 4096

#define FIN PACKET_FIN
#define SYN PACKET_SYN
#define RST PACKET_RST
#define ACK PACKET_ACK
#define URG PACKET_URG

struct seg {
	enum side from;
	uint8_t flags;         /* 0: ACK */
	bool no_flags;
	uint32_t seq, ack;     /* offsets from the ISNs: 1 is the first octet */
	const char *text;
	const void *bytes;     /* where there are NULs: with len */
	size_t len;
	const void *options;   /* padded to words */
	size_t options_len;
	bool ts;               /* a time stamp, behind `options` */
	uint32_t tsval, tsecr;
	uint16_t window, urgent;
	bool zero_window;
	uint8_t ttl;           /* 0: 64 */
	bool bad_tcp_sum, bad_ip_sum, by_other_port;
	uint32_t client;       /* address; 0: SCENE_CLIENT */
	uint16_t port;         /* 0: SCENE_PORT */
};

struct out { enum side to; uint8_t flags, ttl; uint32_t seq, ack; uint16_t len, window, urgent; uint8_t options[40]; };

static struct {
	struct rte_mempool *pool;
	struct worker *worker;
	struct stats *stats;
	struct policy_image *image;
	uint64_t now;
	uint32_t sent[SIDES];   /* offset behind the last octet that a side said */
	uint8_t stream[SIDES][SCENE_STREAM_MAX]; /* what a side heard, by offset ... */
	bool have[SIDES][SCENE_STREAM_MAX];
	size_t whole[SIDES];    /* ... without a hole up to here ... */
	size_t read[SIDES];     /* ... and looked at up to here */
	struct out out[512];
	unsigned outs;
	uint64_t others;        /* frames of other connections than the scene's */
	bool loose;             /* the endpoints' own packets pass: two forms are their affair */
	struct stats_event event;
	unsigned events;
} s;

/* ---- sums, the plainest way (RFC 1071) ---- */

static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}
static uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
static void put16(uint8_t *p, uint32_t n) { p[0] = (uint8_t)(n >> 8); p[1] = (uint8_t)n; }
static void put32(uint8_t *p, uint32_t n) { put16(p, n >> 16); put16(p + 2, n); }
static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }
static uint32_t tcp_sum(const uint8_t *ip, size_t tcp_len) { return sum16(sum16(6 + (uint32_t)tcp_len, ip + 12, 8), ip + 20, tcp_len); }

/* ---- what comes out ---- */

static void hear(enum side to, const uint8_t *bytes, size_t len, uint32_t offset)
{
	for (size_t i = 0; i < len; i++) {
		size_t at = offset - 1 + i;
		if (at >= SCENE_STREAM_MAX)
			continue; /* before the stream's first octet, or a far-fetched sequence number */
		if (s.have[to][at] && s.stream[to][at] != bytes[i] && !s.loose)
			fail_msg("octet %zu left for the %s as %02x and as %02x", at, to == CLIENT ? "client" : "server", s.stream[to][at], bytes[i]);
		s.stream[to][at] = bytes[i];
		s.have[to][at] = true;
	}
	while (s.whole[to] < SCENE_STREAM_MAX && s.have[to][s.whole[to]])
		s.whole[to]++;
}

static void read_frame(enum port_side port, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14, *tcp = ip + 20;
	enum side to = port == INSIDE ? CLIENT : SERVER;
	assert_true(len >= 54 && get16(frame + 12) == 0x0800 && ip[0] == 0x45 && get16(ip + 2) == len - 14);
	size_t tcp_len = len - 34, header = (size_t)(tcp[12] >> 4) * 4;
	assert_true(header >= 20 && header <= tcp_len);
	uint32_t client = get32(to == CLIENT ? ip + 16 : ip + 12), client_port = get16(to == CLIENT ? tcp + 2 : tcp);
	if (client != SCENE_CLIENT || client_port != SCENE_PORT) {
		s.others++;
		return;
	}
	if (!s.loose) {
		assert_int_equal(sum_fold(sum16(0, ip, 20)), 0);
		assert_int_equal(sum_fold(tcp_sum(ip, tcp_len)), 0);
	}
	struct out out = {.to = to, .flags = tcp[13], .ttl = ip[8], .len = (uint16_t)(tcp_len - header), .window = (uint16_t)get16(tcp + 14),
	                  .urgent = (uint16_t)get16(tcp + 18),
	                  .seq = get32(tcp + 4) - (to == CLIENT ? ISN_SERVER : ISN_CLIENT),
	                  .ack = get32(tcp + 8) - (to == CLIENT ? ISN_CLIENT : ISN_SERVER)};
	memcpy(out.options, tcp + 20, header - 20);
	s.out[s.outs++ % 512] = out;
	if (!(out.flags & (SYN | RST)))
		hear(to, tcp + header, out.len, out.seq);
}

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		read_frame(port, rte_pktmbuf_mtod(mbufs[i], uint8_t *), rte_pktmbuf_data_len(mbufs[i]));
		rte_pktmbuf_free(mbufs[i]);
	}
}
static void event(void *context, const struct stats_event *e) { (void)context; s.event = *e; s.events++; }
static uint64_t unix_time(void *context) { (void)context; return 1700000000000000; }

/* ---- what goes in ---- */

/* A frame as it is on the wire. */
static size_t make_frame(const struct seg *g, uint8_t *frame)
{
	static const uint8_t ethernet[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	size_t options = g->options_len, len = g->text ? strlen(g->text) : g->len;
	uint32_t client = g->client ? g->client : SCENE_CLIENT, port = g->port ? g->port : SCENE_PORT;
	bool up = g->from == CLIENT;
	uint8_t flags = g->no_flags ? 0 : g->flags ? g->flags : ACK;

	memcpy(frame, ethernet, sizeof(ethernet));
	memset(ip, 0, 20 + 60);
	if (options)
		memcpy(tcp + 20, g->options, options);
	if (g->ts) {
		memcpy(tcp + 20 + options, (uint8_t[]){1, 1, 8, 10}, 4);
		put32(tcp + 24 + options, g->tsval);
		put32(tcp + 28 + options, g->tsecr);
		options += 12;
	}
	if (len)
		memcpy(tcp + 20 + options, g->text ? (const void *)g->text : g->bytes, len);
	size_t total = 40 + options + len;
	ip[0] = 0x45;
	put16(ip + 2, (uint32_t)total);
	ip[6] = 0x40;
	ip[8] = g->ttl ? g->ttl : 64;
	ip[9] = 6;
	put32(ip + (up ? 12 : 16), client);
	put32(ip + (up ? 16 : 12), SCENE_SERVER);
	put16(ip + 10, sum_fold(sum16(0, ip, 20)));
	put16(tcp, up ? port : 25);
	put16(tcp + 2, up ? 25 : port);
	put32(tcp + 4, (up ? ISN_CLIENT : ISN_SERVER) + g->seq);
	put32(tcp + 8, flags & ACK ? (up ? ISN_SERVER : ISN_CLIENT) + g->ack : 0);
	tcp[12] = (uint8_t)((20 + options) / 4 << 4);
	tcp[13] = flags;
	put16(tcp + 14, g->zero_window ? 0 : g->window ? g->window : SCENE_WINDOW);
	put16(tcp + 18, g->urgent);
	put16(tcp + 16, sum_fold(tcp_sum(ip, total - 20)));
	ip[10] ^= g->bad_ip_sum ? 0x5a : 0;
	tcp[16] ^= g->bad_tcp_sum ? 0x5a : 0;
	return 14 + total;
}

/* Any frame, with a verdict in front as the classifier puts it. */
SCENE void put_frame(const uint8_t *frame, size_t len, enum port_side from, uint8_t action)
{
	uint8_t seen[2048];
	s.now += 1000;
	memcpy(seen, frame, len);
	if (action == VERDICT_SMTP && kernel_passes(seen, len, from, s.now)) {
		read_frame(port_other(from), frame, len);
		worker_tick(s.worker, s.now);
		return;
	}
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(s.pool);
	assert_non_null(mbuf);
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)len), frame, len);
	struct verdict *verdict = (struct verdict *)(rte_pktmbuf_mtod(mbuf, uint8_t *) - WAXSEAL_VERDICT_BYTES);
	*verdict = (struct verdict){.magic = WAXSEAL_VERDICT_MAGIC, .action = action, .flow_hash = 7};
	worker_input(s.worker, &mbuf, 1, from, s.now);
	worker_tick(s.worker, s.now);
}

static void put_seg(struct seg g)
{
	uint8_t frame[2048];
	size_t len = make_frame(&g, frame);
	put_frame(frame, len, (g.from == CLIENT) != g.by_other_port ? INSIDE : OUTSIDE, VERDICT_SMTP);
}
#define SEG(...) put_seg((struct seg){__VA_ARGS__})

/* What a well-behaved peer would do: says the next octets, acknowledging all it has heard. */
SCENE void says_bytes(enum side side, const void *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t piece = len - at > 1400 ? 1400 : len - at;
		SEG(.from = side, .flags = ACK | PACKET_PSH, .seq = s.sent[side], .ack = (uint32_t)s.whole[side] + 1,
		    .bytes = (const uint8_t *)bytes + at, .len = piece);
		s.sent[side] += (uint32_t)piece;
		at += piece;
	}
}
SCENE void says(enum side side, const char *text) { says_bytes(side, text, strlen(text)); }
SCENE void acks(enum side side) { SEG(.from = side, .seq = s.sent[side], .ack = (uint32_t)s.whole[side] + 1); }

/* Time passes; the worker's timers run. */
SCENE void passes_us(uint64_t us)
{
	for (uint64_t end = s.now + us; s.now < end;) {
		uint64_t next = worker_deadline_us(s.worker);
		s.now = next > s.now && next < end ? next : next <= s.now ? s.now + 1 : end;
		worker_tick(s.worker, s.now);
	}
}
#define SECONDS_US(n) ((uint64_t)(n) * 1000000u)

/* ---- what is expected ---- */

/* The next octets that a side has heard are these, and no more. */
SCENE void hears(enum side side, const char *text)
{
	size_t have = s.whole[side] - s.read[side], len = strlen(text);
	if (have != len || memcmp(s.stream[side] + s.read[side], text, len))
		fail_msg("the %s heard \"%.*s\", not \"%s\"", side == CLIENT ? "client" : "server", (int)have, s.stream[side] + s.read[side], text);
	s.read[side] = s.whole[side];
}
SCENE void hears_all(enum side side, const void *bytes, size_t len)
{
	assert_int_equal(s.whole[side] - s.read[side], len);
	assert_memory_equal(s.stream[side] + s.read[side], bytes, len);
	s.read[side] = s.whole[side];
}
/* It has heard a reply with this code. */
SCENE void hears_code(enum side side, const char *code)
{
	assert_true(s.whole[side] - s.read[side] > 3);
	assert_memory_equal(s.stream[side] + s.read[side], code, 3);
	s.read[side] = s.whole[side];
}
/* Nowhere in what has left for a side, in or out of order, is there this text. */
SCENE void never_heard(enum side side, const char *text)
{
	size_t n = strlen(text);
	for (size_t at = 0; at + n <= SCENE_STREAM_MAX; at++)
		if (s.have[side][at] && s.have[side][at + n - 1] && !memcmp(s.stream[side] + at, text, n))
			fail_msg("\"%s\" left for the %s", text, side == CLIENT ? "client" : "server");
}

static struct flow *scene_flow(void)
{
	for (uint32_t i = 0; i < flow_places(s.worker->flows); i++) {
		struct flow *flow = flow_at(s.worker->flows, i);
		if (flow && flow->key.client_port == SCENE_PORT && get32(flow->key.client + 12) == SCENE_CLIENT)
			return flow;
	}
	return NULL;
}
#define NO_FLOW FLOW_STATES
static enum flow_state scene_state(void)
{
	const struct flow *flow = scene_flow();
	return flow ? (enum flow_state)flow->state : NO_FLOW;
}
static void is_state(enum flow_state state)
{
	if (scene_state() != state)
		fail_msg("the flow is %s, not %s", flow_state_name(scene_state()), flow_state_name(state));
}
SCENE void moved_by(enum stats_counter counter, uint64_t n)
{
	if (stats_get(s.stats, counter) != n)
		fail_msg("%s is %llu, not %llu", stats_counter_name(counter), (unsigned long long)stats_get(s.stats, counter), (unsigned long long)n);
}
#define MOVED(counter, n) moved_by(STAT_##counter, n)

/* Frames that have left since the last call. */
static unsigned frames_out(void)
{
	static unsigned seen;
	unsigned n = s.outs >= seen ? s.outs - seen : s.outs;
	seen = s.outs;
	return n;
}
SCENE bool was_reset(enum side side)
{
	for (unsigned i = 0; i < s.outs && i < 512; i++) /* the last ones that are kept */
		if (s.out[i].to == side && s.out[i].flags & RST)
			return true;
	return false;
}
SCENE void nothing_passes(void)
{
	is_state(FLOW_CUT);
	unsigned before = s.outs;
	says(CLIENT, "MAIL FROM:<late@client.example>\r\n");
	says(SERVER, "250 late\r\n");
	for (; before < s.outs; before++) /* who did not hear of the end may be told again */
		assert_true(s.out[before % 512].flags & RST && !s.out[before % 512].len);
}
/* Both sides are reset, and nothing passes any more. */
SCENE void is_cut(void)
{
	assert_true(was_reset(CLIENT));
	assert_true(was_reset(SERVER));
	nothing_passes();
}
/* The client has its 421, the server is reset, and nothing passes any more. */
SCENE void is_turned_away(void)
{
	hears_code(CLIENT, "421");
	assert_true(was_reset(SERVER));
	nothing_passes();
}

/* ---- openings ---- */

static const uint8_t syn_options[12] = {2, 4, 5, 180, 4, 2, 3, 3, 7, 1, 1, 1}; /* MSS 1460, SACK, scale 7 */

SCENE void handshake(void)
{
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	is_state(FLOW_DIALOGUE);
}

SCENE void handshake_with_time_stamps(uint32_t client, uint32_t server)
{
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12, .ts = true, .tsval = client);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12, .ts = true, .tsval = server, .tsecr = client);
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .ts = true, .tsval = client, .tsecr = server);
	is_state(FLOW_DIALOGUE);
}

SCENE void greeting(void)
{
	handshake();
	says(SERVER, "220 mx.example ESMTP\r\n");
	hears(CLIENT, "220 mx.example ESMTP\r\n");
}

#define OFFERS "250-mx.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
#define OFFERS_NOTHING "250-mx.example\r\n250 PIPELINING\r\n"

SCENE void hello(const char *offers)
{
	greeting();
	says(CLIENT, "EHLO client.example\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, offers);
	hears(CLIENT, offers);
}

/* Up to the server's 220 to the client's own STARTTLS. */
SCENE void starttls(void)
{
	hello(OFFERS);
	says(CLIENT, "STARTTLS\r\n");
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "220 go\r\n");
	hears(CLIENT, "220 go\r\n");
	is_state(FLOW_SEALING);
}

/* ---- the stage ---- */

/* Rules as lines of a policy file. */
SCENE void scene_policy(const char *const *lines)
{
	struct policy_image *image = image_of_lines(lines);
	worker_set_image(s.worker, image);
	policy_image_close(s.image);
	s.image = image;
}
#define POLICY(...) scene_policy((const char *const[]){__VA_ARGS__, NULL})

static int scene_eal(void **state)
{
	static char *argv[] = {"evasion", "--no-huge", "--no-pci", "-m", "128", "--no-telemetry", "--no-shconf", "--log-level=*:error", "-l", "0"};
	(void)state;
	if (rte_eal_init(10, argv) < 0)
		return -1;
	s.pool = rte_pktmbuf_pool_create("frames", SCENE_BUFFERS, 0, 0, 2048, 0);
	return s.pool ? 0 : -1;
}

static struct worker_config scene_config(void)
{
	static unsigned index;
	struct worker_config config = worker_config_default;
	config.index = index++; /* names the table of flows */
	config.socket = SOCKET_ID_ANY;
	config.flows = flow_limits_default;
	config.flows.flows_max = SCENE_FLOWS;
	config.tcp = tcp_limits_default;
	config.chunks_max = 4096;
	config.stats = s.stats;
	config.pool[INSIDE] = config.pool[OUTSIDE] = s.pool;
	config.transmit = transmit;
	config.offload = kernel_offload;
	config.offloaded = kernel_offloaded;
	config.event = event;
	config.unix_time_us = unix_time;
	return config;
}

static int scene_open_with(const struct worker_config *config)
{
	char error[256];
	s.worker = worker_new(config, s.now, error, sizeof(error));
	if (!s.worker)
		fail_msg("%s", error);
	POLICY("* level=encrypt"); /* enforced: what is not TLS is refused */
	return 0;
}

static void scene_clear(void)
{
	struct rte_mempool *pool = s.pool;
	memset(&s, 0, sizeof(s));
	s.pool = pool;
	s.now = 1000000;
	s.sent[CLIENT] = s.sent[SERVER] = 1;
	s.stats = stats_new();
	kernel_clear();
	frames_out();
}

SCENE int scene_open(void **state)
{
	(void)state;
	scene_clear();
	struct worker_config config = scene_config();
	return scene_open_with(&config);
}

/* Every packet that came has left, was for waxseal itself, or is counted as dropped. */
static void counters_add_up(void)
{
	static const enum stats_counter in[] = {STAT_rx_packets, STAT_built_packets, STAT_split_segments};
	static const enum stats_counter out[] = {STAT_tx_packets, STAT_taken_packets, STAT_flows_refused, STAT_flows_refused_prefix};
	uint64_t came = 0, went = 0;
	for (unsigned i = 0; i < sizeof(in) / sizeof(in[0]); i++)
		came += stats_get(s.stats, in[i]);
	for (unsigned i = 0; i < sizeof(out) / sizeof(out[0]); i++)
		went += stats_get(s.stats, out[i]);
	for (enum stats_counter c = 0; c < STATS_COUNTERS_N; c++)
		if (!strncmp(stats_counter_name(c), "drop_", 5) && c != STAT_drop_no_mbuf) /* which no packet came for */
			went += stats_get(s.stats, c);
	if (came != went)
		fail_msg("%llu packets came or were made, %llu are accounted for", (unsigned long long)came, (unsigned long long)went);
}

SCENE int scene_close(void **state)
{
	(void)state;
	s.loose = true; /* the resets of sessions taken over */
	worker_free(s.worker, s.now);
	assert_int_equal(kernel_flows(), 0);
	if (stats_get(s.stats, STAT_rx_packets)) /* else a row that goes past worker_input */
		counters_add_up();
	policy_image_close(s.image);
	stats_free(s.stats);
	if (rte_mempool_in_use_count(s.pool))
		fail_msg("%u packet buffers were not given back", rte_mempool_in_use_count(s.pool));
	return 0;
}

/* All rows of a theme, or with an argument those whose names match it (* and ? stand for others). */
#define PLAY(theme, rows, argc, argv) \
	((argc) > 1 ? cmocka_set_test_filter((argv)[1]) : (void)0, cmocka_run_group_tests_name(theme, rows, scene_eal, NULL))
#define ROW(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)

#endif
