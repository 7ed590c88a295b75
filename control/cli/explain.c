/*
 * explain.c - the rules of the image that could hold, in the order in which they are asked.
 *
 * The order is policy.md's: the recipient's domain, its parents with the nearest first, the destination by
 * its longest prefix, "*". Read from the image that waxseald reads, so that it tells what is in force and not
 * what somebody has just written into Redis.
 */
#include "explain.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "../policy/rules.h"
#include "cli.h"
#include "link.h"
#include "table.h"

#define CANDIDATES_MAX 400 /* 128 parents in a name of 255, 129 prefixes within each other, and "*" */
#define WHY_MAX 512

struct candidates {
	const struct policy_image *image;
	const struct image_rule *seen[CANDIDATES_MAX];
	size_t count;
	json_t *array;
};

/* ---- what a rule says, beside its level and mode ---- */

static void put(FILE *out, const char *name, const char *value)
{
	struct rule_field field = {name, value};

	if (*value)
		rule_print(out, "", &field, 1);
}

static void put_number(FILE *out, const char *name, unsigned long long value)
{
	fprintf(out, " %s=%llu", name, value);
}

static void put_protocols(FILE *out, const struct image_rule *rule)
{
	static const char *const names[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
	const char *floor = rule->protocol_min ? names[(rule->protocol_min - 0x0301) & 3] : "";
	const char *ceiling = rule->protocol_max ? names[(rule->protocol_max - 0x0301) & 3] : "";
	char text[48];

	snprintf(text, sizeof(text), "%s%s%s%s%s", *floor ? ">=" : "", floor, *floor && *ceiling ? ":" : "", *ceiling ? "<=" : "", ceiling);
	put(out, "protocols", text);
}

static char *attributes_of(const struct policy_image *image, const struct image_rule *rule)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (uint32_t i = 0; i < rule->match_count; i++)
		fprintf(out, "%s%s", i ? ":" : " match=", policy_match(image, rule, i));
	if (rule->fingerprint_count)
		put_number(out, "fingerprints", rule->fingerprint_count);
	put_protocols(out, rule);
	put(out, "ciphers", policy_string(image, rule->ciphers));
	put(out, "exclude", policy_string(image, rule->exclude));
	put(out, "servername", policy_string(image, rule->servername));
	if (rule->percent != 100)
		put_number(out, "percent", rule->percent);
	put(out, "on_fail", rule->on_fail == ON_FAIL_REJECT ? "reject" : "");
	put(out, "e2e", rule->e2e == E2E_PROBE ? "probe" : "");
	if (rule->expires)
		put_number(out, "expires", rule->expires);
	put(out, "owner", policy_string(image, rule->owner));
	put(out, "reason", policy_string(image, rule->reason));
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

/* ---- who could hold ---- */

/* A rule that stands there already loses nothing to itself. */
static void add(struct candidates *c, const struct image_rule *rule, const char *why)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->seen[i] == rule)
			return;
	if (c->count == CANDIDATES_MAX)
		return;
	c->seen[c->count++] = rule;

	char *attributes = attributes_of(c->image, rule);
	char title[POLICY_TITLE_MAX];
	json_t *object = json_object();
	link_json_set(object, "rule", policy_rule_title(c->image, rule, title));
	link_json_set(object, "level", policy_level_name((enum policy_level)rule->level));
	link_json_set(object, "mode", rule->mode == MODE_OBSERVE ? "observe" : "enforce");
	link_json_set(object, "attributes", attributes && *attributes ? attributes + 1 : "");
	link_json_set(object, "why", why);
	json_object_set_new(object, "wins", json_boolean(c->count == 1));
	json_array_append_new(c->array, object);
	free(attributes);
}

/* The rule that the part of a name from its dot on has, as the dataplane would find it. '?' is in no name, so only
 * parents can be found for it. */
static const struct image_rule *parent_rule(const struct policy_image *image, const char *parent)
{
	char below[IMAGE_DOMAIN_MAX + 2];

	snprintf(below, sizeof(below), "?%s", parent);
	return policy_domain_rule(image, below);
}

static void add_domain(struct candidates *c, const char *domain)
{
	const struct image_rule *rule = policy_domain_rule(c->image, domain), *parent = NULL;
	const char *dot = strchr(domain, '.');
	char why[WHY_MAX];

	parent = dot ? parent_rule(c->image, dot) : NULL;
	if (rule && rule != parent) {
		snprintf(why, sizeof(why), "%s", rule->kind == POLICY_PROVIDER ? "the provider's domains= name it" : "the domain's own");
		add(c, rule, why);
	}
	for (const char *next; dot; dot = next) {
		next = strchr(dot + 1, '.');
		parent = parent_rule(c->image, dot);
		if (!parent || (next && parent == parent_rule(c->image, next)))
			continue; /* none, or one of a parent above, whose turn comes */
		snprintf(why, sizeof(why), "parent %.*s%s", IMAGE_DOMAIN_MAX, dot, c->count ? ": the nearer name goes first" : "");
		add(c, parent, why);
	}
}

