/*
 * private.h - what the files of policy/ share: the mapped image and its checked section pointers.
 *
 * Every pointer is null until validate.c has found its section inside the mapping; a struct
 * policy_image that leaves policy/ has passed image_validate() whole, and readers check nothing again.
 */
#ifndef WAXSEAL_POLICY_PRIVATE_H
#define WAXSEAL_POLICY_PRIVATE_H

#include "policy.h"

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
};

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
	unsigned whole = p->len / 8, rest = p->len % 8;

	if (__builtin_memcmp(p->addr, addr, whole) != 0)
		return false;
	return !rest || ((p->addr[whole] ^ addr[whole]) & (uint8_t)(0xff00u >> rest)) == 0;
}

#endif
