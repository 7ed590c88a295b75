/* flow/track.c: handshake, RST and FIN, joining, what is dropped. */
#include "flow_harness.h"

static void a_handshake_is_followed(void **state)
{
	(void)state;
	h_handshake();
	assert_int_equal(h.opened, 1);
	assert_int_equal(h.last->side[CLIENT].mss, 1460);
	assert_int_equal(h.last->side[CLIENT].wscale, 7);
	assert_true(h.last->sack_ok);
	assert_false(h.last->ts_ok);
	assert_int_equal(h.last->side[SERVER].next, SERVER_ISN + 1);
}

static void window_scaling_needs_both(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .syn_options = true});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.last->side[CLIENT].wscale, 0);
	assert_false(h.last->sack_ok);
}

static void a_syn_loses_data_and_fast_open(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .syn_options = true, .syn_tfo = true, .payload = "EHLO evil\r\n"});
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.sent[0].len, 0);
	assert_int_equal(stats_get(h.stats, STAT_syn_cleaned), 1);
}

static void a_second_synack_with_another_isn_is_dropped(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .seq = 500, .ack = 1});
	assert_int_equal(h.sent_count, 2);
	assert_int_equal(stats_get(h.stats, STAT_drop_state), 1);
}

static void a_split_handshake_is_dropped(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN});
	assert_int_equal(h.sent_count, 1);
}

static void a_bad_checksum_is_dropped(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1, .payload = "NOOP\r\n", .bad_checksum = true});
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(stats_get(h.stats, STAT_drop_checksum), 1);
}

static void packets_of_a_side_come_by_its_port(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1, .payload = "NOOP\r\n", .wrong_side = true});
	assert_int_equal(h.sent_count, 0);
}

static void an_ack_of_what_was_not_forwarded_is_dropped(void **state)
{
	(void)state;
	h_handshake();
	h.approve[CLIENT] = 0;
	h_data(CLIENT, 1, 1, "MAIL FROM:<>\r\n");
	h_packet((struct seg){.from = SERVER, .flags = PACKET_ACK, .seq = 1, .ack = 15});
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(stats_get(h.stats, STAT_drop_state), 1);
}

/* RFC 5961, section 3.2 */
static void only_an_exact_rst_ends_a_flow(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 200000000});
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(stats_get(h.stats, STAT_drop_reset), 1);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 50});
	assert_int_equal(h.sent_count, 1); /* in the window: the server challenges it */
	assert_int_equal(h.last->state, FLOW_DIALOGUE);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 1});
	assert_int_equal(h.sent_count, 2);
	assert_int_equal(h.last->state, FLOW_CLOSED);
	assert_int_equal(h.closed, 1);
}

static void a_rst_behind_held_bytes_is_moved_to_the_servers_view(void **state)
{
	(void)state;
	h_handshake();
	h.approve[CLIENT] = 0;
	h_data(CLIENT, 1, 1, "MAIL FROM:<>\r\n");
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 15});
	assert_int_equal(h.sent_count, 1);
	h_sent(0, CLIENT, 1, "");
	assert_int_equal(h.last->state, FLOW_CLOSED);
}

static void a_refused_connection_closes(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_RST | PACKET_ACK, .ack = 1});
	assert_int_equal(h.sent_count, 2);
	assert_int_equal(h.last->state, FLOW_CLOSED);
}

static void both_fins_close_and_the_port_can_be_used_again(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 1});
	h_packet((struct seg){.from = SERVER, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 2});
	assert_int_equal(h.last->state, FLOW_DIALOGUE);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 2, .ack = 2});
	assert_int_equal(h.last->state, FLOW_CLOSED);
	assert_int_equal(h.closed, 1);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	assert_int_equal(h.opened, 2);
	assert_int_equal(flow_count(h.table), 1);
}

static void a_flow_joined_in_the_middle_is_asked_about(void **state)
{
	(void)state;
	h_data(CLIENT, 100, 100, "\x17\x03\x03");
	assert_int_equal(h.joined, 1);
	assert_int_equal(h.sent_count, 1);
	h.join_as = FLOW_CUT;
	h_packet((struct seg){.from = CLIENT, .port = 40001, .flags = PACKET_ACK, .seq = 100, .ack = 100, .payload = "MAIL"});
	assert_int_equal(h.joined, 2);
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(stats_get(h.stats, STAT_drop_cut), 1);
}

static void a_syn_while_open_is_left_to_the_endpoint(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .seq = 5000});
	assert_int_equal(h.sent_count, 1);
	assert_int_equal(h.last->state, FLOW_DIALOGUE);
	assert_int_equal(h.opened, 1);
}

/* The RST that told a peer may have been lost: found by the simulator, seed 280. */
static void who_speaks_to_a_cut_flow_is_told(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_CUT, h.now);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 1});
	assert_int_equal(h.gone, 0);
	h_data(CLIENT, 1, 1, "MAIL");
	h_packet((struct seg){.from = SERVER, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.gone, 2);
	assert_int_equal(h.sent_count, 0);
}

/* ... and it does not come to be a flow of its own, however long the peer goes on. */
static void a_taken_flow_lingers_while_it_is_spoken_to(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_TAKEN, h.now);
	flow_drain(h.table, h.last);
	flow_enter_state(h.table, h.last, FLOW_CLOSED, h.now);
	for (int i = 0; i < 5; i++) {
		h_data(SERVER, 1, 1, "250 ok\r\n");
		for (uint64_t until = h.now + flow_limits_default.cut_linger_us - 100000; h.now < until;)
			flow_sweep(h.table, h.now += FLOW_SWEEP_US);
	}
	assert_int_equal(h.gone, 5);
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(h.joined, 0);
}

