/*
 * tlsa.c - the TLSA records of one MX: from rdata, as a text and back, compared and copied.
 *
 * Which of them can be used is not judged here (RFC 7672, section 2.2: records that nobody can use still ask for TLS);
 * only what is no TLSA at all, or past a limit, makes the whole set a failed one, because whoever leaves out a record
 * may leave out the one that matches. The text is findings.h's "STATE@TIME[,U-S-M-HEX]...".
 */
#include "../probe/tlsa.h"
#include "private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES TLSA_HEAD_BYTES

const char *const found_tlsa_names[FOUND_STATES] = {
	[FOUND_UNASKED] = "unasked", [FOUND_NONE] = "none", [FOUND_INSECURE] = "none-insecure", [FOUND_SECURE] = "secure", [FOUND_FAILED] = "failed",
};

void tlsa_dispose(struct tlsa_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		free((void *)set->records[i].data);
	free(set->records);
	*set = (struct tlsa_set){.state = set->state};
}

static int by_record(const void *a, const void *b)
{
	const struct discovered_tlsa *x = a, *y = b;
	int order = memcmp((uint8_t[]){x->usage, x->selector, x->matching}, (uint8_t[]){y->usage, y->selector, y->matching}, HEAD_BYTES);

	if (!order)
		order = (int)x->len - (int)y->len;
	return order ? order : memcmp(x->data, y->data, x->len);
}

static const uint8_t *copy_of(const uint8_t *data, size_t len)
{
	return memcpy(must(malloc(len)), data, len);
}

static void add(struct tlsa_set *set, const uint8_t *rdata, size_t len)
{
	struct discovered_tlsa *to = &set->records[set->count++];

	*to = (struct discovered_tlsa){.usage = rdata[0], .selector = rdata[1], .matching = rdata[2], .len = (uint16_t)(len - HEAD_BYTES)};
	to->data = copy_of(rdata + HEAD_BYTES, to->len);
}

static bool length_is_sane(size_t len)
{
	return len > HEAD_BYTES && len <= TLSA_RDATA_MAX;
}

static void sort(struct tlsa_set *set)
{
	size_t kept = 0;

	qsort(set->records, set->count, sizeof(*set->records), by_record);
	for (size_t i = 0; i < set->count; i++)
		if (kept && by_record(&set->records[kept - 1], &set->records[i]) == 0)
			free((void *)set->records[i].data);
		else
			set->records[kept++] = set->records[i];
	set->count = kept;
}

void records_tlsa(const struct discover_answer *answer, struct tlsa_set *set)
{
	tlsa_dispose(set);
	set->state = FOUND_SECURE;
	if (answer->count > DISCOVER_TLSA_MAX)
		set->state = FOUND_FAILED;
	for (size_t i = 0; i < answer->count; i++)
		if (!length_is_sane((size_t)answer->len[i]))
			set->state = FOUND_FAILED;
	if (set->state == FOUND_FAILED)
		return;
	set->records = must(calloc(answer->count + 1, sizeof(*set->records)));
	for (size_t i = 0; i < answer->count; i++)
		add(set, answer->data[i], (size_t)answer->len[i]);
	sort(set);
}

bool tlsa_equal(const struct tlsa_set *a, const struct tlsa_set *b)
{
	if (a->state != b->state || a->count != b->count || a->bogus != b->bogus || a->below_alias != b->below_alias)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (by_record(&a->records[i], &b->records[i]) != 0)
			return false;
	return true;
}

void tlsa_copy(struct tlsa_set *to, const struct tlsa_set *from)
{
	bool bogus = to->bogus;

	tlsa_dispose(to);
	to->bogus = bogus;
	to->good_at = from->good_at;
	to->below_alias = from->below_alias;
	to->count = from->count;
	to->records = must(calloc(from->count + 1, sizeof(*to->records)));
	for (size_t i = 0; i < from->count; i++) {
		to->records[i] = from->records[i];
		to->records[i].data = copy_of(from->records[i].data, from->records[i].len);
	}
}

/* ---- text ---- */

void tlsa_print(const struct tlsa_set *set, FILE *out)
{
	fprintf(out, "%s@%" PRIu64, found_tlsa_names[set->state], set->good_at);
	for (size_t i = 0; i < set->count; i++) {
		const struct discovered_tlsa *record = &set->records[i];
		fprintf(out, ",%u-%u-%u-", record->usage, record->selector, record->matching);
		for (size_t b = 0; b < record->len; b++)
			fprintf(out, "%02x", record->data[b]);
	}
}

