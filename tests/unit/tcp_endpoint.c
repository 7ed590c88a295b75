/* tcp/endpoint.c: adoption from a tracker's numbers, writing, aborting, ICMP. */
#include "tcp_harness.h"

static struct tcp_info info(void)
{
	struct tcp_info i;
	tcp_info(h.ep, &i);
	return i;
}

static void unacked(uint32_t len)
{
	h.adoption.snd_nxt = OUT + len;
	h.adoption.unacked = h_bytes;
	h_adopt();
}

static void adoption_begins_where_the_tracker_stopped(void **state)
{
	(void)state;
	unacked(700);
	assert_int_equal(info().snd_una, OUT);
	assert_int_equal(info().snd_nxt, OUT + 700);
	assert_int_equal(info().rcv_nxt, IN);
	assert_int_equal(info().snd_wnd, H_WINDOW);
	assert_int_equal(tcp_unacked(h.ep), 700);
	assert_int_equal(tcp_unsent(h.ep), 0);
	h_write(100);
	h_output();
	assert_int_equal(h.sent_count, 1); /* what has been sent is not sent again yet */
	assert_int_equal(h.sent[0].seq, 700);
}

static void bytes_sent_before_adoption_are_retransmitted(void **state)
{
	(void)state;
	unacked(1700);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].seq, 0);
	assert_memory_equal(h.sent[0].bytes, h_bytes, 1000);
	h_ack(1000);
	h_output();
	assert_int_equal(h.sent[0].seq, 1000);
	assert_memory_equal(h.sent[0].bytes, h_bytes + 1000, 700);
}

static void the_peer_may_have_acknowledged_them(void **state)
{
	(void)state;
	unacked(700);
	assert_int_equal(h_ack(700), TCP_EVENT_WRITABLE);
	assert_int_equal(tcp_unacked(h.ep), 0);
	assert_int_equal(tcp_pool_used(h.pool), 0);
	assert_int_equal(h.ep->rtx_at_us, TCP_NEVER);
}

static void more_unacked_than_the_send_buffer(void **state)
{
	(void)state;
	h.limits.send_buffer_bytes_max = 1000;
	unacked(5000);
	assert_int_equal(tcp_write_room(h.ep), 0);
	assert_int_equal(tcp_unacked(h.ep), 5000);
}

static void without_memory_there_is_no_endpoint(void **state)
{
	(void)state;
	struct tcp_pool *small = tcp_pool_new(1);
	h.adoption.snd_nxt = OUT + 5000;
	h.adoption.unacked = h_bytes;
	assert_null(tcp_adopt(small, &h.adoption, &h.limits, h.now_us));
	assert_int_equal(tcp_pool_used(small), 0);
	tcp_pool_free(small);
}

static void absurd_numbers_are_bounded(void **state)
{
	(void)state;
	h.adoption.mss = 1;
	h.adoption.snd_wscale = h.adoption.rcv_wscale = 255;
	h.adoption.rcv_edge = IN - 5;
	h_adopt();
	assert_int_equal(h.ep->mss, TCP_MSS_MIN);
	assert_int_equal(h.ep->snd_wscale, 14);
	assert_int_equal(h.ep->rcv_wscale, 14);
	assert_false(seq_before(info().rcv_edge, IN));
	tcp_free(h.ep);
	h.adoption.mss = 9000;
	h_adopt();
	assert_int_equal(h.ep->mss, TCP_MSS_MAX);
	tcp_free(h.ep);
	h.adoption.mss = 0;
	h_adopt();
	assert_int_equal(h.ep->mss, 536);
}

static void the_first_output_opens_a_clamped_window(void **state)
{
	(void)state;
	h.adoption.rcv_edge = IN + 300;
	h.ep = tcp_adopt(h.pool, &h.adoption, &h.limits, h.now_us);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].segment.window, 65535);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void an_edge_wider_than_the_buffer_is_kept(void **state)
{
	(void)state;
	h.limits.receive_buffer_bytes_max = 4096;
	h_adopt();
	h_input((struct seg){.len = 100});
	h_next_deadline();
	assert_int_equal(h.sent[0].ack + h.sent[0].segment.window, H_EDGE);
}

static void writing_stops_at_the_limit(void **state)
{
	(void)state;
	h.limits.send_buffer_bytes_max = 10000;
	h_adopt();
	assert_int_equal(tcp_write_room(h.ep), 10000);
	assert_int_equal(tcp_write(h.ep, h_bytes, 20000), 10000);
	assert_int_equal(tcp_write_room(h.ep), 0);
	assert_int_equal(tcp_unsent(h.ep), 10000);
}

