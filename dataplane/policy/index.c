/*
 * index.c - ways into the sections of an image that cost the same whatever their size.
 *
 * Enters: an image that has been checked whole. Leaves: hash tables of servers, MTA-STS, probes and what was seen; trees
 * over the prefixes; a tag for each slot of the domain tables; the host of each destination. All of it is made from the
 * image when it is opened, by us, so that no image can bring an index that loops or points astray.
 * A look-up is rare beside everything else that a session does, so what it reads is in no cache: it costs as much as the
 * lines and pages that it waits for one after the other. Hence keys stand in the slots, and all of it in one mapping.
 * Invariant: a table is half full at most, each element within IMAGE_PROBES_MAX of its home; the seed comes from the whole
 * image, so that nobody who only chooses names or addresses can crowd them. Trees and tables grow with their section alone:
 * less than 128 MB at the limits of image.h. Refuses: elements that no seed spreads.
 */
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define SEEDS_MAX 8
#define CACHE_LINE 64
#define PREFIXES_A_SLOT 4

void policy_index_dispose(struct policy_image *image)
{
	if (image->index.memory)
		policy_memory_free(image->index.memory, image->index.bytes);
	image->index.memory = NULL;
}

/* ---- where everything lies: once to learn how much it is, and again when there is memory ---- */

static void *room(struct policy_index *index, size_t bytes)
{
	void *at = index->memory ? index->memory + index->bytes : NULL;

	index->bytes += (bytes + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	return at;
}

static void lay_out_table(struct policy_index *index, struct index_table *table, uint32_t count, uint32_t words)
{
	uint32_t size = 2;

	if (!count)
		return;
	while (size / 2 < count)
		size *= 2;
	*table = (struct index_table){.slots = room(index, (size_t)size * words * sizeof(uint64_t)), .mask = size - 1, .words = words};
}

static void lay_out_tree(struct policy_index *index, struct index_tree *tree, const void *all, uint32_t count, bool ipv6)
{
	if (!count)
		return;
	*tree = (struct index_tree){.all = all, .count = count, .slots = 2}; /* a single one would have to be 2^128 wide */
	while (tree->slots < count / PREFIXES_A_SLOT)
		tree->slots *= 2;
	tree->first = room(index, (tree->slots + 1) * sizeof(*tree->first));
	while (count > INDEX_FANOUT) {
		count = (count + INDEX_FANOUT - 1) / INDEX_FANOUT;
		tree->levels[tree->depth++] = room(index, count * (ipv6 ? sizeof(index_key) : sizeof(uint32_t)));
	}
}

static void lay_out_domains(struct policy_index *index, struct index_domains *domains, const struct image_domain *slots, uint32_t count)
{
	if (count)
		*domains = (struct index_domains){room(index, count), slots, count - 1};
}

static void lay_out(struct policy_image *image)
{
	const struct image_header *h = image->header;
	struct policy_index *index = &image->index;

	index->bytes = 0;
	lay_out_domains(index, &index->domains, image->domains, h->domains.count);
	lay_out_domains(index, &index->inbound_domains, image->inbound_domains, h->inbound_domains.count);
	lay_out_table(index, &index->servers, h->servers.count, INDEX_BY_ADDR);
	lay_out_table(index, &index->sts, h->sts.count, INDEX_BY_NAME);
	lay_out_table(index, &index->probed, h->probed.count, INDEX_BY_ADDR);
	lay_out_table(index, &index->seen, h->seen.count, INDEX_BY_ADDR);
	lay_out_tree(index, &index->prefix4, image->prefix4, h->prefix4.count, false);
	lay_out_tree(index, &index->prefix6, image->prefix6, h->prefix6.count, true);
	lay_out_tree(index, &index->client4, image->client4, h->client4.count, false);
	lay_out_tree(index, &index->client6, image->client6, h->client6.count, true);
	lay_out_tree(index, &index->inbound4, image->inbound4, h->inbound4.count, false);
	lay_out_tree(index, &index->inbound6, image->inbound6, h->inbound6.count, true);
	index->destination_hosts = room(index, h->destinations.count * sizeof(*index->destination_hosts));
}

/* ---- hash tables ---- */

uint64_t policy_index_addr(const struct index_table *table, const uint8_t addr[16])
{
	return XXH3_64bits_withSeed(addr, 16, table->seed);
}

uint64_t policy_index_name(const struct index_table *table, const char *name)
{
	return XXH3_64bits_withSeed(name, strlen(name), table->seed);
}

uint64_t policy_index_pair(const struct index_table *table, const uint8_t addr[16], const char *name)
{
	return XXH3_64bits_withSeed(name, strlen(name), policy_index_addr(table, addr));
}

bool policy_index_put(struct index_table *table, uint64_t hash, const uint8_t *addr, uint64_t word)
{
	uint32_t slot = (uint32_t)hash & table->mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & table->mask) {
		uint64_t *words = table->slots + (size_t)slot * table->words;

		if (words[table->words - 1])
			continue;
		if (table->words == INDEX_BY_ADDR)
			memcpy(words, addr, 16);
		words[table->words - 1] = word;
		return true;
	}
	return false;
}

static bool put_server(struct policy_image *image, uint32_t i)
{
	const struct image_server *s = &image->servers[i];
	uint64_t hash = policy_index_pair(&image->index.servers, s->addr, image->strings + s->domain);
	uint64_t word = hash >> 52 << 52 | (uint64_t)s->mx_secure << 51 | (uint64_t)image->hosts[s->host].tlsa << 48 | (uint64_t)s->host << 28;

	return policy_index_put(&image->index.servers, hash, s->addr, word | s->domain);
}

