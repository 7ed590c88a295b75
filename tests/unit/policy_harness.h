/*
 * policy_harness.h - a policy image made by hand, for the tests of dataplane/policy/.
 *
 * Sections have room to spare and stand at fixed places, so that a test can break one byte of any of them
 * and seal the image again with a right checksum: what is then refused is refused for that byte.
 */
#ifndef WAXSEAL_POLICY_HARNESS_H
#define WAXSEAL_POLICY_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

struct made {
	struct image_header header;
	struct image_rule rules[16];
	uint32_t matches[128];
	struct image_domain domains[16];
	struct image_destination destinations[8];
	struct image_prefix4 prefix4[36];
	struct image_prefix6 prefix6[132];
	struct image_fingerprint fingerprints[48];
	struct image_prefix4 client4[4], inbound4[4];
	struct image_prefix6 client6[4], inbound6[4];
	struct image_domain inbound_domains[16];
	struct image_server servers[8];
	struct image_host hosts[8];
	struct image_tlsa tlsa[8];
	uint8_t octets[256];
	struct image_sts sts[8];
	struct image_probed probed[4];
	uint32_t probed_names[8];
	struct image_seen seen[4];
	char strings[4096];
};

#define MADE_SECTION(field, n) \
	(struct image_section){offsetof(struct made, field), (n), sizeof(((struct made *)0)->field[0])}

static struct made made;
static char made_error[512];

static inline uint32_t made_string(const char *text)
{
	uint32_t at = made.header.strings.count;

	if (!*text)
		return 0;
	assert_true(at + strlen(text) + 1 <= sizeof(made.strings));
	strcpy(made.strings + at, text);
	made.header.strings.count += (uint32_t)strlen(text) + 1;
	return at;
}

static inline uint32_t made_rule(enum policy_kind kind, enum policy_level level, const char *name)
{
	assert_true(made.header.rules.count < 16);
	made.rules[made.header.rules.count] = (struct image_rule){
		.name = made_string(name), .kind = (uint8_t)kind, .level = (uint8_t)level, .percent = 100,
		.otherwise = IMAGE_NONE, .match_first = made.header.matches.count, .fingerprint_first = made.header.fingerprints.count};
	return made.header.rules.count++;
}

/* To the rule that was made last. */
static inline void made_match(const char *pattern)
{
	assert_true(made.header.matches.count < 128);
	made.matches[made.header.matches.count++] = made_string(pattern);
	made.rules[made.header.rules.count - 1].match_count++;
}

/* To the rule that was made last; all octets of the digest are `octet`. */
static inline void made_fingerprint(enum policy_pin pin, uint8_t octet, uint64_t expires)
{
	assert_true(made.header.fingerprints.count < 48);
	struct image_fingerprint *f = &made.fingerprints[made.header.fingerprints.count++];

	*f = (struct image_fingerprint){.pin = (uint8_t)pin, .expires = expires};
	memset(f->sha256, octet, sizeof(f->sha256));
	made.rules[made.header.rules.count - 1].fingerprint_count++;
}

static inline uint32_t made_slot(struct image_domain slots[16], const char *name, uint32_t rule)
{
	uint32_t slot = (uint32_t)policy_domain_hash(name, strlen(name)) & 15;

	while (slots[slot].name != IMAGE_NONE)
		slot = (slot + 1) & 15;
	slots[slot] = (struct image_domain){made_string(name), rule};
	return slot;
}

static inline uint32_t made_domain(const char *name, uint32_t rule)
{
	made.header.enforced_domain_rules += policy_rule_demands(&made.rules[rule]);
	return made_slot(made.domains, name, rule);
}

static inline void made_inbound_domain(const char *name, uint32_t rule)
{
	made.header.enforced_inbound_rules += made.rules[rule].mode == MODE_ENFORCE && made.rules[rule].level > LEVEL_MAY;
	made_slot(made.inbound_domains, name, rule);
}

static inline uint32_t made_destination(const char *name, uint32_t rule, const char *pool)
{
	made.destinations[made.header.destinations.count] =
		(struct image_destination){.name = made_string(name), .rule = rule, .pool = made_string(pool)};
	return made.header.destinations.count++;
}

/* In ascending order; `parent` by hand, so that the test says what it believes. */
static inline struct image_prefix4 made_net4(const char *addr, uint8_t len, uint32_t parent, uint32_t target)
{
	struct in_addr in;

	assert_int_equal(inet_pton(AF_INET, addr, &in), 1);
	return (struct image_prefix4){.addr = ntohl(in.s_addr), .parent = parent, .target = target, .len = len};
}

static inline struct image_prefix6 made_net6(const char *addr, uint8_t len, uint32_t parent, uint32_t target)
{
	struct image_prefix6 p = {.parent = parent, .target = target, .len = len};

	assert_int_equal(inet_pton(AF_INET6, addr, p.addr), 1);
	return p;
}

static inline void made_prefix4(const char *addr, uint8_t len, uint32_t parent, uint32_t destination)
{
	made.prefix4[made.header.prefix4.count++] = made_net4(addr, len, parent, destination);
}

