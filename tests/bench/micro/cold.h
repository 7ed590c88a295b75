/*
 * cold.h - one call alone, with nothing of what it reads in the caches or the TLB.
 *
 * cold_flush() throws bytes out of every cache, down to memory; cold_pages() then fills the TLB with other pages, one line of
 * each: the page tables' own lines stay where they are. Between cold_begin() and cold_end(), which wait for all loads
 * before them, stands the call. What the two cost is measured with an empty call.
 */
#ifndef WAXSEAL_BENCH_COLD_H
#define WAXSEAL_BENCH_COLD_H

#include "micro.h"

#include <sys/mman.h>

#define COLD_LINE 64u
#define COLD_LOOKUPS 16u /* in each of MICRO_ROUNDS rounds */
#define COLD_PAGES 4096u /* twice as many as a TLB of today holds */

/* A hundred times as fast as clflush, which waits for each line. */
__attribute__((target("clflushopt"))) static void cold_flush(const void *from, size_t bytes)
{
	uintptr_t at = (uintptr_t)from & ~(uintptr_t)(COLD_LINE - 1), end = (uintptr_t)from + bytes;
	if (!__builtin_cpu_supports("clflushopt"))
		micro_die("this processor has no clflushopt");
	for (; at < end; at += COLD_LINE)
		_mm_clflushopt((void *)at);
	_mm_mfence();
}

static void cold_pages(void)
{
	enum { STEP = 4096 + COLD_LINE }; /* lines of all sets */
	static volatile uint8_t *buffer;
	if (!buffer) {
		void *made = mmap(NULL, (size_t)COLD_PAGES * STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (made == MAP_FAILED || madvise(made, (size_t)COLD_PAGES * STEP, MADV_NOHUGEPAGE) != 0)
			micro_die("no memory in small pages");
		buffer = made;
	}
	for (size_t i = 0; i < COLD_PAGES; i++)
		buffer[i * STEP]++;
	_mm_mfence();
}

/* The key is at hand, as in a session. */
static inline uint64_t cold_begin(const void *key, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += COLD_LINE)
		(void)((const volatile uint8_t *)key)[i];
	_mm_lfence();
	uint64_t now = __rdtsc();
	_mm_lfence();
	return now;
}

static inline uint64_t cold_end(void)
{
	_mm_lfence();
	return __rdtsc();
}

static double cold_median(double took[COLD_LOOKUPS])
{
	qsort(took, COLD_LOOKUPS, sizeof(double), micro_ascending);
	return took[COLD_LOOKUPS / 2];
}

#endif
