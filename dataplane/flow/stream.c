/*
 * stream.c - in-order approval: what may leave, and when.
 *
 * Enters: segments with payload or FIN of a watched flow. Leaves: the same segments, in order, cut at
 * the last approved byte. What waits for the bytes before it, or for approval, is held; what has been
 * forwarded and is not acknowledged is kept, so that a retransmission with other bytes is sent on as
 * its first copy (an endpoint could otherwise show waxseal one stream and its peer another). A FIN ends
 * its stream: what has been forwarded is neither contradicted nor followed by more.
 * Refuses, counted: segments past the limits, and beyond what the receiver has allowed.
 */
#include "private.h"

#include <rte_mbuf.h>
#include <stdlib.h>
#include <string.h>

struct flow_stream *flow_stream_new(const struct flow *flow)
{
	struct flow_stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return NULL;
	for (int s = 0; s < SIDES; s++)
		stream->kept[s].start = flow->side[s].next;
	return stream;
}

static void held_free(struct flow_table *table, struct flow_stream *stream, struct flow_held *held)
{
	rte_pktmbuf_free(held->mbuf);
	free(held);
	stream->held_count--;
	table->held_total--;
}

void flow_stream_free(struct flow_table *table, struct flow *flow)
{
	struct flow_stream *stream = flow->stream;
	if (!stream)
		return;
	for (int s = 0; s < SIDES; s++) {
		while (stream->held[s]) {
			struct flow_held *held = stream->held[s];
			stream->held[s] = held->later;
			held_free(table, stream, held);
			if (!flow->released) /* else: a copy, made to follow */
				stats_inc(table->stats, STAT_drop_held);
		}
	}
	BUG_ON(stream->held_count);
	free(stream);
	flow->stream = NULL;
}

bool flow_has_held(const struct flow *flow, enum side side)
{
	return flow->stream && flow->stream->held[side];
}

const struct packet_template *flow_template(const struct flow *flow, enum side side)
{
	return flow->stream && flow->stream->have_template[side] ? &flow->stream->template[side] : NULL;
}

/* The highest TTL of a side is its own: one that was made to die on the way must not mark waxseal's segments. */
void flow_stream_template(struct flow *flow, enum side side, const struct packet *packet)
{
	struct flow_stream *stream = flow->stream;
	struct packet_template *template = &stream->template[side];
	unsigned ttl_at = packet->family == 4 ? 8 : 7;
	if (!stream->have_template[side]) {
		packet_template_from(template, packet);
		stream->have_template[side] = true;
	} else if (packet->frame[packet->l3_off + ttl_at] > template->headers[template->l3_off + ttl_at]) {
		template->headers[template->l3_off + ttl_at] = packet->frame[packet->l3_off + ttl_at];
	}
}

/* ---- kept bytes ---- */

const uint8_t *flow_kept(const struct flow *flow, enum side side, uint32_t *len)
{
	static const uint8_t none;
	*len = flow->stream ? flow->stream->kept[side].len : 0;
	return flow->stream ? flow->stream->kept[side].bytes : &none;
}

void flow_stream_acked(struct flow *flow, enum side side, uint32_t ack)
{
	struct flow_kept *kept = &flow->stream->kept[side];
	uint32_t gone = ack - kept->start;
	if ((int32_t)gone <= 0)
		return;
	if (gone > kept->len)
		gone = kept->len; /* the rest of `ack` is a FIN */
	memmove(kept->bytes, kept->bytes + gone, kept->len - gone);
	kept->start += gone;
	kept->len -= gone;
}

static bool keep(struct flow_kept *kept, const uint8_t *bytes, uint32_t len)
{
	if (len > sizeof(kept->bytes) - kept->len)
		return false;
	memcpy(kept->bytes + kept->len, bytes, len);
	kept->len += len;
	return true;
}

/* Gives the part of a packet that was forwarded before the bytes it had then. */
static void restore_first_copy(struct flow_table *table, struct flow *flow, enum side side, struct packet *packet)
{
	const struct flow_kept *kept = &flow->stream->kept[side];
	uint32_t from = seq_before(packet->seq, kept->start) ? kept->start : packet->seq;
	uint32_t to = packet->seq + packet->payload_len;
	if (seq_after(to, kept->start + kept->len))
		to = kept->start + kept->len;
	if (!seq_before(from, to))
		return;
	uint16_t at = (uint16_t)(from - packet->seq), len = (uint16_t)(to - from);
	const uint8_t *first = kept->bytes + (from - kept->start);
	if (memcmp(packet->frame + packet->payload_off + at, first, len) == 0)
		return;
	packet_overwrite(packet, at, first, len);
	stats_inc(table->stats, STAT_rewritten_segments);
}

