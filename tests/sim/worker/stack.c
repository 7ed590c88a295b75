/*
 * stack.c - the TCP of an endpoint: naive and correct, and independent of dataplane/tcp.
 *
 * Streams are offsets from 0; what has arrived is one flag a byte; retransmission is go-back-N with one fast
 * retransmission; the flight is bounded by a number, not by congestion control. It complains (fail) of what no
 * correct peer and nobody in between may ever do to it: an acknowledgment of bytes never sent, one byte with two
 * contents, a FIN that moves, and, of segments that waxseal built, bytes beyond the window or the MSS.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { RETRIES_MAX = 18 };
#define TIME_WAIT_US (10 * SECOND)
#define FIN_WAIT_US (60 * SECOND)

/* ---- sending a segment ---- */

static uint32_t out_end(const struct stack *s) { return (uint32_t)s->out.len + s->closing; }

static uint16_t window_now(struct stack *s)
{
	uint32_t unread = s->next - s->read, scale = s->wscale_on ? s->own_scale : 0;
	uint32_t edge = s->next + (s->receive_buffer > unread ? s->receive_buffer - unread : 0);
	uint32_t step = s->receive_buffer / 2 < 500 ? s->receive_buffer / 2 : 500;
	if (edge < s->edge + step) /* RFC 1122, 4.2.3.3: no silly window */
		edge = s->edge;
	uint32_t window = edge > s->next ? (edge - s->next) >> scale : 0;
	if (s->next + (window << scale) < s->edge)
		window = (s->edge - s->next + (1u << scale) - 1) >> scale;
	if (window > 65535)
		window = 65535;
	if (s->next + (window << scale) > s->edge)
		s->edge = s->next + (window << scale);
	return (uint16_t)window;
}

static void add_sacks(const struct stack *s, struct segment *segment)
{
	uint32_t at = s->next, end = (uint32_t)s->in.len;
	unsigned most = s->ts_on ? 3 : 4;
	while (s->sack_on && at < end && segment->sacks < most) {
		while (at < end && !s->have[at])
			at++;
		uint32_t start = at;
		while (at < end && s->have[at])
			at++;
		if (start < at) {
			segment->sack[segment->sacks].start = s->irs + 1 + start;
			segment->sack[segment->sacks++].end = s->irs + 1 + at;
		}
	}
}

static void send_frame(struct stack *s, const struct segment *segment)
{
	uint8_t frame[FRAME_MAX];
	size_t len = frame_build(&s->session->path, s->side, segment, frame);
	link_send(s->session, s->side, true, frame, len, ORIGIN_PEER);
}

static uint32_t tsval_now(const struct stack *s) { return s->ts_offset + (uint32_t)(sim.now_us / 1000); }

static void send_syn(struct stack *s)
{
	bool answer = s->state == STACK_SYN_RCVD;
	struct segment segment = {
		.seq = s->iss, .flags = answer ? F_SYN | F_ACK : F_SYN, .ack = answer ? s->irs + 1 : 0,
		.has_mss = s->offers_mss, .mss = s->mtu_mss,
		.has_wscale = answer ? s->wscale_on : s->offers_wscale, .wscale = s->own_scale,
		.sack_ok = answer ? s->sack_on : s->offers_sack, .has_ts = answer ? s->ts_on : s->offers_ts,
	};
	if (segment.has_ts) {
		segment.tsval = tsval_now(s);
		segment.tsecr = answer ? s->ts_recent : 0;
	}
	segment.window = (uint16_t)(s->receive_buffer < 65535 ? s->receive_buffer : 65535);
	s->edge = segment.window;
	send_frame(s, &segment);
	s->syn_due = false;
}

static void send_segment(struct stack *s, uint32_t at, uint32_t len, uint8_t flags)
{
	struct segment segment = {
		.seq = s->iss + 1 + at, .ack = s->irs + 1 + s->next + (s->fin_known && s->next == s->fin_at),
		        .flags = flags | F_ACK,
		.has_ts = s->ts_on, .tsval = tsval_now(s), .tsecr = s->ts_recent, .len = (uint16_t)len,
		.payload = s->out.bytes ? s->out.bytes + at : (const uint8_t *)"",
	};
	if (len)
		segment.flags |= F_PSH;
	segment.window = window_now(s);
	if (!len)
		add_sacks(s, &segment);
	s->ack_now = false;
	s->ack_us = NEVER;
	s->last_ack = segment.ack - s->irs - 1;
	send_frame(s, &segment);
}