/* The client's right edge begins at its SYN's window, wherever in the sequence space the server's numbers lie. */
static void the_first_edge_is_right_for_every_isn(void **state)
{
	static const uint32_t isns[] = {0, 0x7fffff00u, 0x7fff8000u, 0x80000001u, 0xbfffffffu, 0xfffffff0u};
	(void)state;
	for (unsigned i = 0; i < sizeof(isns) / sizeof(isns[0]); i++) {
		server_isn = isns[i];
		h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .syn_options = true});
		h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .ack = 1, .syn_options = true});
		assert_int_equal(h.last->side[CLIENT].edge, SERVER_ISN + 1 + 8192);
		h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1});
		h.approve[SERVER] = h.streamed[SERVER] + 8;
		h.sent_count = 0;
		h_data(SERVER, 1, 1, "220 hi\r\n");
		assert_int_equal(h.sent_count, 1);
		h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 1});
		for (int k = 0; k < 2000; k++)
			flow_sweep(h.table, h.now += FLOW_SWEEP_US);
		assert_int_equal(flow_count(h.table), 0);
	}
	server_isn = 0xfffffff0u;
}

/* Its receiver drops it, and the session goes on: found by the simulator, seed 306222. */
static void a_damaged_rst_does_not_end_a_sealed_flow(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_RST | PACKET_ACK, .seq = 1, .ack = 1, .bad_checksum = true});
	assert_int_equal(h.last->state, FLOW_SEALED);
	assert_int_equal(stats_get(h.stats, STAT_drop_checksum), 1);
	h.damaged_passes = true;
	assert_int_equal(h.sent_count, 0);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_RST | PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.last->state, FLOW_CLOSED);
}

/* ... nor does a damaged segment that stands where a new connection would begin. Found by fuzzing. */
static void a_damaged_segment_does_not_begin_another_flow(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .seq = 5000});
	assert_true(h.last->reopening);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 5001, .ack = 1, .bad_checksum = true});
	assert_int_equal(stats_get(h.stats, STAT_drop_checksum), 1);
	assert_int_equal(h.joined, 0);
	assert_int_equal(h.last->state, FLOW_SEALED);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 5001, .ack = 1});
	assert_int_equal(h.joined, 1);
}

/* A reset may carry data (RFC 1122, 4.2.2.12), which nobody reads and nobody has approved: found by fuzzing. */
static void the_data_of_a_rst_stays(void **state)
{
	(void)state;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST | PACKET_ACK, .seq = 9, .ack = 1, .payload = "MAIL"}); /* a guess: passes, to be challenged */
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST | PACKET_ACK, .seq = 1, .ack = 1, .payload = "MAIL"});
	assert_int_equal(h.last->state, FLOW_CLOSED);
	h_packet((struct seg){.from = CLIENT, .port = 40001, .flags = PACKET_SYN});
	h_packet((struct seg){.from = SERVER, .port = 40001, .flags = PACKET_RST | PACKET_ACK, .ack = 1, .payload = "no"});
	assert_int_equal(h.sent_count, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(h.sent[i].len, 0);
	assert_true(h.sent[0].flags & PACKET_RST && h.sent[1].flags & PACKET_RST && h.sent[3].flags & PACKET_RST);
}

/* Two empty segments of an old connection have left the flow undecided: the next one in its ports is watched from its
 * SYN, and neither Fast Open nor data comes with that. Found by fuzzing. */
static void a_syn_in_an_undecided_flow_is_a_syn(void **state)
{
	(void)state;
	h.join_as = FLOW_HANDSHAKE;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 100, .ack = 100});
	assert_int_equal(h.last->state, FLOW_HANDSHAKE);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .syn_tfo = true, .payload = "MAIL"});
	assert_int_equal(h.sent_count, 2);
	assert_int_equal(h.sent[1].len, 0);
	assert_int_equal(stats_get(h.stats, STAT_syn_cleaned), 1);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .ack = 1}); /* a new connection: the flow goes */
	assert_int_equal(h.sent_count, 2);
	assert_int_equal(flow_count(h.table), 0);
	assert_int_equal(h.joined, 1);
	h_handshake();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, h_setup, h_teardown)
		T(a_handshake_is_followed), T(the_first_edge_is_right_for_every_isn), T(window_scaling_needs_both), T(a_syn_loses_data_and_fast_open),
		T(a_second_synack_with_another_isn_is_dropped), T(a_split_handshake_is_dropped), T(a_bad_checksum_is_dropped),
		T(packets_of_a_side_come_by_its_port), T(an_ack_of_what_was_not_forwarded_is_dropped),
		T(only_an_exact_rst_ends_a_flow), T(a_rst_behind_held_bytes_is_moved_to_the_servers_view),
		T(a_refused_connection_closes), T(both_fins_close_and_the_port_can_be_used_again),
		T(a_flow_joined_in_the_middle_is_asked_about), T(a_syn_while_open_is_left_to_the_endpoint),
		T(who_speaks_to_a_cut_flow_is_told), T(a_taken_flow_lingers_while_it_is_spoken_to),
		T(a_damaged_rst_does_not_end_a_sealed_flow), T(a_damaged_segment_does_not_begin_another_flow), T(the_data_of_a_rst_stays),
		T(a_syn_in_an_undecided_flow_is_a_syn),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
