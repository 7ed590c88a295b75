/*
 * track.c - what a packet means for its connection (RFC 9293, 7323, 5961).
 *
 * Enters: one parsed packet with port 25 at either end. Leaves: the packet, forwarded, held by
 * stream.c, handed to the takeover, or dropped and counted; and the numbers from which takeover/
 * adopts. A SYN opens a flow, and its sender is the client. RST and FIN change a flow only where the
 * receiver would accept them; an acknowledgment of bytes that were never forwarded is dropped. What a receiver
 * would not take (PAWS, RFC 5961) is dropped too: it must not become the first copy of anything.
 */
#include "private.h"

#include <rte_mbuf.h>
#include <string.h>

static void drop(struct flow_table *table, struct rte_mbuf *mbuf, enum stats_counter why)
{
	stats_inc(table->stats, why);
	rte_pktmbuf_free(mbuf);
}

static void send_as_is(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, const struct packet *packet)
{
	if (!(packet->flags & PACKET_SYN)) /* the time stamp of a connection's SYN is noted with its other options */
		flow_note_timestamp(flow, side, packet);
	mbuf->data_len = packet->frame_len; /* without Ethernet padding */
	mbuf->pkt_len = packet->frame_len;
	table->ops.send(table->ops.context, flow, side, mbuf);
}

/* A reset may carry data (RFC 1122, 4.2.2.12). Its receiver reads none of it, so unapproved octets need not travel. */
static void send_reset(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	if (packet->payload_len && !flow->released)
		packet_keep_head(packet, 0);
	send_as_is(table, flow, side, mbuf, packet);
}

/* ---- opening ---- */

static void syn_options(struct flow *flow, enum side side, const struct packet *packet, uint64_t now_us)
{
	struct flow_track *track = &flow->side[side];
	track->isn = packet->seq;
	track->next = track->acked = packet->seq + 1;
	track->mss = packet->options & PACKET_OPT_MSS ? packet->mss : 536; /* RFC 9293, 3.7.1 */
	track->wscale = packet->options & PACKET_OPT_WSCALE ? (packet->wscale > 14 ? 14 : packet->wscale) : 0;
	track->wscale_ok = packet->options & PACKET_OPT_WSCALE;
	track->edge = packet->window; /* a SYN's own window is never scaled */
	track->tsval = track->ts_recent = packet->tsval;
	track->tsval_at = (uint32_t)now_us;
	track->ts_seen = true;
	track->syn_seen = true;
	if (packet->options & (PACKET_OPT_MD5 | PACKET_OPT_AO))
		flow->no_adopt = true;
}

static void first_syn(struct flow_table *table, struct flow *flow, struct rte_mbuf *mbuf, struct packet *packet)
{
	memset(flow->side, 0, sizeof(flow->side));
	flow->no_adopt = false;
	if (packet_clean_syn(packet))
		stats_inc(table->stats, STAT_syn_cleaned);
	syn_options(flow, CLIENT, packet, flow->seen_us);
	flow->sack_ok = packet->options & PACKET_OPT_SACK_OK;
	flow->ts_ok = packet->options & PACKET_OPT_TS;
	send_as_is(table, flow, CLIENT, mbuf, packet);
}

static void open_flow(struct flow_table *table, const struct flow_key *key, struct rte_mbuf *mbuf, struct packet *packet,
                      enum port_side from, uint32_t hash, uint64_t now_us)
{
	struct flow *flow = flow_insert(table, key, hash, now_us);
	if (!flow) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	flow->client_port_side = from;
	stats_inc(table->stats, STAT_flows_opened);
	table->ops.opened(table->ops.context, flow, packet);
	first_syn(table, flow, mbuf, packet);
}

/* A SYN for a pair of ports that is in use. If its receiver still has the old connection it challenges (RFC 5961,
 * section 4), and the sender's RST ends it; if not, it answers SYN-ACK. Then the flow is none any more: it goes, and
 * the SYN, sent again, opens one that is watched from its beginning. */
