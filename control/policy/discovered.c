/*
 * discovered.c - which of the addresses that the DNS tells belong to which destination, and by what name.
 *
 * Enters: rules, and claims "this address is an MX of that domain, by this name". Leaves: places: an address with
 * the rule whose destination it joins, and the server's name. The order of claims does not matter.
 *
 * - An address in a provider's own nets is that provider's, whatever the DNS says of others: the operator wrote it.
 * - Else it goes to the provider that lists one of its domains; of two, to the first by name, and that is told.
 * - Else it is a plain domain's, one with a level: what is discovered for one without decides at each RCPT. At MAIL only the
 *   address is known, and a host may serve many domains: were the
 *   rule of one of them to decide, another's mail would be refused, or let go, by a rule that nobody gave it. So
 *   the address gets a domain's rule only if all domains that the agent knows behind it have an equal one, and
 *   if the server stands in one of them by its own name (mx.example.org for example.org): a hoster's server has
 *   customers that no rule names. Any other address keeps the rule of "*", and each RCPT decides for itself; so
 *   do rules that cannot decide at MAIL, or that would keep RCPTs from being looked at.
 *   What remains: a domain without a rule behind a self-hosted MX of one that has one; give it a rule, too.
 *
 * The name is the one that the owner's domains agree upon; a stranger's domain that points its MX at a provider's
 * address gives that address no name. Two names are none: which one a client goes by cannot be known from here.
 */
#include "compile.h"

#include <string.h>

#define MAPPED_BITS 96

/* A provider that lists the domain. */
struct listing {
	const char *domain;
	uint32_t rule;
};

struct placing {
	const struct ruleset *set;
	uint64_t now;
	const struct discovered_claim **claims; /* by address, domain, preference, name */
	size_t count;
	struct listing *listings; /* by domain */
	size_t listing_count;
	uint32_t *net_rule; /* by claim: provider whose nets hold its address, IMAGE_NONE */
	uint8_t *net_len;
};

static bool in_force(const struct rule *rule, uint64_t now)
{
	return !rule->values.expires || rule->values.expires > now;
}

static int by_claim(const void *a, const void *b)
{
	const struct discovered_claim *x = *(const struct discovered_claim *const *)a, *y = *(const struct discovered_claim *const *)b;
	int order = memcmp(x->addr, y->addr, sizeof(x->addr));

	if (!order)
		order = strcmp(x->domain, y->domain);
	if (!order)
		order = (int)x->preference - (int)y->preference;
	return order ? order : strcmp(x->mx, y->mx);
}

static int by_domain(const void *a, const void *b)
{
	const struct listing *x = a, *y = b;
	int order = strcmp(x->domain, y->domain);

	return order ? order : (int)(x->rule > y->rule) - (int)(x->rule < y->rule);
}

struct key_sought {
	const struct ruleset *set;
	const char *key;
};

static bool key_below(const void *looked_for, size_t place)
{
	const struct key_sought *sought = looked_for;

	return strcmp(ruleset_at(sought->set, place)->key, sought->key) < 0;
}

/* Index of a key in the ruleset's order; IMAGE_NONE. */
static uint32_t rule_index(const struct ruleset *set, const char *key)
{
	size_t at = first_not_below(ruleset_count(set), key_below, &(struct key_sought){set, key});

	return at < ruleset_count(set) && !strcmp(ruleset_at(set, at)->key, key) ? (uint32_t)at : IMAGE_NONE;
}

struct domain_sought {
	const struct placing *placing;
	const char *domain;
};

static bool listing_below(const void *looked_for, size_t place)
{
	const struct domain_sought *sought = looked_for;

	return strcmp(sought->placing->listings[place].domain, sought->domain) < 0;
}

static uint32_t provider_of(const struct placing *p, const char *domain)
{
	size_t at = first_not_below(p->listing_count, listing_below, &(struct domain_sought){p, domain});

	return at < p->listing_count && !strcmp(p->listings[at].domain, domain) ? p->listings[at].rule : IMAGE_NONE;
}

/* ---- the operator's nets ---- */

static bool holds(const uint8_t prefix[16], unsigned len, const uint8_t addr[16])
{
	unsigned whole = len / 8, rest = len % 8;

	return memcmp(prefix, addr, whole) == 0 && (!rest || ((prefix[whole] ^ addr[whole]) & (0xff00u >> rest) & 0xff) == 0);
}

struct address_sought {
	const struct placing *placing;
	const uint8_t *addr;
};

static bool claim_below(const void *looked_for, size_t place)
{
	const struct address_sought *sought = looked_for;

	return memcmp(sought->placing->claims[place]->addr, sought->addr, 16) < 0;
}

