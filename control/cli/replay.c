/*
 * replay.c - MAIL, then each RCPT, as dataplane/takeover/ goes about them: is TLS to be begun here, what came of it, which
 * of two rules is the stricter. A new way of deciding there is one here, too; tests/e2e compares both.
 */
#include "replay.h"

#include <string.h>

#define VERSION_ASSUMED 0x0304

struct scene {
	const struct policy_image *image;
	const struct replay_session *session;
	struct policy_parties parties;
	struct policy_facts facts;       /* as they stand now */
	const struct event_facts *shown; /* the certificate behind them; NULL: none */
	struct event_facts probed;
	bool assumed;
};

const char *replay_fate_name(enum replay_fate fate)
{
	static const char *const names[REPLAY_FATES] = {
		[REPLAY_CLEAR] = "clear",	[REPLAY_UPGRADED] = "upgraded", [REPLAY_SEALED] = "sealed",
		[REPLAY_DEFERRED] = "deferred", [REPLAY_REJECTED] = "rejected", [REPLAY_CUT] = "cut",
	};
	return (unsigned)fate < REPLAY_FATES ? names[fate] : "?";
}

/* ---- facts of a rule ---- */

static bool names_match(const struct scene *s, const struct image_rule *rule, const char *nexthop, const char *mx)
{
	const char *own = policy_string(s->image, rule->servername), *hostname = mx || s->session->inbound || !*own ? mx : own;

	for (unsigned i = 0; i < s->shown->name_count; i++)
		if (policy_name_matches(s->image, rule, s->shown->names[i], nexthop, hostname))
			return true;
	return false;
}

/* By the digests that were kept: they tell of DANE-EE with SHA-256 alone. For all else there is what a probe has found
 * of the same certificate; without one it is taken to be well, and said to be assumed. */
static enum policy_dane dane(struct scene *s, const struct policy_server *server)
{
	const struct image_probed *probed = policy_probed_at(s->image, s->session->server);
	bool all_told = s->shown->has_certificate;

	for (uint32_t i = 0; i < server->record_count; i++) {
		const struct image_tlsa *r = &server->records[i];
		const uint8_t *digest = r->selector ? s->shown->key_sha256 : s->shown->certificate_sha256;
		if (r->usage != 3 || r->matching != 1)
			all_told = false;
		else if (s->shown->has_certificate && r->octets_count == 32 && memcmp(policy_tlsa_data(s->image, r), digest, 32) == 0)
			return DANE_MATCHED;
	}
	if (all_told)
		return DANE_NO_MATCH;
	if (probed && probed->dane != DANE_UNSEEN && memcmp(probed->certificate_sha256, s->shown->certificate_sha256, 32) == 0)
		return (enum policy_dane)probed->dane;
	s->assumed = true;
	return DANE_MATCHED;
}

static void facts_of_certificate(struct scene *s, const struct image_rule *rule, const char *nexthop, const struct policy_server *server,
				 struct policy_facts *facts)
{
	if (!s->shown) { /* nobody has seen it */
		facts->name_matched = facts->fingerprint_matched = true;
		facts->dane = DANE_MATCHED;
		return;
	}
	char title[POLICY_TITLE_MAX];

	facts->name_matched = names_match(s, rule, nexthop, server->mx);
	if (!facts->name_matched && s->shown->names_cut && !facts->name_later && /* it may be among those that were not kept */
	    strcmp(s->shown->mismatched, policy_rule_title(s->image, rule, title)) != 0) {
		facts->name_matched = true;
		s->assumed = true;
	}
	facts->fingerprint_matched = s->shown->has_certificate &&
				     policy_fingerprint_matches(s->image, rule, s->shown->certificate_sha256, s->shown->key_sha256, s->session->at_s);
	if (server->record_count && (rule->level == LEVEL_DANE || rule->level == LEVEL_DANE_ONLY))
		facts->dane = dane(s, server);
}

