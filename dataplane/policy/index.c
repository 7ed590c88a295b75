/*
 * index.c - ways into the sections of an image that cost the same whatever their size.
 *
 * Enters: an image that has been checked whole. Leaves: hash tables of servers, MTA-STS, probes and what was seen; trees
 * over the prefixes; a tag for each slot of the domain tables; the host of each destination. All of it is made from the
 * image when it is opened, by us, so that no image can bring an index that loops or points astray.
 * Invariant: a table is half full at most, each element within IMAGE_PROBES_MAX of its home; the seed comes from the whole
 * image, so that nobody who only chooses names or addresses can crowd them. Trees and tables grow with their section alone:
 * less than 100 MB at the limits of image.h. Refuses: elements that no seed spreads.
 */
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#define SEEDS_MAX 8

/* Zeroed memory that lives as long as the image; NULL: none left. */
static void *piece_new(struct policy_image *image, size_t bytes)
{
	struct index_piece *piece = &image->index.pieces[image->index.piece_count];
	void *memory = policy_memory_new(bytes);

	if (!memory)
		return NULL;
	*piece = (struct index_piece){memory, bytes};
	image->index.piece_count++;
	return memory;
}

void policy_index_dispose(struct policy_image *image)
{
	struct policy_index *index = &image->index;

	while (index->piece_count--)
		munmap(index->pieces[index->piece_count].memory, index->pieces[index->piece_count].bytes);
	index->piece_count = 0;
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
	uint8_t key[16 + IMAGE_DOMAIN_MAX];
	size_t len = strnlen(name, IMAGE_DOMAIN_MAX);

	memcpy(key, addr, 16);
	memcpy(key + 16, name, len);
	return XXH3_64bits_withSeed(key, 16 + len, table->seed);
}

bool policy_index_put(struct index_slot *slots, uint32_t mask, uint64_t hash, uint32_t element)
{
	uint32_t slot = (uint32_t)hash & mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, slot = (slot + 1) & mask)
		if (slots[slot].element == IMAGE_NONE) {
			slots[slot] = (struct index_slot){index_tag(hash), element};
			return true;
		}
	return false;
}

static uint64_t hash_server(const struct policy_image *image, uint32_t i)
{
	return policy_index_pair(&image->index.servers, image->servers[i].addr, image->strings + image->servers[i].domain);
}

static uint64_t hash_sts(const struct policy_image *image, uint32_t i)
{
	return policy_index_name(&image->index.sts, image->strings + image->sts[i].domain);
}

static uint64_t hash_probed(const struct policy_image *image, uint32_t i)
{
	return policy_index_addr(&image->index.probed, image->probed[i].addr);
}

static uint64_t hash_seen(const struct policy_image *image, uint32_t i)
{
	return policy_index_addr(&image->index.seen, image->seen[i].addr);
}

