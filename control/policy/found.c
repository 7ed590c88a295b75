/*
 * found.c - rules that nobody wrote: what DANE and MTA-STS make of a domain whose key has no level.
 *
 * Enters: a compiler with the operator's rules in it, and what was found. Leaves: for such a domain a rule of DANE's where a
 * server of it is bound by TLSA records, behind it one of MTA-STS's where it has a policy, behind that whatever holds
 * without the key. DANE goes first (RFC 8461, section 2), and an operator's level before both: then nothing is done here.
 * Refuses: patterns of an MTA-STS policy that are none (RFC 8461, section 3.2), and with them the policy.
 */
#include "compile.h"

#include <errno.h>
#include <string.h>

size_t found_rules_max(const struct ruleset *set)
{
	size_t n = 0;

	for (size_t i = 0; i < ruleset_count(set); i++) {
		const struct rule *rule = ruleset_at(set, i);

		if (!attribute_given(rule, "level"))
			n += 2 * (1 + rule->domains.count);
	}
	return n;
}

size_t found_matches_max(const struct discovered *discovered)
{
	size_t n = 0;

	for (size_t i = 0; discovered && i < discovered->sts_count; i++)
		n += discovered->sts[i].mx_count < IMAGE_MATCHES_MAX ? discovered->sts[i].mx_count : IMAGE_MATCHES_MAX;
	return n;
}

/* ---- MTA-STS ---- */

struct policies {
	const struct discovered_sts **order; /* by domain */
	size_t count;
	uint32_t *bound;
	size_t bound_count;
};

static int by_domain(const void *a, const void *b)
{
	return strcmp((*(const struct discovered_sts *const *)a)->domain, (*(const struct discovered_sts *const *)b)->domain);
}

static const struct discovered_sts *policy_of(const struct policies *p, const char *domain)
{
	const struct discovered_sts key = {.domain = domain}, *wanted = &key;
	const struct discovered_sts **found = p->count ? bsearch(&wanted, p->order, p->count, sizeof(*p->order), by_domain) : NULL;

	return found ? *found : NULL;
}

/* A host, or a star for its left-most label; "hostname", which is a word of ours, is neither. */
static bool pattern_right(const char *pattern, char out[IMAGE_DOMAIN_MAX + 3])
{
	struct why why;

	return pattern_parse(pattern, out, &why) == 0 && out[0] != '.' && strchr(out, '.');
}

static bool patterns_right(const struct discovered_sts *sts)
{
	char pattern[IMAGE_DOMAIN_MAX + 3];

	if (!sts->mx_count || sts->mx_count > IMAGE_MATCHES_MAX)
		return false;
	for (size_t i = 0; i < sts->mx_count; i++)
		if (!pattern_right(sts->mx[i], pattern))
			return false;
	return true;
}

/* ---- rules ---- */

/* With the other attributes of the key without a level: mode, percent, on_fail ... */
static uint32_t add_rule(struct compiler *c, const struct rule *rule, const char *domain, enum policy_level level, enum policy_origin origin)
{
	uint32_t index = compile_add_rule(c, rule);
	struct image_rule *out = &c->rules[index];

	out->name = strings_put(&c->strings, domain);
	out->kind = POLICY_DOMAIN;
	out->level = (uint8_t)level;
	out->origin = (uint8_t)origin;
	if (out->protocol_min < PROTOCOL_MODERN) /* RFC 8461, section 4.2 */
		out->protocol_min = PROTOCOL_MODERN;
	if (out->protocol_max < out->protocol_min)
		out->protocol_max = 0;
	if (!attribute_given(rule, "overload"))
		out->overload = PASS_RESET;
	return index;
}

/* IMAGE_NONE: its policy asks for nothing, or cannot be taken. */
static uint32_t add_sts(struct compiler *c, const struct rule *rule, const char *domain, const struct discovered_sts *sts, uint32_t beneath)
{
	struct image_sts *out = &c->sts[c->sts_count++];
	char pattern[IMAGE_DOMAIN_MAX + 3];

	*out = (struct image_sts){.domain = strings_put(&c->strings, domain), .rule = IMAGE_NONE, .mode = (uint8_t)sts->mode, .error = (uint8_t)sts->error};
	if (sts->mode == STS_NONE)
		return IMAGE_NONE;
	if (!patterns_right(sts)) {
		discovered_refuse(c->discovered, "MTA-STS of", domain, "no mx patterns, too many, or one that is none");
		out->mode = STS_NONE;
		out->error = STS_POLICY_INVALID;
		return IMAGE_NONE;
	}
	out->rule = add_rule(c, rule, domain, LEVEL_SECURE, ORIGIN_STS);
	c->rules[out->rule].match_first = c->match_count;
	for (size_t i = 0; i < sts->mx_count; i++)
		if (pattern_right(sts->mx[i], pattern))
			compile_add_match(c, &c->rules[out->rule], pattern);
	if (sts->mode == STS_TESTING)
		c->rules[out->rule].mode = MODE_OBSERVE;
	if (c->rules[out->rule].mode == MODE_OBSERVE)
		c->rules[out->rule].otherwise = beneath;
	return out->rule;
}