/* Claims are few and networks may be a million: each network finds its claims, rather than the other way round. */
static void mark_net(struct placing *p, const struct net *net, uint32_t rule)
{
	uint8_t prefix[16] = {[10] = 0xff, [11] = 0xff};
	unsigned len = net->ipv6 ? net->len : net->len + MAPPED_BITS;

	memcpy(net->ipv6 ? prefix : prefix + 12, net->addr, net->ipv6 ? 16 : 4);
	for (size_t low = first_not_below(p->count, claim_below, &(struct address_sought){p, prefix});
	     low < p->count && holds(prefix, len, p->claims[low]->addr); low++)
		if (p->net_rule[low] == IMAGE_NONE || len > p->net_len[low]) {
			p->net_rule[low] = rule;
			p->net_len[low] = (uint8_t)len;
		}
}

static void read_rules(struct placing *p)
{
	size_t rules = ruleset_count(p->set), room = 0;

	for (size_t i = 0; i < rules; i++)
		room += ruleset_at(p->set, i)->domains.count;
	p->listings = must(calloc(room + 1, sizeof(*p->listings)));
	for (size_t i = 0; i < rules; i++) {
		const struct rule *rule = ruleset_at(p->set, i);

		if (rule->kind != POLICY_PROVIDER || !in_force(rule, p->now))
			continue;
		for (size_t d = 0; d < rule->domains.count; d++)
			p->listings[p->listing_count++] = (struct listing){rule->domains.items[d], (uint32_t)i};
		for (size_t n = 0; n < rule->nets.count; n++)
			mark_net(p, &rule->nets.items[n], (uint32_t)i);
	}
	qsort(p->listings, p->listing_count, sizeof(*p->listings), by_domain);
}

/* ---- one address ---- */

/* Do they decide alike? Who answers for a rule and why, and until when, is not part of that. */
static bool rules_alike(const struct rule *a, const struct rule *b)
{
	static const char *const aside[] = {"owner", "reason", "report", "expires"};
	uint32_t skipped = 0;

	for (size_t i = 0; i < sizeof(aside) / sizeof(aside[0]); i++)
		skipped |= 1u << attribute_find(aside[i]);
	for (size_t i = 0; i < ATTRIBUTES_MAX; i++)
		if (!(skipped & 1u << i) && ((a->printed[i] == NULL) != (b->printed[i] == NULL) ||
					     (a->printed[i] && strcmp(a->printed[i], b->printed[i]) != 0)))
			return false;
	return true;
}

static bool self_hosted(const struct discovered_claim *claim)
{
	size_t mx = strlen(claim->mx), domain = strlen(claim->domain);

	if (mx < domain || strcmp(claim->mx + mx - domain, claim->domain) != 0)
		return false;
	return mx == domain || claim->mx[mx - domain - 1] == '.';
}

/* The name that the domains of `owner` (IMAGE_NONE: of no provider) agree upon; "" if they don't, or there are none. */
static const char *agreed_name(const struct placing *p, size_t first, size_t end, uint32_t owner)
{
	const char *name = "", *domain = NULL;

	for (size_t i = first; i < end; i++) {
		const struct discovered_claim *claim = p->claims[i];

		if (provider_of(p, claim->domain) != owner || (domain && !strcmp(domain, claim->domain)))
			continue; /* a stranger's, or a less preferred name of the same domain */
		domain = claim->domain;
		if (*name && strcmp(name, claim->mx) != 0)
			return "";
		name = claim->mx;
	}
	return name;
}

/* Has it an answer before the RCPT is seen? Not where the certificate is compared with the recipient's domain, or with
 * a server's name that is not known; and "none" would keep the dataplane from looking at RCPTs, "block" refuse all. */
static bool decides_at_mail(const struct rule *rule, const char *mx)
{
	if (!attribute_given(rule, "level") || rule->values.level == LEVEL_NONE || rule->values.level == LEVEL_BLOCK)
		return false;
	for (size_t i = 0; i < rule->match.count; i++) {
		const char *pattern = rule->match.items[i];

		if (policy_pattern_is_keyword(pattern) && (!*mx || strcmp(pattern, "hostname") != 0))
			return false;
	}
	if (rule->match.count)
		return true;
	return rule->values.level != LEVEL_SECURE && (rule->values.level != LEVEL_VERIFY || *mx);
}

/* The rule that all of them have, as that of the first self-hosted one; IMAGE_NONE. */
static uint32_t agreed_rule(const struct placing *p, size_t first, size_t end, const char *mx)
{
	uint32_t found = IMAGE_NONE, some = IMAGE_NONE;

	for (size_t i = first; i < end; i++) {
		uint32_t rule = rule_index(p->set, p->claims[i]->domain);

		if (rule == IMAGE_NONE || !in_force(ruleset_at(p->set, rule), p->now))
			return IMAGE_NONE;
		if (some != IMAGE_NONE && !rules_alike(ruleset_at(p->set, some), ruleset_at(p->set, rule)))
			return IMAGE_NONE;
		if (!decides_at_mail(ruleset_at(p->set, rule), mx))
			return IMAGE_NONE;
		some = rule;
		if (found == IMAGE_NONE && self_hosted(p->claims[i]))
			found = rule;
	}
	return found;
}

