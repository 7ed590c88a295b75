/*
 * policy_image.c - fuzzing of the image's reader: bytes under a right checksum, as an attacker would give them.
 *
 * What is taken must be safe to use with eyes closed: every look-up, of every rule, and a decision on each, is
 * made, and none may leave the image; what the agent found is found again under its key. The header's own length and checksum are put right first, since damage is
 * the checksum's business and malice would have a right one.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

#define INPUT_MAX (1u << 16)

static void use_strings(const struct policy_image *image, uint32_t offset, size_t *sum)
{
	*sum += strlen(policy_string(image, offset));
}

static void use_rule(const struct policy_image *image, const struct image_rule *rule, size_t *sum)
{
	static const struct policy_facts facts[] = {
		{.offered = true}, {.tls = FACT_TLS_FAILED}, {.offered = true, .tls = FACT_TLS_UP, .version = 0x0303},
		{.end_to_end = true, .tls = FACT_TLS_UP, .version = 0x0304, .chain = CHAIN_TRUSTED, .name_matched = true},
		{.offered = true, .tls = FACT_TLS_UP, .version = 0x0303, .tlsa = TLSA_SECURE, .dane = DANE_MATCHED, .mx_secure = true},
		{.tlsa = TLSA_FAILED, .stripped = true},
	};
	char reply[POLICY_REPLY_MAX];

	use_strings(image, rule->ciphers, sum);
	use_strings(image, rule->exclude, sum);
	use_strings(image, rule->owner, sum);
	use_strings(image, rule->reason, sum);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		struct policy_decision d = policy_decide(rule, &facts[i], (uint32_t)i * 31);

		if (rule->level > LEVEL_MAY && d.action == POLICY_ALLOW && facts[i].tls != FACT_TLS_UP && !d.observed)
			abort();
		*sum += policy_reply(&d, rule, policy_string(image, rule->name), policy_string(image, rule->servername), reply);
	}
	*sum += policy_wants_tls(rule, 1) + policy_floor(rule, 1);
	*sum += policy_name_matches(image, rule, "mx.example.org", "example.org", "mx.example.org");
	*sum += policy_name_matches(image, rule, "*.example.org", NULL, NULL);
	*sum += policy_fingerprint_matches(image, rule, (const uint8_t[32]){0x11}, (const uint8_t[32]){0x22}, 1700000000);
}

/* What was found of a server, as a session asks for it. */
static void use_findings(const struct policy_image *image, const uint8_t addr[16], const char *domain, size_t *sum)
{
	struct policy_server server = policy_server_of(image, addr, domain);
	const struct image_sts *sts = domain ? policy_sts_of(image, domain) : NULL;
	const struct image_probed *probed = policy_probed_at(image, addr);
	char title[POLICY_TITLE_MAX];

	for (uint32_t i = 0; i < server.record_count; i++)
		for (uint32_t k = 0; k < server.records[i].octets_count; k++)
			*sum += policy_tlsa_data(image, &server.records[i])[k];
	if (server.mx)
		*sum += strlen(server.mx) + strlen(server.base);
	for (uint32_t i = 0; probed && i < probed->name_count; i++)
		*sum += strlen(policy_probed_name(image, probed, i));
	if (sts && sts->rule != IMAGE_NONE && policy_rule(image, sts->rule)->origin != ORIGIN_STS)
		abort();
	*sum += policy_seen_at(image, addr) != NULL;
	for (uint32_t i = 0; i < policy_image_header(image)->rules.count; i++) {
		const struct image_rule *rule = policy_rule_at(image, policy_rule(image, i), addr, domain);
		struct policy_facts facts = {.end_to_end = true, .tls = FACT_TLS_UP};

		if (!rule)
			continue;
		*sum += strlen(policy_rule_title(image, rule, title)) + policy_needs_nexthop(image, rule);
		policy_facts_of_server(image, rule, &server, &facts);
		policy_facts_of_probe(image, rule, addr, domain, 1700000000, &facts);
		policy_decide(rule, &facts, 1);
		if (domain)
			policy_testing_rule(image, rule, domain);
	}
}

