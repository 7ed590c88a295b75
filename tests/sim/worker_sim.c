/*
 * worker_sim.c - whole sessions through waxseald's own objects, from a seed: --seed S --runs N [--verbose].
 *
 * Without --seed: the fixed seeds 1..FIXED_RUNS, then FRESH_SESSIONS sessions from seeds drawn from the clock and
 * printed. Run i has the seed S + i. Time is fake: it jumps from event to event. What is simulated, and by what,
 * stands in worker/sim.h.
 */
#include "worker/sim.h"

enum { FIXED_RUNS = 300, FRESH_SESSIONS = 2000 };

static void run(uint64_t seed)
{
	sim.now_us = 1000000000;
	run_begin(seed);
	uint64_t stop_us = sim.stopped ? sim.now_us + below(&sim.rng, 5 * SECOND) : NEVER;
	do {
		sim.now_us = run_next_us();
		require(NULL, sim.now_us < RUN_TIME_MAX_US, "does not end");
	} while (run_step() && sim.now_us < stop_us);
	sim.stopped &= sim.now_us >= stop_us;
	run_end();
}

static void run_range(uint64_t first, uint64_t runs, uint64_t sessions_max)
{
	uint64_t i;
	for (i = 0; i < runs && totals.sessions < sessions_max; i++)
		run(first + i);
	sim_report(first, i);
}

int main(int argc, char **argv)
{
	uint64_t seed = 0, runs = 0;
	sim_begin("worker_sim", "sim", argc, argv, &seed, &runs);
	if (seed) {
		run_range(seed, runs ? runs : 1, UINT64_MAX);
	} else {
		run_range(1, FIXED_RUNS, UINT64_MAX);
		seed = sim_fresh_seed();
		run_range(seed, runs ? runs : UINT64_MAX, runs ? UINT64_MAX : FRESH_SESSIONS);
	}
	sim_end();
	return 0;
}
