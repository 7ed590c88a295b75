/*
 * flow_harness.h - a flow table with recorded output, and two peers that make packets.
 *
 * The tests say how many bytes are approved; everything that the table sends is kept as a list of
 * {side, seq, flags, payload}.
 */
#ifndef WAXSEAL_FLOW_HARNESS_H
#define WAXSEAL_FLOW_HARNESS_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "flow/flow.h"

#define SENT_MAX 256
#define STREAM_MAX 8192

struct sent { enum side from; uint32_t seq, ack; uint8_t flags; uint16_t len; uint8_t payload[1600]; };

static struct {
	struct rte_mempool *pool;
	struct flow_table *table;
	struct stats *stats;
	struct flow *last; /* of the last callback */
	uint64_t approve[SIDES], now;
	bool refuse[SIDES]; /* take nothing */
	uint8_t stream[SIDES][STREAM_MAX];
	size_t streamed[SIDES];
	struct sent sent[SENT_MAX];
	unsigned sent_count, opened, established, joined, closed, taken, gone;
	enum flow_state join_as;
	bool seal_at_end, damaged_passes;
	bool holds; /* flow_ops.hold is granted */
	bool unseen_passes; /* flow_ops.must_open asks for nothing */
	unsigned asked, held;
} h;

static size_t h_take(void *context, struct flow *flow, enum side side, const uint8_t *bytes, size_t len)
{
	(void)context;
	h.last = flow;
	if (h.refuse[side])
		return 0;
	memcpy(h.stream[side] + h.streamed[side], bytes, len);
	h.streamed[side] += len;
	return len;
}
static uint64_t h_approved(void *context, const struct flow *flow, enum side side)
{
	(void)context;
	(void)flow;
	return h.approve[side] < h.streamed[side] ? h.approve[side] : h.streamed[side];
}
static void h_record(enum side from, struct rte_mbuf *mbuf)
{
	struct packet packet;
	assert_true(h.sent_count < SENT_MAX);
	assert_int_equal(packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)), PACKET_OK);
	assert_true(h.damaged_passes || packet_checksums_ok(&packet));
	struct sent *sent = &h.sent[h.sent_count++];
	*sent = (struct sent){.from = from, .seq = packet.seq, .ack = packet.ack, .flags = packet.flags, .len = packet.payload_len};
	memcpy(sent->payload, packet.frame + packet.payload_off, packet.payload_len);
	rte_pktmbuf_free(mbuf);
}
static void h_send(void *context, const struct flow *flow, enum side from, struct rte_mbuf *mbuf)
{
	(void)context;
	(void)flow;
	h_record(from, mbuf);
}
static void h_taken(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet)
{
	(void)context;
	(void)flow;
	(void)from;
	(void)packet;
	h.taken++;
	rte_pktmbuf_free(mbuf);
}
static void h_gone(void *context, const struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context;
	(void)flow;
	(void)from;
	(void)packet;
	h.gone++;
}
static void h_opened(void *context, struct flow *flow, const struct packet *packet)
{
	(void)context;
	(void)packet;
	h.last = flow;
	h.opened++;
}
static void h_established(void *context, struct flow *flow) { (void)context; h.last = flow; h.established++; }
static void h_joined(void *context, struct flow *flow, enum side from, const struct packet *packet)
{
	(void)context;
	(void)from;
	(void)packet;
	h.last = flow;
	h.joined++;
	if (h.join_as != FLOW_HANDSHAKE) /* else: left undecided */
		flow_enter_state(h.table, flow, h.join_as, h.now);
}
static void h_closed(void *context, struct flow *flow) { (void)context; (void)flow; h.closed++; }

static bool h_hold(void *context, uint32_t hash)
{
	(void)context;
	assert_true(hash == 7 || !h.holds);
	h.asked++;
	h.held += h.holds;
	return h.holds;
}
static void h_release(void *context, uint32_t hash)
{
	(void)context;
	assert_int_equal(hash, 7);
	assert_true(h.held > 0);
	h.held--;
}

static bool h_must_open(void *context, const struct flow *flow)
{
	(void)context;
	assert_int_equal(flow->key.server_port, 25);
	assert_int_equal(flow->client_port_side, INSIDE);
	assert_int_equal(flow->hash, 7);
	return !h.unseen_passes;
}

static int h_start_eal(void **state)
{
	static char *argv[] = {"test", "--no-huge", "--no-pci", "-m", "64", "--no-telemetry", "--no-shconf", "--log-level=*:error", "-l", "0"};
	(void)state;
	if (rte_eal_init(10, argv) < 0)
		return -1;
	h.pool = rte_pktmbuf_pool_create("frames", 1024, 0, 0, 2048, 0);
	return h.pool ? 0 : -1;
}