static void syn_while_open(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	const struct flow_track *client = &flow->side[CLIENT], *server = &flow->side[SERVER];
	bool ack = packet->flags & PACKET_ACK;

	if (packet_clean_syn(packet))
		stats_inc(table->stats, STAT_syn_cleaned);
	if (side == CLIENT && !ack) {
		if (flow->joined || packet->seq != client->isn) { /* else: its own SYN once more, late or doubled */
			flow->reopening = true;
			flow->reopen_isn = packet->seq;
		}
		send_as_is(table, flow, side, mbuf, packet);
		return;
	}
	bool answers = side == SERVER && ack && !flow->joined && packet->seq == server->isn && packet->ack == client->isn + 1;
	if (answers) { /* its ACK was lost */
		send_as_is(table, flow, side, mbuf, packet);
		return;
	}
	bool reopens = side == SERVER && ack && flow->reopening && packet->ack == flow->reopen_isn + 1;
	drop(table, mbuf, STAT_drop_state);
	if (reopens || (flow->joined && side == SERVER && ack)) /* of a joined flow's next connection only this may be seen */
		flow_remove(table, flow);
}

static void handshake(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_track *client = &flow->side[CLIENT], *server = &flow->side[SERVER];
	bool syn = packet->flags & PACKET_SYN, ack = packet->flags & PACKET_ACK;

	if (packet->flags & PACKET_RST) {
		bool refused = side == SERVER && ack && packet->ack == client->isn + 1;
		bool gone = side == CLIENT && packet->seq == client->isn + 1;
		if (refused || gone) {
			send_reset(table, flow, side, mbuf, packet);
			flow_enter_state(table, flow, FLOW_CLOSED, flow->seen_us);
		} else {
			drop(table, mbuf, STAT_drop_reset);
		}
		return;
	}
	if (side == CLIENT && syn && !ack) { /* again, or anew with another ISN */
		if (server->syn_seen)
			syn_while_open(table, flow, side, mbuf, packet);
		else
			first_syn(table, flow, mbuf, packet);
		return;
	}
	if (side == SERVER && syn && ack && server->syn_seen) { /* again; or with another ISN, or for another SYN */
		syn_while_open(table, flow, side, mbuf, packet);
		return;
	}
	if (side == SERVER && syn && ack && packet->ack == client->isn + 1) {
		bool scaling = client->wscale_ok && (packet->options & PACKET_OPT_WSCALE);
		if (packet_clean_syn(packet))
			stats_inc(table->stats, STAT_syn_cleaned);
		server->rtt_us = (uint32_t)flow->seen_us - client->tsval_at;
		syn_options(flow, SERVER, packet, flow->seen_us);
		flow->sack_ok = flow->sack_ok && (packet->options & PACKET_OPT_SACK_OK);
		flow->ts_ok = flow->ts_ok && (packet->options & PACKET_OPT_TS);
		if (!scaling)
			client->wscale = server->wscale = 0;
		server->edge = packet->ack + packet->window;
		client->edge += packet->seq + 1; /* of its SYN: nothing compares with an edge of nowhere */
		flow_answered(table, flow);
		flow_offload_stale(table, flow);
		send_as_is(table, flow, SERVER, mbuf, packet);
		return;
	}
	if (side == SERVER && !syn && server->syn_seen && packet->ack == client->isn + 1 && !packet_seq_len(packet)) {
		send_as_is(table, flow, side, mbuf, packet); /* its challenge to a SYN that is not the connection's */
		return;
	}
	drop(table, mbuf, STAT_drop_state); /* split handshake, simultaneous open, data before the SYN-ACK */
}

/* ---- established ---- */

/* Acknowledgment and window. false: it acknowledges what was never forwarded. */
static bool take_ack(struct flow *flow, enum side side, const struct packet *packet)
{
	struct flow_track *self = &flow->side[side], *peer = &flow->side[side_other(side)];
	if (!(packet->flags & PACKET_ACK) || seq_after(packet->ack, peer->next))
		return false;
	if (seq_after(packet->ack, peer->acked)) {
		peer->acked = packet->ack;
		if (flow->state != FLOW_HANDSHAKE && flow->stream)
			flow_stream_acked(flow, side_other(side), packet->ack);
		if (peer->fin_sent && seq_after(packet->ack, peer->fin_seq))
			peer->fin_acked = true;
	}
	if (packet->ack == peer->acked || seq_after(packet->ack, peer->acked - 65536)) {
		uint32_t edge = packet->ack + ((uint32_t)packet->window << self->wscale);
		if (seq_after(edge, self->edge))
			self->edge = edge;
	}
	return true;
}

