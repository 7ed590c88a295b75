/*
 * rules.c - which rules hold for a session, and which of two decides.
 *
 * Enters: an image, the two addresses, the direction. Leaves: the destination's rule with the minimum that the
 * client's prefix asks for besides; of two decisions the one that applies.
 * Invariant: a minimum never loosens anything. Only level none, in force, takes a customer out of everything,
 * and then it stands in the destination's place, so that no other rule is asked by accident.
 */
#include "policy.h"

static const uint8_t strictness[POLICY_LEVELS] = {
	[LEVEL_NONE] = 0,   [LEVEL_MAY] = 1,    [LEVEL_ENCRYPT] = 2,   [LEVEL_DANE] = 3,  [LEVEL_VERIFY] = 4,
	[LEVEL_SECURE] = 5, [LEVEL_DANE_ONLY] = 6, [LEVEL_FINGERPRINT] = 7, [LEVEL_BLOCK] = 8,
};

unsigned policy_strictness(enum policy_level level)
{
	return (unsigned)level < POLICY_LEVELS ? strictness[level] : strictness[LEVEL_BLOCK];
}

/* The rule of the client's prefix; sessions from outside have none. */
static const struct image_rule *client_rule(const struct policy_image *image, const struct policy_parties *parties)
{
	return parties->inbound ? NULL : policy_client_rule(image, parties->client_addr);
}

/* As it stands at the session's server, before a recipient is known. */
static const struct image_rule *at_server(const struct policy_image *image, const struct image_rule *rule, const struct policy_parties *parties)
{
	rule = policy_rule_at(image, rule, parties->server_addr, policy_rule_nexthop(image, rule));
	return rule ? rule : policy_rule(image, policy_image_header(image)->default_rule);
}

struct policy_rules policy_rules_of(const struct policy_image *image, const struct policy_parties *parties)
{
	const struct image_rule *client = client_rule(image, parties);

	if (parties->inbound)
		return (struct policy_rules){policy_inbound_rule(image, parties->server_addr), NULL};
	if (client && policy_exempts(client, parties->flow_hash))
		return (struct policy_rules){client, NULL};
	return (struct policy_rules){at_server(image, policy_rule(image, policy_destination(image, policy_destination_of(image, parties->server_addr))->rule),
	                                       parties), client ? at_server(image, client, parties) : NULL};
}

const struct image_rule *policy_recipient_rule(const struct policy_image *image, const struct policy_parties *parties, const char *domain)
{
	const struct image_rule *client = client_rule(image, parties);

	if (parties->inbound)
		return policy_inbound_domain_rule(image, domain);
	if (client && policy_exempts(client, parties->flow_hash))
		return NULL;
	const struct image_rule *rule = policy_domain_rule(image, domain);
	return rule ? policy_rule_at(image, rule, parties->server_addr, domain) : NULL;
}

struct policy_verdict policy_stricter(struct policy_verdict a, struct policy_verdict b)
{
	enum policy_action done_a = policy_effect(a.decision), done_b = policy_effect(b.decision);

	if (done_a != done_b)
		return done_b > done_a ? b : a;
	if (a.decision.action != b.decision.action) /* of what is only counted, what would have been a refusal */
		return b.decision.action > a.decision.action ? b : a;
	if (a.decision.observed != b.decision.observed)
		return a.decision.observed ? b : a;
	return policy_strictness((enum policy_level)b.rule->level) > policy_strictness((enum policy_level)a.rule->level) ? b : a;
}

/* Refuses, and no handshake of ours could change that. */
static bool hopeless(const struct image_rule *rule, uint32_t flow_hash)
{
	static const struct policy_facts offered = {.offered = true};

	return !policy_wants_tls(rule, flow_hash) && policy_effect(policy_decide(rule, &offered, flow_hash)) != POLICY_ALLOW;
}

bool policy_rules_want_tls(const struct policy_rules *rules, uint32_t flow_hash)
{
	const struct image_rule *minimum = rules->minimum;

	if (hopeless(rules->rule, flow_hash) || (minimum && hopeless(minimum, flow_hash)))
		return false;
	return policy_wants_tls(rules->rule, flow_hash) || (minimum && policy_wants_tls(minimum, flow_hash));
}

uint16_t policy_rules_floor(const struct policy_rules *rules, uint32_t flow_hash)
{
	uint16_t floor = policy_floor(rules->rule, flow_hash);
	uint16_t least = rules->minimum ? policy_floor(rules->minimum, flow_hash) : 0;

	return least > floor ? least : floor;
}
