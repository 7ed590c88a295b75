/* flow/table.c: places, limits, ageing, and the edges between states. */
#include "flow_harness.h"

#include "flow/private.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flow/private.h"

static int small(void **state)
{
	struct flow_limits limits = flow_limits_default;
	(void)state;
	limits.flows_max = 64;
	return h_setup_limits(&limits);
}

static void establish(uint16_t port)
{
	h_packet((struct seg){.from = CLIENT, .port = port, .flags = PACKET_SYN});
	h_packet((struct seg){.from = SERVER, .port = port, .flags = PACKET_SYN | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = CLIENT, .port = port, .flags = PACKET_ACK, .seq = 1, .ack = 1});
}

static int small_without_shares(void **state)
{
	struct flow_limits limits = flow_limits_default;
	(void)state;
	limits.flows_max = 64;
	limits.prefix_percent = 100;
	return h_setup_limits(&limits);
}

static void a_full_table_refuses_and_counts(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 64; i++)
		establish((uint16_t)(2000 + i));
	assert_int_equal(h.established, 64);
	unsigned sent = h.sent_count;
	for (uint16_t i = 0; i < 6; i++)
		h_packet((struct seg){.from = CLIENT, .port = (uint16_t)(3000 + i), .flags = PACKET_SYN});
	assert_int_equal(flow_count(h.table), 64);
	assert_int_equal(stats_get(h.stats, STAT_flows_refused) + stats_get(h.stats, STAT_flows_refused_prefix), 6);
	assert_int_equal(h.sent_count, sent);
}

/* 25 % of 64 */
static void the_oldest_embryonic_flow_gives_way(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 20; i++)
		h_packet((struct seg){.from = CLIENT, .port = (uint16_t)(2000 + i), .flags = PACKET_SYN});
	assert_int_equal(flow_count(h.table), 16);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted), 4);
	assert_int_equal(h.sent_count, 20);
	h.sent_count = 0; /* the youngest goes on, the oldest is not known any more */
	h_packet((struct seg){.from = SERVER, .port = 2019, .flags = PACKET_SYN | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = CLIENT, .port = 2019, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.established, 1);
	h_packet((struct seg){.from = CLIENT, .port = 2000, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.joined, 1);
}

static void syns(uint16_t port, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		h_packet((struct seg){.from = CLIENT, .port = (uint16_t)(port + i), .flags = PACKET_SYN});
	h.sent_count = 0;
}

static void answer(uint16_t port) { h_packet((struct seg){.from = SERVER, .port = port, .flags = PACKET_SYN | PACKET_ACK, .ack = 1}); }

static void answered_syns(uint16_t port, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		syns((uint16_t)(port + i), 1);
		answer((uint16_t)(port + i));
	}
	h.sent_count = 0;
}

/* Does its client's ACK complete it, or is it not known any more? */
static bool completes(uint16_t port)
{
	unsigned established = h.established, joined = h.joined;
	h_packet((struct seg){.from = CLIENT, .port = port, .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(h.established - established + h.joined - joined, 1);
	return h.established > established;
}

/* Its SYN-ACK is the server's word to a SYN that nobody here remembers: the SYN comes again, and the flow is watched from
 * there. Nothing is kept for a SYN-ACK, so nobody fills the table by forging them. */
static void a_syn_that_gave_way_is_said_again(void **state)
{
	(void)state;
	syns(2000, 20);
	for (unsigned i = 0; i < 100; i++)
		answer(2000);
	assert_int_equal(h.sent_count, 0);
	assert_int_equal(stats_get(h.stats, STAT_drop_forgotten), 100);
	assert_int_equal(flow_count(h.table), 16);
	syns(2000, 1);
	answer(2000);
	assert_int_equal(h.sent_count, 1);
	assert_true(completes(2000));
}

/* Whoever is let pass unseen is let pass; so is what no flow has given way for, and what is no SYN-ACK of a server. */
static void other_syn_acks_of_no_flow_pass(void **state)
{
	(void)state;
	answer(5000);
	assert_int_equal(h.sent_count, 1);
	answered_syns(2000, 20); /* those that gave way have had their SYN-ACK: one that comes again is for who knows of it */
	answer(2000);
	assert_int_equal(h.sent_count, 1);
	syns(3000, 20);
	h.unseen_passes = true;
	answer(3000);
	assert_int_equal(h.sent_count, 1);
	h.unseen_passes = false;
	h_packet((struct seg){.from = CLIENT, .port = 3000, .flags = PACKET_SYN | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = SERVER, .port = 3000, .flags = PACKET_RST | PACKET_ACK, .ack = 1});
	h_packet((struct seg){.from = SERVER, .port = 3000, .flags = PACKET_SYN});
	assert_int_equal(h.sent_count, 4);
	h.now += flow_limits_default.handshake_timeout_us; /* by now it would have been forgotten anyway */
	answer(3000);
	assert_int_equal(h.sent_count, 5);
	assert_int_equal(stats_get(h.stats, STAT_drop_forgotten), 0);
}

/* One that was joined by an empty segment, and gave way undecided, had no SYN to forget. */
static void an_undecided_flow_that_gave_way_asks_for_no_syn(void **state)
{
	(void)state;
	h.join_as = FLOW_HANDSHAKE;
	for (uint16_t i = 0; i < 20; i++)
		h_packet((struct seg){.from = CLIENT, .port = (uint16_t)(2000 + i), .flags = PACKET_ACK, .seq = 1, .ack = 1});
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted), 4);
	h.sent_count = 0;
	answer(5000);
	assert_int_equal(h.sent_count, 1);
}