/* RFC 5961, section 3: only a RST with the very next sequence number ends the connection. */
static void reset(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_track *self = &flow->side[side];
	const struct flow_track *peer = &flow->side[side_other(side)];
	bool exact = packet->seq == self->next || packet->seq == self->acked;

	if (!exact && flow->stream && flow->stream->held[side]) {
		/* Sent behind bytes that are held here: for the receiver they do not exist. */
		const struct flow_held *held = flow->stream->held[side];
		while (held->later)
			held = held->later;
		if (packet->seq == held->packet.seq + packet_seq_len(&held->packet)) {
			packet_make_reset(packet, self->next, packet->ack);
			exact = true;
		}
	}
	if (!exact && !seq_between(packet->seq, self->acked, peer->edge)) {
		drop(table, mbuf, STAT_drop_reset);
		return;
	}
	send_reset(table, flow, side, mbuf, packet);
	if (exact)
		flow_enter_state(table, flow, FLOW_CLOSED, flow->seen_us);
}

/* RFC 5961, section 5: an acknowledgment older than any window is a guess, and so is the segment. */
static bool ack_too_old(const struct flow *flow, enum side side, const struct packet *packet)
{
	const struct flow_track *peer = &flow->side[side_other(side)];
	uint32_t window_max = 65535u << flow->side[side].wscale;
	return seq_before(packet->ack, peer->isn + 1) || seq_before(packet->ack, peer->acked - window_max);
}

/* RFC 7323, sections 4.3 and 5.3: what the receiver's TS.Recent is, and whether it would take the segment. */
static bool timestamp_acceptable(struct flow *flow, enum side side, const struct packet *packet)
{
	struct flow_track *self = &flow->side[side];
	if (!flow->ts_ok || !(packet->options & PACKET_OPT_TS))
		return true;
	if (seq_before(packet->tsval, self->ts_recent))
		return false;
	if (!seq_after(packet->seq, self->acked) && !seq_before(packet->seq + packet_seq_len(packet), self->acked))
		self->ts_recent = packet->tsval;
	return true;
}

static void watched(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	const struct flow_track *peer = &flow->side[side_other(side)];
	if (packet->flags & PACKET_ACK && ack_too_old(flow, side, packet)) {
		drop(table, mbuf, STAT_drop_window);
		return;
	}
	if (!timestamp_acceptable(flow, side, packet)) {
		drop(table, mbuf, STAT_drop_timestamp);
		return;
	}
	if (!take_ack(flow, side, packet)) {
		drop(table, mbuf, STAT_drop_state);
		return;
	}
	if (packet->flags & PACKET_URG)
		packet_clear_urgent(packet);
	if (packet_seq_len(packet) == 0) {
		flow_stream_template(flow, side, packet);
		send_as_is(table, flow, side, mbuf, packet);
		flow_stream_advance(table, flow); /* room in the kept bytes, or a reply's end that was waited for */
		return;
	}
	/* One window beyond the edge is let in: a clamp elsewhere may be older than the sender's view. */
	uint32_t limit = peer->edge + 65536;
	if (seq_after(packet->seq, limit) || seq_before(packet->seq, flow->side[side].acked - 65536 * 4)) {
		drop(table, mbuf, STAT_drop_window);
		return;
	}
	flow_stream_segment(table, flow, side, mbuf, packet);
}

/* SEALED and CLEAR: passes; followed just far enough to know its end. */
static void passing(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_track *self = &flow->side[side];
	uint32_t end = packet->seq + packet_seq_len(packet);

	take_ack(flow, side, packet);
	self->heard = true;
	if (packet->flags & PACKET_FIN && !self->fin_sent) {
		self->fin_sent = true;
		self->fin_seq = end - 1;
	}
	if (seq_after(end, self->next))
		self->next = end;
	flow->bytes[side] += packet->payload_len;
	if (flow->observed && packet->payload_len && flow->state == FLOW_CLEAR) {
		flow_stream_observe(table, flow, side, mbuf, packet);
		if (flow->state == FLOW_CUT) {
			drop(table, mbuf, STAT_drop_cut);
			return;
		}
	}
	send_as_is(table, flow, side, mbuf, packet);
}

static void established(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	if (packet->flags & PACKET_SYN) {
		syn_while_open(table, flow, side, mbuf, packet);
		return;
	}
	if (packet->flags & PACKET_RST) {
		reset(table, flow, side, mbuf, packet);
		return;
	}
	if (flow->state == FLOW_DIALOGUE || flow->state == FLOW_SEALING) {
		watched(table, flow, side, mbuf, packet);
		if (flow->state == FLOW_SEALED)
			flow_offload_sealed(table, flow);
	} else {
		passing(table, flow, side, mbuf, packet);
	}
	if (flow->side[CLIENT].fin_acked && flow->side[SERVER].fin_acked && flow->state != FLOW_CLOSED &&
	    flow->state != FLOW_CUT && flow->state != FLOW_TAKEN)
		flow_enter_state(table, flow, FLOW_CLOSED, flow->seen_us);
}

