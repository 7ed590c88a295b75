/*
 * worker_watch.c - the bytes of watched flows, to smtp/ and tls/.
 *
 * Enters: in-order bytes from flow/. Leaves: how many may pass, and what their events ask for
 * (session->due), which worker_act.c carries out once the packet has been dealt with. In CLEAR the same
 * machine follows the envelope and only counts.
 */
#include "worker_private.h"

#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>
#include <bsd/string.h>

struct policy_parties worker_parties(const struct flow *flow)
{
	return (struct policy_parties){flow->key.client, flow->key.server, flow_inbound(flow), flow->hash};
}

struct policy_rules worker_rules(const struct worker *worker, const struct flow *flow)
{
	struct policy_parties parties = worker_parties(flow);
	return policy_rules_of(worker->image, &parties);
}

/* Mode and percent count: who is taken over does not get to encrypt by itself. */
static bool blocks(const struct image_rule *rule, uint32_t flow_hash)
{
	const struct policy_facts none = {0};
	return rule && rule->level == LEVEL_BLOCK && policy_effect(policy_decide(rule, &none, flow_hash)) != POLICY_ALLOW;
}

static bool asks_nothing(const struct image_rule *rule)
{
	return !rule || rule->level == LEVEL_NONE;
}

static bool observed(const struct image_rule *rule, uint32_t flow_hash)
{
	const struct policy_facts none = {0};
	return !rule || policy_decide(rule, &none, flow_hash).observed;
}

/* Rules that are only observed refuse nobody, for lack of room neither, unless a recipient's may be in force. */
bool worker_overload_passes(const struct worker *worker, const struct flow *flow)
{
	struct policy_rules rules = worker_rules(worker, flow);
	if (rules.rule->overload == PASS_PASS && (!rules.minimum || rules.minimum->overload == PASS_PASS))
		return true;
	return observed(rules.rule, flow->hash) && observed(rules.minimum, flow->hash) && worker_clear_allowed(worker, flow);
}

static const char *destination_name(const struct worker *worker, const struct flow *flow)
{
	const struct policy_image *image = worker->image;
	if (flow_inbound(flow))
		return "inbound";
	return policy_string(image, policy_destination(image, policy_destination_of(image, flow->key.server))->name);
}

static void opened(void *context, struct flow *flow, const struct packet *packet)
{
	struct worker *worker = context;
	(void)packet;
	flow->destination = stats_destination(worker->stats, destination_name(worker, flow));
}

static void established(void *context, struct flow *flow)
{
	struct worker *worker = context;
	struct policy_rules rules = worker_rules(worker, flow);
	struct session *session = calloc(1, sizeof(*session));
	struct smtp_dialogue *smtp = session ? smtp_dialogue_new() : NULL;

	if (!smtp) {
		free(session);
		stats_inc(worker->stats, STAT_takeover_no_memory);
		flow_enter_state(worker->flows, flow, worker_overload_passes(worker, flow) ? FLOW_CLEAR : FLOW_CUT, worker->now_us);
		return;
	}
	session->flow = flow;
	session->smtp = smtp;
	session->deadline_us = TCP_NEVER;
	session->end = END_NOTHING;
	flow->session = session;
	session->blocked = blocks(rules.rule, flow->hash) || blocks(rules.minimum, flow->hash);
	if (asks_nothing(rules.rule) && asks_nothing(rules.minimum))
		session_let_go(worker, session); /* touch nothing: not even order */
}

/* ---- bytes ---- */

static void due(struct worker *worker, struct session *session, enum session_due what, enum stats_end end,
                enum policy_reason reason, const char *detail)
{
	session->due = what;
	session->end = end;
	session->reason = reason;
	strlcpy(session->detail, detail, sizeof(session->detail));
	worker->due = session;
}

/* From here on the bytes must be TLS. */
void session_watch_tls(struct worker *worker, struct session *session)
{
	struct policy_rules rules = worker_rules(worker, session->flow);
	session->tls = tls_watch_new(policy_rules_floor(&rules, session->flow->hash));
	if (!session->tls) {
		due(worker, session, DUE_CUT, END_CUT, REASON_HANDSHAKE, "no memory");
		return;
	}
	for (int s = 0; s < SIDES; s++)
		session->tls_base[s] = session->smtp->approved[s];
	flow_enter_state(worker->flows, session->flow, FLOW_SEALING, worker->now_us);
}

void session_doubt(struct session *session)
{
	session->doubt.on = true;
	for (int s = 0; s < SIDES; s++)
		session->doubt.approved[s] = session->smtp->fed[s];
}

