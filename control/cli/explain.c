/*
 * explain.c - waxseal explain: the rules of the image that could hold, in the order in which they are asked.
 *
 * The order is policy.md's: the recipient's domain, its parents with the nearest first, the destination by
 * its longest prefix, "*". Read from the image that waxseald reads, so that it tells what is in force and not
 * what somebody has just written into Redis.
 */
#include "explain.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../policy/rules.h"
#include "cli.h"
#include "known.h"
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

static const char *protocol_floor(uint16_t version)
{
	static const char *const names[] = {">=TLSv1", ">=TLSv1.1", ">=TLSv1.2", ">=TLSv1.3"};

	return version >= 0x0301 && version <= 0x0304 ? names[version - 0x0301] : "";
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
	put(out, "protocols", protocol_floor(rule->protocol_min));
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
	json_t *object = json_object();
	link_json_set(object, "rule", policy_string(c->image, rule->name));
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

void explain_print(const json_t *rules, FILE *out)
{
	static const char *const headings[] = {"", "RULE", "LEVEL", "MODE", "WHY", "ATTRIBUTES", NULL};
	struct table *table = table_new(headings);
	const json_t *rule;
	size_t i;

	json_array_foreach(rules, i, rule)
	{
		table_text(table, link_true(rule, "wins") ? "wins" : "loses");
		table_text(table, link_text(rule, "rule"));
		table_text(table, link_text(rule, "level"));
		table_text(table, link_text(rule, "mode"));
		table_text(table, link_text(rule, "why"));
		table_text(table, link_text(rule, "attributes"));
	}
	table_print(table, out);
	table_free(table);
}

/* ---- the command ---- */

static bool read_address(const char *text, uint8_t addr[16])
{
	uint8_t read[16] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, text, read + 12) != 1 && inet_pton(AF_INET6, text, read) != 1)
		return false;
	memcpy(addr, read, sizeof(read));
	return true;
}

/* "user@Example.ORG." -> "example.org", by the parser of rules' keys. */
static int read_domain(const char *text, char domain[IMAGE_DOMAIN_MAX + 1], char *error, size_t error_len)
{
	struct rule_field level = {.name = "level", .value = "may"};
	const char *at = strrchr(text, '@');
	struct rule *rule = rule_parse(at ? at + 1 : text, &level, 1, error, error_len);

	if (rule && (strpbrk(rule_key(rule), "*:") || rule_key(rule)[0] == '.')) {
		snprintf(error, error_len, "%.100s: a rule's key; a recipient, its domain, or a server's address would be right", text);
		rule_free(rule);
		return -1;
	}
	if (rule)
		snprintf(domain, IMAGE_DOMAIN_MAX + 1, "%s", rule_key(rule));
	rule_free(rule);
	return rule ? 0 : -1;
}

static void tell_server(const struct policy_image *image, const uint8_t addr[16])
{
	const struct image_destination *d = policy_destination(image, policy_destination_of(image, addr));

	printf("\nThe server's name, for SNI and for match=hostname: %s\n",
	       d->servername ? policy_string(image, d->servername) : "not known; no MX that the agent looks after has this address");
}

static void tell(const struct policy_image *image, const json_t *rules, const char *domain, const uint8_t *addr, const json_t *known)
{
	bool address = addr != NULL;

	explain_print(rules, stdout);
	if (!address)
		printf("\nThe rule of the server's destination goes before *; give its address, too, to see it.\n");
	else if (!domain && policy_image_header(image)->enforced_domain_rules)
		printf("\nA recipient's domain with a rule of its own goes first; give it, too, to see it.\n");
	if (domain)
		printf("%sBefore the RCPT is seen, only the destination's rule and * are asked.\n", address ? "\n" : "");
	if (address)
		tell_server(image, addr);
	if (domain)
		known_print(known, domain, (uint64_t)time(NULL), stdout);
}

int explain_run(struct cli *cli)
{
	char domain[IMAGE_DOMAIN_MAX + 1] = "", error[CLI_ERROR_MAX];
	bool address = false;
	uint8_t addr[16];

	if (cli->argc < 1 || cli->argc > 2)
		return cli_usage(cli, "a recipient, a domain or an address is wanted");
	for (int i = 0; i < cli->argc; i++) {
		if (cli->argv[i][0] == '-')
			return cli_usage(cli, "%s: not expected", cli->argv[i]);
		bool is_address = read_address(cli->argv[i], addr);
		if (is_address && address) {
			return cli_usage(cli, "%s: a second address", cli->argv[i]);
		} else if (is_address) {
			address = true;
		} else if (*domain) {
			return cli_usage(cli, "%s: a second domain", cli->argv[i]);
		} else if (read_domain(cli->argv[i], domain, error, sizeof(error)) != 0) {
			return cli_fail("%s", error);
		}
	}
	struct policy_image *image = policy_image_open(cli->config.image, error, sizeof(error));
	if (!image)
		return cli_fail("%s; waxseal-agent or waxseal policy compile makes it", error);
	json_t *rules = explain_rules(image, *domain ? domain : NULL, address ? addr : NULL);
	json_t *known = *domain ? known_domain(cli, domain) : NULL;
	if (cli->json) {
		json_t *object = json_object();
		if (known)
			json_object_set(object, "discovered", known);
		if (address)
			link_json_set(object, "server", policy_string(image, policy_destination(image, policy_destination_of(image, addr))->servername));
		link_json_set(object, "image", cli->config.image);
		json_object_set_new(object, "generation", json_integer((json_int_t)policy_image_header(image)->generation));
		json_object_set(object, "rules", rules);
		link_print_json(object);
	} else {
		tell(image, rules, *domain ? domain : NULL, address ? addr : NULL, known);
	}
	json_decref(known);
	json_decref(rules);
	policy_image_close(image);
	return CLI_OK;
}
