/*
 * choose.c - which rule, which facts, and what is counted of the answer. policy_decide() decides.
 *
 * Rules and strings point into the image in force, which may be another one at the next call: they are looked
 * up each time, never kept.
 */
#include <bsd/string.h>
#include <stdio.h>

#include "private.h"

_Static_assert((int)TLS_CHAIN_UNSEEN == (int)CHAIN_UNSEEN && (int)TLS_CHAIN_TRUSTED == (int)CHAIN_TRUSTED &&
               (int)TLS_CHAIN_UNTRUSTED == (int)CHAIN_UNTRUSTED && (int)TLS_CHAIN_SELF_SIGNED == (int)CHAIN_SELF_SIGNED &&
               (int)TLS_CHAIN_EXPIRED == (int)CHAIN_EXPIRED && (int)TLS_CHAIN_NOT_YET_VALID == (int)CHAIN_NOT_YET_VALID &&
               (int)TLS_CHAIN_INVALID == (int)CHAIN_INVALID, "tls/ and policy/ say the same of chains");

/* What wants TLS here can do without it. */
static bool may_alone(const struct policy_rules *rules, uint32_t flow_hash)
{
	return (rules->rule->level == LEVEL_MAY || !policy_wants_tls(rules->rule, flow_hash)) &&
	       (!rules->minimum || rules->minimum->level == LEVEL_MAY || !policy_wants_tls(rules->minimum, flow_hash));
}

struct takeover_choice takeover_choose(const struct policy_image *image, const struct policy_parties *parties, uint32_t capabilities,
                                       const struct takeover_memory *memory, uint64_t now_us)
{
	const struct image_header *header = policy_image_header(image);
	struct policy_rules rules = policy_rules_of(image, parties);
	bool maybe_offered = capabilities & (SMTP_CAP_STARTTLS | TAKEOVER_CAP_UNKNOWN);
	bool recipients_matter = parties->inbound ? header->enforced_inbound_rules : header->enforced_domain_rules;
	struct policy_facts facts = {.offered = capabilities & SMTP_CAP_STARTTLS};
	struct policy_verdict verdict = {rules.rule, policy_decide(rules.rule, &facts, parties->flow_hash)};

	if (rules.minimum)
		verdict = policy_stricter(verdict, (struct policy_verdict){rules.minimum, policy_decide(rules.minimum, &facts, parties->flow_hash)});
	struct takeover_choice choice = {.action = TAKEOVER_CHOOSE_PASS, .decision = verdict.decision, .rule = verdict.rule};
	if (policy_rules_want_tls(&rules, parties->flow_hash) && maybe_offered) {
		choice.remembered = may_alone(&rules, parties->flow_hash) && takeover_memory_holds(memory, parties->server_addr, now_us);
		if (!choice.remembered) {
			choice.action = TAKEOVER_CHOOSE_UPGRADE;
			return choice;
		}
	}
	if (policy_effect(choice.decision) != POLICY_ALLOW)
		choice.action = TAKEOVER_CHOOSE_REFUSE;
	else if (rules.rule->level != LEVEL_NONE && recipients_matter)
		choice.action = TAKEOVER_CHOOSE_RELAY;
	return choice;
}

static const struct policy_image *image_of(const struct takeover *t)
{
	return t->env->image(t->env->context);
}

struct policy_parties session_parties(const struct takeover *t)
{
	return (struct policy_parties){t->params.client_addr, t->params.server_addr, t->params.inbound, t->params.flow_hash};
}

struct policy_rules session_rules(const struct takeover *t)
{
	struct policy_parties parties = session_parties(t);
	return policy_rules_of(image_of(t), &parties);
}

const struct image_rule *recipient_rule(const struct takeover *t, const char *domain)
{
	struct policy_parties parties = session_parties(t);
	return policy_recipient_rule(image_of(t), &parties, domain);
}

/* The server's own name where the operator has told it: what a banner says proves nothing. */
static const char *known_hostname(const struct takeover *t)
{
	const struct policy_image *image = image_of(t);
	const char *name = policy_string(image, policy_destination(image, policy_destination_of(image, t->params.server_addr))->servername);
	return !t->params.inbound && *name ? name : NULL;
}

struct matching { const struct takeover *takeover; const struct image_rule *rule; const char *nexthop; };

static bool matches(void *context, const char *name)
{
	const struct matching *m = context;
	return policy_name_matches(image_of(m->takeover), m->rule, name, m->nexthop, known_hostname(m->takeover));
}

static bool pinned(const struct takeover *t, const struct image_rule *rule)
{
	const struct tls_facts *tls = tls_client_facts(t->tls);
	return tls->has_certificate && policy_fingerprint_matches(image_of(t), rule, tls->certificate_sha256, tls->key_sha256,
	                                                          t->env->unix_time_us(t->env->context) / 1000000);
}

struct policy_verdict decide_rule(const struct takeover *t, const struct image_rule *rule, const char *nexthop)
{
	struct policy_facts facts = t->facts;
	struct matching matching = {t, rule, nexthop};

