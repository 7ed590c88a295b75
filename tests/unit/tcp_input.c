/* tcp/input.c: what is acceptable (RFC 9293, 5961, 7323), and what never is. */
#include "tcp_harness.h"

static void assert_challenged(unsigned events)
{
	assert_int_equal(events, TCP_EVENT_CHALLENGE);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].segment.flags, TCP_ACK);
	assert_int_equal(h.sent[0].seq, 0);
	assert_int_equal(h.sent[0].ack, 0);
}

static void assert_silent(void)
{
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void rfc5961_3_2_rst_at_rcv_nxt_resets(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.flags = TCP_RST, .no_ack = true}), TCP_EVENT_RESET);
	struct tcp_info info;
	tcp_info(h.ep, &info);
	assert_true(info.dead);
	assert_silent();
	assert_int_equal(tcp_deadline_us(h.ep), TCP_NEVER);
}

/* RFC 5961, 3.2 */
static void rfc5961_3_2_rst_elsewhere_in_the_window_is_challenged(void **state)
{
	(void)state;
	assert_challenged(h_input((struct seg){.seq = 1, .flags = TCP_RST, .no_ack = true}));
	assert_challenged(h_input((struct seg){.seq = H_EDGE - 1, .flags = TCP_RST}));
}

static void rfc5961_3_2_rst_outside_of_the_window_is_dropped(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.seq = -1u, .flags = TCP_RST}), TCP_EVENT_BAD);
	assert_int_equal(h_input((struct seg){.seq = 300000, .flags = TCP_RST}), TCP_EVENT_BAD);
	assert_silent();
}

/* RFC 5961, 4.2 */
static void rfc5961_4_2_syn_is_challenged_wherever_it_is(void **state)
{
	(void)state;
	assert_challenged(h_input((struct seg){.flags = TCP_SYN, .no_ack = true}));
	assert_challenged(h_input((struct seg){.seq = 1000000, .flags = TCP_SYN}));
}

/* RFC 5961, 5.2 */
static void rfc5961_5_2_an_ack_of_what_was_never_sent_is_challenged(void **state)
{
	(void)state;
	assert_challenged(h_ack(1));
	struct seg s = {.ack = 1, .len = 10};
	assert_challenged(h_input(s));
	assert_int_equal(tcp_readable(h.ep), 0); /* its data does not count either */
}

static void rfc5961_5_2_an_ack_older_than_the_largest_window_is_challenged(void **state)
{
	(void)state;
	assert_challenged(h_ack(-(uint32_t)H_WINDOW - 1));
	assert_int_equal(h_input((struct seg){.ack = -(uint32_t)H_WINDOW, .len = 10}), TCP_EVENT_READABLE);
}

/* RFC 5961, 7 */
static void rfc5961_7_challenges_are_rate_limited(void **state)
{
	(void)state;
	for (int i = 0; i < TCP_CHALLENGES_MAX; i++)
		assert_challenged(h_input((struct seg){.flags = TCP_SYN}));
	for (int i = 0; i < 100; i++)
		assert_int_equal(h_input((struct seg){.flags = TCP_SYN}), TCP_EVENT_BAD);
	assert_int_equal(h_input((struct seg){.seq = 1000000}), TCP_EVENT_BAD);
	assert_silent();
	h_pass(TCP_CHALLENGE_PERIOD_US);
	assert_challenged(h_input((struct seg){.flags = TCP_SYN}));
}

static void no_ack_flag_no_meaning(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.no_ack = true, .len = 10}), TCP_EVENT_BAD);
	assert_int_equal(tcp_readable(h.ep), 0);
}

/* RFC 7323, 5 */
static void rfc7323_5_paws_drops_old_timestamps(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	assert_int_equal(h_input((struct seg){.len = 10, .tsval = H_PEER_TSVAL - 1}), TCP_EVENT_BAD);
	assert_int_equal(tcp_readable(h.ep), 0);
	h_output();
	assert_int_equal(h.sent_count, 1); /* it is answered */
	assert_int_equal(h_input((struct seg){.len = 10, .tsval = H_PEER_TSVAL + 5}), TCP_EVENT_READABLE);
	h_next_deadline();
	assert_int_equal(h.sent[0].segment.tsecr, H_PEER_TSVAL + 5);
	assert_int_equal(h_input((struct seg){.seq = 10, .flags = TCP_RST, .tsval = 1}), TCP_EVENT_RESET); /* RST is exempt */
}

