/* tcp/timer.c: RTO (RFC 6298), persist, keepalive, TIME-WAIT, the TSval clock. */
#include "tcp_harness.h"

static struct tcp_info info(void)
{
	struct tcp_info i;
	tcp_info(h.ep, &i);
	return i;
}

/* RFC 6298, 2 */
static void rfc6298_2_rto_follows_the_round_trip(void **state)
{
	(void)state;
	assert_int_equal(info().srtt_us, 100 * MILLISECONDS);
	assert_int_equal(info().rto_us, 300 * MILLISECONDS);
	h_write(10);
	h_output();
	h_pass(180 * MILLISECONDS);
	h_ack(10);
	assert_int_equal(info().srtt_us, 110 * MILLISECONDS);
	assert_int_equal(info().rto_us, 110 * MILLISECONDS + 4 * 57500);
}

static void rfc6298_2_1_rto_without_a_seed_is_one_second(void **state)
{
	(void)state;
	h.adoption.rtt_us = 0;
	h_adopt();
	assert_int_equal(info().rto_us, 1 * SECONDS);
	h_write(10);
	h_output();
	h_pass(400 * MILLISECONDS);
	h_ack(10);
	assert_int_equal(info().srtt_us, 400 * MILLISECONDS);
	assert_int_equal(info().rto_us, 1200 * MILLISECONDS);
}

static void rto_is_at_least_200_ms(void **state)
{
	(void)state;
	h.adoption.rtt_us = 1 * MILLISECONDS;
	h_adopt();
	assert_int_equal(info().rto_us, 200 * MILLISECONDS);
}

static void rto_backs_off_to_60_s_and_gives_up_after_15_tries(void **state)
{
	(void)state;
	h_write(10);
	h_output();
	uint64_t last = h.now_us, expected = 300 * MILLISECONDS;
	for (int i = 0; i < TCP_TRIES_MAX; i++) {
		assert_int_equal(h_next_deadline(), 0);
		assert_int_equal(h.now_us - last, expected);
		assert_int_equal(h.sent_count, 1);
		assert_int_equal(h.sent[0].seq, 0);
		assert_int_equal(h.sent[0].segment.payload_len, 10);
		last = h.now_us;
		expected = expected * 2 < 60 * SECONDS ? expected * 2 : 60 * SECONDS;
	}
	assert_int_equal(h_next_deadline(), TCP_EVENT_TIMEOUT);
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].segment.flags & TCP_RST);
	assert_true(info().dead);
	assert_int_equal(tcp_deadline_us(h.ep), TCP_NEVER);
	assert_in_range(h.now_us - START_US, 5 * 60 * SECONDS, 15 * 60 * SECONDS);
}

static void rfc6298_5_2_the_timer_stops_when_all_is_acknowledged(void **state)
{
	(void)state;
	h_write(10);
	h_output();
	assert_int_equal(h.ep->rtx_at_us, h.now_us + 300 * MILLISECONDS);
	h_ack(10);
	assert_int_equal(h.ep->rtx_at_us, TCP_NEVER);
}

static void rfc6298_3_a_retransmitted_segment_is_not_measured(void **state)
{
	(void)state;
	h_write(10);
	h_output();
	h_next_deadline();
	h_pass(5 * MILLISECONDS);
	h_ack(10);
	assert_int_equal(info().srtt_us, 100 * MILLISECONDS);
	assert_int_equal(info().rto_us, 600 * MILLISECONDS); /* still backed off */
	h_write(10);
	h_output();
	h_pass(100 * MILLISECONDS);
	h_ack(20);
	assert_true(info().rto_us < 400 * MILLISECONDS);
}

static void rfc7323_4_1_timestamps_measure_a_retransmission(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_write(10);
	h_output();
	h_next_deadline();
	uint32_t tsval = h.sent[0].segment.tsval;
	h_pass(20 * MILLISECONDS);
	h_input((struct seg){.ack = 10, .tsecr = tsval});
	assert_int_equal(info().srtt_us, 90 * MILLISECONDS);
	assert_true(info().rto_us < 600 * MILLISECONDS);
}

