/* policy/rules.c: whose rule holds, who is exempt, and which of two rules decides. */
#include "policy_harness.h"

static struct policy_image *image;

static int begin(void **state)
{
	uint32_t provider, encrypt, exempt;

	(void)state;
	made_begin();
	provider = made_rule(POLICY_PROVIDER, LEVEL_ENCRYPT, "lab");
	made_prefix4("198.51.100.0", 24, IMAGE_NONE, made_destination("lab", provider, ""));
	encrypt = made_rule(POLICY_CLIENT, LEVEL_ENCRYPT, "client:10.0.0.0/8");
	exempt = made_rule(POLICY_CLIENT, LEVEL_NONE, "client:10.1.0.0/16");
	made.rules[exempt].percent = 50;
	made.client4[made.header.client4.count++] = made_net4("10.0.0.0", 8, IMAGE_NONE, encrypt);
	made.client4[made.header.client4.count++] = made_net4("10.1.0.0", 16, 0, exempt);
	exempt = made_rule(POLICY_CLIENT, LEVEL_NONE, "client:10.2.0.0/16");
	made.rules[exempt].mode = MODE_OBSERVE;
	made.client4[made.header.client4.count++] = made_net4("10.2.0.0", 16, 0, exempt);
	made.client6[made.header.client6.count++] = made_net6("fd77::", 16, IMAGE_NONE, encrypt);
	made.inbound4[made.header.inbound4.count++] =
		made_net4("192.0.2.0", 24, IMAGE_NONE, made_rule(POLICY_INBOUND, LEVEL_ENCRYPT, "inbound:192.0.2.0/24"));
	made_domain("x.example", made_rule(POLICY_DOMAIN, LEVEL_ENCRYPT, "x.example"));
	made_inbound_domain("x.example", made_rule(POLICY_INBOUND, LEVEL_ENCRYPT, "inbound:x.example"));
	image = made_good();
	return 0;
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	return 0;
}

static const char *name(const struct image_rule *rule)
{
	return rule ? policy_string(image, rule->name) : "nothing";
}

static void rules_are(const char *client, const char *server, bool inbound, uint32_t hash, const char *rule, const char *minimum,
		      const char *recipient)
{
	uint8_t from[16], to[16];
	struct policy_parties parties = {from, to, inbound, hash};

	memcpy(from, made_addr(client), 16);
	memcpy(to, made_addr(server), 16);
	struct policy_rules rules = policy_rules_of(image, &parties);
	assert_string_equal(name(rules.rule), rule);
	assert_string_equal(name(rules.minimum), minimum);
	assert_string_equal(name(policy_recipient_rule(image, &parties, "x.example")), recipient);
}

static void whose_rules(void **state)
{
	(void)state;
	rules_are("172.16.0.1", "203.0.113.1", false, 0, "*", "nothing", "x.example");
	rules_are("172.16.0.1", "198.51.100.1", false, 0, "lab", "nothing", "x.example");
	rules_are("10.9.0.1", "198.51.100.1", false, 0, "lab", "client:10.0.0.0/8", "x.example");
	rules_are("fd77::1", "203.0.113.1", false, 0, "*", "client:10.0.0.0/8", "x.example");
	/* exempt from everything, for the flows that percent takes */
	rules_are("10.1.0.1", "198.51.100.1", false, 49, "client:10.1.0.0/16", "nothing", "nothing");
	rules_are("10.1.0.1", "198.51.100.1", false, 50, "lab", "client:10.1.0.0/16", "x.example");
	/* an observed exemption exempts nobody */
	rules_are("10.2.0.1", "198.51.100.1", false, 0, "lab", "client:10.2.0.0/16", "x.example");
}

static void from_outside(void **state)
{
	(void)state;
	rules_are("10.9.0.1", "203.0.113.1", true, 0, "inbound:*", "nothing", "inbound:x.example");
	rules_are("10.1.0.1", "192.0.2.7", true, 0, "inbound:192.0.2.0/24", "nothing", "inbound:x.example"); /* no customer of ours */
}

/* ---- which of two decides ---- */

static struct image_rule rules[4];

static const struct image_rule *winner(enum policy_level level_a, struct policy_decision a, enum policy_level level_b, struct policy_decision b)
{
	rules[0].level = (uint8_t)level_a;
	rules[1].level = (uint8_t)level_b;
	return policy_stricter((struct policy_verdict){&rules[0], a}, (struct policy_verdict){&rules[1], b}).rule;
}