static void paws_forgets_after_24_days(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_pass(TCP_PAWS_IDLE_US);
	assert_int_equal(h_input((struct seg){.len = 10, .tsval = H_PEER_TSVAL - 1}), TCP_EVENT_READABLE);
}

static void rfc7323_4_3_the_echoed_timestamp_is_that_of_the_last_segment_in_order(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_input((struct seg){.seq = 1000, .len = 10, .tsval = H_PEER_TSVAL + 50}); /* beyond a hole */
	h_output();
	assert_int_equal(h.sent[0].segment.tsecr, H_PEER_TSVAL);
}

static void rfc7323_3_2_a_segment_without_timestamps_is_dropped(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	assert_int_equal(h_input((struct seg){.len = 10, .no_ts = true}), TCP_EVENT_BAD);
	assert_int_equal(h_input((struct seg){.no_ts = true, .flags = TCP_RST}), TCP_EVENT_RESET);
}

static void bytes_beyond_the_edge_are_cut(void **state)
{
	(void)state;
	h.limits.receive_buffer_bytes_max = H_EDGE; /* no larger offer */
	h_adopt();
	h_input((struct seg){.seq = H_EDGE - 500, .len = 1000});
	assert_int_equal(h.ep->held.total, 500);
	assert_int_equal(h_input((struct seg){.seq = H_EDGE, .len = 1000}), TCP_EVENT_BAD);
	assert_int_equal(h.ep->held.total, 500);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h_input((struct seg){.seq = H_EDGE}), 0); /* a bare ACK from a peer that has filled the window */
}

static void an_overlapping_segment_gives_its_new_part(void **state)
{
	(void)state;
	h_input((struct seg){.len = 100});
	assert_int_equal(h_input((struct seg){.seq = 50, .len = 100}), TCP_EVENT_READABLE);
	size_t len;
	const uint8_t *bytes = tcp_peek(h.ep, &len);
	assert_int_equal(len, 150);
	assert_memory_equal(bytes, h_bytes, 150);
}

static void rfc9293_3_8_6_1_a_zero_window_probe_is_answered_and_its_ack_counts(void **state)
{
	(void)state;
	h.adoption.rcv_edge = IN + 1000;
	h.limits.receive_buffer_bytes_max = 1000;
	h_adopt();
	h_input((struct seg){.len = 1000});
	h_write(10);
	h_output();
	assert_int_equal(h.sent[0].segment.window, 0);
	assert_int_equal(h_input((struct seg){.seq = 1000, .len = 1, .ack = 10}), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_unacked(h.ep), 0);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 1000);
}

static void rfc9293_3_8_4_a_keepalive_is_answered(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.seq = -1u}), 0);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, 0);
}

/* RFC 6093 */
static void rfc6093_6_urgent_data_is_data(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.flags = TCP_URG, .len = 10}), TCP_EVENT_READABLE);
	assert_int_equal(tcp_readable(h.ep), 10);
}

static void fin_is_read_after_all_bytes(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.seq = 100, .len = 50, .flags = TCP_FIN}), 0);
	assert_int_equal(h_input((struct seg){.len = 100}), TCP_EVENT_READABLE);
	assert_false(tcp_eof(h.ep));
	assert_int_equal(tcp_readable(h.ep), 150);
	tcp_consume(h.ep, 150);
	assert_true(tcp_eof(h.ep));
	h_output();
	assert_int_equal(h.sent[0].ack, 151);
}

static void a_fin_again_is_acknowledged_again(void **state)
{
	(void)state;
	assert_int_equal(h_input((struct seg){.len = 5, .flags = TCP_FIN}), TCP_EVENT_READABLE);
	h_output();
	assert_int_equal(h_input((struct seg){.len = 5, .flags = TCP_FIN}), 0);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 6);
}

static void data_beyond_the_fin_is_refused(void **state)
{
	(void)state;
	h_input((struct seg){.seq = 10, .flags = TCP_FIN});
	assert_true(h_input((struct seg){.len = 20}) & TCP_EVENT_BAD);
	assert_int_equal(tcp_readable(h.ep), 10);
	assert_int_equal(h_input((struct seg){.seq = 11, .len = 20}), TCP_EVENT_BAD);
	assert_int_equal(tcp_readable(h.ep), 10);
}

