/* flow/stream.c: in-order approval, holding, splitting, first copy wins. */
#include "flow_harness.h"

static void approved_bytes_pass_in_order(void **state)
{
	(void)state;
	h_handshake();
	h_data(SERVER, 1, 1, "220 hi\r\n");
	h_data(CLIENT, 1, 9, "EHLO x\r\n");
	assert_int_equal(h.sent_count, 2);
	h_sent(0, SERVER, 1, "220 hi\r\n");
	h_sent(1, CLIENT, 1, "EHLO x\r\n");
}

static void unapproved_bytes_wait_and_are_split(void **state)
{
	(void)state;
	h_handshake();
	h.approve[CLIENT] = 6;
	h_data(CLIENT, 1, 1, "RSET\r\nMAIL FROM:<>\r\n");
	assert_int_equal(h.sent_count, 1);
	h_sent(0, CLIENT, 1, "RSET\r\n");
	assert_int_equal(stats_get(h.stats, STAT_split_segments), 1);
	assert_true(flow_has_held(h.last, CLIENT));
	h_data(CLIENT, 1, 1, "RSET\r\nMAIL FROM:<>\r\n"); /* again: the approved part only */
	assert_int_equal(h.sent_count, 2);
	h_sent(1, CLIENT, 1, "RSET\r\n");
	h.approve[CLIENT] = UINT64_MAX;
	flow_follow_held(h.table, h.last);
	assert_int_equal(h.sent_count, 3);
	h_sent(2, CLIENT, 7, "MAIL FROM:<>\r\n");
}

static void out_of_order_is_held_until_the_hole_is_filled(void **state)
{
	(void)state;
	h_handshake();
	h_data(CLIENT, 7, 1, "MAIL FROM:<>\r\n");
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(h.streamed[CLIENT], 0);
	h_data(CLIENT, 1, 1, "NOOP\r\n");
	assert_int_equal(h.sent_count, 2);
	h_sent(0, CLIENT, 1, "NOOP\r\n");
	h_sent(1, CLIENT, 7, "MAIL FROM:<>\r\n");
	assert_memory_equal(h.stream[CLIENT], "NOOP\r\nMAIL", 10);
}

static void a_retransmission_with_other_bytes_goes_as_its_first_copy(void **state)
{
	(void)state;
	h_handshake();
	h_data(CLIENT, 1, 1, "NOOP\r\n");
	h_data(CLIENT, 1, 1, "EVIL\r\n");
	assert_int_equal(h.sent_count, 2);
	h_sent(1, CLIENT, 1, "NOOP\r\n");
	assert_int_equal(stats_get(h.stats, STAT_rewritten_segments), 1);
}

static void a_coalesced_retransmission_resends_the_old_part(void **state)
{
	(void)state;
	h_handshake();
	h_data(CLIENT, 1, 1, "NOOP\r\n");
	h_data(CLIENT, 1, 1, "XXXX\r\nRSET\r\n");
	assert_int_equal(h.sent_count, 3);
	h_sent(1, CLIENT, 1, "NOOP\r\n");
	h_sent(2, CLIENT, 7, "RSET\r\n");
}

static void overlaps_in_waiting_keep_the_first_copy(void **state)
{
	(void)state;
	h_handshake();
	h_data(CLIENT, 5, 1, "EFGH");
	h_data(CLIENT, 3, 1, "cdXXXX"); /* its tail overlaps what waits */
	h_data(CLIENT, 7, 1, "YYIJ");   /* its head does */
	h_data(CLIENT, 5, 1, "ZZ");     /* a copy */
	h_data(CLIENT, 1, 1, "ab");
	assert_memory_equal(h.stream[CLIENT], "abcdEFGHIJ", 10);
	assert_int_equal(h.streamed[CLIENT], 10);
}

