/*
 * servers.c - what the agent found of servers, as the image holds it: hosts with their TLSA records, which address goes by
 * which name for which domain, probes, and where STARTTLS was seen.
 *
 * Enters: struct discovered, all of it from outside. Leaves: sorted sections. Each finding is checked again here, and one
 * that no image can hold is left out alone, counted and named: one hostile zone must not cost others their image.
 * Of TLSA records only the usable ones stay (RFC 7672, section 2.1.3); where there are some and none is usable, the host's state says so.
 */
#include "compile.h"

#include <string.h>

#define SEEN_AGE_MAX_S 7776000u /* 90 days without STARTTLS: its absence is no news any more */

void discovered_refuse(struct discovered *d, const char *what, const char *name, const char *why)
{
	char shown[128];
	size_t n = 0;

	for (; name[n] && n < sizeof(shown) - 1; n++)
		shown[n] = name[n] > ' ' && name[n] <= '~' ? name[n] : '?';
	shown[n] = '\0';
	if (!d->refused++)
		snprintf(d->refusal, sizeof(d->refusal), "%s %s: %s", what, shown, why);
}

static const char *addr_text(const uint8_t addr[16], char out[NET_TEXT_MAX])
{
	struct net net = discovered_net(addr);

	net_print(&net, out);
	return out;
}

struct discovered_claim *discovered_claims_valid(struct discovered *d, size_t *count)
{
	struct discovered_claim *valid = must(calloc(d->count + 1, sizeof(*valid)));

	*count = 0;
	for (size_t i = 0; i < d->count; i++) {
		const struct discovered_claim *claim = &d->claims[i];

		if (!policy_domain_valid(claim->domain))
			discovered_refuse(d, "domain", claim->domain, "no name that an image can hold");
		else if (!policy_domain_valid(claim->mx))
			discovered_refuse(d, "MX", claim->mx, "no host name");
		else
			valid[(*count)++] = *claim;
	}
	return valid;
}

/* ---- hosts ---- */

/* A host as it was found, or as a claim alone names it. */
struct named_host {
	const char *name;
	const struct discovered_host *found; /* NULL */
};

static int by_name(const void *a, const void *b)
{
	const struct named_host *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->found == NULL) - (y->found == NULL);
}

static bool usable(const struct discovered_tlsa *t)
{
	static const uint16_t digest[] = {[1] = 32, [2] = 64};

	if (t->usage < 2 || t->usage > 3 || t->selector > 1 || t->matching > 2)
		return false;
	return t->matching ? t->len == digest[t->matching] : t->len > 0 && t->len <= IMAGE_TLSA_BYTES_MAX;
}

static void add_record(struct servers *s, const struct discovered_tlsa *t)
{
	if (s->tlsa_count == s->tlsa_room) {
		s->tlsa_room = s->tlsa_room ? s->tlsa_room * 2 : 64;
		s->tlsa = must(realloc(s->tlsa, s->tlsa_room * sizeof(*s->tlsa)));
	}
	if (s->octet_count + t->len > s->octet_room) {
		s->octet_room = (s->octet_count + t->len) * 2;
		s->octets = must(realloc(s->octets, s->octet_room));
	}
	s->tlsa[s->tlsa_count++] = (struct image_tlsa){.octets_first = (uint32_t)s->octet_count, .octets_count = t->len, .usage = t->usage,
						       .selector = t->selector, .matching = t->matching};
	memcpy(s->octets + s->octet_count, t->data, t->len);
	s->octet_count += t->len;
}

/* What of it is usable; a set that cannot be held whole cannot be judged by, and is as good as no answer. */
static void add_records(struct servers *s, struct discovered *d, const struct discovered_host *found, struct image_host *out)
{
	size_t count = 0, octets = 0;

	out->tlsa = (uint8_t)(found->tlsa <= TLSA_FAILED ? found->tlsa : TLSA_FAILED);
	if (out->tlsa != TLSA_SECURE)
		return;
	for (size_t i = 0; i < found->record_count; i++) {
		count += usable(&found->records[i]);
		octets += usable(&found->records[i]) ? found->records[i].len : 0;
	}
	if (!found->record_count || count > IMAGE_HOST_TLSA_MAX || s->tlsa_count + count > IMAGE_TLSA_MAX ||
	    s->octet_count + octets > IMAGE_OCTETS_MAX) {
		discovered_refuse(d, "TLSA of", found->mx, found->record_count ? "more than can be held" : "secure, and not one record");
		out->tlsa = TLSA_FAILED;
		return;
	}
	for (size_t i = 0; i < found->record_count; i++)
		if (usable(&found->records[i]))
			add_record(s, &found->records[i]);
	out->tlsa_count = (uint32_t)count;
	out->tlsa = count ? TLSA_SECURE : TLSA_UNUSABLE;
}

