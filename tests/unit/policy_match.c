/* policy/match.c: names in certificates against patterns (RFC 6125, section 6.4.3). */
#include "policy_harness.h"

static bool matches(const char *pattern, const char *name, const char *nexthop, const char *hostname)
{
	struct policy_image *image;
	bool yes;

	made_begin();
	made_rule(POLICY_DOMAIN, LEVEL_VERIFY, "example.org");
	made_match("unrelated.example");
	made_match(pattern);
	image = made_good();
	yes = policy_name_matches(image, policy_rule(image, 2), name, nexthop, hostname);
	policy_image_close(image);
	return yes;
}

static void patterns(void **state)
{
	static const struct { const char *pattern, *name; bool yes; } cases[] = {
		{"mx.example.org", "mx.example.org", true},
		{"mx.example.org", "MX.Example.ORG", true},
		{"mx.example.org", "mx.example.org.", true},
		{"mx.example.org", "mx2.example.org", false},
		{"mx.example.org", "example.org", false},
		{"mx.example.org", "a.mx.example.org", false},
		{"mx.example.org", "mx.example.org.evil.example", false},
		/* a wildcard in the certificate stands for one whole label, left */
		{"mx.example.org", "*.example.org", true},
		{"a.mx.example.org", "*.example.org", false},
		{"example.org", "*.example.org", false},
		{"mx.example.org", "m*.example.org", false},
		{"mx.example.org", "*x.example.org", false},
		{"mx.example.org", "mx.*.org", false},
		{"mx.example.org", "*.*.org", false},
		{"example.org", "*.org", false}, /* never right under a top-level domain */
		{"mx.example.org", "*", false},
		{"mx.example.org", "*.", false},
		/* below, at any depth */
		{".example.org", "mx.example.org", true},
		{".example.org", "a.b.example.org", true},
		{".example.org", "*.example.org", true},
		{".example.org", "*.a.example.org", true},
		{".example.org", "example.org", false},
		{".example.org", ".example.org", false},
		{".example.org", "evilexample.org", false},
		{".example.org", "*.org", false},
		{".org", "*.org", false},
		/* one label below */
		{"*.example.org", "mx.example.org", true},
		{"*.example.org", "*.example.org", true},
		{"*.example.org", "a.b.example.org", false},
		{"*.example.org", "example.org", false},
		{"*.example.org", "mx.example.com", false},
		/* names that are none */
		{"mx.example.org", "", false},
		{"mx.example.org", ".", false},
		{"mx.example.org", "mx.example.org\n", false},
		{".example.org", "a b.example.org", false},
		{".example.org", "\xc3\xa4.example.org", false},
		{".example.org", "a\x7f.example.org", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (matches(cases[i].pattern, cases[i].name, NULL, NULL) != cases[i].yes)
			fail_msg("pattern %s, name %s: should be %d", cases[i].pattern, cases[i].name, cases[i].yes);
}

static void keywords_mean_what_is_known(void **state)
{
	(void)state;
	assert_true(matches("nexthop", "example.org", "example.org", NULL));
	assert_true(matches("nexthop", "Example.org", "example.ORG.", NULL));
	assert_false(matches("nexthop", "mx.example.org", "example.org", NULL));
	assert_true(matches("nexthop", "*.example.org", "sub.example.org", NULL));
	assert_true(matches("dot-nexthop", "mx.example.org", "example.org", NULL));
	assert_false(matches("dot-nexthop", "example.org", "example.org", NULL));
	assert_true(matches("hostname", "mx.example.org", NULL, "mx.example.org"));
	assert_false(matches("hostname", "example.org", "example.org", "mx.example.org"));
	/* not known, or nothing: no match, and never the word itself */
	assert_false(matches("nexthop", "nexthop", NULL, NULL));
	assert_false(matches("dot-nexthop", "a.dot-nexthop", NULL, NULL));
	assert_false(matches("hostname", "hostname", NULL, NULL));
	assert_false(matches("nexthop", "", "", NULL));
	assert_false(matches("dot-nexthop", "a.", "", NULL));
	assert_false(matches("dot-nexthop", "mx.example.org", ".", NULL));
	assert_false(matches("hostname", "x", NULL, ".x"));
}

static void a_rule_without_patterns_matches_nothing(void **state)
{
	struct policy_image *image;

	(void)state;
	made_begin();
	image = made_good();
	assert_false(policy_name_matches(image, policy_rule(image, 0), "mx.example.org", "mx.example.org", "mx.example.org"));
	policy_image_close(image);
}

static void what_is_a_pattern(void **state)
{
	static const char *const good[] = {"nexthop", "dot-nexthop", "hostname", "example.org", ".example.org", "*.example.org", "mx_1.a"};
	static const char *const wrong[] = {"", "*", ".", "*.", "..a", "*example.org", "*.*.org", "a..b", "Example.org", "example.org.",
					    "a b", "-a.org", "a-.org", "m*.example.org"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!policy_pattern_valid(good[i]) || policy_pattern_is_keyword(good[i]) != (i < 3))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (policy_pattern_valid(wrong[i]))
			fail_msg("%s", wrong[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns),
		cmocka_unit_test(keywords_mean_what_is_known),
		cmocka_unit_test(a_rule_without_patterns_matches_nothing),
		cmocka_unit_test(what_is_a_pattern),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
