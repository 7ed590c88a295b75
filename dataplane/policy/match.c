/*
 * match.c - does a certificate's name meet a rule's match patterns, its fingerprint one of a rule's pins?
 *
 * Enters: a rule, one certificate name (a DNS subjectAltName, possibly a wildcard), the next-hop domain
 * and the server's host name where they are known. Leaves: yes or no. Case is ignored, and one final dot.
 * A wildcard in the certificate stands for exactly the left-most label (RFC 6125, section 6.4.3), never
 * for a part of one ("m*.example.org") and never right under a top-level domain ("*.org").
 * Refuses: whatever depends on a next hop or host name that is not known.
 */
#include "private.h"

#include <string.h>
#include <strings.h>

static const char *const keywords[] = {"nexthop", "dot-nexthop", "hostname"};

bool policy_pattern_is_keyword(const char *pattern)
{
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (strcmp(pattern, keywords[i]) == 0)
			return true;
	return false;
}

bool policy_pattern_valid(const char *pattern)
{
	if (pattern[0] == '*' && pattern[1] == '.')
		return policy_domain_valid(pattern + 2);
	if (pattern[0] == '.')
		return policy_domain_valid(pattern + 1);
	return policy_domain_valid(pattern);
}

/* A name without its final dot. */
struct span {
	const char *text;
	size_t len;
};

static struct span span_of(const char *text)
{
	struct span s = {text, strlen(text)};

	if (s.len > 1 && text[s.len - 1] == '.')
		s.len--;
	return s;
}

static struct span after_first_label(struct span s)
{
	const char *dot = memchr(s.text, '.', s.len);
	size_t skip = dot ? (size_t)(dot - s.text) : s.len;

	return (struct span){s.text + skip, s.len - skip};
}

static bool span_equal(struct span a, struct span b)
{
	return a.len == b.len && a.len > 0 && strncasecmp(a.text, b.text, a.len) == 0;
}

static bool is_wildcard(struct span name)
{
	return name.len > 2 && name.text[0] == '*' && name.text[1] == '.';
}

/* "*.example.org" as a certificate's name: two labels at least below the star, none of them a star. */
static bool wildcard_usable(struct span name)
{
	struct span rest = {name.text + 2, name.len - 2};

	return memchr(rest.text, '*', rest.len) == NULL && memchr(rest.text, '.', rest.len) != NULL;
}

static bool matches_host(struct span name, struct span host)
{
	if (host.len == 0 || host.text[0] == '.')
		return false;
	if (!is_wildcard(name))
		return span_equal(name, host);
	return wildcard_usable(name) && span_equal(after_first_label(name), after_first_label(host));
}

/* `domain` without a dot in front; `name` lies below it at any depth. */
static bool matches_below(struct span name, struct span domain)
{
	size_t cut;

	if (domain.len == 0 || name.len < domain.len + 2)
		return false;
	if (is_wildcard(name) && !wildcard_usable(name))
		return false;
	cut = name.len - domain.len;
	return name.text[cut - 1] == '.' && span_equal((struct span){name.text + cut, domain.len}, domain);
}

/* "*.example.org" as a pattern (the form of MTA-STS, RFC 8461, section 4.1): one label below. */
static bool matches_one_below(struct span name, struct span domain)
{
	struct span parent = after_first_label(name);

	if (!matches_below(name, domain))
		return false;
	return parent.len == domain.len + 1;
}

static bool matches_pattern(struct span name, const char *pattern, const char *nexthop, const char *hostname)
{
	if (strcmp(pattern, "nexthop") == 0)
		return nexthop && matches_host(name, span_of(nexthop));
	if (strcmp(pattern, "dot-nexthop") == 0)
		return nexthop && matches_below(name, span_of(nexthop));
	if (strcmp(pattern, "hostname") == 0)
		return hostname && matches_host(name, span_of(hostname));
	if (pattern[0] == '.')
		return matches_below(name, span_of(pattern + 1));
	if (pattern[0] == '*')
		return matches_one_below(name, span_of(pattern + 2));
	return matches_host(name, span_of(pattern));
}

const char *policy_match(const struct policy_image *image, const struct image_rule *rule, uint32_t i)
{
	return policy_string(image, image->matches[rule->match_first + i]);
}

bool policy_name_matches(const struct policy_image *image, const struct image_rule *rule, const char *name,
			 const char *nexthop, const char *hostname)
{
	struct span certificate = span_of(name);

	/* A name is letters, digits, hyphens and dots, and a star only as the whole left-most label. */
	for (size_t i = 0; i < certificate.len; i++)
		if ((unsigned char)name[i] <= ' ' || (unsigned char)name[i] >= 127 || (name[i] == '*' && (i > 0 || !is_wildcard(certificate))))
			return false;
	if (rule->origin == ORIGIN_STS && hostname)
		return matches_host(certificate, span_of(hostname));
	for (uint32_t i = 0; i < rule->match_count; i++)
		if (matches_pattern(certificate, policy_match(image, rule, i), nexthop, hostname))
			return true;
	return false;
}

bool policy_mx_named(const struct policy_image *image, const struct image_rule *rule, const char *mx)
{
	for (uint32_t i = 0; i < rule->match_count; i++)
		if (matches_pattern(span_of(mx), policy_match(image, rule, i), NULL, NULL))
			return true;
	return false;
}

bool policy_needs_nexthop(const struct policy_image *image, const struct image_rule *rule)
{
	for (uint32_t i = 0; i < rule->match_count; i++)
		if (strcmp(policy_match(image, rule, i), "nexthop") == 0 || strcmp(policy_match(image, rule, i), "dot-nexthop") == 0)
			return true;
	return false;
}

bool policy_fingerprint_matches(const struct policy_image *image, const struct image_rule *rule, const uint8_t certificate[32],
				const uint8_t key[32], uint64_t now_s)
{
	for (uint32_t i = 0; i < rule->fingerprint_count; i++) {
		const struct image_fingerprint *f = &image->fingerprints[rule->fingerprint_first + i];

		if (f->expires && f->expires <= now_s)
			continue;
		if (memcmp(f->sha256, f->pin == PIN_KEY ? key : certificate, sizeof(f->sha256)) == 0)
			return true;
	}
	return false;
}
