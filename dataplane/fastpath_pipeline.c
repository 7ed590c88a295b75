/*
 * fastpath_pipeline.c - layout = pipeline with several workers: lcore 0 does I/O on both ports, the workers stand behind
 * rings.
 *
 * Enters: bursts from the ports, which go to the worker that the verdict names; frames of the workers, which go to the
 * ports. Invariant: a ring has one lcore at each end. What a ring has no room for is dropped and counted.
 */
#include <poll.h>
#include <time.h>

#include <rte_mbuf.h>

#include "fastpath_private.h"

#define IO 0 /* lcore and doorbell; its counters are behind the workers' */

static struct stats *io_stats(const struct fastpath *fastpath)
{
	return fastpath->stats[fastpath->workers];
}

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	const struct worker_context *self = context;
	struct fastpath *fastpath = self->fastpath;
	if (atomic_load(&fastpath->stopped)) {
		unsigned sent = port_send(fastpath->ports, IO, port, mbufs, count);
		stats_add(fastpath->stats[self->index], STAT_unsent_port, count - sent);
		return;
	}
	unsigned queued = rte_ring_sp_enqueue_burst(fastpath->to_port[self->index][port], (void **)mbufs, count, NULL);
	doorbell_ring(&fastpath->bell[IO]);
	stats_add(fastpath->stats[self->index], STAT_unsent_ring, count - queued);
	rte_pktmbuf_free_bulk(mbufs + queued, count - queued);
}

/* ---- I/O ---- */

static unsigned to_worker(struct fastpath *fastpath, struct rte_mbuf *mbuf, enum port_side from)
{
	unsigned index = port_verdict(rte_pktmbuf_mtod(mbuf, uint8_t *))->worker;
	if (index >= fastpath->workers)
		index = 0; /* a pool names a worker that this configuration does not have */
	mbuf->port = (uint16_t)from;
	if (rte_ring_sp_enqueue(fastpath->to_worker[index], mbuf))
		fastpath_drop(io_stats(fastpath), mbuf, STAT_drop_ring);
	return index;
}

static unsigned receive(struct fastpath *fastpath, enum port_side from)
{
	struct rte_mbuf *mail[PORT_BURST_MAX];
	unsigned mails, count = fastpath_receive(fastpath, IO, io_stats(fastpath), from, mail, &mails);
	uint32_t called = 0;

	for (unsigned i = 0; i < mails; i++)
		called |= 1u << (fastpath->first_worker + to_worker(fastpath, mail[i], from));
	doorbells_ring(fastpath, called);
	return count;
}

static unsigned collect(struct fastpath *fastpath)
{
	unsigned total = 0;
	for (unsigned w = 0; w < fastpath->workers; w++) {
		for (int p = 0; p < PORTS; p++) {
			struct rte_mbuf *mbufs[PORT_BURST_MAX];
			unsigned count = rte_ring_sc_dequeue_burst(fastpath->to_port[w][p], (void **)mbufs, PORT_BURST_MAX, NULL);
			if (!count)
				continue;
			unsigned sent = port_send(fastpath->ports, IO, p, mbufs, count);
			stats_add(io_stats(fastpath), STAT_unsent_port, count - sent);
			total += count;
		}
	}
	return total;
}

static bool rings_to_ports_empty(const struct fastpath *fastpath)
{
	for (unsigned w = 0; w < fastpath->workers; w++)
		for (int p = 0; p < PORTS; p++)
			if (!rte_ring_empty(fastpath->to_port[w][p]))
				return false;
	return true;
}

static void io_sleeps(struct fastpath *fastpath, uint64_t timeout_us)
{
	struct doorbell *bell = &fastpath->bell[IO];
	bool rung = false;
	atomic_store(&bell->asleep, true);
	if (rings_to_ports_empty(fastpath))
		rung = port_wait(fastpath->ports, IO, bell->fd, timeout_us);
	doorbell_awake(bell, rung);
}

static void io_loop(struct fastpath *fastpath)
{
	unsigned spins = 0;

	while (!atomic_load_explicit(&fastpath->stop, memory_order_relaxed)) {
		uint64_t began = rte_rdtsc();
		policy_swap_current(fastpath->swap, IO); /* it uses none, and says so */
		unsigned work = receive(fastpath, INSIDE) + receive(fastpath, OUTSIDE);
		work += collect(fastpath);
		fastpath_turned(&fastpath->lcore[IO], began, work);
		if (fastpath_idles(&spins, work))
			io_sleeps(fastpath, FLOW_SWEEP_US);
	}
}

/* ---- a worker ---- */

static void worker_sleeps(struct fastpath *fastpath, unsigned index, uint64_t timeout_us)
{
	struct doorbell *bell = &fastpath->bell[fastpath->first_worker + index];
	struct pollfd rung = {.fd = bell->fd, .events = POLLIN};
	struct timespec timeout = {0, (long)timeout_us * 1000};
	atomic_store(&bell->asleep, true);
	if (rte_ring_empty(fastpath->to_worker[index]))
		ppoll(&rung, 1, &timeout, NULL);
	doorbell_awake(bell, rung.revents);
}

static void worker_loop(struct fastpath *fastpath, unsigned index)
{
	unsigned spins = 0, lcore = fastpath->first_worker + index;
	struct worker *worker = fastpath->worker[index];

	while (!atomic_load_explicit(&fastpath->stop, memory_order_relaxed)) {
		struct rte_mbuf *mbufs[PORT_BURST_MAX];
		uint64_t began = rte_rdtsc(), now = fastpath_now_us(fastpath);
		worker_set_image(worker, policy_swap_current(fastpath->swap, lcore));
		unsigned count = rte_ring_sc_dequeue_burst(fastpath->to_worker[index], (void **)mbufs, PORT_BURST_MAX, NULL);
		for (unsigned i = 0, run; i < count; i += run) {
			run = fastpath_run(mbufs + i, count - i);
			worker_input(worker, mbufs + i, run, mbufs[i]->port, now);
		}
		worker_tick(worker, now);
		fastpath_answer_flows(fastpath, index, now);
		fastpath_turned(&fastpath->lcore[lcore], began, count);
		if (fastpath_idles(&spins, count))
			worker_sleeps(fastpath, index, fastpath_sleep_us(worker, now));
	}
}

static void loop(struct fastpath *fastpath, unsigned lcore)
{
	if (lcore == IO)
		io_loop(fastpath);
	else
		worker_loop(fastpath, lcore - fastpath->first_worker);
}

/* ---- life ---- */

static bool make(struct fastpath *fastpath, const struct config *config)
{
	(void)config;
	for (unsigned w = 0; w < fastpath->workers; w++) {
		if (!(fastpath->to_worker[w] = fastpath_ring("to_worker", IO, w)))
			return false;
		for (unsigned p = 0; p < PORTS; p++)
			if (!(fastpath->to_port[w][p] = fastpath_ring("to_port", w, p)))
				return false;
	}
	return true;
}

static void free_rings(struct fastpath *fastpath)
{
	for (unsigned w = 0; w < fastpath->workers; w++) {
		rte_ring_free(fastpath->to_worker[w]);
		for (int p = 0; p < PORTS; p++)
			rte_ring_free(fastpath->to_port[w][p]);
	}
}

const struct layout layout_pipeline = {.make = make, .loop = loop, .free = free_rings, .transmit = transmit};
