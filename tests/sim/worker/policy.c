/*
 * policy.c - rules drawn at random, compiled as the operator's would be, and what they allow.
 *
 * The oracle knows a level's meaning from shared policy, not from policy_decide(): where must no MAIL be seen in
 * clear? It says "may be" wherever a limit or a peer's misbehaviour opens a way that the operator chose.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "../../../control/policy/rules.h"
#include "sim.h"

static void rule_draw(struct rng *rng, struct rule_drawn *rule, const char *const *levels, unsigned count)
{
	static const char *const floors[] = {"", "", ">=TLSv1.2", ">=TLSv1.3"};
	*rule = (struct rule_drawn){
		.level = levels[below(rng, count)], .enforced = !chance(rng, 120), .percent = chance(rng,
		        100) ? below(rng, 101) : 100,
		.reject = chance(rng, 300), .overload_passes = chance(rng, 400), .floor = floors[below(rng, 4)],
	};
}

static void line_add(struct policy_drawn *policy, const char *key, const struct rule_drawn *rule)
{
	snprintf(policy->text[policy->lines++], sizeof(policy->text[0]),
	        "%s level=%s%s%s%s on_fail=%s overload=%s percent=%u%s%s", key, rule->level,
	         !strcmp(rule->level, "verify") ? " match=mx.sim.example" : "", rule->enforced ? "" : " mode=observe",
	        *rule->floor ? " protocols=" : "", rule->reject ? "reject" : "defer",
	         rule->overload_passes ? "pass" : "reset", rule->percent, *rule->floor ? "" : "", "");
	if (*rule->floor) {
		char *text = policy->text[policy->lines - 1], *at = strstr(text, " protocols="), rest[200];
		snprintf(rest, sizeof(rest), "%s", at + strlen(" protocols="));
		sprintf(at, " protocols=%s%s", rule->floor, rest);
	}
}

struct policy_image *policy_draw(struct rng *rng, struct policy_drawn *out)
{
	static const char *const levels[] = {"none", "may", "may", "may", "encrypt", "encrypt", "encrypt", "verify",
	        "verify", "block"};
	static const char *const inbound[] = {"none", "may", "encrypt"};
	static const char *const domain[] = {"encrypt"};
	char error[RULES_ERROR_MAX];
	struct ruleset *set = ruleset_new();
	size_t len;

	memset(out, 0, sizeof(*out));
	rule_draw(rng, &out->destination, levels, 10);
	rule_draw(rng, &out->inbound, inbound, 3);
	rule_draw(rng, &out->domain, domain, 1);
	out->has_domain_rule = chance(rng, 250);
	out->remembers_failures = chance(rng, 800);
	line_add(out, "provider:lab nets=10.77.2.0/24,fd77:2::/64 servername=mx.sim.example", &out->destination);
	line_add(out, "inbound:*", &out->inbound);
	if (out->has_domain_rule)
		line_add(out, "strict.example", &out->domain);
	for (unsigned i = 0; i < out->lines; i++) {
		struct rule *rule = rule_parse_line(out->text[i], error, sizeof(error));
		require(NULL, rule, "a rule: %s", error);
		ruleset_put(set, rule);
	}
	void *bytes = ruleset_compile(set, 1, 1700000000, &len, error, sizeof(error));
	require(NULL, bytes, "the rules: %s", error);
	struct policy_image *image = policy_image_parse(bytes, len, error, sizeof(error));
	require(NULL, image, "the image: %s", error);
	free(bytes);
	ruleset_free(set);
	return image;
}

const struct rule_drawn *policy_of(const struct session *session)
{
	return session->inbound ? &sim.policy.inbound : &sim.policy.destination;
}

static bool in_force(const struct rule_drawn *rule)
{
	return rule->enforced && sim.flow_hash % 100 < rule->percent;
}

/* Has any session of this run a server where TLS may fail? Then `may` may remember it. */
static bool tls_may_fail(void)
{
	for (unsigned i = 0; i < sim.sessions; i++) {
		const struct session *s = &sim.session[i];
		if (s->server.tls_way != TLS_WAY_GOOD || s->server.hides_in_tls || !s->well_behaved ||
		        (s->server.tls_max == TLS1_2_VERSION && *policy_of(s)->floor))
			return true;
	}
	return false;
}

bool policy_clear_allowed(const struct session *session)
{
	const struct rule_drawn *rule = policy_of(session);
	if (!in_force(rule) || !strcmp(rule->level, "none") || (rule->overload_passes && (sim.short_of_room ||
	        !session->well_behaved)))
		return true;
	if (strcmp(rule->level, "may"))
		return false;
	return session->inbound || session->server.refuses_ehlo || tls_may_fail() || (sim.short_of_room &&
	        rule->overload_passes);
}

bool policy_recipient_clear_allowed(const struct session *session, const char *recipient)
{
	const struct rule_drawn *rule = &sim.policy.domain, *own = policy_of(session);
	const char *domain = strchr(recipient, '@');
	if (session->inbound || !sim.policy.has_domain_rule || strcmp(domain, "@strict.example") || !in_force(rule))
		return true;
	return !strcmp(own->level, "none") || (own->overload_passes && (sim.short_of_room || !session->well_behaved));
}
