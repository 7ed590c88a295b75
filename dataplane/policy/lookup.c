/*
 * lookup.c - which destination or rule has this address, which rule has this domain.
 *
 * Enters: a checked image, an address or a recipient's domain. Leaves: an index or a rule of the image.
 * Addresses: down the tree (index.c) to the last prefix not above the address; it, or an ancestor (at most one a bit of length).
 * Domains: one probe for the name and one for each parent, nearest first; strings are read only where the tags agree.
 * Invariant: the image has been checked whole; nothing here can leave it. Refuses: domains longer than
 * RFC 1035 allows, which have no rule.
 */
#include "private.h"

#include <string.h>
#include <xxhash.h>

const char *policy_string(const struct policy_image *image, uint32_t offset)
{
	return offset < image->header->strings.count ? image->strings + offset : "";
}

const struct image_rule *policy_rule(const struct policy_image *image, uint32_t index)
{
	return index < image->header->rules.count ? &image->rules[index] : NULL;
}

const struct image_destination *policy_destination(const struct policy_image *image, uint32_t index)
{
	return index < image->header->destinations.count ? &image->destinations[index] : NULL;
}

/* ---- addresses ---- */

#define CACHE_LINE 64

/* Its lines come together, and what reads them waits once. */
static void fetch(const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += CACHE_LINE)
		__builtin_prefetch((const uint8_t *)from + i);
}

/* Between `low` and `high` there are more than a few prefixes: from how many levels up can they be told apart? */
static unsigned levels_between(uint32_t low, uint32_t high)
{
	unsigned levels = 0;

	while (high > low && ((high - 1) >> levels * INDEX_FANOUT_BITS) - (low >> levels * INDEX_FANOUT_BITS) > INDEX_FANOUT)
		levels++;
	return levels;
}

/* The last prefix whose address is not above `key`; IMAGE_NONE. Nothing here branches on what a key is: a wrong guess costs
 * more than to count those that are passed. */
static inline __attribute__((always_inline)) uint32_t last(const struct index_tree *tree, bool ipv6, index_key key)
{
	const size_t bytes = ipv6 ? sizeof(struct image_prefix6) : sizeof(struct image_prefix4);
	uint32_t slot = index_tree_slot(tree, key), low = tree->first[slot], high = tree->first[slot + 1], not_above = 0;

	for (unsigned l = levels_between(low, high); l > 0; l--) {
		unsigned bits = l * INDEX_FANOUT_BITS;
		uint32_t at = low >> bits, end = (high - 1) >> bits, passed = 0;

		for (uint32_t i = at + 1; i <= end; i++)
			passed += index_level_key(tree, ipv6, l - 1, i) <= key;
		low = (at + passed) << bits;
		high = at + passed < end ? (at + passed + 1) << bits : high;
	}
	fetch((const uint8_t *)tree->all + low * bytes, (high - low) * bytes);
	for (uint32_t i = low; i < high; i++)
		not_above += index_prefix_key(tree, ipv6, i) <= key;
	return low + not_above - 1;
}

/* The target of the longest prefix that holds the address, or IMAGE_NONE. */
static uint32_t find(const struct index_tree *tree4, const struct index_tree *tree6, const uint8_t addr[16])
{
	if (policy_addr_is_ipv4(addr)) {
		const struct image_prefix4 *all = tree4->all;
		uint32_t addr4 = (uint32_t)addr[12] << 24 | (uint32_t)addr[13] << 16 | (uint32_t)addr[14] << 8 | addr[15];

		if (!tree4->count)
			return IMAGE_NONE;
		for (uint32_t at = last(tree4, false, addr4); at != IMAGE_NONE; at = all[at].parent)
			if (prefix4_holds(&all[at], addr4))
				return all[at].target;
		return IMAGE_NONE;
	}
	const struct image_prefix6 *all = tree6->all;

	if (!tree6->count)
		return IMAGE_NONE;
	for (uint32_t at = last(tree6, true, index_key6(addr)); at != IMAGE_NONE; at = all[at].parent)
		if (prefix6_holds(&all[at], addr))
			return all[at].target;
	return IMAGE_NONE;
}