void tlsa_read(const char *text, struct tlsa_set *set)
{
	static uint8_t rdata[TLSA_RDATA_MAX];
	char *copy = must(strdup(text)), *state = NULL, *head = strtok_r(copy, ",", &state);
	char *time = head ? strchr(head, '@') : NULL;

	tlsa_dispose(set);
	set->state = FOUND_UNASKED;
	if (time)
		*time++ = 0;
	for (int s = 0; time && s < FOUND_STATES; s++)
		if (!strcmp(head, found_tlsa_names[s]))
			set->state = (enum found_tlsa)s;
	set->good_at = time ? strtoull(time, NULL, 10) : 0;
	if (set->state != FOUND_UNASKED)
		set->records = must(calloc(DISCOVER_TLSA_MAX, sizeof(*set->records)));
	for (char *one; set->state != FOUND_UNASKED && (one = strtok_r(NULL, ",", &state));) {
		size_t len = tlsa_record_read(one, rdata);
		if (!len || set->count == DISCOVER_TLSA_MAX) { /* not ours: believe none of it */
			tlsa_dispose(set);
			set->state = FOUND_UNASKED;
			break;
		}
		add(set, rdata, len);
	}
	if (set->count)
		sort(set);
	free(copy);
}

/* ---- for the compiler ---- */

/* The last known records still hold where the DNS is merely silent; where it is bogus nobody knows. */
static enum policy_tlsa state_of(const struct tlsa_set *set)
{
	switch (set->state) {
	case FOUND_NONE:
	case FOUND_INSECURE:
		return TLSA_NONE;
	case FOUND_SECURE:
		return TLSA_SECURE;
	case FOUND_FAILED:
		return set->count && !set->bogus ? TLSA_SECURE : TLSA_FAILED;
	case FOUND_UNASKED:
	case FOUND_STATES:
		break;
	}
	return TLSA_UNKNOWN;
}

struct found_host {
	struct discovered_host host;
	uint64_t good_at;
};

static int by_name_then_age(const void *a, const void *b)
{
	const struct found_host *x = a, *y = b;
	int order = strcmp(x->host.mx, y->host.mx);

	return order ? order : (x->good_at < y->good_at) - (x->good_at > y->good_at);
}

const struct discovered_host *discover_hosts(struct discover *discover, size_t *count)
{
	size_t n = 0, kept = 0;

	*count = discover->host_count;
	if (!discover->stale_hosts)
		return discover->hosts;
	for (size_t i = 0; i < discover->count; i++)
		n += discover->domains[i]->host_count;
	struct found_host *all = must(calloc(n + 1, sizeof(*all)));
	n = 0;
	for (size_t i = 0; i < discover->count; i++)
		for (size_t h = 0; h < discover->domains[i]->host_count; h++) {
			const struct host *host = &discover->domains[i]->hosts[h];
			enum policy_tlsa state = state_of(&host->tlsa);
			if (state == TLSA_UNKNOWN)
				continue;
			all[n++] = (struct found_host){.good_at = host->tlsa.good_at,
						       .host = {.mx = host->name, .base = host->tlsa.below_alias ? host->alias : NULL, .tlsa = state,
								.records = state == TLSA_SECURE ? host->tlsa.records : NULL,
								.record_count = state == TLSA_SECURE ? host->tlsa.count : 0}};
		}
	qsort(all, n, sizeof(*all), by_name_then_age);
	free(discover->hosts);
	discover->hosts = must(calloc(n + 1, sizeof(*discover->hosts)));
	for (size_t i = 0; i < n; i++) /* one server of many domains: the newest answer of one name */
		if (!kept || strcmp(discover->hosts[kept - 1].mx, all[i].host.mx) != 0)
			discover->hosts[kept++] = all[i].host;
	free(all);
	discover->stale_hosts = false;
	discover->host_count = *count = kept;
	return discover->hosts;
}

static void servers_of(const struct domain *domain, void (*each)(void *context, const struct discover_server *server), void *context)
{
	for (size_t h = 0; h < domain->host_count; h++) {
		const struct host *host = &domain->hosts[h];
		bool secure = state_of(&host->tlsa) == TLSA_SECURE;
		struct discover_server server = {.domain = domain->name, .mx = host->name, .base = host->tlsa.below_alias ? host->alias : NULL,
						 .records = secure ? host->tlsa.records : NULL, .record_count = secure ? host->tlsa.count : 0};
		for (int f = 0; f < FAMILIES; f++)
			for (size_t a = 0; a < host->family[f].count; a++) {
				memcpy(server.addr, host->family[f].addrs[a].bytes, sizeof(server.addr));
				each(context, &server);
			}
	}
}

void discover_servers(const struct discover *discover, const char *const *domains, size_t count,
		      void (*each)(void *context, const struct discover_server *server), void *context)
{
	for (size_t i = 0, d = 0; i < count && d < discover->count;) {
		int order = strcmp(domains[i], discover->domains[d]->name);
		if (order == 0)
			servers_of(discover->domains[d], each, context);
		i += order <= 0;
		d += order >= 0;
	}
}
