/* control/policy/found.c: what DANE and MTA-STS make of keys without a level, and what goes before what. */
#include "control_found_harness.h"

/* "title level mode" of the rule that holds for a recipient at a server; "-": none. */
static void holds(const char *addr, const char *domain, const char *expected)
{
	struct policy_parties parties = {f_addr(addr), f_addr(addr), false, 0};
	const struct image_rule *rule = policy_recipient_rule(f.image, &parties, domain);
	char title[POLICY_TITLE_MAX], text[400] = "-";

	if (rule)
		snprintf(text, sizeof(text), "%s %s%s", policy_rule_title(f.image, rule, title), policy_level_name(rule->level),
			 rule->mode == MODE_OBSERVE ? " observe" : "");
	if (strcmp(text, expected) != 0)
		fail_msg("%s at %s: %s, expected %s", domain, addr, text, expected);
}

/* 10.0.0.1 has records, 10.0.0.2 has none, for each of the domains. */
static void servers_of(const char *domain)
{
	f_claim(domain, 10, "with.example", "10.0.0.1", true);
	f_claim(domain, 10, "without.example", "10.0.0.2", true);
}

static void hosts(void)
{
	f_host("with.example", TLSA_SECURE);
	f_record(3, 1, 1, 32);
	f_host("without.example", TLSA_NONE);
}

static void dane_then_mta_sts_then_what_else_holds(void **state)
{
	(void)state;
	hosts();
	servers_of("both.example");
	servers_of("dane.example");
	servers_of("own.example");
	servers_of("x.parent.example");
	f_sts("both.example", STS_ENFORCE, STS_OK, F_MX("*.example"));
	f_sts("own.example", STS_ENFORCE, STS_OK, F_MX("*.example"));
	f_sts("sts.example", STS_ENFORCE, STS_FETCH_ERROR, F_MX("a.example")); /* an earlier policy holds */
	f_compile(H_SET("both.example", "dane.example", "own.example may", "sts.example", "nothing.example", "x.parent.example", ".parent.example encrypt"));
	holds("10.0.0.1", "both.example", "DANE of both.example dane");
	holds("10.0.0.2", "both.example", "MTA-STS of both.example secure");
	holds("10.0.0.7", "both.example", "MTA-STS of both.example secure"); /* a server of which the DNS says nothing */
	holds("10.0.0.1", "dane.example", "DANE of dane.example dane");
	holds("10.0.0.2", "dane.example", "-");
	holds("10.0.0.1", "own.example", "own.example may"); /* the operator's word */
	holds("10.0.0.1", "sts.example", "MTA-STS of sts.example secure");
	holds("10.0.0.1", "nothing.example", "-");
	holds("10.0.0.1", "x.parent.example", "DANE of x.parent.example dane");
	holds("10.0.0.2", "x.parent.example", ".parent.example encrypt");
	assert_int_equal(policy_sts_of(f.image, "sts.example")->error, STS_FETCH_ERROR);
	assert_null(policy_sts_of(f.image, "own.example")); /* nobody asks for it */
}

static void what_an_operator_asks_of_dane(void **state)
{
	(void)state;
	hosts();
	servers_of("dane.example");
	f_compile(H_SET("dane.example dane", "* dane-only"));
	holds("10.0.0.1", "dane.example", "dane.example dane");
	holds("10.0.0.2", "dane.example", "dane.example may"); /* the DNS says that there are no records */
	holds("10.0.0.7", "dane.example", "dane.example dane"); /* it says nothing */
	assert_int_equal(policy_rule(f.image, policy_image_header(f.image)->default_rule)->otherwise, IMAGE_NONE);
}

static void other_attributes_stay(void **state)
{
	static const uint8_t addr[16] = {[10] = 0xff, 0xff, 10, [15] = 1};
	struct policy_parties parties = {addr, addr, false, 0};
	const struct image_rule *rule;

	(void)state;
	hosts();
	servers_of("both.example");
	f_sts("both.example", STS_ENFORCE, STS_OK, F_MX("Mail.Example.", "*.b.example"));
	f_compile(H_SET("both.example mode=observe on_fail=reject percent=40 protocols=>=TLSv1.3"));
	rule = policy_recipient_rule(f.image, &parties, "both.example");
	assert_int_equal(rule->mode, MODE_OBSERVE);
	assert_int_equal(rule->on_fail, ON_FAIL_REJECT);
	assert_int_equal(rule->percent, 40);
	assert_int_equal(rule->protocol_min, 0x0304);
	assert_int_equal(rule->overload, PASS_RESET);
	rule = policy_rule(f.image, rule->otherwise);
	assert_int_equal(rule->origin, ORIGIN_STS);
	assert_int_equal(rule->protocol_min, 0x0304);
	assert_string_equal(policy_match(f.image, rule, 0), "mail.example");
	f_compile(H_SET("both.example"));
	assert_int_equal(policy_recipient_rule(f.image, &parties, "both.example")->protocol_min, 0x0303); /* RFC 8461, section 4.2 */
}