/* RFC 9293, 3.10.7.1: to a segment of a connection that does not exist */
static void refuse(struct stack *s, const struct segment *segment)
{
	struct segment reset = {.seq = segment->ack, .flags = F_RST};
	if (segment->flags & F_RST)
		return;
	if (!(segment->flags & F_ACK))
		reset = (struct segment){.flags = F_RST | F_ACK,
		        .ack = segment->seq + segment->len + !!(segment->flags & F_SYN) + !!(segment->flags & F_FIN)};
	send_frame(s, &reset);
}

static void send_reset(struct stack *s)
{
	struct segment segment = {.seq = s->iss + 1 + s->nxt, .flags = F_RST | F_ACK, .ack = s->irs + 1 + s->next,
	        .has_ts = s->ts_on,
	                          .tsval = tsval_now(s), .tsecr = s->ts_recent};
	send_frame(s, &segment);
}

static uint32_t segment_room(const struct stack *s, uint32_t at)
{
	uint32_t most = (s->mtu_mss < s->peer_mss ? s->mtu_mss : s->peer_mss) - (s->ts_on ? 12 : 0);
	if (at < s->segment_max_until && s->segment_max < most)
		most = s->segment_max;
	return most;
}

static void send_data(struct stack *s)
{
	while (s->nxt < out_end(s) && s->nxt - s->una < s->flight) {
		uint32_t len = (uint32_t)s->out.len - s->nxt, room = segment_room(s, s->nxt);
		bool all = len <= room;
		if (len > room)
			len = room;
		if (s->nxt + len > s->allowed) {
			len = s->allowed > s->nxt ? s->allowed - s->nxt : 0;
			all = false;
		}
		bool fin = s->closing && s->nxt + len == s->out.len && s->nxt + len <= s->allowed;
		if (!len && !fin)
			break;
		if (s->nagle && len < room && !fin && s->nxt > s->una && all)
			break; /* RFC 896: the rest waits for an acknowledgment */
		send_segment(s, s->nxt, len, fin ? F_FIN : 0);
		s->nxt += len + fin;
		s->fin_sent |= fin;
		if (s->nxt > s->max)
			s->max = s->nxt;
	}
	if (s->timer_us == NEVER && s->una < out_end(s))
		s->timer_us = sim.now_us + s->rto_us;
}

void stack_output(struct stack *s)
{
	if (s->syn_due)
		send_syn(s);
	if (s->state != STACK_OPEN)
		return;
	send_data(s);
	uint32_t unread = s->next - s->read;
	bool update = s->next + s->receive_buffer >= s->edge + unread + (s->receive_buffer / 2 < 1000 ? s->receive_buffer / 2 : 1000);
	if (s->ack_now || (update && s->last_ack))
		send_segment(s, s->nxt, 0, 0);
	if (s->fin_sent && s->una > s->out.len && s->linger_us == NEVER)
		s->linger_us = sim.now_us + FIN_WAIT_US;
	if (s->fin_sent && s->una > s->out.len && s->fin_known && s->next == s->fin_at &&
	        s->linger_us > sim.now_us + TIME_WAIT_US)
		s->linger_us = sim.now_us + TIME_WAIT_US;
}

/* ---- opening and ending ---- */

void stack_connect(struct stack *s)
{
	s->state = STACK_SYN_SENT;
	s->syn_due = true;
	s->timer_us = sim.now_us + s->rto_us;
	stack_output(s);
}

static void stack_end(struct stack *s, enum stack_state state)
{
	s->state = state;
	s->timer_us = s->ack_us = s->linger_us = NEVER;
	s->syn_due = s->ack_now = false;
}

void stack_close(struct stack *s)
{
	if (s->state == STACK_OPEN || s->state == STACK_SYN_RCVD)
		s->closing = true;
	else if (!stack_over(s))
		stack_end(s, STACK_CLOSED);
}

