/*
 * compile.h - an image under construction: what compile.c, strings.c, names.c and prefixes.c share.
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
/* 0, or -EINVAL: one name in two providers, or more than the image can hold. */
int domain_table_build(struct domain_table *t, const struct strings *strings, const struct image_rule *rules, struct why *why);

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

#endif
