/* offload.c: sealed flows that pass elsewhere, and come back with what the tracker needs. */
#include "flow_harness.h"
#include "kernel_model.h"

#include "flow/private.h"

static bool h_offload(void *context, const struct flow *flow, const struct classifier_sealed *begin)
{
	struct classifier_flow name;
	memcpy(&name, &flow->key, sizeof(name));
	return kernel_offload(context, &name, begin);
}
static bool h_offloaded(void *context, const struct flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	struct classifier_flow name;
	memcpy(&name, &flow->key, sizeof(name));
	return kernel_offloaded(context, &name, take_back, seen, idle_us);
}

static int setup(void **state)
{
	int failed = h_setup(state);
	kernel_clear();
	if (!failed) {
		h.table->ops.offload = h_offload;
		h.table->ops.offloaded = h_offloaded;
	}
	return failed;
}
static int teardown(void **state)
{
	int failed = h_teardown(state);
	return kernel_flows() ? -1 : failed; /* nothing stays there without its flow */
}

/* A packet comes up, and is sent. */
static void data(enum side from, uint32_t seq, uint32_t ack, const char *payload)
{
	h_data(from, seq, ack, payload);
	flow_offload_ready(h.table);
}

static void seal(void)
{
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h_data(CLIENT, 1, 1, "sealed");
	assert_int_equal(kernel_flows(), 0); /* it would overtake what is still to be sent */
	flow_offload_ready(h.table);
	assert_int_equal(kernel_flows(), 1);
	assert_true(h.last->offloaded);
	h.sent_count = 0;
}

/* As the XDP program would note it. */
static void passes(enum side side, uint32_t bytes, uint32_t ack_of_other)
{
	struct classifier_sealed *sealed = &kernel.place[0].sealed;
	sealed->from[side].packets++;
	sealed->from[side].bytes += bytes;
	sealed->from[side].next += bytes;
	sealed->from[side].ack += ack_of_other;
	sealed->from[side].edge += ack_of_other;
	sealed->from[side].seen_ns = h.now * 1000;
}

static void a_sealed_flow_is_handed_over_with_its_numbers(void **state)
{
	(void)state;
	seal();
	const struct classifier_sealed *sealed = &kernel.place[0].sealed;
	assert_int_equal(sealed->client_port_side, INSIDE);
	assert_int_equal(sealed->from[CLIENT].next, CLIENT_ISN + 7);
	assert_int_equal(sealed->from[SERVER].next, SERVER_ISN + 1);
	assert_int_equal(sealed->from[CLIENT].ack, SERVER_ISN + 1);
	assert_int_equal(sealed->from[CLIENT].wscale, 7);
	assert_int_equal(kernel.place[0].flow.client_port, CLIENT_PORT);
	assert_int_equal(kernel.place[0].flow.server_port, 25);
	assert_int_equal(stats_get(h.stats, STAT_kernel_flows), 1);
}

static void one_that_ended_meanwhile_is_not(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h_data(CLIENT, 1, 1, "sealed");
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 7});
	assert_int_equal(h.last->state, FLOW_CLOSED);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .seq = 900000, .syn_options = true}); /* in its place */
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	flow_offload_ready(h.table);
	assert_int_equal(kernel.handed_over, 0);
}

/* Whatever left it there: the packets of a connection that begins would pass by it, unseen. */
static void no_connection_begins_under_a_name_that_is_still_there(void **state)
{
	struct classifier_flow name;
	struct classifier_sealed left = {.client_port_side = INSIDE};
	(void)state;
	seal();
	name = kernel.place[0].flow;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 7});
	assert_int_equal(stats_get(h.stats, STAT_kernel_stale), 0);
	kernel_offload(NULL, &name, &left);
	h.established = 0;
	h_handshake();
	assert_int_equal(kernel_flows(), 0);
	assert_int_equal(stats_get(h.stats, STAT_kernel_stale), 1);
}

static void a_watched_flow_is_not(void **state)
{
	(void)state;
	h_handshake();
	data(CLIENT, 1, 1, "EHLO x\r\n");
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	data(CLIENT, 9, 1, "\x16");
	assert_int_equal(kernel.handed_over, 0);
	flow_enter_state(h.table, h.last, FLOW_CUT, h.now);
}

