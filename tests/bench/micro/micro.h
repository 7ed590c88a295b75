/*
 * micro.h - what the in-process benches share: EAL, cycles, frames, and a line of JSON for each figure.
 *
 * A figure is measured MICRO_ROUNDS times in one process; printed are the median, the least and the most.
 * "cycles" are those of the time-stamp counter, whose rate is the processor's nominal one.
 *
 *   {"bench": "flow_find", "n": 1000, "unit": "cycles", "value": ..., "min": ..., "max": ...}
 */
#ifndef WAXSEAL_BENCH_MICRO_H
#define WAXSEAL_BENCH_MICRO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define MICRO_ROUNDS 9

struct micro {
	double values[MICRO_ROUNDS];
	unsigned count;
};

static inline void micro_die(const char *what)
{
	fprintf(stderr, "micro: %s\n", what);
	exit(2);
}

static inline void micro_note(struct micro *micro, double value)
{
	if (micro->count == MICRO_ROUNDS)
		micro_die("too many rounds");
	micro->values[micro->count++] = value;
}

static inline int micro_ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* `n` is the number of entries that the figure is for; 0: none. */
static inline void micro_print(struct micro *micro, const char *bench, uint64_t n, const char *unit)
{
	if (!micro->count)
		micro_die(bench);
	qsort(micro->values, micro->count, sizeof(double), micro_ascending);
	printf("{\"bench\": \"%s\", \"n\": %llu, \"unit\": \"%s\", \"value\": %.3f, \"min\": %.3f, \"max\": %.3f}\n", bench, (unsigned long long)n,
	       unit, micro->values[micro->count / 2], micro->values[0], micro->values[micro->count - 1]);
	fflush(stdout);
	micro->count = 0;
}

/* A figure that is counted, not timed. */
static inline void micro_print_one(const char *bench, uint64_t n, const char *unit, double value)
{
	struct micro micro = {.count = 0};
	micro_note(&micro, value);
	micro_print(&micro, bench, n, unit);
}

static inline double micro_cycles_per_us(void)
{
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	uint64_t cycles = __rdtsc();
	do
		clock_gettime(CLOCK_MONOTONIC, &to);
	while ((to.tv_sec - from.tv_sec) * 1000000000ll + (to.tv_nsec - from.tv_nsec) < 50000000);
	return (double)(__rdtsc() - cycles) / ((double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3);
}

/* A permutation of 0 .. n - 1 that no prefetcher foresees: steps of a number prime to n. */
static inline uint32_t micro_shuffled(uint32_t i, uint32_t n)
{
	return (uint32_t)((uint64_t)i * 2654435761u % n);
}

#ifdef RTE_MAX_LCORE
#include <malloc.h>
#include <rte_eal.h>
#include <rte_malloc.h>

/* What malloc and DPDK's heap have given out. */
static inline size_t micro_heap(void)
{
	struct mallinfo2 info = mallinfo2();
	struct rte_malloc_socket_stats dpdk;
	size_t total = info.uordblks + info.hblkhd;
	for (int socket = 0; socket < 8; socket++)
		if (rte_malloc_get_socket_stats(socket, &dpdk) == 0)
			total += dpdk.heap_allocsz_bytes;
	return total;
}

static inline unsigned long micro_available_mb(void)
{
	unsigned long free_kb = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "MemAvailable: %lu", &free_kb);
	if (file)
		fclose(file);
	return free_kb / 1024;
}

/* Huge pages where there are enough of them, as the appliance has them; else ordinary ones, which cost TLB misses. `more`:
 * arguments for EAL beside its own, which end with NULL. */
static inline void micro_eal_with(unsigned megabytes, const char *lcores, char *const *more)
{
	static char memory[16], prefix[32];
	unsigned long free_pages = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "HugePages_Free: %lu", &free_pages);
	if (file)
		fclose(file);
	bool huge = free_pages * 2 > megabytes + 64 && geteuid() == 0;
	snprintf(memory, sizeof(memory), "%u", megabytes);
	snprintf(prefix, sizeof(prefix), "micro%d", (int)getpid());
	char *argv[32] = {"micro", huge ? "--in-memory" : "--no-huge", "-m", memory, "--no-telemetry", "--log-level=*:error",
	                  "--file-prefix", prefix, "--lcores", (char *)lcores};
	int argc = 10;
	while (*more && argc < 32)
		argv[argc++] = *more++;
	if (rte_eal_init(argc, argv) < 0)
		micro_die("EAL does not start");
	if (!huge)
		fprintf(stderr, "micro: without huge pages\n");
}

static inline void micro_eal(unsigned megabytes)
{
	micro_eal_with(megabytes, "0@0", (char *[]){"--no-pci", NULL});
}
#endif

#endif