/* ---- forwarding ---- */

static void forward(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_track *track = &flow->side[side];
	flow->bytes[side] += packet->payload_len;
	flow_note_timestamp(flow, side, packet);
	if (packet->flags & PACKET_FIN) {
		track->fin_sent = true;
		track->fin_seq = packet->seq + packet->payload_len;
	}
	mbuf->data_len = packet->frame_len;
	mbuf->pkt_len = packet->frame_len;
	table->ops.send(table->ops.context, flow, side, mbuf);
}

/* A second frame with the first `len` payload bytes; NULL without a buffer. */
static struct rte_mbuf *copy_head(const struct packet *packet, struct rte_mbuf *mbuf, uint16_t len, struct packet *head)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(mbuf, mbuf->pool, 0, UINT32_MAX);
	if (!copy)
		return NULL;
	*head = *packet;
	head->frame = rte_pktmbuf_mtod(copy, uint8_t *);
	packet_keep_head(head, len);
	return copy;
}

/* Forwards the head of the first held segment up to `upto`; false when it must wait. */
static bool release_first(struct flow_table *table, struct flow *flow, enum side side, uint32_t upto)
{
	struct flow_stream *stream = flow->stream;
	struct flow_held *held = stream->held[side];
	struct packet *packet = &held->packet;
	struct flow_track *track = &flow->side[side];
	uint32_t ready = seq_before(upto, packet->seq) ? 0 : upto - packet->seq;
	bool whole = ready >= packet->payload_len;
	uint16_t len = whole ? packet->payload_len : (uint16_t)ready;

	if (packet->seq != track->next || track->fin_sent || (!len && !whole))
		return false;
	if (!keep(&stream->kept[side], packet->frame + packet->payload_off, len))
		return false; /* goes on when the other side acknowledges */
	track->next += len;
	if (whole) {
		stream->held[side] = held->later;
		stream->held_count--;
		table->held_total--;
		track->next += !!(packet->flags & PACKET_FIN);
		forward(table, flow, side, held->mbuf, packet);
		free(held);
		return true;
	}
	struct packet head;
	struct rte_mbuf *mbuf = copy_head(packet, held->mbuf, len, &head);
	stats_inc(table->stats, mbuf ? STAT_split_segments : STAT_drop_no_mbuf);
	if (mbuf) /* else: the bytes are kept, and the retransmission is answered from there */
		forward(table, flow, side, mbuf, &head);
	packet_drop_head(packet, len);
	return false;
}

static void release(struct flow_table *table, struct flow *flow, enum side side)
{
	while (flow->stream && flow->stream->held[side]) {
		uint64_t approved = table->ops.approved(table->ops.context, flow, side);
		if (!release_first(table, flow, side, stream_seq(flow, side, approved)))
			return;
	}
}

void flow_stream_release_all(struct flow_table *table, struct flow *flow)
{
	for (int s = 0; s < SIDES; s++) {
		while (flow->stream->held[s]) {
			struct flow_held *held = flow->stream->held[s];
			flow->stream->held[s] = held->later;
			flow->stream->held_count--;
			table->held_total--;
			uint32_t end = held->packet.seq + packet_seq_len(&held->packet);
			if (seq_after(end, flow->side[s].next))
				flow->side[s].next = end;
			forward(table, flow, s, held->mbuf, &held->packet);
			free(held);
		}
	}
}

/* ---- feeding ---- */

static size_t feed(struct flow_table *table, struct flow *flow, enum side side)
{
	struct flow_stream *stream = flow->stream;
	size_t taken = 0;
	for (struct flow_held *held = stream->held[side]; held; held = held->later) {
		uint32_t at = stream_seq(flow, side, stream->fed[side]) - held->packet.seq;
		if ((int32_t)at < 0)
			break; /* a hole */
		if (at >= held->packet.payload_len)
			continue;
		size_t len = held->packet.payload_len - at;
		uint8_t state = flow->state;
		size_t n = table->ops.take(table->ops.context, flow, side,
		                           held->packet.frame + held->packet.payload_off + at, len);
		if (flow->stream != stream)
			return 0; /* the flow has left the watched states */
		stream->fed[side] += n;
		taken += n;
		if (n < len || flow->state != state)
			break;
	}
	return taken;
}

static bool watched(const struct flow *flow)
{
	return flow->stream && (flow->state == FLOW_DIALOGUE || flow->state == FLOW_SEALING);
}

