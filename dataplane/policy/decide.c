/*
 * decide.c - facts against a rule: the one place where it is decided what becomes of mail.
 *
 * Enters: a rule, the facts of a session, the flow's hash. Leaves: allow, defer or reject, the reason, and
 * whether the answer is only counted (mode observe, or a flow outside `percent`).
 * Invariant: above may nothing is allowed without FACT_TLS_UP at the rule's version; a fact that is
 * missing counts against the session. Each level is a row of one table; nothing else knows the levels.
 * From outside, the leg to protect is the client's: there only the client's own TLS meets a rule.
 * Refuses: a proof that cannot be had, rather than wave it through.
 */
#include "policy.h"

/* What a level asks of a session. */
struct level_needs {
	bool tls;         /* no clear text */
	bool certificate; /* a trusted chain and a matched name, of an upgraded session */
	bool pin;         /* a matched fingerprint, of an upgraded session */
	bool dane;        /* a TLSA record that meets the certificate, where there are any */
	bool e2e_trust;   /* e2e=trust takes the client's own TLS for the proof */
};

static const struct level_needs needs_of[POLICY_LEVELS] = {
	[LEVEL_NONE] = {0},
	[LEVEL_MAY] = {0},
	[LEVEL_ENCRYPT] = {.tls = true},
	[LEVEL_DANE] = {.tls = true, .dane = true, .e2e_trust = true},
	[LEVEL_DANE_ONLY] = {.tls = true, .dane = true, .e2e_trust = true},
	[LEVEL_FINGERPRINT] = {.tls = true, .pin = true, .e2e_trust = true},
	[LEVEL_VERIFY] = {.tls = true, .certificate = true, .e2e_trust = true},
	[LEVEL_SECURE] = {.tls = true, .certificate = true, .e2e_trust = true},
	[LEVEL_BLOCK] = {0},
};

static bool enforced(const struct image_rule *rule, uint32_t flow_hash)
{
	return rule->mode == MODE_ENFORCE && flow_hash % 100 < rule->percent;
}

static enum policy_reason reason_of_allowed(const struct policy_facts *facts)
{
	if (facts->tls != FACT_TLS_UP)
		return REASON_CLEAR_ALLOWED;
	return facts->end_to_end ? REASON_SEALED : REASON_UPGRADED;
}

static enum policy_reason judge_certificate(const struct policy_facts *facts)
{
	switch (facts->chain) {
	case CHAIN_TRUSTED:
		return facts->name_matched || facts->name_later ? reason_of_allowed(facts) : REASON_NAME_MISMATCH;
	case CHAIN_UNTRUSTED:
	case CHAIN_SELF_SIGNED:
		return REASON_UNTRUSTED;
	case CHAIN_EXPIRED:
	case CHAIN_NOT_YET_VALID:
		return REASON_EXPIRED;
	case CHAIN_UNSEEN:
	case CHAIN_INVALID:
		break;
	}
	return REASON_CHAIN_INVALID;
}

static enum policy_reason judge_dane(const struct policy_facts *facts)
{
	switch (facts->dane) {
	case DANE_MATCHED:
		return reason_of_allowed(facts);
	case DANE_NAME_MISMATCH:
		return REASON_NAME_MISMATCH;
	case DANE_EXPIRED:
		return REASON_EXPIRED;
	case DANE_UNSEEN:
	case DANE_NO_MATCH:
	case DANE_INVALID:
		break;
	}
	return REASON_TLSA;
}

static bool trusts_client(const struct image_rule *rule, const struct policy_facts *facts)
{
	return facts->end_to_end && facts->tls == FACT_TLS_UP && needs_of[rule->level].e2e_trust && rule->e2e == E2E_TRUST;
}

