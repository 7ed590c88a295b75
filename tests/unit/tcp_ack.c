/* tcp/ack.c: progress, the peer's window, and the states that wait for an ACK. */
#include "tcp_harness.h"

static struct tcp_info info(void)
{
	struct tcp_info i;
	tcp_info(h.ep, &i);
	return i;
}

static void acknowledged_bytes_make_room(void **state)
{
	(void)state;
	size_t room = tcp_write_room(h.ep);
	h_write(5000);
	h_output();
	assert_int_equal(h_ack(3000), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_unacked(h.ep), 2000);
	assert_int_equal(tcp_write_room(h.ep), room - 2000);
	assert_int_equal(h_ack(3000), 0);
	assert_int_equal(h_ack(2000), 0); /* reordered on the way */
	assert_int_equal(info().snd_una, OUT + 3000);
	assert_int_equal(h_ack(5000), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_pool_used(h.pool), 0);
}

/* RFC 7323, 2 */
static void rfc7323_2_windows_are_scaled(void **state)
{
	(void)state;
	h.adoption.snd_wscale = 9;
	h.adoption.rcv_wscale = 5;
	h_adopt();
	h_input((struct seg){.window = 100 << 9});
	assert_int_equal(info().snd_wnd, 51200);
	h_input((struct seg){.len = 10});
	h_next_deadline();
	assert_int_equal(h.sent[0].segment.window << 5, info().rcv_edge - info().rcv_nxt);
}

static void rfc9293_3_10_7_4_an_old_segment_does_not_set_the_window(void **state)
{
	(void)state;
	h_write(100);
	h_output();
	h_input((struct seg){.seq = 0, .len = 100, .ack = 100, .window = 5000});
	assert_int_equal(info().snd_wnd, 5000);
	h_input((struct seg){.seq = 50, .len = 100, .ack = 50, .window = 60000}); /* WL1, WL2 */
	assert_int_equal(info().snd_wnd, 5000);
	assert_int_equal(tcp_readable(h.ep), 150); /* its bytes count */
}

static void rfc5681_2_a_window_update_is_no_duplicate_ack(void **state)
{
	(void)state;
	h.adoption.sack_ok = false;
	h_adopt();
	h_write(5000);
	h_output();
	for (uint32_t i = 0; i < 5; i++)
		h_input((struct seg){.window = 20000 + 1000 * i});
	assert_int_equal(h.ep->dup_acks, 0);
	for (uint32_t i = 0; i < 5; i++) /* nor is one with data */
		h_input((struct seg){.seq = 10 * i, .len = 10, .window = 24000});
	assert_int_equal(h.ep->dup_acks, 0);
	assert_int_equal(info().retransmits, 0);
}

static void rfc9293_3_6_half_close_by_us_leaves_the_other_direction_open(void **state)
{
	(void)state;
	h_write(10);
	tcp_shutdown(h.ep);
	h_output();
	h_ack(11);
	assert_true(info().fin_acked);
	assert_int_equal(h.ep->state, TCP_FIN_WAIT_2);
	assert_int_equal(h_input((struct seg){.ack = 11, .len = 500}), TCP_EVENT_READABLE);
	assert_int_equal(tcp_readable(h.ep), 500);
	assert_int_equal(h_input((struct seg){.seq = 500, .ack = 11, .flags = TCP_FIN}), TCP_EVENT_READABLE);
	assert_int_equal(h.ep->state, TCP_TIME_WAIT);
	h_output();
	assert_int_equal(h.sent[0].ack, 501);
}

static void rfc9293_3_6_half_close_by_the_peer_leaves_our_direction_open(void **state)
{
	(void)state;
	h_input((struct seg){.flags = TCP_FIN});
	assert_true(tcp_eof(h.ep));
	h_write(3000);
	h_output();
	assert_int_equal(h_input((struct seg){.seq = 1, .ack = 3000}), TCP_EVENT_WRITABLE);
	tcp_shutdown(h.ep);
	h_output();
	assert_true(h.sent[0].segment.flags & TCP_FIN);
	assert_int_equal(h.ep->state, TCP_LAST_ACK);
	assert_int_equal(h_input((struct seg){.seq = 1, .ack = 3001}), TCP_EVENT_CLOSED);
	assert_int_equal(tcp_deadline_us(h.ep), TCP_NEVER);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void rfc9293_3_6_both_close_at_once(void **state)
{
	(void)state;
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h_input((struct seg){.flags = TCP_FIN}), TCP_EVENT_READABLE); /* does not acknowledge ours */
	assert_int_equal(h.ep->state, TCP_CLOSING);
	h_output();
	assert_int_equal(h.sent[0].ack, 1);
	assert_int_equal(h_input((struct seg){.seq = 1, .ack = 1}), 0);
	assert_int_equal(h.ep->state, TCP_TIME_WAIT);
	assert_int_equal(h_next_deadline(), TCP_EVENT_CLOSED);
}

static void rfc9293_3_6_a_fin_that_acknowledges_ours(void **state)
{
	(void)state;
	tcp_shutdown(h.ep);
	h_output();
	h_input((struct seg){.ack = 1, .flags = TCP_FIN});
	assert_int_equal(h.ep->state, TCP_TIME_WAIT);
}

static void rfc9293_3_6_a_lost_fin_goes_again(void **state)
{
	(void)state;
	h_write(10);
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].segment.flags & TCP_FIN);
	h_ack(10);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, 10);
	assert_int_equal(h.sent[0].segment.payload_len, 0);
	assert_true(h.sent[0].segment.flags & TCP_FIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(acknowledged_bytes_make_room),
		H_TEST_PREPARED(rfc7323_2_windows_are_scaled),
		H_TEST(rfc9293_3_10_7_4_an_old_segment_does_not_set_the_window),
		H_TEST_PREPARED(rfc5681_2_a_window_update_is_no_duplicate_ack),
		H_TEST(rfc9293_3_6_half_close_by_us_leaves_the_other_direction_open),
		H_TEST(rfc9293_3_6_half_close_by_the_peer_leaves_our_direction_open),
		H_TEST(rfc9293_3_6_both_close_at_once),
		H_TEST(rfc9293_3_6_a_fin_that_acknowledges_ours),
		H_TEST(rfc9293_3_6_a_lost_fin_goes_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
