/* tcp/ranges.c: sorted, disjoint, merged, bounded; checked against one flag a byte. */
#include "tcp_harness.h"

enum { SPAN = 2000 };
static struct tcp_ranges ranges;

static int setup(void **state)
{
	(void)state;
	tcp_ranges_clear(&ranges);
	return 0;
}

static void neighbours_merge(void **state)
{
	(void)state;
	assert_true(tcp_ranges_add(&ranges, OUT + 10, OUT + 20));
	assert_true(tcp_ranges_add(&ranges, OUT + 30, OUT + 40));
	assert_int_equal(ranges.count, 2);
	assert_true(tcp_ranges_add(&ranges, OUT + 20, OUT + 30));
	assert_int_equal(ranges.count, 1);
	assert_int_equal(ranges.total, 30);
	assert_true(tcp_ranges_add(&ranges, OUT + 35, OUT + 35)); /* empty: nothing */
	assert_int_equal(ranges.total, 30);
	tcp_ranges_drop(&ranges, OUT + 15);
	assert_int_equal(ranges.total, 25);
	assert_int_equal(ranges.at[0].start, OUT + 15);
}

static void the_set_is_bounded(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < TCP_RANGES_MAX; i++)
		assert_true(tcp_ranges_add(&ranges, OUT + 10 * i, OUT + 10 * i + 5));
	assert_false(tcp_ranges_add(&ranges, OUT + 100000, OUT + 100001));
	assert_true(tcp_ranges_add(&ranges, OUT + 5, OUT + 10)); /* closes a hole: there is room */
	assert_int_equal(ranges.count, TCP_RANGES_MAX - 1);
}

static void gaps_are_found(void **state)
{
	(void)state;
	uint32_t until;
	tcp_ranges_add(&ranges, OUT + 100, OUT + 200);
	tcp_ranges_add(&ranges, OUT + 600, OUT + 700); /* across the wrap */
	assert_int_equal(tcp_ranges_gap(&ranges, OUT, OUT + 1000, &until), OUT);
	assert_int_equal(until, OUT + 100);
	assert_int_equal(tcp_ranges_gap(&ranges, OUT + 150, OUT + 1000, &until), OUT + 200);
	assert_int_equal(until, OUT + 600);
	assert_int_equal(tcp_ranges_gap(&ranges, OUT + 700, OUT + 1000, &until), OUT + 700);
	assert_int_equal(until, OUT + 1000);
	assert_null(tcp_ranges_find(&ranges, OUT + 200));
	assert_ptr_equal(tcp_ranges_find(&ranges, OUT + 199), &ranges.at[0]);
	assert_ptr_equal(tcp_ranges_find(&ranges, OUT + 600), &ranges.at[1]);
	assert_null(tcp_ranges_find(&ranges, OUT + 50));
}

static void it_agrees_with_a_flag_a_byte(void **state)
{
	(void)state;
	bool flag[SPAN] = {false};
	uint32_t random = 1, floor = 0;
	for (int turn = 0; turn < 4000; turn++) {
		random = random * 1664525 + 1013904223;
		uint32_t start = floor + (random >> 8) % (SPAN - floor), len = (random >> 20) % 40, sum = 0, covered = 0;
		uint32_t end = start + len < SPAN ? start + len : SPAN;
		if (tcp_ranges_add(&ranges, OUT + start, OUT + end))
			memset(flag + start, true, end - start);
		if (turn % 3 == 2) { /* a full set may keep the whole of what was to become two */
			bool full = ranges.count == TCP_RANGES_MAX;
			uint32_t from = floor + random % (SPAN - floor), to = from + (random >> 16) % 60;
			to = to < SPAN ? to : SPAN;
			if (!full) {
				tcp_ranges_cut(&ranges, OUT + from, OUT + to);
				memset(flag + from, false, to - from);
			}
		}
		if (turn % 50 == 49 && floor < SPAN - 100) {
			floor += 20;
			tcp_ranges_drop(&ranges, OUT + floor);
			memset(flag, false, floor);
		}
		for (uint32_t i = 0; i < SPAN; i++) {
			sum += flag[i];
			covered += flag[i] && i >= 500 && i < 1500;
		}
		assert_int_equal(ranges.total, sum);
		assert_int_equal(tcp_ranges_covered(&ranges, OUT + 500, OUT + 1500), covered);
		for (uint32_t i = 1; i < ranges.count; i++)
			assert_true(seq_before(ranges.at[i - 1].end, ranges.at[i].start));
	}
}

static void a_cut_in_a_full_set_never_takes_too_much(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < TCP_RANGES_MAX; i++)
		assert_true(tcp_ranges_add(&ranges, OUT + 20 * i, OUT + 20 * i + 10));
	tcp_ranges_cut(&ranges, OUT + 3, OUT + 6);
	assert_int_equal(ranges.total, 10 * TCP_RANGES_MAX);
	tcp_ranges_cut(&ranges, OUT + 5, OUT + 25);
	assert_int_equal(ranges.total, 10 * TCP_RANGES_MAX - 10);
	tcp_ranges_cut(&ranges, OUT + 30, OUT + 40); /* touches, and takes nothing */
	assert_int_equal(ranges.total, 10 * TCP_RANGES_MAX - 10);
	tcp_ranges_cut(&ranges, OUT, OUT + 20 * TCP_RANGES_MAX);
	assert_int_equal(ranges.count, 0);
	assert_int_equal(ranges.total, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(neighbours_merge, setup),
		cmocka_unit_test_setup(the_set_is_bounded, setup),
		cmocka_unit_test_setup(gaps_are_found, setup),
		cmocka_unit_test_setup(a_cut_in_a_full_set_never_takes_too_much, setup),
		cmocka_unit_test_setup(it_agrees_with_a_flag_a_byte, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
