/*
 * tcp_reference.h - a naive TCP peer for the simulation, independent of dataplane/tcp.
 *
 * Written to be obviously right rather than good: streams are offsets from 0, what has arrived is one flag
 * a byte, retransmission is go-back-N on a fixed timer, every segment is acknowledged. The content of a
 * stream is a function of its offset, so that each byte can be checked wherever it is seen.
 */
#ifndef WAXSEAL_TESTS_SIM_TCP_REFERENCE_H
#define WAXSEAL_TESTS_SIM_TCP_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tcp/tcp.h"

enum { F_FIN = 1, F_SYN = 2, F_RST = 4, F_PSH = 8, F_ACK = 16 };
enum { STREAM_BYTES_MAX = 300000 };

static inline uint8_t stream_byte(int direction, uint32_t offset)
{
	uint32_t x = (offset + 1) * 2654435761u ^ (uint32_t)direction * 0x9e3779b9u;
	return (uint8_t)(x >> 13 ^ x >> 24);
}

struct reference {
	int direction;              /* of the stream it sends */
	uint32_t iss, irs;          /* sequence numbers of offset 0: ours, and the other's */
	uint8_t out_scale, in_scale; /* of windows we send, and of those we get */
	uint32_t mss;
	bool sack_ok, ts_ok;
	/* sending, as offsets */
	uint32_t una, nxt, sent_max, written, allowed; /* allowed: the other's right edge */
	bool closing;               /* FIN at `written` */
	uint64_t timer_us, rto_us;
	/* receiving, as offsets */
	uint8_t got[STREAM_BYTES_MAX];
	uint32_t next, read, edge, got_max, buffer;
	bool fin_known, fin_taken;
	uint32_t fin_at;
	bool ack_due;
	uint32_t ts_recent, ts_offset;
	uint32_t last_ack;
	const char *complaint;
};

static inline uint32_t reference_end(const struct reference *p)
{
	return p->written + p->closing;
}

static inline void reference_data(struct reference *p, const struct tcp_segment *s, const uint8_t *bytes)
{
	int64_t at = (int32_t)(s->seq - p->irs);
	for (uint32_t i = 0; i < s->payload_len; i++) {
		int64_t offset = at + i;
		if (offset < 0 || offset >= STREAM_BYTES_MAX)
			p->complaint = "bytes outside of the stream";
		else if (bytes[i] != stream_byte(!p->direction, (uint32_t)offset))
			p->complaint = "a byte is wrong";
		else if (offset < p->edge) {
			p->got[offset] = 1;
			if (offset + 1 > p->got_max)
				p->got_max = (uint32_t)offset + 1;
		}
	}
	if (s->flags & F_FIN) {
		uint32_t fin_at = (uint32_t)(at + s->payload_len);
		if (p->fin_known && p->fin_at != fin_at)
			p->complaint = "the FIN has moved";
		p->fin_known = true;
		p->fin_at = fin_at;
	}
	while (p->next < p->got_max && p->got[p->next])
		p->next++;
	if (p->fin_known && p->next == p->fin_at)
		p->fin_taken = true;
}

static inline void reference_input(struct reference *p, const struct tcp_segment *s, const uint8_t *bytes, uint64_t now_us)
{
	int64_t ack = (int32_t)(s->ack - p->iss);
	if (s->flags & (F_RST | F_SYN) || !(s->flags & F_ACK)) {
		p->complaint = "RST, SYN or no ACK";
		return;
	}
	if (s->ts != p->ts_ok)
		p->complaint = "timestamps were not negotiated like that";
	if (ack > p->sent_max)
		p->complaint = "acknowledges bytes never sent";
	if (ack > p->una) {
		p->una = (uint32_t)ack;
		p->rto_us = 250000;
		p->timer_us = now_us + p->rto_us;
		if (p->nxt < p->una)
			p->nxt = p->una;
	}
	int64_t allowed = ack + ((int64_t)s->window << p->in_scale);
	if (allowed > p->allowed)
		p->allowed = (uint32_t)allowed;
	if (s->ts && (int32_t)(s->tsval - p->ts_recent) >= 0 && (int32_t)(s->seq - p->irs) <= (int64_t)p->last_ack)
		p->ts_recent = s->tsval;
	reference_data(p, s, bytes);
	if (s->payload_len || s->flags & F_FIN || s->seq + 1 == p->irs + p->next + p->fin_taken)
		p->ack_due = true;
}

