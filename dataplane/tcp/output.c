/*
 * output.c - what is due, sent: data, retransmissions, ACKs, window updates, probes, FIN, RST.
 *
 * Enters: the endpoint's state. Leaves: segments through `emit`. The state moves on only after emit has
 * taken a segment, so that a missing frame costs a millisecond and nothing else. What goes out first is
 * RFC 6675's NextSeg(): lost bytes, new ones, then one rescue of the tail. What is lost, rack.c says.
 */
#include "private.h"

struct sender {
	struct tcp_endpoint *ep;
	uint64_t now_us;
	tcp_emit emit;
	void *context;
	bool blocked; /* emit had no frame */
};

/* A sequence number that the peer accepts where nothing is sent: not that of a probe beyond its window. */
static uint32_t acceptable_seq(const struct tcp_endpoint *ep)
{
	return seq_after(ep->snd_nxt, ep->snd_edge) ? seq_max(ep->snd_edge, ep->snd_una) : ep->snd_nxt;
}

static uint8_t options_bytes(const struct tcp_endpoint *ep, uint8_t sack_count)
{
	return (uint8_t)((ep->ts_ok ? TCP_OPTION_TS_BYTES : 0) + (sack_count ? 4 + 8 * sack_count : 0));
}

static uint32_t payload_room(const struct tcp_endpoint *ep)
{
	struct tcp_sack blocks[TCP_SACK_MAX];
	uint8_t count = ep->sack_ok ? tcp_sack_blocks(ep, blocks) : 0;
	return ep->mss - options_bytes(ep, count);
}

static void acknowledged(struct tcp_endpoint *ep, uint32_t edge)
{
	ep->rcv_edge = edge;
	ep->last_ack_sent = ep->rcv_nxt;
	ep->ack_now = false;
	ep->ack_pending = 0;
	ep->dsack_due = false;
	ep->delayed_ack_at_us = TCP_NEVER;
}

static bool transmit(struct sender *s, uint32_t seq, uint8_t flags, uint32_t len)
{
	struct tcp_endpoint *ep = s->ep;
	uint8_t scale = ep->rcv_wscale;
	/* Rounded up: RFC 7323, 2.4 would let the scale's rounding pull the edge back. */
	uint32_t units = (tcp_offered_edge(ep) - ep->rcv_nxt + (1u << scale) - 1) >> scale;
	struct tcp_segment segment = {
		.seq = seq,
		.ack = ep->rcv_nxt,
		.window = (uint16_t)min_u32(units, 65535),
		.flags = flags | TCP_ACK,
		.ts = ep->ts_ok,
		.tsval = ep->ts_ok ? tcp_ts_now(ep, s->now_us) : 0,
		.tsecr = ep->ts_ok ? ep->ts_recent : 0,
		.payload_len = (uint16_t)len,
	};
	if (!(flags & TCP_RST))
		segment.sack_count = tcp_sack_blocks(ep, segment.sack);
	if (!s->emit(s->context, ep, &segment)) {
		s->blocked = true;
		ep->retry_at_us = s->now_us + TCP_EMIT_RETRY_US;
		return false;
	}
	ep->segments_out++;
	acknowledged(ep, seq_max(ep->rcv_edge, ep->rcv_nxt + ((uint32_t)segment.window << scale)));
	return true;
}

static void fin_left(struct tcp_endpoint *ep)
{
	ep->fin_sent = true;
	switch (ep->state) {
	case TCP_ESTABLISHED:
		tcp_enter_state(ep, TCP_FIN_WAIT_1);
		break;
	case TCP_CLOSE_WAIT:
		tcp_enter_state(ep, TCP_LAST_ACK);
		break;
	case TCP_FIN_WAIT_1:
	case TCP_FIN_WAIT_2:
	case TCP_CLOSING:
	case TCP_LAST_ACK:
	case TCP_TIME_WAIT:
	case TCP_CLOSED:
	case TCP_DEAD:
		BUG_ON(true);
	}
}

