/*
 * memory.c - what is known of domains, as claims for the compiler, as JSON for the next start, as texts for Redis.
 *
 * What is recalled has gone through a file that anybody may have edited: names and addresses are judged as those of
 * the DNS are, limits hold, and what is older than keep_s is left.
 */
#include "private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"

static const struct { const char *name, *time; } family_names[FAMILIES] = {{"A", "A_time"}, {"AAAA", "AAAA_time"}};

static const char *inet_text(const struct inet *addr, char out[INET6_ADDRSTRLEN])
{
	bool ipv4 = policy_addr_is_ipv4(addr->bytes);

	return inet_ntop(ipv4 ? AF_INET : AF_INET6, addr->bytes + (ipv4 ? 12 : 0), out, INET6_ADDRSTRLEN);
}

static bool inet_read(const char *text, struct inet *addr)
{
	*addr = (struct inet){.bytes = {[10] = 0xff, [11] = 0xff}};
	if (inet_pton(AF_INET, text, addr->bytes + 12) != 1 && inet_pton(AF_INET6, text, addr->bytes) != 1)
		return false;
	return inet_usable(addr);
}

/* ---- claims ---- */

const struct discovered_claim *discover_claims(struct discover *discover, size_t *count)
{
	size_t n = 0;

	*count = discover->claim_count;
	if (!discover->stale_claims)
		return discover->claims;
	for (size_t i = 0; i < discover->count; i++)
		for (size_t h = 0; h < discover->domains[i]->host_count; h++)
			for (int f = 0; f < FAMILIES; f++)
				n += discover->domains[i]->hosts[h].family[f].count;
	free(discover->claims);
	discover->claims = must(calloc(n + 1, sizeof(*discover->claims)));
	n = 0;
	for (size_t i = 0; i < discover->count; i++) {
		const struct domain *domain = discover->domains[i];
		for (size_t h = 0; h < domain->host_count; h++)
			for (int f = 0; f < FAMILIES; f++)
				for (size_t a = 0; a < domain->hosts[h].family[f].count; a++) {
					struct discovered_claim *claim = &discover->claims[n++];
					*claim = (struct discovered_claim){.domain = domain->name, .mx = domain->hosts[h].name,
									   .preference = domain->hosts[h].preference,
									   .mx_secure = domain->mx_secure};
					memcpy(claim->addr, domain->hosts[h].family[f].addrs[a].bytes, sizeof(claim->addr));
				}
	}
	discover->claim_count = *count = n;
	discover->stale_claims = false;
	return discover->claims;
}

/* ---- memory ---- */

static char *tlsa_text(const struct tlsa_set *set)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	tlsa_print(set, out);
	fclose(out);
	return text;
}

static json_t *host_json(const struct host *host)
{
	json_t *object = json_pack("{s:s, s:i}", "name", host->name, "preference", host->preference);
	char text[INET6_ADDRSTRLEN];

	for (int f = 0; f < FAMILIES; f++) {
		json_t *addrs = json_array();
		for (size_t a = 0; a < host->family[f].count; a++)
			json_array_append_new(addrs, json_string(inet_text(&host->family[f].addrs[a], text)));
		json_object_set_new(object, family_names[f].name, addrs);
		json_object_set_new(object, family_names[f].time, json_integer((json_int_t)host->family[f].good_at));
	}
	char *tlsa = tlsa_text(&host->tlsa);
	json_object_set_new(object, "tlsa", json_string(tlsa ? tlsa : ""));
	free(tlsa);
	return object;
}

json_t *discover_remember(const struct discover *discover)
{
	json_t *root = json_object();

	for (size_t i = 0; i < discover->count; i++) {
		const struct domain *domain = discover->domains[i];
		if (!domain->tried_at)
			continue;
		json_t *mx = json_array();
		for (size_t h = 0; h < domain->host_count; h++)
			json_array_append_new(mx, host_json(&domain->hosts[h]));
		json_t *object = json_pack("{s:I, s:i, s:s, s:b, s:o}", "time", (json_int_t)domain->good_at, "ttl", (int)domain->ttl,
					   "error", domain->error, "mx_secure", domain->mx_secure, "mx", mx);
		json_object_set_new(root, domain->name, object);
	}
	return root;
}

static void recall_family(struct discover *discover, struct family *family, const json_t *host, int f, uint64_t now_s)
{
	const json_t *addrs = json_object_get(host, family_names[f].name), *text;
	json_int_t good_at = json_integer_value(json_object_get(host, family_names[f].time));
	size_t i;

	if (good_at <= 0 || (uint64_t)good_at + discover->config->dns_keep_s <= now_s)
		return;
	family->good_at = (uint64_t)good_at < now_s ? (uint64_t)good_at : now_s;
	family->addrs = must(calloc(DISCOVER_ADDRESSES_MAX, sizeof(*family->addrs)));
	json_array_foreach(addrs, i, text)
	{
		struct inet *to = &family->addrs[family->count];
		if (family->count == DISCOVER_ADDRESSES_MAX || !json_is_string(text) || !inet_read(json_string_value(text), to))
			continue;
		/* As written: ascending. Anything else is not ours. */
		if (!family->count || memcmp(to - 1, to, sizeof(*to)) < 0)
			family->count++;
	}
}

