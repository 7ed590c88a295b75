/*
 * fastpath_rtc.c - one lcore, or layout = run-to-completion with several: each receives on its own queues of both ports,
 * inspects, and sends on its own queues. There is no I/O lcore.
 *
 * Enters: bursts from the ports. A connection belongs to the lcore that received its first frame (owners.h), or to the
 * one worker of its pool. A frame that another lcore received crosses a ring to it, so what a NIC does with
 * frames decides how much crosses, and never what is right. Invariant: a ring has one lcore at each end, and frames keep
 * their order on the way. What a ring has no room for is dropped and counted.
 */
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "fastpath_private.h"

_Static_assert(OWNERS_LCORES_MAX >= WAXSEAL_WORKERS_MAX, "each lcore can own");

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	const struct worker_context *self = context;
	unsigned sent = port_send(self->fastpath->ports, self->index, port, mbufs, count);
	stats_add(self->fastpath->stats[self->index], STAT_unsent_port, count - sent);
}

static bool hold(void *context, uint32_t hash)
{
	const struct worker_context *self = context;
	return owners_hold(self->fastpath->owners, hash, self->index);
}

static void release(void *context, uint32_t hash)
{
	const struct worker_context *self = context;
	owners_release(self->fastpath->owners, hash);
}

/* ---- whose frame ---- */

/* The lcore of a frame's connection. *held: it is this one, and there is a hold on it to be released. */
static unsigned lcore_of(struct fastpath *fastpath, unsigned self, const struct verdict *verdict, bool *held)
{
	unsigned shared = atomic_load_explicit(&fastpath->shared, memory_order_relaxed);
	unsigned wanted = verdict->worker < fastpath->workers ? verdict->worker : 0; /* a pool may name more than this configuration has */

	*held = false;
	if (wanted >= shared)
		return wanted; /* a pool's own: its connections are there, and no others */
	uint32_t owner = owners_take(fastpath->owners, verdict->flow_hash, self, self < shared);
	*held = owner == self;
	return owner == OWNERS_NONE ? wanted : owner;
}

static void cross(struct fastpath *fastpath, unsigned self, unsigned to, struct rte_mbuf *mbuf, enum port_side from)
{
	mbuf->port = (uint16_t)from;
	if (rte_ring_sp_enqueue(fastpath->across[self][to], mbuf))
		fastpath_drop(fastpath->stats[self], mbuf, STAT_drop_ring);
	else
		stats_inc(fastpath->stats[self], STAT_crossed_packets);
}

/* Mail that this lcore has from a port or from another lcore. */
static void deal(struct fastpath *fastpath, unsigned self, struct rte_mbuf **mail, unsigned count, enum port_side from, uint64_t now)
{
	struct rte_mbuf *own[PORT_BURST_MAX];
	uint32_t hash[PORT_BURST_MAX], called = 0;
	unsigned owned = 0, holds = 0;

	for (unsigned i = 0; i < count; i++)
		rte_prefetch0(owners_place(fastpath->owners, port_verdict(rte_pktmbuf_mtod(mail[i], uint8_t *))->flow_hash));
	for (unsigned i = 0; i < count; i++) {
		const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mail[i], uint8_t *));
		bool held;
		unsigned to = lcore_of(fastpath, self, verdict, &held);
		if (held)
			hash[holds++] = verdict->flow_hash;
		if (to == self) {
			own[owned++] = mail[i];
		} else {
			cross(fastpath, self, to, mail[i], from);
			called |= 1u << to;
		}
	}
	doorbells_ring(fastpath, called);
	if (owned)
		worker_input(fastpath->worker[self], own, owned, from, now);
	while (holds)
		owners_release(fastpath->owners, hash[--holds]);
}

static unsigned receive(struct fastpath *fastpath, unsigned self, enum port_side from, uint64_t now)
{
	struct rte_mbuf *mail[PORT_BURST_MAX];
	unsigned mails, count = fastpath_receive(fastpath, self, fastpath->stats[self], from, mail, &mails);

	if (mails && fastpath->lcores == 1)
		worker_input(fastpath->worker[self], mail, mails, from, now);
	else if (mails)
		deal(fastpath, self, mail, mails, from, now);
	return count;
}

static unsigned collect(struct fastpath *fastpath, unsigned self, uint64_t now)
{
	unsigned total = 0;
	for (unsigned other = 0; other < fastpath->lcores; other++) {
		struct rte_mbuf *mbufs[PORT_BURST_MAX];
		if (other == self)
			continue;
		unsigned count = rte_ring_sc_dequeue_burst(fastpath->across[other][self], (void **)mbufs, PORT_BURST_MAX, NULL);
		for (unsigned i = 0, run; i < count; i += run) {
			run = fastpath_run(mbufs + i, count - i);
			deal(fastpath, self, mbufs + i, run, mbufs[i]->port, now);
		}
		total += count;
	}
	return total;
}

/* ---- the loop ---- */

static bool nothing_crosses(const struct fastpath *fastpath, unsigned self)
{
	for (unsigned other = 0; other < fastpath->lcores; other++)
		if (other != self && !rte_ring_empty(fastpath->across[other][self]))
			return false;
	return true;
}

static void sleeps(struct fastpath *fastpath, unsigned self, uint64_t timeout_us)
{
	struct doorbell *bell = &fastpath->bell[self];
	bool rung = false;
	if (fastpath->lcores == 1) {
		port_wait(fastpath->ports, self, -1, timeout_us);
		return;
	}
	atomic_store(&bell->asleep, true);
	if (nothing_crosses(fastpath, self))
		rung = port_wait(fastpath->ports, self, bell->fd, timeout_us);
	doorbell_awake(bell, rung);
}

static void loop(struct fastpath *fastpath, unsigned self)
{
	unsigned spins = 0;
	struct worker *worker = fastpath->worker[self];

	while (!atomic_load_explicit(&fastpath->stop, memory_order_relaxed)) {
		uint64_t began = rte_rdtsc(), now = fastpath_now_us(fastpath);
		worker_set_image(worker, policy_swap_current(fastpath->swap, self));
		unsigned work = receive(fastpath, self, INSIDE, now) + receive(fastpath, self, OUTSIDE, now);
		work += collect(fastpath, self, now);
		worker_tick(worker, now);
		fastpath_answer_flows(fastpath, self, now);
		fastpath_turned(&fastpath->lcore[self], began, work);
		if (fastpath_idles(&spins, work))
			sleeps(fastpath, self, fastpath_sleep_us(worker, now));
	}
}

/* ---- life ---- */

static bool make(struct fastpath *fastpath, const struct config *config)
{
	if (fastpath->lcores == 1)
		return true;
	fastpath->owners = owners_new((uint64_t)config->flows * fastpath->workers);
	if (!fastpath->owners)
		return false;
	for (unsigned from = 0; from < fastpath->lcores; from++)
		for (unsigned to = 0; to < fastpath->lcores; to++)
			if (to != from && !(fastpath->across[from][to] = fastpath_ring("across", from, to)))
				return false;
	return true;
}

static void free_rings(struct fastpath *fastpath)
{
	for (unsigned from = 0; from < fastpath->lcores; from++)
		for (unsigned to = 0; to < fastpath->lcores; to++)
			rte_ring_free(fastpath->across[from][to]);
	owners_free(fastpath->owners);
}

const struct layout layout_rtc = {.make = make, .loop = loop, .free = free_rings, .transmit = transmit, .hold = hold, .release = release};
