/*
 * receive.c - the peer's bytes: reassembly, the window offered, delayed ACKs, SACK blocks.
 *
 * Enters: payload that input.c has cut to [rcv_nxt, rcv_edge). Leaves: in-order bytes in the ring, and what
 * the next ACK says. The right edge never moves back: a promise made is kept in the arithmetic, while the
 * memory stays bounded (a byte that finds no chunk is dropped, and the peer sends it again).
 */
#include "private.h"

void tcp_note_duplicate(struct tcp_endpoint *ep, uint32_t start, uint32_t end)
{
	ep->ack_now = true;
	if (!ep->sack_ok || !seq_before(start, end))
		return;
	ep->dsack = (struct tcp_sack){start, end}; /* RFC 2883: reported once, in the next ACK */
	ep->dsack_due = true;
}

static void remember(struct tcp_endpoint *ep, uint32_t seq)
{
	unsigned n = ep->recent_count < TCP_RECENT_MAX ? ep->recent_count++ : TCP_RECENT_MAX - 1;
	memmove(&ep->recent[1], &ep->recent[0], n * sizeof(ep->recent[0]));
	ep->recent[0] = seq;
}

/* A peer that fills half of the offer within a round trip is given twice as much. */
static void measure_rate(struct tcp_endpoint *ep, uint32_t bytes, uint64_t now_us)
{
	uint64_t round = ep->srtt_us > 10 * MILLISECONDS ? ep->srtt_us : 10 * MILLISECONDS;
	ep->rate_bytes = min_u32(ep->rate_bytes + bytes, TCP_CWND_MAX);
	if (now_us - ep->rate_at_us < round)
		return;
	if (now_us - ep->rate_at_us < 4 * round && ep->rate_bytes >= ep->window_target / 2)
		ep->window_target = min_u32(2 * ep->window_target, max_u32(ep->limits.receive_buffer_bytes_max, ep->window_target));
	ep->rate_bytes = 0;
	ep->rate_at_us = now_us;
}

unsigned tcp_receive_advance_fin(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (!ep->fin_known || ep->fin_received || ep->rcv_nxt != ep->fin_seq)
		return 0;
	ep->fin_received = true;
	ep->rcv_nxt++;
	ep->rcv_edge = seq_max(ep->rcv_edge, ep->rcv_nxt);
	ep->ack_now = true;
	switch (ep->state) {
	case TCP_ESTABLISHED:
		tcp_enter_state(ep, TCP_CLOSE_WAIT);
		break;
	case TCP_FIN_WAIT_1:
		tcp_enter_state(ep, TCP_CLOSING);
		break;
	case TCP_FIN_WAIT_2:
		tcp_enter_state(ep, TCP_TIME_WAIT);
		ep->time_wait_at_us = now_us + TCP_TIME_WAIT_US;
		break;
	case TCP_CLOSE_WAIT:
	case TCP_CLOSING:
	case TCP_LAST_ACK:
	case TCP_TIME_WAIT:
	case TCP_CLOSED:
	case TCP_DEAD:
		BUG_ON(true);
	}
	return TCP_EVENT_READABLE;
}

static unsigned receive_in_order(struct tcp_endpoint *ep, const uint8_t *bytes, uint32_t len, uint64_t now_us)
{
	uint32_t before = ep->rcv_nxt;
	uint32_t done = tcp_ring_put(&ep->in, ep->rcv_nxt, bytes, len, false);
	bool holes = ep->held.count != 0;
	ep->rcv_nxt += done;
	if (done < len)
		ep->ack_now = true; /* no room; the ACK says what has been kept */
	if (!done)
		return TCP_EVENT_BAD;
	const struct tcp_sack *next = tcp_ranges_find(&ep->held, ep->rcv_nxt);
	if (next)
		ep->rcv_nxt = next->end;
	tcp_ranges_drop(&ep->held, ep->rcv_nxt);
	if (!ep->held.count)
		ep->recent_count = 0;
	measure_rate(ep, ep->rcv_nxt - before, now_us);
	if (holes || ++ep->ack_pending >= 2) /* RFC 5681, 4.2: at once where a hole is filled, else every second segment */
		ep->ack_now = true;
	else if (ep->delayed_ack_at_us == TCP_NEVER)
		ep->delayed_ack_at_us = now_us + TCP_DELAYED_ACK_US;
	return TCP_EVENT_READABLE;
}

