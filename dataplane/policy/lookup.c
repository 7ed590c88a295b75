/*
 * lookup.c - which destination has this address, which rule has this domain.
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

static uint32_t destination4(const struct policy_image *image, uint32_t addr)
{
	uint32_t low = 0, high = image->header->prefix4.count; /* entries below `low` are not above addr */
	uint32_t at;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (image->prefix4[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	for (at = low ? low - 1 : IMAGE_NONE; at != IMAGE_NONE; at = image->prefix4[at].parent)
		if (prefix4_holds(&image->prefix4[at], addr))
			return image->prefix4[at].destination;
	return 0;
}

static uint32_t destination6(const struct policy_image *image, const uint8_t addr[16])
{
	uint32_t low = 0, high = image->header->prefix6.count;
	uint32_t at;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (memcmp(image->prefix6[middle].addr, addr, 16) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (at = low ? low - 1 : IMAGE_NONE; at != IMAGE_NONE; at = image->prefix6[at].parent)
		if (prefix6_holds(&image->prefix6[at], addr))
			return image->prefix6[at].destination;
	return 0;
}

uint32_t policy_destination_of(const struct policy_image *image, const uint8_t addr[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(addr, mapped, sizeof(mapped)) == 0)
		return destination4(image, (uint32_t)addr[12] << 24 | (uint32_t)addr[13] << 16 |
						   (uint32_t)addr[14] << 8 | addr[15]);
	return destination6(image, addr);
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
		out.destination = p->destination;
	} else {
		const struct image_prefix6 *p = &image->prefix6[index - count4];

		memcpy(out.addr, p->addr, sizeof(out.addr));
		out.len = p->len;
		out.ipv6 = true;
		out.destination = p->destination;
	}
	out.pool = policy_string(image, image->destinations[out.destination].pool);
	return out;
}

/* ---- domains ---- */

uint64_t policy_domain_hash(const char *name, size_t len)
{
	return XXH3_64bits(name, len);
}

static const struct image_rule *probe(const struct policy_image *image, const char *name, size_t len)
{
	uint32_t mask = image->header->domains.count - 1;
	uint32_t slot = (uint32_t)policy_domain_hash(name, len) & mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask) {
		const struct image_domain *d = &image->domains[slot];

		if (d->name == IMAGE_NONE)
			return NULL;
		if (strncmp(image->strings + d->name, name, len) == 0 && image->strings[d->name + len] == '\0')
			return &image->rules[d->rule];
	}
	return NULL;
}

const struct image_rule *policy_domain_rule(const struct policy_image *image, const char *domain)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	const struct image_rule *rule;
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 2);

	if (len > 0 && domain[len - 1] == '.')
		len--;
	if (len == 0 || len > IMAGE_DOMAIN_MAX || image->header->domains.count == 0)
		return NULL;
	for (size_t i = 0; i < len; i++)
		name[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	name[len] = '\0';
	/* A client that writes ".example.org" as a domain must not reach the parent rule as if by name. */
	if (name[0] == '.')
		return NULL;
	rule = probe(image, name, len);
	for (const char *dot = strchr(name, '.'); !rule && dot; dot = strchr(dot + 1, '.'))
		rule = probe(image, dot, len - (size_t)(dot - name));
	return rule;
}
