/*
 * worker_act.c - carries out what the bytes of a session asked for.
 *
 * Enters: session->due, after everything approved of the packet has left. Leaves: a decision carried
 * out: the flow is sealed, let go in clear, cut (RST to both), or adopted. Nothing is decided here:
 * takeover_choose() and policy_decide() do.
 */
#include "worker_private.h"

#include <stdio.h>
#include <string.h>

#include <rte_mbuf.h>
#include <bsd/string.h>

/* ---- the ways out of the watch ---- */

/* In clear, with the policy's leave: passes, and the envelope is followed. */
void session_let_go(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	session_set_deadline(worker, session, TCP_NEVER);
	smtp_dialogue_observe(session->smtp);
	flow->observed = true;
	flow_follow_held(worker->flows, flow);
	flow_enter_state(worker->flows, flow, FLOW_CLEAR, worker->now_us);
}

/* Not to be followed: passes without a look. */
static void pass_unseen(struct worker *worker, struct session *session)
{
	session_set_deadline(worker, session, TCP_NEVER);
	flow_enter_state(worker->flows, session->flow, FLOW_CLEAR, worker->now_us);
}

/* What is left of the window that a side has offered, as it stands in its segments: an edge is never pulled back. */
static uint16_t window_left(const struct flow_track *side, uint32_t ack)
{
	uint32_t left = seq_after(side->edge, ack) ? side->edge - ack : 0;
	uint32_t window = (left + (1u << side->wscale) - 1) >> side->wscale;
	return window > UINT16_MAX ? UINT16_MAX : (uint16_t)window;
}

static void send_built(struct worker *worker, enum port_side port, struct packet_template *template, const struct packet_tcp *tcp, const char *payload)
{
	uint16_t payload_len = (uint16_t)strlen(payload);
	uint8_t *room;
	struct rte_mbuf *mbuf = worker_frame(worker, port, template, tcp, payload_len, &room);
	if (!mbuf)
		return;
	memcpy(room, payload, payload_len);
	worker_frame_tx(worker, port, mbuf, template, tcp, payload_len);
}

/* One segment to `to`, in the other side's name. */
static void send_segment(struct worker *worker, const struct flow *flow, struct packet_template *template, enum side to, uint8_t flags,
                         const char *payload)
{
	enum side from = side_other(to);
	struct packet_tcp tcp = {
		.seq = flow->side[from].next,
		.ack = flow->side[to].next,
		.flags = flags | PACKET_ACK,
		.window = flags & PACKET_RST ? 0 : window_left(&flow->side[from], flow->side[to].next),
		.ts = flow->ts_ok,
		.tsval = flow->side[from].tsval + 1,
		.tsecr = flow->side[to].tsval,
	};
	send_built(worker, flow_port(flow, to), template, &tcp, payload);
}

/* RFC 9293, 3.10.7.1: as a host answers that knows nothing of the connection. */
void worker_gone(void *context, const struct flow *flow, enum side from, const struct packet *packet)
{
	struct packet_template theirs, answer;
	struct packet_tcp tcp = {.seq = packet->ack, .flags = PACKET_RST};

	if (!(packet->flags & PACKET_ACK))
		tcp = (struct packet_tcp){.ack = packet->seq + packet_seq_len(packet), .flags = PACKET_RST | PACKET_ACK};
	packet_template_from(&theirs, packet);
	packet_template_reverse(&answer, &theirs);
	send_built(context, flow_port(flow, from), &answer, &tcp, "");
}

void worker_reset_both(struct worker *worker, const struct flow *flow, struct packet_template template[SIDES])
{
	for (int s = 0; s < SIDES; s++)
		send_segment(worker, flow, &template[s], side_other(s), PACKET_RST, "");
}

bool worker_templates(const struct flow *flow, struct packet_template out[SIDES])
{
	for (int s = 0; s < SIDES; s++) {
		const struct packet_template *own = flow_template(flow, s), *other = flow_template(flow, side_other(s));
		if (own)
			out[s] = *own;
		else if (other)
			packet_template_reverse(&out[s], other);
		else
			return false;
	}
	return true;
}

static void end_cut(struct worker *worker, struct session *session, enum policy_reason reason, const char *detail)
{
	struct flow *flow = session->flow;
	session_set_deadline(worker, session, TCP_NEVER);
	session->end = END_CUT;
	session->reason = reason;
	if (detail != session->detail)
		strlcpy(session->detail, detail, sizeof(session->detail));
	flow->destination->reasons[reason]++;
	flow_enter_state(worker->flows, flow, FLOW_CUT, worker->now_us); /* frees the session */
}

