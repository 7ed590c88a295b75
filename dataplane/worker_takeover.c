/*
 * worker_takeover.c - the moment of adoption, and the packets of sessions taken over.
 *
 * Enters: a watched session that is quiet. Leaves: two endpoints that begin from the tracker's numbers
 * (README.md, "the moment of adoption"); from then on, segments built here go out with the headers that
 * each peer has seen so far, and no packet of either endpoint is forwarded.
 */
#include "worker_private.h"

#include <string.h>

#include <rte_mbuf.h>
#include <bsd/string.h>

/* The end that faces `peer` plays the other side: it goes on with that side's sequence numbers. */
static struct tcp_adoption adoption(const struct flow *flow, enum side peer, uint64_t now_us)
{
	const struct flow_track *played = &flow->side[side_other(peer)], *faced = &flow->side[peer];
	uint32_t kept;
	struct tcp_adoption out = {
		.snd_una = played->acked,
		.snd_nxt = played->next,
		.rcv_nxt = faced->next,
		.rcv_edge = played->edge,
		.snd_wnd = seq_after(faced->edge, played->acked) ? faced->edge - played->acked : 0,
		.snd_wscale = faced->wscale,
		.rcv_wscale = played->wscale,
		.mss = faced->mss,
		.sack_ok = flow->sack_ok,
		.ts_ok = flow->ts_ok,
		.tsval = played->tsval,
		.tsval_at_us = flow_time_us(played->tsval_at, now_us),
		.ts_recent = faced->tsval,
		.rtt_us = faced->rtt_us,
		.unacked = flow_kept(flow, side_other(peer), &kept),
	};
	out.snd_una = out.snd_nxt - kept; /* what is not kept has been acknowledged */
	return out;
}

/* No room: the rule's `overload`. No way: a peer can bring that about (TCP-AO in its SYN, a FIN), so only where clear
 * text is allowed anyway. */
void session_not_adopted(struct worker *worker, struct session *session, enum stats_counter why)
{
	bool pass = worker_overload_passes(worker, session->flow);

	stats_inc(worker->stats, why);
	session->due = DUE_NOTHING;
	if (pass && (why != STAT_takeover_impossible || worker_clear_allowed(worker, session->flow))) {
		session->end = END_CLEAR;
		session->reason = REASON_CLEAR_ALLOWED;
		strlcpy(session->detail, "not taken over: overload = pass", sizeof(session->detail));
		session_let_go(worker, session);
	} else {
		session_turn_away(worker, session, "421 4.3.2 No room to relay this session over TLS, try again later\r\n",
		                  pass ? "cannot be taken over" : "not taken over: overload = reset");
	}
}

void session_adopt(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	const struct smtp_dialogue *smtp = session->smtp;
	struct takeover_params params = {
		.end = {adoption(flow, CLIENT, worker->now_us), adoption(flow, SERVER, worker->now_us)},
		.server_port = flow->key.server_port,
		.flow_hash = flow->hash,
		.inbound = flow_inbound(flow),
		.ehlo = smtp->ehlo,
		.capabilities = worker_capabilities(smtp),
		.stripped = session->stripped,
		.session_context = session,
	};
	memcpy(params.client_addr, flow->key.client, 16);
	memcpy(params.server_addr, flow->key.server, 16);
	strlcpy(params.client_name, smtp->client_name, sizeof(params.client_name));
	strlcpy(params.server_name, smtp->server_name, sizeof(params.server_name));

	if (flow->no_adopt || flow->side[CLIENT].fin_sent || flow->side[SERVER].fin_sent || !worker_templates(flow, session->template)) {
		session_not_adopted(worker, session, STAT_takeover_impossible);
		return;
	}
	if (worker->takeovers < worker->config.takeovers_max)
		session->takeover = takeover_new(&worker->env, &params, worker->now_us);
	if (!session->takeover) {
		session_not_adopted(worker, session, STAT_takeover_no_memory);
		return;
	}
	worker->takeovers++;
	stats_inc(worker->stats, STAT_takeovers);
	strlcpy(session->server_name, smtp->server_name, sizeof(session->server_name));
	smtp_dialogue_free(session->smtp);
	session->smtp = NULL;
	session->due = DUE_NOTHING;
	flow_enter_state(worker->flows, flow, FLOW_TAKEN, worker->now_us);
	flow_drain(worker->flows, flow);
	session_takeover_moved(worker, session);
}