/* -ENOMEM; -EINVAL: no seed spreads them. */
static int build_table(struct policy_image *image, struct index_table *table, uint32_t count,
		       uint64_t (*hash)(const struct policy_image *image, uint32_t i))
{
	struct index_slot *slots;
	uint32_t size = 2, i;

	if (!count)
		return 0;
	while (size / 2 < count)
		size *= 2;
	slots = piece_new(image, size * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	table->slots = slots;
	table->mask = size - 1;
	for (unsigned seed = 0; seed < SEEDS_MAX; seed++) {
		memset(slots, 0xff, size * sizeof(*slots));
		table->seed = image->header->checksum + seed;
		for (i = 0; i < count && policy_index_put(slots, table->mask, hash(image, i), i); i++)
			;
		if (i == count)
			return 0;
	}
	return -EINVAL;
}

/* ---- trees over prefixes ---- */

/* Room for each level's keys, in whole nodes; every key beyond the last is the highest there is. */
static int build_levels(struct policy_image *image, struct index_tree *tree, uint32_t count, uint32_t fanout, size_t key_bytes)
{
	while (count > fanout) {
		struct index_level *level = &tree->levels[tree->depth];
		size_t bytes;

		count = (count + fanout - 1) / fanout;
		bytes = (size_t)(count + fanout - 1) / fanout * fanout * key_bytes;
		level->keys = piece_new(image, bytes);
		if (!level->keys)
			return -ENOMEM;
		memset(level->keys, 0xff, bytes);
		level->count = count;
		tree->depth++;
	}
	return 0;
}

static int build_tree4(struct policy_image *image, struct index_tree *tree, const struct image_prefix4 *all, uint32_t count)
{
	int err = build_levels(image, tree, count, INDEX_FANOUT4, sizeof(uint32_t));
	uint64_t step = INDEX_FANOUT4;

	for (unsigned l = 0; l < tree->depth && !err; l++, step *= INDEX_FANOUT4)
		for (uint32_t i = 0; i < tree->levels[l].count; i++)
			((uint32_t *)tree->levels[l].keys)[i] = all[i * step].addr;
	return err;
}

static int build_tree6(struct policy_image *image, struct index_tree *tree, const struct image_prefix6 *all, uint32_t count)
{
	int err = build_levels(image, tree, count, INDEX_FANOUT6, sizeof(index_key6));
	uint64_t step = INDEX_FANOUT6;

	for (unsigned l = 0; l < tree->depth && !err; l++, step *= INDEX_FANOUT6)
		for (uint32_t i = 0; i < tree->levels[l].count; i++)
			((index_key6 *)tree->levels[l].keys)[i] = index_key6_of(all[i * step].addr);
	return err;
}

/* ---- domains, destinations ---- */

static int build_tags(struct policy_image *image, const uint8_t **out, const struct image_domain *slots, uint32_t count)
{
	uint8_t *tags = count ? piece_new(image, count) : NULL;

	*out = tags;
	if (count && !tags)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		const char *name = image->strings + slots[i].name;

		if (slots[i].name != IMAGE_NONE)
			tags[i] = index_domain_tag(policy_domain_hash(name, strlen(name)));
	}
	return 0;
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

static int build_destination_hosts(struct policy_image *image)
{
	uint32_t count = image->header->destinations.count;
	uint32_t *hosts = piece_new(image, count * sizeof(*hosts));

	image->index.destination_hosts = hosts;
	if (!hosts)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		hosts[i] = host_named(image, image->strings + image->destinations[i].servername);
	return 0;
}

static int build_trees(struct policy_image *image)
{
	const struct image_header *h = image->header;
	struct policy_index *index = &image->index;
	int err = build_tree4(image, &index->prefix4, image->prefix4, h->prefix4.count);

	if (!err)
		err = build_tree6(image, &index->prefix6, image->prefix6, h->prefix6.count);
	if (!err)
		err = build_tree4(image, &index->client4, image->client4, h->client4.count);
	if (!err)
		err = build_tree6(image, &index->client6, image->client6, h->client6.count);
	if (!err)
		err = build_tree4(image, &index->inbound4, image->inbound4, h->inbound4.count);
	if (!err)
		err = build_tree6(image, &index->inbound6, image->inbound6, h->inbound6.count);
	return err;
}

int policy_index_build(struct policy_image *image, char *error, size_t error_len)
{
	const struct image_header *h = image->header;
	struct policy_index *index = &image->index;
	int err = build_trees(image);

	if (!err)
		err = build_tags(image, &index->domain_tags, image->domains, h->domains.count);
	if (!err)
		err = build_tags(image, &index->inbound_domain_tags, image->inbound_domains, h->inbound_domains.count);
	if (!err)
		err = build_destination_hosts(image);
	if (!err)
		err = build_table(image, &index->servers, h->servers.count, hash_server);
	if (!err)
		err = build_table(image, &index->sts, h->sts.count, hash_sts);
	if (!err)
		err = build_table(image, &index->probed, h->probed.count, hash_probed);
	if (!err)
		err = build_table(image, &index->seen, h->seen.count, hash_seen);
	for (unsigned i = 0; i < index->piece_count && !err; i++)
		if (mprotect(index->pieces[i].memory, index->pieces[i].bytes, PROT_READ) != 0)
			err = -errno;
	if (err)
		snprintf(error, error_len, "index: %s", err == -EINVAL ? "servers, domains or addresses that no hash spreads" : strerror(-err));
	return err;
}
