/*
 * micro_worker.h - a worker with nothing around it: frames go to the caller's `transmit`, events nowhere.
 */
#ifndef WAXSEAL_BENCH_MICRO_WORKER_H
#define WAXSEAL_BENCH_MICRO_WORKER_H

#include "micro.h"

#include "worker.h"

typedef void (*micro_transmit)(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count);

static void micro_event(void *context, const struct stats_event *what) { (void)context, (void)what; }
static uint64_t micro_unix_time(void *context) { (void)context; return 1700000000000000ull; }

static struct worker *micro_worker(uint32_t flows, struct rte_mempool *pool, struct stats *stats, micro_transmit transmit, uint64_t now_us)
{
	static unsigned made;
	char error[256] = "";
	struct worker_config config = worker_config_default;

	config.index = made++;
	config.socket = SOCKET_ID_ANY;
	config.flows = flow_limits_default;
	config.flows.flows_max = flows;
	config.tcp = tcp_limits_default;
	config.stats = stats;
	config.pool[INSIDE] = config.pool[OUTSIDE] = pool;
	config.transmit = transmit;
	config.event = micro_event;
	config.unix_time_us = micro_unix_time;
	struct worker *worker = worker_new(&config, now_us, error, sizeof(error));
	if (!worker)
		micro_die(error);
	worker_set_image(worker, policy_image_default());
	return worker;
}

#endif