static void build_hosts(struct servers *s, struct strings *strings, struct discovered *d)
{
	struct named_host *names = must(calloc(d->count + d->host_count + 1, sizeof(*names)));
	size_t count = 0;

	for (size_t i = 0; i < d->host_count; i++) {
		const struct discovered_host *host = &d->hosts[i];

		if (!policy_domain_valid(host->mx) || (host->base && !policy_domain_valid(host->base)))
			discovered_refuse(d, "MX", host->mx, "it, or its TLSA base domain, is no host name");
		else
			names[count++] = (struct named_host){host->mx, host};
	}
	for (size_t i = 0; i < d->count; i++)
		names[count++] = (struct named_host){d->claims[i].mx, NULL};
	qsort(names, count, sizeof(*names), by_name);
	s->hosts = must(calloc(count + 1, sizeof(*s->hosts)));
	for (size_t i = 0; i < count && s->host_count < IMAGE_HOSTS_MAX; i++) {
		struct image_host *host = &s->hosts[s->host_count];

		if (i && strcmp(names[i - 1].name, names[i].name) == 0)
			continue;
		*host = (struct image_host){.name = strings_put(strings, names[i].name), .tlsa_first = (uint32_t)s->tlsa_count};
		host->base = names[i].found && names[i].found->base ? strings_put(strings, names[i].found->base) : host->name;
		if (names[i].found)
			add_records(s, d, names[i].found, host);
		s->host_count++;
	}
	free(names);
}

struct host_sought {
	const struct servers *servers;
	const struct strings *strings;
	const char *name;
};

static const char *host_name(const struct host_sought *sought, size_t place)
{
	return sought->strings->bytes + sought->servers->hosts[place].name;
}

static bool host_below(const void *looked_for, size_t place)
{
	const struct host_sought *sought = looked_for;

	return strcmp(host_name(sought, place), sought->name) < 0;
}

static uint32_t host_index(const struct servers *s, const struct strings *strings, const char *name)
{
	struct host_sought sought = {s, strings, name};
	size_t at = first_not_below(s->host_count, host_below, &sought);

	return at < s->host_count && !strcmp(host_name(&sought, at), name) ? (uint32_t)at : IMAGE_NONE;
}

/* ---- addresses ---- */

struct claimed {
	const struct discovered_claim *claim;
	uint32_t host;
	uint8_t rank; /* of two names of one preference the one whose records bind */
};

static int by_pair(const void *a, const void *b)
{
	const struct claimed *x = a, *y = b;
	int order = memcmp(x->claim->addr, y->claim->addr, 16);

	if (!order)
		order = strcmp(x->claim->domain, y->claim->domain);
	if (!order)
		order = (int)x->claim->preference - (int)y->claim->preference;
	if (!order)
		order = (int)y->rank - (int)x->rank;
	return order ? order : strcmp(x->claim->mx, y->claim->mx);
}

static void build_servers(struct servers *s, struct strings *strings, struct discovered *d)
{
	static const uint8_t ranks[] = {[TLSA_UNKNOWN] = 0, [TLSA_NONE] = 1, [TLSA_UNUSABLE] = 2, [TLSA_FAILED] = 3, [TLSA_SECURE] = 4};
	struct claimed *all = must(calloc(d->count + 1, sizeof(*all)));
	size_t count = 0;

	for (size_t i = 0; i < d->count; i++) {
		uint32_t host = host_index(s, strings, d->claims[i].mx);

		if (host != IMAGE_NONE)
			all[count++] = (struct claimed){&d->claims[i], host, ranks[s->hosts[host].tlsa]};
	}
	qsort(all, count, sizeof(*all), by_pair);
	s->servers = must(calloc(count + 1, sizeof(*s->servers)));
	for (size_t i = 0; i < count; i++) {
		const struct discovered_claim *claim = all[i].claim;

		if (i && !memcmp(all[i - 1].claim->addr, claim->addr, 16) && !strcmp(all[i - 1].claim->domain, claim->domain))
			continue;
		if (s->server_count == IMAGE_SERVERS_MAX) {
			d->left_out++;
			continue;
		}
		struct image_server *out = &s->servers[s->server_count++];
		*out = (struct image_server){.domain = strings_put(strings, claim->domain), .host = all[i].host, .mx_secure = claim->mx_secure};
		memcpy(out->addr, claim->addr, 16);
	}
	free(all);
}

/* ---- probes, and what was seen ---- */

static int by_probe(const void *a, const void *b)
{
	const struct discovered_probe *x = *(const struct discovered_probe *const *)a, *y = *(const struct discovered_probe *const *)b;
	int order = memcmp(x->addr, y->addr, 16);

	return order ? order : (x->at < y->at) - (x->at > y->at); /* the newest first */
}