static void writing_stops_at_the_pool(void **state)
{
	(void)state;
	tcp_pool_free(h.pool);
	h.pool = tcp_pool_new(8);
	h_adopt();
	h_write(4000);
	h_output();
	h_ack(4000); /* the next chunk begins in its middle */
	size_t room = tcp_write_room(h.ep);
	assert_int_equal(room, 7 * TCP_CHUNK_BYTES - 4000);
	assert_int_equal(tcp_write(h.ep, h_bytes + 4000, 100000), room);
	assert_int_equal(tcp_write_room(h.ep), 0);
}

static void abort_sends_one_rst(void **state)
{
	(void)state;
	h_write(100);
	h_output();
	h_input((struct seg){.len = 50});
	tcp_abort(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].segment.flags, TCP_RST | TCP_ACK);
	assert_int_equal(h.sent[0].seq, 100);
	assert_int_equal(h.sent[0].ack, 50);
	h_output();
	assert_int_equal(h.sent_count, 0);
	assert_true(info().dead);
	assert_int_equal(tcp_unacked(h.ep), 0);
	assert_int_equal(tcp_write(h.ep, h_bytes, 10), 0);
	tcp_abort(h.ep);
	tcp_shutdown(h.ep);
	h_output();
	assert_int_equal(h.sent_count, 0);
}

static void what_came_before_a_reset_can_be_read(void **state)
{
	(void)state;
	h_input((struct seg){.len = 50});
	assert_int_equal(h_input((struct seg){.seq = 50, .flags = TCP_RST}), TCP_EVENT_RESET);
	size_t len;
	assert_memory_equal(tcp_peek(h.ep, &len), h_bytes, 50);
	assert_int_equal(len, 50);
	tcp_consume(h.ep, 50);
	assert_false(tcp_eof(h.ep));
	assert_null(tcp_peek(h.ep, &len));
	assert_int_equal(len, 0);
}

/* RFC 5927, 4.1; RFC 1191 */
static void rfc5927_7_too_big_counts_for_what_is_in_flight(void **state)
{
	(void)state;
	h_write(3000);
	assert_false(tcp_too_big(h.ep, OUT, 700)); /* nothing sent */
	h_output();
	h_ack(1000);
	assert_false(tcp_too_big(h.ep, OUT + 999, 700));
	assert_false(tcp_too_big(h.ep, OUT + 3000, 700));
	assert_false(tcp_too_big(h.ep, OUT + 1000, 1000)); /* no news */
	uint32_t cwnd = info().cwnd;
	assert_true(tcp_too_big(h.ep, OUT + 1000, 700));
	h_output();
	assert_int_equal(h.sent_count, 3);
	assert_int_equal(h.sent[0].seq, 1000);
	assert_int_equal(h.sent[0].segment.payload_len, 700);
	assert_int_equal(h.sent[2].segment.payload_len, 600);
	assert_int_equal(info().cwnd, cwnd);
	assert_true(tcp_too_big(h.ep, OUT + 1000, 20)); /* not below the floor */
	h_output();
	assert_int_equal(h.sent[0].segment.payload_len, 536);
	assert_false(tcp_too_big(h.ep, OUT + 1000, 20));
}

static void freeing_nothing(void **state)
{
	(void)state;
	tcp_free(NULL);
	h_write(10000);
	h_input((struct seg){.seq = 5000, .len = 100}); /* teardown looks for leaks */
	assert_int_equal(tcp_pool_used(h.pool), 4);
}

static void copying_goes_over_all_chunks(void **state)
{
	uint8_t out[3 * TCP_CHUNK_BYTES];
	(void)state;
	for (uint32_t at = 0; at < 10000; at += 1000)
		h_input((struct seg){.seq = at, .len = 1000});
	tcp_consume(h.ep, 300);
	assert_int_equal(tcp_copy(h.ep, out, 9000), 9000);
	assert_memory_equal(out, h_bytes + 300, 9000);
	assert_int_equal(tcp_copy(h.ep, out, sizeof(out)), 9700);
	assert_int_equal(tcp_readable(h.ep), 9700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(copying_goes_over_all_chunks),
		H_TEST_PREPARED(adoption_begins_where_the_tracker_stopped),
		H_TEST_PREPARED(bytes_sent_before_adoption_are_retransmitted),
		H_TEST_PREPARED(the_peer_may_have_acknowledged_them),
		H_TEST_PREPARED(more_unacked_than_the_send_buffer),
		H_TEST_PREPARED(without_memory_there_is_no_endpoint),
		H_TEST_PREPARED(absurd_numbers_are_bounded),
		H_TEST_PREPARED(the_first_output_opens_a_clamped_window),
		H_TEST_PREPARED(an_edge_wider_than_the_buffer_is_kept),
		H_TEST_PREPARED(writing_stops_at_the_limit),
		H_TEST_PREPARED(writing_stops_at_the_pool),
		H_TEST(abort_sends_one_rst),
		H_TEST(what_came_before_a_reset_can_be_read),
		H_TEST(rfc5927_7_too_big_counts_for_what_is_in_flight),
		H_TEST(freeing_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