/* Bytes of a session that is no SMTP to see: they pass up to a line of the client's that says hello, or mails. */
static size_t take_doubted(struct worker *worker, struct session *session, enum side side, const uint8_t *bytes, size_t len)
{
	size_t at = 0;
	for (; side == CLIENT && at < len; at++) {
		struct smtp_command command;
		bool line_end = bytes[at] == '\n' || bytes[at] == '\r';
		if (line_end || session->doubt.word_over || (bytes[at] <= ' ' && !session->doubt.word_len)) {
			if (line_end) { /* what stands before the verb of a line may be blank to some server */
				session->doubt.word_over = false;
				session->doubt.word_len = 0;
			}
			continue;
		}
		session->doubt.word[session->doubt.word_len++] = bytes[at];
		session->doubt.word_over = session->doubt.word_len == sizeof(session->doubt.word) || bytes[at] <= ' ';
		smtp_command_parse(session->doubt.word, session->doubt.word_len, &command);
		if (command.verb == SMTP_EHLO || command.verb == SMTP_HELO || command.verb == SMTP_LHLO || command.verb == SMTP_MAIL ||
		    command.verb == SMTP_SEND) {
			due(worker, session, DUE_CUT, END_CUT, REASON_CLEAR_SESSION, "SMTP after all");
			break;
		}
	}
	len = side == CLIENT ? at : len;
	session->doubt.approved[side] += len;
	return len;
}

static void smtp_event(struct worker *worker, struct session *session, enum smtp_event event)
{
	switch (event) {
	case SMTP_EVENT_NONE:
		return;
	case SMTP_EVENT_DECIDE:
		session->due = DUE_DECIDE;
		worker->due = session;
		return;
	case SMTP_EVENT_TLS:
		session_watch_tls(worker, session);
		return;
	case SMTP_EVENT_INJECTION:
		stats_inc(worker->stats, STAT_injections);
		due(worker, session, DUE_CUT, END_CUT, REASON_HANDSHAKE, "plaintext behind STARTTLS");
		return;
	case SMTP_EVENT_NONSMTP:
	case SMTP_EVENT_ODD:
	case SMTP_EVENT_LIMIT:
		stats_inc(worker->stats, STAT_nonsmtp);
		due(worker, session, DUE_PASS, END_UNKNOWN, REASON_CLEAR_SESSION, smtp_event_name(event));
		return;
	case SMTP_EVENT_MAIL:
	case SMTP_EVENT_RCPT:
	case SMTP_EVENT_MESSAGE:
	case SMTP_EVENT_LOST:
		session_observed(worker, session, event);
		return;
	}
}

static void tls_event(struct worker *worker, struct session *session, enum tls_watch_event event)
{
	switch (event) {
	case TLS_WATCH_MORE:
	case TLS_WATCH_ALERT: /* the endpoints end it themselves */
		return;
	case TLS_WATCH_SEALED:
		session->due = DUE_SEAL;
		worker->due = session;
		return;
	case TLS_WATCH_BELOW_FLOOR:
		due(worker, session, DUE_CUT, END_CUT, REASON_VERSION, tls_version_name(session->tls->version));
		return;
	case TLS_WATCH_NOT_TLS:
		stats_inc(worker->stats, STAT_injections);
		due(worker, session, DUE_CUT, END_CUT, REASON_HANDSHAKE, "no TLS after 220");
		return;
	}
}

/* Nothing new: has something become due, or stopped moving? */
static void idle(struct worker *worker, struct session *session)
{
	if (session->tls)
		return;
	if (!smtp_dialogue_partial(session->smtp))
		session_set_deadline(worker, session, TCP_NEVER);
	else if (session->deadline_us == TCP_NEVER)
		session_set_deadline(worker, session, worker->now_us + worker->config.stall_us);
	if (session->blocked && session->due == DUE_NOTHING && session->smtp->state == SMTP_STATE_COMMANDS)
		session->due = DUE_BLOCK; /* refused even where the client would encrypt: before it can */
	if (session->due != DUE_NOTHING)
		worker->due = session;
}

static size_t take(void *context, struct flow *flow, enum side side, const uint8_t *bytes, size_t len)
{
	struct worker *worker = context;
	struct session *session = flow->session;
	enum smtp_event event = SMTP_EVENT_NONE;
	size_t taken = 0, n;

	if (!session || session->due == DUE_CUT || session->due == DUE_PASS || session->due == DUE_SEAL)
		return 0;
	if (session->doubt.on)
		return take_doubted(worker, session, side, bytes, len);
	if (!len)
		idle(worker, session);
	if (session->tls) {
		enum tls_watch_event seen = TLS_WATCH_MORE;
		if (!len)
			return 0;
		taken = tls_watch_input(session->tls, side, bytes, len, &seen);
		tls_event(worker, session, seen);
		return taken;
	}
	do { /* while it is only followed, nothing stops the machine; while it is watched, an event does */
		n = smtp_dialogue_input(session->smtp, side, bytes + taken, len - taken, &event);
		taken += n;
		if (event == SMTP_EVENT_NONSMTP && side == CLIENT && taken < len)
			session->opening = bytes[taken];
		smtp_event(worker, session, event);
	} while (flow->observed && taken < len && (n || event != SMTP_EVENT_NONE));
	return flow->observed ? len : taken;
}

