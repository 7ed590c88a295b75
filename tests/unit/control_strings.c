/* control/policy/strings.c: each text once, at an offset that stays. */
#include "control_harness.h"

static void each_text_once(void **state)
{
	struct strings s;
	uint32_t one, two;

	(void)state;
	strings_init(&s);
	assert_int_equal(strings_put(&s, NULL), 0);
	assert_int_equal(strings_put(&s, ""), 0);
	one = strings_put(&s, "one");
	two = strings_put(&s, "two");
	assert_int_not_equal(one, 0);
	assert_int_not_equal(one, two);
	assert_int_equal(strings_put(&s, "one"), one);
	assert_string_equal(s.bytes + one, "one");
	assert_string_equal(s.bytes, "");
	assert_int_equal(s.len, 1 + 4 + 4);
	assert_false(s.full);
	strings_dispose(&s);
}

static void many(void **state)
{
	uint32_t *at = calloc(20000, sizeof(*at));
	struct strings s;
	char text[32];

	(void)state;
	strings_init(&s);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 20000; i++) {
			snprintf(text, sizeof(text), "text %d", i);
			uint32_t offset = strings_put(&s, text);
			if (round)
				assert_int_equal(offset, at[i]);
			at[i] = offset;
			assert_string_equal(s.bytes + offset, text);
		}
	assert_int_equal(s.count, 20000);
	strings_dispose(&s);
	free(at);
}

static void past_the_limit_it_says_so(void **state)
{
	struct strings s;

	(void)state;
	strings_init(&s);
	s.len = IMAGE_STRINGS_MAX - 4; /* as if it held that much */
	assert_int_equal(strings_put(&s, "1234"), 0);
	assert_true(s.full);
	s.len = 1;
	strings_dispose(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(each_text_once), cmocka_unit_test(many), cmocka_unit_test(past_the_limit_it_says_so)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