void stack_abort(struct stack *s)
{
	if (s->state == STACK_OPEN)
		send_reset(s);
	if (!stack_over(s))
		stack_end(s, STACK_CLOSED);
}

void stack_vanish(struct stack *s) { stack_end(s, STACK_VANISHED); }

void stack_free(struct stack *s)
{
	buffer_free(&s->out);
	buffer_free(&s->in);
	free(s->have);
}

static void learn_options(struct stack *s, const struct segment *segment)
{
	s->irs = segment->seq;
	s->synced = true;
	s->peer_mss = segment->has_mss ? segment->mss : 536;
	s->wscale_on = s->offers_wscale && segment->has_wscale;
	s->peer_scale = s->wscale_on ? segment->wscale : 0;
	s->sack_on = s->offers_sack && segment->sack_ok;
	s->ts_on = s->offers_ts && segment->has_ts;
	s->ts_recent = segment->tsval;
	s->allowed = segment->window;
	if (s->receive_buffer >> (s->wscale_on ? s->own_scale : 0) > 65535) /* more it cannot offer */
		s->receive_buffer = 65535u << (s->wscale_on ? s->own_scale : 0);
}

static bool opening(struct stack *s, const struct segment *segment)
{
	bool acks_syn = segment->flags & F_ACK && segment->ack == s->iss + 1;
	switch (s->state) {
	case STACK_LISTEN:
		if ((segment->flags & (F_SYN | F_ACK | F_RST)) != F_SYN)
			return true;
		require(s->session, !segment->len, "data on a SYN came through");
		learn_options(s, segment);
		s->state = STACK_SYN_RCVD;
		s->syn_due = true;
		s->timer_us = sim.now_us + s->rto_us;
		return true;
	case STACK_SYN_SENT:
		if (segment->flags & F_RST) {
			if (acks_syn) {
				s->reset = true;
				stack_end(s, STACK_CLOSED);
			}
			return true;
		}
		if (!(segment->flags & F_SYN) || !acks_syn)
			return true;
		learn_options(s, segment);
		s->state = STACK_OPEN;
		s->timer_us = NEVER;
		s->retries = 0;
		s->ack_now = true;
		return true;
	case STACK_SYN_RCVD:
		if (segment->flags & F_RST) {
			if (segment->seq == s->irs + 1) {
				s->reset = true;
				stack_end(s, STACK_CLOSED);
			}
			return true;
		}
		if (segment->flags & F_SYN) {
			s->syn_due = true;
			return true;
		}
		if (!acks_syn && !(segment->flags & F_ACK && segment->ack - s->iss - 1 <= s->max))
			return true;
		s->state = STACK_OPEN;
		s->timer_us = NEVER;
		s->retries = 0;
		return false;
	case STACK_IDLE:
	case STACK_OPEN:
	case STACK_CLOSED:
	case STACK_VANISHED:
		break;
	}
	return false;
}

/* ---- receiving ---- */

static void take_ack(struct stack *s, const struct segment *segment, bool own)
{
	int32_t ack = (int32_t)(segment->ack - s->iss - 1);
	require(s->session, ack <= (int32_t)s->max, "%s gets an acknowledgment of bytes that it never sent: %d > %u",
	        s->side == CLIENT ? "client" : "server", ack, s->max);
	for (unsigned i = 0; i < segment->sacks && own; i++) {
		int32_t start = (int32_t)(segment->sack[i].start - s->iss - 1),
		        end = (int32_t)(segment->sack[i].end - s->iss - 1);
		require(s->session, s->sack_on && start < end && start >= 0 && end <= (int32_t)s->max,
		        "a SACK block names what was never sent: %d-%d of %u", start, end, s->max);
	}
	if (ack < (int32_t)s->una)
		return;
	uint32_t allowed = (uint32_t)ack + ((uint32_t)segment->window << s->peer_scale);
	if (ack > (int32_t)s->una) {
		s->una = (uint32_t)ack;
		if (s->nxt < s->una)
			s->nxt = s->una;
		s->duplicates = s->retries = 0;
		s->rto_us = s->rto_min_us;
		s->timer_us = s->una < s->max ? sim.now_us + s->rto_us : NEVER;
		if (s->flight < s->flight_max)
			s->flight += s->peer_mss;
	} else if (!segment->len && s->una < s->max && allowed <= s->allowed && ++s->duplicates == 3) {
		uint32_t len = (uint32_t)s->out.len - s->una, room = segment_room(s, s->una);
		if (len > room)
			len = room;
		if (s->una + len > s->allowed)
			len = 1;
		if (s->una < s->out.len)
			send_segment(s, s->una, len, 0);
		if (s->nxt < s->una + len && s->una < s->out.len) /* what Nagle held back may go with it */
			s->nxt = s->una + len;
		if (s->max < s->nxt)
			s->max = s->nxt;
	}
	if (allowed > s->allowed)
		s->allowed = allowed;
	if (s->retries && s->una == s->nxt)
		s->retries = 0; /* a probe is answered: the peer lives */
}

