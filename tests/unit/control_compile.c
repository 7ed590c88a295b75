/* control/policy/compile.c: what the dataplane finds in an image for the rules that went in. */
#include "control_harness.h"

static const struct image_rule *star(const struct policy_image *image)
{
	return policy_rule(image, policy_image_header(image)->default_rule);
}

static const char *name(const struct policy_image *image, const struct image_rule *rule)
{
	return rule ? policy_string(image, rule->name) : "nothing";
}

static void no_rules_change_nothing(void **state)
{
	struct policy_image *image = h_image(ruleset_new());
	const struct image_header *h = policy_image_header(image);

	(void)state;
	assert_int_equal(h->generation, 42);
	assert_int_equal(h->compiled_at, H_NOW);
	assert_int_equal(star(image)->level, LEVEL_MAY);
	assert_int_equal(star(image)->mode, MODE_OBSERVE);
	assert_int_equal(policy_rule(image, h->inbound_rule)->mode, MODE_OBSERVE);
	assert_string_equal(name(image, policy_rule(image, h->inbound_rule)), "inbound:*");
	assert_int_equal(h->enforced_domain_rules, 0);
	policy_image_close(image);
}

static void every_value_arrives(void **state)
{
	struct policy_image *image = h_image(H_SET(
		"example.org verify match=mx.example.org:.example.net protocols=>=TLSv1.3 ciphers=HIGH exclude=RC4,MD5 servername=mx.example.org "
		"percent=7 on_fail=reject e2e=probe unknown=pass nonsmtp=reset overload=reset expires=2027-06-01 owner=me reason=why"));
	const struct image_rule *r = policy_domain_rule(image, "example.org");

	(void)state;
	assert_string_equal(name(image, r), "example.org");
	assert_int_equal(r->kind, POLICY_DOMAIN);
	assert_int_equal(r->level, LEVEL_VERIFY);
	assert_int_equal(r->protocol_min, 0x0304);
	assert_string_equal(policy_string(image, r->ciphers), "HIGH:!aNULL");
	assert_string_equal(policy_string(image, r->exclude), "RC4:MD5");
	assert_string_equal(policy_string(image, r->servername), "mx.example.org");
	assert_string_equal(policy_string(image, r->owner), "me");
	assert_string_equal(policy_string(image, r->reason), "why");
	assert_int_equal(r->percent, 7);
	assert_int_equal(r->on_fail, ON_FAIL_REJECT);
	assert_int_equal(r->e2e, E2E_PROBE);
	assert_int_equal(r->unknown, UNKNOWN_PASS);
	assert_int_equal(r->nonsmtp, PASS_RESET);
	assert_int_equal(r->overload, PASS_RESET);
	assert_int_equal(r->expires, 1811808000);
	assert_int_equal(r->match_count, 2);
	assert_true(policy_name_matches(image, r, "a.example.net", NULL, NULL));
	assert_false(policy_name_matches(image, r, "example.org", "example.org", "example.org"));
	assert_int_equal(policy_image_header(image)->enforced_domain_rules, 1);
	policy_image_close(image);
}

/* Postfix' defaults: verify takes the server's name, secure the recipient's domain and what is below it. */
static void names_to_match_by_default(void **state)
{
	struct policy_image *image = h_image(H_SET("v.example verify", "s.example secure", "e.example encrypt"));
	const struct image_rule *v = policy_domain_rule(image, "v.example"), *s = policy_domain_rule(image, "s.example");

	(void)state;
	assert_true(policy_name_matches(image, v, "mx.isp.example", "v.example", "mx.isp.example"));
	assert_false(policy_name_matches(image, v, "v.example", "v.example", "mx.isp.example"));
	assert_true(policy_name_matches(image, s, "s.example", "s.example", "mx.isp.example"));
	assert_true(policy_name_matches(image, s, "mx.s.example", "s.example", "mx.isp.example"));
	assert_false(policy_name_matches(image, s, "mx.isp.example", "s.example", "mx.isp.example"));
	assert_int_equal(policy_domain_rule(image, "e.example")->match_count, 0);
	policy_image_close(image);
}

static void which_rule_wins(void **state)
{
	struct policy_image *image = h_image(H_SET("example.org encrypt", ".example.org none", "* may", "sub.example.org block",
						   "provider:p level=dane domains=listed.example,.listed.example,example.org nets=10.0.0.0/8"));

	(void)state;
	assert_string_equal(name(image, policy_domain_rule(image, "example.org")), "example.org"); /* its own goes before a list */
	assert_string_equal(name(image, policy_domain_rule(image, "x.example.org")), ".example.org");
	assert_string_equal(name(image, policy_domain_rule(image, "sub.example.org")), "sub.example.org");
	assert_string_equal(name(image, policy_domain_rule(image, "listed.example")), "p");
	assert_string_equal(name(image, policy_domain_rule(image, "x.listed.example")), "p");
	assert_null(policy_domain_rule(image, "other.example"));
	assert_int_equal(policy_image_header(image)->enforced_domain_rules, 4);
	policy_image_close(image);
}