static uint64_t approved(void *context, const struct flow *flow, enum side side)
{
	const struct session *session = flow->session;
	(void)context;
	if (!session)
		return 0;
	if (session->doubt.on)
		return session->doubt.approved[side];
	return session->tls ? session->tls_base[side] + session->tls->approved[side] : session->smtp->approved[side];
}

static void send_frame(void *context, const struct flow *flow, enum side from, struct rte_mbuf *mbuf)
{
	worker_tx(context, flow_port(flow, side_other(from)), mbuf);
}

/* ---- sealed, and passing elsewhere ---- */

static bool offload(void *context, const struct flow *flow, const struct classifier_sealed *begin)
{
	const struct worker *worker = context;
	struct classifier_flow name;
	memcpy(&name, &flow->key, sizeof(name)); /* flow/ asserts that they are alike */
	return worker->config.offload(worker->config.context, &name, begin);
}

static bool offloaded(void *context, const struct flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	const struct worker *worker = context;
	struct classifier_flow name;
	memcpy(&name, &flow->key, sizeof(name));
	return worker->config.offloaded(worker->config.context, &name, take_back, seen, idle_us);
}

/* ---- flows joined in the middle ---- */

static bool joined_passes(const struct worker *worker, const struct image_rule *rule, const struct packet *packet, bool *undecided)
{
	bool in_grace = worker->now_us - worker->started_us < worker->config.unknown_grace_us;
	*undecided = false;
	if (rule->level == LEVEL_NONE || rule->mode == MODE_OBSERVE)
		return true;
	switch ((enum policy_unknown)rule->unknown) {
	case UNKNOWN_PASS:
		return true;
	case UNKNOWN_RESET:
		return false;
	case UNKNOWN_TLS:
		break;
	}
	if (!packet->payload_len) {
		*undecided = true;
		return true;
	}
	switch (tls_guess(packet->frame + packet->payload_off, packet->payload_len)) {
	case TLS_GUESS_YES:
		return true;
	case TLS_GUESS_UNKNOWN:
		return in_grace;
	case TLS_GUESS_CLEAR:
		break;
	}
	return false;
}

static void joined(void *context, struct flow *flow, enum side from, const struct packet *packet)
{
	struct worker *worker = context;
	struct policy_rules rules = worker_rules(worker, flow);
	bool undecided, undecided_too = false;

	flow->destination = stats_destination(worker->stats, destination_name(worker, flow));
	if (joined_passes(worker, rules.rule, packet, &undecided) &&
	    (!rules.minimum || joined_passes(worker, rules.minimum, packet, &undecided_too))) {
		if (!undecided && !undecided_too)
			flow_enter_state(worker->flows, flow, FLOW_SEALED, worker->now_us);
		return;
	}
	struct packet_template template[SIDES];
	packet_template_from(&template[from], packet);
	packet_template_reverse(&template[side_other(from)], &template[from]);
	worker_reset_both(worker, flow, template);
	flow_enter_state(worker->flows, flow, FLOW_CUT, worker->now_us);
}

static bool unseen_passes(const struct image_rule *rule)
{
	return rule->level == LEVEL_NONE || rule->unknown == UNKNOWN_PASS;
}

/* Not where one that is joined in the middle passes by the operator's word; nor where nothing else than that it passes
 * can come of a rule: one that is observed, while no recipient's is in force. */
static bool must_open(void *context, const struct flow *flow)
{
	const struct worker *worker = context;
	struct policy_rules rules = worker_rules(worker, flow);
	const struct image_rule *asked[] = {rules.rule, rules.minimum};

	for (unsigned i = 0; i < 2; i++)
		if (asked[i] && !unseen_passes(asked[i]) && asked[i]->mode == MODE_ENFORCE)
			return true;
	return !unseen_passes(rules.rule) && !worker_clear_allowed(worker, flow);
}

static bool hold(void *context, uint32_t hash)
{
	const struct worker *worker = context;
	return worker->config.hold(worker->config.context, hash);
}

static void release(void *context, uint32_t hash)
{
	const struct worker *worker = context;
	worker->config.release(worker->config.context, hash);
}

const struct flow_ops worker_flow_ops = {
	.take = take,
	.approved = approved,
	.send = send_frame,
	.taken = worker_taken,
	.gone = worker_gone,
	.opened = opened,
	.established = established,
	.joined = joined,
	.must_open = must_open,
	.closed = worker_closed,
	.offload = offload,
	.offloaded = offloaded,
	.hold = hold,
	.release = release,
};
