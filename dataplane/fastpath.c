/*
 * fastpath.c - frames from the ports to the workers and back.
 *
 * Enters: bursts of frames with verdicts. What is not SMTP goes to the other port; what cannot be
 * inspected is dropped and counted; the rest goes to the worker that the verdict names. Invariant: a
 * frame has one owner at a time, and every frame is sent, handed on, or freed and counted.
 */
#include "fastpath.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "worker.h"

#define IDLE_SPINS 20 /* empty turns before sleep: an lcore that only polls is one that others lack */
#define STALLED_AFTER_S 2
#define FLOWS_ANSWER_US 1000000

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
	unsigned offset, max, count;
	struct stats_flow *out;
};

struct fastpath {
	struct ports *ports;
	struct policy_swap *swap;
	unsigned workers;
	struct worker *worker[WAXSEAL_WORKERS_MAX];
	struct stats *stats[WAXSEAL_WORKERS_MAX + 1]; /* the last one is the I/O lcore's */
	struct rte_ring *to_worker[WAXSEAL_WORKERS_MAX];
	struct rte_ring *to_port[WAXSEAL_WORKERS_MAX][PORTS];
	struct rte_ring *events;
	struct lcore lcore[WAXSEAL_WORKERS_MAX + 1];
	struct doorbell bell[WAXSEAL_WORKERS_MAX + 1]; /* as lcore[]: the first one is the I/O lcore's */
	struct flows_request request[WAXSEAL_WORKERS_MAX];
	_Atomic bool stop, stopped;
	double cycles_per_us;
	uint64_t watched_cycles;
};

static uint64_t now_us(const struct fastpath *fastpath)
{
	return (uint64_t)((double)rte_rdtsc() / fastpath->cycles_per_us);
}

static struct stats *io_stats(const struct fastpath *fastpath)
{
	return fastpath->stats[fastpath->workers];
}

/* ---- sleep ---- */

/* Called when something has been put into a ring of the sleeper's. */
static void wake(struct doorbell *bell)
{
	atomic_thread_fence(memory_order_seq_cst); /* what was put there is seen by whoever says now that it sleeps */
	if (atomic_exchange_explicit(&bell->asleep, false, memory_order_relaxed))
		eventfd_write(bell->fd, 1);
}

/* `rung`: also where nobody rang in this sleep. Who rang in the last one may have come to it only now. */
static void awake(struct doorbell *bell, bool rung)
{
	eventfd_t rings;
	if (!atomic_exchange_explicit(&bell->asleep, false, memory_order_relaxed) || rung)
		eventfd_read(bell->fd, &rings); /* it does not block: the bell was rung, or is being */
}

/* True when an lcore has found nothing to do for so long that it may sleep. */
static bool idles(unsigned *spins, bool busy)
{
	*spins = busy ? 0 : *spins + 1;
	if (*spins >= IDLE_SPINS)
		return true;
	rte_pause();
	return false;
}

/* ---- what the workers call ---- */

struct worker_context {
	struct fastpath *fastpath;
	unsigned index;
};
static struct worker_context contexts[WAXSEAL_WORKERS_MAX];

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	const struct worker_context *self = context;
	struct fastpath *fastpath = self->fastpath;
	if (fastpath->workers == 1 || atomic_load(&fastpath->stopped)) {
		unsigned sent = port_send(fastpath->ports, port, mbufs, count);
		stats_add(fastpath->stats[self->index], STAT_unsent_port, count - sent);
		return;
	}
	unsigned queued = rte_ring_sp_enqueue_burst(fastpath->to_port[self->index][port], (void **)mbufs, count, NULL);
	wake(&fastpath->bell[0]);
	stats_add(fastpath->stats[self->index], STAT_unsent_ring, count - queued);
	rte_pktmbuf_free_bulk(mbufs + queued, count - queued);
}

static bool offload(void *context, const struct classifier_flow *flow, const struct classifier_sealed *begin)
{
	const struct worker_context *self = context;
	return port_offload(self->fastpath->ports, flow, begin);
}

static bool offloaded(void *context, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	const struct worker_context *self = context;
	return port_offloaded(self->fastpath->ports, flow, take_back, seen, idle_us);
}

