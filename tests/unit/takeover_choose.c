/* takeover/choose.c: what is to be done at MAIL, SNI, and names out of rules. */
#include "takeover_harness.h"

static int choose(uint32_t capabilities, bool inbound)
{
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, inbound, 7};
	return takeover_choose(w.image, &parties, capabilities, w.env.memory, w.now).action;
}

static void test_every_level(void **state)
{
	static const struct { const char *rule; int offered, absent; } cases[] = {
		{"* level=none", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=may", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_PASS},
		{"* level=may mode=observe", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=encrypt", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=encrypt mode=observe", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=encrypt percent=0", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=verify match=a.example", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=fingerprint fingerprints=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=dane-only", TAKEOVER_CHOOSE_REFUSE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=block", TAKEOVER_CHOOSE_REFUSE, TAKEOVER_CHOOSE_REFUSE},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		POLICY(cases[i].rule);
		assert_int_equal(choose(SMTP_CAP_STARTTLS, false), cases[i].offered);
		assert_int_equal(choose(TAKEOVER_CAP_UNKNOWN, false), cases[i].offered);
		assert_int_equal(choose(SMTP_CAP_PIPELINING, false), cases[i].absent);
	}
}

static void test_domain_rules_make_it_wait(void **state)
{
	(void)state;
	POLICY("* level=may mode=observe", "a.example level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_RELAY);
	assert_int_equal(choose(0, false), TAKEOVER_CHOOSE_RELAY);
	assert_int_equal(choose(SMTP_CAP_STARTTLS, true), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=none", "a.example level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=may mode=observe", "a.example level=encrypt mode=observe");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
}

/* The client's prefix beside the destination's rule, in both orders of strictness. */
static void test_clients_minimum(void **state)
{
	static const struct { const char *rule, *client; int offered, absent; const char *decides; } cases[] = {
		{"* level=none", "client:10.77.0.0/16 level=encrypt", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE, "client:10.77.0.0/16"},
		{"* level=may mode=observe", "client:10.77.0.0/16 level=may", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_PASS, "client:10.77.0.0/16"},
		{"* level=encrypt", "client:10.77.0.0/16 level=may", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE, "*"},
		{"* level=encrypt", "client:10.77.0.0/16 level=none", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS, "client:10.77.0.0/16"},
		{"* level=block", "client:10.77.0.0/16 level=none", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS, "client:10.77.0.0/16"},
		{"* level=encrypt", "client:10.77.0.0/16 level=none mode=observe", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE, "*"},
		{"* level=may", "client:10.77.0.0/16 level=block", TAKEOVER_CHOOSE_REFUSE, TAKEOVER_CHOOSE_REFUSE, "client:10.77.0.0/16"},
		{"* level=may", "client:10.77.0.0/16 level=block mode=observe", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_PASS, "client:10.77.0.0/16"},
		{"* level=may", "client:10.78.0.0/16 level=block", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_PASS, "*"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_parties parties = {w.params.client_addr, w.params.server_addr, false, 7};
		POLICY(cases[i].rule, cases[i].client);
		assert_int_equal(choose(SMTP_CAP_STARTTLS, false), cases[i].offered);
		assert_int_equal(choose(SMTP_CAP_PIPELINING, false), cases[i].absent);
		struct takeover_choice choice = takeover_choose(w.image, &parties, 0, w.env.memory, w.now);
		assert_string_equal(policy_string(w.image, choice.rule->name), cases[i].decides);
	}
}

static void test_offer_is_what_both_ask_for(void **state)
{
	struct tls_choice tls;
	(void)state;
	scene_begin();
	POLICY("* level=encrypt exclude=RC4 servername=a.example", "client:10.77.0.0/16 level=encrypt ciphers=HIGH exclude=3DES protocols=>=TLSv1.3");
	choose_tls(w.t, session_rules(w.t).rule, NULL, &tls);
	assert_int_equal(tls.params.floor, 0x0304);
	assert_string_equal(tls.params.ciphers, "HIGH:!aNULL");
	assert_string_equal(tls.params.exclude, "RC4:3DES");
	assert_string_equal(tls.params.servername, "a.example");
	/* the destination's is only observed: the offer is the client's alone */
	POLICY("* level=encrypt exclude=RC4 protocols=>=TLSv1.3 mode=observe", "client:10.77.0.0/16 level=encrypt exclude=3DES");
	choose_tls(w.t, session_rules(w.t).rule, NULL, &tls);
	assert_int_equal(tls.params.floor, 0x0303);
	assert_string_equal(tls.params.exclude, "3DES");
}

static void test_memory_only_under_may(void **state)
{
	(void)state;
	takeover_memory_note(w.env.memory, w.params.server_addr, w.now);
	POLICY("* level=may");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE);
	POLICY("* level=may", "client:10.77.0.0/16 level=may");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=may", "client:10.77.0.0/16 level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE);
}

static void test_servername(void **state)
{
	(void)state;
	scene_begin();
	POLICY("* level=verify match=nexthop:.b.example:mx7.example");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule, NULL), "mx7.example");
	POLICY("* level=verify match=mx7.example servername=sni.example");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule, NULL), "sni.example");
	POLICY("* level=encrypt");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule, NULL), "mx.example"); /* the banner's */
	strcpy(w.t->params.server_name, "localhost");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule, NULL), "");
	strcpy(w.t->params.server_name, "10.77.2.1");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule, NULL), "");
}