/* What the DNS and MTA-STS say before any TLS; false: nothing against it. */
static bool refused_unseen(const struct image_rule *rule, const struct policy_facts *facts, enum policy_reason *reason)
{
	bool only = rule->level == LEVEL_DANE_ONLY;

	*reason = REASON_STS_MX;
	if (rule->origin == ORIGIN_STS && facts->mx_foreign)
		return true;
	if (!needs_of[rule->level].dane)
		return false;
	switch (facts->tlsa) {
	case TLSA_UNKNOWN:
		*reason = REASON_UNSUPPORTED;
		return only;
	case TLSA_NONE:
		*reason = REASON_DANE_REQUIRED;
		return only;
	case TLSA_SECURE:
		*reason = REASON_DANE_REQUIRED;
		return only && !facts->mx_secure;
	case TLSA_UNUSABLE:
		*reason = REASON_TLSA;
		return only;
	case TLSA_FAILED:
		break;
	}
	*reason = REASON_DNSSEC;
	return true;
}

/* TLS is up at the right version: what of the peer's identity? */
static enum policy_reason judge_proof(const struct image_rule *rule, const struct policy_facts *facts)
{
	const struct level_needs *needs = &needs_of[rule->level];

	if (trusts_client(rule, facts))
		return REASON_SEALED;
	if (facts->end_to_end && rule->e2e == E2E_PROBE && rule->level != LEVEL_ENCRYPT && facts->chain == CHAIN_UNSEEN)
		return REASON_UNSUPPORTED;
	if (needs->dane)
		return facts->tlsa == TLSA_SECURE ? judge_dane(facts) : reason_of_allowed(facts);
	if (needs->pin) /* the operator's word goes before the chain, the name and the dates */
		return facts->fingerprint_matched ? reason_of_allowed(facts) : REASON_FINGERPRINT;
	return needs->certificate ? judge_certificate(facts) : reason_of_allowed(facts);
}

static enum policy_reason judge_tls(const struct image_rule *rule, const struct policy_facts *facts, bool is_enforced)
{
	enum policy_reason unseen;

	/* TLS behind waxseal leaves the way from outside in clear. */
	if (rule->kind == POLICY_INBOUND && facts->tls == FACT_TLS_UP && !facts->end_to_end)
		return REASON_CLEAR_SESSION;
	if (!trusts_client(rule, facts) && refused_unseen(rule, facts, &unseen))
		return unseen;
	switch (facts->tls) {
	case FACT_TLS_UP:
		return facts->version < rule->protocol_min ? REASON_VERSION : judge_proof(rule, facts);
	case FACT_TLS_REFUSED:
		return REASON_STARTTLS_REFUSED;
	case FACT_TLS_FAILED:
		return REASON_HANDSHAKE;
	case FACT_TLS_NONE:
		break;
	}
	if (!facts->offered)
		return REASON_NOT_OFFERED;
	return is_enforced || rule->kind == POLICY_INBOUND ? REASON_CLEAR_SESSION : REASON_UPGRADED;
}

static enum policy_reason judge_may(const struct image_rule *rule, const struct policy_facts *facts)
{
	if (facts->tls == FACT_TLS_FAILED)
		return REASON_HANDSHAKE;
	if (facts->stripped && facts->tls != FACT_TLS_UP && rule->stripped == STRIPPED_REFUSE)
		return REASON_STRIPPED;
	return reason_of_allowed(facts);
}

/* dane without records is may; the compiler gives such a rule an `otherwise`, so this is for rules that have none. */
static bool as_may(const struct image_rule *rule, const struct policy_facts *facts)
{
	return rule->level == LEVEL_MAY || (rule->level == LEVEL_DANE && facts->tlsa == TLSA_NONE);
}

static enum policy_reason judge(const struct image_rule *rule, const struct policy_facts *facts, bool is_enforced)
{
	if (rule->level == LEVEL_NONE)
		return reason_of_allowed(facts);
	if (as_may(rule, facts))
		return judge_may(rule, facts);
	if (rule->level == LEVEL_BLOCK || rule->level >= POLICY_LEVELS)
		return REASON_BLOCKED;
	return judge_tls(rule, facts, is_enforced);
}