static void a_reset_is_judged_by_what_has_passed(void **state)
{
	(void)state;
	seal();
	passes(CLIENT, 1000000, 5000);
	passes(SERVER, 5000, 1000006);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 7}); /* where the tracker had come to by itself */
	assert_int_equal(stats_get(h.stats, STAT_drop_reset), 1);
	assert_int_equal(h.last->state, FLOW_SEALED);
	assert_int_equal(kernel_flows(), 0);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 1000007});
	assert_int_equal(h.last->state, FLOW_CLOSED);
	assert_int_equal(h.last->bytes[CLIENT], 1000006);
	assert_int_equal(h.last->bytes[SERVER], 5000);
	assert_int_equal(stats_get(h.stats, STAT_kernel_packets), 2);
	assert_int_equal(stats_get(h.stats, STAT_kernel_bytes), 1005000);
}

static void a_fin_brings_it_back_for_good(void **state)
{
	(void)state;
	seal();
	passes(SERVER, 100, 0);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_FIN | PACKET_ACK, .seq = 7, .ack = 101});
	assert_int_equal(kernel_flows(), 0);
	for (uint32_t i = 0; i < 200; i++)
		data(SERVER, 101 + i, 8, "x");
	assert_int_equal(kernel.handed_over, 1);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_FIN | PACKET_ACK, .seq = 301, .ack = 8});
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 8, .ack = 302});
	assert_int_equal(h.last->state, FLOW_CLOSED); /* both ends and their acknowledgments were seen */
}

static void ended(enum side side)
{
	struct classifier_passed *from = &kernel.place[0].sealed.from[side];
	from->next++;
	from->fin = 1;
}

static void fins_that_have_passed_end_it_with_the_last_ack(void **state)
{
	(void)state;
	seal();
	passes(SERVER, 100, 6);
	passes(CLIENT, 0, 100);
	ended(CLIENT);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_ACK, .seq = 101, .ack = 8}); /* whatever brings it up, one end goes on */
	assert_true(h.last->offloaded);
	passes(SERVER, 0, 1);
	ended(SERVER);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_ACK, .seq = 8, .ack = 102});
	assert_int_equal(kernel_flows(), 0);
	assert_int_equal(h.last->state, FLOW_CLOSED);
	assert_int_equal(h.last->bytes[SERVER], 100);
	assert_int_equal(h.sent_count, 2);
}

/* A FIN has passed, and then one end resets the other, or its port is used again. */
static void a_fin_that_has_passed_is_known_to_what_comes_up(void **state)
{
	(void)state;
	seal();
	passes(CLIENT, 10, 0);
	ended(CLIENT);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 17}); /* its FIN was at 17 */
	assert_int_equal(h.last->state, FLOW_SEALED);
	assert_true(h.last->side[CLIENT].fin_sent);
	data(SERVER, 1, 18, "x");
	assert_int_equal(kernel.handed_over, 1); /* an end that was seen: it stays here */
	assert_true(h.last->side[CLIENT].fin_acked);
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_RST, .seq = 18});
	assert_int_equal(h.last->state, FLOW_CLOSED);
}

/* Port reuse: nothing of the connection that the SYN may open is to pass unseen. */
static void a_syn_brings_it_back_for_good(void **state)
{
	(void)state;
	seal();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .seq = 900000, .syn_options = true});
	assert_int_equal(kernel_flows(), 0);
	for (uint32_t i = 0; i < 200; i++)
		data(SERVER, 1 + i, 7, "x");
	assert_int_equal(kernel.handed_over, 1);
}

/* Its own SYN once more, and a reset that is none: it goes again after a while. */
static void what_changes_nothing_lets_it_go_again(void **state)
{
	(void)state;
	seal();
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN, .seq = 0, .syn_options = true});
	assert_int_equal(kernel_flows(), 0);
	for (uint32_t i = 0; i < 40; i++)
		data(SERVER, 1 + i, 7, "x");
	assert_int_equal(kernel.handed_over, 2);
	assert_int_equal(kernel.place[0].sealed.from[SERVER].bytes, 0); /* what passed before is counted already */
}

