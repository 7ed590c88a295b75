/*
 * worker.h - one lcore's share of the sessions: where flow/, smtp/, tls/, takeover/ and policy/ meet.
 *
 * Enters: frames with port 25 at either end, each with the classifier's verdict in front of it, and
 * time. Leaves: frames for both ports, counters, one event a session. A flow lives and dies on one
 * worker; nothing here is shared or locked but what says so. The worker reads no clock and opens no
 * socket: the fast path and the simulator drive the same code.
 */
#ifndef WAXSEAL_WORKER_H
#define WAXSEAL_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "flow/flow.h"
#include "policy/policy.h"
#include "side.h"
#include "stats/stats.h"
#include "takeover/takeover.h"
#include "tls/tls.h"

struct rte_mbuf;
struct rte_mempool;
struct worker;

struct worker_config {
	unsigned index;
	int socket; /* NUMA node of its memory */
	struct flow_limits flows;
	struct tcp_limits tcp;
	uint32_t takeovers_max;
	uint32_t handshakes_max;         /* sessions on their way to TLS at once ... */
	uint32_t handshakes_waiting_max; /* ... and that wait to be; past it the rule's `overload` */
	uint32_t chunks_max;             /* of TCP_CHUNK_BYTES, for taken-over sessions */
	uint64_t failure_memory_us;      /* level may: how long failed TLS is remembered */
	uint64_t stall_us;               /* a client that pauses within a command line is taken over after this */
	uint64_t unknown_grace_us;       /* after start, flows joined mid-way that may be TLS are let through */
	struct tls_context_config tls;
	struct stats *stats;             /* its own; outlives it */
	struct rte_mempool *pool[PORTS]; /* where frames for a port come from */
	/* Sends a burst; takes the mbufs. */
	void (*transmit)(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count);
	/* flow_ops.offload and .offloaded; NULL: all packets come here. */
	bool (*offload)(void *context, const struct classifier_flow *flow, const struct classifier_sealed *begin);
	bool (*offloaded)(void *context, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us);
	/* flow_ops.hold and .release; NULL: no other worker could be given a flow's packets. */
	bool (*hold)(void *context, uint32_t hash);
	void (*release)(void *context, uint32_t hash);
	/* Puts a session's event on its way; never blocks. */
	void (*event)(void *context, const struct stats_event *event);
	uint64_t (*unix_time_us)(void *context);
	void *context;
};
extern const struct worker_config worker_config_default;

/* NULL with `error`: what could not be had, and which limit asks for it. */
struct worker *worker_new(const struct worker_config *config, uint64_t now_us, char *error, size_t error_len);
/* Resets the sessions taken over, closes every flow, frees everything. */
void worker_free(struct worker *worker, uint64_t now_us);

/* The image for what follows; it must stay valid until the next call, or worker_free. */
void worker_set_image(struct worker *worker, const struct policy_image *image);

/* Frames that came in on `from`; takes the mbufs. The more at once, the less each costs. */
void worker_input(struct worker *worker, struct rte_mbuf **mbufs, unsigned count, enum port_side from, uint64_t now_us);
/* Timers and ageing; then everything to send goes out. Call after each burst, and when idle. */
void worker_tick(struct worker *worker, uint64_t now_us);
/* When worker_tick has something to do at the latest. */
uint64_t worker_deadline_us(const struct worker *worker);

/* For telemetry, on the worker's own lcore. */
void worker_load(const struct worker *worker, struct stats_worker *out);
/* The next connections from a place of the table on, which becomes the one behind what was looked at: at most WORKER_PLACES_MAX
 * places, because packets wait meanwhile. WORKER_PLACES_END: that was the last one. */
#define WORKER_PLACES_MAX 4096
#define WORKER_PLACES_END UINT32_MAX
unsigned worker_flows(const struct worker *worker, uint32_t *place, struct stats_flow *out, unsigned max, uint64_t now_us);

#endif