static int h_setup_limits(const struct flow_limits *limits)
{
	struct rte_mempool *pool = h.pool;
	static unsigned n;
	char name[32];
	memset(&h, 0, sizeof(h));
	h.pool = pool;
	h.now = 1000000;
	h.approve[CLIENT] = h.approve[SERVER] = UINT64_MAX;
	h.join_as = FLOW_SEALED;
	h.stats = stats_new();
	struct flow_ops ops = {.take = h_take, .approved = h_approved, .send = h_send, .taken = h_taken, .gone = h_gone, .opened = h_opened,
	                       .established = h_established, .joined = h_joined, .closed = h_closed,
	                       .must_open = h_must_open, .hold = h_hold, .release = h_release};
	snprintf(name, sizeof(name), "t%u", n++);
	h.table = flow_table_new(name, limits, &ops, h.stats, 0, SOCKET_ID_ANY);
	return h.table ? 0 : -1;
}
__attribute__((unused)) static int h_setup(void **state) { (void)state; return h_setup_limits(&flow_limits_default); }
static int h_teardown(void **state)
{
	(void)state;
	flow_table_free(h.table);
	stats_free(h.stats);
	return rte_mempool_in_use_count(h.pool); /* every frame has come back */
}

/* ---- packets ---- */

#define CLIENT_ISN 1000u
static uint32_t server_isn = 0xfffffff0u; /* wraps early in every test */
#define SERVER_ISN server_isn
#define CLIENT_PORT 40000

struct seg {
	enum side from;
	uint16_t port; /* of the client; 0: CLIENT_PORT */
	uint8_t flags;
	uint32_t seq, ack; /* relative to the ISNs */
	const char *payload;
	bool bad_checksum;
	bool syn_options, syn_tfo;
	bool wrong_side;
};

static void h_packet(struct seg s)
{
	uint16_t port = s.port ? s.port : CLIENT_PORT;
	static const uint8_t mac[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
	uint8_t frame[2048] = {0}, *ip = frame + 14, *tcp = ip + 20;
	size_t len = s.payload ? strlen(s.payload) : 0, opts = 0;
	uint32_t isn = s.from == CLIENT ? CLIENT_ISN : SERVER_ISN, other = s.from == CLIENT ? SERVER_ISN : CLIENT_ISN;
	uint32_t seq = htonl(isn + s.seq), ack = htonl(s.flags & PACKET_ACK ? other + s.ack : 0);

	memcpy(frame, mac, 14);
	if (s.syn_options) {
		static const uint8_t mss[] = {2, 4, 5, 180, 4, 2, 3, 3, 7, 1, 1, 1};
		memcpy(tcp + 20, mss, sizeof(mss));
		opts = sizeof(mss);
	}
	if (s.syn_tfo) {
		static const uint8_t tfo[] = {34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1};
		memcpy(tcp + 20 + opts, tfo, sizeof(tfo));
		opts += sizeof(tfo);
	}
	ip[0] = 0x45;
	ip[8] = 64;
	ip[9] = 6;
	uint16_t total = htons((uint16_t)(40 + opts + len));
	memcpy(ip + 2, &total, 2);
	uint8_t client[4] = {10, 77, 0, 1}, server[4] = {10, 77, 0, 2};
	memcpy(ip + 12, s.from == CLIENT ? client : server, 4);
	memcpy(ip + 16, s.from == CLIENT ? server : client, 4);
	uint16_t source = htons(s.from == CLIENT ? port : 25), dest = htons(s.from == CLIENT ? 25 : port), window = htons(8192);
	memcpy(tcp, &source, 2);
	memcpy(tcp + 2, &dest, 2);
	memcpy(tcp + 4, &seq, 4);
	memcpy(tcp + 8, &ack, 4);
	tcp[12] = (uint8_t)((20 + opts) / 4 << 4);
	tcp[13] = s.flags;
	memcpy(tcp + 14, &window, 2);
	if (len)
		memcpy(tcp + 20 + opts, s.payload, len);

	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(h.pool);
	assert_non_null(mbuf);
	size_t frame_len = 54 + opts + len;
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)frame_len), frame, frame_len);
	struct packet packet;
	assert_int_equal(packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), frame_len), PACKET_OK);
	packet_update_checksums(&packet);
	if (s.bad_checksum)
		packet.frame[packet.l4_off + 16] ^= 0x55;
	h.now += 1000;
	flow_packet(h.table, mbuf, &packet, (s.from == CLIENT) != s.wrong_side ? INSIDE : OUTSIDE, 7, h.now);
}

__attribute__((unused)) static void h_handshake(void)
{
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .syn_options = true});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .ack = 1, .syn_options = true});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.established, 1);
	assert_int_equal(h.last->state, FLOW_DIALOGUE);
	h.sent_count = 0;
}

__attribute__((unused)) static void h_data(enum side from, uint32_t seq, uint32_t ack, const char *payload)
{
	h_packet((struct seg){.from = from, .flags = PACKET_ACK | PACKET_PSH, .seq = seq, .ack = ack, .payload = payload});
}

__attribute__((unused)) static void h_sent(unsigned index, enum side from, uint32_t seq, const char *payload)
{
	uint32_t isn = from == CLIENT ? CLIENT_ISN : SERVER_ISN;
	assert_true(index < h.sent_count);
	assert_int_equal(h.sent[index].from, from);
	assert_int_equal(h.sent[index].seq - isn, seq);
	assert_int_equal(h.sent[index].len, strlen(payload));
	assert_memory_equal(h.sent[index].payload, payload, strlen(payload));
}

#endif