static void recall_tlsa(struct discover *discover, struct tlsa_set *set, const char *text, uint64_t now_s)
{
	if (!text)
		return;
	tlsa_read(text, set);
	if (set->good_at > now_s)
		set->good_at = now_s;
	if (!set->count || set->good_at + discover->config->dns_keep_s > now_s)
		return;
	tlsa_dispose(set);
	set->state = FOUND_FAILED;
}

static void recall_domain(struct discover *discover, const char *name, const json_t *memory, struct discover_time now)
{
	struct domain *domain = discover_add(name, now);
	const json_t *mx = json_object_get(memory, "mx"), *host;
	json_int_t time = json_integer_value(json_object_get(memory, "time"));
	size_t i;

	domain->hosts = must(calloc(DISCOVER_MX_MAX, sizeof(*domain->hosts)));
	json_array_foreach(mx, i, host)
	{
		const char *host_name = json_string_value(json_object_get(host, "name"));
		if (domain->host_count == DISCOVER_MX_MAX || !host_name || !*host_name || !policy_domain_valid(host_name))
			continue;
		struct host *to = &domain->hosts[domain->host_count++];
		to->name = must(strdup(host_name));
		to->preference = (uint16_t)json_integer_value(json_object_get(host, "preference"));
		for (int f = 0; f < FAMILIES; f++)
			recall_family(discover, &to->family[f], host, f, now.unix_s);
		recall_tlsa(discover, &to->tlsa, json_string_value(json_object_get(host, "tlsa")), now.unix_s);
	}
	domain->good_at = time > 0 ? (uint64_t)time : 0;
	domain->tried_at = domain->good_at;
	domain->mx_secure = json_is_true(json_object_get(memory, "mx_secure"));
	domain->untold = true;
	discover->domains[discover->count++] = domain;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct domain *const *)a)->name, (*(struct domain *const *)b)->name);
}

void discover_recall(struct discover *discover, const json_t *memory, struct discover_time now)
{
	const char *name;
	json_t *value;

	if (discover->count || !json_is_object(memory))
		return;
	discover->domains = must(calloc(json_object_size(memory) + 1, sizeof(*discover->domains)));
	json_object_foreach((json_t *)memory, name, value)
	{
		if (*name && policy_domain_valid(name) && discover->count < DISCOVER_DOMAINS_MAX)
			recall_domain(discover, name, value, now);
	}
	qsort(discover->domains, discover->count, sizeof(*discover->domains), by_name);
	discover->stale_claims = discover->stale_hosts = true;
}

/* ---- for Redis ---- */

static char *mx_text(const struct domain *domain)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	if (domain->null_mx)
		fputc('.', out);
	for (size_t h = 0; h < domain->host_count; h++)
		fprintf(out, "%s%s", h ? " " : "", domain->hosts[h].name);
	fclose(out);
	return text;
}

static char *addresses_text(const struct domain *domain)
{
	char *text = NULL, addr[INET6_ADDRSTRLEN];
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t h = 0; h < domain->host_count; h++) {
		size_t written = 0;
		for (int f = 0; f < FAMILIES; f++)
			for (size_t a = 0; a < domain->hosts[h].family[f].count; a++) {
				if (!written)
					fprintf(out, "%s%s=", ftell(out) ? " " : "", domain->hosts[h].name);
				fprintf(out, "%s%s", written++ ? "," : "", inet_text(&domain->hosts[h].family[f].addrs[a], addr));
			}
	}
	fclose(out);
	return text;
}

static char *all_tlsa_text(const struct domain *domain)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t h = 0; h < domain->host_count; h++) {
		fprintf(out, "%s%s=", h ? " " : "", domain->hosts[h].name);
		tlsa_print(&domain->hosts[h].tlsa, out);
	}
	fclose(out);
	return text;
}

bool discover_next_untold(struct discover *discover, struct discover_row *row)
{
	for (; discover->told < discover->count; discover->told++) {
		struct domain *domain = discover->domains[discover->told];
		if (!domain->untold)
			continue;
		domain->untold = false;
		*row = (struct discover_row){.domain = domain->name, .error = domain->error, .mx = mx_text(domain),
					     .addresses = addresses_text(domain), .tlsa = all_tlsa_text(domain), .ttl = domain->ttl, .time = domain->good_at,
					     .secure = domain->secure, .mx_secure = domain->mx_secure};
		return true;
	}
	discover->told = 0;
	return false;
}

void discover_tell_again(struct discover *discover)
{
	for (size_t i = 0; i < discover->count; i++)
		discover->domains[i]->untold |= discover->domains[i]->tried_at != 0;
	discover->told = 0;
}
