/* policy/decide.c: every level against what can be seen of a session. */
#include "policy_harness.h"

static struct image_rule rule_of(enum policy_level level)
{
	return (struct image_rule){.kind = POLICY_DOMAIN, .level = (uint8_t)level, .percent = 100, .protocol_min = 0x0303};
}

/* Sessions as they are met. */
static const struct policy_facts clear = {.offered = false};
static const struct policy_facts offered = {.offered = true};
static const struct policy_facts refused = {.offered = true, .tls = FACT_TLS_REFUSED};
static const struct policy_facts failed = {.offered = true, .tls = FACT_TLS_FAILED};
static const struct policy_facts old = {.offered = true, .tls = FACT_TLS_UP, .version = 0x0302, .chain = CHAIN_TRUSTED, .name_matched = true};
static const struct policy_facts good = {.offered = true, .tls = FACT_TLS_UP, .version = 0x0303, .chain = CHAIN_TRUSTED, .name_matched = true};
static const struct policy_facts other_name = {.offered = true, .tls = FACT_TLS_UP, .version = 0x0304, .chain = CHAIN_TRUSTED};
static const struct policy_facts self_signed = {.offered = true, .tls = FACT_TLS_UP, .version = 0x0304, .chain = CHAIN_SELF_SIGNED, .name_matched = true};
static const struct policy_facts pinned = {.offered = true, .tls = FACT_TLS_UP, .version = 0x0304, .chain = CHAIN_EXPIRED, .fingerprint_matched = true};
#define DANE_FACTS .offered = true, .tls = FACT_TLS_UP, .version = 0x0304, .mx_secure = true
static const struct policy_facts dane_good = {DANE_FACTS, .chain = CHAIN_SELF_SIGNED, .tlsa = TLSA_SECURE, .dane = DANE_MATCHED};
static const struct policy_facts dane_bad = {DANE_FACTS, .chain = CHAIN_TRUSTED, .tlsa = TLSA_SECURE, .dane = DANE_NO_MATCH, .name_matched = true};
static const struct policy_facts dane_stripped = {.mx_secure = true, .tlsa = TLSA_SECURE};
static const struct policy_facts dane_none = {.tlsa = TLSA_NONE};
static const struct policy_facts dane_unusable = {DANE_FACTS, .chain = CHAIN_SELF_SIGNED, .tlsa = TLSA_UNUSABLE};
static const struct policy_facts dane_failed = {DANE_FACTS, .chain = CHAIN_TRUSTED, .tlsa = TLSA_FAILED, .name_matched = true};
static const struct policy_facts sealed = {.end_to_end = true, .offered = true, .tls = FACT_TLS_UP, .version = 0x0304};

struct expected {
	enum policy_action action;
	enum policy_reason reason;
};
#define ALLOW(r) {POLICY_ALLOW, REASON_##r}
#define DEFER(r) {POLICY_DEFER, REASON_##r}

enum { CLEAR, OFFERED, REFUSED, FAILED, OLD, GOOD, OTHER_NAME, SELF_SIGNED, PINNED, SEALED, SESSIONS };
enum { DANE_GOOD = SESSIONS, DANE_BAD, DANE_STRIPPED, DANE_NONE, DANE_UNUSABLE, DANE_FAILED, ALL_SESSIONS };
static const struct policy_facts *const sessions[ALL_SESSIONS] = {
	&clear, &offered, &refused, &failed, &old, &good, &other_name, &self_signed, &pinned, &sealed,
	&dane_good, &dane_bad, &dane_stripped, &dane_none, &dane_unusable, &dane_failed};

