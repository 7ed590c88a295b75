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

/* A hash table: mask + 1 slots, a power of two, half full at most. A slot is a word, 0 where it is free; in front of it, where
 * an address is the key or part of it, those 16 bytes. What a look-up compares stands in the slot, or is named there: what it
 * leads to is read once, or not at all. */
struct index_table {
	uint64_t *slots; /* NULL: the section is empty */
	uint32_t mask;
	uint32_t words; /* of a slot: INDEX_BY_NAME or INDEX_BY_ADDR */
	uint64_t seed;
} __attribute__((aligned(32)));
enum { INDEX_BY_NAME = 1, INDEX_BY_ADDR = 3 };

/* MTA-STS: tag 16, element 20, name 28 bits. A server: tag 12, mx_secure 1, its host's enum policy_tlsa 3, host 20, name 28.
 * Probes and what was seen: element + 1. */
static inline uint32_t index_name(uint64_t word) { return (uint32_t)word & (IMAGE_STRINGS_MAX - 1); }
static inline uint32_t index_element(uint64_t word) { return (uint32_t)(word >> 28) & 0xfffff; } /* or the host */
static inline uint8_t index_tlsa(uint64_t word) { return word >> 48 & 7; }
static inline bool index_mx_secure(uint64_t word) { return word >> 51 & 1; }
static inline bool index_sts_tagged(uint64_t word, uint64_t hash) { return (word ^ hash) >> 48 == 0; }
static inline bool index_server_tagged(uint64_t word, uint64_t hash) { return (word ^ hash) >> 52 == 0; }
_Static_assert(IMAGE_STRINGS_MAX == 1u << 28 && IMAGE_HOSTS_MAX <= 1u << 20 && IMAGE_STS_MAX <= 1u << 20, "fields of a slot's word");

/* From an address to the last prefix not above it. The space between the ends of the section is cut into `slots` equal
 * parts, a quarter as many as there are prefixes; where more than INDEX_FANOUT lie in one part, level l, the first address of
 * each INDEX_FANOUT^(l + 1) prefixes, narrows it down. */
#define INDEX_FANOUT_BITS 4
#define INDEX_FANOUT (1u << INDEX_FANOUT_BITS)
#define INDEX_LEVELS_MAX 5 /* IMAGE_PREFIXES_MAX by the fanout */
typedef unsigned __int128 index_key; /* in host byte order; IPv4: 32 bits */
struct index_tree {
	index_key base;  /* slot n begins at base + (n << shift), but the first one lower, and the last one has no end */
	uint32_t *first; /* of slots + 1: prefixes below that slot; NULL: the section is empty */
	const void *all; /* struct image_prefix4 or image_prefix6 */
	uint32_t slots, count;
	uint8_t shift, depth;
	void *levels[INDEX_LEVELS_MAX]; /* uint32_t or index_key */
} __attribute__((aligned(64)));

struct index_domains {
	uint8_t *tags; /* one for each slot; 0: free. NULL: no slots */
	const struct image_domain *slots;
	uint32_t mask;
} __attribute__((aligned(32)));

struct policy_index {
	struct index_domains domains;
	struct index_table servers, sts, probed, seen;
	struct index_domains inbound_domains;
	struct index_tree prefix4, prefix6, client4, client6, inbound4, inbound6;
	uint32_t *destination_hosts; /* host of that servername, by destination; IMAGE_NONE */
	uint8_t *memory; /* of all of it */
	size_t bytes;
};

/* Its first line has what look-ups lead to; the index says where, a line each. */
struct policy_image {
	const char *strings;
	const struct image_rule *rules;
	const struct image_host *hosts;
	const struct image_tlsa *tlsa;
	const struct image_destination *destinations;
	const struct image_sts *sts;
	const struct image_probed *probed;
	const struct image_seen *seen;
	struct policy_index index;
	const struct image_header *header;
	const uint8_t *base;
	size_t len;
	const uint32_t *matches;
	const struct image_domain *domains, *inbound_domains;
	const struct image_prefix4 *prefix4, *client4, *inbound4;
	const struct image_prefix6 *prefix6, *client6, *inbound6;
	const struct image_fingerprint *fingerprints;
	const struct image_server *servers;
	const uint8_t *octets;
	const uint32_t *probed_names;
};

/* image.c: zeroed, anonymous, of huge pages where that pays; NULL with errno. Sealed: nobody can write it any more. */
void *policy_memory_new(size_t bytes);
int policy_memory_seal(void *memory, size_t bytes); /* 0, or -errno */
void policy_memory_free(void *memory, size_t bytes);

/* 0, or -errno with a one-line `error`; policy_index_dispose() is due in both cases. */
int policy_index_build(struct policy_image *image, char *error, size_t error_len);
void policy_index_dispose(struct policy_image *image);
/* `addr`: the key's, of a table by address. false: farther than IMAGE_PROBES_MAX from its home. */
bool policy_index_put(struct index_table *table, uint64_t hash, const uint8_t *addr, uint64_t word);
uint64_t policy_index_addr(const struct index_table *table, const uint8_t addr[16]);
uint64_t policy_index_name(const struct index_table *table, const char *name);
uint64_t policy_index_pair(const struct index_table *table, const uint8_t addr[16], const char *name);

/* Of another part of the hash than the slot; never 0. */
static inline uint8_t index_domain_tag(uint64_t hash) { return (uint8_t)(hash >> 56 | 1); }
static inline index_key index_key6(const uint8_t addr[16])
{
	uint64_t high, low;

	__builtin_memcpy(&high, addr, 8);
	__builtin_memcpy(&low, addr + 8, 8);
	return (index_key)__builtin_bswap64(high) << 64 | __builtin_bswap64(low);
}

/* `ipv6` is a constant wherever these are used. */
static inline index_key index_prefix_key(const struct index_tree *tree, bool ipv6, uint32_t i)
{
	return ipv6 ? index_key6(((const struct image_prefix6 *)tree->all)[i].addr) : ((const struct image_prefix4 *)tree->all)[i].addr;
}
static inline index_key index_level_key(const struct index_tree *tree, bool ipv6, unsigned level, uint32_t i)
{
	return ipv6 ? ((const index_key *)tree->levels[level])[i] : ((const uint32_t *)tree->levels[level])[i];
}
static inline uint32_t index_tree_slot(const struct index_tree *tree, index_key key)
{
	index_key slot = key < tree->base ? 0 : (key - tree->base) >> tree->shift;

	return slot < tree->slots ? (uint32_t)slot : tree->slots - 1;
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
	return !p->len || (index_key6(p->addr) ^ index_key6(addr)) >> (128 - p->len) == 0;
}

#endif
