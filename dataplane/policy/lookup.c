/*
 * lookup.c - which destination or rule has this address, which rule has this domain.
 *
 * Enters: a checked image, an address or a recipient's domain. Leaves: an index or a rule of the image.
 * Addresses: the last prefix not above the address, or an ancestor of it (at most one a bit of length).
 * Domains: one probe for the name and one for each parent, nearest first.
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

static uint32_t find4(const struct image_prefix4 *all, uint32_t count, uint32_t addr)
{
	uint32_t low = 0, high = count; /* entries below `low` are not above addr */
	uint32_t at;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (all[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	for (at = low ? low - 1 : IMAGE_NONE; at != IMAGE_NONE; at = all[at].parent)
		if (prefix4_holds(&all[at], addr))
			return all[at].target;
	return IMAGE_NONE;
}

static uint32_t find6(const struct image_prefix6 *all, uint32_t count, const uint8_t addr[16])
{
	uint32_t low = 0, high = count;
	uint32_t at;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (memcmp(all[middle].addr, addr, 16) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (at = low ? low - 1 : IMAGE_NONE; at != IMAGE_NONE; at = all[at].parent)
		if (prefix6_holds(&all[at], addr))
			return all[at].target;
	return IMAGE_NONE;
}

/* The target of the longest prefix that holds the address, or IMAGE_NONE. */
static uint32_t find(const struct image_prefix4 *all4, uint32_t count4, const struct image_prefix6 *all6, uint32_t count6,
		     const uint8_t addr[16])
{
	if (!policy_addr_is_ipv4(addr))
		return find6(all6, count6, addr);
	return find4(all4, count4, (uint32_t)addr[12] << 24 | (uint32_t)addr[13] << 16 | (uint32_t)addr[14] << 8 | addr[15]);
}

uint32_t policy_destination_of(const struct policy_image *image, const uint8_t addr[16])
{
	const struct image_header *h = image->header;
	uint32_t found = find(image->prefix4, h->prefix4.count, image->prefix6, h->prefix6.count, addr);

	return found == IMAGE_NONE ? 0 : found;
}

const struct image_rule *policy_client_rule(const struct policy_image *image, const uint8_t client_addr[16])
{
	const struct image_header *h = image->header;
	uint32_t found = find(image->client4, h->client4.count, image->client6, h->client6.count, client_addr);

	return found == IMAGE_NONE ? NULL : &image->rules[found];
}

const struct image_rule *policy_inbound_rule(const struct policy_image *image, const uint8_t server_addr[16])
{
	const struct image_header *h = image->header;
	uint32_t found = find(image->inbound4, h->inbound4.count, image->inbound6, h->inbound6.count, server_addr);

	return &image->rules[found == IMAGE_NONE ? h->inbound_rule : found];
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
};

static const struct image_rule *probe(const struct table *table, const char *name, size_t len)
{
	const struct policy_image *image = table->image;
	uint32_t mask = table->count - 1;
	uint32_t slot = (uint32_t)policy_domain_hash(name, len) & mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask) {
		const struct image_domain *d = &table->slots[slot];

		if (d->name == IMAGE_NONE)
			return NULL;
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
	return search(&(struct table){image, image->domains, image->header->domains.count}, domain);
}

bool policy_domain_listed(const struct policy_image *image, const char *domain)
{
	const struct table table = {image, image->domains, image->header->domains.count};
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
	return search(&(struct table){image, image->inbound_domains, image->header->inbound_domains.count}, domain);
}
