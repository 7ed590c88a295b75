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
_Static_assert((int)TLS_DANE_UNSEEN == (int)DANE_UNSEEN && (int)TLS_DANE_MATCHED == (int)DANE_MATCHED &&
               (int)TLS_DANE_NO_MATCH == (int)DANE_NO_MATCH && (int)TLS_DANE_NAME_MISMATCH == (int)DANE_NAME_MISMATCH &&
               (int)TLS_DANE_EXPIRED == (int)DANE_EXPIRED && (int)TLS_DANE_INVALID == (int)DANE_INVALID, "and of DANE");

/* Level may can do without TLS; not where TLS was had before and the rule minds, or breaking a handshake were a way to strip. */
static bool can_do_without(const struct image_rule *rule, bool had_before)
{
	return rule->level == LEVEL_MAY && !(had_before && rule->stripped == STRIPPED_REFUSE);
}

/* What wants TLS here can do without it. */
static bool may_alone(const struct policy_rules *rules, uint32_t flow_hash, bool had_before)
{
	return (can_do_without(rules->rule, had_before) || !policy_wants_tls(rules->rule, flow_hash)) &&
	       (!rules->minimum || can_do_without(rules->minimum, had_before) || !policy_wants_tls(rules->minimum, flow_hash));
}

bool takeover_had_tls(const struct policy_image *image, const struct policy_parties *parties)
{
	return !parties->inbound && policy_seen_at(image, parties->server_addr);
}

static bool maybe_offered(uint32_t capabilities)
{
	return capabilities & (SMTP_CAP_STARTTLS | TAKEOVER_CAP_UNKNOWN);
}

static bool refused_or_missing(uint32_t capabilities)
{
	return capabilities & TAKEOVER_CAP_REFUSED || !maybe_offered(capabilities);
}

bool takeover_stripped(const struct policy_image *image, const struct policy_parties *parties, uint32_t capabilities)
{
	return refused_or_missing(capabilities) && takeover_had_tls(image, parties);
}

/* Where waxseal asks for TLS itself, its answer is what counts; else that to the client. A server inside is no client's fault. */
static enum policy_tls told_client(const struct image_rule *rule, const struct policy_parties *parties, uint32_t capabilities)
{
	bool counts = capabilities & TAKEOVER_CAP_REFUSED && !parties->inbound && !policy_wants_tls(rule, parties->flow_hash);
	return counts ? FACT_TLS_REFUSED : FACT_TLS_NONE;
}

/* By what is known before any TLS, and before a recipient. */
static struct policy_verdict decide_unseen(const struct policy_image *image, const struct image_rule *rule, const struct policy_parties *parties,
                                           uint32_t capabilities, bool stripped)
{
	struct policy_facts facts = {.offered = capabilities & SMTP_CAP_STARTTLS, .tls = told_client(rule, parties, capabilities), .stripped = stripped};

	if (!parties->inbound) {
		struct policy_server server = policy_server_of(image, parties->server_addr, policy_rule_nexthop(image, rule));
		policy_facts_of_server(image, rule, &server, &facts);
	}
	return (struct policy_verdict){rule, policy_decide(rule, &facts, parties->flow_hash)};
}

