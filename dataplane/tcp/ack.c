/*
 * ack.c - what an acknowledgment says: bytes that arrived, the window, a round trip, duplicates.
 *
 * Enters: the ACK, window and SACK fields of an acceptable segment. Leaves: snd_una and the send ring moved
 * on, the peer's edge, a verdict for sack.c (progress or duplicate), and the closing states that wait for it.
 * Refuses: ACKs of bytes never sent, and those older than the largest window (RFC 5961, 5.2).
 */
#include "private.h"

static void measure(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	if (ep->timing && !seq_before(segment->ack, ep->timed_seq)) {
		ep->timing = false;
		tcp_rtt_sample(ep, now_us - ep->timed_us);
		return;
	}
	/*
	 * Karn: after a retransmission only the echoed timestamp tells which copy was acknowledged. One from before
	 * the timeout says that an ACK was lost, and would make each RTO the next one's round trip.
	 */
	bool stale = ep->recovery == TCP_LOSS && seq_before(segment->tsecr, ep->loss_ts);
	if (!ep->timing && ep->ts_ok && segment->tsecr && !stale) {
		uint32_t age_ms = tcp_ts_now(ep, now_us) - segment->tsecr;
		if ((int32_t)age_ms >= 0 && age_ms < TCP_RTO_MAX_US / MILLISECONDS)
			tcp_rtt_sample(ep, age_ms * MILLISECONDS);
	}
}

static void fin_acked(struct tcp_endpoint *ep, uint64_t now_us, unsigned *events)
{
	ep->fin_acked = true;
	switch (ep->state) {
	case TCP_FIN_WAIT_1:
		tcp_enter_state(ep, TCP_FIN_WAIT_2);
		break;
	case TCP_CLOSING:
		tcp_enter_state(ep, TCP_TIME_WAIT);
		ep->time_wait_at_us = now_us + TCP_TIME_WAIT_US;
		break;
	case TCP_LAST_ACK:
		tcp_enter_state(ep, TCP_CLOSED);
		*events |= TCP_EVENT_CLOSED;
		break;
	case TCP_ESTABLISHED:
	case TCP_FIN_WAIT_2:
	case TCP_CLOSE_WAIT:
	case TCP_TIME_WAIT:
	case TCP_CLOSED:
	case TCP_DEAD:
		BUG_ON(true);
	}
}

static void progress(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us, unsigned *events)
{
	uint32_t ack = segment->ack, acked = ack - ep->snd_una, flight = tcp_flight(ep);
	uint32_t bytes_end = seq_min(ack, ep->snd_end); /* behind it lies the FIN */

	measure(ep, segment, now_us);
	if (bytes_end != ep->out.seq) {
		tcp_ring_drop(&ep->out, bytes_end, bytes_end == ep->snd_end);
		*events |= TCP_EVENT_WRITABLE;
	}
	ep->snd_una = ack;
	ep->progress_us = now_us;
	tcp_tail_acked(ep, segment->tsecr);
	ep->tries = 0;
	ep->dup_acks = 0;
	tcp_ranges_drop(&ep->sacked, ack);
	/* Acknowledged up to the start of a SACKed range: the peer has thrown that away (RFC 2018, 8). */
	if (ep->sacked.count && ep->sacked.at[0].start == ack)
		tcp_ranges_clear(&ep->sacked);
	bool recovering = ep->recovery == TCP_RECOVERY;
	tcp_recovery_acked(ep, acked, segment->tsecr);
	if (!recovering)
		tcp_congestion_acked(ep, acked, flight, now_us);
	tcp_rtx_restart(ep, now_us);
	if (ep->fin_sent && !ep->fin_acked && ack == ep->snd_nxt && ack == ep->snd_end + 1)
		fin_acked(ep, now_us, events);
}

/* RFC 9293, 3.10.7.4: WL1 and WL2 keep an old segment from setting the window. */
static void window(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	bool was_zero = tcp_window_zero(ep);
	if (seq_before(segment->seq, ep->snd_wl1) || (segment->seq == ep->snd_wl1 && seq_before(segment->ack, ep->snd_wl2)))
		return;
	uint32_t bytes = (uint32_t)segment->window << ep->snd_wscale;
	ep->snd_edge = segment->ack + bytes;
	ep->snd_wl1 = segment->seq;
	ep->snd_wl2 = segment->ack;
	ep->max_snd_wnd = max_u32(ep->max_snd_wnd, bytes);
	if (!bytes)
		ep->tries = 0; /* RFC 9293, 3.8.6.1: a peer that answers probes may stay closed */
	if (was_zero && !tcp_window_zero(ep)) {
		ep->backoff = 0;
		ep->probe_due = false;
		if (tcp_flight(ep))
			tcp_mark_lost(ep); /* the probe's byte found no room */
		tcp_rtx_restart(ep, now_us);
	}
}

bool tcp_acknowledged(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us, unsigned *events)
{
	uint32_t ack = segment->ack, edge = ep->snd_edge;
	if (seq_after(ack, ep->snd_nxt) || seq_before(ack, ep->snd_una - ep->max_snd_wnd))
		return false;
	if (seq_before(ack, ep->snd_una))
		return true; /* reordered on the way: its payload counts, its ACK is old */
	bool news = tcp_scoreboard(ep, segment, now_us), moved = seq_after(ack, ep->snd_una);
	if (moved)
		progress(ep, segment, now_us, events);
	if (tcp_over(ep))
		return true;
	window(ep, segment, now_us);
	if (ep->sack_ok) {
		if (news || moved) {
			tcp_rack_delivered(ep, segment->tsecr, now_us);
			tcp_rack_expired(ep, now_us);
		}
		return true;
	}
	if (tcp_flight(ep) && !moved && !segment->payload_len && !(segment->flags & TCP_FIN) && ep->snd_edge == edge) { /* RFC 5681, 2 */
		ep->dup_acks++;
		if (ep->recovery != TCP_LOSS)
			ep->dup_bytes = min_u32(ep->dup_bytes + tcp_payload_max(ep), tcp_flight(ep));
		tcp_recovery_duplicate(ep);
	}
	return true;
}
