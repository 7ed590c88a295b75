/*
 * findings.c - what the agent found of a server and of a domain, and which rule follows from it.
 *
 * Enters: a checked image, a server's address, a recipient's domain where it is known. Leaves: the server's MX name, the
 * state of its TLSA records, MTA-STS, a probe, when STARTTLS was seen; the rule that holds at that server; facts.
 * Each look-up is one in a hash table: its cost does not grow with what else is known.
 * Invariant: what is not known is never taken for "there is none".
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

/* Lower case and without a final dot, as the image has names; false: too long, or empty. */
static bool canonical(const char *domain, char out[IMAGE_DOMAIN_MAX + 1])
{
	size_t len = strnlen(domain, IMAGE_DOMAIN_MAX + 2);

	if (len && domain[len - 1] == '.')
		len--;
	if (!len || len > IMAGE_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] - 'A' + 'a') : domain[i];
	out[len] = '\0';
	return true;
}

/* ---- hash tables (index.c) ---- */

struct key {
	const uint8_t *addr;
	const char *name;
	uint64_t hash;
};

/* The word of the slot that `is` the key's; 0: there is none. */
static inline uint64_t search(const struct policy_image *image, const struct index_table *table, const struct key *key,
			      bool (*is)(const struct policy_image *image, const struct key *key, const uint64_t *slot))
{
	uint32_t at = (uint32_t)key->hash & table->mask;

	for (unsigned i = 0; i <= IMAGE_PROBES_MAX; i++, at = (at + 1) & table->mask) {
		const uint64_t *slot = table->slots + (size_t)at * table->words;

		if (!slot[table->words - 1])
			return 0;
		if (is(image, key, slot))
			return slot[table->words - 1];
	}
	return 0;
}

static bool is_addr(const struct policy_image *image, const struct key *key, const uint64_t *slot)
{
	(void)image;
	return memcmp(key->addr, slot, 16) == 0;
}

static bool is_server(const struct policy_image *image, const struct key *key, const uint64_t *slot)
{
	uint64_t word = slot[INDEX_BY_ADDR - 1];

	return memcmp(key->addr, slot, 16) == 0 && index_server_tagged(word, key->hash) && strcmp(key->name, image->strings + index_name(word)) == 0;
}

static bool is_sts(const struct policy_image *image, const struct key *key, const uint64_t *slot)
{
	return index_sts_tagged(*slot, key->hash) && strcmp(key->name, image->strings + index_name(*slot)) == 0;
}

/* Index of the element of that address; IMAGE_NONE. */
static uint32_t find_addr(const struct policy_image *image, const struct index_table *table, const uint8_t addr[16])
{
	const struct key key = {.addr = addr, .hash = table->slots ? policy_index_addr(table, addr) : 0};

	return table->slots ? (uint32_t)search(image, table, &key, is_addr) - 1 : IMAGE_NONE;
}

/* ---- servers ---- */

/* What goes by that address for the domain. */
struct known {
	uint32_t host;        /* IMAGE_NONE: none of the image's hosts */
	uint32_t destination; /* whose server it is, where it is not the domain's; IMAGE_NONE */
	enum policy_tlsa tlsa;
	bool mx_secure;
};

static struct known known_of(const struct policy_image *image, const uint8_t addr[16], const char *domain)
{
	const struct index_table *table = &image->index.servers;
	char name[IMAGE_DOMAIN_MAX + 1];
	struct known out = {.destination = IMAGE_NONE, .mx_secure = !domain};

	if (table->slots && domain && canonical(domain, name)) {
		const struct key key = {addr, name, policy_index_pair(table, addr, name)};
		uint64_t word = search(image, table, &key, is_server);

		out.host = index_element(word);
		out.tlsa = (enum policy_tlsa)index_tlsa(word);
		out.mx_secure = index_mx_secure(word);
		if (word)
			return out;
	}
	out.destination = policy_destination_of(image, addr);
	out.host = image->index.destination_hosts[out.destination];
	if (out.host != IMAGE_NONE)
		out.tlsa = (enum policy_tlsa)image->hosts[out.host].tlsa;
	return out;
}

struct policy_server policy_server_of(const struct policy_image *image, const uint8_t addr[16], const char *domain)
{
	struct known known = known_of(image, addr, domain);
	struct policy_server out = {.tlsa = known.tlsa, .mx_secure = known.mx_secure};
	uint32_t servername;

	if (known.host != IMAGE_NONE) {
		const struct image_host *host = &image->hosts[known.host];

		out.mx = image->strings + host->name;
		out.base = image->strings + host->base;
		out.records = image->tlsa + host->tlsa_first;
		out.record_count = host->tlsa_count;
		return out;
	}
	servername = image->destinations[known.destination].servername;
	if (servername)
		out.mx = out.base = image->strings + servername;
	return out;
}

const uint8_t *policy_tlsa_data(const struct policy_image *image, const struct image_tlsa *record)
{
	return image->octets + record->octets_first;
}

/* ---- rules ---- */

/* Are there records that speak for the server, or might there be? Of a domain that the agent asks about, what is not known
 * may be there. What it cannot ask about, the subdomains of a parent rule or all the world's, is not held against anybody. */
static bool dane_speaks(const struct policy_image *image, const struct image_rule *rule, enum policy_tlsa tlsa, const char *domain)
{
	switch (tlsa) {
	case TLSA_NONE:
		return false;
	case TLSA_SECURE:
	case TLSA_UNUSABLE:
	case TLSA_FAILED:
		return true;
	case TLSA_UNKNOWN:
		break;
	}
	if (rule->origin != ORIGIN_OPERATOR || !domain)
		return false;
	return rule->kind == POLICY_DOMAIN || (rule->kind == POLICY_PROVIDER && policy_domain_listed(image, domain));
}