uint32_t policy_destination_of(const struct policy_image *image, const uint8_t addr[16])
{
	uint32_t found = find(&image->index.prefix4, &image->index.prefix6, addr);

	return found == IMAGE_NONE ? 0 : found;
}

const struct image_rule *policy_client_rule(const struct policy_image *image, const uint8_t client_addr[16])
{
	uint32_t found = find(&image->index.client4, &image->index.client6, client_addr);

	return found == IMAGE_NONE ? NULL : &image->rules[found];
}

const struct image_rule *policy_inbound_rule(const struct policy_image *image, const uint8_t server_addr[16])
{
	uint32_t found = find(&image->index.inbound4, &image->index.inbound6, server_addr);

	return &image->rules[found == IMAGE_NONE ? image->header->inbound_rule : found];
}

size_t policy_prefixes(const struct policy_image *image)
{
	return (size_t)image->header->prefix4.count + image->header->prefix6.count;
}

struct policy_prefix policy_prefix(const struct policy_image *image, size_t index)
{
	struct policy_prefix out = {.pool = ""};
	size_t count4 = image->header->prefix4.count;

	if (index >= policy_prefixes(image))
		return out;
	if (index < count4) {
		const struct image_prefix4 *p = &image->prefix4[index];

		for (int i = 0; i < 4; i++)
			out.addr[i] = (uint8_t)(p->addr >> (24 - 8 * i));
		out.len = p->len;
		out.destination = p->target;
	} else {
		const struct image_prefix6 *p = &image->prefix6[index - count4];

		memcpy(out.addr, p->addr, sizeof(out.addr));
		out.len = p->len;
		out.ipv6 = true;
		out.destination = p->target;
	}
	out.pool = policy_string(image, image->destinations[out.destination].pool);
	return out;
}

/* ---- domains ---- */

uint64_t policy_domain_hash(const char *name, size_t len)
{
	return XXH3_64bits(name, len);
}

static const struct image_rule *probe(const struct policy_image *image, const struct index_domains *table, const char *name, size_t len)
{
	uint64_t hash = policy_domain_hash(name, len);
	uint32_t slot = (uint32_t)hash & table->mask;
	uint8_t tag = index_domain_tag(hash);

	__builtin_prefetch(&table->slots[slot]);
	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & table->mask) {
		const struct image_domain *d = &table->slots[slot];

		if (!table->tags[slot])
			return NULL;
		if (table->tags[slot] != tag) /* a string is read only where it may be the one */
			continue;
		fetch(&image->rules[d->rule], sizeof(image->rules[0])); /* it comes with the string */
		if (strncmp(image->strings + d->name, name, len) == 0 && image->strings[d->name + len] == '\0')
			return &image->rules[d->rule];
	}
	return NULL;
}

/* The name itself, then its parents, nearest first. */
static const struct image_rule *search(const struct policy_image *image, const struct index_domains *table, const char *domain)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	const struct image_rule *rule;
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 2);

	if (len > 0 && domain[len - 1] == '.')
		len--;
	if (len == 0 || len > IMAGE_DOMAIN_MAX || !table->tags)
		return NULL;
	for (size_t i = 0; i < len; i++)
		name[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	name[len] = '\0';
	/* A client that writes ".example.org" as a domain must not reach the parent rule as if by name. */
	if (name[0] == '.')
		return NULL;
	rule = probe(image, table, name, len);
	for (const char *dot = strchr(name, '.'); !rule && dot; dot = strchr(dot + 1, '.'))
		rule = probe(image, table, dot, len - (size_t)(dot - name));
	return rule;
}

const struct image_rule *policy_domain_rule(const struct policy_image *image, const char *domain)
{
	return search(image, &image->index.domains, domain);
}

bool policy_domain_listed(const struct policy_image *image, const char *domain)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 1);

	if (!len || len > IMAGE_DOMAIN_MAX || !image->index.domains.tags)
		return false;
	for (size_t i = 0; i <= len; i++)
		name[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	return probe(image, &image->index.domains, name, len) != NULL;
}

const struct image_rule *policy_inbound_domain_rule(const struct policy_image *image, const char *domain)
{
	return search(image, &image->index.inbound_domains, domain);
}
