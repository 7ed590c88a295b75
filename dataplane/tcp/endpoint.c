/*
 * endpoint.c - adopt, read, write, shut down, abort, free.
 *
 * Enters: a tracker's numbers, believed but bounded; the application's bytes. Leaves: an endpoint that
 * begins in ESTABLISHED with the tracked bytes still unacknowledged in its send ring. After a reset what
 * has arrived can still be read; what was to be sent is gone.
 */
#include "private.h"

#include <stdlib.h>

const struct tcp_limits tcp_limits_default = {
	.send_buffer_bytes_max = 256 * 1024,
	.receive_buffer_bytes_max = 256 * 1024,
	.idle_timeout_us = 2 * 3600 * SECONDS,
	.tail_probes = true,
	.congestion = "cubic",
};

void tcp_enter_state(struct tcp_endpoint *ep, enum tcp_state state)
{
	static const unsigned short edges[] = {
		[TCP_ESTABLISHED] = 1 << TCP_FIN_WAIT_1 | 1 << TCP_CLOSE_WAIT | 1 << TCP_DEAD,
		[TCP_FIN_WAIT_1] = 1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSING | 1 << TCP_DEAD,
		[TCP_FIN_WAIT_2] = 1 << TCP_TIME_WAIT | 1 << TCP_DEAD,
		[TCP_CLOSE_WAIT] = 1 << TCP_LAST_ACK | 1 << TCP_DEAD,
		[TCP_CLOSING] = 1 << TCP_TIME_WAIT | 1 << TCP_DEAD,
		[TCP_LAST_ACK] = 1 << TCP_CLOSED | 1 << TCP_DEAD,
		[TCP_TIME_WAIT] = 1 << TCP_CLOSED | 1 << TCP_DEAD,
		[TCP_CLOSED] = 0,
		[TCP_DEAD] = 0,
	};
	BUG_ON(!(edges[ep->state] & 1u << state));
	ep->state = state;
	if (state == TCP_CLOSED || state == TCP_DEAD) {
		ep->rtx_at_us = ep->delayed_ack_at_us = ep->keepalive_at_us = ep->time_wait_at_us = ep->rack_at_us = ep->tail_at_us = TCP_NEVER;
		ep->ack_now = ep->probe_due = ep->keepalive_due = ep->tail_due = false;
	}
	if (state == TCP_TIME_WAIT)
		ep->keepalive_at_us = TCP_NEVER;
}

void tcp_die(struct tcp_endpoint *ep)
{
	tcp_enter_state(ep, TCP_DEAD);
	ep->rst_seq = seq_after(ep->snd_nxt, ep->snd_edge) ? seq_max(ep->snd_edge, ep->snd_una) : ep->snd_nxt;
	tcp_ring_drop(&ep->out, ep->snd_end, true);
	tcp_ranges_clear(&ep->sacked);
	tcp_ranges_clear(&ep->lost);
}

static uint16_t bounded_mss(uint16_t mss)
{
	if (!mss)
		return TCP_MSS_DEFAULT;
	return mss < TCP_MSS_MIN ? TCP_MSS_MIN : mss > TCP_MSS_MAX ? TCP_MSS_MAX : mss;
}

static void adopt_receiving(struct tcp_endpoint *ep, const struct tcp_adoption *adoption, uint64_t now_us)
{
	uint32_t offered = seq_after(adoption->rcv_edge, adoption->rcv_nxt) ? adoption->rcv_edge - adoption->rcv_nxt : 0;
	ep->rcv_nxt = adoption->rcv_nxt;
	ep->rcv_edge = adoption->rcv_nxt + offered;
	ep->rcv_wscale = adoption->rcv_wscale < TCP_WSCALE_MAX ? adoption->rcv_wscale : TCP_WSCALE_MAX;
	ep->window_target = min_u32(max_u32(TCP_RECEIVE_FIRST, offered), ep->limits.receive_buffer_bytes_max);
	ep->window_target = max_u32(ep->window_target, 1u << ep->rcv_wscale); /* less cannot be said */
	ep->rate_at_us = now_us;
	ep->last_ack_sent = ep->rcv_nxt;
	ep->ts_recent = adoption->ts_recent;
	ep->ts_recent_at_us = now_us;
}

