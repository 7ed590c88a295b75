/*
 * policy.c - which rule holds, by the number of rules and of prefixes: an image compiled by control/policy and read
 * by dataplane/policy.
 *
 *   policy [BPF_DIR] [N ...]      1000 10000 100000 unless said otherwise; prefixes: ten times as many, but of the least
 *
 * Each look-up twice. Hot: many in a loop, which is the least that it can cost; it grows with what the caches no longer
 * hold. `..._cold`: one alone, after the whole image and its index have been thrown out of the caches and the TLB emptied
 * (cold.h), which is about the most that it can cost, and close to what a session pays that asks once in a million cycles. Only
 * cold figures tell whether a look-up takes more steps where there is more to look through.
 */
#include "micro.h"

#include <arpa/inet.h>

#include "cold.h"
#include "policy/private.h"
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

typedef bool (*question)(const struct policy_image *image, const struct asked *asked);

static bool ask_nothing(const struct policy_image *image, const struct asked *asked)
{
	return image && asked;
}

static bool ask_domain(const struct policy_image *image, const struct asked *asked)
{
	return policy_domain_rule(image, asked->domain) != NULL;
}

static bool ask_stranger(const struct policy_image *image, const struct asked *asked)
{
	return policy_domain_rule(image, asked->domain) == NULL;
}

static bool ask_destination(const struct policy_image *image, const struct asked *asked)
{
	return policy_destination_of(image, asked->addr) != 0;
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

/* ---- measuring ---- */

/* What is asked of the `at`-th. */
typedef void (*key)(struct asked *asked, uint32_t at);

static void hot(const struct policy_image *image, uint32_t n, const char *bench, question ask, key fill)
{
	struct micro micro = {.count = 0};
	struct asked *asked = calloc(LOOKUPS, sizeof(*asked));
	for (uint32_t i = 0; i < LOOKUPS; i++)
		fill(&asked[i], micro_shuffled(i % n, n));
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t right = 0, from = __rdtsc();
		for (uint32_t i = 0; i < LOOKUPS; i++)
			right += ask(image, &asked[i]);
		micro_note(&micro, (double)(__rdtsc() - from) / LOOKUPS);
		if (right != LOOKUPS)
			micro_die(bench);
	}
	micro_print(&micro, bench, n, "cycles");
	free(asked);
}

static void throw_out(const struct policy_image *image)
{
	cold_flush(image, sizeof(*image));
	cold_flush(image->base, image->len);
	cold_flush(image->index.memory, image->index.bytes);
	cold_pages();
}

/* Less what it costs to ask for nothing. */
static void cold(const struct policy_image *image, uint32_t n, const char *bench, question ask, key fill)
{
	static double nothing;
	struct micro micro = {.count = 0};
	char name[64];
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		double took[COLD_LOOKUPS];
		for (unsigned i = 0; i < COLD_LOOKUPS; i++) {
			struct asked asked = {.domain = ""};
			fill(&asked, micro_shuffled((round * COLD_LOOKUPS + i) * 7919u % n, n));
			throw_out(image);
			uint64_t from = cold_begin(&asked, sizeof(asked));
			bool right = ask(image, &asked);
			took[i] = (double)(cold_end() - from);
			if (!right)
				micro_die(bench);
		}
		micro_note(&micro, cold_median(took) - nothing);
	}
	snprintf(name, sizeof(name), "%s_cold", bench);
	micro_print(&micro, name, n, "cycles"); /* ascending from now on */
	if (ask == ask_nothing)
		nothing = micro.values[MICRO_ROUNDS / 2];
}

static void measure(const struct policy_image *image, uint32_t n, const char *bench, question ask, key fill)
{
	hot(image, n, bench, ask, fill);
	cold(image, n, bench, ask, fill);
}

/* ---- what is measured ---- */

static void key_domain(struct asked *asked, uint32_t at)
{
	snprintf(asked->domain, sizeof(asked->domain), "d%u.example", at);
	mapped(asked->addr, 0x0a000000u + at);
}

static void key_stranger(struct asked *asked, uint32_t at)
{
	snprintf(asked->domain, sizeof(asked->domain), "mail.no%u.example", at);
}

static void domains(uint32_t n)
{
	struct ruleset *set = ruleset_new();
	char text[96];
	put(set, "* level=may");
	for (uint32_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "d%u.example level=encrypt", i);
		put(set, text);
	}
	struct policy_image *image = compile(set, NULL);
	measure(image, n, "policy_domain", ask_domain, key_domain);
	measure(image, n, "policy_domain_none", ask_stranger, key_stranger);
	policy_image_close(image);
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
	measure(image, n, "policy_dane", ask_dane, key_domain);
	measure(image, n, "policy_server", ask_server, key_domain);
	measure(image, n, "policy_sts", ask_sts, key_domain);
	measure(image, n, "policy_probed", ask_probed, key_domain);
	measure(image, n, "policy_seen", ask_seen, key_domain);
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

static void key_net4(struct asked *asked, uint32_t at)
{
	network(at, false, asked->addr);
	asked->addr[15] = 7;
}

static void key_net6(struct asked *asked, uint32_t at)
{
	network(at, true, asked->addr);
	asked->addr[15] = 7;
}

static void prefixes(uint32_t n, bool ipv6)
{
	struct ruleset *set = ruleset_new();
	char *line = malloc(RULES_LINE_MAX + 64), text[INET6_ADDRSTRLEN];
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
	free(line);
	struct policy_image *image = compile(set, NULL);
	measure(image, n, ipv6 ? "policy_prefix6" : "policy_prefix", ask_destination, ipv6 ? key_net6 : key_net4);
	policy_image_close(image);
}

int main(int argc, char **argv)
{
	static const char *usual[] = {"1000", "10000", "100000"};
	const char **sizes = argc > 2 ? (const char **)argv + 2 : usual;
	unsigned count = argc > 2 ? (unsigned)argc - 2 : 3;
	struct policy_image *image = policy_image_default();
	cold(image, 1, "policy_nothing", ask_nothing, key_domain);
	policy_image_close(image);
	for (unsigned i = 0; i < count; i++)
		domains((uint32_t)atoi(sizes[i]));
	for (unsigned i = 0; i < count; i++)
		findings((uint32_t)atoi(sizes[i]));
	for (int ipv6 = 0; ipv6 < 2; ipv6++)
		for (unsigned i = 0; i < count; i++)
			prefixes((uint32_t)atoi(sizes[i]) * (i ? 10 : 1), ipv6);
	return 0;
}