/* The client's ACK of the SYN-ACK. */
static bool completes_handshake(const struct flow *flow, enum side side, const struct packet *packet)
{
	const struct flow_track *server = &flow->side[SERVER];
	return side == CLIENT && server->syn_seen && !(packet->flags & (PACKET_SYN | PACKET_RST)) &&
	       (packet->flags & PACKET_ACK) && packet->ack == server->isn + 1 &&
	       seq_between(packet->seq, flow->side[CLIENT].isn + 1, server->edge);
}

static void complete_handshake(struct flow_table *table, struct flow *flow)
{
	struct flow_stream *stream = flow_stream_new(flow);
	flow->side[CLIENT].rtt_us = (uint32_t)flow->seen_us - flow->side[SERVER].tsval_at;
	flow_enter_state(table, flow, stream ? FLOW_DIALOGUE : FLOW_CUT, flow->seen_us);
	flow->stream = stream;
	if (stream)
		table->ops.established(table->ops.context, flow);
}

/* CLOSED: the last ACK and a FIN again pass. Payload does not, unless the session had been let go: an end that only
 * waxseal has seen (a RST that died on the way) must not open the way for what is not watched. */
static void gone(struct flow_table *table, const struct flow *flow, enum side side, struct rte_mbuf *mbuf, const struct packet *packet)
{
	if (table->ops.gone && packet_seq_len(packet) && !(packet->flags & PACKET_RST))
		table->ops.gone(table->ops.context, flow, side, packet);
	drop(table, mbuf, STAT_drop_cut);
}

static void closed(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	if (flow->taken) {
		gone(table, flow, side, mbuf, packet);
		return;
	}
	if (!flow->released && packet->payload_len) {
		if (!(packet->flags & PACKET_FIN) || seq_after(packet->seq + packet->payload_len, flow->side[side].next)) {
			drop(table, mbuf, STAT_drop_state);
			return;
		}
		packet_drop_head(packet, packet->payload_len);
	}
	send_as_is(table, flow, side, mbuf, packet);
}

/* ---- entry ---- */

/* RST or SYN of nothing that is known. A lone SYN-ACK opens nothing, or forged ones would fill the table. Passed, it would
 * make a connection that is joined in the middle; so it does not pass while it may be the answer to a SYN that was seen here
 * and has given way to others. Not otherwise: of a path of which one half crosses, SYN-ACKs are all that is ever seen. */
static void stray(struct flow_table *table, struct flow *name, enum side side, struct rte_mbuf *mbuf, struct packet *packet, uint64_t now_us)
{
	bool answer = side == SERVER && (packet->flags & (PACKET_SYN | PACKET_ACK)) == (PACKET_SYN | PACKET_ACK);
	if (answer && now_us < table->forgotten_until_us && table->ops.must_open && table->ops.must_open(table->ops.context, name))
		drop(table, mbuf, STAT_drop_forgotten);
	else
		send_as_is(table, name, side, mbuf, packet);
}

static void join(struct flow_table *table, const struct flow_key *key, enum side side, struct rte_mbuf *mbuf,
                 struct packet *packet, enum port_side from, uint32_t hash, uint64_t now_us)
{
	enum port_side client_port_side = side == CLIENT ? from : port_other(from);
	if (packet->flags & (PACKET_RST | PACKET_SYN)) {
		struct flow name = {.key = *key, .hash = hash, .client_port_side = client_port_side};
		stray(table, &name, side, mbuf, packet, now_us);
		return;
	}
	struct flow *flow = flow_insert(table, key, hash, now_us);
	if (!flow) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	flow->client_port_side = client_port_side;
	flow->joined = true;
	flow->side[side].next = flow->side[side].acked = packet->seq;
	flow->side[side_other(side)].next = flow->side[side_other(side)].acked = packet->ack;
	stats_inc(table->stats, STAT_flows_joined);
	table->ops.joined(table->ops.context, flow, side, packet);
	if (flow->state == FLOW_CUT)
		drop(table, mbuf, STAT_drop_cut);
	else
		passing(table, flow, side, mbuf, packet);
}