unsigned tcp_receive(struct tcp_endpoint *ep, uint32_t seq, const uint8_t *bytes, uint32_t len, uint64_t now_us)
{
	uint32_t overlap = tcp_ranges_covered(&ep->held, seq, seq + len);
	if (overlap) {
		uint32_t until, gap = tcp_ranges_gap(&ep->held, seq, seq + len, &until);
		uint32_t start = gap == seq ? until : seq;
		const struct tcp_sack *range = tcp_ranges_find(&ep->held, start);
		tcp_note_duplicate(ep, start, range ? seq_min(range->end, seq + len) : start);
	}
	if (overlap == len && seq != ep->rcv_nxt) {
		remember(ep, seq);
		return 0;
	}
	if (seq == ep->rcv_nxt)
		return receive_in_order(ep, bytes, len, now_us);
	ep->ack_now = true; /* RFC 5681, 4.2: out of order */
	uint32_t done = tcp_ring_put(&ep->in, seq, bytes, len, true);
	if (!done || !tcp_ranges_add(&ep->held, seq, seq + done))
		return TCP_EVENT_BAD;
	remember(ep, seq);
	return 0;
}

unsigned tcp_receive_fin(struct tcp_endpoint *ep, uint32_t fin_seq, uint64_t now_us)
{
	if (!ep->fin_known) {
		if (ep->held.count && seq_after(ep->held.at[ep->held.count - 1].end, fin_seq))
			return TCP_EVENT_BAD; /* bytes beyond it have arrived: one of the two is a lie */
		ep->fin_known = true;
		ep->fin_seq = fin_seq;
	}
	if (fin_seq != ep->fin_seq)
		return TCP_EVENT_BAD;
	ep->ack_now = true;
	return tcp_receive_advance_fin(ep, now_us);
}

bool tcp_answer_at_once(const struct tcp_endpoint *ep)
{
	return ep->ack_now && (ep->held.count || ep->dsack_due);
}

/* ---- the window ---- */

uint32_t tcp_offered_edge(const struct tcp_endpoint *ep)
{
	uint32_t buffered = ep->rcv_nxt - ep->fin_received - ep->in.seq;
	uint32_t space = ep->window_target > buffered ? ep->window_target - buffered : 0;
	/* Each endpoint promises at most half of what is free now: promises shrink as the pool fills. */
	uint64_t pool = (uint64_t)tcp_pool_room(ep->pool) * TCP_CHUNK_BYTES / 2;
	if (space > pool)
		space = (uint32_t)pool;
	space = min_u32(space, 65535u << ep->rcv_wscale) >> ep->rcv_wscale << ep->rcv_wscale;
	uint32_t edge = ep->rcv_nxt + space;
	/* Silly window syndrome, RFC 9293, 3.8.6.2.2: an advance is worth a segment, or half the buffer. */
	uint32_t worth = min_u32(ep->mss, ep->window_target / 2);
	return seq_before(edge, ep->rcv_edge + worth) ? ep->rcv_edge : edge;
}

/* The application has read: worth a segment of its own only where the peer may be running out. */
bool tcp_window_update_due(const struct tcp_endpoint *ep)
{
	uint32_t edge = tcp_offered_edge(ep), left = ep->rcv_edge - ep->rcv_nxt, gain = edge - ep->rcv_edge;
	if (ep->fin_received || !gain)
		return false;
	return gain >= ep->window_target / 4 || left < 2u * ep->mss;
}

/* ---- SACK ---- */

static bool reported(const struct tcp_sack *blocks, uint8_t from, uint8_t count, const struct tcp_sack *range)
{
	for (uint8_t i = from; i < count; i++)
		if (blocks[i].start == range->start)
			return true;
	return false;
}

uint8_t tcp_sack_blocks(const struct tcp_endpoint *ep, struct tcp_sack blocks[TCP_SACK_MAX])
{
	uint8_t count = 0, max = ep->ts_ok ? TCP_SACK_MAX - 1 : TCP_SACK_MAX, first;
	if (!ep->sack_ok)
		return 0;
	if (ep->dsack_due)
		blocks[count++] = ep->dsack;
	first = count;
	for (unsigned i = 0; i < ep->recent_count && count < max; i++) {
		const struct tcp_sack *range = tcp_ranges_find(&ep->held, ep->recent[i]);
		if (range && !reported(blocks, first, count, range))
			blocks[count++] = *range;
	}
	for (uint32_t i = ep->held.count; i-- > 0 && count < max;)
		if (!reported(blocks, first, count, &ep->held.at[i]))
			blocks[count++] = ep->held.at[i];
	return count;
}