static void adopt_sending(struct tcp_endpoint *ep, const struct tcp_adoption *adoption)
{
	ep->snd_una = adoption->snd_una;
	ep->snd_nxt = ep->snd_end = adoption->snd_nxt;
	ep->recover = ep->dsack_round = ep->snd_una - 1;
	ep->snd_edge = ep->snd_una + adoption->snd_wnd;
	ep->max_snd_wnd = adoption->snd_wnd;
	ep->snd_wl1 = adoption->rcv_nxt;
	ep->snd_wl2 = adoption->snd_una;
	ep->snd_wscale = adoption->snd_wscale < TCP_WSCALE_MAX ? adoption->snd_wscale : TCP_WSCALE_MAX;
	ep->mss = bounded_mss(adoption->mss);
	ep->tsval = adoption->tsval;
	ep->tsval_at_us = adoption->tsval_at_us;
	ep->congestion = tcp_congestion_find(ep->limits.congestion);
	ep->congestion->init(ep);
	ep->cwnd = tcp_initial_window(ep);
	ep->ssthresh = TCP_CWND_MAX;
	tcp_rtt_seed(ep, adoption->rtt_us);
}

struct tcp_endpoint *tcp_adopt(struct tcp_pool *pool, const struct tcp_adoption *adoption, const struct tcp_limits *limits, uint64_t now_us)
{
	struct tcp_endpoint *ep = calloc(1, sizeof(*ep));
	uint32_t unacked = adoption->snd_nxt - adoption->snd_una;
	if (!ep)
		return NULL;
	ep->pool = pool;
	ep->limits = *limits;
	ep->sack_ok = adoption->sack_ok;
	ep->ts_ok = adoption->ts_ok;
	ep->rtx_at_us = ep->delayed_ack_at_us = ep->time_wait_at_us = ep->retry_at_us = ep->rack_at_us = ep->tail_at_us = TCP_NEVER;
	ep->reorder_steps = 1;
	ep->sent_us = now_us;
	ep->challenge_at_us = now_us;
	adopt_sending(ep, adoption);
	adopt_receiving(ep, adoption, now_us);
	uint32_t in_max = limits->receive_buffer_bytes_max + (1u << ep->rcv_wscale);
	if ((unacked && !adoption->unacked) || unacked > TCP_CWND_MAX ||
	    !tcp_ring_init(&ep->out, pool, max_u32(limits->send_buffer_bytes_max, unacked), ep->snd_una) ||
	    !tcp_ring_init(&ep->in, pool, in_max, ep->rcv_nxt) ||
	    tcp_ring_put(&ep->out, ep->snd_una, adoption->unacked, unacked, false) != unacked) {
		tcp_free(ep);
		return NULL;
	}
	tcp_sent_note(ep, ep->snd_una, unacked, true, now_us); /* when they really left is not known */
	tcp_rtx_restart(ep, now_us);
	tcp_keepalive_restart(ep, now_us);
	return ep;
}

void tcp_free(struct tcp_endpoint *ep)
{
	if (!ep)
		return;
	tcp_sent_forget(ep);
	tcp_ring_dispose(&ep->out);
	tcp_ring_dispose(&ep->in);
	free(ep);
}

/* ---- reading ---- */

size_t tcp_readable(const struct tcp_endpoint *ep)
{
	return ep->rcv_nxt - ep->fin_received - ep->in.seq;
}

const uint8_t *tcp_peek(const struct tcp_endpoint *ep, size_t *len)
{
	size_t readable = tcp_readable(ep);
	const uint8_t *piece = tcp_ring_piece(&ep->in, len);
	if (*len > readable)
		*len = readable;
	return readable ? piece : NULL;
}

size_t tcp_copy(const struct tcp_endpoint *ep, uint8_t *out, size_t len_max)
{
	size_t readable = tcp_readable(ep), len = readable < len_max ? readable : len_max;
	tcp_ring_get(&ep->in, ep->in.seq, out, (uint32_t)len);
	return len;
}

