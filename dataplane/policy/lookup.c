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

struct prefixes4 {
	const struct image_prefix4 *all;
	uint32_t count;
	const struct index_tree *tree;
};
struct prefixes6 {
	const struct image_prefix6 *all;
	uint32_t count;
	const struct index_tree *tree;
};

#define CACHE_LINE 64

/* Its lines come together, and what reads them waits once. Nothing here branches on what a key is: a wrong guess costs more
 * than to count the keys of a node. */
static void fetch(const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += CACHE_LINE)
		__builtin_prefetch((const uint8_t *)from + i);
}

/* Where in the level below the address lies: the last key not above it. The first key of each node on the way is not. */
static uint32_t child(const struct index_level *level, uint32_t node, uint32_t fanout, uint32_t passed)
{
	uint32_t at = node * fanout + passed - 1;

	return at < level->count ? at : level->count - 1;
}

/* The last prefix whose address is not above `addr`; IMAGE_NONE. */
static uint32_t last4(const struct prefixes4 *p, uint32_t addr)
{
	uint32_t at = 0, low, high, not_above = 0;

	if (!p->count || p->all[0].addr > addr)
		return IMAGE_NONE;
	for (unsigned l = p->tree->depth; l-- > 0;) {
		const uint32_t *keys = (const uint32_t *)p->tree->levels[l].keys + (size_t)at * INDEX_FANOUT4;
		uint32_t passed = 0;

		for (unsigned i = 0; i < INDEX_FANOUT4; i++)
			passed += keys[i] <= addr;
		at = child(&p->tree->levels[l], at, INDEX_FANOUT4, passed);
	}
	low = at * INDEX_FANOUT4;
	high = p->count - low < INDEX_FANOUT4 ? p->count : low + INDEX_FANOUT4;
	fetch(&p->all[low], INDEX_FANOUT4 * sizeof(*p->all));
	for (uint32_t i = low; i < high; i++)
		not_above += p->all[i].addr <= addr;
	return low + not_above - 1;
}

static uint32_t last6(const struct prefixes6 *p, const uint8_t addr[16])
{
	index_key6 key = index_key6_of(addr);
	uint32_t at = 0, low, high, not_above = 0;

	if (!p->count || memcmp(p->all[0].addr, addr, 16) > 0)
		return IMAGE_NONE;
	for (unsigned l = p->tree->depth; l-- > 0;) {
		const index_key6 *keys = (const index_key6 *)p->tree->levels[l].keys + (size_t)at * INDEX_FANOUT6;
		uint32_t passed = 0;

		for (unsigned i = 0; i < INDEX_FANOUT6; i++)
			passed += keys[i] <= key;
		at = child(&p->tree->levels[l], at, INDEX_FANOUT6, passed);
	}
	low = at * INDEX_FANOUT6;
	high = p->count - low < INDEX_FANOUT6 ? p->count : low + INDEX_FANOUT6;
	fetch(&p->all[low], INDEX_FANOUT6 * sizeof(*p->all));
	for (uint32_t i = low; i < high; i++)
		not_above += index_key6_of(p->all[i].addr) <= key;
	return low + not_above - 1;
}

/* The target of the longest prefix that holds the address, or IMAGE_NONE. */
static uint32_t find(const struct prefixes4 *p4, const struct prefixes6 *p6, const uint8_t addr[16])
{
	if (policy_addr_is_ipv4(addr)) {
		uint32_t addr4 = (uint32_t)addr[12] << 24 | (uint32_t)addr[13] << 16 | (uint32_t)addr[14] << 8 | addr[15];

		for (uint32_t at = last4(p4, addr4); at != IMAGE_NONE; at = p4->all[at].parent)
			if (prefix4_holds(&p4->all[at], addr4))
				return p4->all[at].target;
		return IMAGE_NONE;
	}
	for (uint32_t at = last6(p6, addr); at != IMAGE_NONE; at = p6->all[at].parent)
		if (prefix6_holds(&p6->all[at], addr))
			return p6->all[at].target;
	return IMAGE_NONE;
}

#define FIND(image, four, six, addr) \
	find(&(struct prefixes4){(image)->four, (image)->header->four.count, &(image)->index.four}, \
	     &(struct prefixes6){(image)->six, (image)->header->six.count, &(image)->index.six}, addr)

uint32_t policy_destination_of(const struct policy_image *image, const uint8_t addr[16])
{
	uint32_t found = FIND(image, prefix4, prefix6, addr);

	return found == IMAGE_NONE ? 0 : found;
}

const struct image_rule *policy_client_rule(const struct policy_image *image, const uint8_t client_addr[16])
{
	uint32_t found = FIND(image, client4, client6, client_addr);

	return found == IMAGE_NONE ? NULL : &image->rules[found];
}

const struct image_rule *policy_inbound_rule(const struct policy_image *image, const uint8_t server_addr[16])
{
	uint32_t found = FIND(image, inbound4, inbound6, server_addr);

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

/* A hash table of domains. */
struct table {
	const struct policy_image *image;
	const struct image_domain *slots;
	uint32_t count;
	const uint8_t *tags;
};

static const struct image_rule *probe(const struct table *table, const char *name, size_t len)
{
	const struct policy_image *image = table->image;
	uint32_t mask = table->count - 1;
	uint64_t hash = policy_domain_hash(name, len);
	uint32_t slot = (uint32_t)hash & mask;
	uint8_t tag = index_domain_tag(hash);

	__builtin_prefetch(&table->slots[slot]);
	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask) {
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
static const struct image_rule *search(const struct table *table, const char *domain)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	const struct image_rule *rule;
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 2);

	if (len > 0 && domain[len - 1] == '.')
		len--;
	if (len == 0 || len > IMAGE_DOMAIN_MAX || table->count == 0)
		return NULL;
	for (size_t i = 0; i < len; i++)
		name[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	name[len] = '\0';
	/* A client that writes ".example.org" as a domain must not reach the parent rule as if by name. */
	if (name[0] == '.')
		return NULL;
	rule = probe(table, name, len);
	for (const char *dot = strchr(name, '.'); !rule && dot; dot = strchr(dot + 1, '.'))
		rule = probe(table, dot, len - (size_t)(dot - name));
	return rule;
}

const struct image_rule *policy_domain_rule(const struct policy_image *image, const char *domain)
{
	return search(&(struct table){image, image->domains, image->header->domains.count, image->index.domain_tags}, domain);
}

bool policy_domain_listed(const struct policy_image *image, const char *domain)
{
	const struct table table = {image, image->domains, image->header->domains.count, image->index.domain_tags};
	char name[IMAGE_DOMAIN_MAX + 1];
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 1);

	if (!len || len > IMAGE_DOMAIN_MAX || !table.count)
		return false;
	for (size_t i = 0; i <= len; i++)
		name[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	return probe(&table, name, len) != NULL;
}

const struct image_rule *policy_inbound_domain_rule(const struct policy_image *image, const char *domain)
{
	return search(&(struct table){image, image->inbound_domains, image->header->inbound_domains.count, image->index.inbound_domain_tags}, domain);
}
