/* tcp/output.c: what is sent, how large, in which order, and that a missing frame loses nothing. */
#include "tcp_harness.h"

static void assert_sent(unsigned i, uint32_t seq, uint32_t len, uint8_t flags)
{
	assert_in_range(h.sent_count, i + 1, H_SENT_MAX);
	assert_int_equal(h.sent[i].seq, seq);
	assert_int_equal(h.sent[i].segment.payload_len, len);
	assert_int_equal(h.sent[i].segment.flags, flags);
	assert_memory_equal(h.sent[i].bytes, h_bytes + seq, len);
}

static void bytes_leave_in_segments(void **state)
{
	(void)state;
	h_write(2500);
	h_output();
	assert_int_equal(h.sent_count, 3);
	assert_sent(0, 0, 1000, TCP_ACK);
	assert_sent(1, 1000, 1000, TCP_ACK);
	assert_sent(2, 2000, 500, TCP_ACK | TCP_PSH);
	h_output();
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(tcp_unsent(h.ep), 0);
}

static void options_take_their_place_from_the_payload(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	h_write(5000);
	h_output();
	assert_int_equal(h.sent[0].segment.payload_len, H_MSS - 12);
	h_input((struct seg){.seq = 1000, .len = 10, .ack = 5000});
	h_input((struct seg){.seq = 2000, .len = 10, .ack = 5000});
	h_write(5000);
	h_output();
	assert_int_equal(h.sent[0].segment.sack_count, 2);
	assert_int_equal(h.sent[0].segment.payload_len, H_MSS - 12 - 20);
}

static void nothing_leaves_beyond_the_peers_edge(void **state)
{
	(void)state;
	h_input((struct seg){.window = 3500});
	h_write(10000);
	h_output();
	assert_int_equal(h.sent_count, 3); /* the half segment that would fit waits */
	assert_sent(2, 2000, 1000, TCP_ACK);
	h_input((struct seg){.ack = 3000, .window = 500});
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_input((struct seg){.ack = 3000, .window = 2000});
	h_output();
	assert_int_equal(h.sent_count, 2);
}

/* RFC 9293, 3.8.6.2.1 */
static void rfc9293_3_8_6_2_1_half_of_the_largest_window_is_worth_sending(void **state)
{
	(void)state;
	h.adoption.snd_wnd = 600;
	h_adopt();
	h_write(5000);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 600, TCP_ACK);
	h_input((struct seg){.ack = 600, .window = 200});
	h_output();
	assert_int_equal(h.sent_count, 0);
	h_input((struct seg){.ack = 600, .window = 300});
	h_output();
	assert_sent(0, 600, 300, TCP_ACK);
}

static void a_missing_frame_leaves_the_segment_due(void **state)
{
	(void)state;
	h_write(3000);
	tcp_shutdown(h.ep);
	h.frames = 1;
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(tcp_unsent(h.ep), 2000);
	assert_int_equal(tcp_deadline_us(h.ep), h.now_us + 1 * MILLISECONDS);
	h.frames = 1;
	h_next_deadline();
	assert_sent(0, 1000, 1000, TCP_ACK);
	h.frames = -1;
	h_next_deadline();
	assert_sent(0, 2000, 1000, TCP_ACK | TCP_PSH | TCP_FIN);
	assert_int_equal(h.sent_count, 1);
}

static void a_missing_frame_leaves_the_ack_due(void **state)
{
	(void)state;
	h_input((struct seg){.len = 100, .flags = TCP_FIN});
	h.frames = 0;
	h_output();
	h.frames = -1;
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 101);
}

static void a_missing_frame_leaves_the_retransmission_and_the_rst_due(void **state)
{
	(void)state;
	h_write(100);
	h_output();
	h.frames = 0;
	h_next_deadline();
	h.frames = -1;
	h_pass(1 * MILLISECONDS);
	h_output();
	assert_sent(0, 0, 100, TCP_ACK | TCP_PSH);
	tcp_abort(h.ep);
	h.frames = 0;
	h_output();
	assert_int_equal(tcp_deadline_us(h.ep), h.now_us + 1 * MILLISECONDS);
	h.frames = -1;
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].segment.flags & TCP_RST);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void fin_goes_with_the_last_bytes(void **state)
{
	(void)state;
	h_write(1500);
	tcp_shutdown(h.ep);
	assert_int_equal(tcp_write(h.ep, h_bytes, 10), 0);
	h_output();
	assert_int_equal(h.sent_count, 2);
	assert_sent(1, 1000, 500, TCP_ACK | TCP_PSH | TCP_FIN);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void a_fin_alone(void **state)
{
	(void)state;
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 0, TCP_ACK | TCP_FIN);
	h_next_deadline(); /* and again */
	assert_sent(0, 0, 0, TCP_ACK | TCP_FIN);
}

static void a_fin_needs_room_in_the_window(void **state)
{
	(void)state;
	h_input((struct seg){.window = 1000});
	h_write(1000);
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 1000, TCP_ACK | TCP_PSH);
	h_input((struct seg){.ack = 1000, .window = 1000});
	h_output();
	assert_sent(0, 1000, 0, TCP_ACK | TCP_FIN);
}

/* A receiver with a closed window accepts only what begins at its edge (RFC 9293, 3.10.7.4). */
static void rfc9293_3_10_7_4_an_ack_beside_a_probe_is_acceptable(void **state)
{
	(void)state;
	h_input((struct seg){.closed = true});
	h_write(100);
	h_output();
	h_next_deadline();
	assert_sent(0, 0, 1, TCP_ACK);
	h_input((struct seg){.len = 100, .closed = true});
	h_input((struct seg){.seq = 100, .len = 100, .closed = true});
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 0, 0, TCP_ACK);
	assert_int_equal(h.sent[0].ack, 200);
	tcp_abort(h.ep);
	h_output();
	assert_sent(0, 0, 0, TCP_ACK | TCP_RST);
}

static void a_shrunk_window_is_obeyed(void **state)
{
	(void)state;
	h_write(5000);
	h_output();
	h_input((struct seg){.ack = 1000, .window = 1500});
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_sent(0, 1000, 1000, TCP_ACK);
	h_ack(5000); /* it had taken all */
	assert_int_equal(tcp_unacked(h.ep), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(bytes_leave_in_segments),
		H_TEST_PREPARED(options_take_their_place_from_the_payload),
		H_TEST(nothing_leaves_beyond_the_peers_edge),
		H_TEST_PREPARED(rfc9293_3_8_6_2_1_half_of_the_largest_window_is_worth_sending),
		H_TEST(a_missing_frame_leaves_the_segment_due),
		H_TEST(a_missing_frame_leaves_the_ack_due),
		H_TEST(a_missing_frame_leaves_the_retransmission_and_the_rst_due),
		H_TEST(fin_goes_with_the_last_bytes),
		H_TEST(a_fin_alone),
		H_TEST(a_fin_needs_room_in_the_window),
		H_TEST(rfc9293_3_10_7_4_an_ack_beside_a_probe_is_acceptable),
		H_TEST(a_shrunk_window_is_obeyed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
