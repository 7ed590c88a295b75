/* policy/findings.c: which name a server goes by for whom, which rule that makes, and what a probe proves. */
#include "policy_harness.h"

static struct policy_image *image;

/* 10.0.0.1 is a.example for dane.example and found.example, b.example for other.example; its destination calls it b.example.
 * 10.0.0.2 is c.example, of which nothing is known, for dane.example. found.example has no level of its own: DANE, then
 * MTA-STS. plain.example has none either, and nothing beneath. */
static int begin(void **state)
{
	uint32_t rule, d;

	(void)state;
	made_begin();
	rule = made_rule(POLICY_DOMAIN, LEVEL_DANE, "dane.example"); /* 2, 3 */
	made.rules[rule].otherwise = made_rule(POLICY_DOMAIN, LEVEL_MAY, "dane.example");
	made_domain("dane.example", rule);
	rule = made_rule(POLICY_DOMAIN, LEVEL_DANE, "found.example"); /* 4, 5 */
	made.rules[rule].origin = ORIGIN_DANE;
	made.rules[rule].otherwise = made_rule(POLICY_DOMAIN, LEVEL_SECURE, "found.example");
	made_match("*.example");
	made_match("mx.deep.example");
	made.rules[5].origin = ORIGIN_STS;
	made_domain("found.example", rule);
	rule = made_rule(POLICY_DOMAIN, LEVEL_DANE, "plain.example"); /* 6 */
	made.rules[rule].origin = ORIGIN_DANE;
	made_domain("plain.example", rule);
	rule = made_rule(POLICY_PARENT, LEVEL_DANE, ".below.example"); /* 7, 8 */
	made.rules[rule].otherwise = made_rule(POLICY_PARENT, LEVEL_MAY, ".below.example");
	made_domain(".below.example", rule);
	d = made_destination("here", 0, "");
	made.destinations[d].servername = made_string("b.example");
	made_prefix4("10.0.0.1", 32, IMAGE_NONE, d);
	made_host("a.example", TLSA_SECURE);
	made_tlsa(3, 1, 0x11);
	made_host("b.example", TLSA_NONE);
	made_host("c.example", TLSA_UNKNOWN);
	made_host("d.example", TLSA_FAILED);
	made_server("10.0.0.1", "dane.example", 0, true);
	made_server("10.0.0.1", "found.example", 0, false);
	made_server("10.0.0.1", "other.example", 1, true);
	made_server("10.0.0.2", "dane.example", 2, true);
	made_server("10.0.0.2", "found.example", 2, true);
	made_server("10.0.0.3", "dane.example", 3, true);
	made.sts[made.header.sts.count++] = (struct image_sts){made_string("failed.example"), IMAGE_NONE, STS_NONE, STS_WEBPKI_INVALID, {0}};
	made.probed[0] = (struct image_probed){.at = 1700000000, .version = 0x0304, .chain = CHAIN_TRUSTED, .dane = DANE_MATCHED, .name_count = 1};
	memcpy(made.probed[0].addr, made_addr("10.0.0.1"), 16);
	made.probed_names[0] = made_string("a.example");
	made.header.probed.count = made.header.probed_names.count = 1;
	made.seen[0].at = 1600000000;
	memcpy(made.seen[0].addr, made_addr("10.0.0.9"), 16);
	made.header.seen.count = 1;
	image = made_good();
	return 0;
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	return 0;
}

/* "name state secure" */
static void server_is(const char *addr, const char *domain, const char *expected)
{
	struct policy_server s = policy_server_of(image, made_addr(addr), domain);
	char text[300];

	snprintf(text, sizeof(text), "%s %d %d", s.mx ? s.mx : "-", s.tlsa, s.mx_secure);
	if (strcmp(text, expected) != 0)
		fail_msg("%s for %s: %s, expected %s", addr, domain ? domain : "-", text, expected);
}

static void a_name_for_each_domain(void **state)
{
	struct policy_server s = policy_server_of(image, made_addr("10.0.0.1"), "dane.example");

	(void)state;
	server_is("10.0.0.1", "dane.example", "a.example 2 1");
	server_is("10.0.0.1", "Dane.Example.", "a.example 2 1");
	server_is("10.0.0.1", "found.example", "a.example 2 0");
	server_is("10.0.0.1", "other.example", "b.example 1 1");
	server_is("10.0.0.1", NULL, "b.example 1 1");
	server_is("10.0.0.1", "stranger.example", "b.example 1 0"); /* by the address's own name, and no MX vouches for it */
	server_is("10.0.0.2", NULL, "- 0 1");
	server_is("10.0.0.7", "dane.example", "- 0 0");
	assert_int_equal(s.record_count, 1);
	assert_int_equal(s.records->usage, 3);
	assert_int_equal(policy_tlsa_data(image, s.records)[31], 0x11);
	assert_string_equal(s.base, "a.example");
}

/* Index of the rule that holds; -1: none. */
static int rule_for(const char *addr, const char *domain)
{
	struct policy_parties parties = {made_addr(addr), made_addr(addr), false, 0};
	const struct image_rule *rule = policy_recipient_rule(image, &parties, domain);

	return rule ? (int)(rule - policy_rule(image, 0)) : -1;
}