static void put_event(void *context, const struct stats_event *event)
{
	const struct worker_context *self = context;
	if (rte_ring_mp_enqueue_elem(self->fastpath->events, (void *)(uintptr_t)event, sizeof(*event)))
		stats_inc(self->fastpath->stats[self->index], STAT_events_lost);
}

static uint64_t unix_time_us(void *context)
{
	struct timespec now;
	(void)context;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- I/O ---- */

/* A frame of port 25 that no worker sees: it has come in all the same. */
static void drop(struct fastpath *fastpath, struct rte_mbuf *mbuf, enum stats_counter why)
{
	stats_inc(io_stats(fastpath), STAT_rx_packets);
	stats_add(io_stats(fastpath), STAT_rx_bytes, rte_pktmbuf_pkt_len(mbuf));
	stats_inc(io_stats(fastpath), why);
	rte_pktmbuf_free(mbuf);
}

static unsigned to_worker(struct fastpath *fastpath, struct rte_mbuf *mbuf, enum port_side from, unsigned index)
{
	if (index >= fastpath->workers)
		index = 0; /* a pool names a worker that this configuration does not have */
	mbuf->port = (uint16_t)from;
	if (rte_ring_sp_enqueue(fastpath->to_worker[index], mbuf))
		drop(fastpath, mbuf, STAT_drop_ring);
	return index;
}

static unsigned receive(struct fastpath *fastpath, enum port_side from, uint64_t now)
{
	struct rte_mbuf *mbufs[PORT_BURST_MAX], *pass[PORT_BURST_MAX], *smtp[PORT_BURST_MAX];
	unsigned count = port_receive(fastpath->ports, from, mbufs, PORT_BURST_MAX), passing = 0, inspected = 0, called = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mbufs[i], uint8_t *));
		if (verdict->magic == WAXSEAL_VERDICT_MAGIC && (verdict->action == VERDICT_SMTP || verdict->action == VERDICT_ICMP)) {
			if (fastpath->workers == 1)
				smtp[inspected++] = mbufs[i];
			else
				called |= 1u << to_worker(fastpath, mbufs[i], from, verdict->worker);
		} else if (verdict->magic == WAXSEAL_VERDICT_MAGIC && verdict->action == VERDICT_FORWARD) {
			pass[passing++] = mbufs[i];
		} else {
			drop(fastpath, mbufs[i], verdict->magic != WAXSEAL_VERDICT_MAGIC       ? STAT_drop_malformed
			                         : verdict->action == VERDICT_FRAGMENT ? STAT_drop_fragment
			                                                               : STAT_drop_unparsed);
		}
	}
	for (; called; called &= called - 1)
		wake(&fastpath->bell[__builtin_ctz(called) + 1]);
	if (inspected)
		worker_input(fastpath->worker[0], smtp, inspected, from, now);
	if (passing) {
		unsigned sent = port_send(fastpath->ports, port_other(from), pass, passing);
		stats_add(io_stats(fastpath), STAT_forward_packets, passing);
		stats_add(io_stats(fastpath), STAT_unsent_port, passing - sent);
	}
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
			unsigned sent = port_send(fastpath->ports, p, mbufs, count);
			stats_add(io_stats(fastpath), STAT_unsent_port, count - sent);
			total += count;
		}
	}
	return total;
}

/* ---- loops ---- */

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
	struct doorbell *bell = &fastpath->bell[0];
	bool rung = false;
	if (fastpath->workers == 1) {
		port_wait(fastpath->ports, -1, timeout_us);
		return;
	}
	atomic_store(&bell->asleep, true);
	if (rings_to_ports_empty(fastpath))
		rung = port_wait(fastpath->ports, bell->fd, timeout_us);
	awake(bell, rung);
}

static void worker_sleeps(struct fastpath *fastpath, unsigned index, uint64_t timeout_us)
{
	struct doorbell *bell = &fastpath->bell[index + 1];
	struct pollfd rung = {.fd = bell->fd, .events = POLLIN};
	struct timespec timeout = {0, (long)timeout_us * 1000};
	atomic_store(&bell->asleep, true);
	if (rte_ring_empty(fastpath->to_worker[index]))
		ppoll(&rung, 1, &timeout, NULL);
	awake(bell, rung.revents);
}

