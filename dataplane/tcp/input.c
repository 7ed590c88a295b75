/*
 * input.c - a segment arrives: is it acceptable, and what does it mean (RFC 9293, 3.10.7.4).
 *
 * Enters: segments with valid checksums, from the peer or from anybody who can guess its addresses.
 * Leaves: events. Hostile by assumption: RST counts at exactly rcv_nxt, SYN never, an ACK only within
 * what was sent, old timestamps not at all (RFC 5961, RFC 7323). Every answer to an unacceptable segment
 * is rate-limited, so that two confused endpoints cannot keep each other busy. URG is plain data (RFC 6093).
 */
#include "private.h"

/* A segment, cut to what is new and allowed. */
struct arrival {
	uint32_t seq, len;
	const uint8_t *bytes;
	bool fin;
};

/* RFC 5961, 7: at most TCP_CHALLENGES_MAX in a period, counted for this connection alone (CVE-2016-5696). */
static bool answer(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (now_us - ep->challenge_at_us >= TCP_CHALLENGE_PERIOD_US) {
		ep->challenge_at_us = now_us;
		ep->challenges = 0;
	}
	if (ep->challenges == TCP_CHALLENGES_MAX)
		return false;
	ep->challenges++;
	return true;
}

static unsigned challenge(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (!answer(ep, now_us))
		return TCP_EVENT_BAD;
	ep->ack_now = true;
	return TCP_EVENT_CHALLENGE;
}

static unsigned refuse(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (answer(ep, now_us))
		ep->ack_now = true;
	return TCP_EVENT_BAD;
}

static unsigned reset(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	if (segment->seq == ep->rcv_nxt) {
		if (ep->state == TCP_TIME_WAIT) {
			tcp_enter_state(ep, TCP_CLOSED);
			return TCP_EVENT_CLOSED;
		}
		tcp_die(ep);
		return TCP_EVENT_RESET;
	}
	if (seq_after(segment->seq, ep->rcv_nxt) && seq_before(segment->seq, ep->rcv_edge))
		return challenge(ep, now_us); /* RFC 5961, 3.2 */
	return TCP_EVENT_BAD;
}

/* PAWS, RFC 7323, 5.3. */
static bool timestamp_old(const struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	return seq_before(segment->tsval, ep->ts_recent) && now_us - ep->ts_recent_at_us < TCP_PAWS_IDLE_US;
}

/* Cuts the segment to the window; false: nothing of it counts, not even its ACK. */
static bool acceptable(struct tcp_endpoint *ep, const struct tcp_segment *segment, struct arrival *a, uint64_t now_us, unsigned *events)
{
	*a = (struct arrival){segment->seq, segment->payload_len, segment->payload, segment->flags & TCP_FIN};
	uint32_t end = a->seq + a->len;

	if (!a->len && !a->fin) {
		/* One that has filled the window, and lost a part of it, says seq == edge. */
		if (!seq_before(a->seq, ep->rcv_nxt) && !seq_after(a->seq, ep->rcv_edge))
			return true;
		unsigned bad = refuse(ep, now_us);
		if (a->seq != ep->rcv_nxt - 1) /* a keepalive is answered, and nothing bad */
			*events |= bad;
		return false;
	}
	if (!seq_after(end + a->fin, ep->rcv_nxt)) {
		tcp_note_duplicate(ep, a->seq, end);
		return false;
	}
	if (seq_after(a->seq, ep->rcv_edge) || (a->seq == ep->rcv_edge && a->len && a->seq != ep->rcv_nxt)) {
		*events |= refuse(ep, now_us);
		return false;
	}
	if (seq_before(a->seq, ep->rcv_nxt)) {
		uint32_t old = min_u32(ep->rcv_nxt - a->seq, a->len);
		tcp_note_duplicate(ep, a->seq, a->seq + old);
		a->seq += old;
		a->bytes += old;
		a->len -= old;
	}
	uint32_t room = ep->rcv_edge - a->seq;
	if (a->len > room) { /* also a zero-window probe: its byte waits, its ACK counts */
		a->len = room;
		a->fin = false;
		ep->ack_now = true;
	}
	return true;
}

static void timestamp_keep(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	if (!ep->ts_ok || seq_after(segment->seq, ep->last_ack_sent))
		return;
	if (seq_before(segment->tsval, ep->ts_recent) && now_us - ep->ts_recent_at_us < TCP_PAWS_IDLE_US)
		return;
	ep->ts_recent = segment->tsval;
	ep->ts_recent_at_us = now_us;
}

static unsigned text(struct tcp_endpoint *ep, const struct arrival *arrival, uint64_t now_us)
{
	struct arrival a = *arrival;
	unsigned events = 0;

	if (ep->fin_received) { /* FIN again, or bytes beyond it */
		ep->ack_now |= a.len || a.fin;
		return a.len ? TCP_EVENT_BAD : 0;
	}
	if (ep->fin_known && seq_after(a.seq + a.len, ep->fin_seq)) {
		events |= TCP_EVENT_BAD;
		a.len = seq_after(ep->fin_seq, a.seq) ? ep->fin_seq - a.seq : 0;
		a.fin = false;
	}
	uint32_t fin_seq = a.seq + a.len;
	if (a.len)
		events |= tcp_receive(ep, a.seq, a.bytes, a.len, now_us);
	if (a.fin)
		events |= tcp_receive_fin(ep, fin_seq, now_us);
	else
		events |= tcp_receive_advance_fin(ep, now_us);
	return events;
}

/* After an RST of ours: the peer has not had it, or did not believe it. RFC 9293, 3.10.7.1. */
static unsigned input_when_over(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	if (ep->state == TCP_DEAD && !(segment->flags & TCP_RST) && (segment->flags & TCP_ACK) && answer(ep, now_us)) {
		ep->rst_seq = segment->ack;
		ep->rst_due = true;
	}
	return TCP_EVENT_BAD;
}

unsigned tcp_input(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us)
{
	struct arrival arrival;
	unsigned events = 0;

	ep->segments_in++;
	if (tcp_over(ep))
		return input_when_over(ep, segment, now_us);
	if (segment->flags & TCP_RST)
		return reset(ep, segment, now_us);
	if (segment->flags & TCP_SYN)
		return challenge(ep, now_us); /* RFC 5961, 4.2: whatever its numbers */
	if (!(segment->flags & TCP_ACK) || (ep->ts_ok && !segment->ts)) /* RFC 7323, 3.2 */
		return TCP_EVENT_BAD;
	if (ep->ts_ok && timestamp_old(ep, segment, now_us)) {
		if (segment->payload_len && !seq_after(segment->seq + segment->payload_len, ep->rcv_nxt))
			tcp_note_duplicate(ep, segment->seq, segment->seq + segment->payload_len);
		return refuse(ep, now_us);
	}
	if (!acceptable(ep, segment, &arrival, now_us, &events))
		return events;
	if (!tcp_acknowledged(ep, segment, now_us, &events))
		return events | challenge(ep, now_us); /* RFC 5961, 5.2 */
	timestamp_keep(ep, segment, now_us);
	tcp_keepalive_restart(ep, now_us);
	if (!tcp_over(ep))
		events |= text(ep, &arrival, now_us);
	return events;
}