static inline void made_prefix6(const char *addr, uint8_t len, uint32_t parent, uint32_t destination)
{
	made.prefix6[made.header.prefix6.count++] = made_net6(addr, len, parent, destination);
}

/* Rules 0 "*" and 1 "inbound:*", destination 0; the rest is empty. */
static inline void made_begin(void)
{
	memset(&made, 0, sizeof(made));
	memcpy(made.header.magic, IMAGE_MAGIC, 8);
	made.header.version = IMAGE_VERSION;
	made.header.header_bytes = sizeof(made.header);
	made.header.total_bytes = sizeof(made);
	made.header.generation = 7;
	made.header.strings = MADE_SECTION(strings, 1);
	made.header.rules = MADE_SECTION(rules, 0);
	made.header.matches = MADE_SECTION(matches, 0);
	made.header.domains = MADE_SECTION(domains, 16);
	made.header.destinations = MADE_SECTION(destinations, 0);
	made.header.prefix4 = MADE_SECTION(prefix4, 0);
	made.header.prefix6 = MADE_SECTION(prefix6, 0);
	made.header.fingerprints = MADE_SECTION(fingerprints, 0);
	made.header.client4 = MADE_SECTION(client4, 0);
	made.header.client6 = MADE_SECTION(client6, 0);
	made.header.inbound4 = MADE_SECTION(inbound4, 0);
	made.header.inbound6 = MADE_SECTION(inbound6, 0);
	made.header.inbound_domains = MADE_SECTION(inbound_domains, 16);
	made.header.servers = MADE_SECTION(servers, 0);
	made.header.hosts = MADE_SECTION(hosts, 0);
	made.header.tlsa = MADE_SECTION(tlsa, 0);
	made.header.octets = MADE_SECTION(octets, 0);
	made.header.sts = MADE_SECTION(sts, 0);
	made.header.probed = MADE_SECTION(probed, 0);
	made.header.probed_names = MADE_SECTION(probed_names, 0);
	made.header.seen = MADE_SECTION(seen, 0);
	for (int i = 0; i < 16; i++)
		made.domains[i].name = made.inbound_domains[i].name = IMAGE_NONE;
	made_rule(POLICY_DEFAULT, LEVEL_MAY, "*");
	made.header.inbound_rule = made_rule(POLICY_INBOUND, LEVEL_MAY, "inbound:*");
	made_destination("*", 0, "");
}

/* ---- what the agent found; the caller adds in ascending order ---- */

static inline uint32_t made_host(const char *name, enum policy_tlsa tlsa)
{
	uint32_t text = made_string(name);

	made.hosts[made.header.hosts.count] =
		(struct image_host){.name = text, .base = text, .tlsa = (uint8_t)tlsa, .tlsa_first = made.header.tlsa.count};
	return made.header.hosts.count++;
}

/* To the host that was made last; the digest is all `octet`. */
static inline void made_tlsa(uint8_t usage, uint8_t selector, uint8_t octet)
{
	made.tlsa[made.header.tlsa.count++] = (struct image_tlsa){.usage = usage, .selector = selector, .matching = 1,
								  .octets_first = made.header.octets.count, .octets_count = 32};
	memset(made.octets + made.header.octets.count, octet, 32);
	made.header.octets.count += 32;
	made.hosts[made.header.hosts.count - 1].tlsa_count++;
}

static inline const uint8_t *made_addr(const char *text);
static inline void made_server(const char *addr, const char *domain, uint32_t host, bool mx_secure)
{
	struct image_server *s = &made.servers[made.header.servers.count++];

	*s = (struct image_server){.domain = made_string(domain), .host = host, .mx_secure = mx_secure};
	memcpy(s->addr, made_addr(addr), 16);
}

static inline struct policy_image *made_parse(void)
{
	made.header.checksum = policy_image_checksum(&made, sizeof(made));
	made_error[0] = '\0';
	return policy_image_parse(&made, sizeof(made), made_error, sizeof(made_error));
}

static inline struct policy_image *made_good(void)
{
	struct policy_image *image = made_parse();

	if (!image)
		fail_msg("refused: %s", made_error);
	return image;
}

/* A server's address as the dataplane has it. */
static inline const uint8_t *made_addr(const char *text)
{
	static uint8_t addr[16];

	memset(addr, 0, sizeof(addr));
	if (strchr(text, ':')) {
		assert_int_equal(inet_pton(AF_INET6, text, addr), 1);
	} else {
		addr[10] = addr[11] = 0xff;
		assert_int_equal(inet_pton(AF_INET, text, addr + 12), 1);
	}
	return addr;
}

/* For validation: `change` is a statement on `made`, after which the image is refused for what is at `where`. make_all() is the test's. */
static inline void made_refused(const char *change, const char *where)
{
	struct policy_image *image = made_parse();

	if (image)
		fail_msg("%s: taken", change);
	if (!strstr(made_error, where))
		fail_msg("%s: \"%s\" should name %s", change, made_error, where);
	if (strlen(made_error) > 300 || strchr(made_error, '\n'))
		fail_msg("%s: %s", change, made_error);
}
#define REFUSED(change, where) \
	do { \
		make_all(); \
		change; \
		made_refused(#change, where); \
	} while (0)

#endif