static void a_rule_for_each_server(void **state)
{
	(void)state;
	assert_int_equal(rule_for("10.0.0.1", "dane.example"), 2);  /* records */
	assert_int_equal(rule_for("10.0.0.2", "dane.example"), 2);  /* not known yet: not ruled out */
	assert_int_equal(rule_for("10.0.0.3", "dane.example"), 2);  /* bogus */
	assert_int_equal(rule_for("10.0.0.7", "dane.example"), 2);
	assert_int_equal(rule_for("10.0.0.1", "found.example"), 4);
	assert_int_equal(rule_for("10.0.0.2", "found.example"), 5); /* nobody's word for DANE: MTA-STS */
	assert_int_equal(rule_for("10.0.0.1", "plain.example"), -1);
	assert_int_equal(rule_for("10.0.0.7", "x.below.example"), 8); /* nobody can ask for all its subdomains */
	assert_int_equal(rule_for("10.0.0.1", "x.below.example"), 8);
	made.hosts[1].tlsa = TLSA_NONE;
	made.servers[3].host = 1;
	policy_image_close(image);
	image = made_good();
	assert_int_equal(rule_for("10.0.0.2", "dane.example"), 3); /* none, says the DNS: may */
}

static void mta_sts_patterns(void **state)
{
	const struct image_rule *rule = policy_rule(image, 5);

	(void)state;
	assert_true(policy_mx_named(image, rule, "a.example"));
	assert_true(policy_mx_named(image, rule, "mx.deep.example"));
	assert_false(policy_mx_named(image, rule, "b.deep.example")); /* one label */
	assert_false(policy_mx_named(image, rule, "example"));
	assert_true(policy_name_matches(image, rule, "x.example", "found.example", NULL)); /* no name known: a pattern will do */
	assert_true(policy_name_matches(image, rule, "a.example", "found.example", "a.example"));
	assert_false(policy_name_matches(image, rule, "b.example", "found.example", "a.example"));
}

static void facts_of_the_server(void **state)
{
	struct policy_facts facts = {0};
	struct policy_server s = policy_server_of(image, made_addr("10.0.0.1"), "dane.example");

	(void)state;
	policy_facts_of_server(image, policy_rule(image, 5), &s, &facts);
	assert_int_equal(facts.tlsa, TLSA_SECURE);
	assert_true(facts.mx_secure);
	assert_false(facts.mx_foreign);
	s.mx = "mx.evil.test";
	policy_facts_of_server(image, policy_rule(image, 5), &s, &facts);
	assert_true(facts.mx_foreign);
	policy_facts_of_server(image, policy_rule(image, 2), &s, &facts);
	assert_false(facts.mx_foreign);
}

static void a_probe_proves_for_a_time(void **state)
{
	struct policy_facts facts = {0};

	(void)state;
	policy_facts_of_probe(image, policy_rule(image, 5), made_addr("10.0.0.1"), "found.example", 1700000000 + POLICY_PROBE_AGE_MAX_S, &facts);
	assert_int_equal(facts.chain, CHAIN_TRUSTED);
	assert_int_equal(facts.dane, DANE_MATCHED);
	assert_true(facts.name_matched);
	facts = (struct policy_facts){0};
	policy_facts_of_probe(image, policy_rule(image, 5), made_addr("10.0.0.1"), "found.example", 1700000001 + POLICY_PROBE_AGE_MAX_S, &facts);
	assert_int_equal(facts.chain, CHAIN_UNSEEN);
	policy_facts_of_probe(image, policy_rule(image, 5), made_addr("10.0.0.2"), "found.example", 1700000000, &facts);
	assert_int_equal(facts.chain, CHAIN_UNSEEN);
}

static void what_else_is_known(void **state)
{
	char title[POLICY_TITLE_MAX];

	(void)state;
	assert_int_equal(policy_sts_of(image, "Failed.example")->error, STS_WEBPKI_INVALID);
	assert_null(policy_sts_of(image, "found.example"));
	assert_null(policy_sts_of(image, ""));
	assert_int_equal(policy_seen_at(image, made_addr("10.0.0.9"))->at, 1600000000);
	assert_null(policy_seen_at(image, made_addr("10.0.0.8")));
	assert_string_equal(policy_probed_name(image, policy_probed_at(image, made_addr("10.0.0.1")), 0), "a.example");
	assert_string_equal(policy_rule_title(image, policy_rule(image, 5), title), "MTA-STS of found.example");
	assert_string_equal(policy_rule_title(image, policy_rule(image, 4), title), "DANE of found.example");
	assert_string_equal(policy_rule_title(image, policy_rule(image, 2), title), "dane.example");
	assert_string_equal(policy_rule_nexthop(image, policy_rule(image, 2)), "dane.example");
	assert_null(policy_rule_nexthop(image, policy_rule(image, 0)));
	assert_int_equal(policy_sts_reason(STS_FETCH_ERROR), REASON_STS_FETCH);
	assert_int_equal(policy_sts_reason(STS_POLICY_INVALID), REASON_STS_INVALID);
	assert_int_equal(policy_sts_reason(STS_WEBPKI_INVALID), REASON_STS_WEBPKI);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_name_for_each_domain, begin, end),
		cmocka_unit_test_setup_teardown(a_rule_for_each_server, begin, end),
		cmocka_unit_test_setup_teardown(mta_sts_patterns, begin, end),
		cmocka_unit_test_setup_teardown(facts_of_the_server, begin, end),
		cmocka_unit_test_setup_teardown(a_probe_proves_for_a_time, begin, end),
		cmocka_unit_test_setup_teardown(what_else_is_known, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