static void store(struct stack *s, int64_t at, const uint8_t *bytes, uint32_t len, bool own)
{
	if (own && len)
		require(s->session, at + len <= (int64_t)s->edge + (len == 1),
		        "waxseal sends beyond the window: %lld > %u", (long long)(at + len), s->edge);
	if (at + len > s->edge)
		len = at < s->edge ? (uint32_t)(s->edge - at) : 0;
	if (at + len > (int64_t)s->in.len && len) {
		size_t old = s->in.len, more = (size_t)(at + len) - old;
		static const uint8_t zeros[FRAME_MAX];
		for (size_t left = more; left; left -= left < sizeof(zeros) ? left : sizeof(zeros))
			buffer_add(&s->in, zeros, left < sizeof(zeros) ? left : sizeof(zeros));
		if (s->in.len > s->have_size) {
			s->have_size = s->in.len * 2;
			s->have = realloc(s->have, s->have_size);
		}
		memset(s->have + old, 0, s->have_size - old);
	}
	for (uint32_t i = 0; i < len; i++) {
		if (at + i < 0)
			continue;
		size_t offset = (size_t)(at + i);
		require(s->session, !s->have[offset] || s->in.bytes[offset] == bytes[i],
		        "%s gets byte %zu with two contents", s->side == CLIENT ? "client" : "server", offset);
		s->in.bytes[offset] = bytes[i];
		s->have[offset] = 1;
	}
	while (s->next < s->in.len && s->have[s->next])
		s->next++;
}

static void take_data(struct stack *s, const struct segment *segment, bool own)
{
	int64_t at = (int32_t)(segment->seq - s->irs - 1);
	uint32_t before = s->next;
	unsigned options = (s->ts_on ? 12 : 0) + (segment->sacks ? 4 + 8 * segment->sacks : 0);
	if (own)
		require(s->session, segment->len + options <= (s->offers_mss ? s->mtu_mss : 536u),
		        "waxseal sends a segment of %u bytes, MSS %u", segment->len, s->mtu_mss);
	store(s, at, segment->payload, segment->len, own);
	if (segment->flags & F_FIN) {
		uint32_t fin_at = (uint32_t)(at + segment->len);
		require(s->session, !s->fin_known || s->fin_at == fin_at, "%s: the FIN has moved: %u, %u",
		        s->side == CLIENT ? "client" : "server", s->fin_at, fin_at);
		s->fin_known = true;
		s->fin_at = fin_at;
		s->ack_now = true;
	}
	if (!segment->len) {
		if (segment->seq + 1 == s->irs + 1 + s->next + (s->fin_known && s->next == s->fin_at))
			s->ack_now = true; /* a keepalive */
	} else if (s->next == before || s->next < s->in.len || !s->delays_acks || s->ack_us != NEVER) {
		s->ack_now = true;
	} else {
		s->ack_us = sim.now_us + 40000 + below(&s->session->rng, 160000);
	}
}

