/*
 * tcp_harness.h - an adopted endpoint, segments by hand, and what it emits.
 *
 * Sequence numbers in the tests are offsets: ours from OUT, the peer's from IN. Both wrap within a test.
 */
#ifndef WAXSEAL_TESTS_TCP_HARNESS_H
#define WAXSEAL_TESTS_TCP_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "tcp/private.h"

#define OUT 0xfffffe00u
#define IN 0xffffff00u
#define START_US (1000 * SECONDS)
enum { H_WINDOW = 60000, H_EDGE = 20000, H_MSS = 1000, H_TSVAL = 70000, H_PEER_TSVAL = 9000, H_SENT_MAX = 1024, H_POOL = 1024 };

struct h_sent {
	struct tcp_segment segment;
	uint32_t seq, ack; /* offsets */
	uint8_t bytes[1500];
};

static struct h {
	struct tcp_pool *pool;
	struct tcp_endpoint *ep;
	uint64_t now_us;
	struct tcp_limits limits;
	struct tcp_adoption adoption;
	struct h_sent sent[H_SENT_MAX];
	unsigned sent_count;
	int frames; /* left; negative: as many as wanted */
	uint32_t peer_seq, tsval;
} h;

static uint8_t h_bytes[3000000];

static inline bool h_emit(void *context, struct tcp_endpoint *ep, const struct tcp_segment *segment)
{
	(void)context;
	if (!h.frames)
		return false;
	h.frames -= h.frames > 0;
	assert_in_range(h.sent_count, 0, H_SENT_MAX - 1);
	struct h_sent *sent = &h.sent[h.sent_count++];
	sent->segment = *segment;
	sent->seq = segment->seq - OUT;
	sent->ack = segment->ack - IN;
	assert_in_range(segment->payload_len, 0, sizeof(sent->bytes));
	tcp_payload(ep, segment, sent->bytes);
	return true;
}

/* Forgets what was sent before, and sends what is due. */
static inline void h_output(void)
{
	h.sent_count = 0;
	tcp_output(h.ep, h.now_us, h_emit, NULL);
}

static inline void h_pass(uint64_t us) { h.now_us += us; }

/* Lets time pass up to the next deadline; the events. */
static inline unsigned h_next_deadline(void)
{
	uint64_t at = tcp_deadline_us(h.ep);
	assert_true(at != TCP_NEVER);
	if (at > h.now_us)
		h.now_us = at;
	unsigned events = tcp_tick(h.ep, h.now_us);
	h_output();
	return events;
}

struct seg {
	uint32_t seq, ack, window; /* offsets; window in bytes, 0: H_WINDOW */
	bool closed;               /* the window is 0 */
	uint8_t flags;             /* besides ACK */
	uint32_t len;
	bool no_ack, no_ts;
	uint32_t tsval, tsecr;
	uint8_t sack_count;
	struct tcp_sack sack[4];   /* offsets */
};

static inline unsigned h_input(struct seg s)
{
	struct tcp_segment segment = {
		.seq = IN + s.seq,
		.ack = OUT + s.ack,
		.window = (uint16_t)(s.closed ? 0 : (s.window ? s.window : H_WINDOW) >> h.adoption.snd_wscale),
		.flags = (uint8_t)(s.flags | (s.no_ack ? 0 : TCP_ACK)),
		.ts = h.adoption.ts_ok && !s.no_ts,
		.tsval = s.tsval ? s.tsval : h.tsval,
		.tsecr = s.tsecr,
		.sack_count = s.sack_count,
		.payload = s.len ? h_bytes + s.seq : NULL,
		.payload_len = (uint16_t)s.len,
	};
	for (int i = 0; i < s.sack_count; i++)
		segment.sack[i] = (struct tcp_sack){OUT + s.sack[i].start, OUT + s.sack[i].end};
	return tcp_input(h.ep, &segment, h.now_us);
}

/* The peer acknowledges, and says nothing else. */
static inline unsigned h_ack(uint32_t ack) { return h_input((struct seg){.seq = h.peer_seq, .ack = ack}); }

static inline unsigned h_sack(uint32_t ack, uint32_t start, uint32_t end)
{
	return h_input((struct seg){.seq = h.peer_seq, .ack = ack, .sack_count = 1, .sack = {{start, end}}});
}

static inline void h_write(size_t len)
{
	assert_int_equal(tcp_write(h.ep, h_bytes + (uint32_t)(h.ep->snd_end - OUT), len), len);
}

/* Sets the defaults; change h.adoption or h.limits, then h_adopt(). */
static inline void h_prepare(void)
{
	h = (struct h){.now_us = START_US, .frames = -1, .tsval = H_PEER_TSVAL};
	for (size_t i = 0; i < sizeof(h_bytes); i++)
		h_bytes[i] = (uint8_t)(i * 31 + i / 251);
	h.pool = tcp_pool_new(H_POOL);
	h.limits = tcp_limits_default;
	h.limits.congestion = "newreno";
	h.limits.tail_probes = false; /* the next deadline is to be the retransmission timer's; tcp_rack.c has them */
	h.adoption = (struct tcp_adoption){
		.snd_una = OUT, .snd_nxt = OUT, .rcv_nxt = IN, .rcv_edge = IN + H_EDGE, .snd_wnd = H_WINDOW,
		.mss = H_MSS, .sack_ok = true, .rtt_us = 100 * MILLISECONDS,
		.tsval = H_TSVAL, .tsval_at_us = START_US, .ts_recent = H_PEER_TSVAL,
	};
}

/* The first output tells the peer about the larger window; it is taken out of the way here. */
static inline void h_adopt(void)
{
	h.ep = tcp_adopt(h.pool, &h.adoption, &h.limits, h.now_us);
	assert_non_null(h.ep);
	h_output();
	h.sent_count = 0;
}

static inline int h_setup(void **state)
{
	(void)state;
	h_prepare();
	return 0;
}

static inline int h_setup_adopted(void **state)
{
	h_setup(state);
	h_adopt();
	return 0;
}

static inline int h_teardown(void **state)
{
	(void)state;
	tcp_free(h.ep);
	assert_int_equal(tcp_pool_used(h.pool), 0);
	tcp_pool_free(h.pool);
	return 0;
}

#define H_TEST(name) cmocka_unit_test_setup_teardown(name, h_setup_adopted, h_teardown)
#define H_TEST_PREPARED(name) cmocka_unit_test_setup_teardown(name, h_setup, h_teardown)

#endif
