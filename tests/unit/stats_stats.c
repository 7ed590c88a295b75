/* stats/stats.c: counters only grow, destinations are found by name, sums merge workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stats/stats.h"

static void test_counters_and_sum(void **state)
{
	struct stats *workers[2] = {stats_new(), stats_new()};
	uint64_t total[STATS_COUNTERS_N];
	(void)state;
	stats_add(workers[0], STAT_rx_packets, 5);
	stats_inc(workers[1], STAT_rx_packets);
	stats_inc(workers[1], STAT_events_lost);
	assert_int_equal(stats_get(workers[0], STAT_rx_packets), 5);
	stats_sum(workers, 2, total);
	assert_int_equal(total[STAT_rx_packets], 6);
	assert_int_equal(total[STAT_events_lost], 1);
	assert_int_equal(total[STAT_tx_packets], 0);
	stats_free(workers[0]);
	stats_free(workers[1]);
}

static void test_destinations_merge_by_name(void **state)
{
	struct stats *workers[2] = {stats_new(), stats_new()};
	unsigned count;
	(void)state;
	stats_destination(workers[0], "google")->sessions[OUTBOUND][END_SEALED] = 3;
	stats_destination(workers[0], "*")->bytes = 7;
	stats_destination(workers[1], "*")->bytes = 8;
	stats_destination(workers[1], "a.example")->reasons[REASON_NOT_OFFERED] = 1;
	assert_ptr_equal(stats_destination(workers[0], "google"), stats_destination(workers[0], "google"));
	struct stats_destination *all = stats_sum_destinations(workers, 2, &count);
	assert_int_equal(count, 3);
	assert_string_equal(all[0].name, "*");
	assert_int_equal(all[0].bytes, 15);
	assert_string_equal(all[1].name, "a.example");
	assert_int_equal(all[1].reasons[REASON_NOT_OFFERED], 1);
	assert_int_equal(all[2].sessions[OUTBOUND][END_SEALED], 3);
	free(all);
	stats_free(workers[0]);
	stats_free(workers[1]);
}

static void test_destinations_are_bounded(void **state)
{
	struct stats *stats = stats_new();
	char name[400];
	unsigned count;
	(void)state;
	for (unsigned i = 0; i < STATS_DESTINATIONS_MAX + 100; i++) {
		snprintf(name, sizeof(name), "d%u.example", i);
		stats_destination(stats, name)->messages++;
	}
	assert_string_equal(stats_destination(stats, "one.more.example")->name, "(other)");
	assert_string_equal(stats_destination(stats, "d7.example")->name, "d7.example");
	struct stats_destination *all = stats_sum_destinations(&stats, 1, &count);
	assert_int_equal(count, STATS_DESTINATIONS_MAX);
	uint64_t messages = 0;
	for (unsigned i = 0; i < count; i++)
		messages += all[i].messages;
	assert_int_equal(messages, STATS_DESTINATIONS_MAX + 100);
	free(all);
	stats_free(stats);
	stats = stats_new();
	memset(name, 'x', sizeof(name) - 1); /* longer than a name can be: cut, and found again */
	name[sizeof(name) - 1] = 0;
	assert_ptr_equal(stats_destination(stats, name), stats_destination(stats, name));
	stats_free(stats);
}

static void test_every_name_is_there(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STATS_COUNTERS_N; i++)
		assert_true(*stats_counter_name(i) && *stats_counter_help(i));
	for (unsigned i = 0; i < STATS_ENDS; i++)
		assert_true(*stats_end_name(i));
	for (unsigned i = 0; i < STATS_RECIPIENTS; i++)
		assert_true(*stats_recipient_name(i));
	assert_string_equal(stats_version_name(stats_version_index(0x0304)), "TLSv1.3");
	assert_string_equal(stats_version_name(stats_version_index(0x0301)), "TLSv1");
	assert_string_equal(stats_version_name(stats_version_index(0x0300)), "other");
	assert_string_equal(stats_version_name(stats_version_index(0x7f1c)), "other");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_and_sum), cmocka_unit_test(test_destinations_merge_by_name),
		cmocka_unit_test(test_destinations_are_bounded), cmocka_unit_test(test_every_name_is_there),
	};
	return cmocka_run_group_tests_name("stats_stats", tests, NULL, NULL);
}