static void modes_of_mta_sts(void **state)
{
	(void)state;
	f_sts("enforce.example", STS_ENFORCE, STS_OK, F_MX("mx.example"));
	f_sts("testing.example", STS_TESTING, STS_OK, F_MX("mx.example"));
	f_sts("x.parent.example", STS_TESTING, STS_OK, F_MX("mx.example"));
	f_sts("none.example", STS_NONE, STS_WEBPKI_INVALID, NULL, 0);
	f_compile(H_SET("enforce.example", "testing.example", "none.example", "x.parent.example", ".parent.example encrypt"));
	holds("10.0.0.1", "enforce.example", "MTA-STS of enforce.example secure");
	holds("10.0.0.1", "testing.example", "-");
	holds("10.0.0.1", "x.parent.example", ".parent.example encrypt"); /* in force meanwhile */
	assert_non_null(policy_testing_rule(f.image, NULL, "testing.example"));
	assert_null(policy_testing_rule(f.image, NULL, "enforce.example"));
	holds("10.0.0.1", "none.example", "-");
	assert_int_equal(policy_sts_of(f.image, "none.example")->error, STS_WEBPKI_INVALID);
	assert_int_equal(policy_sts_of(f.image, "testing.example")->mode, STS_TESTING);
	const struct image_rule *testing = policy_rule(f.image, policy_sts_of(f.image, "x.parent.example")->rule);
	assert_string_equal(policy_string(f.image, policy_rule(f.image, testing->otherwise)->name), ".parent.example");
}

/* A policy with a pattern that is none is none: a server that no pattern names would be refused by half of it. */
static void policies_that_cannot_be_taken(void **state)
{
	static const char *const many[IMAGE_MATCHES_MAX + 1] = {[0 ... IMAGE_MATCHES_MAX] = "mx.example"};

	(void)state;
	f_sts("a.example", STS_ENFORCE, STS_OK, F_MX("mx.example", "hostname"));
	f_sts("b.example", STS_ENFORCE, STS_OK, F_MX("*"));
	f_sts("c.example", STS_ENFORCE, STS_OK, F_MX("m*.example"));
	f_sts("d.example", STS_ENFORCE, STS_OK, F_MX(".example"));
	f_sts("e.example", STS_ENFORCE, STS_OK, NULL, 0);
	f_sts("f.example", STS_ENFORCE, STS_OK, many, COUNT(many));
	f_sts("not a domain", STS_ENFORCE, STS_OK, F_MX("mx.example"));
	f_compile(H_SET("a.example", "b.example", "c.example", "d.example", "e.example", "f.example"));
	for (char domain[] = "a.example"; domain[0] <= 'f'; domain[0]++) {
		holds("10.0.0.1", domain, "-");
		assert_int_equal(policy_sts_of(f.image, domain)->error, STS_POLICY_INVALID);
	}
	assert_int_equal(f.d.refused, 7);
}

static void providers(void **state)
{
	(void)state;
	hosts();
	servers_of("listed.example");
	servers_of("own.example");
	f_sts("listed.example", STS_ENFORCE, STS_OK, F_MX("*.example"));
	f_compile(H_SET("provider:p nets=10.0.0.0/8 domains=listed.example,own.example,.below.example", "own.example encrypt"));
	holds("10.0.0.1", "listed.example", "DANE of listed.example dane");
	holds("10.0.0.2", "listed.example", "MTA-STS of listed.example secure");
	holds("10.0.0.1", "own.example", "own.example encrypt");
	holds("10.0.0.1", "a.below.example", "-");
	f_compile(H_SET("provider:p encrypt domains=listed.example nets=10.0.0.0/8", "listed.example"));
	holds("10.0.0.2", "listed.example", "MTA-STS of listed.example secure"); /* a key of its own goes before the list */
	f.d.sts_count = 0;
	f_compile(H_SET("provider:p encrypt domains=listed.example nets=10.0.0.0/8", "listed.example"));
	holds("10.0.0.1", "listed.example", "DANE of listed.example dane");
	holds("10.0.0.2", "listed.example", "p encrypt");

	size_t len;
	struct ruleset *set = H_SET("provider:p domains=listed.example", "provider:q encrypt domains=listed.example nets=10.0.0.0/8");
	assert_null(ruleset_compile_discovered(set, &f.d, 42, H_NOW, &len, h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "listed.example: in domains of provider:q and of provider:p"));
	ruleset_free(set);
}

static void expired_keys_bring_nothing(void **state)
{
	(void)state;
	f_sts("a.example", STS_ENFORCE, STS_OK, F_MX("mx.example"));
	f_compile(H_SET("a.example expires=2020-01-01"));
	holds("10.0.0.1", "a.example", "-");
	assert_null(policy_sts_of(f.image, "a.example"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOUND_TEST(dane_then_mta_sts_then_what_else_holds), FOUND_TEST(what_an_operator_asks_of_dane), FOUND_TEST(other_attributes_stay),
		FOUND_TEST(modes_of_mta_sts), FOUND_TEST(policies_that_cannot_be_taken), FOUND_TEST(providers), FOUND_TEST(expired_keys_bring_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
