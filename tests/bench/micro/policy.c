/*
 * policy.c - which rule holds, by the number of rules and of prefixes: an image compiled by control/policy and read
 * by dataplane/policy.
 *
 *   policy [BPF_DIR] [N ...]      1 1000 100000 unless said otherwise; prefixes: 1000 and 1000000
 * A look-up that is flat costs more at the largest size only by what the caches no longer hold.
 */
#include "micro.h"

#include <arpa/inet.h>

#include "policy/policy.h"
#include "../../../control/policy/rules.h"

#define LOOKUPS 300000u
#define NETS_A_PROVIDER 250u

static void put(struct ruleset *set, const char *line)
{
	char error[RULES_ERROR_MAX] = "";
	struct rule *rule = rule_parse_line(line, error, sizeof(error));
	if (!rule)
		micro_die(error);
	ruleset_put(set, rule);
}

static struct policy_image *compile(struct ruleset *set, struct discovered *found)
{
	char error[RULES_ERROR_MAX] = "";
	size_t len;
	void *bytes = ruleset_compile_discovered(set, found, 1, 1700000000, &len, error, sizeof(error));
	struct policy_image *image = bytes ? policy_image_parse(bytes, len, error, sizeof(error)) : NULL;
	if (!image)
		micro_die(error);
	free(bytes);
	ruleset_free(set);
	return image;
}

static void domains(uint32_t n)
{
	struct micro hit = {.count = 0}, miss = {.count = 0};
	struct ruleset *set = ruleset_new();
	char text[96];
	put(set, "* level=may");
	for (uint32_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "d%u.example level=encrypt", i);
		put(set, text);
	}
	struct policy_image *image = compile(set, NULL);
	char (*names)[32] = malloc((size_t)LOOKUPS * 32);
	for (unsigned round = 0; round < MICRO_ROUNDS; round++)
		for (int missing = 0; missing < 2; missing++) {
			for (uint32_t i = 0; i < LOOKUPS; i++)
				snprintf(names[i], 32, missing ? "mail.no%u.example" : "d%u.example", micro_shuffled(i % n, n));
			uint64_t found = 0, from = __rdtsc();
			for (uint32_t i = 0; i < LOOKUPS; i++)
				found += policy_domain_rule(image, names[i]) != NULL;
			micro_note(missing ? &miss : &hit, (double)(__rdtsc() - from) / LOOKUPS);
			if (found != (missing ? 0 : LOOKUPS))
				micro_die("a wrong rule");
		}
	micro_print(&hit, "policy_domain", n, "cycles");
	micro_print(&miss, "policy_domain_none", n, "cycles");
	free(names);
	policy_image_close(image);
}

/* What a session asks by: as it is in a session, at hand. */
struct asked {
	uint8_t addr[16];
	char domain[32];
};

static void mapped(uint8_t addr[16], uint32_t ipv4)
{
	memset(addr, 0, 10);
	memset(addr + 10, 0xff, 2);
	ipv4 = htonl(ipv4);
	memcpy(addr + 12, &ipv4, 4);
}

static bool ask_dane(const struct policy_image *image, const struct asked *asked)
{
	const struct policy_parties parties = {.client_addr = asked->addr, .server_addr = asked->addr};
	return policy_recipient_rule(image, &parties, asked->domain)->level == LEVEL_DANE;
}

static bool ask_server(const struct policy_image *image, const struct asked *asked)
{
	return policy_server_of(image, asked->addr, asked->domain).tlsa == TLSA_SECURE;
}

static bool ask_sts(const struct policy_image *image, const struct asked *asked)
{
	return policy_sts_of(image, asked->domain) != NULL;
}

static bool ask_probed(const struct policy_image *image, const struct asked *asked)
{
	return policy_probed_at(image, asked->addr) != NULL;
}

static bool ask_seen(const struct policy_image *image, const struct asked *asked)
{
	return policy_seen_at(image, asked->addr) != NULL;
}

static void ask(const struct policy_image *image, uint32_t n, const char *bench,
		bool (*question)(const struct policy_image *image, const struct asked *asked))
{
	struct micro hit = {.count = 0};
	struct asked *asked = malloc(LOOKUPS * sizeof(*asked));
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint32_t at = micro_shuffled(i % n, n);
		mapped(asked[i].addr, 0x0a000000u + at);
		snprintf(asked[i].domain, sizeof(asked[i].domain), "d%u.example", at);
	}
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t found = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++)
			found += question(image, &asked[i]);
		micro_note(&hit, (double)(__rdtsc() - from) / LOOKUPS);
		if (found != LOOKUPS)
			micro_die(bench);
	}
	micro_print(&hit, bench, n, "cycles");
	free(asked);
}

/* A recipient's rule where TLSA records decide (the domain, the server as an MX of it, the host, its records); that server
 * alone; MTA-STS, the probe and what was seen. All of it is known of each domain, whose rule leaves the level to the DNS. */
