/*
 * compile.c - a set of rules to a policy image.
 *
 * Enters: rules that have been parsed, the generation, the time. Leaves: the bytes of an image that the
 * dataplane's own check has accepted. Same rules, generation and time give the same bytes.
 * Without a rule "*" the default is may in mode observe, and likewise for inbound:*: what nobody asked for
 * changes nothing. Rules that have expired are left out. Refuses, naming the keys: rules that contradict each
 * other, and rules that this version cannot put into force.
 */
#include "compile.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define SECTION_ALIGN 64 /* more than the reader asks for: elements of 16 and 32 bytes then lie in one cache line each */

bool compile_expired(const struct compiler *c, const struct rule *rule)
{
	return rule->values.expires && rule->values.expires <= c->now;
}

void compile_add_match(struct compiler *c, struct image_rule *out, const char *pattern)
{
	c->matches[c->match_count++] = strings_put(&c->strings, pattern);
	out->match_count++;
}

/* Postfix's own defaults (smtp_tls_verify_cert_match, smtp_tls_secure_cert_match). */
static void add_matches(struct compiler *c, const struct rule *rule, struct image_rule *out)
{
	out->match_first = c->match_count;
	for (size_t i = 0; i < rule->match.count; i++)
		compile_add_match(c, out, rule->match.items[i]);
	if (rule->match.count)
		return;
	if (rule->values.level == LEVEL_VERIFY) {
		compile_add_match(c, out, "hostname");
	} else if (rule->values.level == LEVEL_SECURE) {
		compile_add_match(c, out, "nexthop");
		compile_add_match(c, out, "dot-nexthop");
	}
}

/* Pins that have ended stand there too: they match nothing, and the rule holds on. */
static void add_fingerprints(struct compiler *c, const struct rule *rule, struct image_rule *out)
{
	out->fingerprint_first = c->fingerprint_count;
	out->fingerprint_count = (uint32_t)rule->fingerprints.count;
	for (size_t i = 0; i < rule->fingerprints.count; i++)
		c->fingerprints[c->fingerprint_count++] = fingerprint_read(rule->fingerprints.items[i]);
}

/* "hostname" is what the default is, too: the server's own name. */
static const char *servername_of(const struct rule *rule)
{
	return rule->servername && strcmp(rule->servername, "hostname") != 0 ? rule->servername : "";
}

/* What a dane rule is where the DNS has no records: may, right behind it. */
static void add_may(struct compiler *c, const struct rule *rule, struct image_rule *dane)
{
	struct image_rule *may = dane + 1;

	*may = *dane;
	may->level = LEVEL_MAY;
	if (!attribute_given(rule, "protocols"))
		may->protocol_min = 0;
	if (!attribute_given(rule, "overload"))
		may->overload = PASS_PASS;
	dane->otherwise = c->rule_count++;
}

uint32_t compile_add_rule(struct compiler *c, const struct rule *rule)
{
	struct image_rule *out = &c->rules[c->rule_count];

	*out = rule->values;
	out->otherwise = IMAGE_NONE;
	out->name = strings_put(&c->strings, rule->name);
	out->servername = strings_put(&c->strings, servername_of(rule));
	out->ciphers = rule->ciphers ? strings_put(&c->strings, ciphers_openssl(rule->ciphers)) : 0;
	out->exclude = strings_put(&c->strings, rule->exclude);
	out->owner = strings_put(&c->strings, rule->owner);
	out->reason = strings_put(&c->strings, rule->reason);
	add_matches(c, rule, out);
	add_fingerprints(c, rule, out);
	c->rule_count++;
	if (out->level == LEVEL_DANE && out->kind != POLICY_INBOUND)
		add_may(c, rule, out);
	return (uint32_t)(out - c->rules);
}

static uint32_t add_builtin(struct compiler *c, const char *name, enum policy_kind kind)
{
	c->rules[c->rule_count] = (struct image_rule){
		.name = strings_put(&c->strings, name),
		.kind = (uint8_t)kind,
		.level = LEVEL_MAY,
		.mode = MODE_OBSERVE,
		.percent = 100,
		.match_first = c->match_count,
		.fingerprint_first = c->fingerprint_count,
		.otherwise = IMAGE_NONE,
	};
	return c->rule_count++;
}