/* How long an lcore may sleep: the worker's next timer, and its sweep, which is never far. */
static uint64_t sleep_us(const struct worker *worker, uint64_t now)
{
	uint64_t until = worker ? worker_deadline_us(worker) : now + FLOW_SWEEP_US;
	return until <= now ? 0 : until - now < FLOW_SWEEP_US ? until - now : FLOW_SWEEP_US;
}

static void answer_flows(struct fastpath *fastpath, unsigned index, uint64_t now)
{
	struct flows_request *request = &fastpath->request[index];
	if (atomic_load_explicit(&request->state, memory_order_acquire) != 1)
		return;
	request->count = worker_flows(fastpath->worker[index], request->offset, request->out, request->max, now);
	atomic_store_explicit(&request->state, 2, memory_order_release);
}

static void turned(struct lcore *lcore, uint64_t began, bool busy)
{
	if (busy)
		atomic_fetch_add_explicit(&lcore->busy_cycles, rte_rdtsc() - began, memory_order_relaxed);
	atomic_fetch_add_explicit(&lcore->turns, 1, memory_order_relaxed);
}

static void io_loop(struct fastpath *fastpath)
{
	unsigned spins = 0;
	struct worker *inline_worker = fastpath->workers == 1 ? fastpath->worker[0] : NULL;

	while (!atomic_load_explicit(&fastpath->stop, memory_order_relaxed)) {
		uint64_t began = rte_rdtsc(), now = now_us(fastpath);
		const struct policy_image *image = policy_swap_current(fastpath->swap, 0);
		if (inline_worker)
			worker_set_image(inline_worker, image);
		unsigned work = receive(fastpath, INSIDE, now) + receive(fastpath, OUTSIDE, now);
		if (inline_worker) {
			worker_tick(inline_worker, now);
			answer_flows(fastpath, 0, now);
		} else {
			work += collect(fastpath);
		}
		turned(&fastpath->lcore[0], began, work);
		if (idles(&spins, work))
			io_sleeps(fastpath, sleep_us(inline_worker, now));
	}
}

static void worker_loop(struct fastpath *fastpath, unsigned index)
{
	unsigned spins = 0;
	struct worker *worker = fastpath->worker[index];

	while (!atomic_load_explicit(&fastpath->stop, memory_order_relaxed)) {
		struct rte_mbuf *mbufs[PORT_BURST_MAX];
		uint64_t began = rte_rdtsc(), now = now_us(fastpath);
		worker_set_image(worker, policy_swap_current(fastpath->swap, index + 1));
		unsigned count = rte_ring_sc_dequeue_burst(fastpath->to_worker[index], (void **)mbufs, PORT_BURST_MAX, NULL);
		for (unsigned i = 0, run; i < count; i += run) { /* what came in on one port together goes in together */
			for (run = 1; i + run < count && mbufs[i + run]->port == mbufs[i]->port; run++)
				;
			worker_input(worker, mbufs + i, run, mbufs[i]->port, now);
		}
		worker_tick(worker, now);
		answer_flows(fastpath, index, now);
		turned(&fastpath->lcore[index + 1], began, count);
		if (idles(&spins, count))
			worker_sleeps(fastpath, index, sleep_us(worker, now));
	}
}

static int lcore_main(void *context)
{
	struct fastpath *fastpath = context;
	unsigned index = (unsigned)rte_lcore_index((int)rte_lcore_id()) - 1; /* 0 is the main thread's */
	prctl(PR_SET_TIMERSLACK, 1000ul); /* ns: a nap of 20 us is to be one */
	policy_swap_online(fastpath->swap, index);
	if (index == 0)
		io_loop(fastpath);
	else
		worker_loop(fastpath, index - 1);
	policy_swap_offline(fastpath->swap, index);
	return 0;
}

/* ---- life ---- */

