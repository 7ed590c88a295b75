/* tcp/sack.c: loss recovery, with SACK (RFC 6675) and without (RFC 6582, 3042). */
#include "tcp_harness.h"

static struct tcp_info info(void)
{
	struct tcp_info i;
	tcp_info(h.ep, &i);
	return i;
}

/* Ten segments of 1000 are under way. */
static void ten(void)
{
	h_write(10000);
	h_output();
	assert_int_equal(h.sent_count, 10);
}

static void adopt_without_sack(void)
{
	h.adoption.sack_ok = false;
	h_adopt();
	ten();
}

static void assert_sent(unsigned i, uint32_t seq, uint32_t len)
{
	assert_in_range(h.sent_count, i + 1, H_SENT_MAX);
	assert_int_equal(h.sent[i].seq, seq);
	assert_int_equal(h.sent[i].segment.payload_len, len);
	assert_memory_equal(h.sent[i].bytes, h_bytes + seq, len);
}

static void rfc6675_4_three_segments_above_mean_loss(void **state)
{
	(void)state;
	ten();
	h_sack(0, 1000, 2000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_sack(0, 1000, 3000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_sack(0, 1000, 4000);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 1000);
	assert_int_equal(info().ssthresh, 5000);
	assert_int_equal(info().cwnd, 5000);
}

static void rfc6675_5_only_the_holes_go_again(void **state)
{
	(void)state;
	ten();
	h_pass(100 * MILLISECONDS);
	h_input((struct seg){.sack_count = 3, .sack = {{8000, 10000}, {4000, 6000}, {1000, 3000}}});
	h_output();
	assert_int_equal(h.sent_count, 4);
	assert_sent(0, 0, 1000);
	assert_sent(1, 3000, 1000);
	assert_sent(2, 6000, 1000);
	assert_sent(3, 7000, 1000);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_input((struct seg){.ack = 3000, .sack_count = 2, .sack = {{8000, 10000}, {4000, 7000}}});
	h_output();
	assert_int_equal(h.sent_count, 0); /* 3000 and 7000 have been sent again already */
	h_ack(10000);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
	assert_int_equal(info().cwnd, 5000);
}

static void rfc6675_5_one_loss_one_reduction(void **state)
{
	(void)state;
	ten();
	h_sack(0, 1000, 4000);
	h_output();
	h_sack(0, 1000, 8000);
	h_sack(1000, 2000, 8000);
	h_output();
	assert_int_equal(info().ssthresh, 5000);
	h_sack(2000, 3000, 9000);
	assert_int_equal(info().ssthresh, 5000);
}

static void rfc6675_5_new_data_flows_during_recovery(void **state)
{
	(void)state;
	h_write(20000);
	h_output();
	assert_int_equal(h.sent_count, 10);
	h_sack(0, 1000, 9000);
	h_output();
	/* pipe: [9000, 10000) and the retransmission; cwnd is 5 segments */
	assert_int_equal(h.sent_count, 4);
	assert_sent(0, 0, 1000);
	assert_sent(1, 10000, 1000);
	assert_sent(3, 12000, 1000);
}

/* RFC 6675, NextSeg (4) */
static void rfc6675_4_the_tail_is_rescued_once(void **state)
{
	(void)state;
	ten();
	h_sack(0, 1000, 8000); /* 8000 to 10000 may be lost too, and nothing will say so */
	h_output();
	assert_sent(0, 0, 1000);
	assert_sent(1, 9000, 1000);
	assert_int_equal(h.sent_count, 2);
	h_sack(1000, 2000, 8000);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

/* RFC 3042 */
static void rfc3042_2_limited_transmit(void **state)
{
	(void)state;
	h_write(20000);
	h_output();
	assert_int_equal(h.sent_count, 10);
	h_sack(0, 1000, 2000);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 10000, 1000);
	h_sack(0, 1000, 3000);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 11000, 1000);
	assert_int_equal(info().cwnd, 10000);
}

static void rfc3042_2_limited_transmit_without_sack(void **state)
{
	(void)state;
	h.adoption.sack_ok = false;
	h_adopt();
	h_write(20000);
	h_output();
	for (uint32_t i = 0; i < 2; i++) {
		h_ack(0);
		h_output();
		assert_int_equal(h.sent_count, 1);
		assert_sent(0, 10000 + 1000 * i, 1000);
	}
}

static void lies_in_sack_are_ignored(void **state)
{
	(void)state;
	ten();
	h_sack(0, 5000, 5000);
	h_sack(0, 6000, 5000);
	h_sack(0, 9000, 10001);
	h_sack(0, 1u << 31, (1u << 31) + 5000);
	h_sack(0, -5000u, -1u);
	assert_int_equal(h.ep->sacked.total, 0);
	h_output();
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(info().retransmits, 0);
}