void flow_stream_advance(struct flow_table *table, struct flow *flow)
{
	size_t progress;
	do {
		progress = 0;
		for (int s = 0; s < SIDES && watched(flow); s++)
			progress += feed(table, flow, s);
		for (int s = 0; s < SIDES && watched(flow); s++)
			table->ops.take(table->ops.context, flow, s, (const uint8_t *)"", 0);
		for (int s = 0; s < SIDES && watched(flow); s++)
			release(table, flow, s);
	} while (progress && watched(flow));
}

/* ---- holding ---- */

/* Of a flow that is only followed, what would be held is a copy: nothing is lost with it. */
static bool not_held(struct flow_table *table, const struct flow *flow, enum stats_counter why)
{
	if (watched(flow))
		stats_inc(table->stats, why);
	return false;
}

/* A ClientHello in segments of one octet is whole only after more of them than may be held: from half of the limit on
 * the bytes of a segment go into the held one right before it, as far as the receiver's MSS and the buffer allow. */
static bool merge(const struct flow_table *table, const struct flow *flow, enum side side, struct flow_held *before, const struct packet *packet)
{
	const uint8_t plain = PACKET_ACK | PACKET_PSH;
	if (!before || flow->stream->held_count < table->limits.held_segments_max / 2 || (before->packet.flags | packet->flags) & ~plain)
		return false;
	const struct packet *own = &before->packet;
	uint32_t options = own->payload_off - own->l4_off - 20u, len = (uint32_t)own->payload_len + packet->payload_len;
	const uint8_t *buffer_end = (const uint8_t *)before->mbuf->buf_addr + before->mbuf->buf_len;
	if (own->seq + own->payload_len != packet->seq || len + options > flow->side[side_other(side)].mss ||
	    own->frame + own->frame_len + packet->payload_len > buffer_end)
		return false;
	packet_append(&before->packet, packet->frame + packet->payload_off, packet->payload_len);
	before->mbuf->data_len = before->packet.frame_len; /* copies are made by the mbuf's length */
	before->mbuf->pkt_len = before->packet.frame_len;
	return true;
}

/* Segments that came out of order are joined once the hole between them is filled. True: there are fewer now. */
static bool compact(struct flow_table *table, struct flow *flow, enum side side)
{
	uint32_t before = flow->stream->held_count;
	for (struct flow_held *held = flow->stream->held[side]; held && held->later;) {
		struct flow_held *next = held->later;
		if (!merge(table, flow, side, held, &next->packet)) {
			held = next;
			continue;
		}
		held->later = next->later;
		held_free(table, flow->stream, next);
		not_held(table, flow, STAT_drop_merged);
	}
	return flow->stream->held_count < before;
}

/* Makes room for a segment at `seq` by the one that is furthest behind it: what is nearer is needed first. */
static bool evict_later(struct flow_table *table, struct flow *flow, enum side side, uint32_t seq)
{
	struct flow_held **last = &flow->stream->held[side];
	while (*last && (*last)->later)
		last = &(*last)->later;
	if (!*last || !seq_after((*last)->packet.seq, seq))
		return false;
	held_free(table, flow->stream, *last);
	*last = NULL;
	not_held(table, flow, STAT_drop_held_limit);
	return true;
}

/* Puts a segment into its place; overlaps with what is held already are cut off the new one. */
static bool hold(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_stream *stream = flow->stream;
	struct flow_held **at = &stream->held[side], *before = NULL;
	/* What is next in order passes through here too: half of the room is its own, whatever others leave out of order. */
	bool in_order = packet->seq == flow->side[side].next;
	uint32_t total_max = in_order ? table->limits.held_segments_total_max : table->limits.held_segments_total_max / 2;
	for (; *at && !seq_after((*at)->packet.seq, packet->seq); at = &(*at)->later) {
		before = *at;
		uint32_t covered = (*at)->packet.seq + packet_seq_len(&(*at)->packet) - packet->seq;
		if ((int32_t)covered <= 0)
			continue;
		if (covered >= packet_seq_len(packet))
			return not_held(table, flow, STAT_drop_duplicate);
		packet_drop_head(packet, (uint16_t)(covered < packet->payload_len ? covered : packet->payload_len));
	}
	if (*at && seq_before((*at)->packet.seq, packet->seq + packet_seq_len(packet))) {
		packet_keep_head(packet, (uint16_t)((*at)->packet.seq - packet->seq));
		if (!packet->payload_len)
			return not_held(table, flow, STAT_drop_duplicate);
	}
	if (merge(table, flow, side, before, packet)) {
		not_held(table, flow, STAT_drop_merged);
		rte_pktmbuf_free(mbuf);
		return true;
	}
	bool full = !in_order && stream->held_count >= table->limits.held_segments_max;
	if (full && compact(table, flow, side))
		return hold(table, flow, side, mbuf, packet); /* its place may be another one now */
	if ((full && !evict_later(table, flow, side, packet->seq)) || table->held_total >= total_max)
		return not_held(table, flow, STAT_drop_held_limit);
	struct flow_held *held = malloc(sizeof(*held));
	if (!held)
		return not_held(table, flow, STAT_drop_held_limit);
	*held = (struct flow_held){.later = *at, .mbuf = mbuf, .packet = *packet};
	*at = held;
	stream->held_count++;
	table->held_total++;
	stats_inc(table->stats, STAT_held_segments);
	return true;
}

