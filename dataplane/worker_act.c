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

void worker_reset_both(struct worker *worker, const struct flow *flow, struct packet_template template[SIDES])
{
	for (int s = 0; s < SIDES; s++) {
		enum side to = side_other(s);
		struct packet_tcp tcp = {
			.seq = flow->side[s].next,
			.ack = flow->side[to].next,
			.flags = PACKET_RST | PACKET_ACK,
			.ts = flow->ts_ok,
			.tsval = flow->side[s].tsval + 1,
			.tsecr = flow->side[to].tsval,
		};
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(worker->config.pool[flow_port(flow, to)]);
		if (!mbuf) {
			stats_inc(worker->stats, STAT_drop_no_mbuf);
			continue;
		}
		size_t len = packet_build(&template[s], &tcp, 0, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_tailroom(mbuf));
		mbuf->data_len = (uint16_t)len;
		mbuf->pkt_len = (uint32_t)len;
		worker_tx(worker, flow_port(flow, to), mbuf);
	}
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

void session_cut(struct worker *worker, struct session *session, enum policy_reason reason, const char *detail)
{
	struct flow *flow = session->flow;
	struct packet_template template[SIDES];
	session_set_deadline(worker, session, TCP_NEVER);
	session->end = END_CUT;
	session->reason = reason;
	if (detail != session->detail)
		strlcpy(session->detail, detail, sizeof(session->detail));
	flow->destination->reasons[reason]++;
	if (worker_templates(flow, template))
		worker_reset_both(worker, flow, template);
	flow_enter_state(worker->flows, flow, FLOW_CUT, worker->now_us); /* frees the session */
}

static void seal(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	const struct tls_watch *tls = session->tls;
	const struct image_rule *rule = worker_rule(worker, flow);
	struct policy_facts facts = {.end_to_end = true, .offered = true, .dialogue_end = true, .tls = FACT_TLS_UP, .version = tls->version};
	struct policy_decision decision = policy_decide(rule, &facts, flow->hash);

	session_would(worker, session, rule, decision);
	if (policy_effect(decision) != POLICY_ALLOW) {
		session_cut(worker, session, decision.reason, "policy refuses, and a sealed session takes no reply");
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
	return smtp->hello_done && !smtp->ehlo ? TAKEOVER_CAP_UNKNOWN : smtp->capabilities;
}

static void decide(struct worker *worker, struct session *session)
{
	struct flow *flow = session->flow;
	if (!quiet(worker, session))
		return; /* due stays; the next packet asks again */
	session->due = DUE_NOTHING;

	const struct image_rule *rule = worker_rule(worker, flow);
	struct takeover_choice choice = takeover_choose(worker->image, flow->key.server, flow_inbound(flow),
	                                                worker_capabilities(session->smtp), flow->hash, worker->memory, worker->now_us);
	session_would(worker, session, rule, choice.decision);
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
		session_adopt(worker, session, TAKEOVER_UPGRADE);
		return;
	case TAKEOVER_CHOOSE_REFUSE:
		session_adopt(worker, session, TAKEOVER_REFUSE);
		return;
	case TAKEOVER_CHOOSE_RELAY:
		session_adopt(worker, session, TAKEOVER_RELAY);
		return;
	}
}

bool worker_clear_allowed(const struct worker *worker, const struct flow *flow)
{
	const struct image_rule *rule = worker_rule(worker, flow);
	struct policy_facts facts = {.dialogue_end = true};
	if (policy_effect(policy_decide(rule, &facts, flow->hash)) != POLICY_ALLOW)
		return false;
	return flow_inbound(flow) || rule->level == LEVEL_NONE || !policy_image_header(worker->image)->enforced_domain_rules;
}

/* What cannot be followed passes unseen only where clear text may. Elsewhere a dialogue that has had its greeting is
 * SMTP, however odd; before it, TLS must be TLS, and the rest passes as long as no line of it speaks SMTP: no peer
 * is to get a session past the rule by being odd. */
static void nonsmtp(struct worker *worker, struct session *session)
{
	const struct image_rule *rule = worker_rule(worker, session->flow);
	bool pass = rule->nonsmtp == PASS_PASS || rule->mode == MODE_OBSERVE;

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
			session_adopt(worker, session, TAKEOVER_STALLED);
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
	if (!quiet(worker, session)) {
		session_set_deadline(worker, session, worker->now_us + worker->config.stall_us);
		return;
	}
	session_adopt(worker, session, TAKEOVER_STALLED);
}
