/*
 * decide.c - facts against a rule: the one place where it is decided what becomes of mail.
 *
 * Enters: a rule, the facts of a session, the flow's hash. Leaves: allow, defer or reject, the reason, and
 * whether the answer is only counted (mode observe, or a flow outside `percent`).
 * Invariant: above may nothing is allowed without FACT_TLS_UP at the rule's version; a fact that is
 * missing counts against the session. Each level is a row of one table; nothing else knows the levels.
 * From outside, the leg to protect is the client's: there only the client's own TLS meets a rule.
 * Refuses: a level whose proof cannot be had (dane-only), rather than wave it through.
 */
#include "policy.h"

/* What a level asks of a session. */
struct level_needs {
	bool tls;         /* no clear text */
	bool certificate; /* a trusted chain and a matched name, of an upgraded session */
	bool pin;         /* a matched fingerprint, of an upgraded session */
	bool unprovable;  /* a proof that nothing delivers yet */
	bool e2e_trust;   /* e2e=trust takes the client's own TLS for the proof */
};

static const struct level_needs needs_of[POLICY_LEVELS] = {
	[LEVEL_NONE] = {0},
	[LEVEL_MAY] = {0},
	[LEVEL_ENCRYPT] = {.tls = true},
	[LEVEL_DANE] = {.tls = true},
	[LEVEL_DANE_ONLY] = {.tls = true, .unprovable = true, .e2e_trust = true},
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
		return facts->name_matched ? reason_of_allowed(facts) : REASON_NAME_MISMATCH;
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

/* TLS is up at the right version: what of the peer's identity? */
static enum policy_reason judge_proof(const struct image_rule *rule, const struct policy_facts *facts)
{
	const struct level_needs *needs = &needs_of[rule->level];

	if (facts->end_to_end && needs->e2e_trust && rule->e2e == E2E_TRUST)
		return REASON_SEALED;
	if (needs->unprovable)
		return REASON_UNSUPPORTED;
	/* dane falls under e2e=probe too, though it asks for no certificate of an upgraded session (policy.h). */
	if (facts->end_to_end && rule->e2e == E2E_PROBE && rule->level != LEVEL_ENCRYPT && facts->chain == CHAIN_UNSEEN)
		return REASON_UNSUPPORTED;
	if (needs->pin) /* the operator's word goes before the chain, the name and the dates */
		return facts->fingerprint_matched ? reason_of_allowed(facts) : REASON_FINGERPRINT;
	return needs->certificate ? judge_certificate(facts) : reason_of_allowed(facts);
}

static enum policy_reason judge_tls(const struct image_rule *rule, const struct policy_facts *facts, bool is_enforced)
{
	/* TLS behind waxseal leaves the way from outside in clear. */
	if (rule->kind == POLICY_INBOUND && facts->tls == FACT_TLS_UP && !facts->end_to_end)
		return REASON_CLEAR_SESSION;
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
	if (needs_of[rule->level].unprovable)
		return REASON_UNSUPPORTED;
	return is_enforced || facts->dialogue_end || rule->kind == POLICY_INBOUND ? REASON_CLEAR_SESSION : REASON_UPGRADED;
}

static enum policy_reason judge(const struct image_rule *rule, const struct policy_facts *facts, bool is_enforced)
{
	if (rule->level == LEVEL_NONE)
		return reason_of_allowed(facts);
	if (rule->level == LEVEL_MAY)
		return facts->tls == FACT_TLS_FAILED ? REASON_HANDSHAKE : reason_of_allowed(facts);
	if (rule->level == LEVEL_BLOCK || rule->level >= POLICY_LEVELS)
		return REASON_BLOCKED;
	return judge_tls(rule, facts, is_enforced);
}

static enum policy_action action_for(const struct image_rule *rule, enum policy_reason reason)
{
	enum policy_action refusal = rule->on_fail == ON_FAIL_REJECT ? POLICY_REJECT : POLICY_DEFER;

	switch (reason) {
	case REASON_SEALED:
	case REASON_UPGRADED:
	case REASON_CLEAR_ALLOWED:
		return POLICY_ALLOW;
	case REASON_HANDSHAKE:
		/* An opportunistic rule must never make a bounce of mail that a retry delivers in clear. */
		return rule->level == LEVEL_MAY ? POLICY_DEFER : refusal;
	case REASON_CLEAR_SESSION: /* another session can have TLS; a client from outside is told to do it in this one */
		return rule->kind == POLICY_INBOUND ? POLICY_REJECT : POLICY_DEFER;
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
	decision.action = action_for(rule, decision.reason);
	decision.observed = !is_enforced;
	return decision;
}

bool policy_wants_tls(const struct image_rule *rule, uint32_t flow_hash)
{
	if (rule->kind == POLICY_INBOUND || rule->level == LEVEL_NONE || rule->level >= LEVEL_BLOCK ||
	    needs_of[rule->level].unprovable)
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
