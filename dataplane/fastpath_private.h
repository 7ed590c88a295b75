/*
 * fastpath_private.h - what the fast path's files share.
 *
 *   fastpath.c           life, frames in, watching, and what the workers call
 *   fastpath_pipeline.c  an lcore for I/O, and workers behind rings
 *   fastpath_rtc.c       lcores that receive, inspect and send each for itself; one lcore alone is the smallest case
 */
#ifndef WAXSEAL_FASTPATH_PRIVATE_H
#define WAXSEAL_FASTPATH_PRIVATE_H

#include <stdatomic.h>
#include <sys/eventfd.h>

#include <rte_cycles.h>
#include <rte_pause.h>
#include <rte_ring.h>

#include "fastpath.h"
#include "owners.h"
#include "worker.h"

#define IDLE_SPINS 20 /* empty turns before sleep: an lcore that only polls is one that others lack */

struct lcore {
	_Atomic uint64_t busy_cycles; /* turns that found work */
	_Atomic uint64_t turns;
	uint64_t busy_seen, turns_seen, still_s; /* fastpath_watch */
	uint32_t busy_permille;
	bool stalled;
};

/* Wakes an lcore that sleeps; costs the one that rings a look where it does not. */
struct doorbell {
	_Atomic bool asleep;
	int fd; /* eventfd */
};

/* One listing of flows at a time, answered by the worker's own lcore. */
struct flows_request {
	_Atomic int state; /* 0 free, 1 asked, 2 answered */
	uint32_t place; /* in the worker's table: from where, and then behind what was looked at */
	unsigned max, count;
	struct stats_flow *out;
};

/* What a layout is; the const ones stand in its file. */
struct layout {
	bool (*make)(struct fastpath *fastpath, const struct config *config); /* false: no memory */
	void (*loop)(struct fastpath *fastpath, unsigned lcore);              /* until fastpath->stop */
	void (*free)(struct fastpath *fastpath);
	void (*transmit)(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count); /* worker_config.transmit */
	/* As worker_config has them. */
	bool (*hold)(void *context, uint32_t hash);
	void (*release)(void *context, uint32_t hash);
};
extern const struct layout layout_pipeline, layout_rtc;

struct worker_context {
	struct fastpath *fastpath;
	unsigned index;
};

struct fastpath {
	const struct layout *layout;
	struct ports *ports;
	struct policy_swap *swap;
	unsigned workers, lcores;
	unsigned first_worker; /* the lcore of worker 0: behind the I/O lcore, if there is one */
	struct worker *worker[WAXSEAL_WORKERS_MAX];
	struct worker_context context[WAXSEAL_WORKERS_MAX];
	struct stats *stats[WAXSEAL_WORKERS_MAX + 1]; /* the workers', then the I/O lcore's, if there is one */
	struct rte_ring *events;
	struct lcore lcore[WAXSEAL_WORKERS_MAX + 1];
	struct doorbell bell[WAXSEAL_WORKERS_MAX + 1]; /* as lcore[] */
	struct flows_request request[WAXSEAL_WORKERS_MAX];
	_Atomic bool stop, stopped;
	double cycles_per_us;
	uint64_t watched_cycles;
	_Atomic unsigned shared; /* workers below it have no pool of their own */
	/* fastpath_pipeline.c */
	struct rte_ring *to_worker[WAXSEAL_WORKERS_MAX];
	struct rte_ring *to_port[WAXSEAL_WORKERS_MAX][PORTS];
	/* fastpath_rtc.c */
	struct rte_ring *across[WAXSEAL_WORKERS_MAX][WAXSEAL_WORKERS_MAX]; /* from an lcore to another */
	struct owners *owners;
};

static inline uint64_t fastpath_now_us(const struct fastpath *fastpath)
{
	return (uint64_t)((double)rte_rdtsc() / fastpath->cycles_per_us);
}

/* ---- frames in ---- */

/* Receives a burst on the lcore's queues of a port. What is not SMTP has gone to the other port, what cannot be inspected
 * is dropped and counted, the rest are `mail`, room for PORT_BURST_MAX. Returns how many came in. */
unsigned fastpath_receive(struct fastpath *fastpath, unsigned lcore, struct stats *stats, enum port_side from, struct rte_mbuf **mail, unsigned *mails);
/* A frame of port 25 that no worker sees: it has come in all the same. */
void fastpath_drop(struct stats *stats, struct rte_mbuf *mbuf, enum stats_counter why);
/* Of `count` mbufs from a ring, those at the beginning that came in by the same port: they go in together. */
unsigned fastpath_run(struct rte_mbuf *const *mbufs, unsigned count);
/* SPSC, FASTPATH_RING_FRAMES long. */
struct rte_ring *fastpath_ring(const char *name, unsigned from, unsigned to);

/* ---- turns, and sleep ---- */

void fastpath_turned(struct lcore *lcore, uint64_t began, bool busy);
/* What the main thread has asked for. */
void fastpath_answer_flows(struct fastpath *fastpath, unsigned worker, uint64_t now);
/* How long an lcore may sleep: until the worker's next timer or its sweep, which is never far. */
uint64_t fastpath_sleep_us(const struct worker *worker, uint64_t now);

/* Called when something has been put into a ring of the sleeper's. */
static inline void doorbell_ring(struct doorbell *bell)
{
	atomic_thread_fence(memory_order_seq_cst); /* what was put there is seen by whoever says now that it sleeps */
	if (atomic_exchange_explicit(&bell->asleep, false, memory_order_relaxed))
		eventfd_write(bell->fd, 1);
}

/* Rings those lcores whose bit is set. */
static inline void doorbells_ring(struct fastpath *fastpath, uint32_t lcores)
{
	for (; lcores; lcores &= lcores - 1)
		doorbell_ring(&fastpath->bell[__builtin_ctz(lcores)]);
}

/* `rung`: also where nobody rang in this sleep. Who rang in the last one may have come to it only now. */
static inline void doorbell_awake(struct doorbell *bell, bool rung)
{
	eventfd_t rings;
	if (!atomic_exchange_explicit(&bell->asleep, false, memory_order_relaxed) || rung)
		eventfd_read(bell->fd, &rings); /* it does not block: the bell was rung, or is being */
}

/* True when an lcore has found nothing to do for so long that it may sleep. */
static inline bool fastpath_idles(unsigned *spins, bool busy)
{
	*spins = busy ? 0 : *spins + 1;
	if (*spins >= IDLE_SPINS)
		return true;
	rte_pause();
	return false;
}

#endif