static uint32_t destination_of(const struct policy_image *image, const char *addr)
{
	uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};

	inet_pton(AF_INET, addr, bytes + 12);
	return policy_destination_of(image, bytes);
}

static void providers_are_destinations(void **state)
{
	struct policy_image *image = h_image(H_SET("provider:big level=encrypt pool=gold servername=mx.big nets=10.0.0.0/8,2001:db8::/32",
						   "provider:counted nets=10.1.0.0/16 pool=tin", "* none pool=common"));
	const struct image_destination *big = policy_destination(image, destination_of(image, "10.2.0.1"));
	const struct image_destination *counted = policy_destination(image, destination_of(image, "10.1.0.1"));

	(void)state;
	assert_string_equal(policy_string(image, big->name), "big");
	assert_string_equal(policy_string(image, big->pool), "gold");
	assert_string_equal(policy_string(image, big->servername), "mx.big");
	assert_int_equal(policy_rule(image, big->rule)->level, LEVEL_ENCRYPT);
	assert_string_equal(policy_string(image, counted->name), "counted");
	assert_string_equal(policy_string(image, counted->pool), "tin");
	assert_int_equal(counted->rule, policy_image_header(image)->default_rule); /* without a level, that of "*" */
	assert_string_equal(policy_string(image, policy_destination(image, 0)->pool), "common");
	assert_int_equal(destination_of(image, "11.0.0.1"), 0);
	assert_int_equal(policy_prefixes(image), 3);
	policy_image_close(image);
}

static void what_has_expired_is_left_out(void **state)
{
	struct policy_image *image = h_image(H_SET("past.example none expires=1799999999", "now.example none expires=1800000000",
						   "soon.example none expires=1800000001", "* block expires=1799999999",
						   "provider:p none nets=10.0.0.0/8 expires=1799999999"));

	(void)state;
	assert_null(policy_domain_rule(image, "past.example"));
	assert_null(policy_domain_rule(image, "now.example"));
	assert_non_null(policy_domain_rule(image, "soon.example"));
	assert_int_equal(star(image)->level, LEVEL_MAY);
	assert_int_equal(star(image)->mode, MODE_OBSERVE);
	assert_int_equal(destination_of(image, "10.0.0.1"), 0);
	policy_image_close(image);
}

#define HEX64(c) c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c

static void pins_stand_with_their_rule(void **state)
{
	struct policy_image *image = h_image(H_SET("a.example encrypt", "b.example fingerprint fingerprints=key:" HEX64("11") "@2027-01-31," HEX64("22"),
						   "c.example fingerprint fingerprints=" HEX64("33") "@2026-01-01"));
	const struct image_rule *b = policy_domain_rule(image, "b.example"), *c = policy_domain_rule(image, "c.example");
	uint8_t one[32], two[32], three[32];

	(void)state;
	memset(one, 0x11, 32);
	memset(two, 0x22, 32);
	memset(three, 0x33, 32);
	assert_int_equal(b->fingerprint_count, 2);
	assert_true(policy_fingerprint_matches(image, b, three, one, H_NOW));
	assert_false(policy_fingerprint_matches(image, b, three, one, 1801353600)); /* its last day is over */
	assert_false(policy_fingerprint_matches(image, b, one, three, H_NOW)); /* a key's pin is not a certificate's */
	assert_true(policy_fingerprint_matches(image, b, two, three, UINT64_MAX));
	assert_int_equal(c->fingerprint_count, 1); /* ended long ago: the rule stays, and nothing meets it */
	assert_false(policy_fingerprint_matches(image, c, three, three, H_NOW));
	assert_int_equal(policy_domain_rule(image, "a.example")->fingerprint_count, 0);
	policy_image_close(image);
}

static const uint8_t *addr_of(const char *text)
{
	static uint8_t bytes[16];

	memset(bytes, 0, sizeof(bytes));
	if (strchr(text, ':')) {
		inet_pton(AF_INET6, text, bytes);
	} else {
		bytes[10] = bytes[11] = 0xff;
		inet_pton(AF_INET, text, bytes + 12);
	}
	return bytes;
}

