/*
 * control_discovered.c - whose an address is that the DNS tells: nets before names, ties, shared hosting, names that are
 * agreed upon; and that the order of claims does not matter.
 */
#include "control_harness.h"

#define CLAIMS_MAX 64

static struct discovered_claim claims[CLAIMS_MAX];
static struct discovered discovered;
static struct policy_image *image;

static void claim(const char *domain, uint16_t preference, const char *mx, const char *addr)
{
	struct discovered_claim *c = &claims[discovered.count++];

	*c = (struct discovered_claim){.domain = domain, .mx = mx, .preference = preference, .addr = {[10] = 0xff, [11] = 0xff}};
	if (inet_pton(AF_INET, addr, c->addr + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, addr, c->addr), 1);
}

static int begin(void **state)
{
	(void)state;
	discovered = (struct discovered){.claims = claims};
	return 0;
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	image = NULL;
	return 0;
}

/* Takes the set. Compiles it twice, with the claims in two orders. */
static void compile(struct ruleset *set)
{
	size_t len, again_len;
	void *bytes = ruleset_compile_discovered(set, &discovered, 42, H_NOW, &len, h_error, sizeof(h_error));

	if (!bytes)
		fail_msg("does not compile: %s", h_error);
	for (size_t i = 0; i < discovered.count / 2; i++) {
		struct discovered_claim c = claims[i];
		claims[i] = claims[discovered.count - 1 - i];
		claims[discovered.count - 1 - i] = c;
	}
	void *again = ruleset_compile_discovered(set, &discovered, 42, H_NOW, &again_len, h_error, sizeof(h_error));
	assert_non_null(again);
	assert_int_equal(len, again_len);
	assert_memory_equal(bytes, again, len);
	ruleset_free(set);
	image = policy_image_parse(bytes, len, h_error, sizeof(h_error));
	assert_non_null(image);
	free(bytes);
	free(again);
}

/* "destination rule servername" of an address. */
static void is(const char *addr, const char *expected)
{
	uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
	char text[600];

	if (inet_pton(AF_INET, addr, bytes + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, addr, bytes), 1);
	const struct image_destination *d = policy_destination(image, policy_destination_of(image, bytes));
	snprintf(text, sizeof(text), "%s %s %s", policy_string(image, d->name), policy_string(image, policy_rule(image, d->rule)->name),
		 *policy_string(image, d->servername) ? policy_string(image, d->servername) : "-");
	if (strcmp(text, expected) != 0)
		fail_msg("%s: %s, expected %s", addr, text, expected);
}

static void plain_domains(void **state)
{
	(void)state;
	claim("example.org", 10, "mx1.example.org", "10.0.0.1");
	claim("example.org", 10, "mx1.example.org", "fd77::1");
	claim("example.org", 20, "mx2.example.org", "10.0.0.2");
	claim("example.net", 10, "example.net", "10.0.0.3");
	claim("hosted.example", 10, "mx.hoster.example", "10.0.0.4");
	claim("notexample.org", 10, "mx.xnotexample.org", "10.0.0.5");
	claim("forgotten.example", 10, "mx.forgotten.example", "10.0.0.6");
	compile(H_SET("* may", "example.org encrypt", "example.net verify", "hosted.example encrypt", "notexample.org encrypt"));
	is("10.0.0.1", "example.org example.org mx1.example.org");
	is("fd77::1", "example.org example.org mx1.example.org");
	is("10.0.0.2", "example.org example.org mx2.example.org");
	is("10.0.0.3", "example.net example.net example.net");
	is("10.0.0.4", "mx.hoster.example * mx.hoster.example");
	is("10.0.0.5", "mx.xnotexample.org * mx.xnotexample.org");
	is("10.0.0.6", "mx.forgotten.example * mx.forgotten.example"); /* its rule has gone meanwhile */
	is("10.0.0.7", "* * -");
	assert_int_equal(discovered.prefixes, 7);
}

/* Neither the stricter nor the weaker of two rules may decide before the recipient is known. */
static void shared_by_two_rules(void **state)
{
	(void)state;
	claim("strict.example", 10, "mx.strict.example", "10.0.0.1");
	claim("weak.example", 10, "mx.strict.example", "10.0.0.1");
	claim("a.example", 10, "mx.a.example", "10.0.0.2");
	claim("b.example", 10, "mx.a.example", "10.0.0.2");
	claim("a.example", 10, "mx.a.example", "10.0.0.3");
	claim("b.example", 10, "mx.b.example", "10.0.0.3");
	claim("ended.example", 10, "mx.ended.example", "10.0.0.4");
	compile(H_SET("strict.example verify", "weak.example may", "a.example encrypt owner=one reason=x",
		      "b.example encrypt owner=two expires=2028-01-01", "ended.example encrypt expires=2020-01-01"));
	is("10.0.0.1", "mx.strict.example * mx.strict.example");
	is("10.0.0.2", "a.example a.example mx.a.example"); /* alike, but for who answers for it */
	is("10.0.0.3", "a.example a.example -");            /* alike, but under two names */
	is("10.0.0.4", "mx.ended.example * mx.ended.example");
}