void tcp_consume(struct tcp_endpoint *ep, size_t len)
{
	size_t readable = tcp_readable(ep);
	BUG_ON(len > readable);
	tcp_ring_drop(&ep->in, ep->in.seq + (uint32_t)len, len == readable && !ep->held.count);
}

bool tcp_eof(const struct tcp_endpoint *ep)
{
	return ep->fin_received && !tcp_readable(ep);
}

/* ---- writing ---- */

size_t tcp_write_room(const struct tcp_endpoint *ep)
{
	if (ep->fin_queued || tcp_over(ep))
		return 0;
	uint32_t used = ep->snd_end - ep->out.seq;
	uint32_t free_bytes = ep->out.capacity - min_u32(used, ep->out.capacity);
	/* The chunk at the end is there already if it holds a byte; else the next one begins in its middle. */
	uint32_t at = (uint32_t)((ep->out.start + used) % TCP_CHUNK_BYTES);
	uint64_t pool = (uint64_t)tcp_pool_spare(ep->pool) * TCP_CHUNK_BYTES;
	if (used && at)
		pool += TCP_CHUNK_BYTES - at;
	else if (pool)
		pool -= at;
	return free_bytes < pool ? free_bytes : pool;
}

size_t tcp_write(struct tcp_endpoint *ep, const uint8_t *bytes, size_t len)
{
	size_t room = tcp_write_room(ep);
	uint32_t done = tcp_ring_put(&ep->out, ep->snd_end, bytes, (uint32_t)(len < room ? len : room), true);
	ep->snd_end += done;
	return done;
}

size_t tcp_unsent(const struct tcp_endpoint *ep)
{
	return seq_after(ep->snd_end, ep->snd_nxt) && !tcp_over(ep) ? ep->snd_end - ep->snd_nxt : 0;
}

size_t tcp_unacked(const struct tcp_endpoint *ep)
{
	return ep->snd_end - ep->out.seq;
}

void tcp_shutdown(struct tcp_endpoint *ep)
{
	if (!tcp_over(ep))
		ep->fin_queued = true;
}

void tcp_abort(struct tcp_endpoint *ep)
{
	if (tcp_over(ep))
		return;
	tcp_die(ep);
	ep->rst_due = true;
}

/* ---- the rest ---- */

bool tcp_too_big(struct tcp_endpoint *ep, uint32_t seq, uint16_t mtu_payload)
{
	uint16_t mss = mtu_payload < TCP_MSS_DEFAULT ? TCP_MSS_DEFAULT : mtu_payload;
	if (tcp_over(ep) || seq_before(seq, ep->snd_una) || !seq_before(seq, ep->snd_nxt) || mss >= ep->mss)
		return false; /* RFC 5927, 4.1: a blind attacker does not know what is in flight */
	ep->mss = mss;
	tcp_mark_lost(ep); /* not a sign of congestion (RFC 1191, 6.4) */
	return true;
}

void tcp_info(const struct tcp_endpoint *ep, struct tcp_info *out)
{
	*out = (struct tcp_info){
		.snd_una = ep->snd_una,
		.snd_nxt = ep->snd_nxt,
		.rcv_nxt = ep->rcv_nxt,
		.rcv_edge = ep->rcv_edge,
		.snd_wnd = seq_after(ep->snd_edge, ep->snd_una) ? ep->snd_edge - ep->snd_una : 0,
		.cwnd = ep->cwnd,
		.ssthresh = ep->ssthresh,
		.srtt_us = ep->srtt_us,
		.rto_us = tcp_rto(ep),
		.retransmits = ep->retransmits,
		.segments_in = ep->segments_in,
		.segments_out = ep->segments_out,
		.fin_sent = ep->fin_sent,
		.fin_acked = ep->fin_acked,
		.fin_received = ep->fin_received,
		.dead = ep->state == TCP_DEAD,
		.waits = ep->state == TCP_TIME_WAIT && !ep->ack_now,
	};
}