static struct policy_verdict decide(struct scene *s, const struct image_rule *rule, const char *nexthop)
{
	struct policy_facts facts = s->facts;
	struct policy_server server = {.mx_secure = true};

	if (!nexthop)
		nexthop = policy_rule_nexthop(s->image, rule);
	if (!s->session->inbound) {
		server = policy_server_of(s->image, s->session->server, nexthop);
		policy_facts_of_server(s->image, rule, &server, &facts);
		facts.name_later = !nexthop && policy_needs_nexthop(s->image, rule);
	}
	if (facts.end_to_end && !s->session->inbound && rule->e2e == E2E_PROBE)
		policy_facts_of_probe(s->image, rule, s->session->server, nexthop, s->session->at_s, &facts);
	else if (facts.tls == FACT_TLS_UP && !facts.end_to_end)
		facts_of_certificate(s, rule, nexthop, &server, &facts);
	return (struct policy_verdict){rule, policy_decide(rule, &facts, s->parties.flow_hash)};
}

static struct policy_verdict with_minimum(struct scene *s, struct policy_verdict verdict, const char *nexthop)
{
	const struct image_rule *minimum = policy_rules_of(s->image, &s->parties).minimum;

	return minimum ? policy_stricter(verdict, decide(s, minimum, nexthop)) : verdict;
}

/* What a probe of that server found, as if a session had. */
static const struct event_facts *probed_facts(struct scene *s)
{
	const struct image_probed *probed = policy_probed_at(s->image, s->session->server);
	struct event_facts *facts = &s->probed;

	if (!probed || !probed->version)
		return NULL;
	*facts = (struct event_facts){.offered = true, .tls = FACT_TLS_UP, .chain = (enum policy_chain)probed->chain, .version = probed->version,
				      .has_certificate = true, .names_cut = probed->name_count > EVENT_NAMES_MAX};
	memcpy(facts->certificate_sha256, probed->certificate_sha256, 32);
	memcpy(facts->key_sha256, probed->key_sha256, 32);
	for (uint32_t i = 0; i < probed->name_count && facts->name_count < EVENT_NAMES_MAX; i++) {
		const char *name = policy_probed_name(s->image, probed, i);
		if (strlen(name) < sizeof(facts->names[0]))
			strcpy(facts->names[facts->name_count++], name);
		else
			facts->names_cut = true;
	}
	return facts;
}

/* Was TLS had there before? */
static bool was_had(const struct scene *s)
{
	return s->session->stripped || (!s->session->inbound && policy_seen_at(s->image, s->session->server));
}

/* TLS is begun: what comes of it is known from elsewhere, or taken to be well. */
static void upgrade(struct scene *s)
{
	const struct event_facts *known = s->session->upgrade;

	if (!known || known->tls == FACT_TLS_NONE || known->end_to_end)
		known = probed_facts(s);
	s->shown = known;
	s->assumed = !known;
	s->facts.tls = known ? known->tls : FACT_TLS_UP;
	s->facts.version = known ? known->version : VERSION_ASSUMED;
	s->facts.chain = known ? known->chain : CHAIN_TRUSTED;
	s->facts.stripped |= s->facts.tls == FACT_TLS_REFUSED && was_had(s);
}

/* ---- answers ---- */

static enum replay_fate fate_of(const struct scene *s, struct policy_decision decision)
{
	switch (policy_effect(decision)) {
	case POLICY_DEFER:
		return REPLAY_DEFERRED;
	case POLICY_REJECT:
		return REPLAY_REJECTED;
	case POLICY_ALLOW:
	case POLICY_ACTIONS:
		break;
	}
	if (s->facts.end_to_end)
		return REPLAY_SEALED;
	return s->facts.tls == FACT_TLS_UP ? REPLAY_UPGRADED : REPLAY_CLEAR;
}

