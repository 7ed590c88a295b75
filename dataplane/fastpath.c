/*
 * fastpath.c - the lcores' life, what they do in every layout, and what others ask of them.
 *
 * Enters: bursts of frames with verdicts. What is not SMTP goes to the other port; what cannot be
 * inspected is dropped and counted; the rest is the layout's to give to a worker. Invariant: a frame has one owner
 * at a time, and every frame is sent, handed on, or freed and counted.
 */
#include "fastpath_private.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring_elem.h>

#define STALLED_AFTER_S 2
#define FLOWS_ANSWER_US 1000000 /* a worker that takes longer does not turn */
#define FLOWS_LOOK_US 20        /* between looks at whether it has answered */
#define FLOWS_ASKS_MAX 64       /* of one listing, where nothing is found; then the asker asks again */

/* ---- what the workers call ---- */

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

/* ---- frames in ---- */

void fastpath_drop(struct stats *stats, struct rte_mbuf *mbuf, enum stats_counter why)
{
	stats_inc(stats, STAT_rx_packets);
	stats_add(stats, STAT_rx_bytes, rte_pktmbuf_pkt_len(mbuf));
	stats_inc(stats, why);
	rte_pktmbuf_free(mbuf);
}

unsigned fastpath_receive(struct fastpath *fastpath, unsigned lcore, struct stats *stats, enum port_side from, struct rte_mbuf **mail, unsigned *mails)
{
	struct rte_mbuf *mbufs[PORT_BURST_MAX], *pass[PORT_BURST_MAX];
	unsigned count = port_receive(fastpath->ports, lcore, from, mbufs, PORT_BURST_MAX), passing = 0, inspected = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mbufs[i], uint8_t *));
		if (verdict->magic == WAXSEAL_VERDICT_MAGIC && (verdict->action == VERDICT_SMTP || verdict->action == VERDICT_ICMP))
			mail[inspected++] = mbufs[i];
		else if (verdict->magic == WAXSEAL_VERDICT_MAGIC && verdict->action == VERDICT_FORWARD)
			pass[passing++] = mbufs[i];
		else
			fastpath_drop(stats, mbufs[i], verdict->magic != WAXSEAL_VERDICT_MAGIC       ? STAT_drop_malformed
			                               : verdict->action == VERDICT_FRAGMENT ? STAT_drop_fragment
			                                                                     : STAT_drop_unparsed);
	}
	if (passing) {
		unsigned sent = port_send(fastpath->ports, lcore, port_other(from), pass, passing);
		stats_add(stats, STAT_forward_packets, passing);
		stats_add(stats, STAT_unsent_port, passing - sent);
	}
	*mails = inspected;
	return count;
}

unsigned fastpath_run(struct rte_mbuf *const *mbufs, unsigned count)
{
	unsigned run = 1;
	while (run < count && mbufs[run]->port == mbufs[0]->port)
		run++;
	return run;
}

/* ---- turns ---- */

uint64_t fastpath_sleep_us(const struct worker *worker, uint64_t now)
{
	uint64_t until = worker_deadline_us(worker);
	return until <= now ? 0 : until - now < FLOW_SWEEP_US ? until - now : FLOW_SWEEP_US;
}

void fastpath_answer_flows(struct fastpath *fastpath, unsigned worker, uint64_t now)
{
	struct flows_request *request = &fastpath->request[worker];
	if (atomic_load_explicit(&request->state, memory_order_acquire) != 1)
		return;
	request->count = worker_flows(fastpath->worker[worker], &request->place, request->out, request->max, now);
	atomic_store_explicit(&request->state, 2, memory_order_release);
}

void fastpath_turned(struct lcore *lcore, uint64_t began, bool busy)
{
	if (busy)
		atomic_fetch_add_explicit(&lcore->busy_cycles, rte_rdtsc() - began, memory_order_relaxed);
	atomic_fetch_add_explicit(&lcore->turns, 1, memory_order_relaxed);
}

static int lcore_main(void *context)
{
	struct fastpath *fastpath = context;
	unsigned index = (unsigned)rte_lcore_index((int)rte_lcore_id()) - 1; /* 0 is the main thread's */
	prctl(PR_SET_TIMERSLACK, 1000ul); /* ns: a nap of 20 us is to be one */
	policy_swap_online(fastpath->swap, index);
	fastpath->layout->loop(fastpath, index);
	policy_swap_offline(fastpath->swap, index);
	return 0;
}

/* ---- life ---- */

static struct worker *make_worker(struct fastpath *fastpath, const struct config *config, unsigned index, char *error, size_t error_len)
{
	struct worker_config worker = worker_config_default;
	fastpath->context[index] = (struct worker_context){fastpath, index};
	worker.index = index;
	worker.socket = (int)rte_socket_id();
	worker.flows = flow_limits_default;
	worker.flows.flows_max = config->flows;
	worker.flows.prefix_percent = config->prefix_percent;
	worker.flows.embryonic_percent = config->embryonic_percent;
	worker.flows.answered_percent = config->answered_percent;
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
	worker.transmit = fastpath->layout->transmit;
	if (port_offloads(fastpath->ports)) {
		worker.offload = offload;
		worker.offloaded = offloaded;
	}
	if (fastpath->owners) {
		worker.hold = fastpath->layout->hold;
		worker.release = fastpath->layout->release;
	}
	worker.event = put_event;
	worker.unix_time_us = unix_time_us;
	worker.context = &fastpath->context[index];
	struct worker *made = worker_new(&worker, fastpath_now_us(fastpath), error, error_len);
	if (made)
		worker_set_image(made, policy_swap_image(fastpath->swap));
	return made;
}

