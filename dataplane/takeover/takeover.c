/*
 * takeover.c - the life of a session taken over: adoption, packets, time, end.
 *
 * Enters: the tracker's numbers, packets of both peers, ICMP, time. Leaves: segments, through pump.c; one
 * outcome. An endpoint that is over is never written to again; when both are, the worker frees the session.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "private.h"

void enter_upstream(struct takeover *t, enum upstream upstream)
{
	static const uint8_t edges[UPSTREAMS] = {
		[UPSTREAM_CLEAR] = 1 << UPSTREAM_PROBE | 1 << UPSTREAM_STARTTLS | 1 << UPSTREAM_GONE,
		[UPSTREAM_PROBE] = 1 << UPSTREAM_CLEAR | 1 << UPSTREAM_GONE,
		[UPSTREAM_STARTTLS] = 1 << UPSTREAM_CLEAR | 1 << UPSTREAM_HANDSHAKE | 1 << UPSTREAM_GONE,
		[UPSTREAM_HANDSHAKE] = 1 << UPSTREAM_HELLO | 1 << UPSTREAM_GONE,
		[UPSTREAM_HELLO] = 1 << UPSTREAM_TLS | 1 << UPSTREAM_GONE,
		[UPSTREAM_TLS] = 1 << UPSTREAM_GONE,
	};
	assert(edges[t->upstream] & 1 << upstream);
	t->upstream = upstream;
}

void set_detail(struct takeover *t, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(t->outcome.detail, sizeof(t->outcome.detail), format, arguments);
	va_end(arguments);
	for (char *p = t->outcome.detail; *p; p++)
		if (*p < 0x20 || *p >= 0x7f)
			*p = ' ';
}

static const char *destination_name(const struct takeover *t)
{
	const struct policy_image *image = t->env->image(t->env->context);

	if (t->params.inbound)
		return "inbound";
	return policy_string(image, policy_destination(image, policy_destination_of(image, t->params.server_addr))->name);
}

struct takeover *takeover_new(struct takeover_env *env, const struct takeover_params *params, uint64_t now_us)
{
	struct takeover *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->env = env;
	t->params = *params;
	t->now_us = t->activity_us = now_us;
	t->closing_us = TCP_NEVER;
	t->capabilities = params->capabilities;
	t->promised = params->ehlo ? params->capabilities : 0;
	memcpy(t->client_name, params->client_name, sizeof(t->client_name));
	t->outcome.stripped = params->stripped;
	t->facts.chain = CHAIN_UNSEEN;
	t->outcome.end = END_NOTHING;
	t->outcome.reason = REASON_CLEAR_ALLOWED;
	t->destination = stats_destination(env->stats, destination_name(t));
	for (int s = 0; s < SIDES; s++) {
		t->end[s] = tcp_adopt(env->pool, &params->end[s], env->tcp_limits, now_us);
		if (!t->end[s]) {
			takeover_free(t);
			return NULL;
		}
	}
	return t;
}

void takeover_free(struct takeover *t)
{
	if (!t)
		return;
	for (int s = 0; s < SIDES; s++)
		if (t->end[s])
			tcp_free(t->end[s]);
	tls_client_free(t->tls);
	pipeline_dispose(&t->pipeline);
	free(t);
}

/* ---- events of the endpoints ---- */

static void reset_by(struct takeover *t, enum side side)
{
	enum side other = side_other(side);

	t->over[side] = true;
	if (side == SERVER && upstream_in_transition(t)) {
		server_lost(t, "the server reset the connection");
		return;
	}
	if (side == SERVER && t->upstream == UPSTREAM_GONE)
		return; /* the client is being answered here */
	if (side == SERVER && t->eof[SERVER] && t->mode == CLIENT_OVER)
		return; /* it had closed, and so has the client's side: many answer our close_notify with it */
	t->abort_after[other] = true;
	if (side == SERVER)
		t->mode = CLIENT_OVER;
	close_within(t, TAKEOVER_FLUSH_US);
}

static void handle(struct takeover *t, enum side side, unsigned events)
{
	if (events & TCP_EVENT_CHALLENGE)
		stats_inc(t->env->stats, STAT_challenge_acks);
	if (events & TCP_EVENT_BAD)
		stats_inc(t->env->stats, STAT_taken_unacceptable);
	if (events & TCP_EVENT_CLOSED)
		t->over[side] = true;
	if (events & TCP_EVENT_RESET)
		reset_by(t, side);
	if (events & TCP_EVENT_TIMEOUT) {
		tcp_abort(t->end[side]);
		if (side == SERVER)
			server_lost(t, "the server does not acknowledge");
		else
			t->abort_after[SERVER] = true;
	}
}

/* Is it the server's turn? */
static bool server_is_due(const struct takeover *t)
{
	if (upstream_in_transition(t))
		return true;
	return pipeline_head(&t->pipeline) && t->mode != CLIENT_DATA && t->mode != CLIENT_CHUNK;
}

void takeover_input(struct takeover *t, enum side from, const struct packet *packet, uint64_t now_us)
{
	struct tcp_segment segment = {
		.seq = packet->seq, .ack = packet->ack, .window = packet->window, .flags = packet->flags,
		.ts = packet->options & PACKET_OPT_TS, .tsval = packet->tsval, .tsecr = packet->tsecr, .sack_count = packet->sack_count,
		.payload = packet->frame + packet->payload_off, .payload_len = packet->payload_len,
	};

	t->now_us = now_us;
	for (unsigned i = 0; i < packet->sack_count; i++)
		segment.sack[i] = (struct tcp_sack){packet->sack[i].start, packet->sack[i].end};
	if (packet->flags & PACKET_RST)
		takeover_turn(t, now_us); /* what came before it is still delivered */
	if (t->over[from])
		return;
	if (packet->payload_len || packet->flags & PACKET_FIN) {
		if (from == SERVER || !server_is_due(t)) /* a client that repeats itself does not prolong a server's time */
			t->activity_us = now_us;
		t->outcome.bytes[from] += packet->payload_len;
	}
	handle(t, from, tcp_input(t->end[from], &segment, now_us));
	t->fed = true;
	if (tcp_answer_at_once(t->end[from]))
		decide_next_io(t);
}

