/*
 * validate_findings.c - the part of an image that comes from the agent: rules that stand in for others, servers, hosts,
 * TLSA records, MTA-STS, probes, what was seen.
 *
 * Enters: an image whose sections, strings and rules have been checked. Leaves: 0, or one line that names section, index
 * and what is wrong. All of it was the DNS's and other people's before it was the image's: order, indices, enums, lengths
 * of digests and names are checked, and that every chain of rules comes to an end.
 */
#include "private.h"

#include <string.h>

#define ZERO(field) zero(field, sizeof(field))
static bool zero(const void *bytes, size_t len)
{
	static const uint8_t zeros[8];

	return memcmp(bytes, zeros, len) == 0;
}

static const char *text(const struct check *c, uint32_t offset)
{
	return c->image->strings + offset;
}

/* ---- rules ---- */

static bool chain_ends(const struct policy_image *image, uint32_t i)
{
	for (unsigned steps = 0; image->rules[i].otherwise != IMAGE_NONE; steps++) {
		if (steps == IMAGE_OTHERWISE_MAX)
			return false;
		i = image->rules[i].otherwise;
	}
	return true;
}

int check_otherwise(struct check *c)
{
	const struct policy_image *image = c->image;
	uint32_t count = image->header->rules.count;

	for (uint32_t i = 0; i < count; i++) {
		const struct image_rule *r = &image->rules[i];

		if (r->otherwise != IMAGE_NONE && r->otherwise >= count)
			return check_bad(c, "rules[%u]: otherwise %u of %u", i, r->otherwise, count);
		if (r->otherwise != IMAGE_NONE && r->level != LEVEL_DANE && r->origin != ORIGIN_STS)
			return check_bad(c, "rules[%u]: level %s has no otherwise", i, policy_level_name((enum policy_level)r->level));
		if (r->origin != ORIGIN_OPERATOR && r->kind != POLICY_DOMAIN)
			return check_bad(c, "rules[%u]: kind %u, a discovered rule is a domain's", i, r->kind);
		if (r->reserved0 || !ZERO(r->reserved))
			return check_bad(c, "rules[%u]: reserved is not 0", i);
	}
	for (uint32_t i = 0; i < count; i++)
		if (!chain_ends(image, i))
			return check_bad(c, "rules[%u]: more than %d rules in each other's place", i, IMAGE_OTHERWISE_MAX);
	return 0;
}

/* ---- hosts ---- */

static bool tlsa_length_right(const struct image_tlsa *t)
{
	static const uint32_t digest[] = {[1] = 32, [2] = 64};

	return t->matching ? t->octets_count == digest[t->matching] : t->octets_count > 0 && t->octets_count <= IMAGE_TLSA_BYTES_MAX;
}

static int check_tlsa(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->tlsa.count; i++) {
		const struct image_tlsa *t = &c->image->tlsa[i];

		if (t->usage < 2 || t->usage > 3 || t->selector > 1 || t->matching > 2 || t->reserved)
			return check_bad(c, "tlsa[%u]: %u %u %u is no usable record", i, t->usage, t->selector, t->matching);
		if (!tlsa_length_right(t) || t->octets_first > h->octets.count || t->octets_count > h->octets.count - t->octets_first)
			return check_bad(c, "tlsa[%u]: octets %u from %u: there are %u, or the length is not that of matching type %u", i,
					 t->octets_count, t->octets_first, h->octets.count, t->matching);
	}
	return 0;
}

static int check_hosts(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->hosts.count; i++) {
		const struct image_host *host = &c->image->hosts[i];

		if (!check_string(c, host->name) || !check_string(c, host->base) || !policy_domain_valid(text(c, host->name)) ||
		    !policy_domain_valid(text(c, host->base)))
			return check_bad(c, "hosts[%u]: name or base is no host name", i);
		if (i && strcmp(text(c, c->image->hosts[i - 1].name), text(c, host->name)) >= 0)
			return check_bad(c, "hosts[%u]: not above the one before it", i);
		if (host->tlsa > TLSA_FAILED || !ZERO(host->reserved) || (host->tlsa == TLSA_SECURE) != (host->tlsa_count > 0))
			return check_bad(c, "hosts[%u]: %u records in state %u", i, host->tlsa_count, host->tlsa);
		if (host->tlsa_count > IMAGE_HOST_TLSA_MAX || host->tlsa_first > h->tlsa.count || host->tlsa_count > h->tlsa.count - host->tlsa_first)
			return check_bad(c, "hosts[%u]: records %u from %u: there are %u, and %d is the most", i, host->tlsa_count,
					 host->tlsa_first, h->tlsa.count, IMAGE_HOST_TLSA_MAX);
	}
	return 0;
}