static void findings(uint32_t n)
{
	static const uint8_t digest[32];
	static const struct discovered_tlsa record = {3, 1, 1, 32, digest};
	struct ruleset *set = ruleset_new();
	struct discovered_claim *claims = calloc(n, sizeof(*claims));
	struct discovered_host *hosts = calloc(n, sizeof(*hosts));
	struct discovered_sts *sts = calloc(n, sizeof(*sts));
	struct discovered_probe *probes = calloc(n, sizeof(*probes));
	struct discovered_seen *seen = calloc(n, sizeof(*seen));
	char (*names)[2][32] = malloc((size_t)n * sizeof(*names)), text[96];
	put(set, "* level=may");
	for (uint32_t i = 0; i < n; i++) {
		snprintf(names[i][0], 32, "d%u.example", i);
		snprintf(names[i][1], 32, "mx%u.example", i);
		snprintf(text, sizeof(text), "%s mode=enforce", names[i][0]);
		put(set, text);
		claims[i] = (struct discovered_claim){.domain = names[i][0], .mx = names[i][1], .mx_secure = true};
		mapped(claims[i].addr, 0x0a000000u + i);
		hosts[i] = (struct discovered_host){.mx = names[i][1], .tlsa = TLSA_SECURE, .records = &record, .record_count = 1};
		sts[i] = (struct discovered_sts){.domain = names[i][0], .error = STS_FETCH_ERROR};
		probes[i] = (struct discovered_probe){.at = 1700000000, .version = 0x0304};
		memcpy(probes[i].addr, claims[i].addr, 16);
		seen[i] = (struct discovered_seen){.at = 1700000000};
		memcpy(seen[i].addr, claims[i].addr, 16);
	}
	struct discovered found = {.claims = claims, .count = n, .hosts = hosts, .host_count = n, .sts = sts, .sts_count = n,
	                           .probes = probes, .probe_count = n, .seen = seen, .seen_count = n};
	struct policy_image *image = compile(set, &found);
	free(names);
	free(claims);
	free(hosts);
	free(sts);
	free(probes);
	free(seen);
	ask(image, n, "policy_dane", ask_dane);
	ask(image, n, "policy_server", ask_server);
	ask(image, n, "policy_sts", ask_sts);
	ask(image, n, "policy_probed", ask_probed);
	ask(image, n, "policy_seen", ask_seen);
	policy_image_close(image);
}

/* The i-th network: /24s, or /48s, all of them distinct. */
static void network(uint32_t i, bool ipv6, uint8_t addr[16])
{
	uint32_t low = htonl(i);
	mapped(addr, 0x01000000u + (i << 8));
	if (!ipv6)
		return;
	memset(addr, 0, 16);
	addr[0] = 0x20;
	memcpy(addr + 2, &low, 4);
}

static void prefixes(uint32_t n, bool ipv6)
{
	struct micro hit = {.count = 0};
	struct ruleset *set = ruleset_new();
	char *line = malloc(RULES_LINE_MAX + 64), text[INET6_ADDRSTRLEN];
	uint8_t (*asked)[16] = malloc((size_t)LOOKUPS * 16);
	put(set, "* level=may");
	for (uint32_t i = 0; i < n;) {
		size_t at = (size_t)sprintf(line, "provider:p%u level=encrypt nets=", i / NETS_A_PROVIDER);
		for (uint32_t k = 0; k < NETS_A_PROVIDER && i < n; k++, i++) {
			uint8_t addr[16];
			network(i, ipv6, addr);
			inet_ntop(ipv6 ? AF_INET6 : AF_INET, ipv6 ? addr : addr + 12, text, sizeof(text));
			at += (size_t)sprintf(line + at, "%s%s/%d", k ? "," : "", text, ipv6 ? 48 : 24);
		}
		put(set, line);
	}
	struct policy_image *image = compile(set, NULL);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		network(micro_shuffled(i % n, n), ipv6, asked[i]);
		asked[i][15] = 7;
	}
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t found = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++)
			found += policy_destination_of(image, asked[i]) != 0;
		micro_note(&hit, (double)(__rdtsc() - from) / LOOKUPS);
		if (found != LOOKUPS)
			micro_die("a wrong destination");
	}
	micro_print(&hit, ipv6 ? "policy_prefix6" : "policy_prefix", n, "cycles");
	free(asked);
	free(line);
	policy_image_close(image);
}

int main(int argc, char **argv)
{
	static const char *usual[] = {"1", "1000", "100000"};
	const char **sizes = argc > 2 ? (const char **)argv + 2 : usual;
	unsigned count = argc > 2 ? (unsigned)argc - 2 : 3;
	for (unsigned i = 0; i < count; i++)
		domains((uint32_t)atoi(sizes[i]));
	for (unsigned i = 0; i < count; i++)
		findings((uint32_t)atoi(sizes[i]));
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		prefixes(1000, ipv6);
		prefixes(1000000, ipv6);
	}
	return 0;
}
