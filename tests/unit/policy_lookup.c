/* policy/lookup.c: longest match of addresses, nearest parent of domains. */
#include "policy_harness.h"

static struct policy_image *image;

static int providers(void **state)
{
	(void)state;
	made_begin();
	uint32_t wide = made_rule(POLICY_PROVIDER, LEVEL_ENCRYPT, "wide"), narrow = made_rule(POLICY_PROVIDER, LEVEL_NONE, "narrow");
	uint32_t w = made_destination("wide", wide, "gold"), n = made_destination("narrow", narrow, "");

	made_prefix4("10.0.0.0", 8, IMAGE_NONE, w);
	made_prefix4("10.1.0.0", 16, 0, n);
	made_prefix4("10.1.2.0", 24, 1, w);
	made_prefix4("10.1.2.255", 32, 2, n);
	made_prefix4("192.0.2.128", 25, IMAGE_NONE, n);
	made_prefix4("255.255.255.255", 32, IMAGE_NONE, w);
	made_prefix6("2001:db8::", 32, IMAGE_NONE, w);
	made_prefix6("2001:db8:0:1::", 64, 0, n);
	made_prefix6("2001:db8:0:1::5", 128, 1, w);
	made_prefix6("2001:db8:8000::", 33, 0, n);
	image = made_good();
	return 0;
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	return 0;
}

static const char *destination(const char *addr)
{
	return policy_string(image, policy_destination(image, policy_destination_of(image, made_addr(addr)))->name);
}

