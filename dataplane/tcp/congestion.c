/*
 * congestion.c - how much may be on the way: a const table of operations, "newreno" and "cubic".
 *
 * Enters: acknowledged bytes and losses. Leaves: cwnd and ssthresh, in bytes. Slow start from IW10 (RFC 6928)
 * and the restart after idle are common; a table entry has its own growth and its own reduction. The window
 * grows only while it is what limits the sender (RFC 7661's concern). Integers only.
 */
#include "private.h"

enum { CUBIC_DELTA_MS_MAX = 60 * 1000 };

uint32_t tcp_initial_window(const struct tcp_endpoint *ep)
{
	uint32_t mss = tcp_payload_max(ep);
	return min_u32(10 * mss, max_u32(2 * mss, 14600));
}

static void grow(struct tcp_endpoint *ep, uint64_t bytes)
{
	ep->cwnd = (uint32_t)(ep->cwnd + bytes < TCP_CWND_MAX ? ep->cwnd + bytes : TCP_CWND_MAX);
}

/* ---- newreno, RFC 5681 ---- */

static void newreno_init(struct tcp_endpoint *ep)
{
	ep->cwnd_bytes = 0;
}

static void newreno_avoid(struct tcp_endpoint *ep, uint32_t acked, uint64_t now_us)
{
	(void)now_us;
	ep->cwnd_bytes += acked;
	if (ep->cwnd_bytes < ep->cwnd)
		return;
	ep->cwnd_bytes -= ep->cwnd;
	grow(ep, tcp_payload_max(ep));
}

static uint32_t newreno_reduce(struct tcp_endpoint *ep, uint32_t flight)
{
	return max_u32(flight / 2, 2 * tcp_payload_max(ep));
}

/* ---- cubic, RFC 9438: C = 0.4 segments/s^3, beta = 0.7; windows in bytes, times in ms ---- */

static uint64_t cube_root(uint64_t n)
{
	uint64_t root = 0;
	for (int shift = 63; shift >= 0; shift -= 3) { /* one bit of the root a turn */
		root <<= 1;
		uint64_t step = 3 * root * (root + 1) + 1;
		if (n >> shift >= step) {
			n -= step << shift;
			root++;
		}
	}
	return root;
}

static void cubic_init(struct tcp_endpoint *ep)
{
	ep->cubic = (struct tcp_cubic){0};
}

static void cubic_epoch(struct tcp_endpoint *ep, uint64_t now_us)
{
	struct tcp_cubic *c = &ep->cubic;
	uint32_t mss = tcp_payload_max(ep);
	c->epoch_us = now_us ? now_us : 1;
	c->w_est = ep->cwnd;
	if (ep->cwnd >= c->w_max) {
		c->w_max = ep->cwnd;
		c->k_ms = 0;
	} else { /* cbrt((w_max - cwnd) / C) in ms; the difference is below 2^28: no overflow */
		c->k_ms = cube_root((uint64_t)(c->w_max - ep->cwnd) * 2500000000ull / mss);
	}
}

/* W_cubic `ms` after the epoch began. */
static uint64_t cubic_window(const struct tcp_endpoint *ep, uint64_t ms)
{
	int64_t delta = (int64_t)ms - (int64_t)ep->cubic.k_ms;
	if (delta > CUBIC_DELTA_MS_MAX)
		delta = CUBIC_DELTA_MS_MAX;
	if (delta < -CUBIC_DELTA_MS_MAX)
		delta = -CUBIC_DELTA_MS_MAX;
	int64_t change = delta * delta * delta / 1000 * tcp_payload_max(ep) / 2500000;
	int64_t window = (int64_t)ep->cubic.w_max + change;
	return window > 0 ? (uint64_t)window : 0;
}

static void cubic_avoid(struct tcp_endpoint *ep, uint32_t acked, uint64_t now_us)
{
	struct tcp_cubic *c = &ep->cubic;
	uint32_t mss = tcp_payload_max(ep);
	if (!c->epoch_us)
		cubic_epoch(ep, now_us);
	/* 4.3: alpha = 3(1-beta)/(1+beta) = 9/17 until the window of before the loss is reached, then 1. */
	uint64_t est = (uint64_t)mss * acked / ep->cwnd;
	c->w_est += c->w_est < c->cwnd_prior ? est * 9 / 17 : est;
	uint64_t target = cubic_window(ep, (now_us - c->epoch_us + ep->srtt_us) / MILLISECONDS);
	if (target > ep->cwnd + ep->cwnd / 2)
		target = ep->cwnd + ep->cwnd / 2; /* 4.2 */
	if (target > ep->cwnd) {
		/* (target - cwnd) / cwnd a byte acknowledged; the remainder is kept, small ACKs count too */
		uint64_t due = (target - ep->cwnd) * acked + ep->cwnd_bytes;
		uint32_t cwnd = ep->cwnd;
		ep->cwnd_bytes = (uint32_t)(due % cwnd);
		grow(ep, due / cwnd);
	}
	if (c->w_est > ep->cwnd)
		grow(ep, c->w_est - ep->cwnd);
}

static uint32_t cubic_reduce(struct tcp_endpoint *ep, uint32_t flight)
{
	struct tcp_cubic *c = &ep->cubic;
	uint32_t cwnd = min_u32(ep->cwnd, max_u32(flight, 2 * tcp_payload_max(ep))); /* 4.6: unused window does not count */
	c->cwnd_prior = cwnd;
	c->w_max = cwnd < c->w_max ? (uint32_t)((uint64_t)cwnd * 17 / 20) : cwnd; /* 4.7: fast convergence */
	c->epoch_us = 0;
	return max_u32((uint32_t)((uint64_t)cwnd * 7 / 10), 2 * tcp_payload_max(ep));
}

static void cubic_timeout(struct tcp_endpoint *ep)
{
	ep->cubic.epoch_us = 0;
}

/* ---- the table ---- */

static const struct tcp_congestion table[] = {
	{"cubic", cubic_init, cubic_avoid, cubic_reduce, cubic_timeout},
	{"newreno", newreno_init, newreno_avoid, newreno_reduce, newreno_init},
};

const struct tcp_congestion *tcp_congestion_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return &table[0];
}

void tcp_congestion_acked(struct tcp_endpoint *ep, uint32_t acked, uint32_t flight, uint64_t now_us)
{
	if (ep->cwnd < ep->ssthresh) {
		uint32_t step = min_u32(acked, 2 * tcp_payload_max(ep)); /* RFC 3465: delayed ACKs do not slow it */
		if (ep->cwnd_limited || ep->cwnd < 2 * flight)
			grow(ep, step);
	} else if (ep->cwnd_limited) {
		ep->congestion->avoid(ep, acked, now_us);
	}
}

void tcp_congestion_idle(struct tcp_endpoint *ep, uint64_t now_us)
{
	if (tcp_flight(ep) || now_us - ep->sent_us <= tcp_rto(ep))
		return;
	ep->cwnd = min_u32(ep->cwnd, tcp_initial_window(ep));
	ep->cubic.epoch_us = 0;
	ep->cwnd_bytes = 0;
}
