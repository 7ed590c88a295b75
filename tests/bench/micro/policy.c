/*
 * policy.c - which rule holds, by the number of rules and of prefixes: an image compiled by control/policy and read
 * by dataplane/policy.
 *
 *   policy [BPF_DIR] [N ...]      1 1000 100000 unless said otherwise; prefixes: 1000 and 1000000
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

/* A recipient's rule where TLSA records decide: the domain, the server as an MX of it, the host, its records. */
static void bound_domains(uint32_t n)
{
	static const uint8_t digest[32];
	static const struct discovered_tlsa record = {3, 1, 1, 32, digest};
	struct micro hit = {.count = 0};
	struct ruleset *set = ruleset_new();
	struct discovered_claim *claims = calloc(n, sizeof(*claims));
	struct discovered_host *hosts = calloc(n, sizeof(*hosts));
	char (*names)[2][32] = malloc((size_t)n * sizeof(*names)), text[96];
	put(set, "* level=may");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t host = htonl(0x0a000000u + i);
		snprintf(names[i][0], 32, "d%u.example", i);
		snprintf(names[i][1], 32, "mx%u.example", i);
		snprintf(text, sizeof(text), "%s level=dane", names[i][0]);
		put(set, text);
		claims[i] = (struct discovered_claim){.domain = names[i][0], .mx = names[i][1], .addr = {[10] = 0xff, [11] = 0xff}, .mx_secure = true};
		memcpy(claims[i].addr + 12, &host, 4);
		hosts[i] = (struct discovered_host){.mx = names[i][1], .tlsa = TLSA_SECURE, .records = &record, .record_count = 1};
	}
	struct discovered found = {.claims = claims, .count = n, .hosts = hosts, .host_count = n};
	struct policy_image *image = compile(set, &found);
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t bound = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++) {
			uint32_t at = micro_shuffled(i % n, n);
			struct policy_parties parties = {.client_addr = claims[0].addr, .server_addr = claims[at].addr};
			bound += policy_recipient_rule(image, &parties, names[at][0])->level == LEVEL_DANE;
		}
		micro_note(&hit, (double)(__rdtsc() - from) / LOOKUPS);
		if (bound != LOOKUPS)
			micro_die("a wrong rule");
	}
	micro_print(&hit, "policy_dane", n, "cycles");
	free(names);
	free(claims);
	free(hosts);
	policy_image_close(image);
}

static void prefixes(uint32_t n)
{
	struct micro hit = {.count = 0};
	struct ruleset *set = ruleset_new();
	char *line = malloc(RULES_LINE_MAX + 64);
	put(set, "* level=may");
	for (uint32_t i = 0; i < n;) {
		size_t at = (size_t)sprintf(line, "provider:p%u level=encrypt nets=", i / NETS_A_PROVIDER);
		for (uint32_t k = 0; k < NETS_A_PROVIDER && i < n; k++, i++) {
			uint32_t net = 0x01000000u + (i << 8); /* /24s, all of them distinct */
			at += (size_t)sprintf(line + at, "%s%u.%u.%u.0/24", k ? "," : "", net >> 24, net >> 16 & 255, net >> 8 & 255);
		}
		put(set, line);
	}
	struct policy_image *image = compile(set, NULL);
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t found = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++) {
			uint8_t address[16] = {[10] = 0xff, [11] = 0xff};
			uint32_t host = htonl(0x01000007u + (micro_shuffled(i % n, n) << 8));
			memcpy(address + 12, &host, 4);
			found += policy_destination_of(image, address) != 0;
		}
		micro_note(&hit, (double)(__rdtsc() - from) / LOOKUPS);
		if (found != LOOKUPS)
			micro_die("a wrong destination");
	}
	micro_print(&hit, "policy_prefix", n, "cycles");
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
		bound_domains((uint32_t)atoi(sizes[i]));
	prefixes(1000);
	prefixes(1000000);
	return 0;
}
