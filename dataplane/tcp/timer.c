/*
 * timer.c - time passes: retransmission, persist, delayed ACK, keepalive, TIME-WAIT.
 *
 * Enters: now, and round trips. Leaves: what tcp_output owes, and the events TIMEOUT and CLOSED. One
 * timer serves retransmission and persist: which of the two it means is the peer's window's to say. RTO by
 * RFC 6298, with Karn's rule: a backed-off RTO lasts until a round trip has been measured without doubt.
 */
#include "private.h"

uint32_t tcp_ts_now(const struct tcp_endpoint *ep, uint64_t now_us)
{
	uint64_t passed = now_us > ep->tsval_at_us ? now_us - ep->tsval_at_us : 0;
	return ep->tsval + (uint32_t)(passed / MILLISECONDS);
}

uint64_t tcp_rto(const struct tcp_endpoint *ep)
{
	uint64_t rto = ep->rto_us << ep->backoff;
	return rto < TCP_RTO_MAX_US ? rto : TCP_RTO_MAX_US;
}

static void set_rto(struct tcp_endpoint *ep)
{
	uint64_t variance = 4 * ep->rttvar_us > MILLISECONDS ? 4 * ep->rttvar_us : MILLISECONDS;
	uint64_t rto = ep->srtt_us + variance;
	ep->rto_us = rto < TCP_RTO_MIN_US ? TCP_RTO_MIN_US : rto > TCP_RTO_MAX_US ? TCP_RTO_MAX_US : rto;
	ep->backoff = 0;
}

void tcp_rtt_seed(struct tcp_endpoint *ep, uint64_t rtt_us)
{
	ep->srtt_us = rtt_us < TCP_RTO_MAX_US ? rtt_us : TCP_RTO_MAX_US;
	ep->rttvar_us = ep->srtt_us / 2;
	ep->min_rtt_us = rtt_us ? ep->srtt_us : UINT64_MAX;
	if (rtt_us)
		set_rto(ep);
	else
		ep->rto_us = TCP_RTO_FIRST_US;
}

void tcp_rtt_sample(struct tcp_endpoint *ep, uint64_t rtt_us)
{
	if (rtt_us > TCP_RTO_MAX_US)
		rtt_us = TCP_RTO_MAX_US;
	if (!rtt_us)
		rtt_us = 1;
	if (rtt_us < ep->min_rtt_us)
		ep->min_rtt_us = rtt_us;
	if (!ep->srtt_us) {
		tcp_rtt_seed(ep, rtt_us);
		return;
	}
	uint64_t error = ep->srtt_us > rtt_us ? ep->srtt_us - rtt_us : rtt_us - ep->srtt_us;
	ep->rttvar_us = (3 * ep->rttvar_us + error) / 4;
	ep->srtt_us = (7 * ep->srtt_us + rtt_us) / 8;
	set_rto(ep);
}

void tcp_rtx_restart(struct tcp_endpoint *ep, uint64_t now_us)
{
	ep->rtx_at_us = tcp_flight(ep) ? now_us + tcp_rto(ep) : TCP_NEVER;
}

void tcp_keepalive_restart(struct tcp_endpoint *ep, uint64_t now_us)
{
	bool wanted = ep->limits.idle_timeout_us && !tcp_over(ep) && ep->state != TCP_TIME_WAIT;
	ep->keepalive_probes = 0;
	ep->keepalive_due = false;
	ep->keepalive_at_us = wanted ? now_us + ep->limits.idle_timeout_us : TCP_NEVER;
}

static unsigned give_up(struct tcp_endpoint *ep)
{
	tcp_die(ep);
	ep->rst_due = true;
	return TCP_EVENT_TIMEOUT;
}

static unsigned rtx_expired(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (++ep->tries > TCP_TRIES_MAX)
		return give_up(ep);
	if (!tcp_flight(ep) || tcp_window_zero(ep)) {
		ep->probe_due = true;
	} else {
		if (ep->tries == TCP_BLACKHOLE_TRIES && ep->mss > TCP_MSS_DEFAULT)
			ep->mss = TCP_MSS_DEFAULT;
		tcp_recovery_timeout(ep);
		ep->loss_ts = tcp_ts_now(ep, now_us);
	}
	if (ep->rto_us << ep->backoff < TCP_RTO_MAX_US)
		ep->backoff++;
	ep->rtx_at_us = now_us + tcp_rto(ep);
	return 0;
}

static unsigned keepalive_expired(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (ep->rtx_at_us != TCP_NEVER) { /* retransmissions and probes ask the same question */
		tcp_keepalive_restart(ep, now_us);
		return 0;
	}
	if (ep->keepalive_probes == TCP_KEEPALIVE_PROBES_MAX)
		return give_up(ep);
	ep->keepalive_probes++;
	ep->keepalive_due = true;
	uint64_t interval = ep->limits.idle_timeout_us;
	ep->keepalive_at_us = now_us + (interval < TCP_KEEPALIVE_INTERVAL_US ? interval : TCP_KEEPALIVE_INTERVAL_US);
	return 0;
}

uint64_t tcp_deadline_us(const struct tcp_endpoint *ep)
{
	const uint64_t at[] = {ep->rtx_at_us, ep->delayed_ack_at_us, ep->keepalive_at_us, ep->time_wait_at_us, ep->retry_at_us, ep->rack_at_us, ep->tail_at_us};
	uint64_t first = TCP_NEVER;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		if (at[i] < first)
			first = at[i];
	return first;
}

unsigned tcp_tick(struct tcp_endpoint *ep, uint64_t now_us)
{
	unsigned events = 0;
	if (now_us >= ep->retry_at_us)
		ep->retry_at_us = TCP_NEVER; /* the caller's tcp_output tries again */
	if (tcp_over(ep))
		return 0;
	if (now_us >= ep->time_wait_at_us) {
		tcp_enter_state(ep, TCP_CLOSED);
		return TCP_EVENT_CLOSED;
	}
	if (now_us >= ep->delayed_ack_at_us) {
		ep->delayed_ack_at_us = TCP_NEVER;
		ep->ack_now = true;
	}
	if (now_us >= ep->rack_at_us)
		tcp_rack_expired(ep, now_us);
	if (now_us >= ep->tail_at_us) {
		ep->tail_at_us = TCP_NEVER;
		ep->tail_due = true;
	}
	if (now_us >= ep->rtx_at_us)
		events |= rtx_expired(ep, now_us);
	if (!tcp_over(ep) && now_us >= ep->keepalive_at_us)
		events |= keepalive_expired(ep, now_us);
	return events;
}