/* The rules of a session between any two addresses: an exempt client has no other, and a minimum loosens nothing. */
static void use_parties(const struct policy_image *image, const struct policy_parties *parties, size_t *sum)
{
	static const struct policy_facts clear = {.offered = false};
	struct policy_rules rules = policy_rules_of(image, parties);
	const struct image_rule *recipient = policy_recipient_rule(image, parties, "a.b.example.org");
	struct policy_verdict alone = {rules.rule, policy_decide(rules.rule, &clear, parties->flow_hash)}, both = alone;

	use_rule(image, rules.rule, sum);
	if (recipient)
		use_rule(image, recipient, sum);
	if (parties->inbound && (rules.minimum || rules.rule->kind != POLICY_INBOUND))
		abort();
	if (!rules.minimum)
		return;
	if (rules.minimum->kind != POLICY_CLIENT || policy_exempts(rules.minimum, parties->flow_hash))
		abort();
	use_rule(image, rules.minimum, sum);
	both = policy_stricter(alone, (struct policy_verdict){rules.minimum, policy_decide(rules.minimum, &clear, parties->flow_hash)});
	if (policy_effect(both.decision) < policy_effect(alone.decision))
		abort();
	if (policy_rules_floor(&rules, parties->flow_hash) < policy_floor(rules.rule, parties->flow_hash))
		abort();
}

/* What stands in the image is found by the key under which it stands there. */
static void find_all(const struct policy_image *image)
{
	const struct image_header *h = policy_image_header(image);
	const uint8_t *base = (const void *)h;
	const struct image_server *servers = (const void *)(base + h->servers.offset);
	const struct image_sts *sts = (const void *)(base + h->sts.offset);
	const struct image_probed *probed = (const void *)(base + h->probed.offset);
	const struct image_seen *seen = (const void *)(base + h->seen.offset);
	const struct image_host *hosts = (const void *)(base + h->hosts.offset);

	for (uint32_t i = 0; i < h->servers.count; i++)
		if (policy_server_of(image, servers[i].addr, policy_string(image, servers[i].domain)).mx !=
		    policy_string(image, hosts[servers[i].host].name))
			abort();
	for (uint32_t i = 0; i < h->sts.count; i++)
		if (policy_sts_of(image, policy_string(image, sts[i].domain)) != &sts[i])
			abort();
	for (uint32_t i = 0; i < h->probed.count; i++)
		if (policy_probed_at(image, probed[i].addr) != &probed[i])
			abort();
	for (uint32_t i = 0; i < h->seen.count; i++)
		if (policy_seen_at(image, seen[i].addr) != &seen[i])
			abort();
}

static void use(const struct policy_image *image)
{
	const struct image_header *h = policy_image_header(image);
	static const char *const domains[] = {"example.org", "a.b.example.org", "listed.example", "x.", "."};
	uint8_t addr[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 77};
	size_t sum = 0;

	for (uint32_t i = 0; i < h->rules.count; i++) {
		const struct image_rule *rule = policy_rule(image, i);

		use_rule(image, rule, &sum);
		policy_domain_rule(image, policy_string(image, rule->name));
	}
	for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
		const struct image_rule *rule = policy_domain_rule(image, domains[i]);

		if (rule)
			use_rule(image, rule, &sum);
	}
	for (size_t i = 0; i < policy_prefixes(image); i++) {
		struct policy_prefix p = policy_prefix(image, i);
		uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};

		sum += strlen(p.pool);
		if (!p.ipv6)
			memcpy(mapped + 12, p.addr, 4);
		if (policy_destination_of(image, p.ipv6 ? p.addr : mapped) >= h->destinations.count)
			abort();
	}
	for (uint32_t i = 0; i < h->servers.count; i++) {
		const struct image_server *s = (const void *)((const uint8_t *)h + h->servers.offset);

		use_findings(image, s[i].addr, i & 1 ? policy_string(image, s[i].domain) : NULL, &sum);
		use_findings(image, s[i].addr, policy_string(image, s[0].domain), &sum);
	}
	find_all(image);
	for (uint32_t i = 0; i < 64; i++) {
		const struct image_destination *d = policy_destination(image, policy_destination_of(image, addr));

		use_strings(image, d->name, &sum);
		use_strings(image, d->servername, &sum);
		use_rule(image, policy_rule(image, d->rule), &sum);
		use_parties(image, &(struct policy_parties){addr, addr, i & 1, i}, &sum);
		addr[(i * 7) % 16] ^= (uint8_t)(1 << (i % 8));
	}
	if (sum == SIZE_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_header header;
	struct policy_image *image;
	char error[256] = "";
	uint8_t *bytes;

	if (size > INPUT_MAX)
		return 0;
	bytes = malloc(size ? size : 1);
	memcpy(bytes, data, size);
	if (size >= sizeof(header)) {
		memcpy(&header, bytes, sizeof(header));
		header.total_bytes = size;
		memcpy(bytes, &header, sizeof(header));
		header.checksum = policy_image_checksum(bytes, size);
		memcpy(bytes, &header, sizeof(header));
	}
	image = policy_image_parse(bytes, size, error, sizeof(error));
	free(bytes); /* the image is a copy: nothing may point here any more */
	if (image)
		use(image);
	else if (!error[0] || strchr(error, '\n'))
		abort();
	policy_image_close(image);
	return 0;
}
