/*
 * kernel_model.h - what the XDP program does with sealed flows, for tests without a kernel.
 *
 * Enters: flows handed over by a worker, and frames before they would reach it. Leaves: whether a frame passes, and the
 * numbers that bpf/classify.xdp.c would have kept of it. tests/bpf holds the program itself to the same.
 */
#ifndef WAXSEAL_KERNEL_MODEL_H
#define WAXSEAL_KERNEL_MODEL_H

#include <stdbool.h>
#include <string.h>

#include "../../bpf/verdict.h"
#include "packet/packet.h"
#include "side.h"

#define KERNEL_FLOWS 64

static struct {
	struct { bool used; struct classifier_flow flow; struct classifier_sealed sealed; } place[KERNEL_FLOWS];
	bool refuses; /* hand-overs */
	unsigned handed_over, taken_back;
	uint64_t passed;
} kernel;

static int kernel_find(const struct classifier_flow *flow)
{
	for (int i = 0; i < KERNEL_FLOWS; i++)
		if (kernel.place[i].used && !memcmp(&kernel.place[i].flow, flow, sizeof(*flow)))
			return i;
	return -1;
}

__attribute__((unused)) static bool kernel_offload(void *context, const struct classifier_flow *flow, const struct classifier_sealed *begin)
{
	int at = kernel_find(flow);
	(void)context;
	for (int i = 0; i < KERNEL_FLOWS && at < 0; i++)
		at = kernel.place[i].used ? -1 : i;
	if (kernel.refuses || at < 0)
		return false;
	kernel.handed_over++;
	kernel.place[at].used = true;
	kernel.place[at].flow = *flow;
	kernel.place[at].sealed = *begin;
	return true;
}

static uint64_t kernel_now_us; /* of the last frame, or as a test sets it */

__attribute__((unused)) static bool kernel_offloaded(void *context, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	int at = kernel_find(flow);
	(void)context;
	if (at < 0)
		return false;
	*seen = kernel.place[at].sealed;
	uint64_t last = seen->from[CLIENT].seen_ns > seen->from[SERVER].seen_ns ? seen->from[CLIENT].seen_ns : seen->from[SERVER].seen_ns;
	*idle_us = last ? kernel_now_us - last / 1000 : UINT64_MAX;
	kernel.taken_back += take_back;
	kernel.place[at].used = !take_back;
	return true;
}

/* true: the frame leaves by the other port, and nobody else sees it. */
__attribute__((unused)) static bool kernel_passes(uint8_t *frame, size_t len, enum port_side port, uint64_t now_us)
{
	struct packet p;
	struct classifier_flow flow = {.server_port = WAXSEAL_SMTP_PORT};
	kernel_now_us = now_us;
	if (packet_parse(&p, frame, len) != PACKET_OK || p.port_src == p.port_dst || p.flags & (PACKET_SYN | PACKET_RST))
		return false;
	enum side side = p.port_dst == WAXSEAL_SMTP_PORT ? CLIENT : SERVER;
	memcpy(flow.client, side == CLIENT ? p.addr_src : p.addr_dst, 16);
	memcpy(flow.server, side == CLIENT ? p.addr_dst : p.addr_src, 16);
	flow.client_port = side == CLIENT ? p.port_src : p.port_dst;
	memcpy(flow.vlan, p.vlan, p.vlan_count * sizeof(p.vlan[0]));
	int at = kernel_find(&flow);
	if (at < 0 || kernel.place[at].sealed.client_port_side != ((uint32_t)port ^ (uint32_t)side))
		return false;
	struct classifier_passed *from = &kernel.place[at].sealed.from[side], *peer = &kernel.place[at].sealed.from[side_other(side)];
	bool fin = p.flags & PACKET_FIN, counts = p.flags & PACKET_ACK && !seq_before(p.ack, from->ack) && !seq_after(p.ack, peer->next);
	uint32_t end = p.seq + p.payload_len + fin, next = seq_after(end, from->next) ? end : from->next;
	if (from->fin ? seq_after(end, from->next) : fin && (seq_after(p.seq, from->next) || !seq_after(end, from->next)))
		return false;
	if ((fin || from->fin) && peer->fin && counts && p.ack == peer->next && peer->ack == next)
		return false;
	from->packets++;
	from->bytes += p.payload_len;
	from->seen_ns = now_us * 1000;
	from->next = next;
	from->fin |= fin;
	if (counts) {
		from->ack = p.ack;
		if (seq_after(p.ack + ((uint32_t)p.window << from->wscale), from->edge))
			from->edge = p.ack + ((uint32_t)p.window << from->wscale);
	}
	kernel.passed++;
	return true;
}

__attribute__((unused)) static unsigned kernel_flows(void)
{
	unsigned n = 0;
	for (int i = 0; i < KERNEL_FLOWS; i++)
		n += kernel.place[i].used;
	return n;
}

__attribute__((unused)) static void kernel_clear(void) { memset(&kernel, 0, sizeof(kernel)); }

#endif
