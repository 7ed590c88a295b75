/* agent_debounce.c - quiet ends a wait, and an endless stream of changes does not prolong it past the limit; pieces wait for the last of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../control/agent/debounce.h"

static void quiet(void **state)
{
	struct debounce d = {0};

	(void)state;
	assert_int_equal(debounce_left(&d, false, 5), UINT64_MAX);
	debounce_touch(&d, 1000);
	assert_int_equal(debounce_left(&d, false, 1000), DEBOUNCE_QUIET_US);
	debounce_touch(&d, 21000);
	assert_int_equal(debounce_left(&d, false, 31000), DEBOUNCE_QUIET_US - 10000);
	assert_int_equal(debounce_left(&d, false, 21000 + DEBOUNCE_QUIET_US), 0);
	assert_int_equal(debounce_left(&d, false, 10000000), 0);
	debounce_clear(&d);
	assert_int_equal(debounce_left(&d, false, 5), UINT64_MAX);
}

static void endless_edits(void **state)
{
	struct debounce d = {0};
	uint64_t now = 7000000, start = now, acted = 0, longest = 0, last = now;

	(void)state;
	for (; now < start + 10000000; now += 1000) {
		debounce_touch(&d, now);
		if (debounce_left(&d, false, now) == 0) {
			debounce_clear(&d);
			acted++;
			longest = now - last > longest ? now - last : longest;
			last = now;
		}
	}
	assert_in_range(acted, 35, 45);
	assert_true(longest <= DEBOUNCE_MAX_US + 2000);
}

static void pieces(void **state)
{
	struct debounce d = {0};

	(void)state;
	assert_int_equal(debounce_left(&d, true, 5), UINT64_MAX);
	debounce_touch(&d, 1000);
	debounce_touch(&d, 301000);
	assert_int_equal(debounce_left(&d, true, 301000), DEBOUNCE_HOLD_US - 300000);
	assert_int_equal(debounce_left(&d, true, 1000 + DEBOUNCE_HOLD_US), 0);
	assert_int_equal(debounce_left(&d, false, 301000), 0); /* the last is there, later than changes ever wait for one another */
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(quiet), cmocka_unit_test(endless_edits), cmocka_unit_test(pieces)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