static bool put_sts(struct policy_image *image, uint32_t i)
{
	uint64_t hash = policy_index_name(&image->index.sts, image->strings + image->sts[i].domain);

	return policy_index_put(&image->index.sts, hash, NULL, hash >> 48 << 48 | (uint64_t)i << 28 | image->sts[i].domain);
}

static bool put_probed(struct policy_image *image, uint32_t i)
{
	const uint8_t *addr = image->probed[i].addr;

	return policy_index_put(&image->index.probed, policy_index_addr(&image->index.probed, addr), addr, i + 1);
}

static bool put_seen(struct policy_image *image, uint32_t i)
{
	const uint8_t *addr = image->seen[i].addr;

	return policy_index_put(&image->index.seen, policy_index_addr(&image->index.seen, addr), addr, i + 1);
}

/* -EINVAL: no seed spreads them. */
static int fill_table(struct policy_image *image, struct index_table *table, uint32_t count, bool (*put)(struct policy_image *image, uint32_t i))
{
	for (unsigned seed = 0; count && seed < SEEDS_MAX; seed++) {
		uint32_t i = 0;

		if (seed)
			memset(table->slots, 0, ((size_t)table->mask + 1) * table->words * sizeof(uint64_t));
		table->seed = image->header->checksum + seed;
		while (i < count && put(image, i))
			i++;
		if (i == count)
			return 0;
	}
	return count ? -EINVAL : 0;
}

static int fill_tables(struct policy_image *image)
{
	const struct image_header *h = image->header;
	struct policy_index *index = &image->index;
	int err = fill_table(image, &index->servers, h->servers.count, put_server);

	if (!err)
		err = fill_table(image, &index->sts, h->sts.count, put_sts);
	if (!err)
		err = fill_table(image, &index->probed, h->probed.count, put_probed);
	if (!err)
		err = fill_table(image, &index->seen, h->seen.count, put_seen);
	return err;
}

/* ---- trees over prefixes ---- */

/* How wide a slot must be, as a power of two, for all but `left_out` prefixes at either end. */
static uint8_t slot_shift(const struct index_tree *tree, bool ipv6, uint32_t left_out)
{
	index_key span = index_prefix_key(tree, ipv6, tree->count - 1 - left_out) - index_prefix_key(tree, ipv6, left_out);
	uint8_t shift = 0;

	while (span >> shift >= tree->slots)
		shift++;
	return shift;
}

/* Some far from all the rest, as 0.0.0.0/0 is, go into the slots at the ends, where that makes the others much narrower. */
static void fit(struct index_tree *tree, bool ipv6)
{
	uint32_t left_out = 0;

	tree->shift = slot_shift(tree, ipv6, 0);
	for (uint32_t more = 1; more < tree->count / 16; more *= 2) {
		uint8_t shift = slot_shift(tree, ipv6, more);

		if (shift + 1 >= tree->shift)
			continue;
		tree->shift = shift;
		left_out = more;
	}
	tree->base = index_prefix_key(tree, ipv6, left_out);
}

static void fill_tree(struct index_tree *tree, bool ipv6)
{
	if (!tree->count)
		return;
	fit(tree, ipv6);
	for (uint32_t i = 0; i < tree->count; i++)
		tree->first[index_tree_slot(tree, index_prefix_key(tree, ipv6, i)) + 1]++;
	for (uint32_t slot = 0; slot < tree->slots; slot++)
		tree->first[slot + 1] += tree->first[slot];
	for (unsigned l = 0; l < tree->depth; l++)
		for (uint64_t i = 0, at = 0; at < tree->count; i++, at += 1ull << (l + 1) * INDEX_FANOUT_BITS) {
			if (ipv6)
				((index_key *)tree->levels[l])[i] = index_prefix_key(tree, true, (uint32_t)at);
			else
				((uint32_t *)tree->levels[l])[i] = (uint32_t)index_prefix_key(tree, false, (uint32_t)at);
		}
}

static void fill_trees(struct policy_index *index)
{
	fill_tree(&index->prefix4, false);
	fill_tree(&index->prefix6, true);
	fill_tree(&index->client4, false);
	fill_tree(&index->client6, true);
	fill_tree(&index->inbound4, false);
	fill_tree(&index->inbound6, true);
}

/* ---- domains, destinations ---- */

static void fill_domains(const struct policy_image *image, const struct index_domains *domains, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const char *name = image->strings + domains->slots[i].name;

		if (domains->slots[i].name != IMAGE_NONE)
			domains->tags[i] = index_domain_tag(policy_domain_hash(name, strlen(name)));
	}
}

static uint32_t host_named(const struct policy_image *image, const char *name)
{
	uint32_t low = 0, high = image->header->hosts.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(name, image->strings + image->hosts[middle].name);

		if (order == 0)
			return middle;
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return IMAGE_NONE;
}

static void fill_destination_hosts(struct policy_image *image)
{
	for (uint32_t i = 0; i < image->header->destinations.count; i++)
		image->index.destination_hosts[i] = host_named(image, image->strings + image->destinations[i].servername);
}

int policy_index_build(struct policy_image *image, char *error, size_t error_len)
{
	const struct image_header *h = image->header;
	struct policy_index *index = &image->index;
	int err = 0;

	lay_out(image);
	index->memory = policy_memory_new(index->bytes);
	if (!index->memory)
		err = -ENOMEM;
	if (!err) {
		lay_out(image);
		fill_domains(image, &index->domains, h->domains.count);
		fill_domains(image, &index->inbound_domains, h->inbound_domains.count);
		fill_trees(index);
		fill_destination_hosts(image);
		err = fill_tables(image);
	}
	if (!err)
		err = policy_memory_seal(index->memory, index->bytes);
	if (err)
		snprintf(error, error_len, "index: %s", err == -EINVAL ? "servers, domains or addresses that no hash spreads" : strerror(-err));
	return err;
}