static struct worker *make_worker(struct fastpath *fastpath, const struct config *config, unsigned index, char *error, size_t error_len)
{
	struct worker_config worker = worker_config_default;
	contexts[index] = (struct worker_context){fastpath, index};
	worker.index = index;
	worker.socket = (int)rte_socket_id();
	worker.flows = flow_limits_default;
	worker.flows.flows_max = config->flows;
	worker.flows.prefix_percent = config->prefix_percent;
	worker.flows.embryonic_percent = config->embryonic_percent;
	worker.flows.held_segments_max = config->held_segments;
	worker.flows.held_segments_total_max = config->mbufs / 4 / config->workers;
	worker.tcp = tcp_limits_default;
	worker.takeovers_max = config->takeovers;
	worker.handshakes_max = config->handshakes;
	worker.chunks_max = (uint32_t)((uint64_t)config->buffer_mb * 1024 * 1024 / TCP_CHUNK_BYTES);
	worker.failure_memory_us = config->failure_memory_s * 1000000ull;
	worker.tls.ca_file = config->ca_file;
	worker.stats = fastpath->stats[index];
	for (int p = 0; p < PORTS; p++)
		worker.pool[p] = port_pool(fastpath->ports, p);
	worker.transmit = transmit;
	if (port_offloads(fastpath->ports)) {
		worker.offload = offload;
		worker.offloaded = offloaded;
	}
	worker.event = put_event;
	worker.unix_time_us = unix_time_us;
	worker.context = &contexts[index];
	struct worker *made = worker_new(&worker, now_us(fastpath), error, error_len);
	if (made)
		worker_set_image(made, policy_swap_image(fastpath->swap));
	return made;
}