static inline uint8_t reference_sacks(const struct reference *p, struct tcp_sack out[TCP_SACK_MAX])
{
	uint8_t count = 0, max = p->ts_ok ? 3 : 4;
	uint32_t at = p->next;
	while (p->sack_ok && at < p->got_max && count < max) {
		while (at < p->got_max && !p->got[at])
			at++;
		uint32_t start = at;
		while (at < p->got_max && p->got[at])
			at++;
		if (start < at)
			out[count++] = (struct tcp_sack){p->irs + start, p->irs + at};
	}
	return count;
}

/* One segment with `len` bytes from `offset`; the bytes go to `out`. */
static inline void reference_build(struct reference *p, struct tcp_segment *s, uint8_t *out, uint32_t offset, uint32_t len, uint64_t now_us)
{
	uint32_t unit = 1u << p->out_scale, want = p->read + p->buffer;
	uint32_t units = want > p->next ? (want - p->next) / unit : 0;
	if (p->next + units * unit < p->edge) /* never back */
		units = (p->edge - p->next + unit - 1) / unit;
	if (units > 65535)
		units = 65535;
	if (p->next + units * unit > p->edge)
		p->edge = p->next + units * unit;
	*s = (struct tcp_segment){
		.seq = p->iss + offset,
		.ack = p->irs + p->next + p->fin_taken,
		.window = (uint16_t)units,
		.flags = F_ACK,
		.ts = p->ts_ok,
		.tsval = p->ts_ok ? p->ts_offset + (uint32_t)(now_us / 1000) : 0,
		.tsecr = p->ts_ok ? p->ts_recent : 0,
		.payload_len = (uint16_t)len,
	};
	s->sack_count = reference_sacks(p, s->sack);
	for (uint32_t i = 0; i < len; i++)
		out[i] = stream_byte(p->direction, offset + i);
	if (p->closing && offset + len == p->written && (len || offset == p->nxt || offset == p->una))
		s->flags |= F_FIN;
	p->last_ack = p->next;
	p->ack_due = false;
}

/* The next segment that is due, or false. */
static inline bool reference_output(struct reference *p, struct tcp_segment *s, uint8_t *out, uint64_t now_us)
{
	uint32_t limit = p->una + 20 * p->mss;
	bool expired = now_us >= p->timer_us && (p->una < reference_end(p));
	if (expired) {
		p->nxt = p->una;
		p->rto_us = p->rto_us < 4000000 ? p->rto_us * 2 : p->rto_us;
		p->timer_us = now_us + p->rto_us;
	}
	if (limit > p->allowed)
		limit = p->allowed;
	if (expired && p->allowed <= p->una)
		limit = p->una + 1; /* a probe */
	uint32_t len = p->written > p->nxt ? p->written - p->nxt : 0;
	if (len > (limit > p->nxt ? limit - p->nxt : 0))
		len = limit > p->nxt ? limit - p->nxt : 0;
	if (len > p->mss - 40)
		len = p->mss - 40;
	bool fin = p->closing && p->nxt + len == p->written && limit > p->nxt + len;
	if (!len && !fin) {
		if (!p->ack_due)
			return false;
		bool closing = p->closing; /* a bare ACK carries no FIN */
		p->closing = false;
		reference_build(p, s, out, p->nxt, 0, now_us);
		p->closing = closing;
		return true;
	}
	if (p->una == p->nxt && !expired)
		p->timer_us = now_us + p->rto_us;
	bool closing = p->closing;
	p->closing = fin;
	reference_build(p, s, out, p->nxt, len, now_us);
	p->closing = closing;
	p->nxt += len + fin;
	if (p->nxt > p->sent_max)
		p->sent_max = p->nxt;
	return true;
}

static inline uint64_t reference_deadline_us(const struct reference *p)
{
	return p->una < reference_end(p) ? p->timer_us : TCP_NEVER;
}

#endif