static uint32_t add_destination(struct compiler *c, const char *name, uint32_t rule, const char *pool, const char *servername)
{
	c->destinations[c->destination_count] = (struct image_destination){
		.name = strings_put(&c->strings, name),
		.rule = rule,
		.pool = strings_put(&c->strings, pool),
		.servername = strings_put(&c->strings, servername),
	};
	c->provider_names[c->destination_count] = name;
	return c->destination_count++;
}

/* "*" and "inbound:*": rules 0 and 1, and destination 0. */
static void add_defaults(struct compiler *c)
{
	const struct rule *star = ruleset_find(c->set, "*"), *inbound = ruleset_find(c->set, "inbound:*");

	if (star && compile_expired(c, star))
		star = NULL;
	if (inbound && compile_expired(c, inbound))
		inbound = NULL;
	c->default_rule = star ? compile_add_rule(c, star) : add_builtin(c, "*", POLICY_DEFAULT);
	c->inbound_rule = inbound ? compile_add_rule(c, inbound) : add_builtin(c, "inbound:*", POLICY_INBOUND);
	add_destination(c, "*", c->default_rule, star ? star->pool : "", star ? servername_of(star) : "");
}

static int add_provider(struct compiler *c, const struct rule *rule, size_t at)
{
	/* Without a level it is there for its pool and its counters: the rule stays that of "*". */
	uint32_t index = attribute_given(rule, "level") ? compile_add_rule(c, rule) : c->default_rule;
	uint32_t destination;

	if (c->destination_count == IMAGE_DESTINATIONS_MAX)
		return why_set(&c->why, "%s: more than %u providers", rule->key, IMAGE_DESTINATIONS_MAX - 1);
	destination = add_destination(c, rule->name, index, rule->pool, servername_of(rule));
	c->rule_at[at] = index;
	c->destination_at[at] = destination;
	for (size_t i = 0; i < rule->nets.count; i++)
		prefix_table_add(&c->prefixes, &rule->nets.items[i], destination);
	for (size_t i = 0; i < rule->domains.count && attribute_given(rule, "level"); i++)
		domain_table_add(&c->domains,
				 (struct domain_entry){strings_put(&c->strings, rule->domains.items[i]), index, false});
	return 0;
}

static int add_net(struct compiler *c, struct prefix_table *table, const struct rule *rule)
{
	struct net net;

	if (net_parse(key_subject(rule->key), &net, &c->why) != 0)
		return -EINVAL;
	prefix_table_add(table, &net, compile_add_rule(c, rule));
	return 0;
}

static int add_inbound(struct compiler *c, const struct rule *rule)
{
	const char *subject = key_subject(rule->key);

	if (strcmp(subject, "*") == 0) /* add_defaults has taken it */
		return 0;
	if (key_subject_is_net(subject))
		return add_net(c, &c->inbound, rule);
	domain_table_add(&c->inbound_domains, (struct domain_entry){strings_put(&c->strings, subject), compile_add_rule(c, rule), true});
	return 0;
}

static int add_one(struct compiler *c, size_t at)
{
	const struct rule *rule = ruleset_at(c->set, at);
	const char *unsupported;

	if (compile_expired(c, rule))
		return 0;
	unsupported = rule_unsupported(rule);
	if (unsupported)
		return why_set(&c->why, "%.100s: %s", rule->key, unsupported);
	switch (rule->kind) {
	case POLICY_DOMAIN:
	case POLICY_PARENT:
		if (!attribute_given(rule, "level")) /* found.c */
			return 0;
		c->rule_at[at] = compile_add_rule(c, rule);
		domain_table_add(&c->domains, (struct domain_entry){strings_put(&c->strings, rule->name), c->rule_at[at], true});
		return 0;
	case POLICY_PROVIDER:
		return add_provider(c, rule, at);
	case POLICY_CLIENT:
		return add_net(c, &c->clients, rule);
	case POLICY_INBOUND:
		return add_inbound(c, rule);
	case POLICY_DEFAULT:
		break; /* add_defaults has taken it */
	}
	return 0;
}

/* ---- what the DNS says; discovered.c has decided whose it is ---- */

