/*
 * rack.c - loss by time: RFC 8985 (RACK), for peers that send SACK. Three segments above a hole (RFC 6675) are the
 * special case of a path that has shown no reordering; with a small window, or where the retransmission itself is
 * lost, they never come, and only time tells.
 *
 * Where nothing was sent behind what is lost, nothing tells at all: the tail's last segment goes again after two round
 * trips (the tail loss probe), and its SACK shows the hole before the retransmission timer would.
 *
 * Enters: each transmission with its time; what has been delivered. Leaves: `lost`, and rack_at_us, when the next
 * segment would count as lost. The transmissions are a bounded ring in the order of time; past TCP_SENT_MAX, or
 * TCP_SENT_FEW while the pool has no chunk for them, the oldest is forgotten, and the retransmission timer is left for it.
 */
#include "private.h"

_Static_assert(TCP_SENT_MAX * sizeof(struct tcp_sent) == TCP_CHUNK_BYTES, "the ring is a chunk of the pool");

static uint32_t end_of(const struct tcp_sent *sent) { return sent->start + sent->len; }

static unsigned sent_max(const struct tcp_endpoint *ep) { return ep->sent_chunk ? TCP_SENT_MAX : TCP_SENT_FEW; }

static struct tcp_sent *sent_at(struct tcp_endpoint *ep, unsigned i)
{
	struct tcp_sent *ring = ep->sent_chunk ? ep->sent_chunk : ep->sent_few;
	return &ring[(ep->sent_first + i) % sent_max(ep)];
}

static void widen(struct tcp_endpoint *ep)
{
	struct tcp_sent *chunk = ep->sent_chunk || !tcp_pool_spare(ep->pool) ? NULL : (struct tcp_sent *)(void *)tcp_chunk_take(ep->pool);

	if (!chunk)
		return;
	for (unsigned i = 0; i < ep->sent_count; i++)
		chunk[i] = *sent_at(ep, i);
	ep->sent_chunk = chunk;
	ep->sent_first = 0;
}

void tcp_sent_note(struct tcp_endpoint *ep, uint32_t start, uint32_t len, bool again, uint64_t now_us)
{
	if (!ep->sack_ok || !len || len > UINT16_MAX)
		return;
	if (ep->sent_count == sent_max(ep))
		widen(ep);
	if (ep->sent_count == sent_max(ep)) {
		ep->sent_first = (ep->sent_first + 1) % sent_max(ep);
		ep->sent_count--;
	}
	*sent_at(ep, ep->sent_count++) = (struct tcp_sent){now_us, start, (uint16_t)len, again, false};
}

static void give_ring(struct tcp_endpoint *ep)
{
	if (ep->sent_chunk)
		tcp_chunk_give(ep->pool, (uint8_t *)ep->sent_chunk);
	ep->sent_chunk = NULL;
	ep->sent_first = ep->sent_count = 0;
}

void tcp_sent_forget(struct tcp_endpoint *ep)
{
	give_ring(ep);
	ep->rack_at_us = TCP_NEVER;
}

static bool delivered(const struct tcp_endpoint *ep, const struct tcp_sent *sent)
{
	if (!seq_after(end_of(sent), ep->snd_una))
		return true;
	const struct tcp_sack *range = ep->sacked.count ? tcp_ranges_find(&ep->sacked, seq_max(sent->start, ep->snd_una)) : NULL;
	return range && !seq_after(end_of(sent), range->end);
}

static bool sent_after(uint64_t at_us, uint32_t end, uint64_t other_at_us, uint32_t other_end)
{
	return at_us > other_at_us || (at_us == other_at_us && seq_after(end, other_end));
}

/* RFC 8985, 6.2, steps 2 and 3. */
static void note_delivery(struct tcp_endpoint *ep, const struct tcp_sent *sent, uint32_t tsecr, uint64_t now_us)
{
	uint64_t rtt_us = now_us - sent->at_us;
	if (sent->again) { /* which of the copies arrived? */
		if (ep->ts_ok && tsecr && seq_before(tsecr, tcp_ts_now(ep, sent->at_us)))
			return;
		if (rtt_us < ep->min_rtt_us)
			return;
	} else {
		ep->reordering |= ep->rack_us && seq_before(end_of(sent), ep->fack);
	}
	ep->fack = ep->rack_us ? seq_max(ep->fack, end_of(sent)) : end_of(sent);
	if (!ep->rack_us || sent_after(sent->at_us, end_of(sent), ep->rack_us, ep->rack_end)) {
		ep->rack_us = sent->at_us;
		ep->rack_end = end_of(sent);
		ep->rack_rtt_us = rtt_us;
	}
}