static void the_stricter_decides(void **state)
{
	static const struct policy_decision allow = {POLICY_ALLOW, REASON_UPGRADED, false}, defer = {POLICY_DEFER, REASON_VERSION, false},
		reject = {POLICY_REJECT, REASON_VERSION, false}, would_allow = {POLICY_ALLOW, REASON_CLEAR_ALLOWED, true},
		would_reject = {POLICY_REJECT, REASON_VERSION, true};
	static const struct { enum policy_level a; const struct policy_decision *da; enum policy_level b; const struct policy_decision *db; int wins; } cases[] = {
		{LEVEL_BLOCK, &allow, LEVEL_MAY, &defer, 1},         /* the decision, not the level */
		{LEVEL_MAY, &reject, LEVEL_SECURE, &defer, 0},
		{LEVEL_SECURE, &would_reject, LEVEL_MAY, &defer, 1}, /* what is done goes before what is counted */
		{LEVEL_SECURE, &would_reject, LEVEL_MAY, &allow, 0}, /* nothing is done: what would be is told */
		{LEVEL_MAY, &allow, LEVEL_SECURE, &would_allow, 0},
		{LEVEL_MAY, &would_allow, LEVEL_NONE, &allow, 1},
		{LEVEL_MAY, &allow, LEVEL_ENCRYPT, &allow, 1},
		{LEVEL_ENCRYPT, &allow, LEVEL_ENCRYPT, &allow, 0},
		{LEVEL_DANE_ONLY, &defer, LEVEL_VERIFY, &defer, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (winner(cases[i].a, *cases[i].da, cases[i].b, *cases[i].db) != &rules[cases[i].wins])
			fail_msg("case %zu: the other one decides", i);
		/* the same the other way round, but where nothing tells them apart */
		if (cases[i].a != cases[i].b && winner(cases[i].b, *cases[i].db, cases[i].a, *cases[i].da) != &rules[!cases[i].wins])
			fail_msg("case %zu: depends on the order", i);
	}
}

static void levels_have_one_order(void **state)
{
	static const enum policy_level rising[] = {LEVEL_NONE, LEVEL_MAY, LEVEL_ENCRYPT, LEVEL_DANE, LEVEL_VERIFY, LEVEL_SECURE,
						   LEVEL_DANE_ONLY, LEVEL_FINGERPRINT, LEVEL_BLOCK};

	(void)state;
	for (unsigned i = 0; i < POLICY_LEVELS; i++)
		assert_int_equal(policy_strictness(rising[i]), i);
	assert_int_equal(policy_strictness(POLICY_LEVELS), policy_strictness(LEVEL_BLOCK));
}

static bool wants(enum policy_level rule, enum policy_level minimum, bool observed)
{
	struct policy_rules both = {&rules[0], minimum == POLICY_LEVELS ? NULL : &rules[1]};

	for (int i = 0; i < 2; i++)
		rules[i] = (struct image_rule){.percent = 100, .protocol_min = i ? 0x0304 : 0x0303, .level = (uint8_t)(i ? minimum : rule)};
	rules[1].mode = observed ? MODE_OBSERVE : MODE_ENFORCE;
	assert_int_equal(policy_rules_floor(&both, 0), both.minimum && !observed && minimum > LEVEL_MAY && minimum < LEVEL_BLOCK ? 0x0304
			 : rule > LEVEL_MAY && rule < LEVEL_BLOCK ? 0x0303 : 0);
	return policy_rules_want_tls(&both, 0);
}

static void tls_and_floor_of_both(void **state)
{
	(void)state;
	assert_false(wants(LEVEL_NONE, POLICY_LEVELS, false));
	assert_true(wants(LEVEL_NONE, LEVEL_ENCRYPT, false));
	assert_false(wants(LEVEL_NONE, LEVEL_ENCRYPT, true));
	assert_true(wants(LEVEL_ENCRYPT, LEVEL_MAY, false));
	assert_true(wants(LEVEL_ENCRYPT, LEVEL_NONE, true));
	assert_false(wants(LEVEL_ENCRYPT, LEVEL_BLOCK, false)); /* no handshake helps against that */
	assert_true(wants(LEVEL_ENCRYPT, LEVEL_BLOCK, true));
	assert_true(wants(LEVEL_DANE_ONLY, LEVEL_ENCRYPT, false));
	assert_true(wants(LEVEL_FINGERPRINT, POLICY_LEVELS, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whose_rules, begin, end), cmocka_unit_test_setup_teardown(from_outside, begin, end),
		cmocka_unit_test(the_stricter_decides), cmocka_unit_test(levels_have_one_order), cmocka_unit_test(tls_and_floor_of_both),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