static bool add_probe_name(struct servers *s, struct strings *strings, const char *name)
{
	char canonical[IMAGE_DOMAIN_MAX + 3];
	struct why why;

	if (pattern_parse(name, canonical, &why) != 0 || canonical[0] == '.')
		return false;
	if (s->probed_name_count == s->probed_name_room) {
		s->probed_name_room = s->probed_name_room ? s->probed_name_room * 2 : 64;
		s->probed_names = must(realloc(s->probed_names, s->probed_name_room * sizeof(*s->probed_names)));
	}
	s->probed_names[s->probed_name_count++] = strings_put(strings, canonical);
	return true;
}

static void add_probe(struct servers *s, struct strings *strings, struct discovered *d, const struct discovered_probe *probe)
{
	char text[NET_TEXT_MAX];
	struct image_probed *out = &s->probed[s->probed_count];

	if (probe->chain > CHAIN_INVALID || probe->dane > DANE_INVALID || s->probed_count == IMAGE_PROBED_MAX) {
		discovered_refuse(d, "probe of", addr_text(probe->addr, text), "not a posture, or one too many");
		return;
	}
	*out = (struct image_probed){.at = probe->at, .version = probe->version, .chain = (uint8_t)probe->chain, .dane = (uint8_t)probe->dane,
				     .name_first = (uint32_t)s->probed_name_count};
	memcpy(out->addr, probe->addr, 16);
	memcpy(out->certificate_sha256, probe->certificate_sha256, 32);
	memcpy(out->key_sha256, probe->key_sha256, 32);
	for (size_t i = 0; i < probe->name_count && out->name_count < IMAGE_PROBED_NAMES_MAX; i++)
		out->name_count += add_probe_name(s, strings, probe->names[i]);
	s->probed_count++;
}

static void build_probed(struct servers *s, struct strings *strings, struct discovered *d)
{
	const struct discovered_probe **order = must(calloc(d->probe_count + 1, sizeof(*order)));

	for (size_t i = 0; i < d->probe_count; i++)
		order[i] = &d->probes[i];
	qsort(order, d->probe_count, sizeof(*order), by_probe);
	s->probed = must(calloc(d->probe_count + 1, sizeof(*s->probed)));
	for (size_t i = 0; i < d->probe_count; i++)
		if (!i || memcmp(order[i - 1]->addr, order[i]->addr, 16) != 0)
			add_probe(s, strings, d, order[i]);
	free(order);
}

static int by_seen(const void *a, const void *b)
{
	const struct image_seen *x = a, *y = b;
	int order = memcmp(x->addr, y->addr, 16);

	return order ? order : (x->at < y->at) - (x->at > y->at);
}

static void build_seen(struct servers *s, struct discovered *d, uint64_t now)
{
	size_t count = 0;

	s->seen = must(calloc(d->seen_count + 1, sizeof(*s->seen)));
	for (size_t i = 0; i < d->seen_count; i++) {
		if (d->seen[i].at + SEEN_AGE_MAX_S <= now)
			continue;
		s->seen[count].at = d->seen[i].at;
		memcpy(s->seen[count++].addr, d->seen[i].addr, 16);
	}
	qsort(s->seen, count, sizeof(*s->seen), by_seen);
	for (size_t i = 0; i < count; i++)
		if (!i || memcmp(s->seen[s->seen_count - 1].addr, s->seen[i].addr, 16) != 0)
			s->seen[s->seen_count++] = s->seen[i];
	d->left_out += s->seen_count > IMAGE_SEEN_MAX ? s->seen_count - IMAGE_SEEN_MAX : 0;
	s->seen_count = s->seen_count > IMAGE_SEEN_MAX ? IMAGE_SEEN_MAX : s->seen_count;
}

void servers_build(struct servers *s, struct strings *strings, struct discovered *d, uint64_t now)
{
	build_hosts(s, strings, d);
	build_servers(s, strings, d);
	build_probed(s, strings, d);
	build_seen(s, d, now);
}

void servers_dispose(struct servers *s)
{
	free(s->servers);
	free(s->hosts);
	free(s->tlsa);
	free(s->octets);
	free(s->probed);
	free(s->probed_names);
	free(s->seen);
}

/* ---- domains ---- */

static int by_offset(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

uint32_t *servers_bound(const struct servers *s, size_t *count)
{
	uint32_t *domains = must(calloc(s->server_count + 1, sizeof(*domains)));

	*count = 0;
	for (size_t i = 0; i < s->server_count; i++)
		if (s->hosts[s->servers[i].host].tlsa >= TLSA_SECURE)
			domains[(*count)++] = s->servers[i].domain;
	qsort(domains, *count, sizeof(*domains), by_offset);
	return domains;
}

bool servers_binds(const uint32_t *bound, size_t count, uint32_t domain)
{
	return bsearch(&domain, bound, count, sizeof(*bound), by_offset) != NULL;
}