void takeover_turn(struct takeover *t, uint64_t now_us)
{
	t->now_us = now_us;
	if (t->fed)
		decide_next_io(t);
}

void takeover_too_big(struct takeover *t, enum side side, uint32_t seq, uint16_t mtu, uint64_t now_us)
{
	uint16_t headers = policy_addr_is_ipv4(t->params.server_addr) ? 20 + 20 : 40 + 20;

	t->now_us = now_us;
	if (!t->over[side] && mtu > headers && tcp_too_big(t->end[side], seq, (uint16_t)(mtu - headers)))
		decide_next_io(t);
}

/* ---- time ---- */

static uint64_t patience_us(const struct takeover *t)
{
	const struct pending *head = pipeline_head(&t->pipeline);

	if (t->upstream == UPSTREAM_HANDSHAKE)
		return t->env->tls_timeout_us;
	if (head)
		return head->content ? t->env->data_reply_timeout_us : t->env->reply_timeout_us;
	return t->env->idle_timeout_us;
}

static void patience_is_over(struct takeover *t)
{
	t->activity_us = t->now_us;
	if (upstream_in_transition(t) || pipeline_head(&t->pipeline)) {
		server_lost(t, t->upstream == UPSTREAM_HANDSHAKE ? "TLS handshake timed out" : "the server does not answer");
		return;
	}
	if (t->upstream != UPSTREAM_GONE && t->mode == CLIENT_COMMANDS)
		write_server(t, "QUIT\r\n", 6);
	set_detail(t, "the client was silent for too long");
	last_word(t, "421 4.4.2 Timeout: closing the connection\r\n");
}

uint64_t takeover_deadline_us(const struct takeover *t)
{
	uint64_t deadline = t->closing_us;

	for (int s = 0; s < SIDES; s++) {
		uint64_t due = t->over[s] ? TCP_NEVER : tcp_deadline_us(t->end[s]);
		deadline = due < deadline ? due : deadline;
	}
	if (t->mode != CLIENT_OVER && t->activity_us + patience_us(t) < deadline)
		deadline = t->activity_us + patience_us(t);
	return deadline;
}

void takeover_tick(struct takeover *t, uint64_t now_us)
{
	t->now_us = now_us;
	for (int s = 0; s < SIDES; s++)
		if (!t->over[s] && tcp_deadline_us(t->end[s]) <= now_us)
			handle(t, s, tcp_tick(t->end[s], now_us));
	if (t->mode != CLIENT_OVER && t->activity_us + patience_us(t) <= now_us)
		patience_is_over(t);
	decide_next_io(t);
}

void takeover_stop(struct takeover *t, uint64_t now_us)
{
	t->now_us = now_us;
	last_word(t, "421 4.3.2 The appliance is going down\r\n");
	decide_next_io(t);
	for (int s = 0; s < SIDES; s++)
		if (!t->over[s])
			tcp_abort(t->end[s]);
	decide_next_io(t);
}

bool takeover_done(const struct takeover *t)
{
	for (int s = 0; s < SIDES; s++) {
		struct tcp_info info;
		if (t->over[s])
			continue;
		tcp_info(t->end[s], &info);
		if (!info.waits)
			return false;
	}
	return true;
}

/* ---- the end ---- */

void takeover_outcome(const struct takeover *t, struct takeover_outcome *out)
{
	*out = t->outcome;
	out->facts.known = t->facts.tls != FACT_TLS_NONE || !(t->capabilities & TAKEOVER_CAP_UNKNOWN);
	out->facts.offered = t->facts.tls != FACT_TLS_NONE || (t->promised | t->capabilities) & SMTP_CAP_STARTTLS;
	out->facts.tls = (uint8_t)t->facts.tls;
	if (t->facts.tls == FACT_TLS_NONE && t->params.capabilities & TAKEOVER_CAP_REFUSED)
		out->facts.tls = FACT_TLS_REFUSED;
	if (t->outcome.end == END_CUT)
		return;
	if (t->carried)
		out->end = t->facts.tls == FACT_TLS_UP ? END_UPGRADED : END_CLEAR;
	else if (!t->refused)
		out->end = t->facts.tls == FACT_TLS_UP ? END_UPGRADED : END_NOTHING;
}

bool takeover_begins_tls(const struct takeover *t)
{
	return t->mode != CLIENT_OVER && (t->upstream == UPSTREAM_PROBE || t->upstream == UPSTREAM_STARTTLS || t->upstream == UPSTREAM_HANDSHAKE);
}

const char *takeover_phase(const struct takeover *t)
{
	if (t->mode == CLIENT_OVER)
		return "closing";
	switch (t->upstream) {
	case UPSTREAM_CLEAR: return t->refused ? "refused" : "clear";
	case UPSTREAM_PROBE:
	case UPSTREAM_STARTTLS: return "starttls";
	case UPSTREAM_HANDSHAKE: return "handshake";
	case UPSTREAM_HELLO: return "hello";
	case UPSTREAM_TLS: return "relay";
	case UPSTREAM_GONE: return "refused";
	case UPSTREAMS: break;
	}
	return "";
}