static void what_the_server_has_answered_outlives_a_flood(void **state)
{
	(void)state;
	answered_syns(2000, 8); /* their share: half of 25 % of 64 */
	syns(3000, 40);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted), 32);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted_answered), 0);
	for (uint16_t i = 0; i < 8; i++)
		assert_true(completes((uint16_t)(2000 + i)));
	assert_false(completes(3000));
	answer(3039);
	assert_true(completes(3039)); /* the youngest of those that had no answer */
}

/* What is more than the share goes first, so that those without an answer keep the rest. */
static void answered_handshakes_keep_no_more_than_their_share(void **state)
{
	(void)state;
	answered_syns(2000, 16);
	syns(3000, 100);
	assert_int_equal(h.table->embryonic_count, 16);
	assert_int_equal(h.table->answered_count, 8);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted), 100);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted_answered), 8);
	assert_false(completes(2007));
	assert_true(completes(2008));
}

/* Servers that answer everything, accomplices or SYN cookies: their flood ends answered handshakes alone. */
static void a_flood_that_is_answered_spares_who_waits_for_an_answer(void **state)
{
	(void)state;
	syns(2000, 1);
	answered_syns(3000, 100);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted_answered), 100 - 15);
	answer(2000);
	assert_true(completes(2000));
	assert_int_equal(h.table->embryonic_count, h.table->answered_count);
	assert_true(completes(3099));
}

static int small_all_answered(void **state)
{
	struct flow_limits limits = flow_limits_default;
	(void)state;
	limits.flows_max = 64;
	limits.answered_percent = 100;
	return h_setup_limits(&limits);
}

/* Within their share they give way when there is nobody else: the table stays bounded. */
static void the_oldest_answered_gives_way_where_all_are_answered(void **state)
{
	(void)state;
	answered_syns(2000, 16);
	syns(3000, 1);
	assert_int_equal(stats_get(h.stats, STAT_flows_evicted_answered), 1);
	assert_false(completes(2000));
	assert_true(completes(2001));
}

/* Nobody blindly, nobody from the client's own side, and no answer twice. */
static void only_an_answer_that_fits_the_syn_counts(void **state)
{
	(void)state;
	syns(2000, 3);
	h_packet((struct seg){.from = SERVER, .port = 2000, .flags = PACKET_SYN | PACKET_ACK, .ack = 2});
	h_packet((struct seg){.from = SERVER, .port = 2000, .flags = PACKET_SYN | PACKET_ACK, .ack = 1, .wrong_side = true});
	h_packet((struct seg){.from = SERVER, .port = 2000, .flags = PACKET_SYN | PACKET_ACK, .ack = 1, .bad_checksum = true});
	h_packet((struct seg){.from = SERVER, .port = 2000, .flags = PACKET_ACK, .ack = 1});
	assert_int_equal(h.table->answered_count, 0);
	answer(2001);
	answer(2002);
	answer(2001); /* again: it does not get younger by it */
	assert_int_equal(h.table->answered_count, 2);
	assert_int_equal(TAILQ_FIRST(&h.table->answered)->key.client_port, 2001);
	h_packet((struct seg){.from = SERVER, .port = 2002, .flags = PACKET_RST | PACKET_ACK, .ack = 1});
	assert_int_equal(h.table->answered_count, 1);
	assert_true(completes(2001));
	assert_int_equal(h.table->answered_count, 0);
	assert_int_equal(h.table->embryonic_count, 1);
}

static void a_prefix_gets_its_share_of_a_half_full_table(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 40; i++)
		establish((uint16_t)(2000 + i));
	assert_int_equal(flow_count(h.table), 32);
	assert_int_equal(stats_get(h.stats, STAT_flows_refused_prefix), 16); /* the SYN, and the ACK that would join */
	assert_int_equal(h.established, 32);
}

static void idle_flows_age_out(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	uint64_t limit = h.now + flow_limits_default.handshake_timeout_us;
	for (uint64_t t = h.now; t < limit; t += FLOW_SWEEP_US * 100)
		flow_sweep(h.table, t);
	assert_int_equal(flow_count(h.table), 1);
	for (uint64_t t = limit; t <= limit + 2 * FLOW_SWEEP_ROUND_US; t += FLOW_SWEEP_US)
		flow_sweep(h.table, t);
	assert_int_equal(flow_count(h.table), 0);
	assert_int_equal(stats_get(h.stats, STAT_flows_aged), 1);
	assert_int_equal(h.closed, 1);
}

