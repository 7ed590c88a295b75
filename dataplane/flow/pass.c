/*
 * pass.c - the short way of a sealed flow's packets.
 *
 * Enters: a burst of frames with the classifier's verdicts. Leaves: those of SEALED flows, forwarded, their numbers
 * noted as flow_packet would. Nothing is parsed that the verdict has found already, and the flows of a burst are
 * looked for together. Whatever could change a flow (SYN, FIN, RST, the wrong port, an end that was seen), or is not
 * as long as it says, is refused: it goes the long way, where it is judged.
 */
#include "private.h"

#include <rte_mbuf.h>

#define ETHERNET_BYTES 14
#define VLAN_BYTES 4
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define TCP_BYTES 20

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }

static inline const struct verdict *verdict_of(const struct rte_mbuf *mbuf)
{
	return (const struct verdict *)(rte_pktmbuf_mtod(mbuf, const uint8_t *) - WAXSEAL_VERDICT_BYTES);
}

/* Where the IP packet ends; 0 if the frame is not that long, or the TCP header not whole. */
static inline uint32_t packet_end(const uint8_t *frame, uint32_t frame_len, const struct verdict *verdict)
{
	const uint8_t *ip = frame + verdict->l3_off;
	uint32_t l4 = verdict->l4_off, end;
	if (!l4 || l4 + TCP_BYTES > frame_len)
		return 0;
	end = verdict->l3_off + (verdict->flags & VERDICT_IPV6 ? IPV6_BYTES + (uint32_t)get16(ip + 4) : get16(ip + 2));
	uint32_t header = (uint32_t)(frame[l4 + 12] >> 4) * 4;
	return end > frame_len || header < TCP_BYTES || l4 + header > end ? 0 : end;
}

static inline void copy_address(uint8_t to[16], const uint8_t *from, bool ipv6)
{
	static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};
	if (ipv6) {
		memcpy(to, from, 16);
	} else {
		memcpy(to, v4_mapped, 12);
		memcpy(to + 12, from, 4);
	}
}

/* Whose frame it may be. false: it has to go the long way. */
static inline bool name(struct flow_key *key, const struct rte_mbuf *mbuf)
{
	const struct verdict *verdict = verdict_of(mbuf);
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	bool ipv6 = verdict->flags & VERDICT_IPV6, to_server = verdict->flags & VERDICT_TO_PORT_25;
	if (verdict->action != VERDICT_SMTP || to_server == !!(verdict->flags & VERDICT_FROM_PORT_25) || mbuf->nb_segs != 1 ||
	    !packet_end(frame, rte_pktmbuf_data_len(mbuf), verdict))
		return false;
	const uint8_t *tcp = frame + verdict->l4_off, *ip = frame + verdict->l3_off, *source = ip + (ipv6 ? 8 : 12), *target = source + (ipv6 ? 16 : 4);
	if (tcp[13] & (PACKET_SYN | PACKET_FIN | PACKET_RST))
		return false;
	copy_address(key->client, to_server ? source : target, ipv6);
	copy_address(key->server, to_server ? target : source, ipv6);
	key->client_port = get16(tcp + (to_server ? 0 : 2));
	key->server_port = WAXSEAL_SMTP_PORT;
	key->vlan[0] = verdict->vlan_tags ? get16(frame + ETHERNET_BYTES) & 0xfff : 0;
	key->vlan[1] = verdict->vlan_tags > 1 ? get16(frame + ETHERNET_BYTES + VLAN_BYTES) & 0xfff : 0;
	return true;
}

void flow_burst_find(struct flow_table *table, struct flow_burst *burst, struct rte_mbuf *const *mbufs, unsigned count, enum port_side from)
{
	const struct flow_key *keys[FLOW_BURST_MAX];
	uint32_t signatures[FLOW_BURST_MAX];
	struct flow *found[FLOW_BURST_MAX];
	uint8_t at[FLOW_BURST_MAX];
	unsigned named = 0;

	BUG_ON(count > FLOW_BURST_MAX);
	burst->from = from;
	burst->changes = table->changes;
	for (unsigned i = 0; i < count; i++)
		rte_prefetch0(verdict_of(mbufs[i]));
	for (unsigned i = 0; i < count; i++) {
		burst->flow[i] = NULL;
		if (!name(&burst->key[i], mbufs[i]))
			continue;
		keys[named] = &burst->key[i];
		signatures[named] = flow_signature(keys[named], verdict_of(mbufs[i])->flow_hash);
		rte_prefetch0(flow_index_line(&table->index, signatures[named]));
		at[named++] = (uint8_t)i;
	}
	if (!named)
		return;
	flow_index_find_bulk(&table->index, keys, signatures, named, found);
	for (unsigned i = 0; i < named; i++)
		burst->flow[at[i]] = found[i];
}

/* As passing() in track.c, of a flow without a stream or an end. */
static inline void note(struct flow *flow, enum side side, const uint8_t *tcp, uint32_t payload)
{
	struct flow_track *self = &flow->side[side], *peer = &flow->side[side_other(side)];
	uint32_t end = get32(tcp + 4) + payload, ack = get32(tcp + 8);

	if (tcp[13] & PACKET_ACK && !seq_after(ack, peer->next) && seq_after(ack, peer->acked - 65536)) {
		uint32_t edge = ack + ((uint32_t)get16(tcp + 14) << self->wscale);
		if (seq_after(ack, peer->acked))
			peer->acked = ack;
		if (seq_after(edge, self->edge))
			self->edge = edge;
	}
	if (seq_after(end, self->next))
		self->next = end;
	self->heard = true;
	flow->bytes[side] += payload;
}

bool flow_burst_pass(struct flow_table *table, const struct flow_burst *burst, unsigned index, struct rte_mbuf *mbuf, uint64_t now_us)
{
	struct flow *flow = burst->flow[index];
	if (!flow || burst->changes != table->changes) /* found before others came and went: not worth another look */
		return false;
	const struct verdict *verdict = verdict_of(mbuf);
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *), *tcp = frame + verdict->l4_off;
	enum side side = verdict->flags & VERDICT_TO_PORT_25 ? CLIENT : SERVER;
	if (flow->state != FLOW_SEALED || flow->reopening || flow->side[CLIENT].fin_sent || flow->side[SERVER].fin_sent ||
	    burst->from != (side == CLIENT ? flow->client_port_side : port_other(flow->client_port_side)))
		return false;
	uint32_t end = packet_end(frame, rte_pktmbuf_data_len(mbuf), verdict), payload = end - verdict->l4_off - (uint32_t)(tcp[12] >> 4) * 4;
	if (flow->offloaded && !payload) /* its last one, perhaps */
		return false;
	flow->seen_us = now_us;
	if (table->ops.offload)
		flow_offload_packet(table, flow, tcp[13], payload);
	note(flow, side, tcp, payload);
	mbuf->data_len = (uint16_t)end; /* without Ethernet padding */
	mbuf->pkt_len = end;
	table->ops.send(table->ops.context, flow, side, mbuf);
	return true;
}