static void one_that_gave_way_is_handed_over_again(void **state)
{
	(void)state;
	seal();
	kernel.place[0].used = false;
	for (uint32_t i = 0; i < 40; i++)
		data(SERVER, 1 + i, 7, "x");
	assert_int_equal(stats_get(h.stats, STAT_kernel_evicted), 1);
	assert_int_equal(kernel_flows(), 1);
	assert_int_equal(h.last->bytes[SERVER], 40);
}

static void refused_it_passes_here(void **state)
{
	(void)state;
	kernel.refuses = true;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h.sent_count = 0;
	for (uint32_t i = 0; i < 40; i++)
		data(CLIENT, 1 + i, 1, "x");
	assert_int_equal(h.sent_count, 40);
	assert_false(h.last->offloaded);
}

static void sweep_for(uint64_t us)
{
	for (uint64_t end = h.now + us; h.now < end;) {
		h.now += FLOW_SWEEP_ROUND_US / 2;
		kernel_now_us = h.now;
		for (int i = 0; i < 1001; i++)
			flow_sweep(h.table, h.now += FLOW_SWEEP_US);
	}
}

static void what_passes_elsewhere_keeps_it_from_ageing(void **state)
{
	(void)state;
	seal();
	sweep_for(flow_limits_default.sealed_timeout_us / 2);
	passes(CLIENT, 1, 0);
	sweep_for(flow_limits_default.sealed_timeout_us / 3 * 2);
	assert_int_equal(flow_count(h.table), 1);
	sweep_for(flow_limits_default.sealed_timeout_us / 2);
	assert_int_equal(flow_count(h.table), 0);
	assert_int_equal(kernel_flows(), 0);
	assert_int_equal(stats_get(h.stats, STAT_flows_aged), 1);
}

/* Between two peers a joined flow is worth keeping: that both have spoken may be known elsewhere only. */
static void a_joined_flow_is_heard_elsewhere(void **state)
{
	(void)state;
	data(CLIENT, 1, 1, "\x17\x03\x03");
	data(CLIENT, 4, 1, "\x17\x03\x03");
	assert_int_equal(kernel_flows(), 1);
	passes(SERVER, 100, 3);
	sweep_for(flow_limits_default.dialogue_timeout_us * 2);
	assert_int_equal(flow_count(h.table), 1);
}

static void bytes_are_told_while_they_pass(void **state)
{
	uint64_t bytes[SIDES];
	(void)state;
	seal();
	passes(SERVER, 4096, 6);
	flow_bytes(h.table, h.last, bytes);
	assert_int_equal(bytes[CLIENT], 6);
	assert_int_equal(bytes[SERVER], 4096);
}

/* The classifier calls the outside endpoint the server, the tracker whoever did not send the SYN. */
static void with_port_25_at_both_ends_it_stays(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .port = 25, .flags = PACKET_SYN, .syn_options = true});
	h_packet((struct seg){.from = SERVER, .port = 25, .flags = PACKET_SYN | PACKET_ACK, .ack = 1, .syn_options = true});
	h_packet((struct seg){.from = CLIENT, .port = 25, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	h_packet((struct seg){.from = CLIENT, .port = 25, .flags = PACKET_ACK, .seq = 1, .ack = 1, .payload = "x"});
	assert_int_equal(kernel.handed_over, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sealed_flow_is_handed_over_with_its_numbers),
		TEST(no_connection_begins_under_a_name_that_is_still_there),
		TEST(one_that_ended_meanwhile_is_not), TEST(a_watched_flow_is_not), TEST(a_reset_is_judged_by_what_has_passed),
		TEST(a_fin_brings_it_back_for_good), TEST(fins_that_have_passed_end_it_with_the_last_ack),
		TEST(a_fin_that_has_passed_is_known_to_what_comes_up), TEST(a_syn_brings_it_back_for_good), TEST(what_changes_nothing_lets_it_go_again),
		TEST(one_that_gave_way_is_handed_over_again), TEST(refused_it_passes_here), TEST(what_passes_elsewhere_keeps_it_from_ageing),
		TEST(a_joined_flow_is_heard_elsewhere), TEST(bytes_are_told_while_they_pass), TEST(with_port_25_at_both_ends_it_stays),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
