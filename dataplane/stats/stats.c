/*
 * stats.c - one worker's counters and destinations, and their sums.
 *
 * Written by one worker, read by others meanwhile: every number is a word of its own, stored and loaded
 * whole; a destination is made complete before its pointer is published, and is never moved or freed
 * while the process runs. Sums are therefore of one moment per number, not of one moment overall.
 */
#include "stats.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SLOTS (STATS_DESTINATIONS_MAX * 2) /* at most half full */
#define OTHER "(other)"

struct stats {
	uint64_t counters[STATS_COUNTERS_N];
	struct stats_destination *slots[SLOTS];                  /* by name */
	struct stats_destination *list[STATS_DESTINATIONS_MAX];  /* in the order they were made */
	_Atomic unsigned count;
	struct stats_destination other; /* the last one, once the table is full */
};

/* The numbers of a destination are one array behind its name. */
#define NUMBERS_AT offsetof(struct stats_destination, sessions)
#define NUMBERS ((sizeof(struct stats_destination) - NUMBERS_AT) / sizeof(uint64_t))
_Static_assert(NUMBERS_AT == STATS_NAME_MAX, "a destination is a name and numbers");

struct stats *stats_new(void)
{
	struct stats *stats = calloc(1, sizeof(*stats));

	if (stats)
		strcpy(stats->other.name, OTHER);
	return stats;
}

void stats_free(struct stats *stats)
{
	if (!stats)
		return;
	for (unsigned i = 0; i < stats->count; i++)
		if (stats->list[i] != &stats->other)
			free(stats->list[i]);
	free(stats);
}

void stats_add(struct stats *stats, enum stats_counter counter, uint64_t n)
{
	__atomic_store_n(&stats->counters[counter], stats->counters[counter] + n, __ATOMIC_RELAXED);
}

uint64_t stats_get(const struct stats *stats, enum stats_counter counter)
{
	return __atomic_load_n(&stats->counters[counter], __ATOMIC_RELAXED);
}

static struct stats_destination *publish(struct stats *stats, struct stats_destination *destination)
{
	stats->list[stats->count] = destination;
	atomic_store_explicit(&stats->count, stats->count + 1, memory_order_release);
	return destination;
}

static struct stats_destination *other(struct stats *stats)
{
	if (stats->count == 0 || stats->list[stats->count - 1] != &stats->other)
		publish(stats, &stats->other);
	return &stats->other;
}

struct stats_destination *stats_destination(struct stats *stats, const char *name)
{
	size_t len = strnlen(name, STATS_NAME_MAX - 1);
	size_t slot = XXH3_64bits(name, len) % SLOTS;

	for (; stats->slots[slot]; slot = (slot + 1) % SLOTS)
		if (!strncmp(stats->slots[slot]->name, name, len) && !stats->slots[slot]->name[len])
			return stats->slots[slot];
	if (stats->count >= STATS_DESTINATIONS_MAX - 1) /* the last place is for all others */
		return other(stats);
	struct stats_destination *made = calloc(1, sizeof(*made));
	if (!made)
		return stats->count ? stats->list[0] : &stats->other;
	memcpy(made->name, name, len);
	stats->slots[slot] = made;
	return publish(stats, made);
}

void stats_sum(struct stats *const *workers, unsigned n, uint64_t total[STATS_COUNTERS_N])
{
	memset(total, 0, STATS_COUNTERS_N * sizeof(total[0]));
	for (unsigned w = 0; w < n; w++)
		for (unsigned c = 0; c < STATS_COUNTERS_N; c++)
			total[c] += stats_get(workers[w], c);
}

static void add(struct stats_destination *to, const struct stats_destination *from)
{
	uint64_t *sum = (uint64_t *)((char *)to + NUMBERS_AT);
	const uint64_t *number = (const uint64_t *)((const char *)from + NUMBERS_AT);

	for (size_t i = 0; i < NUMBERS; i++)
		sum[i] += __atomic_load_n(&number[i], __ATOMIC_RELAXED);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct stats_destination *)a)->name, ((const struct stats_destination *)b)->name);
}

/* Equal names stand together once sorted: they are folded into the first of them. */
static unsigned merge(struct stats_destination *all, unsigned count)
{
	unsigned kept = 0;

	qsort(all, count, sizeof(*all), by_name);
	for (unsigned i = 0; i < count; i++)
		if (kept && !strcmp(all[kept - 1].name, all[i].name))
			add(&all[kept - 1], &all[i]);
		else if (kept != i)
			all[kept++] = all[i];
		else
			kept++;
	return kept;
}

struct stats_destination *stats_sum_destinations(struct stats *const *workers, unsigned n, unsigned *count)
{
	unsigned total = 0, counts[64] = {0};

	*count = 0;
	n = n < 64 ? n : 64;
	for (unsigned w = 0; w < n; w++)
		total += counts[w] = atomic_load_explicit(&workers[w]->count, memory_order_acquire);
	struct stats_destination *all = calloc(total + 1, sizeof(*all));
	if (!all)
		return NULL;
	for (unsigned w = 0; w < n; w++)
		for (unsigned i = 0; i < counts[w]; i++) {
			memcpy(all[*count].name, workers[w]->list[i]->name, STATS_NAME_MAX);
			add(&all[(*count)++], workers[w]->list[i]);
		}
	*count = merge(all, *count);
	return all;
}

const char *stats_counter_name(enum stats_counter counter)
{
	static const char *const names[STATS_COUNTERS_N] = {
#define X(name, help) #name,
		STATS_COUNTERS(X)
#undef X
	};
	return names[counter];
}

const char *stats_counter_help(enum stats_counter counter)
{
	static const char *const helps[STATS_COUNTERS_N] = {
#define X(name, help) help,
		STATS_COUNTERS(X)
#undef X
	};
	return helps[counter];
}

const char *stats_end_name(enum stats_end end)
{
	static const char *const names[STATS_ENDS] = {
		[END_SEALED] = "sealed", [END_UPGRADED] = "upgraded", [END_CLEAR] = "clear", [END_DEFERRED] = "deferred",
		[END_REJECTED] = "rejected", [END_CUT] = "cut", [END_UNKNOWN] = "unknown", [END_NOTHING] = "nothing",
	};
	return names[end];
}

const char *stats_recipient_name(enum stats_recipient recipient)
{
	static const char *const names[STATS_RECIPIENTS] = {
		[RCPT_UPGRADED] = "upgraded", [RCPT_CLEAR] = "clear", [RCPT_DEFERRED] = "deferred", [RCPT_REJECTED] = "rejected",
		[RCPT_WOULD_DEFER] = "would-defer", [RCPT_WOULD_REJECT] = "would-reject",
	};
	return names[recipient];
}

unsigned stats_version_index(uint16_t version)
{
	return version >= 0x0301 && version <= 0x0304 ? version - 0x0301u : STATS_VERSIONS - 1;
}

uint16_t stats_version_wire(unsigned index)
{
	return index < STATS_VERSIONS - 1 ? (uint16_t)(0x0301 + index) : 0;
}

const char *stats_version_name(unsigned index)
{
	static const char *const names[STATS_VERSIONS] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "other"};
	return names[index];
}

const char *stats_address_text(const uint8_t address[16], char out[STATS_ADDRESS_MAX])
{
	bool ipv4 = policy_addr_is_ipv4(address);
	return inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? address + 12 : address, out, STATS_ADDRESS_MAX);
}
