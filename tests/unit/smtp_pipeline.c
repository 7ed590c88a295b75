/* smtp/pipeline.c: first in, first out, with domains in a ring that wraps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "smtp/private.h"

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct smtp_pipeline));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	smtp_pipeline_dispose(*state);
	free(*state);
	return 0;
}

static void order_and_limit(void **state)
{
	struct smtp_pipeline *pipeline = *state;
	struct smtp_pending pending;
	char domain[SMTP_DOMAIN_MAX];

	assert_null(smtp_pipeline_front(pipeline));
	assert_false(smtp_pipeline_pop(pipeline, &pending, domain));
	for (int i = 0; i < SMTP_PIPELINE_MAX; i++)
		assert_true(smtp_pipeline_push(pipeline, i % SMTP_VERBS, i % 2, "not kept"));
	assert_false(smtp_pipeline_push(pipeline, SMTP_NOOP, false, ""));
	for (int i = 0; i < SMTP_PIPELINE_MAX; i++) {
		assert_int_equal(smtp_pipeline_front(pipeline)->verb, i % SMTP_VERBS);
		assert_true(smtp_pipeline_pop(pipeline, &pending, domain));
		assert_int_equal(pending.verb, i % SMTP_VERBS);
		assert_int_equal(pending.last, i % 2);
		assert_string_equal(domain, "");
	}
	assert_null(smtp_pipeline_front(pipeline));
}

static void domains_wrap(void **state)
{
	struct smtp_pipeline *pipeline = *state;
	struct smtp_pending pending;
	char domain[SMTP_DOMAIN_MAX], want[SMTP_DOMAIN_MAX];

	assert_true(smtp_pipeline_push(pipeline, SMTP_NOOP, false, "before there was room"));
	assert_true(smtp_pipeline_keep_domains(pipeline));
	assert_true(smtp_pipeline_pop(pipeline, &pending, domain));
	for (int i = 0; i < 3000; i++) {
		snprintf(want, sizeof(want), "%d.%0*d.example", i, i % 200 + 1, 0);
		assert_true(smtp_pipeline_push(pipeline, SMTP_RCPT, false, want));
		assert_true(smtp_pipeline_push(pipeline, SMTP_DATA, false, ""));
		if (i < 5)
			continue;
		snprintf(want, sizeof(want), "%d.%0*d.example", i - 5, (i - 5) % 200 + 1, 0);
		assert_true(smtp_pipeline_pop(pipeline, &pending, domain));
		assert_int_equal(pending.verb, SMTP_RCPT);
		assert_string_equal(domain, want);
		assert_true(smtp_pipeline_pop(pipeline, &pending, domain));
		assert_string_equal(domain, "");
	}
}

static void domains_are_limited(void **state)
{
	struct smtp_pipeline *pipeline = *state;
	struct smtp_pending pending;
	char domain[SMTP_DOMAIN_MAX] = {0}, got[SMTP_DOMAIN_MAX];
	unsigned pushed = 0;

	memset(domain, 'd', sizeof(domain) - 1);
	assert_true(smtp_pipeline_keep_domains(pipeline));
	while (smtp_pipeline_push(pipeline, SMTP_RCPT, false, domain))
		pushed++;
	assert_int_equal(pushed, SMTP_PIPELINE_DOMAIN_BYTES / (SMTP_DOMAIN_MAX - 1));
	assert_true(smtp_pipeline_pop(pipeline, &pending, got));
	assert_string_equal(got, domain);
	assert_true(smtp_pipeline_push(pipeline, SMTP_RCPT, false, domain));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(order_and_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(domains_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(domains_are_limited, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
