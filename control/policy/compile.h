/*
 * compile.h - an image under construction: what compile.c, strings.c, domaintable.c and prefixes.c share.
 *
 * Each part owns one section and is filled on its own; compile.c alone knows where they come to lie.
 */
#ifndef WAXSEAL_CONTROL_POLICY_COMPILE_H
#define WAXSEAL_CONTROL_POLICY_COMPILE_H

#include "private.h"

/* ---- strings.c ---- */
struct strings {
	char *bytes;
	size_t len, room;
	uint32_t *slots; /* offsets; 0: free */
	size_t mask, count;
	bool full; /* a string did not fit in IMAGE_STRINGS_MAX; its offset was given as 0 */
};
void strings_init(struct strings *s);
void strings_dispose(struct strings *s);
uint32_t strings_put(struct strings *s, const char *text); /* NULL is "" */

/* ---- domains of the image: domaintable.c ---- */
struct domain_entry {
	uint32_t name, rule;
	bool own; /* a rule of its own; it goes before a provider's list */
};
struct domain_table {
	struct domain_entry *entries;
	size_t count;
	struct image_domain *slots; /* after domain_table_build */
	uint32_t slot_count;
};
void domain_table_dispose(struct domain_table *t);
void domain_table_add(struct domain_table *t, struct domain_entry entry);
/* 0, or -EINVAL: one name in two providers, or more than the image can hold. May be called again after more was added. */
int domain_table_build(struct domain_table *t, const struct strings *strings, const struct image_rule *rules, struct why *why);
/* The rule of that very name in a table that has been built; IMAGE_NONE. */
uint32_t domain_table_find(const struct domain_table *t, const struct strings *strings, const char *name);

/* ---- prefixes.c ---- */
struct prefix_entry {
	struct net net;
	uint32_t target; /* index of a destination, or of a rule */
};
struct prefix_table {
	struct prefix_entry *entries;
	size_t count, room;
	size_t count4, count6; /* after prefix_table_build: sorted, IPv4 first, each once */
};
void prefix_table_dispose(struct prefix_table *t);
void prefix_table_add(struct prefix_table *t, const struct net *net, uint32_t target);
/* `provider_names[target]` for the message; NULL where no network can stand under two keys. */
int prefix_table_build(struct prefix_table *t, const char *const *provider_names, struct why *why);
void prefix_table_write4(const struct prefix_table *t, struct image_prefix4 *out);
void prefix_table_write6(const struct prefix_table *t, struct image_prefix6 *out);

/* ---- discovered.c ---- */
struct place {
	struct net net;  /* one address */
	uint32_t rule;   /* whose destination it joins: index in the ruleset; IMAGE_NONE: that of "*" */
	const char *mx;  /* the server's name; "" */
};
struct net discovered_net(const uint8_t addr[16]);
/* Ascending by address; the caller frees. `discovered->ties` and `tie` are filled in. */
struct place *discovered_places(struct discovered *discovered, const struct ruleset *set, uint64_t now, size_t *count);


/* ---- servers.c ---- */
struct servers {
	struct image_server *servers;
	struct image_host *hosts;
	struct image_tlsa *tlsa;
	uint8_t *octets;
	struct image_probed *probed;
	uint32_t *probed_names;
	struct image_seen *seen;
	size_t server_count, host_count, tlsa_count, octet_count, probed_count, probed_name_count, seen_count;
	size_t tlsa_room, octet_room, probed_name_room;
};
/* One finding that no image can hold. */
void discovered_refuse(struct discovered *discovered, const char *what, const char *name, const char *why);
/* The claims whose names an image can hold; the caller frees. */
struct discovered_claim *discovered_claims_valid(struct discovered *discovered, size_t *count);
void servers_build(struct servers *s, struct strings *strings, struct discovered *discovered, uint64_t now);
void servers_dispose(struct servers *s);
/* The domains (offsets of their names) that have a server whose TLSA records, or their failure, bind a session. */
uint32_t *servers_bound(const struct servers *s, size_t *count);
bool servers_binds(const uint32_t *bound, size_t count, uint32_t domain);

/* ---- compile.c and found.c ---- */
struct compiler {
	const struct ruleset *set;
	uint64_t now;
	struct strings strings;
	struct image_rule *rules;
	uint32_t rule_count;
	uint32_t *matches;
	uint32_t match_count;
	struct image_fingerprint *fingerprints;
	uint32_t fingerprint_count;
	struct domain_table domains, inbound_domains;
	struct image_destination *destinations;
	const char **provider_names; /* by destination */
	uint32_t destination_count;
	struct prefix_table prefixes, clients, inbound;
	struct discovered *discovered; /* NULL: none */
	struct place *places;
	size_t place_count;
	struct servers servers;
	struct image_sts *sts;
	size_t sts_count;
	uint32_t *rule_at, *destination_at; /* by index in `set`: of a domain or provider that is in force; IMAGE_NONE */
	uint32_t default_rule, inbound_rule;
	struct why why;
};
bool compile_expired(const struct compiler *c, const struct rule *rule);
void compile_add_match(struct compiler *c, struct image_rule *out, const char *pattern);
uint32_t compile_add_rule(struct compiler *c, const struct rule *rule);

/* found.c: room that the rules of what is discovered will need, and the rules. 0, or -EINVAL with c->why. */
size_t found_rules_max(const struct ruleset *set);
size_t found_matches_max(const struct discovered *discovered);
int found_add(struct compiler *c);

#endif
