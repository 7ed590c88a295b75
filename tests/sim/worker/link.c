/*
 * link.c - two links with an appliance between them: what is under way, and what happens to it there.
 *
 * A packet is lost, doubled, damaged, delayed, overtaken; what is larger than the link's MTU comes back as an ICMP
 * error. Damage always leaves a checksum that is wrong (one bit, in the TCP header behind the ports, or in the
 * payload).
 */
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "sim.h"
#include "../../../bpf/verdict.h"

enum { PACKETS_MAX = 65536 };

struct under_way {
	uint64_t at_us, order;
	struct session *session;
	enum side side; /* whose link */
	bool towards_worker, own, damaged, icmp;
	uint16_t len;
	uint8_t frame[];
};

static struct under_way *heap[PACKETS_MAX];
static int count;
static uint64_t order;

static bool sooner(const struct under_way *a, const struct under_way *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct under_way *packet)
{
	require(packet->session, count < PACKETS_MAX, "too many packets under way: a storm");
	int i = count++;
	for (; i && sooner(packet, heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = packet;
}

static struct under_way *pop(void)
{
	struct under_way *first = heap[0], *last = heap[--count];
	int i = 0;
	for (int child; (child = 2 * i + 1) < count; i = child) {
		if (child + 1 < count && sooner(heap[child + 1], heap[child]))
			child++;
		if (!sooner(heap[child], last))
			break;
		heap[i] = heap[child];
	}
	if (count)
		heap[i] = last;
	return first;
}

uint64_t link_next_us(void) { return count ? heap[0]->at_us : NEVER; }

void link_drop_all(void)
{
	while (count)
		free(pop());
	order = 0;
}

static struct under_way *packet_new(struct session *session, enum side side, bool towards_worker, const uint8_t *frame,
        size_t len)
{
	const struct impairment *link = &session->link[side];
	struct under_way *packet = malloc(sizeof(*packet) + len);
	require(session, packet, "no memory");
	*packet = (struct under_way){
		.at_us = sim.now_us + link->delay_us + below(&session->link_rng, link->jitter_us), .order = order++,
		        .session = session,
		.side = side, .towards_worker = towards_worker, .len = (uint16_t)len,
	};
	memcpy(packet->frame, frame, len);
	return packet;
}

void link_send(struct session *session, enum side side, bool towards_worker, const uint8_t *frame, size_t len,
        enum origin origin)
{
	const struct impairment *link = &session->link[side];
	struct rng *rng = &session->link_rng;
	enum side from = towards_worker ? side : side_other(side);
	uint16_t mtu = sim.now_us >= link->mtu_at_us ? link->mtu_later : link->mtu;
	size_t l3 = frame_l3(frame);

	totals.frames++;
	require(session, ++sim.sent_through < 3000000, "does not end: too many packets");
	if (len - l3 > mtu) {
		uint8_t error[FRAME_MAX];
		size_t error_len = frame_too_big(frame, len, mtu, error);
		trace_frame(session, TRACE_TOO_BIG, from, frame, len);
		struct under_way *packet = packet_new(session, side, !towards_worker, error, error_len);
		packet->icmp = true;
		push(packet);
		return;
	}
	for (int copies = 1 + chance(rng, link->duplicate); copies; copies--) {
		if (chance(rng, link->loss)) {
			totals.lost++;
			trace_frame(session, TRACE_LOST, from, frame, len);
			continue;
		}
		struct under_way *packet = packet_new(session, side, towards_worker, frame, len);
		packet->own = origin == ORIGIN_WAXSEAL;
		packet->damaged = origin == ORIGIN_DAMAGED;
		if (chance(rng, link->reorder))
			packet->at_us += below(rng, 3 * link->delay_us + 1000);
		if (chance(rng, link->corrupt) && !packet->damaged) { /* two bits can make a checksum right again */
			size_t first = frame_headers_len(&session->path) + 4;
			packet->damaged = true;
			packet->frame[first + below(rng, (uint32_t)(len - first))] ^= (uint8_t)(1 << below(rng, 8));
		}
		trace_frame(session, packet->damaged ? TRACE_CORRUPT : TRACE_SENT, from, frame, len);
		push(packet);
	}
}

static void to_worker(struct under_way *packet)
{
	struct session *session = packet->session;
	bool client_inside = !session->inbound;
	enum port_side port = (packet->side == CLIENT) == client_inside ? INSIDE : OUTSIDE;
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(sim.pool);
	require(session, mbuf, "the pool is empty: packets leak");
	uint8_t *frame = (uint8_t *)rte_pktmbuf_append(mbuf, packet->len);
	struct verdict *verdict = (struct verdict *)(void *)(frame - WAXSEAL_VERDICT_BYTES);
	memcpy(frame, packet->frame, packet->len);
	unsigned direction = packet->side == CLIENT ? VERDICT_TO_PORT_25 : VERDICT_FROM_PORT_25;
	*verdict = (struct verdict){
		.magic = WAXSEAL_VERDICT_MAGIC, .flow_hash = sim.flow_hash,
		        .action = packet->icmp ? VERDICT_ICMP : VERDICT_SMTP,
		.flags = (uint8_t)((session->path.family == 6 ? VERDICT_IPV6 : 0) | direction),
		.vlan_tags = session->path.vlan ? 1 : 0, .l3_off = (uint16_t)frame_l3(frame),
		        .l4_off = (uint16_t)frame_headers_len(&session->path),
	};
	mbuf->port = (uint16_t)(1 + packet->damaged); /* those that the worker makes have RTE_MBUF_PORT_INVALID */
	if (!packet->icmp)
		trace_frame(session, TRACE_ENTERS, packet->side, frame, packet->len);
	worker_gets(mbuf, port);
}

void link_deliver(void)
{
	struct under_way *packet = pop();
	if (packet->towards_worker)
		to_worker(packet);
	else
		stack_frame(&packet->session->stack[packet->side], packet->frame, packet->len, packet->own, packet->damaged, packet->icmp);
	free(packet);
}