static const struct expected table[POLICY_LEVELS][SESSIONS] = {
	[LEVEL_NONE] = {ALLOW(CLEAR_ALLOWED), ALLOW(CLEAR_ALLOWED), ALLOW(CLEAR_ALLOWED), ALLOW(CLEAR_ALLOWED), ALLOW(UPGRADED),
			ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(SEALED)},
	[LEVEL_MAY] = {ALLOW(CLEAR_ALLOWED), ALLOW(CLEAR_ALLOWED), ALLOW(CLEAR_ALLOWED), DEFER(HANDSHAKE), ALLOW(UPGRADED),
		       ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(SEALED)},
	[LEVEL_ENCRYPT] = {DEFER(NOT_OFFERED), DEFER(CLEAR_SESSION), DEFER(STARTTLS_REFUSED), DEFER(HANDSHAKE), DEFER(VERSION),
			   ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(SEALED)},
	[LEVEL_DANE] = {DEFER(NOT_OFFERED), DEFER(CLEAR_SESSION), DEFER(STARTTLS_REFUSED), DEFER(HANDSHAKE), DEFER(VERSION),
			ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(UPGRADED), ALLOW(SEALED)},
	[LEVEL_DANE_ONLY] = {DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), DEFER(UNSUPPORTED),
			     DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), DEFER(UNSUPPORTED), ALLOW(SEALED)},
	[LEVEL_FINGERPRINT] = {DEFER(NOT_OFFERED), DEFER(CLEAR_SESSION), DEFER(STARTTLS_REFUSED), DEFER(HANDSHAKE), DEFER(VERSION),
			       DEFER(FINGERPRINT), DEFER(FINGERPRINT), DEFER(FINGERPRINT), ALLOW(UPGRADED), ALLOW(SEALED)},
	[LEVEL_VERIFY] = {DEFER(NOT_OFFERED), DEFER(CLEAR_SESSION), DEFER(STARTTLS_REFUSED), DEFER(HANDSHAKE), DEFER(VERSION),
			  ALLOW(UPGRADED), DEFER(NAME_MISMATCH), DEFER(UNTRUSTED), DEFER(EXPIRED), ALLOW(SEALED)},
	[LEVEL_SECURE] = {DEFER(NOT_OFFERED), DEFER(CLEAR_SESSION), DEFER(STARTTLS_REFUSED), DEFER(HANDSHAKE), DEFER(VERSION),
			  ALLOW(UPGRADED), DEFER(NAME_MISMATCH), DEFER(UNTRUSTED), DEFER(EXPIRED), ALLOW(SEALED)},
	[LEVEL_BLOCK] = {DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED),
			 DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED), DEFER(BLOCKED)},
};

static void check(const struct image_rule *rule, int session, enum policy_action action, enum policy_reason reason)
{
	struct policy_decision d = policy_decide(rule, sessions[session], 0);

	if (d.action != action || d.reason != reason || d.observed)
		fail_msg("level %s, session %d: action %d %s, should be %d %s", policy_level_name(rule->level), session, d.action,
			 policy_reason_name(d.reason), action, policy_reason_name(reason));
	assert_int_equal(policy_effect(d), action);
}

static void each_level_against_each_session(void **state)
{
	(void)state;
	for (enum policy_level level = 0; level < POLICY_LEVELS; level++)
		for (int s = 0; s < SESSIONS; s++) {
			struct image_rule rule = rule_of(level);

			check(&rule, s, table[level][s].action, table[level][s].reason);
		}
}

/* By what the DNS says of TLSA records: each row a session, for dane and for dane-only. */
static void dane_by_what_the_dns_says(void **state)
{
	static const struct {
		int session;
		struct expected dane, only, verify;
	} rows[] = {
		{DANE_GOOD, ALLOW(UPGRADED), ALLOW(UPGRADED), DEFER(UNTRUSTED)},
		{DANE_BAD, DEFER(TLSA), DEFER(TLSA), ALLOW(UPGRADED)},
		{DANE_STRIPPED, DEFER(NOT_OFFERED), DEFER(NOT_OFFERED), DEFER(NOT_OFFERED)},
		{DANE_NONE, ALLOW(CLEAR_ALLOWED), DEFER(DANE_REQUIRED), DEFER(NOT_OFFERED)},
		{DANE_UNUSABLE, ALLOW(UPGRADED), DEFER(TLSA), DEFER(UNTRUSTED)},
		{DANE_FAILED, DEFER(DNSSEC), DEFER(DNSSEC), ALLOW(UPGRADED)},
	};
	struct image_rule rule;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rule = rule_of(LEVEL_DANE);
		check(&rule, rows[i].session, rows[i].dane.action, rows[i].dane.reason);
		rule = rule_of(LEVEL_DANE_ONLY);
		check(&rule, rows[i].session, rows[i].only.action, rows[i].only.reason);
		rule = rule_of(LEVEL_VERIFY);
		check(&rule, rows[i].session, rows[i].verify.action, rows[i].verify.reason);
	}
}