static void the_longest_prefix_wins(void **state)
{
	static const struct { const char *addr, *name; } cases[] = {
		{"9.255.255.255", "*"},  {"10.0.0.0", "wide"},     {"10.0.255.255", "wide"}, {"10.1.0.0", "narrow"},
		{"10.1.1.255", "narrow"}, {"10.1.2.0", "wide"},     {"10.1.2.254", "wide"},   {"10.1.2.255", "narrow"},
		{"10.1.3.0", "narrow"},  {"10.2.0.0", "wide"},     {"10.255.255.255", "wide"}, {"11.0.0.0", "*"},
		{"192.0.2.127", "*"},    {"192.0.2.128", "narrow"}, {"192.0.3.0", "*"},       {"0.0.0.0", "*"},
		{"255.255.255.254", "*"}, {"255.255.255.255", "wide"},
		{"2001:db7::", "*"},     {"2001:db8::1", "wide"},  {"2001:db8:0:1::4", "narrow"}, {"2001:db8:0:1::5", "wide"},
		{"2001:db8:0:1::6", "narrow"}, {"2001:db8:0:2::", "wide"}, {"2001:db8:7fff::", "wide"},
		{"2001:db8:8000::", "narrow"}, {"2001:db8:ffff::", "narrow"}, {"2001:db9::", "*"}, {"::", "*"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strcmp(destination(cases[i].addr), cases[i].name) != 0)
			fail_msg("%s is %s, not %s", cases[i].addr, destination(cases[i].addr), cases[i].name);
}

static void prefixes_are_listed_with_their_pool(void **state)
{
	struct policy_prefix p;

	(void)state;
	assert_int_equal(policy_prefixes(image), 10);
	p = policy_prefix(image, 2);
	assert_false(p.ipv6);
	assert_int_equal(p.len, 24);
	assert_memory_equal(p.addr, ((uint8_t[16]){10, 1, 2, 0}), 16);
	assert_string_equal(p.pool, "gold");
	p = policy_prefix(image, 9);
	assert_true(p.ipv6);
	assert_int_equal(p.len, 33);
	assert_memory_equal(p.addr, made_addr("2001:db8:8000::"), 16);
	assert_string_equal(p.pool, "");
	p = policy_prefix(image, 10);
	assert_string_equal(p.pool, "");
	assert_int_equal(p.len, 0);
}

static void indices_out_of_range_find_nothing(void **state)
{
	(void)state;
	assert_null(policy_rule(image, 4));
	assert_null(policy_rule(image, IMAGE_NONE));
	assert_null(policy_destination(image, 3));
	assert_string_equal(policy_string(image, IMAGE_NONE), "");
	assert_string_equal(policy_string(image, 0), "");
}

static int domains(void **state)
{
	(void)state;
	made_begin();
	made_domain("example.org", made_rule(POLICY_DOMAIN, LEVEL_ENCRYPT, "example.org"));
	made_domain(".example.org", made_rule(POLICY_PARENT, LEVEL_BLOCK, ".example.org"));
	made_domain(".sub.example.org", made_rule(POLICY_PARENT, LEVEL_NONE, ".sub.example.org"));
	made_domain("x.sub.example.org", made_rule(POLICY_DOMAIN, LEVEL_MAY, "x.sub.example.org"));
	made_domain(".org", made_rule(POLICY_PARENT, LEVEL_DANE, ".org"));
	image = made_good();
	return 0;
}

static void domain_is(const char *domain, const char *name)
{
	const struct image_rule *rule = policy_domain_rule(image, domain);
	const char *found = rule ? policy_string(image, rule->name) : "nothing";

	if (strcmp(found, name) != 0)
		fail_msg("%s has the rule of %s, not of %s", domain, found, name);
}

static void the_name_goes_before_its_parents_nearest_first(void **state)
{
	(void)state;
	domain_is("example.org", "example.org");
	domain_is("a.example.org", ".example.org");
	domain_is("a.b.example.org", ".example.org");
	domain_is("sub.example.org", ".example.org");
	domain_is("y.sub.example.org", ".sub.example.org");
	domain_is("a.b.sub.example.org", ".sub.example.org");
	domain_is("x.sub.example.org", "x.sub.example.org");
	domain_is("notexample.org", ".org");
	domain_is("org", "nothing");
	domain_is("example.com", "nothing");
	domain_is("example.org.com", "nothing");
}

static void spelling_does_not_matter(void **state)
{
	(void)state;
	domain_is("EXAMPLE.Org", "example.org");
	domain_is("example.org.", "example.org");
	domain_is("A.EXAMPLE.ORG.", ".example.org");
}

static void odd_recipients_have_no_rule_of_their_own(void **state)
{
	char name[IMAGE_DOMAIN_MAX + 3];

	(void)state;
	domain_is("", "nothing");
	domain_is(".", "nothing");
	domain_is(".example.org", "nothing"); /* a client must not name a parent rule */
	domain_is("[192.0.2.1]", "nothing");
	memset(name, 'a', sizeof(name));
	strcpy(name + IMAGE_DOMAIN_MAX - 12, ".example.org");
	domain_is(name, ".example.org"); /* 255 */
	name[IMAGE_DOMAIN_MAX] = '.';
	name[IMAGE_DOMAIN_MAX + 1] = '\0';
	domain_is(name, ".example.org"); /* and a final dot */
	memset(name, 'a', sizeof(name));
	strcpy(name + IMAGE_DOMAIN_MAX - 11, ".example.org");
	domain_is(name, "nothing"); /* 256 */
}

static void a_table_that_wraps_around_is_searched_to_its_end(void **state)
{
	char name[32];
	uint32_t rule, crowded = 0;

	(void)state;
	made_begin();
	rule = made_rule(POLICY_PROVIDER, LEVEL_ENCRYPT, "p");
	/* Names whose home is the last slot: all but the first sit beyond the end. */
	for (int i = 0; crowded < 6; i++) {
		snprintf(name, sizeof(name), "n%d.example", i);
		if (((uint32_t)policy_domain_hash(name, strlen(name)) & 15) != 15)
			continue;
		made_domain(name, rule);
		crowded++;
	}
	struct policy_image *full = made_good();
	for (int i = 0, seen = 0; seen < 6; i++) {
		snprintf(name, sizeof(name), "n%d.example", i);
		if (((uint32_t)policy_domain_hash(name, strlen(name)) & 15) != 15)
			continue;
		assert_non_null(policy_domain_rule(full, name));
		seen++;
	}
	assert_null(policy_domain_rule(full, "other.example"));
	policy_image_close(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_longest_prefix_wins, providers, end),
		cmocka_unit_test_setup_teardown(prefixes_are_listed_with_their_pool, providers, end),
		cmocka_unit_test_setup_teardown(indices_out_of_range_find_nothing, providers, end),
		cmocka_unit_test_setup_teardown(the_name_goes_before_its_parents_nearest_first, domains, end),
		cmocka_unit_test_setup_teardown(spelling_does_not_matter, domains, end),
		cmocka_unit_test_setup_teardown(odd_recipients_have_no_rule_of_their_own, domains, end),
		cmocka_unit_test(a_table_that_wraps_around_is_searched_to_its_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
