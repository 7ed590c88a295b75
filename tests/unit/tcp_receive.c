/* tcp/receive.c: reassembly, delayed ACKs, the window, SACK and DSACK blocks. */
#include "tcp_harness.h"

static unsigned data(uint32_t seq, uint32_t len)
{
	return h_input((struct seg){.seq = seq, .len = len});
}

static void assert_read(uint32_t from, uint32_t len)
{
	while (len) {
		size_t piece;
		const uint8_t *bytes = tcp_peek(h.ep, &piece);
		assert_non_null(bytes);
		if (piece > len)
			piece = len;
		assert_memory_equal(bytes, h_bytes + from, piece);
		tcp_consume(h.ep, piece);
		from += (uint32_t)piece;
		len -= (uint32_t)piece;
	}
}

static uint32_t offered(const struct h_sent *sent)
{
	return sent->ack + ((uint32_t)sent->segment.window << h.adoption.rcv_wscale);
}

static void assert_block(const struct h_sent *sent, int i, uint32_t start, uint32_t end)
{
	assert_in_range(sent->segment.sack_count, i + 1, TCP_SACK_MAX);
	assert_int_equal(sent->segment.sack[i].start - IN, start);
	assert_int_equal(sent->segment.sack[i].end - IN, end);
}

static void an_ack_is_delayed_40_ms(void **state)
{
	(void)state;
	assert_int_equal(data(0, 100), TCP_EVENT_READABLE);
	h_output();
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(tcp_deadline_us(h.ep), h.now_us + 40 * MILLISECONDS);
	h_next_deadline();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 100);
}

static void rfc5681_4_2_every_second_segment_is_acknowledged_at_once(void **state)
{
	(void)state;
	data(0, 100);
	data(100, 100);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 200);
	assert_int_equal(h.ep->delayed_ack_at_us, TCP_NEVER);
}

static void only_what_the_peer_counts_is_answered_at_once(void **state)
{
	(void)state;
	data(0, 100);
	data(100, 100);
	assert_false(tcp_answer_at_once(h.ep)); /* due, but one ACK does for a burst */
	h_output();
	data(300, 100);
	assert_true(tcp_answer_at_once(h.ep)); /* out of order */
	h_output();
	assert_false(tcp_answer_at_once(h.ep));
	data(200, 100);
	h_output();
	data(0, 100);
	assert_true(tcp_answer_at_once(h.ep)); /* DSACK tells of one duplicate at a time */
}

static void rfc9293_3_8_6_3_data_of_our_own_carries_the_ack(void **state)
{
	(void)state;
	data(0, 100);
	h_write(10);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 100);
	assert_int_equal(h.ep->delayed_ack_at_us, TCP_NEVER);
}

static void segments_are_put_in_order(void **state)
{
	(void)state;
	assert_int_equal(data(6000, 1000), 0);
	assert_int_equal(data(2000, 3000), 0);
	assert_int_equal(data(4000, 2500), 0); /* overlaps both */
	assert_int_equal(tcp_readable(h.ep), 0);
	assert_int_equal(data(0, 2000), TCP_EVENT_READABLE);
	assert_int_equal(tcp_readable(h.ep), 7000);
	assert_read(0, 7000);
	assert_int_equal(tcp_pool_used(h.pool), 0);
}

static void rfc2018_4_out_of_order_is_acknowledged_at_once_with_sack(void **state)
{
	(void)state;
	data(1000, 500);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 0);
	assert_int_equal(h.sent[0].segment.sack_count, 1);
	assert_block(&h.sent[0], 0, 1000, 1500);
	data(0, 100); /* fills a part of the hole: at once as well (RFC 5681, 4.2) */
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].ack, 100);
}

static void rfc2018_4_the_newest_sack_block_comes_first(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= 6; i++)
		data(i * 1000, 100);
	data(3100, 100);
	h_output();
	assert_int_equal(h.sent[0].segment.sack_count, 4);
	assert_block(&h.sent[0], 0, 3000, 3200);
	assert_block(&h.sent[0], 1, 6000, 6100);
	assert_block(&h.sent[0], 2, 5000, 5100);
}

static void rfc2018_3_three_blocks_beside_timestamps(void **state)
{
	(void)state;
	h.adoption.ts_ok = true;
	h_adopt();
	for (uint32_t i = 1; i <= 6; i++)
		data(i * 1000, 100);
	h_output();
	assert_int_equal(h.sent[0].segment.sack_count, 3);
}

static void without_sack_no_blocks(void **state)
{
	(void)state;
	h.adoption.sack_ok = false;
	h_adopt();
	data(1000, 100);
	data(1000, 100);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].segment.sack_count, 0);
}

/* RFC 2883 */
static void rfc2883_4_duplicate_data_is_answered_with_dsack(void **state)
{
	(void)state;
	data(0, 500);
	data(500, 500);
	h_output();
	data(200, 300);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_block(&h.sent[0], 0, 200, 500);
	data(5000, 100);
	h_output();
	assert_int_equal(h.sent[0].segment.sack_count, 1); /* reported once */
	assert_block(&h.sent[0], 0, 5000, 5100);
	data(5000, 100); /* above a hole: the duplicate, then the block that holds it */
	h_output();
	assert_int_equal(h.sent[0].segment.sack_count, 2);
	assert_block(&h.sent[0], 0, 5000, 5100);
	assert_block(&h.sent[0], 1, 5000, 5100);
	data(900, 200); /* an old head */
	h_output();
	assert_block(&h.sent[0], 0, 900, 1000);
	assert_int_equal(h.sent[0].ack, 1100);
}