struct takeover_choice takeover_choose(const struct policy_image *image, const struct policy_parties *parties, uint32_t capabilities,
                                       const struct takeover_memory *memory, uint64_t now_us)
{
	const struct image_header *header = policy_image_header(image);
	struct policy_rules rules = policy_rules_of(image, parties);
	bool recipients_matter = parties->inbound ? header->enforced_inbound_rules : header->enforced_domain_rules;
	bool had_before = takeover_had_tls(image, parties), stripped = had_before && refused_or_missing(capabilities);
	struct policy_verdict verdict = decide_unseen(image, rules.rule, parties, capabilities, stripped);

	if (rules.minimum)
		verdict = policy_stricter(verdict, decide_unseen(image, rules.minimum, parties, capabilities, stripped));
	struct takeover_choice choice = {.action = TAKEOVER_CHOOSE_PASS, .decision = verdict.decision, .rule = verdict.rule, .stripped = stripped};
	if (policy_is_final(choice.decision)) {
		choice.action = TAKEOVER_CHOOSE_REFUSE;
		return choice;
	}
	if (policy_rules_want_tls(&rules, parties->flow_hash) && maybe_offered(capabilities)) {
		choice.remembered = may_alone(&rules, parties->flow_hash, had_before) && takeover_memory_holds(memory, parties->server_addr, now_us);
		if (!choice.remembered) {
			choice.action = TAKEOVER_CHOOSE_UPGRADE;
			choice.stripped = false;
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

/* The server as the recipient's domain knows it; before one is seen, as the rule's own domain does. */
static struct policy_server server_for(const struct takeover *t, const struct image_rule *rule, const char **nexthop)
{
	const struct policy_image *image = image_of(t);

	if (!*nexthop)
		*nexthop = policy_rule_nexthop(image, rule);
	return t->params.inbound ? (struct policy_server){.mx_secure = true} : policy_server_of(image, t->params.server_addr, *nexthop);
}

/* Its own name: that of the MX, as in Postfix, where the DNS tells it; else what the operator has it called by in SNI. What a
 * banner says proves nothing. */
static const char *known_hostname(const struct takeover *t, const struct image_rule *rule, const struct policy_server *server)
{
	const char *own = policy_string(image_of(t), rule->servername);
	return server->mx || t->params.inbound || !*own ? server->mx : own;
}

struct matching { const struct policy_image *image; const struct image_rule *rule; const char *nexthop, *hostname; };

static bool matches(void *context, const char *name)
{
	const struct matching *m = context;
	return policy_name_matches(m->image, m->rule, name, m->nexthop, m->hostname);
}

/* The certificate against the server's TLSA records. Names: RFC 7672, section 3.2.2. */
static enum policy_dane dane(const struct takeover *t, const struct policy_server *server, const char *nexthop)
{
	const char *names[] = {server->base, server->mx, nexthop};
	struct tls_tlsa records[IMAGE_HOST_TLSA_MAX];

	for (uint32_t i = 0; i < server->record_count; i++) {
		const struct image_tlsa *r = &server->records[i];
		records[i] = (struct tls_tlsa){r->usage, r->selector, r->matching, policy_tlsa_data(image_of(t), r), r->octets_count};
	}
	return (enum policy_dane)tls_client_dane(t->tls, records, server->record_count, names, nexthop ? 3 : 2);
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
	struct policy_parties parties = session_parties(t);
	struct policy_server server = server_for(t, rule, &nexthop);
	struct matching matching = {image_of(t), rule, nexthop, known_hostname(t, rule, &server)};

	facts.offered = t->promised & SMTP_CAP_STARTTLS || t->capabilities & SMTP_CAP_STARTTLS || facts.tls != FACT_TLS_NONE;
	facts.name_matched = facts.tls == FACT_TLS_UP && tls_client_any_name(t->tls, matches, &matching);
	facts.name_later = !nexthop && policy_needs_nexthop(image_of(t), rule);
	facts.fingerprint_matched = facts.tls == FACT_TLS_UP && rule->fingerprint_count && pinned(t, rule);
	facts.stripped = t->outcome.stripped;
	if (facts.tls == FACT_TLS_NONE)
		facts.tls = told_client(rule, &parties, t->params.capabilities);
	policy_facts_of_server(image_of(t), rule, &server, &facts);
	if (facts.tls == FACT_TLS_UP && server.record_count && (rule->level == LEVEL_DANE || rule->level == LEVEL_DANE_ONLY))
		facts.dane = dane(t, &server, nexthop);
	return (struct policy_verdict){rule, policy_decide(rule, &facts, t->params.flow_hash)};
}

struct policy_verdict with_minimum(const struct takeover *t, struct policy_verdict verdict, const char *nexthop)
{
	const struct image_rule *minimum = session_rules(t).minimum;
	return minimum ? policy_stricter(verdict, decide_rule(t, minimum, nexthop)) : verdict;
}

struct policy_verdict names_of_recipient(const struct takeover *t, const char *domain)
{
	struct policy_rules rules = session_rules(t);
	struct policy_verdict verdict = {rules.rule, {.action = POLICY_ALLOW, .reason = REASON_UPGRADED}};

	if (rules.rule->kind != POLICY_DOMAIN && policy_needs_nexthop(image_of(t), rules.rule))
		verdict = decide_rule(t, rules.rule, domain);
	if (rules.minimum && policy_needs_nexthop(image_of(t), rules.minimum))
		verdict = policy_stricter(verdict, decide_rule(t, rules.minimum, domain));
	return verdict;
}

bool tls_maybe_offered(const struct takeover *t)
{
	return maybe_offered(t->capabilities);
}

bool recipient_wants_upgrade(const struct takeover *t, const struct image_rule *rule, const char *domain)
{
	if (!rule || policy_is_final(decide_rule(t, rule, domain).decision))
		return false;
	if (t->facts.tls != FACT_TLS_NONE || !tls_maybe_offered(t) || !policy_wants_tls(rule, t->params.flow_hash))
		return false;
	struct policy_parties parties = session_parties(t);
	return !can_do_without(rule, takeover_had_tls(image_of(t), &parties)) ||
	       !takeover_memory_holds(t->env->memory, t->params.server_addr, t->now_us);
}

/* A name of the DNS rather than "localhost" or an address: what SNI takes (RFC 6066, section 3). */
static bool is_hostname(const char *name)
{
	const char *last = strrchr(name, '.');
	return last && strspn(last + 1, "0123456789") != strlen(last + 1) && policy_domain_valid(name);
}

static const char *literal_match(const struct policy_image *image, const struct image_rule *rule)
{
	for (uint32_t i = 0; i < rule->match_count; i++) {
		const char *pattern = policy_match(image, rule, i);
		if (!policy_pattern_is_keyword(pattern) && pattern[0] != '.' && pattern[0] != '*')
			return pattern;
	}
	return NULL;
}

/* The operator's word; what the DNS calls it, where a discovered rule or DANE (RFC 7672, section 8.1: the TLSA base domain)
 * goes by that; the certificate's name that the rule asks for; what it is known by. */
const char *choose_servername(const struct takeover *t, const struct image_rule *rule, const char *nexthop)
{
	const struct policy_image *image = image_of(t);
	const char *own = policy_string(image, rule->servername), *literal = literal_match(image, rule);
	struct policy_server server = server_for(t, rule, &nexthop);

	if (*own)
		return own;
	if (server.mx && (rule->level == LEVEL_DANE || rule->level == LEVEL_DANE_ONLY))
		return server.base;
	if (literal && !(server.mx && rule->origin == ORIGIN_STS))
		return literal;
	if (server.mx)
		return server.mx;
	return is_hostname(t->params.server_name) ? t->params.server_name : "";
}

/* The lower of two ceilings, unless the floor lies above: a minimum goes before a maximum. */
static uint16_t ceiling_of(const struct image_rule *rule, const struct image_rule *other, uint16_t floor)
{
	uint16_t ceiling = rule->protocol_max, second = other ? other->protocol_max : 0;

	if (second && (!ceiling || second < ceiling))
		ceiling = second;
	return ceiling < floor ? 0 : ceiling;
}

void choose_tls(const struct takeover *t, const struct image_rule *rule, const char *nexthop, struct tls_choice *out)
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
	uint16_t floor = other && other->protocol_min > rule->protocol_min ? other->protocol_min : rule->protocol_min;
	snprintf(out->exclude, sizeof(out->exclude), "%s%s%s", policy_string(image, rule->exclude), other ? ":" : "",
	         other ? policy_string(image, other->exclude) : "");
	out->params = (struct tls_client_params){
		.servername = choose_servername(t, rule, nexthop),
		.floor = floor,
		.ceiling = ceiling_of(rule, other, floor),
		.ciphers = !*ciphers && other ? policy_string(image, other->ciphers) : ciphers,
		.exclude = out->exclude,
	};
}

/* ---- what is counted ---- */

static void note(struct takeover *t, const struct image_rule *rule, enum policy_reason reason)
{
	char title[POLICY_TITLE_MAX];

	t->outcome.reason = reason;
	strlcpy(t->outcome.rule, policy_rule_title(image_of(t), rule, title), sizeof(t->outcome.rule));
}

void note_stripped(struct takeover *t)
{
	if (!t->outcome.stripped)
		stats_inc(t->env->stats, STAT_stripped);
	t->outcome.stripped = true;
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

struct stats_destination *note_sts(struct takeover *t, const struct image_rule *rule, const char *domain)
{
	const struct policy_image *image = image_of(t);
	const struct image_sts *sts = t->params.inbound ? NULL : policy_sts_of(image, domain);
	struct stats_destination *named = sts ? stats_destination(t->env->stats, policy_string(image, sts->domain)) : NULL;
	const struct image_rule *testing = sts ? policy_testing_rule(image, rule, domain) : NULL;

	if (sts && sts->error)
		named->reasons[policy_sts_reason((enum policy_sts_error)sts->error)]++;
	if (!testing)
		return NULL;
	struct policy_decision would = decide_rule(t, testing, domain).decision;
	if (named != t->destination)
		named->reasons[would.reason]++;
	if (would.action != POLICY_ALLOW) {
		named->would[would.action]++;
		note_recipient(t, domain, would.action == POLICY_REJECT ? RCPT_WOULD_REJECT : RCPT_WOULD_DEFER, named);
	}
	return named;
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