/* For the first time: [snd_nxt, snd_nxt + len), and the FIN behind it. */
static bool transmit_new(struct sender *s, uint32_t len, bool fin)
{
	struct tcp_endpoint *ep = s->ep;
	bool last = ep->snd_nxt + len == ep->snd_end;
	if (!transmit(s, ep->snd_nxt, (uint8_t)((fin ? TCP_FIN : 0) | (last && len ? TCP_PSH : 0)), len))
		return false;
	tcp_sent_note(ep, ep->snd_nxt, len + fin, false, s->now_us);
	ep->snd_nxt += len + fin;
	ep->sent_us = s->now_us;
	if (fin)
		fin_left(ep);
	if (!ep->timing) {
		ep->timing = true;
		ep->timed_seq = ep->snd_nxt;
		ep->timed_us = s->now_us;
	}
	return true;
}

/* Once more: `span` sequence numbers from seq on, of which the last may be the FIN. */
static bool transmit_again(struct sender *s, uint32_t seq, uint32_t span)
{
	struct tcp_endpoint *ep = s->ep;
	bool fin = ep->fin_sent && seq_after(seq + span, ep->snd_end);
	uint32_t len = span - fin;
	bool last = seq + len == ep->snd_end;
	if (!transmit(s, seq, (uint8_t)((fin ? TCP_FIN : 0) | (last && len ? TCP_PSH : 0)), len))
		return false;
	tcp_sent_note(ep, seq, span, true, s->now_us);
	ep->retransmits++;
	ep->retransmit_first = false;
	if (!ep->undo.retransmitted) {
		ep->undo.retransmitted = true;
		ep->undo.ts = tcp_ts_now(ep, s->now_us);
	}
	ep->sent_us = s->now_us;
	/* Karn, for the timed segment itself. A hole before it only makes the sample longer: safe, and without it a
	 * lossy path that has no timestamps would keep its backed-off RTO for ever. */
	if (ep->timing && seq_before(seq, ep->timed_seq) && !seq_before(seq + span, ep->timed_seq))
		ep->timing = false;
	return true;
}

static bool cwnd_allows(const struct tcp_endpoint *ep, uint32_t len)
{
	uint32_t pipe = tcp_pipe(ep);
	return !pipe || pipe + len <= ep->cwnd;
}

/* Sends what is lost once more; false: the congestion window or emit says stop. */
static bool send_again(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	while (ep->lost.count) {
		uint32_t seq = ep->lost.at[0].start;
		if (!seq_before(seq, ep->snd_edge) && seq != ep->snd_end)
			return true; /* beyond a window that has shrunk */
		uint32_t span = min_u32(ep->lost.at[0].end - seq, payload_room(ep));
		if (seq_after(ep->snd_edge, seq))
			span = min_u32(span, ep->snd_edge - seq);
		if (!ep->retransmit_first && !cwnd_allows(ep, span))
			return false;
		if (!transmit_again(s, seq, span))
			return false;
		tcp_ranges_drop(&ep->lost, seq + span);
	}
	return true;
}

/* New data, as far as both windows allow; false: the congestion window or emit says stop. */
static bool send_new(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	ep->cwnd_limited = false;
	for (;;) {
		uint32_t unsent = ep->fin_sent ? 0 : ep->snd_end - ep->snd_nxt;
		uint32_t usable = seq_after(ep->snd_edge, ep->snd_nxt) ? ep->snd_edge - ep->snd_nxt : 0;
		uint32_t room = payload_room(ep), len = min_u32(min_u32(unsent, room), usable);
		bool fin = tcp_fin_unsent(ep) && len == unsent && usable > len;
		if (!len && !fin)
			return true;
		/* Silly window syndrome, RFC 9293, 3.8.6.2.1: a piece cut small by the window waits. */
		if (len < room && len < unsent && len < ep->max_snd_wnd / 2)
			return true;
		if (!cwnd_allows(ep, len)) {
			ep->cwnd_limited = true;
			return false;
		}
		if (!transmit_new(s, len, fin))
			return false;
	}
}

/* RFC 6675, NextSeg (4): only in recovery, and only when there was nothing else to send. */
static void send_rescue(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	if (ep->recovery != TCP_RECOVERY || !ep->sack_ok || !ep->sacked.count)
		return;
	const struct tcp_sack *highest = &ep->sacked.at[ep->sacked.count - 1];
	if (ep->rescued || !seq_after(ep->snd_nxt, highest->end))
		return;
	uint32_t tail = ep->snd_nxt - highest->end, span = min_u32(tail, payload_room(ep));
	if (seq_after(ep->snd_nxt, ep->snd_edge) || !cwnd_allows(ep, span))
		return;
	if (transmit_again(s, ep->snd_nxt - span, span))
		ep->rescued = true;
}

