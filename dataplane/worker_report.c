/*
 * worker_report.c - what is counted of a session, and the event in which it ends.
 *
 * Enters: decisions, envelope events of followed sessions, the outcome of a takeover. Leaves: the
 * destination's counters, and one struct stats_event a session. No content of a message, no local part
 * of an address: domains only.
 */
#include "worker_private.h"

#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

void session_free(struct worker *worker, struct session *session)
{
	session_set_deadline(worker, session, TCP_NEVER);
	if (worker->due == session)
		worker->due = NULL;
	session_leaves(worker, session);
	if (session->takeover) {
		session_fed(worker, session, false);
		takeover_free(session->takeover);
		worker->takeovers--;
	}
	smtp_dialogue_free(session->smtp);
	tls_watch_free(session->tls);
	free(session);
}

/* Notes the rule that was asked, and in observe mode what it would have done. */
void session_would(struct worker *worker, struct session *session, const struct image_rule *rule, struct policy_decision decision)
{
	char title[POLICY_TITLE_MAX];

	strlcpy(session->rule, policy_rule_title(worker->image, rule, title), sizeof(session->rule));
	if (!decision.observed)
		return;
	session->flow->destination->would[decision.action]++;
	if (decision.action != POLICY_ALLOW)
		session->flow->destination->reasons[decision.reason]++;
}

/* The answer to a STARTTLS of the client's own, in a session that stays in clear. */
static enum policy_tls told_client(const struct smtp_dialogue *smtp)
{
	return smtp->starttls_refused ? FACT_TLS_REFUSED : FACT_TLS_NONE;
}

/* What a rule would have done with a recipient of a session in clear; RCPT_CLEAR: nothing. */
static uint8_t would_do(struct worker *worker, struct session *session, const struct image_rule *rule, const char *domain)
{
	struct flow *flow = session->flow;
	struct policy_facts facts = {.offered = session->smtp->capabilities & SMTP_CAP_STARTTLS, .stripped = session->stripped};
	struct stats_destination *named = stats_destination(worker->stats, policy_string(worker->image, rule->name));
	struct policy_decision decision;
	uint8_t fate = RCPT_CLEAR;

	if (!flow_inbound(flow)) {
		struct policy_server server = policy_server_of(worker->image, flow->key.server, domain);
		facts.tls = told_client(session->smtp);
		policy_facts_of_server(worker->image, rule, &server, &facts);
	}
	decision = policy_decide(rule, &facts, flow->hash);
	if (decision.action != POLICY_ALLOW) {
		fate = decision.action == POLICY_DEFER ? RCPT_WOULD_DEFER : RCPT_WOULD_REJECT;
		named->recipients[fate]++;
		named->reasons[decision.reason]++;
	}
	if (named != flow->destination)
		named->recipients[RCPT_CLEAR]++;
	return fate;
}

/* The rule of its domain, and beside it MTA-STS that is in testing, or could not be had. */
static uint8_t recipient_fate(struct worker *worker, struct session *session, const char *domain)
{
	struct policy_parties parties = worker_parties(session->flow);
	const struct policy_image *image = worker->image;
	const struct image_rule *rule = policy_recipient_rule(image, &parties, domain);
	const struct image_sts *sts = parties.inbound ? NULL : policy_sts_of(image, domain);
	const struct image_rule *testing = sts ? policy_testing_rule(image, rule, domain) : NULL;
	uint8_t fate = rule ? would_do(worker, session, rule, domain) : RCPT_CLEAR;

	if (sts && sts->error)
		stats_destination(worker->stats, policy_string(image, sts->domain))->reasons[policy_sts_reason((enum policy_sts_error)sts->error)]++;
	if (!testing)
		return fate;
	uint8_t tested = would_do(worker, session, testing, domain);
	return fate == RCPT_CLEAR ? tested : fate;
}