/* What would hold if the domain had no key: a provider's list, else the nearest parent. */
static uint32_t rule_beneath(const struct compiler *c, const char *domain)
{
	uint32_t found = domain_table_find(&c->domains, &c->strings, domain);

	for (const char *dot = strchr(domain, '.'); found == IMAGE_NONE && dot; dot = strchr(dot + 1, '.'))
		found = domain_table_find(&c->domains, &c->strings, dot);
	return found;
}

static int add_domain(struct compiler *c, const struct policies *p, const struct rule *rule, const char *domain, struct domain_entry *entry)
{
	const struct discovered_sts *sts = policy_of(p, domain);
	bool bound = servers_binds(p->bound, p->bound_count, strings_put(&c->strings, domain));
	uint32_t beneath = rule_beneath(c, domain), listed = domain_table_find(&c->domains, &c->strings, domain);
	uint32_t found = IMAGE_NONE;

	if (rule->kind == POLICY_PROVIDER && listed != IMAGE_NONE && c->rules[listed].kind == POLICY_PROVIDER)
		return why_set(&c->why, "%.100s: in domains of provider:%s and of %s; one of them, or a rule of its own, would be right", domain,
			       c->strings.bytes + c->rules[listed].name, rule->key);
	if (sts)
		found = add_sts(c, rule, domain, sts, beneath);
	if (bound) {
		uint32_t dane = add_rule(c, rule, domain, LEVEL_DANE, ORIGIN_DANE);

		c->rules[dane].otherwise = found != IMAGE_NONE ? found : beneath;
		found = dane;
	}
	*entry = (struct domain_entry){strings_put(&c->strings, domain), found, true};
	return 0;
}

/* An own key of the domain, whatever it says, goes before a provider's list. */
static bool has_own_key(const struct compiler *c, const char *domain)
{
	const struct rule *own = ruleset_find(c->set, domain);

	return own && !compile_expired(c, own);
}

static int add_each(struct compiler *c, const struct policies *p, struct domain_entry *entries, size_t *count)
{
	int err = 0;

	for (size_t i = 0; i < ruleset_count(c->set) && !err; i++) {
		const struct rule *rule = ruleset_at(c->set, i);

		if (attribute_given(rule, "level") || compile_expired(c, rule))
			continue;
		if (rule->kind == POLICY_DOMAIN)
			err = add_domain(c, p, rule, rule->name, &entries[(*count)++]);
		for (size_t d = 0; d < rule->domains.count && !err; d++)
			if (rule->domains.items[d][0] != '.' && !has_own_key(c, rule->domains.items[d]))
				err = add_domain(c, p, rule, rule->domains.items[d], &entries[(*count)++]);
	}
	return err;
}

static int by_name_text(const void *a, const void *b, void *context)
{
	const struct strings *strings = context;

	return strcmp(strings->bytes + ((const struct image_sts *)a)->domain, strings->bytes + ((const struct image_sts *)b)->domain);
}

/* Two providers without a level may list one domain: it has one policy all the same. */
static void sort_sts(struct compiler *c)
{
	size_t kept = 0;

	if (c->sts_count)
		qsort_r(c->sts, c->sts_count, sizeof(*c->sts), by_name_text, &c->strings);
	for (size_t i = 0; i < c->sts_count; i++)
		if (!kept || c->sts[kept - 1].domain != c->sts[i].domain)
			c->sts[kept++] = c->sts[i];
	c->sts_count = kept;
}

int found_add(struct compiler *c)
{
	size_t room = found_rules_max(c->set), count = 0;
	struct domain_entry *entries;
	struct policies p = {.count = 0};
	int err;

	if (!c->discovered || !room)
		return 0;
	err = domain_table_build(&c->domains, &c->strings, c->rules, &c->why);
	if (err)
		return err;
	p.order = must(calloc(c->discovered->sts_count + 1, sizeof(*p.order)));
	for (size_t i = 0; i < c->discovered->sts_count; i++) {
		const struct discovered_sts *sts = &c->discovered->sts[i];

		if (!policy_domain_valid(sts->domain) || sts->mode > STS_ENFORCE || sts->error > STS_WEBPKI_INVALID)
			discovered_refuse(c->discovered, "MTA-STS of", sts->domain, "no domain, or no policy");
		else
			p.order[p.count++] = sts;
	}
	qsort(p.order, p.count, sizeof(*p.order), by_domain);
	p.bound = servers_bound(&c->servers, &p.bound_count);
	entries = must(calloc(room, sizeof(*entries)));
	c->sts = must(calloc(room, sizeof(*c->sts)));
	err = add_each(c, &p, entries, &count);
	for (size_t i = 0; i < count; i++)
		if (entries[i].rule != IMAGE_NONE)
			domain_table_add(&c->domains, entries[i]);
	sort_sts(c);
	free(entries);
	free(p.order);
	free(p.bound);
	return err;
}