void flow_stream_segment(struct flow_table *table, struct flow *flow, enum side side, struct rte_mbuf *mbuf, struct packet *packet)
{
	struct flow_track *track = &flow->side[side];
	uint32_t data_end = packet->seq + packet->payload_len;

	flow_stream_template(flow, side, packet);
	if (track->fin_sent && seq_after(data_end, track->fin_seq)) {
		stats_inc(table->stats, STAT_drop_state); /* behind the stream's end: its FIN may have died on the way */
		rte_pktmbuf_free(mbuf);
		return;
	}
	if (packet->flags & PACKET_FIN && seq_before(data_end, track->fin_sent ? track->fin_seq : track->next))
		packet_keep_head(packet, packet->payload_len); /* an end before what has been forwarded, or before the end */
	uint32_t end = packet->seq + packet_seq_len(packet);
	if (seq_before(packet->seq, track->next)) {
		restore_first_copy(table, flow, side, packet);
		if (!seq_after(end, track->next)) {
			forward(table, flow, side, mbuf, packet); /* a retransmission */
			return;
		}
		/* Senders coalesce: the old part goes out again, the new one waits its turn. A FIN has no payload byte. */
		uint32_t old = track->next - packet->seq;
		if (old > packet->payload_len)
			old = packet->payload_len;
		struct packet head;
		struct rte_mbuf *copy = old ? copy_head(packet, mbuf, (uint16_t)old, &head) : NULL;
		if (copy) {
			stats_inc(table->stats, STAT_split_segments);
			forward(table, flow, side, copy, &head);
		}
		packet_drop_head(packet, (uint16_t)old);
	}
	if (!hold(table, flow, side, mbuf, packet)) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	flow_stream_advance(table, flow);
}

void flow_stream_observe(struct flow_table *table, struct flow *flow, enum side side, const struct rte_mbuf *mbuf, const struct packet *packet)
{
	struct flow_stream *stream = flow->stream;
	uint32_t at = stream_seq(flow, side, stream->fed[side]) - packet->seq;
	if ((int32_t)at >= 0 && at >= packet->payload_len)
		return; /* seen before */
	if ((int32_t)at >= 0 && !stream->held[side]) { /* the usual case: in order, nothing waits */
		stream->fed[side] += table->ops.take(table->ops.context, flow, side, packet->frame + packet->payload_off + at,
		                                     packet->payload_len - at);
		return;
	}
	struct packet view = *packet;
	struct rte_mbuf *copy = rte_pktmbuf_copy(mbuf, mbuf->pool, 0, UINT32_MAX);
	if (!copy)
		return;
	view.frame = rte_pktmbuf_mtod(copy, uint8_t *);
	if (!hold(table, flow, side, copy, &view))
		rte_pktmbuf_free(copy);
	feed(table, flow, side);
	while (flow->stream == stream && stream->held[side]) {
		struct flow_held *held = stream->held[side];
		uint32_t end = held->packet.seq + held->packet.payload_len;
		if (seq_after(end, stream_seq(flow, side, stream->fed[side])))
			break;
		stream->held[side] = held->later;
		held_free(table, stream, held);
	}
}

void flow_follow_held(struct flow_table *table, struct flow *flow)
{
	flow_stream_advance(table, flow);
}

void flow_drain(struct flow_table *table, struct flow *flow)
{
	struct flow_stream *stream = flow->stream;
	for (int s = 0; stream && s < SIDES; s++) {
		while (stream->held[s]) {
			struct flow_held *held = stream->held[s];
			stream->held[s] = held->later;
			stream->held_count--;
			table->held_total--;
			table->ops.taken(table->ops.context, flow, s, held->mbuf, &held->packet);
			free(held);
		}
	}
	flow_stream_free(table, flow);
}