static void answer(const struct scene *s, struct policy_verdict verdict, const char *domain, struct replay_answer *out)
{
	const char *server = s->session->server_name;

	out->rule = verdict.rule;
	out->decision = verdict.decision;
	out->fate = fate_of(s, verdict.decision);
	out->assumed = s->assumed;
	if (!domain || verdict.rule->kind == POLICY_CLIENT)
		domain = policy_string(s->image, verdict.rule->name);
	policy_reply(&verdict.decision, verdict.rule, domain, *server ? server : "the server", out->would);
	out->would[strcspn(out->would, "\r\n")] = 0;
	if (policy_effect(verdict.decision) != POLICY_ALLOW)
		memcpy(out->reply, out->would, sizeof(out->reply));
}

/* A session that the client has encrypted takes no reply. */
static void replay_sealed(struct scene *s, struct replay *out)
{
	const struct event_facts *sealed = s->session->sealed;

	s->facts = (struct policy_facts){.end_to_end = true, .offered = true, .tls = FACT_TLS_UP, .version = sealed->version};
	struct policy_verdict verdict = with_minimum(s, decide(s, policy_rules_of(s->image, &s->parties).rule, NULL), NULL);
	answer(s, verdict, NULL, &out->mail);
	if (out->mail.fate != REPLAY_SEALED)
		out->mail.fate = REPLAY_CUT;
	out->mail.reply[0] = 0;
}

static bool recipient_wants_tls(struct scene *s, const struct image_rule *rule, const char *domain)
{
	return rule && s->facts.tls == FACT_TLS_NONE && s->session->offered && policy_wants_tls(rule, s->parties.flow_hash) &&
	       !policy_is_final(decide(s, rule, domain).decision);
}

/* A recipient without a rule: the destination's may have waited for a domain to compare names with. */
static struct policy_verdict names_of_recipient(struct scene *s, struct policy_verdict mail, const char *domain)
{
	struct policy_rules rules = policy_rules_of(s->image, &s->parties);
	struct policy_verdict verdict = mail;

	if (s->facts.tls == FACT_TLS_UP && rules.rule->kind != POLICY_DOMAIN && policy_needs_nexthop(s->image, rules.rule))
		verdict = decide(s, rules.rule, domain);
	if (s->facts.tls == FACT_TLS_UP && rules.minimum && policy_needs_nexthop(s->image, rules.minimum))
		verdict = policy_stricter(verdict, decide(s, rules.minimum, domain));
	return verdict;
}

static void replay_clear(struct scene *s, struct replay *out)
{
	const struct replay_session *session = s->session;
	const struct image_header *header = policy_image_header(s->image);
	struct policy_rules rules = policy_rules_of(s->image, &s->parties);

	s->facts.offered = session->offered;
	s->facts.stripped = !session->offered && was_had(s);
	struct policy_verdict verdict = with_minimum(s, decide(s, rules.rule, NULL), NULL);
	if (!policy_is_final(verdict.decision) && session->offered && policy_rules_want_tls(&rules, s->parties.flow_hash)) {
		upgrade(s);
		verdict = with_minimum(s, decide(s, rules.rule, NULL), NULL);
	}
	answer(s, verdict, NULL, &out->mail);
	if (policy_effect(verdict.decision) != POLICY_ALLOW)
		return;
	bool waits = !session->inbound && rules.rule->level != LEVEL_NONE && header->enforced_domain_rules;
	for (unsigned i = 0; i < session->domain_count; i++) {
		const char *domain = session->domains[i];
		const struct image_rule *rule = policy_recipient_rule(s->image, &s->parties, domain);
		if (waits && recipient_wants_tls(s, rule, domain))
			upgrade(s);
		answer(s, rule ? with_minimum(s, decide(s, rule, domain), domain) : names_of_recipient(s, verdict, domain), domain,
		       &out->rcpt[out->rcpt_count++]);
	}
}

void replay_session(const struct policy_image *image, const struct replay_session *session, struct replay *out)
{
	struct scene s = {
		.image = image,
		.session = session,
		.parties = {session->client, session->server, session->inbound, session->flow_hash},
	};

	memset(out, 0, sizeof(*out));
	if (session->sealed)
		replay_sealed(&s, out);
	else
		replay_clear(&s, out);
}
