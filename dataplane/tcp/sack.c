/*
 * sack.c - the scoreboard, and recovery from loss: RFC 6675 with SACK, RFC 6582 (NewReno) without.
 *
 * Enters: SACK blocks, duplicate ACKs, progress, timeouts, what rack.c found. Leaves: `lost` for output.c, and the
 * congestion window of a recovery, which is given back if nothing was lost after all. Without SACK each duplicate ACK stands for one segment that arrived.
 * Refuses: blocks outside of what is in flight; those at or below the ACK are DSACK (RFC 2883).
 */
#include "private.h"

bool tcp_scoreboard(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	uint32_t before = ep->sacked.total, una = seq_max(ep->snd_una, segment->ack);
	if (!ep->sack_ok)
		return false;
	if (segment->sack_count && !seq_after(segment->sack[0].end, segment->ack) && ep->retransmits)
		tcp_rack_duplicate(ep);
	for (unsigned i = 0; i < segment->sack_count && i < TCP_SACK_MAX; i++) {
		uint32_t start = segment->sack[i].start, end = segment->sack[i].end;
		if (!seq_before(start, end) || !seq_after(end, una) || seq_after(end, ep->snd_nxt) || seq_before(start, una))
			continue;
		tcp_ranges_add(&ep->sacked, start, end);
		tcp_ranges_cut(&ep->lost, start, end);
	}
	if (ep->sacked.total == before)
		return false;
	if (ep->timing && tcp_ranges_find(&ep->sacked, ep->timed_seq - 1)) { /* arrived, though a hole keeps it from the ACK */
		ep->timing = false;
		tcp_rtt_sample(ep, now_us - ep->timed_us);
	}
	return true;
}

/* RFC 6675, 4: what is thought to be on the way. */
uint32_t tcp_pipe(const struct tcp_endpoint *ep)
{
	int64_t pipe = (int64_t)tcp_flight(ep) - ep->sacked.total - ep->lost.total - ep->dup_bytes;
	return pipe > 0 ? (uint32_t)pipe : 0;
}

bool tcp_lose(struct tcp_endpoint *ep, uint32_t start, uint32_t end)
{
	while (seq_before(start, end)) {
		uint32_t until, from = tcp_ranges_gap(&ep->sacked, start, end, &until);
		if (seq_before(from, end) && !tcp_ranges_add(&ep->lost, from, until))
			return false;
		start = seq_max(until, from);
	}
	return true;
}

static void enter_recovery(struct tcp_endpoint *ep, enum tcp_recovery state)
{
	static const unsigned char edges[] = {
		[TCP_OPEN] = 1 << TCP_RECOVERY | 1 << TCP_LOSS,
		[TCP_RECOVERY] = 1 << TCP_OPEN | 1 << TCP_LOSS,
		[TCP_LOSS] = 1 << TCP_OPEN | 1 << TCP_LOSS,
	};
	BUG_ON(!(edges[ep->recovery] & 1 << state));
	ep->recovery = state;
	ep->retransmit_first = state == TCP_RECOVERY;
	ep->undo.possible = false;
	ep->tail_out = ep->tail_due = false;
	ep->rescued = false;
	ep->cwnd_bytes = 0;
}

void tcp_mark_lost(struct tcp_endpoint *ep)
{
	tcp_sent_forget(ep);
	tcp_ranges_clear(&ep->lost);
	tcp_lose(ep, ep->snd_una, ep->snd_nxt);
	ep->timing = false;
}

static void leave(struct tcp_endpoint *ep)
{
	if (ep->recovery == TCP_RECOVERY)
		ep->cwnd = ep->ssthresh;
	enter_recovery(ep, TCP_OPEN);
	tcp_rack_recovered(ep);
	ep->dup_bytes = 0;
	ep->dup_acks = 0;
	if (ep->lost.total && ep->sack_ok) /* of what was sent since: the next loss */
		tcp_recovery_begin(ep);
	else
		tcp_ranges_clear(&ep->lost);
}