static void what_cannot_decide_at_mail(void **state)
{
	static const char *const names[] = {"none.example", "block.example", "secure.example", "nexthop.example", "dot.example"};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		static char addr[COUNT(names)][16];
		snprintf(addr[i], sizeof(addr[i]), "10.0.1.%zu", i);
		claim(names[i], 10, names[i], addr[i]);
	}
	claim("two.example", 10, "two.example", "10.0.2.1");
	claim("twin.example", 10, "twin.example", "10.0.2.1");
	claim("named.example", 10, "named.example", "10.0.2.2");
	compile(H_SET("none.example none", "block.example block", "secure.example secure", "nexthop.example verify match=nexthop",
		      "dot.example verify match=mx.dot.example:dot-nexthop", "two.example verify", "twin.example verify",
		      "named.example secure match=mx.named.example"));
	for (size_t i = 0; i < COUNT(names); i++) {
		char addr[16], expected[80];
		snprintf(addr, sizeof(addr), "10.0.1.%zu", i);
		snprintf(expected, sizeof(expected), "%s * %s", names[i], names[i]);
		is(addr, expected);
	}
	is("10.0.2.1", "* * -"); /* match=hostname, and two of them */
	is("10.0.2.2", "named.example named.example named.example");
}

static void providers(void **state)
{
	(void)state;
	claim("big.example", 10, "mx.big.example", "10.1.0.1");   /* in its own nets: the name is news */
	claim("big.example", 10, "mx.big.example", "10.9.0.1");
	claim("big.example", 20, "mx2.big.example", "10.9.0.2");
	claim("big.example", 10, "mx.big.example", "10.2.0.1");   /* in another's nets */
	claim("big.example", 10, "mx.big.example", "10.9.0.4");   /* claimed by both */
	claim("other.example", 10, "mx.other.example", "10.9.0.4");
	claim("big.example", 10, "mx.big.example", "10.1.7.7");   /* the very address stands in nets */
	claim("stranger.example", 10, "evil.stranger.example", "10.1.0.1");
	claim("stranger.example", 10, "evil.stranger.example", "10.1.0.9");
	claim("stranger.example", 10, "evil.stranger.example", "10.9.0.1");
	claim("fixed.example", 10, "mx.fixed.example", "10.9.0.5");
	claim("both.example", 10, "mx.both.example", "10.9.0.6");
	compile(H_SET("provider:zbig encrypt nets=10.1.0.0/16,10.1.7.7/32 domains=big.example,both.example pool=p",
		      "provider:other may nets=10.2.0.0/16 domains=other.example", "stranger.example block",
		      "provider:fixed encrypt domains=fixed.example servername=sni.fixed.example", "both.example may"));
	is("10.1.0.1", "zbig zbig mx.big.example");
	is("10.1.0.2", "zbig zbig -");
	is("10.1.0.9", "zbig zbig -");
	is("10.1.7.7", "zbig zbig -");
	is("10.9.0.1", "zbig zbig mx.big.example");
	is("10.9.0.2", "zbig zbig mx2.big.example");
	is("10.2.0.1", "other other -");
	is("10.9.0.4", "other other mx.other.example");
	is("10.9.0.5", "fixed fixed sni.fixed.example");
	is("10.9.0.6", "zbig zbig mx.both.example"); /* its own rule waits for the RCPT */
	assert_int_equal(discovered.ties, 1);
	assert_string_equal(discovered.tie, "10.9.0.4/32: MX of domains of provider:other and of provider:zbig; it goes to the "
					    "first; nets= would say whose it is");
	for (size_t i = 0; i < policy_prefixes(image); i++)
		assert_string_equal(policy_prefix(image, i).pool,
				    strcmp(policy_string(image, policy_destination(image, policy_prefix(image, i).destination)->name), "zbig")
				    ? "" : "p");
}

/* Nets within nets: the longest says whose it is, whatever the order of rules. */
static void nets_within_nets(void **state)
{
	(void)state;
	claim("wide.example", 10, "mx.wide.example", "10.1.1.1");
	claim("narrow.example", 10, "mx.narrow.example", "10.1.1.1");
	claim("wide.example", 10, "mx.wide.example", "fd77:1::1");
	compile(H_SET("provider:a-narrow encrypt nets=10.1.1.0/24,fd77:1::/64 domains=narrow.example",
		      "provider:b-wide may nets=10.0.0.0/8,fd77::/16 domains=wide.example"));
	is("10.1.1.1", "a-narrow a-narrow mx.narrow.example");
	is("fd77:1::1", "a-narrow a-narrow -");
	is("10.2.0.1", "b-wide b-wide -");
}

static void nothing_discovered(void **state)
{
	(void)state;
	compile(H_SET("example.org encrypt"));
	assert_int_equal(policy_prefixes(image), 0);
}

static void one_name(void *context, const char *domain, unsigned needs)
{
	sprintf((char *)context + strlen(context), "%s%s%s ", domain, needs & NEED_STS ? "+sts" : "", needs & NEED_PROBE ? "+probe" : "");
}

static void names_of_interest(void **state)
{
	struct ruleset *set = H_SET("* may", ".parent.example encrypt", "plain.example encrypt", "provider:p may domains=.x.example,y.example",
				    "inbound:* encrypt", "e2e.example encrypt e2e=probe",
				    "dane.example dane");
	char names[512] = "";

	(void)state;
	ruleset_domains(set, one_name, names);
	assert_string_equal(names, "dane.example+probe e2e.example+probe plain.example y.example ");
	ruleset_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_domains, begin, end),
		cmocka_unit_test_setup_teardown(shared_by_two_rules, begin, end),
		cmocka_unit_test_setup_teardown(what_cannot_decide_at_mail, begin, end),
		cmocka_unit_test_setup_teardown(providers, begin, end),
		cmocka_unit_test_setup_teardown(nets_within_nets, begin, end),
		cmocka_unit_test_setup_teardown(nothing_discovered, begin, end),
		cmocka_unit_test(names_of_interest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