void tcp_rack_delivered(struct tcp_endpoint *ep, uint32_t tsecr, uint64_t now_us)
{
	/* Without holes only the first ones can have arrived. */
	for (unsigned i = 0; i < ep->sent_count; i++) {
		struct tcp_sent *sent = sent_at(ep, i);
		if (sent->over)
			continue;
		if (delivered(ep, sent)) {
			note_delivery(ep, sent, tsecr, now_us);
			sent->over = true;
		} else if (!ep->sacked.count && ep->recovery == TCP_OPEN) {
			break;
		}
	}
	while (ep->sent_count && sent_at(ep, 0)->over) {
		ep->sent_first = (ep->sent_first + 1) % sent_max(ep);
		ep->sent_count--;
	}
	if (!ep->sent_count)
		give_ring(ep);
}

/* RFC 8985, 6.2, step 4. */
static uint64_t reorder_window_us(const struct tcp_endpoint *ep)
{
	bool three = ep->sacked.count >= TCP_DUP_THRESHOLD || ep->sacked.total > (TCP_DUP_THRESHOLD - 1) * tcp_payload_max(ep);
	if (!ep->reordering && (three || ep->recovery != TCP_OPEN))
		return 0;
	uint64_t window_us = ep->min_rtt_us / 4 * ep->reorder_steps;
	if (window_us > ep->srtt_us)
		window_us = ep->srtt_us;
	return window_us > TCP_REORDER_MIN_US ? window_us : TCP_REORDER_MIN_US;
}

void tcp_rack_expired(struct tcp_endpoint *ep, uint64_t now_us)
{
	uint64_t patience_us = ep->rack_rtt_us + reorder_window_us(ep);
	bool found = false;

	ep->rack_at_us = TCP_NEVER;
	if (!ep->sack_ok || !ep->rack_us)
		return;
	for (unsigned i = 0; i < ep->sent_count; i++) {
		struct tcp_sent *sent = sent_at(ep, i);
		if (sent->at_us > ep->rack_us)
			break;
		if (sent->over || !sent_after(ep->rack_us, ep->rack_end, sent->at_us, end_of(sent)))
			continue;
		if (sent->at_us + patience_us > now_us) {
			ep->rack_at_us = sent->at_us + patience_us; /* they are in the order of time: the first is the next */
			break;
		}
		if (!tcp_lose(ep, seq_max(sent->start, ep->snd_una), end_of(sent)))
			continue;
		sent->over = true;
		found = true;
	}
	if (found)
		tcp_recovery_begin(ep);
}

void tcp_rack_duplicate(struct tcp_endpoint *ep)
{
	if (seq_before(ep->snd_una, ep->dsack_round))
		return;
	ep->dsack_round = ep->snd_nxt;
	ep->reorder_persist = TCP_REORDER_PERSIST;
	if (ep->reorder_steps < UINT16_MAX)
		ep->reorder_steps++;
}

void tcp_rack_recovered(struct tcp_endpoint *ep)
{
	if (ep->reorder_persist && !--ep->reorder_persist)
		ep->reorder_steps = 1;
}

/* A single segment's ACK may be delayed for as long as the retransmission timer is, so that one is left to the timer. */
void tcp_tail_restart(struct tcp_endpoint *ep)
{
	bool wanted = ep->limits.tail_probes && ep->sack_ok && ep->srtt_us && ep->recovery == TCP_OPEN && !ep->sacked.count && !ep->lost.count &&
	              !ep->tail_out && !ep->tail_due && !tcp_over(ep) && tcp_flight(ep) > tcp_payload_max(ep) && !tcp_window_zero(ep);
	uint64_t since_us = ep->sent_us > ep->progress_us ? ep->sent_us : ep->progress_us, at_us = since_us + 2 * ep->srtt_us;

	ep->tail_at_us = wanted && at_us < ep->rtx_at_us ? at_us : TCP_NEVER;
}

/* RFC 8985, 7.4: where the probe has filled the hole itself, there was a loss all the same. */
void tcp_tail_acked(struct tcp_endpoint *ep, uint32_t tsecr)
{
	if (!ep->tail_out || seq_before(ep->snd_una, ep->tail_end))
		return;
	ep->tail_out = false;
	bool first_copy = ep->ts_ok && tsecr && seq_before(tsecr, ep->tail_ts);
	if (!ep->tail_again || first_copy || ep->recovery != TCP_OPEN)
		return;
	ep->ssthresh = ep->congestion->reduce(ep, max_u32(tcp_flight(ep), ep->cwnd));
	ep->cwnd = ep->ssthresh;
}