static int by_destination(const void *a, const void *b)
{
	const struct place *x = *(const struct place *const *)a, *y = *(const struct place *const *)b;

	if (x->rule != y->rule)
		return x->rule < y->rule ? -1 : 1;
	return strcmp(x->mx, y->mx);
}

/* A destination for each rule and server name; those of one provider share its name, and so its counters. */
static uint32_t place_destination(struct compiler *c, const struct place *place)
{
	const struct rule *rule = place->rule == IMAGE_NONE ? NULL : ruleset_at(c->set, place->rule);
	const struct rule *star = ruleset_find(c->set, "*");
	bool provider = rule && rule->kind == POLICY_PROVIDER;

	/* What the operator says is the server's name goes before what the DNS says. */
	if (provider && (!*place->mx || *servername_of(rule)))
		return c->destination_at[place->rule];
	if (c->destination_count == IMAGE_DESTINATIONS_MAX)
		return IMAGE_NONE;
	if (provider)
		return add_destination(c, rule->name, c->rule_at[place->rule], rule->pool, place->mx);
	if (!rule)
		return add_destination(c, place->mx, c->default_rule, star && !compile_expired(c, star) ? star->pool : "", place->mx);
	return add_destination(c, rule->name, c->rule_at[place->rule], rule->pool, *servername_of(rule) ? servername_of(rule) : place->mx);
}

static void add_places(struct compiler *c)
{
	const struct place **order = must(calloc(c->place_count + 1, sizeof(*order)));
	uint32_t destination = IMAGE_NONE;

	for (size_t i = 0; i < c->place_count; i++)
		order[i] = &c->places[i];
	qsort(order, c->place_count, sizeof(*order), by_destination);
	for (size_t i = 0; i < c->place_count; i++) {
		if (i == 0 || by_destination(&order[i - 1], &order[i]) != 0)
			destination = place_destination(c, order[i]);
		if (destination == IMAGE_NONE || c->prefixes.count >= IMAGE_PREFIXES_MAX) {
			c->discovered->left_out++;
			continue;
		}
		prefix_table_add(&c->prefixes, &order[i]->net, destination);
		c->discovered->prefixes++;
	}
	free(order);
}

static int add_all(struct compiler *c)
{
	size_t count = ruleset_count(c->set), matches = 0, fingerprints = 0;

	if (count > IMAGE_RULES_MAX - 2)
		return why_set(&c->why, "%zu rules; %u is the most", count, IMAGE_RULES_MAX - 2);
	/* The most that can be needed: two built-in rules, two patterns of default for each rule. */
	for (size_t i = 0; i < count; i++) {
		matches += ruleset_at(c->set, i)->match.count + 2;
		fingerprints += ruleset_at(c->set, i)->fingerprints.count;
	}
	if (fingerprints > IMAGE_FINGERPRINTS_MAX)
		return why_set(&c->why, "%zu fingerprints; %u is the most", fingerprints, IMAGE_FINGERPRINTS_MAX);
	matches += found_matches_max(c->discovered);
	/* dane has may behind it, in each case. */
	c->rules = must(calloc(2 * count + 4 + found_rules_max(c->set), sizeof(*c->rules)));
	c->matches = must(calloc(matches + 1, sizeof(*c->matches)));
	c->fingerprints = must(calloc(fingerprints + 1, sizeof(*c->fingerprints)));
	c->destinations = must(calloc(count + c->place_count + 1, sizeof(*c->destinations)));
	c->provider_names = must(calloc(count + c->place_count + 1, sizeof(*c->provider_names)));
	c->rule_at = must(calloc(count + 1, sizeof(*c->rule_at)));
	c->destination_at = must(calloc(count + 1, sizeof(*c->destination_at)));
	add_defaults(c);
	for (size_t i = 0; i < count; i++) {
		int err = add_one(c, i);

		if (err)
			return err;
	}
	add_places(c);
	if (found_add(c) != 0)
		return -EINVAL;
	if (c->rule_count > IMAGE_RULES_MAX)
		return why_set(&c->why, "%u rules with those that dane and MTA-STS bring; %u is the most", c->rule_count, IMAGE_RULES_MAX);
	if (c->strings.full)
		return why_set(&c->why, "more than %u bytes of names and texts", IMAGE_STRINGS_MAX);
	return 0;
}