static void recipient(struct worker *worker, struct session *session, const char *domain)
{
	uint8_t fate = recipient_fate(worker, session, domain);

	session->flow->destination->recipients[RCPT_CLEAR]++;
	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX && i <= session->recipients; i++) {
		if (i == session->recipients || !session->rcpt[i].domain[0]) {
			strlcpy(session->rcpt[i].domain, domain, sizeof(session->rcpt[i].domain));
			session->rcpt[i].fate = fate;
			break;
		}
		if (!strcmp(session->rcpt[i].domain, domain) && session->rcpt[i].fate == fate)
			break;
	}
	session->recipients++;
}

void session_observed(struct worker *worker, struct session *session, enum smtp_event event)
{
	switch (event) {
	case SMTP_EVENT_RCPT:
		recipient(worker, session, session->smtp->rcpt_domain);
		return;
	case SMTP_EVENT_MESSAGE:
		session->messages++;
		session->flow->destination->messages++;
		session->end = END_CLEAR;
		return;
	case SMTP_EVENT_MAIL:
		session->end = END_CLEAR;
		return;
	case SMTP_EVENT_LOST:
		session->flow->observed = false;
		return;
	case SMTP_EVENT_NONE:
	case SMTP_EVENT_DECIDE:
	case SMTP_EVENT_TLS:
	case SMTP_EVENT_INJECTION:
	case SMTP_EVENT_NONSMTP:
	case SMTP_EVENT_ODD:
	case SMTP_EVENT_LIMIT:
		return;
	}
}

/* ---- the end ---- */

static void from_takeover(struct session *session, struct stats_event *event)
{
	struct takeover_outcome outcome;
	takeover_outcome(session->takeover, &outcome);
	event->end = (uint8_t)outcome.end;
	event->reason = (uint8_t)outcome.reason;
	event->tls_version_index = (uint8_t)stats_version_index(outcome.tls_version);
	event->messages = outcome.messages;
	event->recipients = outcome.recipients;
	strlcpy(event->rule, outcome.rule, sizeof(event->rule));
	strlcpy(event->cipher, outcome.cipher, sizeof(event->cipher));
	strlcpy(event->detail, outcome.detail, sizeof(event->detail));
	strlcpy(event->server_name, session->server_name, sizeof(event->server_name));
	event->facts = outcome.facts;
	event->stripped = outcome.stripped;
	memcpy(event->bytes, outcome.bytes, sizeof(event->bytes));
	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX; i++) {
		strlcpy(event->rcpt[i].domain, outcome.rcpt[i].domain, sizeof(event->rcpt[i].domain));
		event->rcpt[i].fate = outcome.rcpt[i].fate;
	}
}

/* Of a session whose dialogue was followed, and not taken over. */
static void watch_facts(const struct session *session, struct stats_facts *facts)
{
	if (session->tls && session->tls->version) { /* cut for what the endpoints had agreed on */
		*facts = (struct stats_facts){.known = true, .offered = true, .end_to_end = true, .tls = FACT_TLS_UP,
		                              .version = session->tls->version};
	} else if (session->smtp && session->smtp->hello_done && session->smtp->ehlo) {
		facts->known = true;
		facts->offered = session->smtp->capabilities & SMTP_CAP_STARTTLS;
		facts->tls = told_client(session->smtp);
	}
}

static void from_watch(const struct session *session, struct stats_event *event)
{
	watch_facts(session, &event->facts);
	event->stripped = session->stripped;
	event->end = (uint8_t)session->end;
	event->reason = (uint8_t)session->reason;
	event->messages = session->messages;
	event->recipients = session->recipients;
	strlcpy(event->rule, session->rule, sizeof(event->rule));
	strlcpy(event->detail, session->detail, sizeof(event->detail));
	if (session->smtp)
		strlcpy(event->server_name, session->smtp->server_name, sizeof(event->server_name));
	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX; i++) {
		strlcpy(event->rcpt[i].domain, session->rcpt[i].domain, sizeof(event->rcpt[i].domain));
		event->rcpt[i].fate = session->rcpt[i].fate;
	}
}