/* The same in the worst order; and behind them a segment that nothing can be merged with: seed 20644. */
static void small_segments_out_of_order_are_joined(void **state)
{
	char large[537], all[129] = "";
	(void)state;
	h_handshake();
	memset(large, 'L', 536);
	large[536] = 0;
	h.approve[CLIENT] = 0;
	for (int odd = 1; odd >= 0; odd--)
		for (uint32_t i = (uint32_t)odd; i < 128; i += 2)
			h_data(CLIENT, 1 + i, 1, "s");
	h_data(CLIENT, 129, 1, large);
	memset(all, 's', 128);
	assert_int_equal(h.streamed[CLIENT], 128 + 536);
	assert_memory_equal(h.stream[CLIENT], all, 128);
	assert_memory_equal(h.stream[CLIENT] + 128, large, 536);
}

static void holding_is_limited(void **state)
{
	(void)state;
	h_handshake();
	for (uint32_t i = 0; i < flow_limits_default.held_segments_max + 3; i++)
		h_data(CLIENT, 3 + 2 * i, 1, "x");
	assert_int_equal(stats_get(h.stats, STAT_drop_held_limit), 3);
	assert_int_equal(h.sent_count, 0);
	h_data(CLIENT, 2, 1, "y"); /* what is nearer is needed first: the furthest goes */
	assert_int_equal(stats_get(h.stats, STAT_drop_held_limit), 4);
	assert_int_equal(flow_held_total(h.table), flow_limits_default.held_segments_max);
	h_data(CLIENT, 1, 1, "z");
	assert_int_equal(h.streamed[CLIENT], 3);
}

/* More segments than may be held, each of one byte, that pass only together: found by the simulator, seed 186. */
static void small_segments_are_merged(void **state)
{
	char hello[501];
	(void)state;
	h_handshake();
	for (uint32_t i = 0; i < sizeof(hello) - 1; i++)
		hello[i] = (char)('a' + i % 26);
	hello[500] = 0;
	h.approve[CLIENT] = 0;
	for (uint32_t i = 0; i < 500; i++) {
		char one[2] = {hello[i], 0};
		h_data(CLIENT, 1 + i, 1, one);
	}
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(h.streamed[CLIENT], 500);
	assert_memory_equal(h.stream[CLIENT], hello, 500);
	assert_int_equal(stats_get(h.stats, STAT_drop_held_limit), 0);
	assert_true(flow_held_total(h.table) <= flow_limits_default.held_segments_max);
	h.approve[CLIENT] = 480; /* splits one that was merged */
	flow_follow_held(h.table, h.last);
	h.approve[CLIENT] = UINT64_MAX;
	flow_follow_held(h.table, h.last);
	uint32_t sent = 0;
	for (unsigned i = 0; i < h.sent_count; i++) {
		assert_int_equal(h.sent[i].seq, CLIENT_ISN + 1 + sent);
		assert_memory_equal(h.sent[i].payload, hello + sent, h.sent[i].len);
		sent += h.sent[i].len;
	}
	assert_int_equal(sent, 500);
}

static void kept_bytes_stop_the_release_until_acknowledged(void **state)
{
	char line[1001];
	uint32_t len;
	(void)state;
	h_handshake();
	memset(line, 'a', 1000);
	line[1000] = 0;
	for (uint32_t i = 0; i < 5; i++)
		h_data(SERVER, 1 + i * 1000, 1, line);
	assert_int_equal(h.sent_count, 4); /* FLOW_KEPT_BYTES_MAX is 4096 */
	flow_kept(h.last, SERVER, &len);
	assert_int_equal(len, 4000);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 2001});
	assert_int_equal(h.sent_count, 6); /* the ACK, and what waited */
	h_sent(5, SERVER, 4001, line);
	flow_kept(h.last, SERVER, &len);
	assert_int_equal(len, 3000);
}