	facts.offered = t->promised & SMTP_CAP_STARTTLS || t->capabilities & SMTP_CAP_STARTTLS || facts.tls != FACT_TLS_NONE;
	facts.name_matched = facts.tls == FACT_TLS_UP && tls_client_any_name(t->tls, matches, &matching);
	facts.fingerprint_matched = facts.tls == FACT_TLS_UP && rule->fingerprint_count && pinned(t, rule);
	return (struct policy_verdict){rule, policy_decide(rule, &facts, t->params.flow_hash)};
}

struct policy_verdict with_minimum(const struct takeover *t, struct policy_verdict verdict, const char *nexthop)
{
	const struct image_rule *minimum = session_rules(t).minimum;
	return minimum ? policy_stricter(verdict, decide_rule(t, minimum, nexthop)) : verdict;
}

bool recipient_wants_upgrade(const struct takeover *t, const struct image_rule *rule)
{
	if (!rule || t->facts.tls != FACT_TLS_NONE || !(t->capabilities & SMTP_CAP_STARTTLS) || !policy_wants_tls(rule, t->params.flow_hash))
		return false;
	return rule->level != LEVEL_MAY || !takeover_memory_holds(t->env->memory, t->params.server_addr, t->now_us);
}

/* A name of the DNS rather than "localhost" or an address: what SNI takes (RFC 6066, section 3). */
static bool is_hostname(const char *name)
{
	const char *last = strrchr(name, '.');
	return last && strspn(last + 1, "0123456789") != strlen(last + 1) && policy_domain_valid(name);
}

const char *choose_servername(const struct takeover *t, const struct image_rule *rule)
{
	const struct policy_image *image = image_of(t);
	const char *own = policy_string(image, rule->servername), *hostname = known_hostname(t);

	if (*own && strcmp(own, "hostname"))
		return own;
	if (!*own)
		for (uint32_t i = 0; i < rule->match_count; i++) {
			const char *pattern = policy_match(image, rule, i);
			if (!policy_pattern_is_keyword(pattern) && pattern[0] != '.' && pattern[0] != '*')
				return pattern;
		}
	if (hostname)
		return hostname;
	return is_hostname(t->params.server_name) ? t->params.server_name : "";
}

void choose_tls(const struct takeover *t, const struct image_rule *rule, struct tls_choice *out)
{
	const struct policy_image *image = image_of(t);
	const struct image_rule *other = session_rules(t).minimum;

	if (other && !policy_wants_tls(other, t->params.flow_hash))
		other = NULL;
	if (other && !policy_wants_tls(rule, t->params.flow_hash)) { /* it is for the client's rule alone */
		rule = other;
		other = NULL;
	}
	const char *ciphers = policy_string(image, rule->ciphers);
	snprintf(out->exclude, sizeof(out->exclude), "%s%s%s", policy_string(image, rule->exclude), other ? ":" : "",
	         other ? policy_string(image, other->exclude) : "");
	out->params = (struct tls_client_params){
		.servername = choose_servername(t, rule),
		.floor = other && other->protocol_min > rule->protocol_min ? other->protocol_min : rule->protocol_min,
		.ciphers = !*ciphers && other ? policy_string(image, other->ciphers) : ciphers,
		.exclude = out->exclude,
	};
}

/* ---- what is counted ---- */

static void note(struct takeover *t, const struct image_rule *rule, enum policy_reason reason)
{
	t->outcome.reason = reason;
	strlcpy(t->outcome.rule, policy_string(image_of(t), rule->name), sizeof(t->outcome.rule));
}

void note_refusal(struct takeover *t, struct policy_verdict verdict)
{
	note(t, verdict.rule, verdict.decision.reason);
	t->refused = true;
	t->outcome.end = verdict.decision.action == POLICY_REJECT ? END_REJECTED : END_DEFERRED;
	t->destination->reasons[verdict.decision.reason]++;
}

void note_allowed(struct takeover *t, struct policy_verdict verdict)
{
	bool would_refuse = verdict.decision.observed && verdict.decision.action != POLICY_ALLOW;

	note(t, verdict.rule, would_refuse ? REASON_CLEAR_ALLOWED : verdict.decision.reason);
	t->allowed_reason = t->outcome.reason;
}

void note_recipient(struct takeover *t, const char *domain, enum stats_recipient fate, struct stats_destination *named)
{
	struct takeover_outcome *o = &t->outcome;

	t->destination->recipients[fate]++;
	if (named && named != t->destination)
		named->recipients[fate]++;
	if (fate == RCPT_UPGRADED || fate == RCPT_CLEAR) {
		if (t->facts.tls == FACT_TLS_UP) { /* also where MAIL would have gone in clear, and a recipient asked for more */
			t->allowed_reason = REASON_UPGRADED;
			if (o->reason == REASON_CLEAR_ALLOWED)
				o->reason = REASON_UPGRADED;
		}
		if (!o->recipients++) /* the session carries mail now: why it may is counted once */
			t->destination->reasons[t->allowed_reason]++;
	}
	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX; i++) {
		if (!strcmp(o->rcpt[i].domain, domain) && o->rcpt[i].fate == fate)
			return;
		if (!o->rcpt[i].domain[0]) {
			strlcpy(o->rcpt[i].domain, domain, sizeof(o->rcpt[i].domain));
			o->rcpt[i].fate = (uint8_t)fate;
			return;
		}
	}
}