/* Repeating a SYN keeps nothing alive. */
static void an_embryonic_flow_ages_from_its_first_syn(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	uint64_t limit = h.now + flow_limits_default.handshake_timeout_us;
	while (h.now < limit) {
		h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
		h.now += 1000000;
		h.sent_count = 0;
	}
	for (uint64_t t = limit; t <= limit + 2 * FLOW_SWEEP_ROUND_US; t += FLOW_SWEEP_US)
		flow_sweep(h.table, t);
	assert_int_equal(flow_count(h.table), 0);
	assert_int_equal(h.opened, 1);
}

static void a_closed_flow_lingers_then_goes(void **state)
{
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_CLOSED, h.now);
	flow_sweep(h.table, h.now + FLOW_SWEEP_US);
	assert_int_equal(flow_count(h.table), 1);
	for (uint64_t t = h.now; t <= h.now + 3 * FLOW_SWEEP_ROUND_US; t += FLOW_SWEEP_US)
		flow_sweep(h.table, t);
	assert_int_equal(flow_count(h.table), 0);
	assert_int_equal(stats_get(h.stats, STAT_flows_aged), 0);
}

/* Its packets come here as long as it has a place, not only until its session is over. */
static void a_flow_is_held_while_it_has_its_place(void **state)
{
	(void)state;
	h.holds = true;
	h_handshake();
	h_packet((struct seg){.from = CLIENT, .port = 2000, .flags = PACKET_SYN});
	assert_int_equal(h.held, 2);
	flow_enter_state(h.table, h.last, FLOW_CLOSED, h.now);
	assert_int_equal(h.held, 2);
	flow_sweep(h.table, h.now + FLOW_SWEEP_US);
	for (uint64_t t = h.now; h.held == 2 && t < h.now + 2 * flow_limits_default.handshake_timeout_us; t += FLOW_SWEEP_US)
		flow_sweep(h.table, t);
	assert_int_equal(flow_count(h.table), 1);
	assert_int_equal(h.held, 1);
	flow_remove(h.table, flow_at(h.table, 0) ? flow_at(h.table, 0) : flow_at(h.table, 1));
	assert_int_equal(h.held, 0);
}

static void a_hold_that_was_not_granted_is_not_given_back(void **state)
{
	(void)state;
	h_packet((struct seg){.from = CLIENT, .flags = PACKET_SYN});
	assert_int_equal(h.asked, 1);
	h.holds = true;
	flow_remove(h.table, flow_at(h.table, 0)); /* h_release would notice */
	assert_int_equal(h.held, 0);
}

/* Once sealed, nothing brings a flow back: the setter takes the process down rather than obey. */
static void a_forbidden_edge_is_a_bug(void **state)
{
	int status;
	(void)state;
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	pid_t child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		flow_enter_state(h.table, h.last, FLOW_CLEAR, h.now);
		_exit(0);
	}
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void every_state_has_a_name(void **state)
{
	(void)state;
	for (unsigned s = 0; s < FLOW_STATES; s++)
		assert_string_not_equal(flow_state_name(s), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_full_table_refuses_and_counts, small_without_shares, h_teardown),
		cmocka_unit_test_setup_teardown(the_oldest_embryonic_flow_gives_way, small, h_teardown),
		cmocka_unit_test_setup_teardown(a_syn_that_gave_way_is_said_again, small, h_teardown),
		cmocka_unit_test_setup_teardown(other_syn_acks_of_no_flow_pass, small, h_teardown),
		cmocka_unit_test_setup_teardown(an_undecided_flow_that_gave_way_asks_for_no_syn, small, h_teardown),
		cmocka_unit_test_setup_teardown(what_the_server_has_answered_outlives_a_flood, small, h_teardown),
		cmocka_unit_test_setup_teardown(answered_handshakes_keep_no_more_than_their_share, small, h_teardown),
		cmocka_unit_test_setup_teardown(a_flood_that_is_answered_spares_who_waits_for_an_answer, small, h_teardown),
		cmocka_unit_test_setup_teardown(the_oldest_answered_gives_way_where_all_are_answered, small_all_answered, h_teardown),
		cmocka_unit_test_setup_teardown(only_an_answer_that_fits_the_syn_counts, small, h_teardown),
		cmocka_unit_test_setup_teardown(a_prefix_gets_its_share_of_a_half_full_table, small, h_teardown),
		cmocka_unit_test_setup_teardown(idle_flows_age_out, h_setup, h_teardown),
		cmocka_unit_test_setup_teardown(an_embryonic_flow_ages_from_its_first_syn, h_setup, h_teardown),
		cmocka_unit_test_setup_teardown(a_closed_flow_lingers_then_goes, h_setup, h_teardown),
		cmocka_unit_test_setup_teardown(a_flow_is_held_while_it_has_its_place, h_setup, h_teardown),
		cmocka_unit_test_setup_teardown(a_hold_that_was_not_granted_is_not_given_back, h_setup, h_teardown),
		cmocka_unit_test_setup_teardown(a_forbidden_edge_is_a_bug, h_setup, h_teardown),
		cmocka_unit_test(every_state_has_a_name),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
