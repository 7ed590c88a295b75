/*
 * offload.c - sealed flows whose packets pass elsewhere: in the kernel, by the XDP program.
 *
 * Enters: a flow in SEALED. Leaves: the same, handed over with the numbers that the tracker stands at, once what came
 * up of it has been sent, and taken back with those that it would stand at. SYN and RST of it come up, a FIN that is not
 * the next octet, and the last ACK behind both FINs. Each takes it back before it is looked at: what ends a flow, or
 * could begin another one, is judged here alone. Invariant: of a flow that is not SEALED, or that a SYN may be about to
 * reopen, nothing passes elsewhere.
 */
#include "private.h"

#define RETRY_PACKETS 32 /* seen here of a flow that is or should be elsewhere, until it is handed over again */

_Static_assert(sizeof(struct flow_key) == sizeof(struct classifier_flow) && offsetof(struct flow_key, vlan) == offsetof(struct classifier_flow, vlan),
               "the classifier names flows as flow/ does");

static bool may_go(const struct flow *flow)
{
	return flow->state == FLOW_SEALED && !flow->reopening && !flow->side[CLIENT].fin_sent && !flow->side[SERVER].fin_sent &&
	       flow->key.client_port != flow->key.server_port; /* both 25: the classifier's client may be the other one */
}

static void hand_over(struct flow_table *table, struct flow *flow)
{
	struct classifier_sealed begin = {.client_port_side = flow->client_port_side};
	for (int s = 0; s < SIDES; s++) {
		begin.from[s].next = flow->side[s].next;
		begin.from[s].ack = flow->side[side_other(s)].acked;
		begin.from[s].edge = flow->side[s].edge;
		begin.from[s].wscale = flow->side[s].wscale;
	}
	flow->offloaded = table->ops.offload(table->ops.context, flow, &begin);
	if (flow->offloaded)
		stats_inc(table->stats, STAT_kernel_flows);
}

static void merge(struct flow_table *table, struct flow *flow, const struct classifier_sealed *seen)
{
	for (int s = 0; s < SIDES; s++) {
		struct flow_track *self = &flow->side[s], *peer = &flow->side[side_other(s)];
		const struct classifier_passed *from = &seen->from[s];
		if (seq_after(from->next, self->next))
			self->next = from->next;
		if (seq_after(from->ack, peer->acked))
			peer->acked = from->ack;
		if (seq_after(from->edge, self->edge))
			self->edge = from->edge;
		if (from->fin && !self->fin_sent) {
			self->fin_sent = true;
			self->fin_seq = from->next - 1;
		}
		self->heard |= from->packets > 0;
		flow->bytes[s] += from->bytes;
		stats_add(table->stats, STAT_kernel_packets, from->packets);
		stats_add(table->stats, STAT_kernel_bytes, from->bytes);
	}
	for (int s = 0; s < SIDES; s++)
		flow->side[s].fin_acked |= flow->side[s].fin_sent && seq_after(flow->side[s].acked, flow->side[s].fin_seq);
}

void flow_offload_end(struct flow_table *table, struct flow *flow)
{
	struct classifier_sealed seen;
	uint64_t idle_us;
	if (!flow->offloaded)
		return;
	flow->offloaded = false;
	flow->offload_in = RETRY_PACKETS;
	if (table->ops.offloaded(table->ops.context, flow, true, &seen, &idle_us))
		merge(table, flow, &seen);
	else
		stats_inc(table->stats, STAT_kernel_evicted);
}

/* Both FINs have passed, and only what acknowledges the last one comes up. */
static bool ends(const struct flow_table *table, const struct flow *flow)
{
	struct classifier_sealed seen;
	uint64_t idle_us;
	return flow->offloaded && table->ops.offloaded(table->ops.context, flow, false, &seen, &idle_us) &&
	       seen.from[CLIENT].fin && seen.from[SERVER].fin;
}

void flow_offload_sealed(struct flow_table *table, struct flow *flow)
{
	if (!table->ops.offload || !may_go(flow) || table->ready_count == FLOW_READY_MAX)
		return;
	table->ready[table->ready_count++] = flow;
	flow->offload_in = RETRY_PACKETS;
}

void flow_offload_packet(struct flow_table *table, struct flow *flow, uint8_t tcp_flags, uint32_t payload)
{
	if (tcp_flags & (PACKET_SYN | PACKET_FIN | PACKET_RST) || (!payload && ends(table, flow)))
		flow_offload_end(table, flow);
	else if (!flow->offload_in || !--flow->offload_in)
		flow_offload_sealed(table, flow);
}

/* What has been handed over is taken back before its name is used again. But a name that is left there lets a whole session
 * pass unseen, so that is not only believed. */
void flow_offload_stale(struct flow_table *table, const struct flow *flow)
{
	struct classifier_sealed seen;
	uint64_t idle_us;
	if (table->ops.offload && table->ops.offloaded(table->ops.context, flow, true, &seen, &idle_us))
		stats_inc(table->stats, STAT_kernel_stale);
}

void flow_offload_forget(struct flow_table *table, const struct flow *flow)
{
	for (uint32_t i = table->ready_count; i-- > 0;)
		if (table->ready[i] == flow)
			table->ready[i] = table->ready[--table->ready_count];
}

void flow_offload_ready(struct flow_table *table)
{
	while (table->ready_count) {
		struct flow *flow = table->ready[--table->ready_count];
		if (!may_go(flow))
			continue;
		flow_offload_end(table, flow); /* it has given way to others, or somebody sends in its name what the classifier refuses */
		hand_over(table, flow);
	}
}

bool flow_offload_alive(struct flow_table *table, struct flow *flow, uint64_t now_us)
{
	struct classifier_sealed seen;
	uint64_t idle_us;
	if (!flow->offloaded)
		return false;
	if (!table->ops.offloaded(table->ops.context, flow, false, &seen, &idle_us)) {
		flow->offloaded = false;
		stats_inc(table->stats, STAT_kernel_evicted);
		return false;
	}
	for (int s = 0; s < SIDES; s++)
		flow->side[s].heard |= seen.from[s].packets > 0;
	if (idle_us > now_us || now_us - idle_us <= flow->seen_us)
		return false;
	flow->seen_us = now_us - idle_us;
	return true;
}

void flow_bytes(const struct flow_table *table, const struct flow *flow, uint64_t bytes[SIDES])
{
	struct classifier_sealed seen;
	uint64_t idle_us;
	bool elsewhere = flow->offloaded && table->ops.offloaded(table->ops.context, flow, false, &seen, &idle_us);
	for (int s = 0; s < SIDES; s++)
		bytes[s] = flow->bytes[s] + (elsewhere ? seen.from[s].bytes : 0);
}