static void adoption_hands_over_what_is_held(void **state)
{
	uint32_t len;
	(void)state;
	h_handshake();
	h_data(SERVER, 1, 1, "220 hi\r\n");
	h.approve[CLIENT] = 0;
	h_data(CLIENT, 1, 9, "MAIL FROM:<>\r\n");
	h_data(CLIENT, 15, 9, "RCPT TO:<a@b>\r\n");
	assert_int_equal(h.last->side[CLIENT].next - CLIENT_ISN, 1);
	assert_int_equal(h.last->side[SERVER].next - SERVER_ISN, 9);
	assert_int_equal(h.last->side[SERVER].acked - SERVER_ISN, 9);
	assert_int_equal(h.last->side[CLIENT].edge, SERVER_ISN + 9 + (8192u << 7));
	flow_kept(h.last, SERVER, &len);
	assert_int_equal(len, 0);
	struct flow *flow = h.last;
	flow_enter_state(h.table, flow, FLOW_TAKEN, h.now);
	flow_drain(h.table, flow);
	assert_int_equal(h.taken, 2);
	h.sent_count = 0;
	h_data(SERVER, 9, 1, "250 ok\r\n");
	assert_int_equal(h.taken, 3);
	flow_enter_state(h.table, flow, FLOW_CLOSED, h.now);
	h_data(SERVER, 9, 1, "250 ok\r\n");
	assert_int_equal(h.sent_count, 0); /* never forwarded again */
}

static void a_fin_waits_for_the_bytes_before_it(void **state)
{
	(void)state;
	h_handshake();
	h.approve[CLIENT] = 0;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK | PACKET_FIN, .seq = 1, .ack = 1, .payload = "QUIT\r\n"});
	assert_int_equal(h.sent_count, 0);
	h.approve[CLIENT] = 6;
	flow_follow_held(h.table, h.last);
	assert_int_equal(h.sent_count, 1);
	assert_true(h.sent[0].flags & PACKET_FIN);
	assert_true(h.last->side[CLIENT].fin_sent);
}

/* A stream has one end: found by fuzzing. */
static void a_second_fin_before_the_first_is_taken_off(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 1, .payload = "QUIT\r\n"});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 1, .payload = "QUI"});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_FIN | PACKET_ACK, .seq = 7, .ack = 1}); /* the first one again */
	assert_int_equal(h.sent_count, 3);
	assert_true(h.sent[0].flags & PACKET_FIN && h.sent[2].flags & PACKET_FIN);
	assert_false(h.sent[1].flags & PACKET_FIN);
	h_sent(1, CLIENT, 1, "QUI");
	assert_int_equal(h.last->side[CLIENT].fin_seq, CLIENT_ISN + 7);
}

static void a_followed_flow_passes_at_once_and_is_read_in_order(void **state)
{
	(void)state;
	h_handshake();
	h.last->observed = true;
	flow_enter_state(h.table, h.last, FLOW_CLEAR, h.now);
	h_data(CLIENT, 4, 1, "def");
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.streamed[CLIENT], 0);
	h_data(CLIENT, 1, 1, "abc");
	assert_int_equal(h.sent_count, 2);
	assert_memory_equal(h.stream[CLIENT], "abcdef", 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, h_setup, h_teardown)
		T(approved_bytes_pass_in_order), T(unapproved_bytes_wait_and_are_split),
		T(out_of_order_is_held_until_the_hole_is_filled), T(a_retransmission_with_other_bytes_goes_as_its_first_copy),
		T(a_coalesced_retransmission_resends_the_old_part), T(overlaps_in_waiting_keep_the_first_copy),
		T(holding_is_limited), T(small_segments_are_merged), T(small_segments_out_of_order_are_joined), T(kept_bytes_stop_the_release_until_acknowledged),
		T(adoption_hands_over_what_is_held), T(a_fin_waits_for_the_bytes_before_it),
		T(a_second_fin_before_the_first_is_taken_off), T(a_followed_flow_passes_at_once_and_is_read_in_order),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