/* After anything that may have changed a takeover: its next deadline, or its end. */
void session_takeover_moved(struct worker *worker, struct session *session)
{
	session_handshaking(worker, session, takeover_begins_tls(session->takeover));
	if (!takeover_done(session->takeover)) {
		session_set_deadline(worker, session, takeover_deadline_us(session->takeover));
		return;
	}
	session_set_deadline(worker, session, TCP_NEVER);
	flow_enter_state(worker->flows, session->flow, FLOW_CLOSED, worker->now_us); /* counts and frees the session */
}

void worker_taken(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet)
{
	struct worker *worker = context;
	struct session *session = flow->session;

	stats_inc(worker->stats, STAT_taken_packets);
	if (session) {
		takeover_input(session->takeover, from, packet, worker->now_us);
		session_fed(worker, session, true);
	}
	rte_pktmbuf_free(mbuf);
}

void session_fed(struct worker *worker, struct session *session, bool fed)
{
	if (session->fed == fed)
		return;
	session->fed = fed;
	if (fed)
		TAILQ_INSERT_TAIL(&worker->fed, session, turn);
	else
		TAILQ_REMOVE(&worker->fed, session, turn);
}

void worker_turns(struct worker *worker)
{
	struct session *session;

	for (unsigned turns = 0; turns < WORKER_TURNS_MAX && (session = TAILQ_FIRST(&worker->fed)); turns++) {
		session_fed(worker, session, false);
		takeover_turn(session->takeover, worker->now_us);
		session_takeover_moved(worker, session);
	}
}

/* ---- what takeovers borrow ---- */

static bool emit(void *context, void *session_context, enum side to, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	struct worker *worker = context;
	struct session *session = session_context;
	enum port_side port = flow_port(session->flow, to);
	struct packet_template *template = &session->template[side_other(to)];
	struct packet_tcp tcp = {
		.seq = segment->seq,
		.ack = segment->ack,
		.flags = segment->flags,
		.window = segment->window,
		.ts = segment->ts,
		.tsval = segment->tsval,
		.tsecr = segment->tsecr,
		.sack_count = segment->sack_count,
	};
	_Static_assert(TCP_SACK_MAX == PACKET_SACK_MAX && sizeof(struct tcp_sack) == sizeof(struct packet_sack), "same blocks");
	memcpy(tcp.sack, segment->sack, sizeof(tcp.sack));

	uint8_t *payload;
	struct rte_mbuf *mbuf = worker_frame(worker, port, template, &tcp, segment->payload_len, &payload);
	if (!mbuf)
		return false;
	tcp_payload(endpoint, segment, payload);
	session->flow->bytes[side_other(to)] += segment->payload_len;
	worker_frame_tx(worker, port, mbuf, template, &tcp, segment->payload_len);
	return true;
}

static const struct policy_image *current_image(void *context)
{
	return ((struct worker *)context)->image;
}

static uint64_t unix_time_us(void *context)
{
	const struct worker *worker = context;
	return worker->config.unix_time_us(worker->config.context);
}

#define SECONDS 1000000ull

void worker_takeover_env(struct worker *worker)
{
	worker->env = (struct takeover_env){
		.pool = worker->pool,
		.tcp_limits = &worker->config.tcp,
		.tls = worker->tls,
		.memory = worker->memory,
		.stats = worker->stats,
		.reply_timeout_us = 300 * SECONDS,       /* RFC 5321, 4.5.3.2 */
		.data_reply_timeout_us = 600 * SECONDS,
		.idle_timeout_us = 300 * SECONDS,
		.tls_timeout_us = 30 * SECONDS,
		.image = current_image,
		.emit = emit,
		.unix_time_us = unix_time_us,
		.context = worker,
	};
}