static void an_echo_from_before_the_timeout_is_not_measured(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_write(10);
	h_output();
	uint32_t tsval = h.sent[0].segment.tsval;
	h_next_deadline();
	h_pass(20 * MILLISECONDS);
	h_input((struct seg){.ack = 10, .tsecr = tsval}); /* the first ACK was lost; this one answers the copy */
	assert_int_equal(info().srtt_us, 100 * MILLISECONDS);
}

static void an_absurd_echo_is_not_believed(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_write(10);
	h_output();
	h_next_deadline();
	h_input((struct seg){.ack = 10, .tsecr = H_TSVAL + 100000000});
	assert_int_equal(info().srtt_us, 100 * MILLISECONDS);
}

static void rfc7323_5_4_tsval_goes_on_from_the_last_one_relayed(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h.adoption.tsval_at_us = START_US - 250 * MILLISECONDS;
	h.adoption.tsval = 0xffffffff;
	h_adopt();
	h_write(1);
	h_output();
	assert_int_equal(h.sent[0].segment.tsval, 249);
	h_pass(10 * MILLISECONDS);
	h_write(1);
	h_output();
	assert_int_equal(h.sent[0].segment.tsval, 259);
}

static void rfc7323_5_4_tsval_is_never_below_the_last_one_relayed(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h.adoption.tsval_at_us = START_US + 5 * SECONDS; /* the tracker's clock was ahead */
	h_adopt();
	h_write(1);
	h_output();
	assert_int_equal(h.sent[0].segment.tsval, H_TSVAL);
}

/* RFC 9293, 3.8.6.1 */
static void rfc9293_3_8_6_1_a_closed_window_is_probed(void **state)
{
	(void)state;
	h_input((struct seg){.closed = true});
	h_write(5000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	uint64_t wait = 300 * MILLISECONDS;
	for (int i = 0; i < 40; i++) { /* a peer that answers may stay closed */
		uint64_t before = h.now_us;
		assert_int_equal(h_next_deadline(), 0);
		assert_int_equal(h.now_us - before, wait);
		assert_int_equal(h.sent_count, 1);
		assert_int_equal(h.sent[0].seq, 0);
		assert_int_equal(h.sent[0].segment.payload_len, 1);
		wait = wait * 2 < 60 * SECONDS ? wait * 2 : 60 * SECONDS;
		h_input((struct seg){.closed = true});
	}
	uint32_t cwnd = info().cwnd;
	h_input((struct seg){.window = 3000});
	h_output();
	uint32_t sent = 0;
	for (unsigned i = 0; i < h.sent_count; i++)
		sent += h.sent[i].segment.payload_len;
	assert_int_equal(h.sent[0].seq, 0); /* the probe's byte goes again */
	assert_in_range(sent, 2000, 3000);
	assert_int_equal(info().cwnd, cwnd); /* no congestion */
	assert_int_equal(info().rto_us, 300 * MILLISECONDS);
}

static void a_probe_that_is_taken_opens_the_stream(void **state)
{
	(void)state;
	h_input((struct seg){.closed = true});
	h_write(500);
	h_output();
	h_next_deadline();
	h_ack(1);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, 1);
	assert_int_equal(h.sent[0].segment.payload_len, 499);
}

static void probes_without_an_answer_end(void **state)
{
	(void)state;
	h_input((struct seg){.closed = true});
	h_write(500);
	h_output();
	unsigned events = 0, turns = 0;
	while (!events) {
		events = h_next_deadline();
		assert_in_range(++turns, 1, TCP_TRIES_MAX + 1);
	}
	assert_int_equal(events, TCP_EVENT_TIMEOUT);
}

static void rfc9293_3_8_6_1_a_fin_is_probed_through_a_closed_window(void **state)
{
	(void)state;
	h_input((struct seg){.closed = true});
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].segment.flags & TCP_FIN);
	h_ack(1);
	assert_true(info().fin_acked);
}

/* RFC 9293, 3.8.6.2.1: the override timeout */
static void rfc9293_3_8_6_2_1_a_window_too_small_to_be_worth_it_is_used_in_the_end(void **state)
{
	(void)state;
	h_input((struct seg){.window = 100});
	h_write(5000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].segment.payload_len, 100);
}