static void test_what_the_dns_refuses_needs_no_tls(void **state)
{
	(void)state;
	POLICY_FOUND(TLSA_FAILED, NULL, 0, "* level=dane-only", "bound.example dane");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_REFUSE);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=dane");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE); /* as may */
	assert_int_equal(choose(SMTP_CAP_PIPELINING, false), TAKEOVER_CHOOSE_PASS);
	POLICY_FOUND(TLSA_FAILED, NULL, 0, "* level=may", "bound.example dane", "sts.example", "other.example encrypt");
	scene_begin();
	assert_false(recipient_wants_upgrade(w.t, recipient_rule(w.t, "bound.example"), "bound.example"));
	assert_false(recipient_wants_upgrade(w.t, recipient_rule(w.t, "sts.example"), "sts.example")); /* no pattern names it */
	assert_true(recipient_wants_upgrade(w.t, recipient_rule(w.t, "other.example"), "other.example"));
	assert_int_equal(decide_rule(w.t, recipient_rule(w.t, "bound.example"), "bound.example").decision.reason, REASON_DNSSEC);
	assert_int_equal(decide_rule(w.t, recipient_rule(w.t, "sts.example"), "sts.example").decision.reason, REASON_STS_MX);
}

static void test_a_ceiling_of_what_is_offered(void **state)
{
	struct tls_choice tls;

	(void)state;
	POLICY("* level=encrypt protocols=TLSv1.2");
	scene_begin();
	choose_tls(w.t, session_rules(w.t).rule, NULL, &tls);
	assert_int_equal(tls.params.floor, 0x0303);
	assert_int_equal(tls.params.ceiling, 0x0303);
	POLICY("* level=encrypt protocols=<=TLSv1.2", "client:10.77.0.0/16 level=encrypt protocols=>=TLSv1.3");
	choose_tls(w.t, session_rules(w.t).rule, NULL, &tls);
	assert_int_equal(tls.params.floor, 0x0304);
	assert_int_equal(tls.params.ceiling, 0); /* a minimum goes before a maximum */
}

static void test_servername_by_the_dns(void **state)
{
	static const uint8_t digest[32];
	static const struct discovered_tlsa record = {3, 1, 1, 32, digest};

	(void)state;
	POLICY_FOUND(TLSA_SECURE, &record, 1, "* level=may", "bound.example dane", "sts.example", "other.example verify");
	scene_begin();
	assert_string_equal(choose_servername(w.t, recipient_rule(w.t, "bound.example"), "bound.example"), "base.example"); /* RFC 7672, section 8.1 */
	assert_string_equal(choose_servername(w.t, recipient_rule(w.t, "sts.example"), "sts.example"), "mx.sts.example");
	assert_string_equal(choose_servername(w.t, recipient_rule(w.t, "other.example"), "other.example"), "other.mx.example");
}

/* What is said in SNI is one thing, whose certificate it must be another: match=hostname means the MX, as in Postfix. */
static void test_the_mx_is_matched_whatever_sni_says(void **state)
{
	(void)state;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may", "bound.example level=verify servername=sni.example");
	in_tls();
	assert_int_equal(decide_rule(w.t, recipient_rule(w.t, "bound.example"), "bound.example").decision.reason, REASON_UPGRADED);
}

static void test_stripping_is_seen_and_refused_where_asked(void **state)
{
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, false, 7};

	(void)state;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may");
	assert_true(takeover_choose(w.image, &parties, SMTP_CAP_PIPELINING, w.env.memory, w.now).stripped);
	assert_false(takeover_choose(w.image, &parties, SMTP_CAP_STARTTLS, w.env.memory, w.now).stripped);
	assert_false(takeover_choose(w.image, &parties, TAKEOVER_CAP_UNKNOWN, w.env.memory, w.now).stripped); /* it has not been asked */
	assert_int_equal(choose(SMTP_CAP_PIPELINING, false), TAKEOVER_CHOOSE_PASS);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may", "bound.example level=may stripped=refuse");
	assert_int_equal(choose(SMTP_CAP_PIPELINING, false), TAKEOVER_CHOOSE_RELAY); /* a recipient may be refused */
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may stripped=refuse");
	assert_int_equal(choose(SMTP_CAP_PIPELINING, false), TAKEOVER_CHOOSE_REFUSE);
	assert_int_equal(choose(SMTP_CAP_PIPELINING, true), TAKEOVER_CHOOSE_PASS); /* servers inside are nobody's to remember */
}