/* Once a flow. */
static void report(struct worker *worker, struct flow *flow)
{
	struct session *session = flow->session;
	struct stats_event event = {
		.at_us = worker->config.unix_time_us(worker->config.context),
		.duration_us = worker->now_us - flow->opened_us,
		.flow_id = flow->id,
		.client_port = flow->key.client_port,
		.flow_hash = flow->hash,
		.direction = flow_inbound(flow) ? INBOUND : OUTBOUND,
		.end = flow->joined ? END_UNKNOWN : END_NOTHING,
		.tls_version_index = STATS_VERSIONS,
		.bytes = {flow->bytes[CLIENT], flow->bytes[SERVER]},
	};
	memcpy(event.client, flow->key.client, 16);
	memcpy(event.server, flow->key.server, 16);
	strlcpy(event.destination, flow->destination->name, sizeof(event.destination));

	if (session && session->takeover) {
		from_takeover(session, &event);
	} else if (session) {
		from_watch(session, &event);
	} else if (flow->state == FLOW_CUT) {
		event.end = END_CUT;
	} else if (flow->cipher) {
		event.end = END_SEALED;
		event.reason = REASON_SEALED;
		event.facts = (struct stats_facts){.known = true, .offered = true, .end_to_end = true, .tls = FACT_TLS_UP,
		                                   .version = stats_version_wire(flow->version_index)};
		event.tls_version_index = flow->version_index;
	}
	if (event.end == END_SEALED) {
		flow->destination->versions[flow->version_index]++;
	}
	flow->destination->sessions[event.direction][event.end]++;
	flow->destination->bytes += flow->bytes[CLIENT] + flow->bytes[SERVER];
	worker->config.event(worker->config.context, &event);
}

/* flow_ops.closed */
void worker_closed(void *context, struct flow *flow)
{
	struct worker *worker = context;
	struct session *session = flow->session;

	report(worker, flow);
	if (session)
		session_free(worker, session);
	flow->session = NULL;
}

/* ---- telemetry ---- */

void worker_load(const struct worker *worker, struct stats_worker *out)
{
	out->flows = flow_count(worker->flows);
	out->flows_max = worker->config.flows.flows_max;
	out->takeovers = worker->takeovers;
	out->takeovers_max = worker->config.takeovers_max;
	out->buffers = tcp_pool_used(worker->pool);
	out->buffers_max = worker->config.chunks_max;
}

unsigned worker_flows(const struct worker *worker, uint32_t *place, struct stats_flow *out, unsigned max, uint64_t now_us)
{
	uint32_t places = flow_places(worker->flows), end = *place < places && places - *place > WORKER_PLACES_MAX ? *place + WORKER_PLACES_MAX : places;
	unsigned n = 0;
	for (; *place < end && n < max; (*place)++) {
		const struct flow *flow = flow_at(worker->flows, *place);
		if (!flow)
			continue;
		const struct session *session = flow_session(flow);
		struct stats_flow *row = &out[n++];
		*row = (struct stats_flow){
			.next = (uint64_t)*place + 1,
			.id = flow->id,
			.age_s = (now_us - flow->opened_us) / 1000000,
			.client_port = flow->key.client_port,
			.server_port = flow->key.server_port,
		};
		flow_bytes(worker->flows, flow, row->bytes);
		memcpy(row->client, flow->key.client, 16);
		memcpy(row->server, flow->key.server, 16);
		strlcpy(row->state, flow_state_name(flow->state), sizeof(row->state));
		strlcpy(row->destination, flow->destination->name, sizeof(row->destination));
		if (session && session->takeover)
			strlcpy(row->phase, takeover_phase(session->takeover), sizeof(row->phase));
		else if (session && session->smtp)
			strlcpy(row->phase, smtp_state_name(session->smtp->state), sizeof(row->phase));
		if (session)
			strlcpy(row->rule, session->rule, sizeof(row->rule));
	}
	if (*place >= places)
		*place = WORKER_PLACES_END;
	return n;
}
