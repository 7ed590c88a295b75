/*
 * choose.c - which rule, which facts, and what is counted of the answer. policy_decide() decides.
 *
 * Rules and strings point into the image in force, which may be another one at the next call: they are looked
 * up each time, never kept.
 */
#include <bsd/string.h>

#include "private.h"

_Static_assert((int)TLS_CHAIN_UNSEEN == (int)CHAIN_UNSEEN && (int)TLS_CHAIN_TRUSTED == (int)CHAIN_TRUSTED &&
               (int)TLS_CHAIN_UNTRUSTED == (int)CHAIN_UNTRUSTED && (int)TLS_CHAIN_SELF_SIGNED == (int)CHAIN_SELF_SIGNED &&
               (int)TLS_CHAIN_EXPIRED == (int)CHAIN_EXPIRED && (int)TLS_CHAIN_NOT_YET_VALID == (int)CHAIN_NOT_YET_VALID &&
               (int)TLS_CHAIN_INVALID == (int)CHAIN_INVALID, "tls/ and policy/ say the same of chains");

static const struct image_rule *rule_of(const struct policy_image *image, const uint8_t server[16], bool inbound)
{
	if (inbound)
		return policy_rule(image, policy_image_header(image)->inbound_rule);
	return policy_rule(image, policy_destination(image, policy_destination_of(image, server))->rule);
}

struct takeover_choice takeover_choose(const struct policy_image *image, const uint8_t server_addr[16], bool inbound,
                                       uint32_t capabilities, uint32_t flow_hash, const struct takeover_memory *memory, uint64_t now_us)
{
	const struct image_rule *rule = rule_of(image, server_addr, inbound);
	bool maybe_offered = capabilities & (SMTP_CAP_STARTTLS | TAKEOVER_CAP_UNKNOWN);
	struct policy_facts facts = {.offered = capabilities & SMTP_CAP_STARTTLS};
	struct takeover_choice choice = {.action = TAKEOVER_CHOOSE_PASS, .decision = policy_decide(rule, &facts, flow_hash)};

	if (policy_wants_tls(rule, flow_hash) && maybe_offered) {
		choice.remembered = rule->level == LEVEL_MAY && takeover_memory_holds(memory, server_addr, now_us);
		if (!choice.remembered) {
			choice.action = TAKEOVER_CHOOSE_UPGRADE;
			return choice;
		}
	}
	if (policy_effect(choice.decision) != POLICY_ALLOW)
		choice.action = TAKEOVER_CHOOSE_REFUSE;
	else if (!inbound && rule->level != LEVEL_NONE && policy_image_header(image)->enforced_domain_rules)
		choice.action = TAKEOVER_CHOOSE_RELAY;
	return choice;
}

static const struct policy_image *image_of(const struct takeover *t)
{
	return t->env->image(t->env->context);
}

const struct image_rule *destination_rule(const struct takeover *t)
{
	return rule_of(image_of(t), t->params.server_addr, t->params.inbound);
}

const struct image_rule *recipient_rule(const struct takeover *t, const char *domain)
{
	return t->params.inbound ? NULL : policy_domain_rule(image_of(t), domain);
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

struct policy_decision decide_rule(const struct takeover *t, const struct image_rule *rule, const char *nexthop)
{
	struct policy_facts facts = t->facts;
	struct matching matching = {t, rule, nexthop};

	facts.offered = t->promised & SMTP_CAP_STARTTLS || t->capabilities & SMTP_CAP_STARTTLS || facts.tls != FACT_TLS_NONE;
	facts.name_matched = facts.tls == FACT_TLS_UP && tls_client_any_name(t->tls, matches, &matching);
	facts.dialogue_end = true;
	return policy_decide(rule, &facts, t->params.flow_hash);
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

/* ---- what is counted ---- */

static void note(struct takeover *t, const struct image_rule *rule, enum policy_reason reason)
{
	t->outcome.reason = reason;
	strlcpy(t->outcome.rule, policy_string(image_of(t), rule->name), sizeof(t->outcome.rule));
}

void note_refusal(struct takeover *t, const struct image_rule *rule, struct policy_decision decision)
{
	note(t, rule, decision.reason);
	t->refused = true;
	t->outcome.end = decision.action == POLICY_REJECT ? END_REJECTED : END_DEFERRED;
	t->destination->reasons[decision.reason]++;
}

void note_allowed(struct takeover *t, const struct image_rule *rule, struct policy_decision decision)
{
	note(t, rule, decision.observed && decision.action != POLICY_ALLOW ? REASON_CLEAR_ALLOWED : decision.reason);
	t->allowed_reason = t->outcome.reason;
}

void note_recipient(struct takeover *t, const char *domain, enum stats_recipient fate, struct stats_destination *named)
{
	struct takeover_outcome *o = &t->outcome;

	t->destination->recipients[fate]++;
	if (named && named != t->destination)
		named->recipients[fate]++;
	if (fate == RCPT_UPGRADED || fate == RCPT_CLEAR) {
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
