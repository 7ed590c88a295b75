/* flow/share.c: counts by prefix, never too low. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "flow/private.h"

static const uint8_t *v4(unsigned a, unsigned b, unsigned c, unsigned d)
{
	static uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};
	memcpy(addr + 12, (uint8_t[]){(uint8_t)a, (uint8_t)b, (uint8_t)c, (uint8_t)d}, 4);
	return addr;
}

static void a_prefix_is_counted_as_one(void **state)
{
	struct flow_share *share = calloc(1, sizeof(*share));
	uint8_t v6[16] = {0xfd, 0x77, 0, 0, 0, 1}, other[16] = {0xfd, 0x77, 0, 0, 0, 2};
	(void)state;
	share->seed[1] = 1;
	for (unsigned i = 0; i < 200; i++) {
		flow_share_take(share, v4(10, 77, 1, i));
		v6[7] = (uint8_t)i; /* another subnet of the same site */
		flow_share_take(share, v6);
	}
	assert_int_equal(flow_share_of(share, v4(10, 77, 1, 250)), 200);
	assert_int_equal(flow_share_of(share, v4(10, 77, 2, 1)), 0);
	assert_int_equal(flow_share_of(share, v6), 200);
	assert_int_equal(flow_share_of(share, other), 0);
	for (unsigned i = 0; i < 200; i++)
		flow_share_give(share, v4(10, 77, 1, i));
	assert_int_equal(flow_share_of(share, v4(10, 77, 1, 250)), 0);
	free(share);
}

/* Many busy prefixes: nobody is counted too low, and few quiet ones are counted at all. */
static void counts_are_never_too_low(void **state)
{
	struct flow_share *share = calloc(1, sizeof(*share));
	unsigned wrong = 0;
	(void)state;
	share->seed[0] = 4711;
	for (unsigned prefix = 0; prefix < 2000; prefix++)
		for (unsigned i = 0; i < 3; i++)
			flow_share_take(share, v4(10, prefix / 256, prefix % 256, i));
	for (unsigned prefix = 0; prefix < 2000; prefix++) {
		assert_true(flow_share_of(share, v4(10, prefix / 256, prefix % 256, 99)) >= 3);
		wrong += flow_share_of(share, v4(11, prefix / 256, prefix % 256, 99)) > 0;
	}
	assert_true(wrong < 200); /* (1 - e^(-2000/8192))^2 of 2000 is about 94 */
	free(share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_prefix_is_counted_as_one), cmocka_unit_test(counts_are_never_too_low)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
