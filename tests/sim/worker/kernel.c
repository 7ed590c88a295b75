/*
 * kernel.c - sealed flows pass in front of the worker, as the XDP program lets them.
 *
 * A frame that passes leaves through the tap like one that the worker forwards: what may leave is judged there.
 */
#include <rte_mbuf.h>

#include "../../unit/kernel_model.h"
#include "sim.h"
#include "worker.h"

static bool offload(void *context, const struct classifier_flow *flow, const struct classifier_sealed *begin)
{
	if (chance(&sim.rng, 100))
		return false;
	return kernel_offload(context, flow, begin);
}

static bool offloaded(void *context, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	kernel_now_us = sim.now_us;
	return kernel_offloaded(context, flow, take_back, seen, idle_us);
}

void kernel_begin(struct worker_config *config)
{
	kernel_clear();
	sim.offloads = chance(&sim.rng, 700);
	if (!sim.offloads)
		return;
	config->offload = offload;
	config->offloaded = offloaded;
}

bool kernel_takes(struct rte_mbuf *mbuf, enum port_side from)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	if (!sim.offloads)
		return false;
	if (chance(&sim.rng, 2)) /* others came, and it was the one that was silent longest */
		kernel.place[below(&sim.rng, KERNEL_FLOWS)].used = false;
	if (!kernel_passes(frame, rte_pktmbuf_data_len(mbuf), from, sim.now_us))
		return false;
	totals.passed_in_kernel++;
	tap_transmit(NULL, port_other(from), &mbuf, 1);
	return true;
}

void kernel_end(void)
{
	require(NULL, !kernel_flows(), "%u flows are left in the kernel", kernel_flows());
}
