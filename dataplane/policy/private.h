/*
 * private.h - what the files of policy/ share: the mapped image and its checked section pointers.
 *
 * Every pointer is null until validate.c has found its section inside the mapping; a struct
 * policy_image that leaves policy/ has passed image_validate() whole, and readers check nothing again.
 */
#ifndef WAXSEAL_POLICY_PRIVATE_H
#define WAXSEAL_POLICY_PRIVATE_H

#include "policy.h"

/* ---- index.c: what is made of a checked image when it is opened ---- */

/* Slot of a hash table: of the element only where the tags agree. */
struct index_slot {
	uint32_t tag;
	uint32_t element; /* of the section; IMAGE_NONE: free */
};
struct index_table {
	const struct index_slot *slots; /* mask + 1, a power of two, half full at most; NULL: the section is empty */
	uint32_t mask;
	uint64_t seed;
};

/* Level 0 has the first address of each `fanout` prefixes, level n + 1 the first key of each `fanout` of level n; the topmost
 * has `fanout` at most. Of a section with no more than that there is none. A node is one cache line (IPv6: two). */
#define INDEX_FANOUT4 16
#define INDEX_FANOUT6 8
#define INDEX_LEVELS_MAX 6 /* IMAGE_PREFIXES_MAX by the smaller fanout */
typedef unsigned __int128 index_key6;
struct index_level {
	void *keys; /* uint32_t or index_key6, in host byte order; in whole nodes, those beyond `count` are the highest */
	uint32_t count;
};
struct index_tree {
	struct index_level levels[INDEX_LEVELS_MAX];
	unsigned depth;
};

#define INDEX_PIECES_MAX (6 * INDEX_LEVELS_MAX + 7)
struct index_piece {
	void *memory;
	size_t bytes;
};

struct policy_index {
	struct index_table servers, sts, probed, seen;
	struct index_tree prefix4, prefix6, client4, client6, inbound4, inbound6;
	const uint8_t *domain_tags, *inbound_domain_tags; /* one for each slot; 0: free */
	const uint32_t *destination_hosts; /* host of that servername, by destination; IMAGE_NONE */
	struct index_piece pieces[INDEX_PIECES_MAX];
	unsigned piece_count;
};

struct policy_image {
	const uint8_t *base;
	size_t len;
	const struct image_header *header;
	const char *strings;
	const struct image_rule *rules;
	const uint32_t *matches;
	const struct image_domain *domains;
	const struct image_destination *destinations;
	const struct image_prefix4 *prefix4;
	const struct image_prefix6 *prefix6;
	const struct image_fingerprint *fingerprints;
	const struct image_prefix4 *client4, *inbound4;
	const struct image_prefix6 *client6, *inbound6;
	const struct image_domain *inbound_domains;
	const struct image_server *servers;
	const struct image_host *hosts;
	const struct image_tlsa *tlsa;
	const uint8_t *octets;
	const struct image_sts *sts;
	const struct image_probed *probed;
	const uint32_t *probed_names;
	const struct image_seen *seen;
	struct policy_index index;
};

/* image.c: zeroed, anonymous, of huge pages where that pays; munmap() ends it. NULL with errno. */
void *policy_memory_new(size_t bytes);

/* 0, or -errno with a one-line `error`; policy_index_dispose() is due in both cases. */
int policy_index_build(struct policy_image *image, char *error, size_t error_len);
void policy_index_dispose(struct policy_image *image);
/* false: farther than IMAGE_PROBES_MAX from its home. */
bool policy_index_put(struct index_slot *slots, uint32_t mask, uint64_t hash, uint32_t element);
uint64_t policy_index_addr(const struct index_table *table, const uint8_t addr[16]);
uint64_t policy_index_name(const struct index_table *table, const char *name);
uint64_t policy_index_pair(const struct index_table *table, const uint8_t addr[16], const char *name);

static inline uint32_t index_tag(uint64_t hash) { return (uint32_t)(hash >> 32); }
/* Of another part of the hash than the slot; never 0. */
static inline uint8_t index_domain_tag(uint64_t hash) { return (uint8_t)(hash >> 56 | 1); }
static inline index_key6 index_key6_of(const uint8_t addr[16])
{
	uint64_t high, low;

	__builtin_memcpy(&high, addr, 8);
	__builtin_memcpy(&low, addr + 8, 8);
	return (index_key6)__builtin_bswap64(high) << 64 | __builtin_bswap64(low);
}

/* Sets the section pointers and checks everything. 0, or -EINVAL with a one-line `error`. */
int image_validate(struct policy_image *image, char *error, size_t error_len);

/* An image that is being checked: validate.c, and validate_findings.c for what the agent found. */
struct check {
	struct policy_image *image;
	char *error;
	size_t error_len;
};
__attribute__((format(printf, 2, 3))) int check_bad(struct check *check, const char *format, ...); /* -EINVAL */
bool check_string(const struct check *check, uint32_t offset); /* a string begins there */
int check_otherwise(struct check *check);
int check_findings(struct check *check);

/* lookup.c: is there a rule under that very name? */
bool policy_domain_listed(const struct policy_image *image, const char *domain);

static inline uint32_t prefix4_mask(uint8_t len) { return len ? UINT32_MAX << (32 - len) : 0; }
static inline bool prefix4_holds(const struct image_prefix4 *p, uint32_t addr)
{
	return (addr & prefix4_mask(p->len)) == p->addr;
}
static inline bool prefix6_holds(const struct image_prefix6 *p, const uint8_t addr[16])
{
	return !p->len || (index_key6_of(p->addr) ^ index_key6_of(addr)) >> (128 - p->len) == 0;
}

#endif