void session_cut(struct worker *worker, struct session *session, enum policy_reason reason, const char *detail)
{
	struct packet_template template[SIDES];
	if (worker_templates(session->flow, template))
		worker_reset_both(worker, session->flow, template);
	end_cut(worker, session, reason, detail);
}

void session_turn_away(struct worker *worker, struct session *session, const char *reply, const char *detail)
{
	struct packet_template template[SIDES];
	if (session->flow->side[SERVER].fin_sent) { /* nothing can be said behind a FIN */
		session_cut(worker, session, REASON_CLEAR_SESSION, detail);
		return;
	}
	if (worker_templates(session->flow, template)) {
		send_segment(worker, session->flow, &template[SERVER], CLIENT, PACKET_PSH | PACKET_FIN, reply);
		send_segment(worker, session->flow, &template[CLIENT], SERVER, PACKET_RST, "");
	}
	end_cut(worker, session, REASON_CLEAR_SESSION, detail);
}

/* By one rule, where no certificate is in sight: what the DNS says of the server counts, and what a probe has seen there. */
static struct policy_verdict decide_one(const struct worker *worker, const struct flow *flow, const struct image_rule *rule, const struct policy_facts *seen)
{
	const char *nexthop = policy_rule_nexthop(worker->image, rule);
	struct policy_facts facts = *seen;

	if (!flow_inbound(flow)) {
		struct policy_server server = policy_server_of(worker->image, flow->key.server, nexthop);
		policy_facts_of_server(worker->image, rule, &server, &facts);
		facts.name_later = !nexthop && policy_needs_nexthop(worker->image, rule);
		if (facts.end_to_end && rule->e2e == E2E_PROBE)
			policy_facts_of_probe(worker->image, rule, flow->key.server, nexthop,
			                      worker->config.unix_time_us(worker->config.context) / 1000000, &facts);
	}
	return (struct policy_verdict){rule, policy_decide(rule, &facts, flow->hash)};
}

/* By the destination's rule and the client's minimum. */
static struct policy_verdict decide_by(const struct worker *worker, const struct flow *flow, const struct policy_facts *facts)
{
	struct policy_rules rules = worker_rules(worker, flow);
	struct policy_verdict verdict = decide_one(worker, flow, rules.rule, facts);

	return rules.minimum ? policy_stricter(verdict, decide_one(worker, flow, rules.minimum, facts)) : verdict;
}

static void seal(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	const struct tls_watch *tls = session->tls;
	struct policy_facts facts = {.end_to_end = true, .offered = true, .tls = FACT_TLS_UP, .version = tls->version};
	struct policy_verdict verdict = decide_by(worker, flow, &facts);

	session_would(worker, session, verdict.rule, verdict.decision);
	if (policy_effect(verdict.decision) != POLICY_ALLOW) {
		session_cut(worker, session, verdict.decision.reason, "policy refuses, and a sealed session takes no reply");
		return;
	}
	flow->destination->reasons[REASON_SEALED]++;
	flow->version_index = (uint8_t)stats_version_index(tls->version);
	flow->cipher = tls->cipher;
	session_set_deadline(worker, session, TCP_NEVER);
	flow->session = NULL;
	session_free(worker, session);
	flow_enter_state(worker->flows, flow, FLOW_SEALED, worker->now_us);
}

/* ---- deciding ---- */

/* Has everything that was approved of the server left for the client, and nothing of it waits? */
static bool quiet(const struct worker *worker, const struct session *session)
{
	const struct flow *flow = session->flow;
	uint32_t approved = flow->side[SERVER].isn + 1 + (uint32_t)session->smtp->approved[SERVER] + flow->side[SERVER].fin_sent;
	uint32_t sent = flow->side[CLIENT].isn + 1 + (uint32_t)session->smtp->approved[CLIENT] + flow->side[CLIENT].fin_sent;
	(void)worker;
	return session->smtp->outstanding == 0 && !flow_has_held(flow, SERVER) && flow->side[SERVER].next == approved &&
	       flow->side[CLIENT].next == sent;
}

uint32_t worker_capabilities(const struct smtp_dialogue *smtp)
{
	uint32_t offered = smtp->hello_done && !smtp->ehlo ? TAKEOVER_CAP_UNKNOWN : smtp->capabilities;
	return offered | (smtp->starttls_refused ? TAKEOVER_CAP_REFUSED : 0);
}