/* ---- layout ---- */

static uint32_t count_enforced(const struct compiler *c, const struct domain_table *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->slot_count; i++)
		n += t->slots[i].name != IMAGE_NONE && policy_rule_demands(&c->rules[t->slots[i].rule]);
	return n;
}

static struct image_section place(uint64_t *end, uint32_t count, size_t stride)
{
	struct image_section s = {*end, count, (uint32_t)stride};

	*end = (*end + (uint64_t)count * stride + SECTION_ALIGN - 1) & ~(uint64_t)(SECTION_ALIGN - 1);
	return s;
}

static void put_section(uint8_t *image, const struct image_section *s, const void *from)
{
	if (s->count)
		memcpy(image + s->offset, from, (size_t)s->count * s->stride);
}

static void put_prefixes(uint8_t *image, const struct image_section *four, const struct image_section *six,
			 const struct prefix_table *table)
{
	prefix_table_write4(table, (void *)(image + four->offset));
	prefix_table_write6(table, (void *)(image + six->offset));
}

static uint8_t *assemble(const struct compiler *c, uint64_t generation, size_t *len)
{
	struct image_header h = {
		.magic = IMAGE_MAGIC,
		.version = IMAGE_VERSION,
		.header_bytes = sizeof(h),
		.generation = generation,
		.compiled_at = c->now,
		.default_rule = c->default_rule,
		.inbound_rule = c->inbound_rule,
		.enforced_domain_rules = count_enforced(c, &c->domains),
		.enforced_inbound_rules = count_enforced(c, &c->inbound_domains),
	};
	uint64_t end = sizeof(h);
	uint8_t *image;

	h.rules = place(&end, c->rule_count, sizeof(struct image_rule));
	h.matches = place(&end, c->match_count, sizeof(uint32_t));
	h.domains = place(&end, c->domains.slot_count, sizeof(struct image_domain));
	h.destinations = place(&end, c->destination_count, sizeof(struct image_destination));
	h.prefix4 = place(&end, (uint32_t)c->prefixes.count4, sizeof(struct image_prefix4));
	h.prefix6 = place(&end, (uint32_t)c->prefixes.count6, sizeof(struct image_prefix6));
	h.fingerprints = place(&end, c->fingerprint_count, sizeof(struct image_fingerprint));
	h.client4 = place(&end, (uint32_t)c->clients.count4, sizeof(struct image_prefix4));
	h.client6 = place(&end, (uint32_t)c->clients.count6, sizeof(struct image_prefix6));
	h.inbound4 = place(&end, (uint32_t)c->inbound.count4, sizeof(struct image_prefix4));
	h.inbound6 = place(&end, (uint32_t)c->inbound.count6, sizeof(struct image_prefix6));
	h.inbound_domains = place(&end, c->inbound_domains.slot_count, sizeof(struct image_domain));
	h.servers = place(&end, (uint32_t)c->servers.server_count, sizeof(struct image_server));
	h.hosts = place(&end, (uint32_t)c->servers.host_count, sizeof(struct image_host));
	h.tlsa = place(&end, (uint32_t)c->servers.tlsa_count, sizeof(struct image_tlsa));
	h.octets = place(&end, (uint32_t)c->servers.octet_count, 1);
	h.sts = place(&end, (uint32_t)c->sts_count, sizeof(struct image_sts));
	h.probed = place(&end, (uint32_t)c->servers.probed_count, sizeof(struct image_probed));
	h.probed_names = place(&end, (uint32_t)c->servers.probed_name_count, sizeof(uint32_t));
	h.seen = place(&end, (uint32_t)c->servers.seen_count, sizeof(struct image_seen));
	h.strings = place(&end, (uint32_t)c->strings.len, 1);
	h.total_bytes = end;
	image = must(calloc(1, end));
	put_section(image, &h.rules, c->rules);
	put_section(image, &h.matches, c->matches);
	put_section(image, &h.domains, c->domains.slots);
	put_section(image, &h.destinations, c->destinations);
	put_section(image, &h.fingerprints, c->fingerprints);
	put_section(image, &h.inbound_domains, c->inbound_domains.slots);
	put_section(image, &h.strings, c->strings.bytes);
	put_section(image, &h.servers, c->servers.servers);
	put_section(image, &h.hosts, c->servers.hosts);
	put_section(image, &h.tlsa, c->servers.tlsa);
	put_section(image, &h.octets, c->servers.octets);
	put_section(image, &h.sts, c->sts);
	put_section(image, &h.probed, c->servers.probed);
	put_section(image, &h.probed_names, c->servers.probed_names);
	put_section(image, &h.seen, c->servers.seen);
	put_prefixes(image, &h.prefix4, &h.prefix6, &c->prefixes);
	put_prefixes(image, &h.client4, &h.client6, &c->clients);
	put_prefixes(image, &h.inbound4, &h.inbound6, &c->inbound);
	memcpy(image, &h, sizeof(h));
	h.checksum = policy_image_checksum(image, end);
	memcpy(image, &h, sizeof(h));
	*len = end;
	return image;
}