static void dane_in_the_details(void **state)
{
	static const enum policy_reason reasons[] = {
		[DANE_UNSEEN] = REASON_TLSA,	     [DANE_MATCHED] = REASON_UPGRADED, [DANE_NO_MATCH] = REASON_TLSA,
		[DANE_NAME_MISMATCH] = REASON_NAME_MISMATCH, [DANE_EXPIRED] = REASON_EXPIRED,  [DANE_INVALID] = REASON_TLSA,
	};
	struct image_rule rule = rule_of(LEVEL_DANE), only = rule_of(LEVEL_DANE_ONLY);
	struct policy_facts facts = dane_good;

	(void)state;
	for (enum policy_dane dane = DANE_UNSEEN; dane <= DANE_INVALID; dane++) {
		facts.dane = dane;
		assert_int_equal(policy_decide(&rule, &facts, 0).reason, reasons[dane]);
	}
	facts = dane_good;
	facts.mx_secure = false; /* dane goes on, as Postfix's smtp_tls_dane_insecure_mx_policy=dane; dane-only does not */
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_UPGRADED);
	assert_int_equal(policy_decide(&only, &facts, 0).reason, REASON_DANE_REQUIRED);
	facts = failed;
	facts.tlsa = TLSA_NONE;
	rule.on_fail = ON_FAIL_REJECT;
	assert_int_equal(policy_decide(&rule, &facts, 0).action, POLICY_DEFER); /* a retry delivers in clear */
	rule.on_fail = only.on_fail = ON_FAIL_REJECT;
	assert_int_equal(policy_decide(&rule, &dane_failed, 0).action, POLICY_DEFER); /* so may the DNS at the next try */
	assert_int_equal(policy_decide(&only, &dane_none, 0).action, POLICY_REJECT);
	assert_true(policy_is_final(policy_decide(&rule, &dane_failed, 0)));
	assert_true(policy_is_final(policy_decide(&only, &dane_none, 0)));
	assert_false(policy_is_final(policy_decide(&rule, &dane_stripped, 0)));
	only.mode = MODE_OBSERVE;
	assert_false(policy_is_final(policy_decide(&only, &dane_none, 0)));
}

static void mta_sts_names_its_servers(void **state)
{
	struct image_rule rule = rule_of(LEVEL_SECURE);
	struct policy_facts facts = good;

	(void)state;
	rule.origin = ORIGIN_STS;
	facts.mx_foreign = true;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_STS_MX);
	rule.origin = ORIGIN_OPERATOR;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_UPGRADED);
	facts = other_name;
	facts.name_later = true; /* at MAIL, with a rule for each recipient's domain */
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_UPGRADED);
}

static void stripping_is_refused_where_the_rule_says_so(void **state)
{
	struct image_rule rule = rule_of(LEVEL_MAY);
	struct policy_facts facts = {.stripped = true, .tlsa = TLSA_NONE};

	(void)state;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_CLEAR_ALLOWED);
	rule.stripped = STRIPPED_REFUSE;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_STRIPPED);
	assert_int_equal(policy_decide(&rule, &facts, 0).action, POLICY_DEFER);
	assert_int_equal(policy_decide(&rule, &clear, 0).reason, REASON_CLEAR_ALLOWED);
	facts.offered = true;
	facts.tls = FACT_TLS_REFUSED; /* 454 */
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_STRIPPED);
	rule.on_fail = ON_FAIL_REJECT;
	assert_int_equal(policy_decide(&rule, &facts, 0).action, POLICY_REJECT);
	facts.stripped = false;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_CLEAR_ALLOWED);
	facts.stripped = true;
	rule.stripped = STRIPPED_PASS;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_CLEAR_ALLOWED);
	rule.stripped = STRIPPED_REFUSE;
	facts.tls = FACT_TLS_FAILED;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_HANDSHAKE);
	facts.tls = FACT_TLS_UP;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_UPGRADED);
	facts.tls = FACT_TLS_REFUSED;
	rule.level = LEVEL_NONE;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_CLEAR_ALLOWED);
	rule.level = LEVEL_DANE;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_STRIPPED);
	rule.level = LEVEL_ENCRYPT;
	assert_int_equal(policy_decide(&rule, &facts, 0).reason, REASON_STARTTLS_REFUSED);
}