/* RFC 2883 */
static void rfc2883_4_dsack_from_the_peer_is_no_news(void **state)
{
	(void)state;
	ten();
	h_ack(5000);
	for (int i = 0; i < 5; i++)
		h_sack(5000, 2000, 3000);
	h_output();
	assert_int_equal(info().retransmits, 0);
	assert_int_equal(h.ep->sacked.total, 0);
}

/* RFC 2018, 8 */
static void rfc2018_8_a_peer_that_throws_away_what_it_sacked(void **state)
{
	(void)state;
	ten();
	h_sack(0, 1000, 3000);
	h_ack(1000);
	assert_int_equal(h.ep->sacked.total, 0);
	h_next_deadline();
	assert_sent(0, 1000, 1000);
}

static void rfc6582_3_2_three_duplicates_without_sack(void **state)
{
	(void)state;
	adopt_without_sack();
	h_ack(0);
	h_ack(0);
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_ack(0);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 1000);
	assert_int_equal(info().ssthresh, 5000);
}

/* RFC 6582 */
static void rfc6582_3_2_a_partial_ack_names_the_next_hole(void **state)
{
	(void)state;
	adopt_without_sack();
	for (int i = 0; i < 3; i++)
		h_ack(0);
	h_output();
	h_ack(4000);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 4000, 1000);
	assert_int_equal(info().ssthresh, 5000);
	h_ack(10000);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
	assert_int_equal(info().cwnd, 5000);
}

/* RFC 5681, 3.1; RFC 6298, 5.4 */
static void rfc6298_5_4_after_a_timeout_all_goes_again_from_one_segment(void **state)
{
	(void)state;
	ten();
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 1000);
	assert_int_equal(info().cwnd, 1000);
	assert_int_equal(info().ssthresh, 5000);
	h_ack(1000);
	h_output();
	assert_int_equal(h.sent_count, 2); /* slow start */
	assert_sent(0, 1000, 1000);
	assert_sent(1, 2000, 1000);
	h_sack(2000, 5000, 10000);
	h_output();
	assert_sent(0, 3000, 1000);
	assert_sent(1, 4000, 1000);
	assert_int_equal(h.sent_count, 2);
	h_ack(10000);
	assert_int_equal(h.ep->recovery, TCP_OPEN);
}

static void rfc5681_3_1_a_second_timeout_does_not_halve_again(void **state)
{
	(void)state;
	ten();
	h_next_deadline();
	h_next_deadline();
	h_next_deadline();
	assert_int_equal(info().ssthresh, 5000);
}

static void echoes_of_retransmissions_are_no_loss(void **state)
{
	(void)state;
	adopt_without_sack();
	h_next_deadline();
	h_ack(10000); /* nothing was lost; what went again is acknowledged again */
	h_write(3000);
	h_output();
	for (int i = 0; i < 4; i++)
		h_ack(10000);
	h_output();
	assert_int_equal(info().retransmits, 1);
}

static void a_round_trip_is_measured_at_the_sack(void **state)
{
	(void)state;
	ten();
	h_pass(180 * MILLISECONDS);
	h_sack(0, 1000, 2000); /* the first segment is timed: nothing yet */
	assert_int_equal(info().srtt_us, 100 * MILLISECONDS);
	h_ack(2000);
	assert_int_equal(info().srtt_us, 110 * MILLISECONDS);
	h_write(2000);
	h_output();
	h_pass(110 * MILLISECONDS);
	h_sack(2000, 10000, 11000);
	assert_false(h.ep->timing);
	assert_int_equal(info().srtt_us, 110 * MILLISECONDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(rfc6675_4_three_segments_above_mean_loss),
		H_TEST(rfc6675_5_only_the_holes_go_again),
		H_TEST(rfc6675_5_one_loss_one_reduction),
		H_TEST(rfc6675_5_new_data_flows_during_recovery),
		H_TEST(rfc6675_4_the_tail_is_rescued_once),
		H_TEST(rfc3042_2_limited_transmit),
		H_TEST_PREPARED(rfc3042_2_limited_transmit_without_sack),
		H_TEST(lies_in_sack_are_ignored),
		H_TEST(rfc2883_4_dsack_from_the_peer_is_no_news),
		H_TEST(rfc2018_8_a_peer_that_throws_away_what_it_sacked),
		H_TEST_PREPARED(rfc6582_3_2_three_duplicates_without_sack),
		H_TEST_PREPARED(rfc6582_3_2_a_partial_ack_names_the_next_hole),
		H_TEST(rfc6298_5_4_after_a_timeout_all_goes_again_from_one_segment),
		H_TEST(rfc5681_3_1_a_second_timeout_does_not_halve_again),
		H_TEST_PREPARED(echoes_of_retransmissions_are_no_loss),
		H_TEST(a_round_trip_is_measured_at_the_sack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
