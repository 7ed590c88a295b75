/* takeover/memory.c: what is remembered, for how long, of how many. */
#include "takeover_harness.h"

static void server(uint8_t out[16], unsigned n)
{
	memset(out, 0, 16);
	memcpy(out + 12, &n, 4);
}

static void test_lifetime(void **state)
{
	struct takeover_memory *m = takeover_memory_new(4, 1000);
	uint8_t a[16];
	(void)state;
	server(a, 1);
	assert_false(takeover_memory_holds(m, a, 0));
	takeover_memory_note(m, a, 100);
	assert_true(takeover_memory_holds(m, a, 1099));
	assert_false(takeover_memory_holds(m, a, 1100));
	takeover_memory_note(m, a, 500); /* renewed */
	assert_true(takeover_memory_holds(m, a, 1499));
	takeover_memory_free(m);
}

static void test_the_oldest_goes(void **state)
{
	struct takeover_memory *m = takeover_memory_new(3, 1000000);
	uint8_t a[16];
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		server(a, i);
		takeover_memory_note(m, a, i);
	}
	for (unsigned i = 0; i < 5; i++) {
		server(a, i);
		assert_int_equal(takeover_memory_holds(m, a, 10), i >= 2);
	}
	takeover_memory_free(m);
}

static void test_none(void **state)
{
	struct takeover_memory *m = takeover_memory_new(0, 1000);
	uint8_t a[16];
	(void)state;
	server(a, 1);
	takeover_memory_note(m, a, 0);
	assert_false(takeover_memory_holds(m, a, 1));
	assert_false(takeover_memory_holds(NULL, a, 1));
	takeover_memory_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lifetime), cmocka_unit_test(test_the_oldest_goes), cmocka_unit_test(test_none)};
	return cmocka_run_group_tests_name("takeover_memory", tests, NULL, NULL);
}