static enum policy_action action_for(const struct image_rule *rule, const struct policy_facts *facts, enum policy_reason reason)
{
	enum policy_action refusal = rule->on_fail == ON_FAIL_REJECT ? POLICY_REJECT : POLICY_DEFER;

	switch (reason) {
	case REASON_SEALED:
	case REASON_UPGRADED:
	case REASON_CLEAR_ALLOWED:
	case REASON_STS_FETCH: /* no policy could be had: there is none (RFC 8461, section 5.1) */
	case REASON_STS_INVALID:
	case REASON_STS_WEBPKI:
		return POLICY_ALLOW;
	case REASON_HANDSHAKE:
		/* An opportunistic rule must never make a bounce of mail that a retry delivers in clear. */
		return as_may(rule, facts) ? POLICY_DEFER : refusal;
	case REASON_CLEAR_SESSION: /* another session can have TLS; a client from outside is told to do it in this one */
		return rule->kind == POLICY_INBOUND ? POLICY_REJECT : POLICY_DEFER;
	case REASON_DNSSEC:      /* the DNS may answer at the next try */
	case REASON_UNSUPPORTED: /* our lack, not the recipient's: the mail waits for the operator */
		return POLICY_DEFER;
	case REASON_NOT_OFFERED:
	case REASON_STARTTLS_REFUSED:
	case REASON_VERSION:
	case REASON_UNTRUSTED:
	case REASON_EXPIRED:
	case REASON_CHAIN_INVALID:
	case REASON_NAME_MISMATCH:
	case REASON_FINGERPRINT:
	case REASON_TLSA:
	case REASON_DANE_REQUIRED:
	case REASON_STS_MX:
	case REASON_STRIPPED:
	case REASON_BLOCKED:
	case POLICY_REASONS:
		break;
	}
	return refusal;
}

struct policy_decision policy_decide(const struct image_rule *rule, const struct policy_facts *facts, uint32_t flow_hash)
{
	struct policy_decision decision;
	bool is_enforced = enforced(rule, flow_hash);

	decision.reason = judge(rule, facts, is_enforced);
	decision.action = action_for(rule, facts, decision.reason);
	decision.observed = !is_enforced;
	return decision;
}

bool policy_is_final(struct policy_decision decision)
{
	switch (decision.reason) {
	case REASON_UNSUPPORTED:
	case REASON_DNSSEC:
	case REASON_DANE_REQUIRED:
	case REASON_STS_MX:
	case REASON_TLSA:
	case REASON_BLOCKED:
		return policy_effect(decision) != POLICY_ALLOW;
	case REASON_SEALED: case REASON_UPGRADED: case REASON_CLEAR_ALLOWED: case REASON_NOT_OFFERED: case REASON_STARTTLS_REFUSED:
	case REASON_HANDSHAKE: case REASON_VERSION: case REASON_UNTRUSTED: case REASON_EXPIRED: case REASON_CHAIN_INVALID:
	case REASON_NAME_MISMATCH: case REASON_CLEAR_SESSION: case REASON_FINGERPRINT: case REASON_STRIPPED:
	case REASON_STS_FETCH: case REASON_STS_INVALID: case REASON_STS_WEBPKI: case POLICY_REASONS:
		break;
	}
	return false;
}

bool policy_wants_tls(const struct image_rule *rule, uint32_t flow_hash)
{
	if (rule->kind == POLICY_INBOUND || rule->level == LEVEL_NONE || rule->level >= LEVEL_BLOCK)
		return false;
	return enforced(rule, flow_hash);
}

uint16_t policy_floor(const struct image_rule *rule, uint32_t flow_hash)
{
	if (rule->level >= POLICY_LEVELS || !needs_of[rule->level].tls || !enforced(rule, flow_hash))
		return 0;
	return rule->protocol_min;
}

bool policy_exempts(const struct image_rule *rule, uint32_t flow_hash)
{
	return rule->level == LEVEL_NONE && enforced(rule, flow_hash);
}