static void input(struct stack *s, const struct segment *segment, bool own)
{
	if (s->state == STACK_VANISHED || s->state == STACK_IDLE || opening(s, segment))
		return;
	if (s->state == STACK_CLOSED) {
		refuse(s, segment);
		return;
	}
	uint32_t next = s->irs + 1 + s->next + (s->fin_known && s->next == s->fin_at);
	if (segment->flags & F_RST) {
		if (segment->seq == next) {
			s->reset = true;
			stack_end(s, STACK_CLOSED);
		} else if ((int32_t)(segment->seq - next) > 0 && segment->seq - s->irs - 1 <= s->edge) {
			s->ack_now = true; /* RFC 5961, section 3 */
		}
		return;
	}
	if (segment->flags & F_SYN || !(segment->flags & F_ACK)) {
		s->ack_now = true;
		return;
	}
	if (s->ts_on) {
		require(s->session, segment->has_ts || !own, "waxseal sends no timestamp, though they are on");
		if (!segment->has_ts)
			return;
		if ((int32_t)(segment->tsval - s->ts_recent) < 0) {
			s->ack_now |= segment->len > 0; /* PAWS, RFC 7323 5.2; an old ACK gets none,
			        or two stacks would never rest */
			return;
		}
		if ((int32_t)(segment->seq - s->irs - 1) <= (int32_t)s->last_ack)
			s->ts_recent = segment->tsval;
	}
	take_ack(s, segment, own);
	take_data(s, segment, own);
}

static void too_big(struct stack *s, uint16_t mtu)
{
	unsigned headers = s->session->path.family == 4 ? 40 : 60;
	/* Not what it said in its SYN, but what it sends: the peer's limit is as good a place. */
	if (s->state != STACK_OPEN || mtu < headers + 60 || mtu - headers >= s->mtu_mss || mtu - headers >= s->peer_mss)
		return;
	s->peer_mss = (uint16_t)(mtu - headers);
	s->nxt = s->una;
}

void stack_frame(struct stack *s, const uint8_t *frame, size_t len, bool own, bool damaged, bool icmp)
{
	struct session *session = s->session;
	enum side from = side_other(s->side);
	struct segment segment;
	uint16_t port;
	bool to_client;

	if (icmp) {
		too_big(s, frame_is_too_big(frame, len, &port, &to_client));
		stack_output(s);
		return;
	}
	const char *wrong = frame_parse(frame, len, &session->path, from, &segment);
	require(session, !wrong || damaged, "a frame that nobody damaged is bad: %s", wrong);
	if (wrong)
		return;
	trace_frame(session, TRACE_ARRIVES, from, frame, len);
	input(s, &segment, own);
	stack_output(s);
	/* Its application looks when it next wakes. */
	uint64_t *wake = s->side == CLIENT ? &session->client.wake_us : &session->server.wake_us;
	uint32_t lazy = s->side == CLIENT ? session->client.lazy_us : session->server.lazy_us;
	if (*wake > sim.now_us + lazy)
		*wake = sim.now_us + below(&session->rng, lazy);
}

/* ---- time ---- */

uint64_t stack_deadline(const struct stack *s)
{
	uint64_t due = s->timer_us < s->ack_us ? s->timer_us : s->ack_us;
	return s->linger_us < due ? s->linger_us : due;
}

static void retransmit(struct stack *s)
{
	if (++s->retries > RETRIES_MAX) {
		s->gave_up = true;
		stack_end(s, STACK_CLOSED);
		return;
	}
	s->rto_us = s->rto_us * 2 < s->rto_max_us ? s->rto_us * 2 : s->rto_max_us;
	s->timer_us = sim.now_us + s->rto_us;
	if (s->state != STACK_OPEN) {
		s->syn_due = true;
		return;
	}
	s->nxt = s->una;
	s->flight = 1; /* one segment: RFC 5681, 3.1 */
	s->duplicates = 0;
	if (s->allowed <= s->una && s->una < s->out.len) { /* RFC 9293, 3.8.6.1: a probe */
		send_segment(s, s->una, 1, 0);
		if (s->max < s->una + 1)
			s->max = s->una + 1;
	}
}

void stack_timer(struct stack *s)
{
	if (s->linger_us <= sim.now_us) {
		stack_end(s, STACK_CLOSED);
		return;
	}
	if (s->ack_us <= sim.now_us) {
		s->ack_us = NEVER;
		s->ack_now = true;
	}
	if (s->timer_us <= sim.now_us) {
		s->timer_us = NEVER;
		bool due = s->state == STACK_OPEN ? s->una < out_end(s) : s->state == STACK_SYN_SENT ||
		        s->state == STACK_SYN_RCVD;
		if (due)
			retransmit(s);
	}
	stack_output(s);
}