static void clients_and_inbound_by_network_and_domain(void **state)
{
	struct policy_image *image = h_image(H_SET(
		"client:10.0.0.0/8 encrypt", "client:10.1.0.0/16 none", "client:fd77::/16 may", "client:192.0.2.0/24 block expires=1799999999",
		"inbound:* may mode=observe", "inbound:203.0.113.0/24 encrypt", "inbound:2001:db8::/32 encrypt", "inbound:in.example encrypt",
		"inbound:.in.example may"));

	(void)state;
	assert_string_equal(name(image, policy_client_rule(image, addr_of("10.2.3.4"))), "client:10.0.0.0/8");
	assert_string_equal(name(image, policy_client_rule(image, addr_of("10.1.3.4"))), "client:10.1.0.0/16");
	assert_string_equal(name(image, policy_client_rule(image, addr_of("fd77::9"))), "client:fd77::/16");
	assert_null(policy_client_rule(image, addr_of("11.0.0.1")));
	assert_null(policy_client_rule(image, addr_of("192.0.2.1"))); /* expired */
	assert_int_equal(destination_of(image, "10.2.3.4"), 0);       /* customers are no destinations */
	assert_string_equal(name(image, policy_inbound_rule(image, addr_of("203.0.113.9"))), "inbound:203.0.113.0/24");
	assert_string_equal(name(image, policy_inbound_rule(image, addr_of("2001:db8::9"))), "inbound:2001:db8::/32");
	assert_string_equal(name(image, policy_inbound_rule(image, addr_of("198.51.100.1"))), "inbound:*");
	assert_string_equal(name(image, policy_inbound_domain_rule(image, "In.Example")), "inbound:in.example");
	assert_string_equal(name(image, policy_inbound_domain_rule(image, "a.b.in.example")), "inbound:.in.example");
	assert_null(policy_inbound_domain_rule(image, "other.example"));
	assert_null(policy_domain_rule(image, "in.example"));
	assert_int_equal(policy_image_header(image)->enforced_domain_rules, 0);
	assert_int_equal(policy_image_header(image)->enforced_inbound_rules, 1);
	policy_image_close(image);
}

static void contradictions_are_named(void **state)
{
	(void)state;
	h_conflict(H_SET("provider:a nets=10.0.0.0/8", "provider:b nets=10.0.0.0/8"), "10.0.0.0/8: in nets of provider:a and of provider:b");
	h_conflict(H_SET("provider:a may domains=x.example", "provider:b may domains=x.example"),
		   "x.example: in domains of provider:a and of provider:b");
	/* a rule of its own settles it; and what has expired contradicts nobody */
	policy_image_close(h_image(H_SET("provider:a may domains=x.example", "x.example none", "provider:b may domains=y.example")));
	policy_image_close(h_image(H_SET("provider:a nets=10.0.0.0/8 expires=1799999999", "provider:b nets=10.0.0.0/8")));
}

static void the_same_rules_make_the_same_bytes(void **state)
{
	struct ruleset *one = H_SET("b.example may", "a.example encrypt", "provider:p nets=10.0.0.0/8");
	struct ruleset *two = H_SET("provider:p nets=10.0.0.0/8", "a.example encrypt", "b.example may");
	size_t len1, len2;
	void *bytes1 = ruleset_compile(one, 1, H_NOW, &len1, h_error, sizeof(h_error));
	void *bytes2 = ruleset_compile(two, 1, H_NOW, &len2, h_error, sizeof(h_error));

	(void)state;
	assert_int_equal(len1, len2);
	assert_memory_equal(bytes1, bytes2, len1);
	free(bytes1);
	free(bytes2);
	ruleset_free(one);
	ruleset_free(two);
}

static void many(void **state)
{
	struct ruleset *set = ruleset_new();
	char line[96];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		snprintf(line, sizeof(line), "d%d.example %s owner=o%d", i, i % 2 ? "encrypt" : "may", i % 10);
		ruleset_put(set, h_rule(line));
	}
	struct policy_image *image = h_image(set);
	for (int i = 0; i < 20000; i++) {
		snprintf(line, sizeof(line), "D%d.example.", i);
		const struct image_rule *rule = policy_domain_rule(image, line);
		assert_non_null(rule);
		assert_int_equal(rule->level, i % 2 ? LEVEL_ENCRYPT : LEVEL_MAY);
	}
	assert_null(policy_domain_rule(image, "d20000.example"));
	assert_int_equal(policy_image_header(image)->enforced_domain_rules, 10000);
	policy_image_close(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_rules_change_nothing), cmocka_unit_test(every_value_arrives), cmocka_unit_test(names_to_match_by_default),
		cmocka_unit_test(which_rule_wins), cmocka_unit_test(providers_are_destinations), cmocka_unit_test(what_has_expired_is_left_out),
		cmocka_unit_test(pins_stand_with_their_rule), cmocka_unit_test(clients_and_inbound_by_network_and_domain),
		cmocka_unit_test(contradictions_are_named), cmocka_unit_test(the_same_rules_make_the_same_bytes), cmocka_unit_test(many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