/* The client's own STARTTLS got no 220. A rule in force has waxseal ask once more, and goes by that; one that is observed
 * goes by what the client got, or enforcing it would bring what was never counted. */
static void test_454_to_the_client_is_an_answer_where_waxseal_does_not_ask(void **state)
{
	static const struct { const char *rule; int action; enum policy_reason reason; bool stripped; } cases[] = {
		{"* level=may mode=observe", TAKEOVER_CHOOSE_PASS, REASON_CLEAR_ALLOWED, true},
		{"* level=may stripped=refuse mode=observe", TAKEOVER_CHOOSE_PASS, REASON_STRIPPED, true},
		{"* level=encrypt mode=observe", TAKEOVER_CHOOSE_PASS, REASON_STARTTLS_REFUSED, true},
		{"* level=encrypt percent=0", TAKEOVER_CHOOSE_PASS, REASON_STARTTLS_REFUSED, true},
		{"* level=may stripped=refuse", TAKEOVER_CHOOSE_UPGRADE, POLICY_REASONS, false},
		{"* level=encrypt", TAKEOVER_CHOOSE_UPGRADE, POLICY_REASONS, false},
	};
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, false, 7}, inbound = parties;
	(void)state;
	inbound.inbound = true;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		POLICY_FOUND(TLSA_NONE, NULL, 0, cases[i].rule);
		struct takeover_choice got = takeover_choose(w.image, &parties, SMTP_CAP_STARTTLS | TAKEOVER_CAP_REFUSED, w.env.memory, w.now);
		assert_int_equal(got.action, cases[i].action);
		assert_int_equal(got.stripped, cases[i].stripped);
		if (cases[i].reason != POLICY_REASONS)
			assert_int_equal(got.decision.reason, cases[i].reason);
	}
	POLICY("* level=may stripped=refuse mode=observe"); /* TLS was never had there */
	assert_false(takeover_choose(w.image, &parties, SMTP_CAP_STARTTLS | TAKEOVER_CAP_REFUSED, w.env.memory, w.now).stripped);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "inbound:* level=encrypt mode=observe"); /* what a server inside answers is no word against its client */
	struct takeover_choice got = takeover_choose(w.image, &inbound, SMTP_CAP_STARTTLS | TAKEOVER_CAP_REFUSED, w.env.memory, w.now);
	assert_false(got.stripped);
	assert_int_equal(got.decision.reason, REASON_CLEAR_SESSION);
}

/* Else whoever breaks one handshake has the retry in clear. */
static void test_a_failed_handshake_is_no_way_round_stripping(void **state)
{
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, false, 7};

	(void)state;
	scene_begin();
	takeover_memory_note(w.env.memory, w.params.server_addr, w.now);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may");
	assert_true(takeover_choose(w.image, &parties, SMTP_CAP_STARTTLS, w.env.memory, w.now).remembered);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may stripped=refuse");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may", "client:10.77.0.0/16 level=may stripped=refuse");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE);
	POLICY("* level=may stripped=refuse"); /* TLS was never had there */
	assert_true(takeover_choose(w.image, &parties, SMTP_CAP_STARTTLS, w.env.memory, w.now).remembered);
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may mode=observe", "bound.example level=may stripped=refuse", "other.example level=may");
	assert_true(recipient_wants_upgrade(w.t, recipient_rule(w.t, "bound.example"), "bound.example"));
	assert_false(recipient_wants_upgrade(w.t, recipient_rule(w.t, "other.example"), "other.example"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_what_the_dns_refuses_needs_no_tls), SCENE(test_servername_by_the_dns), SCENE(test_a_ceiling_of_what_is_offered),
		SCENE(test_the_mx_is_matched_whatever_sni_says), SCENE(test_stripping_is_seen_and_refused_where_asked),
		SCENE(test_454_to_the_client_is_an_answer_where_waxseal_does_not_ask), SCENE(test_a_failed_handshake_is_no_way_round_stripping),
		SCENE(test_every_level), SCENE(test_domain_rules_make_it_wait), SCENE(test_clients_minimum),
		SCENE(test_offer_is_what_both_ask_for), SCENE(test_memory_only_under_may), SCENE(test_servername),
	};
	return cmocka_run_group_tests_name("takeover_choose", tests, NULL, NULL);
}