static void reject_is_for_what_no_retry_cures(void **state)
{
	(void)state;
	for (enum policy_level level = 0; level < POLICY_LEVELS; level++)
		for (int s = 0; s < SESSIONS; s++) {
			struct image_rule rule = rule_of(level);
			struct expected e = table[level][s];
			bool soft = e.reason == REASON_CLEAR_SESSION || e.reason == REASON_UNSUPPORTED ||
				    (e.reason == REASON_HANDSHAKE && level == LEVEL_MAY);

			rule.on_fail = ON_FAIL_REJECT;
			check(&rule, s, e.action == POLICY_DEFER && !soft ? POLICY_REJECT : e.action, e.reason);
		}
}

static void each_fault_of_a_chain(void **state)
{
	static const enum policy_reason reasons[] = {
		[CHAIN_UNSEEN] = REASON_CHAIN_INVALID, [CHAIN_TRUSTED] = REASON_UPGRADED,   [CHAIN_UNTRUSTED] = REASON_UNTRUSTED,
		[CHAIN_SELF_SIGNED] = REASON_UNTRUSTED, [CHAIN_EXPIRED] = REASON_EXPIRED,   [CHAIN_NOT_YET_VALID] = REASON_EXPIRED,
		[CHAIN_INVALID] = REASON_CHAIN_INVALID,
	};
	struct image_rule rule = rule_of(LEVEL_VERIFY);
	struct policy_facts facts = good;

	(void)state;
	for (enum policy_chain chain = CHAIN_UNSEEN; chain <= CHAIN_INVALID; chain++) {
		facts.chain = chain;
		assert_int_equal(policy_decide(&rule, &facts, 0).reason, reasons[chain]);
	}
}

/* What the client encrypts is hidden: under e2e=probe only a probe's findings count. */
static void a_probe_is_demanded_of_sealed_sessions(void **state)
{
	static const enum policy_level proven[] = {LEVEL_VERIFY, LEVEL_SECURE, LEVEL_FINGERPRINT, LEVEL_DANE, LEVEL_DANE_ONLY};
	struct policy_facts probed = sealed;
	struct image_rule rule;

	(void)state;
	for (size_t i = 0; i < sizeof(proven) / sizeof(proven[0]); i++) {
		rule = rule_of(proven[i]);
		rule.e2e = E2E_PROBE;
		assert_int_equal(policy_decide(&rule, &sealed, 0).reason, REASON_UNSUPPORTED);
	}
	rule = rule_of(LEVEL_VERIFY);
	rule.e2e = E2E_PROBE;
	probed.chain = CHAIN_TRUSTED;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_NAME_MISMATCH);
	probed.name_matched = true;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_SEALED);
	rule.level = LEVEL_ENCRYPT;
	assert_int_equal(policy_decide(&rule, &sealed, 0).reason, REASON_SEALED);
	rule.level = LEVEL_DANE;
	probed.tlsa = TLSA_SECURE;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_TLSA);
	probed.dane = DANE_MATCHED;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_SEALED);
	rule.level = LEVEL_FINGERPRINT;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_FINGERPRINT);
	probed.fingerprint_matched = true;
	assert_int_equal(policy_decide(&rule, &probed, 0).reason, REASON_SEALED);
}

static void observed_rules_say_and_do_nothing(void **state)
{
	struct image_rule rule = rule_of(LEVEL_ENCRYPT);
	struct policy_decision d;

	(void)state;
	rule.mode = MODE_OBSERVE;
	d = policy_decide(&rule, &clear, 0);
	assert_int_equal(d.action, POLICY_DEFER);
	assert_true(d.observed);
	assert_int_equal(policy_effect(d), POLICY_ALLOW);
	d = policy_decide(&rule, &offered, 0); /* enforcing it would upgrade */
	assert_int_equal(d.reason, REASON_UPGRADED);
	assert_false(policy_wants_tls(&rule, 0));
	assert_int_equal(policy_floor(&rule, 0), 0);
}

static void percent_takes_its_share_of_the_flows(void **state)
{
	static const uint8_t shares[] = {0, 1, 37, 99, 100};

	(void)state;
	for (size_t i = 0; i < sizeof(shares); i++) {
		struct image_rule rule = rule_of(LEVEL_ENCRYPT);
		unsigned enforced = 0;

		rule.percent = shares[i];
		for (uint32_t hash = 0; hash < 1000; hash++) {
			bool is = !policy_decide(&rule, &clear, hash).observed;

			enforced += is;
			assert_int_equal(policy_wants_tls(&rule, hash), is);
			assert_int_equal(policy_floor(&rule, hash) != 0, is);
		}
		assert_int_equal(enforced, shares[i] * 10);
	}
}