static void rfc9293_3_8_6_the_right_edge_never_shrinks(void **state)
{
	(void)state;
	h.adoption.rcv_wscale = 7;
	h.adoption.rcv_edge = IN + 30001; /* no multiple of the scale */
	h.limits.receive_buffer_bytes_max = 8192;
	h.ep = tcp_adopt(h.pool, &h.adoption, &h.limits, h.now_us);
	uint32_t edge = 30001;
	for (uint32_t at = 0; at < 7000; at += 77) {
		data(at, 77);
		data(at, 77); /* the duplicate forces an ACK */
		h_output();
		assert_int_equal(h.sent_count, 1);
		assert_true(offered(&h.sent[0]) >= edge);
		assert_in_range(offered(&h.sent[0]), 30001, 30001 + 128 + 7000);
		edge = offered(&h.sent[0]);
	}
}

static void a_full_buffer_closes_the_window_and_reading_opens_it(void **state)
{
	(void)state;
	h.limits.receive_buffer_bytes_max = 20000;
	h_adopt();
	for (uint32_t at = 0; at < 20000; at += 1000)
		assert_int_equal(data(at, 1000), TCP_EVENT_READABLE);
	h_output();
	assert_int_equal(h.sent[0].segment.window, 0);
	assert_read(0, 500); /* silly window: less than a segment is not worth an update */
	h_output();
	assert_int_equal(h.sent_count, 0);
	assert_read(500, 1500);
	h_output();
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(offered(&h.sent[0]), 22000);
}

static void the_window_grows_with_the_rate_to_its_limit(void **state)
{
	(void)state;
	h.adoption.rcv_wscale = 3;
	h.limits.receive_buffer_bytes_max = 200000;
	h_adopt();
	uint32_t at = 0, widest = 0;
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 30; i++, at += 1000) {
			if (data(at, 1000) != TCP_EVENT_READABLE)
				fail();
			assert_read(at, 1000);
			h_output();
			for (unsigned n = 0; n < h.sent_count; n++)
				widest = max_u32(widest, offered(&h.sent[n]) - h.sent[n].ack);
		}
		h_pass(100 * MILLISECONDS);
	}
	assert_in_range(widest, 65536, 65536); /* 30 KB a round trip do not need more */
	for (int round = 0; round < 8; round++) {
		uint32_t many = h.ep->window_target / 1000;
		for (uint32_t i = 0; i < many; i++, at += 1000) {
			data(at, 1000);
			tcp_consume(h.ep, 1000);
			h_output();
		}
		h_pass(100 * MILLISECONDS);
	}
	assert_int_equal(h.ep->window_target, 200000);
}

static void promises_stay_within_the_pool(void **state)
{
	(void)state;
	tcp_pool_free(h.pool);
	h.pool = tcp_pool_new(16);
	h.adoption.rcv_edge = IN;
	h.ep = tcp_adopt(h.pool, &h.adoption, &h.limits, h.now_us);
	h_output();
	assert_int_equal(offered(&h.sent[0]), 8 * TCP_CHUNK_BYTES);
}

static void what_finds_no_chunk_is_dropped_and_comes_again(void **state)
{
	(void)state;
	tcp_pool_free(h.pool);
	h.pool = tcp_pool_new(8);
	h_adopt();
	uint8_t *taken[6];
	for (int i = 0; i < 6; i++)
		taken[i] = tcp_chunk_take(h.pool);
	assert_int_equal(data(0, 10000), TCP_EVENT_READABLE);
	assert_int_equal(tcp_readable(h.ep), 8192);
	h_output();
	assert_int_equal(h.sent[0].ack, 8192);
	assert_int_equal(data(12000, 100), TCP_EVENT_BAD); /* out of order: the last eighth is not for it */
	for (int i = 0; i < 6; i++)
		tcp_chunk_give(h.pool, taken[i]);
	assert_int_equal(data(8192, 1808), TCP_EVENT_READABLE);
	assert_read(0, 10000);
}

static void holes_are_bounded(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= TCP_RANGES_MAX; i++)
		assert_int_equal(data(i * 100, 10), 0);
	assert_int_equal(data(15000, 10), TCP_EVENT_BAD);
	assert_int_equal(data(0, 15000), TCP_EVENT_READABLE); /* and the stream goes on */
	assert_read(0, 15000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST(an_ack_is_delayed_40_ms),
		H_TEST(rfc5681_4_2_every_second_segment_is_acknowledged_at_once),
		H_TEST(rfc9293_3_8_6_3_data_of_our_own_carries_the_ack),
		H_TEST(segments_are_put_in_order),
		H_TEST(rfc2018_4_out_of_order_is_acknowledged_at_once_with_sack),
		H_TEST(rfc2018_4_the_newest_sack_block_comes_first),
		H_TEST_PREPARED(rfc2018_3_three_blocks_beside_timestamps),
		H_TEST_PREPARED(without_sack_no_blocks),
		H_TEST(only_what_the_peer_counts_is_answered_at_once),
		H_TEST(rfc2883_4_duplicate_data_is_answered_with_dsack),
		H_TEST_PREPARED(rfc9293_3_8_6_the_right_edge_never_shrinks),
		H_TEST_PREPARED(a_full_buffer_closes_the_window_and_reading_opens_it),
		H_TEST_PREPARED(the_window_grows_with_the_rate_to_its_limit),
		H_TEST_PREPARED(promises_stay_within_the_pool),
		H_TEST_PREPARED(what_finds_no_chunk_is_dropped_and_comes_again),
		H_TEST(holes_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