/* A rule of DANE's own, without an operator's level, is none at all where no records speak. */
static bool waits_for_dane(const struct image_rule *rule)
{
	return rule->level == LEVEL_DANE && (rule->origin == ORIGIN_DANE || rule->otherwise != IMAGE_NONE);
}

/* MTA-STS that is only observed, in testing, is counted beside what holds meanwhile. */
static bool only_counted(const struct image_rule *rule)
{
	return rule->origin == ORIGIN_STS && rule->mode == MODE_OBSERVE;
}

const struct image_rule *policy_rule_at(const struct policy_image *image, const struct image_rule *rule, const uint8_t addr[16], const char *domain)
{
	enum policy_tlsa tlsa;

	if (!waits_for_dane(rule) && !only_counted(rule))
		return rule;
	tlsa = known_of(image, addr, domain).tlsa;
	for (unsigned steps = 0; steps <= IMAGE_OTHERWISE_MAX; steps++) {
		if (!only_counted(rule) && (!waits_for_dane(rule) || dane_speaks(image, rule, tlsa, domain)))
			return rule;
		if (rule->otherwise == IMAGE_NONE)
			break;
		rule = &image->rules[rule->otherwise];
	}
	return NULL;
}

const struct image_rule *policy_testing_rule(const struct policy_image *image, const struct image_rule *rule, const char *domain)
{
	const struct image_sts *sts = rule && rule->origin == ORIGIN_DANE ? NULL : policy_sts_of(image, domain);

	return sts && sts->rule != IMAGE_NONE && only_counted(&image->rules[sts->rule]) ? &image->rules[sts->rule] : NULL;
}

const char *policy_rule_nexthop(const struct policy_image *image, const struct image_rule *rule)
{
	return rule->kind == POLICY_DOMAIN ? image->strings + rule->name : NULL;
}

const char *policy_rule_title(const struct policy_image *image, const struct image_rule *rule, char out[POLICY_TITLE_MAX])
{
	static const char *const origins[] = {[ORIGIN_OPERATOR] = "", [ORIGIN_DANE] = "DANE of ", [ORIGIN_STS] = "MTA-STS of "};

	snprintf(out, POLICY_TITLE_MAX, "%s%.*s", origins[rule->origin], IMAGE_DOMAIN_MAX, image->strings + rule->name);
	return out;
}

/* ---- MTA-STS, probes, what was seen ---- */

const struct image_sts *policy_sts_of(const struct policy_image *image, const char *domain)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	const struct index_table *table = &image->index.sts;
	struct key key = {.name = name};
	uint64_t word;

	if (!table->slots || !canonical(domain, name))
		return NULL;
	key.hash = policy_index_name(table, name);
	word = search(image, table, &key, is_sts);
	return word ? &image->sts[index_element(word)] : NULL;
}

const struct image_probed *policy_probed_at(const struct policy_image *image, const uint8_t addr[16])
{
	uint32_t at = find_addr(image, &image->index.probed, addr);

	return at == IMAGE_NONE ? NULL : &image->probed[at];
}

const char *policy_probed_name(const struct policy_image *image, const struct image_probed *probed, uint32_t i)
{
	return i < probed->name_count ? image->strings + image->probed_names[probed->name_first + i] : "";
}

const struct image_seen *policy_seen_at(const struct policy_image *image, const uint8_t addr[16])
{
	uint32_t at = find_addr(image, &image->index.seen, addr);

	return at == IMAGE_NONE ? NULL : &image->seen[at];
}

enum policy_reason policy_sts_reason(enum policy_sts_error error)
{
	switch (error) {
	case STS_OK:
		break;
	case STS_FETCH_ERROR:
		return REASON_STS_FETCH;
	case STS_POLICY_INVALID:
		return REASON_STS_INVALID;
	case STS_WEBPKI_INVALID:
		return REASON_STS_WEBPKI;
	}
	return REASON_SEALED;
}

/* ---- facts ---- */

void policy_facts_of_server(const struct policy_image *image, const struct image_rule *rule, const struct policy_server *server,
			    struct policy_facts *facts)
{
	facts->tlsa = server->tlsa;
	facts->mx_secure = server->mx_secure;
	facts->mx_foreign = rule->origin == ORIGIN_STS && server->mx && !policy_mx_named(image, rule, server->mx);
}

void policy_facts_of_probe(const struct policy_image *image, const struct image_rule *rule, const uint8_t addr[16], const char *nexthop,
			   uint64_t now_s, struct policy_facts *facts)
{
	const struct image_probed *probed = policy_probed_at(image, addr);
	struct policy_server server = policy_server_of(image, addr, nexthop);

	if (!probed || !probed->version || probed->at + POLICY_PROBE_AGE_MAX_S < now_s)
		return;
	facts->chain = (enum policy_chain)probed->chain;
	facts->dane = (enum policy_dane)probed->dane;
	facts->fingerprint_matched = policy_fingerprint_matches(image, rule, probed->certificate_sha256, probed->key_sha256, now_s);
	for (uint32_t i = 0; i < probed->name_count && !facts->name_matched; i++)
		facts->name_matched = policy_name_matches(image, rule, policy_probed_name(image, probed, i), nexthop, server.mx);
}