static uint32_t claiming_provider(const struct placing *p, size_t first, size_t end, struct discovered *out)
{
	uint32_t owner = IMAGE_NONE, other = IMAGE_NONE;
	char text[NET_TEXT_MAX];
	struct net net;

	for (size_t i = first; i < end; i++) {
		uint32_t rule = provider_of(p, p->claims[i]->domain);

		if (rule == IMAGE_NONE || rule == owner)
			continue;
		other = owner == IMAGE_NONE ? IMAGE_NONE : rule > owner ? rule : owner;
		owner = rule < owner ? rule : owner;
	}
	if (other == IMAGE_NONE)
		return owner;
	net = discovered_net(p->claims[first]->addr);
	net_print(&net, text);
	if (!out->ties++)
		snprintf(out->tie, sizeof(out->tie), "%s: MX of domains of %.150s and of %.150s; it goes to the first; nets= would say whose it is",
			 text, ruleset_at(p->set, owner)->key, ruleset_at(p->set, other)->key);
	return owner;
}

struct net discovered_net(const uint8_t addr[16])
{
	struct net net = {.len = 128, .ipv6 = !policy_addr_is_ipv4(addr)};

	memcpy(net.addr, net.ipv6 ? addr : addr + 12, net.ipv6 ? 16 : 4);
	net.len = net.ipv6 ? 128 : 32;
	return net;
}

/* False: the address stays where it is without the DNS. */
static bool place(const struct placing *p, size_t first, size_t end, struct place *out, struct discovered *discovered)
{
	uint32_t owner = p->net_rule[first];

	*out = (struct place){.net = discovered_net(p->claims[first]->addr)};
	if (owner == IMAGE_NONE)
		owner = claiming_provider(p, first, end, discovered);
	out->mx = agreed_name(p, first, end, owner);
	if (owner != IMAGE_NONE) {
		out->rule = owner;
		/* In its own nets only the name is news; and where these name the very address, it stands there already. */
		return p->net_rule[first] == IMAGE_NONE || (*out->mx && p->net_len[first] < 128);
	}
	out->rule = agreed_rule(p, first, end, out->mx);
	return out->rule != IMAGE_NONE || *out->mx;
}

struct place *discovered_places(struct discovered *discovered, const struct ruleset *set, uint64_t now, size_t *count)
{
	struct placing p = {.set = set, .now = now, .count = discovered->count};
	struct place *places = must(calloc(p.count + 1, sizeof(*places)));
	size_t end;

	p.claims = must(calloc(p.count + 1, sizeof(*p.claims)));
	p.net_rule = must(calloc(p.count + 1, sizeof(*p.net_rule)));
	p.net_len = must(calloc(p.count + 1, 1));
	size_t kept = 0;
	for (size_t i = 0; i < p.count; i++)
		p.claims[kept++] = &discovered->claims[i];
	qsort(p.claims, kept, sizeof(*p.claims), by_claim);
	for (size_t i = 0; i < kept; i++)
		p.net_rule[i] = IMAGE_NONE;
	read_rules(&p);
	*count = 0;
	for (size_t first = 0; first < kept; first = end) {
		for (end = first + 1; end < kept && !memcmp(p.claims[end]->addr, p.claims[first]->addr, 16);)
			end++;
		*count += place(&p, first, end, &places[*count], discovered);
	}
	free(p.claims);
	free(p.net_rule);
	free(p.net_len);
	free(p.listings);
	return places;
}

static unsigned needs_of(const struct rule *rule)
{
	bool level = attribute_given(rule, "level");
	unsigned needs = level ? 0 : NEED_STS | NEED_PROBE;

	if (rule->values.e2e == E2E_PROBE)
		needs |= NEED_PROBE;
	switch ((enum policy_level)rule->values.level) {
	case LEVEL_DANE:
	case LEVEL_DANE_ONLY:
	case LEVEL_FINGERPRINT:
	case LEVEL_VERIFY:
	case LEVEL_SECURE:
		return needs | NEED_PROBE;
	case LEVEL_NONE:
	case LEVEL_MAY:
	case LEVEL_ENCRYPT:
	case LEVEL_BLOCK:
	case POLICY_LEVELS:
		break;
	}
	return needs;
}

void ruleset_domains(const struct ruleset *set, void (*each)(void *context, const char *domain, unsigned needs), void *context)
{
	for (size_t i = 0; i < ruleset_count(set); i++) {
		const struct rule *rule = ruleset_at(set, i);

		if (rule->kind == POLICY_DOMAIN)
			each(context, rule->name, needs_of(rule));
		for (size_t d = 0; d < rule->domains.count; d++)
			if (rule->domains.items[d][0] != '.')
				each(context, rule->domains.items[d], needs_of(rule));
	}
}