struct rte_ring *fastpath_ring(const char *name, unsigned from, unsigned to)
{
	char unique[RTE_RING_NAMESIZE];
	snprintf(unique, sizeof(unique), "%s%u_%u", name, from, to);
	return rte_ring_create(unique, FASTPATH_RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
}

struct fastpath *fastpath_new(const struct config *config, struct ports *ports, struct policy_swap *swap, unsigned shared, char *error, size_t error_len)
{
	struct fastpath *fastpath = calloc(1, sizeof(*fastpath));
	_Static_assert(sizeof(struct stats_event) % 4 == 0, "ring elements are words");
	snprintf(error, error_len, "no memory for rings and counters: raise [dataplane] memory_mb");
	if (!fastpath)
		return NULL;
	fastpath->layout = config_pipeline(config) ? &layout_pipeline : &layout_rtc;
	fastpath->ports = ports;
	fastpath->swap = swap;
	fastpath->workers = config->workers;
	fastpath->lcores = config_lcores(config);
	fastpath->first_worker = fastpath->lcores - fastpath->workers;
	fastpath->shared = shared;
	fastpath->cycles_per_us = (double)rte_get_tsc_hz() / 1e6;
	for (unsigned i = 0; i < fastpath->lcores; i++)
		if (!(fastpath->stats[i] = stats_new()))
			goto out;
	for (unsigned i = 0; i < fastpath->lcores; i++)
		if ((fastpath->bell[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
			goto out;
	fastpath->events = rte_ring_create_elem("events", sizeof(struct stats_event), FASTPATH_EVENTS, SOCKET_ID_ANY, RING_F_SC_DEQ);
	if (!fastpath->events || !fastpath->layout->make(fastpath, config))
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
		worker_free(fastpath->worker[i], fastpath_now_us(fastpath));
		fastpath->worker[i] = NULL;
	}
}

void fastpath_free(struct fastpath *fastpath)
{
	if (!fastpath)
		return;
	for (unsigned i = 0; i < fastpath->workers; i++)
		worker_free(fastpath->worker[i], fastpath_now_us(fastpath));
	for (unsigned i = 0; i < fastpath->lcores; i++) {
		stats_free(fastpath->stats[i]);
		if (fastpath->bell[i].fd > 0)
			close(fastpath->bell[i].fd);
	}
	fastpath->layout->free(fastpath);
	rte_ring_free(fastpath->events);
	free(fastpath);
}

/* ---- for the main thread and telemetry ---- */

void fastpath_share(struct fastpath *fastpath, unsigned shared)
{
	atomic_store_explicit(&fastpath->shared, shared, memory_order_relaxed);
}

void fastpath_watch(struct fastpath *fastpath)
{
	uint64_t cycles = rte_rdtsc(), passed = cycles - fastpath->watched_cycles;
	fastpath->watched_cycles = cycles;
	for (unsigned i = 0; i < fastpath->lcores; i++) {
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
	return fastpath->lcores;
}

bool fastpath_load(struct fastpath *fastpath, unsigned worker, struct stats_worker *out)
{
	if (worker >= fastpath->workers || atomic_load(&fastpath->stopped))
		return false;
	const struct lcore *lcore = &fastpath->lcore[fastpath->first_worker + worker];
	worker_load(fastpath->worker[worker], out);
	out->busy_permille = lcore->busy_permille;
	out->stalled = lcore->stalled;
	return true;
}

/* False: the worker does not turn. */
static bool ask_for_flows(struct fastpath *fastpath, unsigned w, uint32_t *place, struct stats_flow *out, unsigned max, unsigned *count)
{
	struct flows_request *request = &fastpath->request[w];

	request->place = *place;
	request->max = max;
	request->out = out;
	request->count = 0;
	atomic_store_explicit(&request->state, 1, memory_order_release);
	doorbell_ring(&fastpath->bell[fastpath->first_worker + w]);
	for (unsigned waited = 0; atomic_load_explicit(&request->state, memory_order_acquire) != 2; waited += FLOWS_LOOK_US) {
		int asked = 1;
		if (waited >= FLOWS_ANSWER_US && atomic_compare_exchange_strong(&request->state, &asked, 0))
			return false;
		usleep(FLOWS_LOOK_US);
	}
	*place = request->place;
	*count = request->count;
	atomic_store(&request->state, 0);
	return true;
}

unsigned fastpath_flows(struct fastpath *fastpath, uint64_t cursor, struct stats_flow *out, unsigned max, struct stats_flows_at *at)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER; /* each client of the socket has a thread */
	uint64_t w = cursor >> 32;
	uint32_t place = (uint32_t)cursor;
	unsigned count = 0;

	*at = (struct stats_flows_at){0};
	pthread_mutex_lock(&one_at_a_time);
	for (unsigned asks = 0; w < fastpath->workers && !count && !at->silent && asks < FLOWS_ASKS_MAX && !atomic_load(&fastpath->stopped); asks++) {
		if (!ask_for_flows(fastpath, (unsigned)w, &place, out, max, &count)) {
			at->silent = true;
			place = WORKER_PLACES_END;
		}
		for (unsigned i = 0; i < count; i++)
			out[i].next |= w << 32;
		if (place != WORKER_PLACES_END)
			continue;
		w++;
		place = 0;
	}
	pthread_mutex_unlock(&one_at_a_time);
	if (w < fastpath->workers && !atomic_load(&fastpath->stopped))
		at->next = w << 32 | place;
	return count;
}