/* The reader's verdict now, where a person sees it, rather than later on the appliance. */
static int check_own(struct compiler *c, const uint8_t *image, size_t len)
{
	char error[WHY_MAX / 2] = "";
	struct policy_image *read = policy_image_parse(image, len, error, sizeof(error));

	if (!read)
		return why_set(&c->why, "the compiled image does not pass the dataplane's check: %s", error);
	policy_image_close(read);
	return 0;
}

static void dispose(struct compiler *c)
{
	strings_dispose(&c->strings);
	domain_table_dispose(&c->domains);
	domain_table_dispose(&c->inbound_domains);
	prefix_table_dispose(&c->prefixes);
	prefix_table_dispose(&c->clients);
	prefix_table_dispose(&c->inbound);
	free(c->rules);
	free(c->matches);
	free(c->fingerprints);
	free(c->destinations);
	free(c->provider_names);
	free(c->places);
	free(c->sts);
	servers_dispose(&c->servers);
	free(c->rule_at);
	free(c->destination_at);
}

void *ruleset_compile(const struct ruleset *set, uint64_t generation, uint64_t now, size_t *len, char *error, size_t error_len)
{
	return ruleset_compile_discovered(set, NULL, generation, now, len, error, error_len);
}

void *ruleset_compile_discovered(const struct ruleset *set, struct discovered *discovered, uint64_t generation, uint64_t now,
				 size_t *len, char *error, size_t error_len)
{
	struct compiler c = {.set = set, .now = now, .discovered = discovered};
	struct discovered_claim *valid = NULL;
	const struct discovered_claim *claims = discovered ? discovered->claims : NULL;
	size_t claim_count = discovered ? discovered->count : 0;
	uint8_t *image = NULL;
	int err;

	strings_init(&c.strings);
	if (discovered) {
		discovered->prefixes = discovered->ties = discovered->left_out = discovered->refused = 0;
		discovered->tie[0] = discovered->refusal[0] = 0;
		size_t valid_count;

		valid = discovered_claims_valid(discovered, &valid_count);
		discovered->claims = valid;
		discovered->count = valid_count;
		c.places = discovered_places(discovered, set, now, &c.place_count);
		servers_build(&c.servers, &c.strings, discovered, now);
	}
	err = add_all(&c);
	if (!err)
		err = domain_table_build(&c.domains, &c.strings, c.rules, &c.why);
	if (!err)
		err = domain_table_build(&c.inbound_domains, &c.strings, c.rules, &c.why);
	if (!err)
		err = prefix_table_build(&c.prefixes, c.provider_names, &c.why);
	if (!err)
		err = prefix_table_build(&c.clients, NULL, &c.why);
	if (!err)
		err = prefix_table_build(&c.inbound, NULL, &c.why);
	if (!err) {
		image = assemble(&c, generation, len);
		err = check_own(&c, image, *len);
	}
	dispose(&c);
	if (discovered) {
		discovered->claims = claims;
		discovered->count = claim_count;
	}
	free(valid);
	if (!err)
		return image;
	free(image);
	snprintf(error, error_len, "%s", c.why.text);
	return NULL;
}
