/* tcp/rack.c: loss by time, RFC 8985; and a recovery that is given back, RFC 4015. */
#include "tcp_harness.h"

#define RTT_US (100 * MILLISECONDS) /* the harness's; the reordering window is a quarter of it */

static void write_segments(unsigned count)
{
	h_write(count * 1000);
	h_output();
	assert_int_equal(h.sent_count, count);
}

static void assert_sent_again(uint32_t seq)
{
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, seq);
	assert_int_equal(h.sent[0].segment.payload_len, 1000);
	assert_memory_equal(h.sent[0].bytes, h_bytes + seq, 1000);
}

/* A window of two: RFC 6675's three segments above the hole cannot come, and a timeout would cost 300 ms and the window. */
static void rfc8985_6_2_a_small_window_needs_no_timeout(void **state)
{
	(void)state;
	write_segments(2);
	h_pass(RTT_US);
	h_sack(0, 1000, 2000);
	h_output();
	assert_int_equal(h.sent_count, 0); /* it may only be late */
	uint64_t before = h.now_us;
	h_next_deadline();
	assert_int_equal(h.now_us - before, RTT_US / 4);
	assert_sent_again(0);
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
}

static void rfc8985_6_2_late_is_not_lost(void **state)
{
	(void)state;
	write_segments(2);
	h_pass(RTT_US);
	h_sack(0, 1000, 2000);
	h_pass(RTT_US / 8);
	h_ack(2000);
	h_output();
	assert_int_equal(h.ep->rack_at_us, TCP_NEVER);
	assert_true(h.ep->reordering);
	assert_int_equal(h.ep->retransmits, 0);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
}

/* Once a path has reordered, three segments above a hole say nothing any more: time does. */
static void rfc8985_6_2_after_reordering_three_segments_are_no_loss(void **state)
{
	rfc8985_6_2_late_is_not_lost(state);
	write_segments(5);
	h_pass(RTT_US);
	h_sack(2000, 3000, 7000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_next_deadline();
	assert_sent_again(2000);
}

static void rfc8985_6_2_a_lost_retransmission_goes_again(void **state)
{
	(void)state;
	h_write(20000);
	h_output(); /* ten of them */
	h_pass(RTT_US);
	h_sack(0, 1000, 10000);
	h_output();
	assert_int_equal(h.sent[0].seq, 0);
	assert_true(h.sent_count > 1); /* new ones, sent after it */
	h_pass(RTT_US);
	h_input((struct seg){.sack_count = 1, .sack = {{1000, 11000}}});
	h_output();
	assert_int_equal(h.sent[0].seq, 0);
	assert_int_equal(h.ep->recovery, TCP_RECOVERY); /* and no timeout */
}

/* What was sent after the hole was found, and lost, is the next recovery's. */
static void a_loss_behind_the_recovery_begins_another(void **state)
{
	(void)state;
	h_write(20000);
	h_output();
	h_pass(RTT_US);
	h_sack(0, 1000, 10000);
	h_output(); /* 0 again, and 10000 to 14000 */
	assert_int_equal(h.ep->recover - OUT, 10000);
	uint32_t ssthresh = h.ep->ssthresh;
	h_pass(RTT_US);
	h_input((struct seg){.ack = 10000, .sack_count = 1, .sack = {{11000, 14000}}});
	h_output();
	assert_int_equal(h.sent[0].seq, 10000);
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	assert_true(h.ep->ssthresh < ssthresh);
}

static void more_transmissions_than_are_remembered(void **state)
{
	(void)state;
	h.adoption.mss = 100;
	h.adoption.snd_wnd = 60000;
	h_adopt();
	h.ep->cwnd = 60000;
	h_write(40000);
	h_output();
	assert_int_equal(h.sent_count, 400);
	assert_int_equal(h.ep->sent_count, TCP_SENT_MAX);
	h_pass(RTT_US);
	h_sack(0, 39000, 40000);
	h_output(); /* the last 256 but those that arrived; the ones before have the timer */
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	assert_int_equal(h.sent[0].seq, 40000 - TCP_SENT_MAX * 100);
	h_next_deadline();
	h_ack(40000);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
	assert_int_equal(h.ep->sent_count, 0);
}

static void adopt_with_timestamps(void)
{
	h.adoption.ts_ok = true;
	h_adopt();
	h_write(9880); /* ten of 988 */
	h_output();
	assert_int_equal(h.sent_count, 10);
	h_pass(RTT_US);
	h_input((struct seg){.tsecr = H_TSVAL, .sack_count = 1, .sack = {{988, 4940}}});
	h_output();
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	assert_true(h.ep->cwnd < 10000);
	h_pass(5 * MILLISECONDS);
}

/* RFC 3522, 4015 */
static void rfc4015_3_a_recovery_for_what_was_only_late_is_undone(void **state)
{
	(void)state;
	uint32_t cwnd;
	adopt_with_timestamps();
	h_input((struct seg){.ack = 4940, .tsecr = H_TSVAL}); /* of the first copy */
	assert_int_equal(h.ep->recovery, TCP_OPEN);
	cwnd = h.ep->cwnd;
	assert_true(cwnd >= tcp_initial_window(h.ep));
	assert_int_equal(h.ep->ssthresh, TCP_CWND_MAX);
}

static void rfc4015_3_a_recovery_for_what_was_lost_is_not(void **state)
{
	(void)state;
	adopt_with_timestamps();
	h_input((struct seg){.ack = 4940, .tsecr = H_TSVAL + 100}); /* of the second */
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	assert_true(h.ep->ssthresh < 10000);
	h_input((struct seg){.ack = 5928, .tsecr = H_TSVAL}); /* too late to say so */
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
}

static void duplicates_widen_the_window_once_a_round(void **state)
{
	(void)state;
	rfc8985_6_2_a_small_window_needs_no_timeout(state);
	h_ack(2000);
	h_write(5000);
	h_output();
	h_input((struct seg){.ack = 2000, .sack_count = 1, .sack = {{0, 1000}}});
	h_input((struct seg){.ack = 2000, .sack_count = 1, .sack = {{0, 1000}}});
	assert_int_equal(h.ep->reorder_steps, 2);
	for (int i = 0; i < TCP_REORDER_PERSIST; i++)
		tcp_rack_recovered(h.ep);
	assert_int_equal(h.ep->reorder_steps, 1);
}

/* RFC 8985, 7: the last two of ten are lost, and nothing behind them will say so. */
static void adopt_with_tail_probes(void)
{
	h.limits.tail_probes = true;
	h.adoption.ts_ok = true;
	h.adoption.mss = 1000 + TCP_OPTION_TS_BYTES;
	h_adopt();
	write_segments(10);
	h_pass(RTT_US);
	h_input((struct seg){.ack = 8000, .tsecr = H_TSVAL});
	h_output();
}

static void a_lost_tail_is_probed(void **state)
{
	(void)state;
	adopt_with_tail_probes();
	uint64_t before = h.now_us;
	h_next_deadline();
	assert_in_range(h.now_us - before, RTT_US, 2 * RTT_US + RTT_US / 4); /* not the timer's 300 ms */
	assert_sent_again(9000);
	h_pass(RTT_US);
	h_input((struct seg){.ack = 8000, .tsecr = H_TSVAL, .sack_count = 1, .sack = {{9000, 10000}}});
	h_output();
	if (!h.sent_count)
		h_next_deadline();
	assert_sent_again(8000);
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	h_input((struct seg){.ack = 10000, .tsecr = H_TSVAL + 500});
	assert_int_equal(h.ep->recovery, TCP_OPEN);
}

static void a_probe_brings_new_data_if_there_is_some(void **state)
{
	(void)state;
	h.limits.tail_probes = true;
	h_adopt();
	h_write(11000);
	h_output();
	assert_int_equal(h.sent_count, 10);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, 10000);
	assert_int_equal(h.ep->retransmits, 0);
	h_next_deadline(); /* one probe; then the timer */
	assert_int_equal(h.ep->recovery, TCP_LOSS);
}

