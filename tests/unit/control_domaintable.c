/* control/policy/domaintable.c: half full at most, every name within reach, a rule of its own first. */
#include "control_harness.h"

static const struct image_rule rules[] = {{.kind = POLICY_DEFAULT}, {.kind = POLICY_DOMAIN}, {.kind = POLICY_PROVIDER}, {.kind = POLICY_PROVIDER}};
static struct strings s;
static struct domain_table t;
static struct why why;

static int begin(void **state)
{
	(void)state;
	strings_init(&s);
	t = (struct domain_table){0};
	return 0;
}

static int end(void **state)
{
	(void)state;
	strings_dispose(&s);
	domain_table_dispose(&t);
	return 0;
}

static void add(const char *name, uint32_t rule)
{
	domain_table_add(&t, (struct domain_entry){strings_put(&s, name), rule, rules[rule].kind != POLICY_PROVIDER});
}

static uint32_t rule_of(const char *name)
{
	uint32_t mask = t.slot_count - 1, slot = (uint32_t)policy_domain_hash(name, strlen(name)) & mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX && t.slots[slot].name != IMAGE_NONE; i++, slot = (slot + 1) & mask)
		if (strcmp(s.bytes + t.slots[slot].name, name) == 0)
			return t.slots[slot].rule;
	return IMAGE_NONE;
}

static void no_names_no_table(void **state)
{
	(void)state;
	assert_int_equal(domain_table_build(&t, &s, rules, &why), 0);
	assert_int_equal(t.slot_count, 0);
}

static void a_rule_of_its_own_goes_first_in_any_order(void **state)
{
	(void)state;
	add("a.example", 2);
	add("a.example", 1);
	add("b.example", 1);
	add("b.example", 2);
	add("c.example", 2);
	add("c.example", 2);
	assert_int_equal(domain_table_build(&t, &s, rules, &why), 0);
	assert_int_equal(rule_of("a.example"), 1);
	assert_int_equal(rule_of("b.example"), 1);
	assert_int_equal(rule_of("c.example"), 2);
	assert_int_equal(rule_of("d.example"), IMAGE_NONE);
}

static void two_lists_with_one_name_are_refused(void **state)
{
	struct image_rule named[4];

	(void)state;
	memcpy(named, rules, sizeof(rules));
	named[2].name = strings_put(&s, "one");
	named[3].name = strings_put(&s, "two");
	add("a.example", 2);
	add("a.example", 3);
	assert_int_equal(domain_table_build(&t, &s, named, &why), -EINVAL);
	assert_non_null(strstr(why.text, "a.example: in domains of provider:one and of provider:two"));
}

static void many(void **state)
{
	char name[32];
	size_t used = 0;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d.example", i);
		add(name, 1);
	}
	assert_int_equal(domain_table_build(&t, &s, rules, &why), 0);
	assert_int_equal(t.slot_count & (t.slot_count - 1), 0);
	for (uint32_t i = 0; i < t.slot_count; i++)
		used += t.slots[i].name != IMAGE_NONE;
	assert_int_equal(used, 3000);
	assert_true(used <= t.slot_count / 2);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d.example", i);
		assert_int_equal(rule_of(name), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_names_no_table, begin, end),
		cmocka_unit_test_setup_teardown(a_rule_of_its_own_goes_first_in_any_order, begin, end),
		cmocka_unit_test_setup_teardown(two_lists_with_one_name_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(many, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
