/*
 * sack.c - the scoreboard, and recovery from loss: RFC 6675 with SACK, RFC 6582 (NewReno) without.
 *
 * Enters: SACK blocks, duplicate ACKs, progress, timeouts. Leaves: `lost` and `rxt` for output.c, and the
 * congestion window of a recovery. Without SACK each duplicate ACK stands for one segment that arrived.
 * Refuses: blocks outside of what is in flight; those at or below the ACK are DSACK (RFC 2883).
 */
#include "private.h"

bool tcp_scoreboard(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	uint32_t before = ep->sacked.total, una = seq_max(ep->snd_una, segment->ack);
	if (!ep->sack_ok)
		return false;
	for (unsigned i = 0; i < segment->sack_count && i < TCP_SACK_MAX; i++) {
		uint32_t start = segment->sack[i].start, end = segment->sack[i].end;
		if (!seq_before(start, end) || !seq_after(end, una) || seq_after(end, ep->snd_nxt) || seq_before(start, una))
			continue;
		tcp_ranges_add(&ep->sacked, start, end);
	}
	if (ep->sacked.total == before)
		return false;
	if (ep->timing && tcp_ranges_find(&ep->sacked, ep->timed_seq - 1)) { /* arrived, though a hole keeps it from the ACK */
		ep->timing = false;
		tcp_rtt_sample(ep, now_us - ep->timed_us);
	}
	return true;
}

/* Bytes below the result that are not SACKed are lost: three ranges, or more than two segments, lie above. */
uint32_t tcp_lost_edge(const struct tcp_endpoint *ep)
{
	uint32_t bytes = 0, count = 0;
	for (uint32_t i = ep->sacked.count; i-- > 0;) {
		bytes += ep->sacked.at[i].end - ep->sacked.at[i].start;
		if (++count >= TCP_DUP_THRESHOLD || bytes > (TCP_DUP_THRESHOLD - 1) * tcp_payload_max(ep))
			return ep->sacked.at[i].start;
	}
	return ep->snd_una;
}

static uint32_t unsacked(const struct tcp_endpoint *ep, uint32_t start, uint32_t end)
{
	return seq_before(start, end) ? end - start - tcp_ranges_covered(&ep->sacked, start, end) : 0;
}

/* RFC 6675, 4: what is thought to be on the way; a byte sent again and not lost counts twice. */
uint32_t tcp_pipe(const struct tcp_endpoint *ep)
{
	int64_t pipe = (int64_t)tcp_flight(ep) - ep->sacked.total - ep->dup_bytes;
	if (ep->rxt != ep->lost) {
		pipe -= unsacked(ep, ep->rxt, ep->lost);
		pipe += unsacked(ep, ep->lost, ep->rxt);
	}
	return pipe > 0 ? (uint32_t)pipe : 0;
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
	ep->rescued = false;
	ep->cwnd_bytes = 0;
}

void tcp_mark_lost(struct tcp_endpoint *ep)
{
	ep->lost = ep->snd_nxt;
	ep->rxt = ep->snd_una;
	ep->timing = false;
}

static void leave(struct tcp_endpoint *ep)
{
	if (ep->recovery == TCP_RECOVERY)
		ep->cwnd = ep->ssthresh;
	enter_recovery(ep, TCP_OPEN);
	ep->dup_bytes = 0;
	ep->dup_acks = 0;
	ep->lost = ep->rxt = ep->snd_una;
}

void tcp_recovery_acked(struct tcp_endpoint *ep, uint32_t acked)
{
	uint32_t mss = tcp_payload_max(ep), una = ep->snd_una;
	ep->acked_last = acked;
	switch (ep->recovery) {
	case TCP_OPEN:
		ep->dup_bytes = 0;
		break;
	case TCP_RECOVERY:
	case TCP_LOSS:
		if (!seq_before(una, ep->recover)) {
			leave(ep);
			return;
		}
		if (ep->recovery == TCP_RECOVERY && !ep->sack_ok) { /* RFC 6582: a partial ACK names the next hole */
			ep->dup_bytes -= min_u32(ep->dup_bytes, acked > mss ? acked - mss : 0);
			ep->lost = seq_min(una + mss, ep->snd_nxt);
			ep->rxt = una;
			ep->retransmit_first = true;
		}
		break;
	}
	ep->lost = seq_max(ep->lost, una);
	ep->rxt = seq_max(ep->rxt, una);
	ep->dup_bytes = min_u32(ep->dup_bytes, tcp_flight(ep));
}

void tcp_recovery_duplicate(struct tcp_endpoint *ep)
{
	uint32_t edge = tcp_lost_edge(ep);
	switch (ep->recovery) {
	case TCP_OPEN:
		if (ep->dup_acks < TCP_DUP_THRESHOLD && !seq_after(edge, ep->snd_una))
			return;
		/* RFC 6582, 3.2 and 4.1: after a timeout they may be echoes of our own retransmissions. */
		if (!ep->sack_ok && !seq_after(ep->snd_una, ep->recover) && ep->acked_last > 4 * tcp_payload_max(ep))
			return;
		ep->ssthresh = ep->congestion->reduce(ep, tcp_flight(ep));
		ep->cwnd = ep->ssthresh;
		ep->recover = ep->snd_nxt;
		enter_recovery(ep, TCP_RECOVERY);
		ep->rxt = ep->snd_una;
		ep->lost = seq_max(edge, seq_min(ep->snd_una + tcp_payload_max(ep), ep->snd_nxt));
		break;
	case TCP_RECOVERY:
		ep->lost = seq_max(ep->lost, edge);
		break;
	case TCP_LOSS:
		break;
	}
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