static void a_probe_that_filled_the_hole_tells_of_a_loss(void **state)
{
	(void)state;
	adopt_with_tail_probes();
	uint32_t cwnd = h.ep->cwnd;
	h_next_deadline();
	h_pass(RTT_US);
	h_input((struct seg){.ack = 10000, .tsecr = H_TSVAL + 400}); /* the second copy's */
	assert_true(h.ep->cwnd < cwnd);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
}

static void a_probe_in_vain_costs_nothing(void **state)
{
	(void)state;
	adopt_with_tail_probes();
	uint32_t cwnd = h.ep->cwnd;
	h_next_deadline();
	h_input((struct seg){.ack = 10000, .tsecr = H_TSVAL}); /* the first copy was only late */
	assert_true(h.ep->cwnd >= cwnd);
}

static void a_single_segment_is_left_to_the_timer(void **state)
{
	(void)state;
	h.limits.tail_probes = true;
	h_adopt();
	write_segments(1);
	h_next_deadline();
	assert_int_equal(h.ep->recovery, TCP_LOSS);
}

/* The chunk is there while more than a few are on their way; all of them count, those of before too. */
static void a_long_flight_is_listed_in_a_chunk(void **state)
{
	(void)state;
	write_segments(TCP_SENT_FEW);
	assert_null(h.ep->sent_chunk);
	write_segments(10 - TCP_SENT_FEW);
	assert_non_null(h.ep->sent_chunk);
	assert_int_equal(h.ep->sent_count, 10);
	h_pass(RTT_US);
	h_sack(0, 1000, 10000); /* the first of all, listed before there was a chunk */
	h_output();
	assert_int_equal(h.sent[0].seq, 0);
	h_pass(RTT_US);
	h_ack(10000);
	assert_null(h.ep->sent_chunk);
	assert_int_equal(h.ep->sent_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(rfc8985_6_2_a_small_window_needs_no_timeout),
		H_TEST(rfc8985_6_2_late_is_not_lost),
		H_TEST(rfc8985_6_2_after_reordering_three_segments_are_no_loss),
		H_TEST(rfc8985_6_2_a_lost_retransmission_goes_again),
		H_TEST(a_loss_behind_the_recovery_begins_another),
		H_TEST_PREPARED(more_transmissions_than_are_remembered),
		H_TEST_PREPARED(rfc4015_3_a_recovery_for_what_was_only_late_is_undone),
		H_TEST_PREPARED(rfc4015_3_a_recovery_for_what_was_lost_is_not),
		H_TEST_PREPARED(a_lost_tail_is_probed),
		H_TEST_PREPARED(a_probe_brings_new_data_if_there_is_some),
		H_TEST_PREPARED(a_probe_that_filled_the_hole_tells_of_a_loss),
		H_TEST_PREPARED(a_probe_in_vain_costs_nothing),
		H_TEST_PREPARED(a_single_segment_is_left_to_the_timer),
		H_TEST(a_long_flight_is_listed_in_a_chunk),
		H_TEST(duplicates_widen_the_window_once_a_round),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