static int check_servers(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->servers.count; i++) {
		const struct image_server *s = &c->image->servers[i];
		int order = i ? memcmp(s[-1].addr, s->addr, 16) : -1;

		if (!check_string(c, s->domain) || !policy_domain_valid(text(c, s->domain)))
			return check_bad(c, "servers[%u]: no domain", i);
		if (order > 0 || (order == 0 && strcmp(text(c, s[-1].domain), text(c, s->domain)) >= 0))
			return check_bad(c, "servers[%u]: not above the one before it", i);
		if (s->host >= h->hosts.count || s->mx_secure > 1 || !ZERO(s->reserved))
			return check_bad(c, "servers[%u]: host %u of %u, or mx_secure is %u", i, s->host, h->hosts.count, s->mx_secure);
	}
	return 0;
}

/* ---- MTA-STS, probes, what was seen ---- */

static int check_sts(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->sts.count; i++) {
		const struct image_sts *s = &c->image->sts[i];

		if (!check_string(c, s->domain) || !policy_domain_valid(text(c, s->domain)))
			return check_bad(c, "sts[%u]: no domain", i);
		if (i && strcmp(text(c, s[-1].domain), text(c, s->domain)) >= 0)
			return check_bad(c, "sts[%u]: not above the one before it", i);
		if (s->mode > STS_ENFORCE || s->error > STS_WEBPKI_INVALID || !ZERO(s->reserved))
			return check_bad(c, "sts[%u]: mode %u, error %u", i, s->mode, s->error);
		if (s->rule != IMAGE_NONE && (s->rule >= h->rules.count || c->image->rules[s->rule].origin != ORIGIN_STS))
			return check_bad(c, "sts[%u]: rule %u is not one of MTA-STS", i, s->rule);
	}
	return 0;
}

static int check_probed(struct check *c)
{
	const struct image_header *h = c->image->header;

	for (uint32_t i = 0; i < h->probed_names.count; i++)
		if (!check_string(c, c->image->probed_names[i]))
			return check_bad(c, "probed_names[%u]: no string", i);
	for (uint32_t i = 0; i < h->probed.count; i++) {
		const struct image_probed *p = &c->image->probed[i];

		if (i && memcmp(p[-1].addr, p->addr, 16) >= 0)
			return check_bad(c, "probed[%u]: not above the one before it", i);
		if (p->chain > CHAIN_INVALID || p->dane > DANE_INVALID || !ZERO(p->reserved))
			return check_bad(c, "probed[%u]: chain %u, dane %u", i, p->chain, p->dane);
		if (p->name_count > IMAGE_PROBED_NAMES_MAX || p->name_first > h->probed_names.count ||
		    p->name_count > h->probed_names.count - p->name_first)
			return check_bad(c, "probed[%u]: names %u from %u: there are %u", i, p->name_count, p->name_first, h->probed_names.count);
	}
	return 0;
}

static int check_seen(struct check *c)
{
	const struct image_seen *all = c->image->seen;

	for (uint32_t i = 1; i < c->image->header->seen.count; i++)
		if (memcmp(all[i - 1].addr, all[i].addr, 16) >= 0)
			return check_bad(c, "seen[%u]: not above the one before it", i);
	return 0;
}

int check_findings(struct check *c)
{
	static int (*const checks[])(struct check *) = {check_tlsa, check_hosts, check_servers, check_sts, check_probed, check_seen};
	int err = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && !err; i++)
		err = checks[i](c);
	return err;
}