static struct flow *look_up(struct flow_table *table, const struct packet *packet, uint32_t hash, struct flow_key *key, enum side *side)
{
	struct flow *flow = NULL;
	memset(key, 0, sizeof(*key));
	memcpy(key->vlan, packet->vlan, packet->vlan_count * sizeof(key->vlan[0]));
	for (int to_server = 1; to_server >= 0 && !flow; to_server--) {
		if ((to_server ? packet->port_dst : packet->port_src) != 25)
			continue;
		memcpy(key->client, to_server ? packet->addr_src : packet->addr_dst, 16);
		memcpy(key->server, to_server ? packet->addr_dst : packet->addr_src, 16);
		key->client_port = to_server ? packet->port_src : packet->port_dst;
		key->server_port = to_server ? packet->port_dst : packet->port_src;
		*side = to_server ? CLIENT : SERVER;
		if (packet->port_src == 25 && packet->port_dst == 25 && (packet->flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN)
			return flow_find(table, key, hash);
		flow = flow_find(table, key, hash);
	}
	return flow;
}

void flow_packet(struct flow_table *table, struct rte_mbuf *mbuf, struct packet *packet, enum port_side from,
                 uint32_t hash, uint64_t now_us)
{
	struct flow_key key;
	enum side side = CLIENT;
	struct flow *flow = look_up(table, packet, hash, &key, &side);
	bool opening = side == CLIENT && (packet->flags & (PACKET_SYN | PACKET_ACK | PACKET_RST)) == PACKET_SYN;

	if (packet->flags & PACKET_SYN && packet->flags & (PACKET_FIN | PACKET_RST)) {
		drop(table, mbuf, STAT_drop_state); /* stacks differ in what it is */
		return;
	}

	if (flow && opening && (flow->state == FLOW_CLOSED || flow->state == FLOW_CUT)) {
		flow_remove(table, flow); /* the port is used again */
		flow = NULL;
	}
	if (!flow) {
		if (!packet_checksums_ok(packet))
			drop(table, mbuf, STAT_drop_checksum);
		else if (opening)
			open_flow(table, &key, mbuf, packet, from, hash, now_us);
		else
			join(table, &key, side, mbuf, packet, from, hash, now_us);
		return;
	}
	enum port_side expected = side == CLIENT ? flow->client_port_side : port_other(flow->client_port_side);
	if (from != expected) {
		drop(table, mbuf, STAT_drop_state); /* somebody else's packet in the flow's name */
		return;
	}
	if (flow->state != FLOW_CLOSED || flow->taken) /* an end that goes on sending must not come to be a flow of its own */
		flow->seen_us = now_us;
	/* Sealed, only what would change the flow is looked at so closely. */
	bool closely = flow->state != FLOW_SEALED || flow->reopening || packet->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST);
	if (closely && !packet_checksums_ok(packet)) {
		drop(table, mbuf, STAT_drop_checksum); /* a receiver would not see it, so neither does the tracker */
		return;
	}
	if (flow->state == FLOW_SEALED)
		flow_offload_packet(table, flow, packet->flags, packet->payload_len);
	if (flow->reopening && side == CLIENT && !(packet->flags & (PACKET_SYN | PACKET_RST)) && packet->seq == flow->reopen_isn + 1 &&
	    flow->state != FLOW_TAKEN) {
		flow_remove(table, flow); /* the server's SYN-ACK did not come this way: no more is known of the new connection */
		join(table, &key, side, mbuf, packet, from, hash, now_us);
		return;
	}
	if (flow->state == FLOW_HANDSHAKE && !flow->joined && completes_handshake(flow, side, packet))
		complete_handshake(table, flow);
	switch ((enum flow_state)flow->state) {
	case FLOW_HANDSHAKE:
		if (flow->joined && packet->flags & PACKET_SYN) {
			syn_while_open(table, flow, side, mbuf, packet);
			break;
		}
		if (flow->joined) {
			table->ops.joined(table->ops.context, flow, side, packet);
			if (flow->state == FLOW_CUT)
				drop(table, mbuf, STAT_drop_cut);
			else
				passing(table, flow, side, mbuf, packet);
			break;
		}
		handshake(table, flow, side, mbuf, packet);
		break;
	case FLOW_DIALOGUE:
	case FLOW_SEALING:
	case FLOW_SEALED:
	case FLOW_CLEAR:
		established(table, flow, side, mbuf, packet);
		break;
	case FLOW_TAKEN:
		table->ops.taken(table->ops.context, flow, side, mbuf, packet);
		break;
	case FLOW_CUT:
		gone(table, flow, side, mbuf, packet);
		break;
	case FLOW_CLOSED:
		closed(table, flow, side, mbuf, packet);
		break;
	case FLOW_STATES:
		BUG_ON(true);
	}
}