/* RFC 9293, 3.8.4 */
static void rfc9293_3_8_4_keepalive_asks_an_idle_peer(void **state)
{
	(void)state;
	h.limits.idle_timeout_us = 300 * SECONDS;
	h_adopt();
	h_next_deadline();
	assert_int_equal(h.now_us - START_US, 300 * SECONDS);
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, -1u);
	assert_int_equal(h.sent[0].segment.payload_len, 0);
	h_ack(0); /* alive */
	uint64_t answered = h.now_us;
	h_next_deadline();
	assert_int_equal(h.now_us - answered, 300 * SECONDS);
	for (int i = 1; i < TCP_KEEPALIVE_PROBES_MAX; i++) {
		assert_int_equal(h_next_deadline(), 0);
		assert_int_equal(h.sent_count, 1);
	}
	assert_int_equal(h_next_deadline(), TCP_EVENT_TIMEOUT);
	assert_int_equal(h.now_us - answered, 300 * SECONDS + TCP_KEEPALIVE_PROBES_MAX * 75 * SECONDS);
}

static void rfc9293_3_8_4_without_an_idle_time_there_is_no_keepalive(void **state)
{
	(void)state;
	h.limits.idle_timeout_us = 0;
	h_adopt();
	assert_int_equal(tcp_deadline_us(h.ep), TCP_NEVER);
}

static void rfc9293_3_6_time_wait_is_short_and_answers_a_fin(void **state)
{
	(void)state;
	tcp_shutdown(h.ep);
	h_output();
	h_ack(1);
	h_input((struct seg){.ack = 1, .flags = TCP_FIN});
	h_output();
	uint64_t entered = h.now_us;
	h_pass(1 * SECONDS);
	h_input((struct seg){.ack = 1, .flags = TCP_FIN});
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 1);
	assert_int_equal(h_next_deadline(), TCP_EVENT_CLOSED);
	assert_int_equal(h.now_us - entered, 5 * SECONDS);
	assert_int_equal(tcp_deadline_us(h.ep), TCP_NEVER);
}

static void a_path_that_swallows_large_segments_gets_small_ones(void **state)
{
	(void)state;
	h_write(3000);
	h_output();
	for (int i = 0; i < TCP_BLACKHOLE_TRIES; i++)
		h_next_deadline();
	assert_int_equal(h.sent[0].segment.payload_len, 536);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(rfc6298_2_rto_follows_the_round_trip),
		H_TEST_PREPARED(rfc6298_2_1_rto_without_a_seed_is_one_second),
		H_TEST_PREPARED(rto_is_at_least_200_ms),
		H_TEST(rto_backs_off_to_60_s_and_gives_up_after_15_tries),
		H_TEST(rfc6298_5_2_the_timer_stops_when_all_is_acknowledged),
		H_TEST(rfc6298_3_a_retransmitted_segment_is_not_measured),
		H_TEST_PREPARED(rfc7323_4_1_timestamps_measure_a_retransmission),
		H_TEST_PREPARED(an_echo_from_before_the_timeout_is_not_measured),
		H_TEST_PREPARED(an_absurd_echo_is_not_believed),
		H_TEST_PREPARED(rfc7323_5_4_tsval_goes_on_from_the_last_one_relayed),
		H_TEST_PREPARED(rfc7323_5_4_tsval_is_never_below_the_last_one_relayed),
		H_TEST(rfc9293_3_8_6_1_a_closed_window_is_probed),
		H_TEST(a_probe_that_is_taken_opens_the_stream),
		H_TEST(probes_without_an_answer_end),
		H_TEST(rfc9293_3_8_6_1_a_fin_is_probed_through_a_closed_window),
		H_TEST(rfc9293_3_8_6_2_1_a_window_too_small_to_be_worth_it_is_used_in_the_end),
		H_TEST_PREPARED(rfc9293_3_8_4_keepalive_asks_an_idle_peer),
		H_TEST_PREPARED(rfc9293_3_8_4_without_an_idle_time_there_is_no_keepalive),
		H_TEST(rfc9293_3_6_time_wait_is_short_and_answers_a_fin),
		H_TEST(a_path_that_swallows_large_segments_gets_small_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