/* The peer's window is closed, or too small to be worth it: the persist timer has said one piece anyway. */
static void send_probe(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	uint32_t unsent = ep->fin_sent ? 0 : ep->snd_end - ep->snd_nxt;
	bool sent = true;
	if (tcp_flight(ep)) {
		sent = transmit_again(s, ep->snd_una, 1);
	} else if (unsent) {
		uint32_t usable = seq_after(ep->snd_edge, ep->snd_nxt) ? ep->snd_edge - ep->snd_nxt : 1;
		sent = transmit_new(s, min_u32(min_u32(unsent, usable), payload_room(ep)), false);
	} else if (tcp_fin_unsent(ep)) {
		sent = transmit_new(s, 0, true);
	}
	if (sent)
		ep->probe_due = false;
}

/* RFC 8985, 7.3: a new segment if there is one, whatever cwnd says; else the last one again. */
static void send_tail(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	uint32_t unsent = ep->fin_sent ? 0 : ep->snd_end - ep->snd_nxt, room = payload_room(ep), flight = tcp_flight(ep);
	uint32_t usable = seq_after(ep->snd_edge, ep->snd_nxt) ? ep->snd_edge - ep->snd_nxt : 0, len = min_u32(min_u32(unsent, usable), room);
	bool again = !len || len < min_u32(unsent, room);

	if (ep->recovery != TCP_OPEN || !flight) {
		ep->tail_due = false;
		return;
	}
	if (again ? !transmit_again(s, ep->snd_nxt - min_u32(flight, room), min_u32(flight, room)) : !transmit_new(s, len, false))
		return;
	ep->tail_due = false;
	ep->tail_out = true;
	ep->tail_again = again;
	ep->tail_end = ep->snd_nxt;
	ep->tail_ts = tcp_ts_now(ep, s->now_us);
	tcp_rtx_restart(ep, s->now_us);
}

static void send_due(struct sender *s)
{
	struct tcp_endpoint *ep = s->ep;
	if (ep->rst_due) {
		if (transmit(s, ep->rst_seq, TCP_RST, 0))
			ep->rst_due = false;
		return;
	}
	if (tcp_over(ep))
		return;
	if (ep->probe_due)
		send_probe(s);
	if (ep->tail_due)
		send_tail(s);
	if (!s->blocked && !tcp_window_zero(ep)) {
		if (seq_after(ep->snd_end, ep->snd_nxt))
			tcp_congestion_idle(ep, s->now_us);
		if (send_again(s)) {
			uint64_t before = ep->segments_out;
			if (send_new(s) && ep->segments_out == before)
				send_rescue(s);
		}
	}
	if (!s->blocked && ep->keepalive_due && transmit(s, ep->snd_nxt - 1, 0, 0)) /* RFC 9293, 3.8.4 */
		ep->keepalive_due = false;
	if (!s->blocked && (ep->ack_now || tcp_window_update_due(ep)))
		transmit(s, acceptable_seq(ep), 0, 0);
}

void tcp_output(struct tcp_endpoint *ep, uint64_t now_us, tcp_emit emit, void *context)
{
	struct sender s = {ep, now_us, emit, context, false};
	ep->retry_at_us = TCP_NEVER;
	send_due(&s);
	if (tcp_over(ep))
		return;
	bool waiting = seq_after(ep->snd_end, ep->snd_nxt) || tcp_fin_unsent(ep);
	if (ep->rtx_at_us == TCP_NEVER && (tcp_flight(ep) || (waiting && !s.blocked)))
		ep->rtx_at_us = now_us + tcp_rto(ep);
	tcp_tail_restart(ep);
}

void tcp_payload(const struct tcp_endpoint *ep, const struct tcp_segment *segment, uint8_t *out)
{
	if (segment->payload_len)
		tcp_ring_get(&ep->out, segment->seq, out, segment->payload_len);
}