static bool make_rings(struct fastpath *fastpath)
{
	char name[32];
	fastpath->events = rte_ring_create_elem("events", sizeof(struct stats_event), FASTPATH_EVENTS, SOCKET_ID_ANY, RING_F_SC_DEQ);
	if (!fastpath->events)
		return false;
	for (unsigned w = 0; fastpath->workers > 1 && w < fastpath->workers; w++) {
		snprintf(name, sizeof(name), "to_worker%u", w);
		fastpath->to_worker[w] = rte_ring_create(name, FASTPATH_RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (!fastpath->to_worker[w])
			return false;
		for (int p = 0; p < PORTS; p++) {
			snprintf(name, sizeof(name), "to_port%u_%d", w, p);
			fastpath->to_port[w][p] = rte_ring_create(name, FASTPATH_RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
			if (!fastpath->to_port[w][p])
				return false;
		}
	}
	return true;
}

struct fastpath *fastpath_new(const struct config *config, struct ports *ports, struct policy_swap *swap, char *error, size_t error_len)
{
	struct fastpath *fastpath = calloc(1, sizeof(*fastpath));
	_Static_assert(sizeof(struct stats_event) % 4 == 0, "ring elements are words");
	snprintf(error, error_len, "no memory for rings and counters: raise [dataplane] memory_mb");
	if (!fastpath)
		return NULL;
	fastpath->ports = ports;
	fastpath->swap = swap;
	fastpath->workers = config->workers;
	fastpath->cycles_per_us = (double)rte_get_tsc_hz() / 1e6;
	for (unsigned i = 0; i <= fastpath->workers; i++)
		if (!(fastpath->stats[i] = stats_new()))
			goto out;
	for (unsigned i = 0; i <= fastpath->workers; i++)
		if ((fastpath->bell[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
			goto out;
	if (!make_rings(fastpath))
		goto out;
	for (unsigned i = 0; i < fastpath->workers; i++)
		if (!(fastpath->worker[i] = make_worker(fastpath, config, i, error, error_len)))
			goto out;
	return fastpath;
out:
	fastpath_free(fastpath);
	return NULL;
}

void fastpath_start(struct fastpath *fastpath)
{
	unsigned lcore;
	fastpath->watched_cycles = rte_rdtsc();
	RTE_LCORE_FOREACH_WORKER(lcore)
		rte_eal_remote_launch(lcore_main, fastpath, lcore);
}

void fastpath_stop(struct fastpath *fastpath)
{
	atomic_store(&fastpath->stop, true);
	rte_eal_mp_wait_lcore();
	atomic_store(&fastpath->stopped, true);
	for (unsigned i = 0; i < fastpath->workers; i++) {
		worker_free(fastpath->worker[i], now_us(fastpath));
		fastpath->worker[i] = NULL;
	}
}

void fastpath_free(struct fastpath *fastpath)
{
	if (!fastpath)
		return;
	for (unsigned i = 0; i < fastpath->workers; i++)
		worker_free(fastpath->worker[i], now_us(fastpath));
	for (unsigned i = 0; i <= fastpath->workers; i++) {
		stats_free(fastpath->stats[i]);
		if (fastpath->bell[i].fd > 0)
			close(fastpath->bell[i].fd);
	}
	for (unsigned w = 0; w < fastpath->workers; w++) {
		rte_ring_free(fastpath->to_worker[w]);
		for (int p = 0; p < PORTS; p++)
			rte_ring_free(fastpath->to_port[w][p]);
	}
	rte_ring_free(fastpath->events);
	free(fastpath);
}

/* ---- for the main thread and telemetry ---- */

void fastpath_watch(struct fastpath *fastpath)
{
	uint64_t cycles = rte_rdtsc(), passed = cycles - fastpath->watched_cycles;
	unsigned lcores = fastpath->workers == 1 ? 1 : fastpath->workers + 1;
	fastpath->watched_cycles = cycles;
	for (unsigned i = 0; i < lcores; i++) {
		struct lcore *lcore = &fastpath->lcore[i];
		uint64_t busy = atomic_load(&lcore->busy_cycles), turns = atomic_load(&lcore->turns);
		bool was = lcore->stalled;
		lcore->busy_permille = passed ? (uint32_t)((busy - lcore->busy_seen) * 1000 / passed) : 0;
		lcore->still_s = turns == lcore->turns_seen ? lcore->still_s + 1 : 0;
		lcore->stalled = lcore->still_s >= STALLED_AFTER_S;
		if (lcore->stalled != was)
			fprintf(stderr, "waxseald: lcore %u %s\n", i, lcore->stalled ? "does not turn: its sessions stand still" : "turns again");
		lcore->busy_seen = busy;
		lcore->turns_seen = turns;
	}
}

bool fastpath_event(struct fastpath *fastpath, struct stats_event *event)
{
	return rte_ring_sc_dequeue_elem(fastpath->events, event, sizeof(*event)) == 0;
}

unsigned fastpath_stats(const struct fastpath *fastpath, struct stats *const **out)
{
	*out = fastpath->stats;
	return fastpath->workers + 1;
}

bool fastpath_load(struct fastpath *fastpath, unsigned worker, struct stats_worker *out)
{
	if (worker >= fastpath->workers || atomic_load(&fastpath->stopped))
		return false;
	const struct lcore *lcore = &fastpath->lcore[fastpath->workers == 1 ? 0 : worker + 1];
	worker_load(fastpath->worker[worker], out);
	out->busy_permille = lcore->busy_permille;
	out->stalled = lcore->stalled;
	return true;
}

unsigned fastpath_flows(struct fastpath *fastpath, unsigned offset, struct stats_flow *out, unsigned max)
{
	unsigned total = 0;
	for (unsigned w = 0; w < fastpath->workers && total < max; w++) {
		struct flows_request *request = &fastpath->request[w];
		struct stats_worker load;
		if (!fastpath_load(fastpath, w, &load))
			break;
		if (offset >= load.flows && w + 1 < fastpath->workers) {
			offset -= load.flows; /* approximate while flows come and go */
			continue;
		}
		request->offset = offset;
		request->max = max - total;
		request->out = out + total;
		request->count = 0;
		atomic_store_explicit(&request->state, 1, memory_order_release);
		for (unsigned waited = 0; atomic_load_explicit(&request->state, memory_order_acquire) != 2; waited += 100) {
			int asked = 1;
			if (waited >= FLOWS_ANSWER_US && atomic_compare_exchange_strong(&request->state, &asked, 0))
				return total; /* the worker does not turn */
			usleep(100);
		}
		total += request->count;
		atomic_store(&request->state, 0);
		offset = 0;
	}
	return total;
}