static void who_is_upgraded_and_who_is_cut(void **state)
{
	static const bool wants[POLICY_LEVELS] = {[LEVEL_MAY] = true, [LEVEL_ENCRYPT] = true, [LEVEL_DANE] = true, [LEVEL_DANE_ONLY] = true,
						  [LEVEL_FINGERPRINT] = true, [LEVEL_VERIFY] = true, [LEVEL_SECURE] = true};
	static const uint16_t floors[POLICY_LEVELS] = {[LEVEL_ENCRYPT] = 0x0303, [LEVEL_DANE] = 0x0303, [LEVEL_DANE_ONLY] = 0x0303,
						       [LEVEL_FINGERPRINT] = 0x0303, [LEVEL_VERIFY] = 0x0303, [LEVEL_SECURE] = 0x0303};

	(void)state;
	for (enum policy_level level = 0; level < POLICY_LEVELS; level++) {
		struct image_rule rule = rule_of(level);

		assert_int_equal(policy_wants_tls(&rule, 99), wants[level]);
		assert_int_equal(policy_floor(&rule, 99), floors[level]);
	}
}

static void from_outside_only_the_clients_own_tls_counts(void **state)
{
	struct image_rule rule = rule_of(LEVEL_ENCRYPT);

	(void)state;
	rule.kind = POLICY_INBOUND;
	check(&rule, CLEAR, POLICY_DEFER, REASON_NOT_OFFERED);
	check(&rule, OFFERED, POLICY_REJECT, REASON_CLEAR_SESSION);
	check(&rule, GOOD, POLICY_REJECT, REASON_CLEAR_SESSION); /* TLS behind waxseal */
	check(&rule, SEALED, POLICY_ALLOW, REASON_SEALED);
	assert_false(policy_wants_tls(&rule, 0));
	assert_int_equal(policy_floor(&rule, 0), 0x0303);
	rule.mode = MODE_OBSERVE;
	assert_int_equal(policy_decide(&rule, &offered, 0).action, POLICY_REJECT);
	assert_int_equal(policy_effect(policy_decide(&rule, &offered, 0)), POLICY_ALLOW);
	rule = rule_of(LEVEL_MAY);
	rule.kind = POLICY_INBOUND;
	check(&rule, OFFERED, POLICY_ALLOW, REASON_CLEAR_ALLOWED);
}

/* The invariant, over every combination of facts: above may nothing is allowed without TLS at the floor. */
static void above_may_nothing_passes_in_clear(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 1u << 13; bits++) {
		struct image_rule rule = rule_of(LEVEL_ENCRYPT + (enum policy_level)((bits >> 8) % 7));
		struct policy_facts facts = {.end_to_end = bits & 1, .offered = bits & 2, .stripped = bits & 4,
					     .tls = (bits >> 3) & 3, .name_matched = bits & 32, .chain = (bits >> 6) % 7,
					     .version = bits & 2048 ? 0x0303 : 0x0302,
					     .fingerprint_matched = bits & 4096};
		struct policy_decision d = policy_decide(&rule, &facts, bits);

		if (d.action == POLICY_ALLOW) {
			assert_int_equal(facts.tls, FACT_TLS_UP);
			assert_int_equal(facts.version, 0x0303);
			assert_null(policy_result_type(d.reason));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_level_against_each_session),
		cmocka_unit_test(dane_by_what_the_dns_says),
		cmocka_unit_test(dane_in_the_details),
		cmocka_unit_test(mta_sts_names_its_servers),
		cmocka_unit_test(stripping_is_refused_where_the_rule_says_so),
		cmocka_unit_test(reject_is_for_what_no_retry_cures),
		cmocka_unit_test(each_fault_of_a_chain),
		cmocka_unit_test(a_probe_is_demanded_of_sealed_sessions),
		cmocka_unit_test(observed_rules_say_and_do_nothing),
		cmocka_unit_test(percent_takes_its_share_of_the_flows),
		cmocka_unit_test(who_is_upgraded_and_who_is_cut),
		cmocka_unit_test(from_outside_only_the_clients_own_tls_counts),
		cmocka_unit_test(above_may_nothing_passes_in_clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