static void a_fin_before_bytes_that_arrived_is_refused(void **state)
{
	(void)state;
	h_input((struct seg){.seq = 100, .len = 100});
	assert_int_equal(h_input((struct seg){.seq = 50, .flags = TCP_FIN}), TCP_EVENT_BAD);
	assert_int_equal(h_input((struct seg){.seq = 0, .len = 100}), TCP_EVENT_READABLE);
	assert_int_equal(tcp_readable(h.ep), 200);
}

static void a_dead_endpoint_repeats_its_rst_where_the_peer_expects_it(void **state)
{
	(void)state;
	tcp_abort(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h_input((struct seg){.ack = -10u}), TCP_EVENT_BAD);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].segment.flags & TCP_RST);
	assert_int_equal(h.sent[0].seq, -10u);
}

static void any_bytes_do_no_harm(void **state)
{
	(void)state;
	uint64_t random = 88172645463325252ull;
	for (int i = 0; i < 200000; i++) {
		uint32_t r[6];
		for (int k = 0; k < 6; k++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			r[k] = (uint32_t)(random >> 20);
		}
		struct tcp_segment s = {
			.seq = h.ep->rcv_nxt + r[0] % 4000 - 1000, .ack = h.ep->snd_una + r[1] % 3000 - 200, .window = (uint16_t)r[2],
			.flags = (uint8_t)(TCP_ACK | (r[3] % 64 == 0 ? TCP_FIN : 0) | (r[3] % 50 == 1 ? TCP_SYN : 0)), .payload = h_bytes,
			.payload_len = (uint16_t)(r[4] % 1200), .sack_count = (uint8_t)(r[5] % 5),
		};
		for (int k = 0; k < s.sack_count; k++) {
			s.sack[k].start = h.ep->snd_una + (r[k] >> 4) % 5000 - 500;
			s.sack[k].end = s.sack[k].start + (r[k + 1] >> 5) % 2000 - 100;
		}
		tcp_input(h.ep, &s, h.now_us);
		tcp_consume(h.ep, tcp_readable(h.ep));
		tcp_write(h.ep, h_bytes, r[0] % 3000);
		h_pass(r[1] % 2000);
		tcp_tick(h.ep, h.now_us);
		h_output();
		assert_true(!seq_after(h.ep->snd_una, h.ep->snd_nxt) && !seq_after(h.ep->snd_nxt, h.ep->snd_end + 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(rfc5961_3_2_rst_at_rcv_nxt_resets),
		H_TEST(rfc5961_3_2_rst_elsewhere_in_the_window_is_challenged),
		H_TEST(rfc5961_3_2_rst_outside_of_the_window_is_dropped),
		H_TEST(rfc5961_4_2_syn_is_challenged_wherever_it_is),
		H_TEST(rfc5961_5_2_an_ack_of_what_was_never_sent_is_challenged),
		H_TEST(rfc5961_5_2_an_ack_older_than_the_largest_window_is_challenged),
		H_TEST(rfc5961_7_challenges_are_rate_limited),
		H_TEST(no_ack_flag_no_meaning),
		H_TEST_PREPARED(rfc7323_5_paws_drops_old_timestamps),
		H_TEST_PREPARED(paws_forgets_after_24_days),
		H_TEST_PREPARED(rfc7323_4_3_the_echoed_timestamp_is_that_of_the_last_segment_in_order),
		H_TEST_PREPARED(rfc7323_3_2_a_segment_without_timestamps_is_dropped),
		H_TEST_PREPARED(bytes_beyond_the_edge_are_cut),
		H_TEST(an_overlapping_segment_gives_its_new_part),
		H_TEST_PREPARED(rfc9293_3_8_6_1_a_zero_window_probe_is_answered_and_its_ack_counts),
		H_TEST(rfc9293_3_8_4_a_keepalive_is_answered),
		H_TEST(rfc6093_6_urgent_data_is_data),
		H_TEST(fin_is_read_after_all_bytes),
		H_TEST(a_fin_again_is_acknowledged_again),
		H_TEST(data_beyond_the_fin_is_refused),
		H_TEST(a_fin_before_bytes_that_arrived_is_refused),
		H_TEST(a_dead_endpoint_repeats_its_rst_where_the_peer_expects_it),
		H_TEST(any_bytes_do_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
