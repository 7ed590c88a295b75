/* takeover/pipeline.c: order, growth, limit. */
#include "takeover_harness.h"

static void test_order_over_growth_and_wrap(void **state)
{
	struct pipeline p = {0};
	unsigned in = 0, out = 0;
	(void)state;
	assert_null(pipeline_head(&p));
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 7; i++, in++) {
			struct pending entry = {.verb = SMTP_RCPT};
			snprintf(entry.domain, sizeof(entry.domain), "%u", in);
			assert_true(pipeline_push(&p, &entry));
		}
		for (int i = 0; i < 5; i++, out++) {
			assert_int_equal(atoi(pipeline_head(&p)->domain), out);
			pipeline_pop(&p);
		}
	}
	assert_int_equal(p.count, in - out);
	pipeline_dispose(&p);
	assert_null(pipeline_head(&p));
}

static void test_limit(void **state)
{
	struct pipeline p = {0};
	(void)state;
	for (int i = 0; i < SMTP_PIPELINE_MAX; i++)
		assert_true(pipeline_push(&p, &(struct pending){.verb = SMTP_NOOP}));
	assert_false(pipeline_push(&p, &(struct pending){.verb = SMTP_NOOP}));
	pipeline_pop(&p);
	assert_true(pipeline_push(&p, &(struct pending){.verb = SMTP_NOOP}));
	pipeline_dispose(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_over_growth_and_wrap), cmocka_unit_test(test_limit)};
	return cmocka_run_group_tests_name("takeover_pipeline", tests, NULL, NULL);
}