/* RFC 4015, by RFC 3522's sign: the ACK was caused by the first copy, so nothing was lost, it was only late. */
static bool undone(struct tcp_endpoint *ep, uint32_t tsecr)
{
	if (!ep->undo.possible)
		return false;
	bool late = ep->undo.retransmitted && ep->ts_ok && tsecr && seq_before(tsecr, ep->undo.ts);
	ep->undo.possible = false;
	if (!late || ep->lost.total)
		return false;
	ep->cwnd = max_u32(ep->cwnd, ep->undo.cwnd);
	ep->ssthresh = max_u32(ep->ssthresh, ep->undo.ssthresh);
	ep->cubic = ep->undo.cubic;
	enter_recovery(ep, TCP_OPEN);
	return true;
}

void tcp_recovery_acked(struct tcp_endpoint *ep, uint32_t acked, uint32_t tsecr)
{
	uint32_t mss = tcp_payload_max(ep), una = ep->snd_una;
	ep->acked_last = acked;
	tcp_ranges_drop(&ep->lost, una);
	switch (ep->recovery) {
	case TCP_OPEN:
		ep->dup_bytes = 0;
		break;
	case TCP_RECOVERY:
	case TCP_LOSS:
		if (ep->recovery == TCP_RECOVERY && undone(ep, tsecr))
			break;
		if (!seq_before(una, ep->recover)) {
			leave(ep);
			return;
		}
		if (ep->recovery == TCP_RECOVERY && !ep->sack_ok) { /* RFC 6582: a partial ACK names the next hole */
			ep->dup_bytes -= min_u32(ep->dup_bytes, acked > mss ? acked - mss : 0);
			tcp_ranges_clear(&ep->lost);
			tcp_lose(ep, una, seq_min(una + mss, ep->snd_nxt));
			ep->retransmit_first = true;
		}
		break;
	}
	ep->dup_bytes = min_u32(ep->dup_bytes, tcp_flight(ep));
}

void tcp_recovery_begin(struct tcp_endpoint *ep)
{
	if (ep->recovery != TCP_OPEN)
		return;
	uint32_t cwnd = ep->cwnd, ssthresh = ep->ssthresh;
	struct tcp_cubic cubic = ep->cubic;
	ep->ssthresh = ep->congestion->reduce(ep, tcp_flight(ep));
	ep->cwnd = ep->ssthresh;
	ep->recover = ep->snd_nxt;
	enter_recovery(ep, TCP_RECOVERY);
	ep->undo.possible = true;
	ep->undo.retransmitted = false;
	ep->undo.cwnd = cwnd;
	ep->undo.ssthresh = ssthresh;
	ep->undo.cubic = cubic;
}

void tcp_recovery_duplicate(struct tcp_endpoint *ep)
{
	if (ep->recovery != TCP_OPEN || ep->dup_acks < TCP_DUP_THRESHOLD)
		return;
	/* RFC 6582, 3.2 and 4.1: after a timeout they may be echoes of our own retransmissions. */
	if (!seq_after(ep->snd_una, ep->recover) && ep->acked_last > 4 * tcp_payload_max(ep))
		return;
	tcp_lose(ep, ep->snd_una, seq_min(ep->snd_una + tcp_payload_max(ep), ep->snd_nxt));
	tcp_recovery_begin(ep);
}

void tcp_recovery_timeout(struct tcp_endpoint *ep)
{
	if (ep->recovery != TCP_LOSS) /* RFC 5681, 3.1: once for what was in flight */
		ep->ssthresh = ep->congestion->reduce(ep, tcp_flight(ep));
	ep->congestion->timeout(ep);
	ep->cwnd = tcp_payload_max(ep);
	ep->recover = ep->snd_nxt;
	enter_recovery(ep, TCP_LOSS);
	tcp_ranges_clear(&ep->sacked); /* RFC 2018, 8: the peer may have thrown it away */
	ep->dup_bytes = 0;
	ep->dup_acks = 0;
	tcp_mark_lost(ep);
}