static bool holds(const struct policy_prefix *p, const uint8_t addr[16])
{
	bool ipv6 = !policy_addr_is_ipv4(addr);
	const uint8_t *bytes = ipv6 ? addr : addr + 12;
	unsigned whole = p->len / 8, rest = p->len % 8;

	if (p->ipv6 != ipv6 || memcmp(p->addr, bytes, whole) != 0)
		return false;
	return !rest || ((p->addr[whole] ^ bytes[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

static void add_prefix(struct candidates *c, const struct policy_prefix *p, bool by_domain, bool longest)
{
	const struct image_destination *d = policy_destination(c->image, p->destination);
	const struct image_rule *rule = policy_rule(c->image, d->rule);
	char addr[INET6_ADDRSTRLEN] = "?", why[WHY_MAX];

	inet_ntop(p->ipv6 ? AF_INET6 : AF_INET, p->addr, addr, sizeof(addr));
	snprintf(why, sizeof(why), "destination %.100s has %s/%u%s%s", policy_string(c->image, d->name), addr, p->len,
		 rule->kind == POLICY_DEFAULT ? ", and no level of its own" : "",
		 !longest    ? ": the longer prefix goes first"
		 : by_domain ? ": the recipient's domain goes first"
			     : "");
	add(c, rule, why);
}

/* Prefixes ascend by address and then by length: those that hold one address, by length. */
static void add_address(struct candidates *c, const uint8_t addr[16])
{
	size_t held[129], count = 0, prefixes = policy_prefixes(c->image);
	bool by_domain = c->count > 0;

	for (size_t i = 0; i < prefixes; i++) {
		struct policy_prefix p = policy_prefix(c->image, i);

		if (count < sizeof(held) / sizeof(held[0]) && holds(&p, addr))
			held[count++] = i;
	}
	for (size_t i = count; i-- > 0;) {
		struct policy_prefix p = policy_prefix(c->image, held[i]);

		add_prefix(c, &p, by_domain, i + 1 == count);
	}
}

json_t *explain_rules(const struct policy_image *image, const char *domain, const uint8_t *addr)
{
	struct candidates c = {.image = image, .array = json_array()};

	if (domain)
		add_domain(&c, domain);
	if (addr)
		add_address(&c, addr);
	add(&c, policy_rule(image, policy_image_header(image)->default_rule),
	    c.count ? "for all that has no other" : "for all that has no other: nothing else names it");
	return c.array;
}

/* ---- what comes on top ---- */

static void insert(const struct policy_image *image, json_t *rules, size_t at, const struct image_rule *rule, const char *role, const char *why)
{
	struct candidates one = {.image = image, .array = json_array()};

	add(&one, rule, why);
	json_t *object = json_array_get(one.array, 0);
	json_object_set_new(object, "wins", json_boolean(!*role));
	if (*role)
		link_json_set(object, "role", role);
	for (size_t i = 0; !*role && i < json_array_size(rules); i++) /* it stands in the winner's place */
		json_object_set_new(json_array_get(rules, i), "wins", json_false());
	json_array_insert(rules, at, object);
	json_decref(one.array);
}

void explain_in_place(const struct policy_image *image, json_t *rules, const char *domain, const uint8_t addr[16])
{
	const struct image_rule *rule = domain ? policy_domain_rule(image, domain) : NULL, *other;
	char why[WHY_MAX], title[POLICY_TITLE_MAX];

	if (!rule) {
		rule = policy_rule(image, policy_destination(image, policy_destination_of(image, addr))->rule);
		domain = policy_rule_nexthop(image, rule);
	}
	other = policy_rule_at(image, rule, addr, domain);
	if (!other)
		other = policy_rule(image, policy_destination(image, policy_destination_of(image, addr))->rule);
	if (other == rule)
		return;
	snprintf(why, sizeof(why), "in the place of %s: no TLSA records speak for that server", policy_rule_title(image, rule, title));
	insert(image, rules, 0, other, "", why);
}

void explain_client(const struct policy_image *image, json_t *rules, const uint8_t client[16])
{
	const struct image_rule *rule = policy_client_rule(image, client);

	if (!rule)
		return;
	if (policy_exempts(rule, 0))
		insert(image, rules, 0, rule, "", "the client's prefix: level none takes it out of all others");
	else
		insert(image, rules, 1, rule, "beside", "the client's prefix: a minimum beside the winner; the stricter answer applies");
}

json_t *explain_inbound(const struct policy_image *image, const char *domain, const uint8_t *addr)
{
	struct candidates c = {.image = image, .array = json_array()};
	const struct image_rule *own = domain ? policy_inbound_domain_rule(image, domain) : NULL;

	if (own)
		add(&c, own, "the recipient's domain, of sessions from outside");
	if (addr)
		add(&c, policy_inbound_rule(image, addr), c.count ? "the server's: the recipient's domain goes first" : "the server's prefix, or inbound:*");
	add(&c, policy_rule(image, policy_image_header(image)->inbound_rule), "for all sessions from outside that have no other");
	return c.array;
}

static const char *role_of(const json_t *rule)
{
	const char *role = link_text(rule, "role");

	return *role ? role : link_true(rule, "wins") ? "wins" : "loses";
}

void explain_print(const json_t *rules, FILE *out)
{
	static const char *const headings[] = {"", "RULE", "LEVEL", "MODE", "WHY", "ATTRIBUTES", NULL};
	struct table *table = table_new(headings);
	const json_t *rule;
	size_t i;

	json_array_foreach(rules, i, rule)
	{
		table_text(table, role_of(rule));
		table_text(table, link_text(rule, "rule"));
		table_text(table, link_text(rule, "level"));
		table_text(table, link_text(rule, "mode"));
		table_text(table, link_text(rule, "why"));
		table_text(table, link_text(rule, "attributes"));
	}
	table_print(table, out);
	table_free(table);
}