static void decide(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	if (!quiet(worker, session))
		return; /* due stays; the next packet asks again */
	session->due = DUE_NOTHING;

	struct policy_parties parties = worker_parties(flow);
	struct takeover_choice choice = takeover_choose(worker->image, &parties, worker_capabilities(session->smtp), worker->memory, worker->now_us);
	if (choice.action == TAKEOVER_CHOOSE_UPGRADE) {
		switch (worker_admits(worker, session)) {
		case ADMIT_NOW:
			break;
		case ADMIT_LATER:
			session->due = DUE_DECIDE;
			return;
		case ADMIT_NEVER:
			session_not_adopted(worker, session, STAT_handshakes_refused);
			return;
		}
	}
	session_would(worker, session, choice.rule, choice.decision);
	session->stripped = choice.stripped;
	if (choice.stripped)
		stats_inc(worker->stats, STAT_stripped);
	switch (choice.action) {
	case TAKEOVER_CHOOSE_PASS:
		session->end = END_CLEAR;
		session->reason = choice.decision.reason;
		flow->destination->reasons[choice.decision.reason]++;
		if (choice.remembered)
			stats_inc(worker->stats, STAT_tls_memory_hits);
		session_let_go(worker, session);
		return;
	case TAKEOVER_CHOOSE_UPGRADE:
	case TAKEOVER_CHOOSE_REFUSE:
	case TAKEOVER_CHOOSE_RELAY: /* it asks again, and carries it out */
		session_adopt(worker, session);
		return;
	}
}

bool worker_clear_allowed(const struct worker *worker, const struct flow *flow)
{
	const struct image_header *header = policy_image_header(worker->image);
	struct policy_parties parties = worker_parties(flow);
	/* Clear text is no TLS, whatever was offered. */
	struct policy_facts facts = {.stripped = takeover_had_tls(worker->image, &parties)};
	if (policy_effect(decide_by(worker, flow, &facts).decision) != POLICY_ALLOW)
		return false;
	return worker_rules(worker, flow).rule->level == LEVEL_NONE ||
	       !(flow_inbound(flow) ? header->enforced_inbound_rules : header->enforced_domain_rules);
}

static bool nonsmtp_passes(const struct image_rule *rule)
{
	return rule->nonsmtp == PASS_PASS || rule->mode == MODE_OBSERVE;
}

/* What cannot be followed passes unseen only where clear text may. Elsewhere a dialogue that has had its greeting is
 * SMTP, however odd; before it, TLS must be TLS, and the rest passes as long as no line of it speaks SMTP: no peer
 * is to get a session past the rule by being odd. */
static void nonsmtp(struct worker *worker, struct session *session)
{
	struct policy_rules rules = worker_rules(worker, session->flow);
	bool pass = nonsmtp_passes(rules.rule) && (!rules.minimum || nonsmtp_passes(rules.minimum));

	if (pass && worker_clear_allowed(worker, session->flow)) {
		pass_unseen(worker, session);
		return;
	}
	if (!pass || session->smtp->greeting_code) {
		session_cut(worker, session, session->reason, session->detail);
		return;
	}
	session->due = DUE_NOTHING;
	if (session->opening == TLS_RECORD_HANDSHAKE)
		session_watch_tls(worker, session);
	else
		session_doubt(session);
	flow_follow_held(worker->flows, session->flow);
	if (worker->due)
		session_act(worker, worker->due);
}

void session_act(struct worker *worker, struct session *session)
{
	worker->due = NULL;
	switch (session->due) {
	case DUE_NOTHING:
		break;
	case DUE_DECIDE:
		decide(worker, session);
		return;
	case DUE_BLOCK:
		if (quiet(worker, session))
			session_adopt(worker, session);
		return;
	case DUE_SEAL:
		seal(worker, session);
		return;
	case DUE_CUT:
		session_cut(worker, session, session->reason, session->detail);
		return;
	case DUE_PASS:
		nonsmtp(worker, session);
		return;
	}
}

/* A command line does not go on: its sender may be waiting for an ACK (Nagle) that only an endpoint gives. */
void session_stalled(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	if (flow->state != FLOW_DIALOGUE || !flow_has_held(flow, CLIENT))
		return;
	if (!smtp_dialogue_partial(session->smtp))
		return;
	/* Before anything is decided the client may still want to encrypt by itself: adopt only what leaves no other way. */
	if (!session->blocked && smtp_dialogue_pass_partial(session->smtp)) {
		flow_follow_held(worker->flows, flow);
		if (worker->due)
			session_act(worker, worker->due);
		return;
	}
	if (!quiet(worker, session)) {
		session_set_deadline(worker, session, worker->now_us + worker->config.stall_us);
		return;
	}
	session_adopt(worker, session);
}
