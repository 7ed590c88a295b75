/*
 * judge.c - what must be true of the mail, of the outcome, and of a session that is over.
 *
 * Never lost behind a 2xx that the client saw, never twice, never altered, not in clear against the policy; and a
 * well-behaved session has exactly one right outcome.
 */
#include <string.h>

#include "../../../dataplane/stats/stats.h"
#include "sim.h"

void judge_event(void *context, const struct stats_event *event)
{
	(void)context;
	unsigned index = event->client_port - 40000u;
	require(NULL, index < sim.sessions, "an event of no session: port %u", event->client_port);
	struct session *session = &sim.session[index];
	totals.ends[event->end]++;
	if (session->closed_seen)
		return; /* a straggler has opened a second flow, joined in the middle */
	session->closed_seen = true;
	session->end = event->end;
	session->reason = event->reason;
	memcpy(session->detail, event->detail, sizeof(session->detail));
	session->detail[sizeof(session->detail) - 1] = 0;
	trace_note(session, "event: %s, %s", stats_end_name((enum stats_end)event->end), session->detail);
}

void judge_delivered(struct session *session, bool in_clear)
{
	const struct server *s = &session->server;
	struct message *m = &session->message[s->mail];
	const struct buffer *got = &s->content;
	size_t same = 0;
	while (same < got->len && same < m->content.len && got->bytes[same] == m->content.bytes[same])
		same++;
	require(session, got->len == m->content.len && same == got->len,
	        "message %d is altered: %zu of %zu bytes, the same up to %zu", s->mail, got->len, m->content.len, same);
	require(session, !m->delivered, "message %d is delivered twice", s->mail);
	m->delivered++;
	m->in_clear = in_clear;
	memcpy(m->taken, s->accepted, sizeof(m->taken));
	trace_note(session, "message %d is in the mailbox", s->mail);
	totals.delivered++;
	*(in_clear ? &totals.clear_mails : session->client.channel.tls_up ? &totals.sealed_mails : &totals.upgraded_mails) += 1;
}

static void judge_message(struct session *session, int at)
{
	const struct message *m = &session->message[at];
	switch (m->fate) {
	case FATE_ACCEPTED:
		require(session, m->delivered == 1, "message %d is lost: the client saw 2xx", at);
		for (int i = 0; i < m->recipients; i++)
			require(session, m->accepted[i] == m->taken[i],
			        "message %d, recipient %d: the client saw %s, the server says %s", at, i,
			        m->accepted[i] ? "2xx" : "a refusal", m->taken[i] ? "taken" : "not");
		break;
	case FATE_REFUSED:
	case FATE_UNSENT:
		require(session, !m->delivered, "message %d is delivered though the client %s", at,
		        m->fate == FATE_UNSENT ? "had not sent it" : "saw a refusal");
		break;
	case FATE_SENT:
		break; /* the client does not know either */
	}
}

/* ---- what must become of a well-behaved session ---- */

enum must { MUST_NOTHING, MUST_DELIVER, MUST_DELIVER_IN_CLEAR, MUST_DELIVER_IN_TLS, MUST_REFUSE };

static bool floor_met(const struct rule_drawn *rule, int version)
{
	return strcmp(rule->floor, ">=TLSv1.3") || version >= TLS1_3_VERSION;
}

static enum must of_sealed(const struct session *session, const struct rule_drawn *rule)
{
	int version = session->client.tls_max < session->server.tls_max ? session->client.tls_max : session->server.tls_max;
	if (session->server.tls_way != TLS_WAY_GOOD)
		return MUST_NOTHING;
	if (!strcmp(rule->level, "may") || !strcmp(rule->level, "none"))
		return MUST_DELIVER_IN_TLS;
	return floor_met(rule, version) ? MUST_DELIVER_IN_TLS : MUST_NOTHING;
}

static enum must outcome(const struct session *session)
{
	const struct rule_drawn *rule = policy_of(session);
	const struct server *server = &session->server;
	bool force = rule->enforced && sim.flow_hash % 100 < rule->percent;
	bool offered = server->tls_way != TLS_WAY_NONE && !server->refuses_ehlo;

	if (!session->well_behaved || sim.short_of_room || sim.stopped || sim.policy.has_domain_rule)
		return MUST_NOTHING;
	if (force && !strcmp(rule->level, "block"))
		return MUST_REFUSE;
	if (session->client.starttls && offered && server->tls_way != TLS_WAY_454)
		return force ? of_sealed(session, rule) : server->tls_way == TLS_WAY_GOOD ? MUST_DELIVER_IN_TLS : MUST_NOTHING;
	if (!force || !strcmp(rule->level, "none"))
		return MUST_DELIVER_IN_CLEAR;
	if (session->inbound)
		return strcmp(rule->level, "may") ? MUST_REFUSE : MUST_DELIVER_IN_CLEAR;
	bool may = !strcmp(rule->level, "may");
	if (!offered || server->tls_way == TLS_WAY_454)
		return may ? MUST_DELIVER_IN_CLEAR : MUST_REFUSE;
	if (sim.sessions > 1 && may)
		return MUST_NOTHING; /* an earlier one's failure may be remembered */
	if (server->tls_way != TLS_WAY_GOOD || !floor_met(rule, server->tls_max))
		return MUST_REFUSE;
	if (server->hides_in_tls && session->client.says_helo == 0 && (server->pipelining || server->chunking))
		return MUST_REFUSE;
	if (!strcmp(rule->level, "verify") && server->certificate != CERT_GOOD)
		return MUST_REFUSE;
	return MUST_DELIVER_IN_TLS;
}

static void judge_outcome(struct session *session)
{
	enum must must = outcome(session);
	if (must == MUST_NOTHING)
		return;
	totals.well_behaved++;
	for (int i = 0; i < session->messages; i++) {
		const struct message *m = &session->message[i];
		if (must == MUST_REFUSE) {
			require(session, !m->delivered, "message %d is delivered against the policy", i);
			continue;
		}
		require(session, m->fate == FATE_ACCEPTED,
		        "message %d of a well-behaved session is not delivered (fate %d)", i, (int)m->fate);
		require(session, must != MUST_DELIVER_IN_TLS || !m->in_clear, "message %d is delivered in clear", i);
		require(session, must != MUST_DELIVER_IN_CLEAR || m->in_clear,
		        "message %d is delivered in TLS, where there was none to be had", i);
	}
	if (must == MUST_REFUSE)
		require(session, session->client.policy_refusals > 0, "the policy refuses, and the client was never told why");
}

/* A refusal by policy has the class that the rule asks for; what is waxseal's own lack, and what another session
 * can mend, is always a 4xx. */
static void judge_refusal(struct session *session)
{
	const char *text = session->client.refusal;
	const struct rule_drawn *rule = policy_of(session);
	if (session->inbound && strstr(text, "Must issue a STARTTLS")) {
		require(session, !strncmp(text, "530 5.7.0 ", 10), "a refusal of inbound mail: %s", text);
		return;
	}
	if (!strstr(text, " policy ") || sim.policy.has_domain_rule)
		return;
	bool deferred = !rule->reject || strstr(text, "is not encrypted") || (!strcmp(rule->level, "may") &&
	        strstr(text, "handshake failed"));
	require(session, !strncmp(text, deferred ? "451 4.7." : "554 5.7.", 8), "a refusal of the wrong class: %s", text);
	char level[40];
	snprintf(level, sizeof(level), " policy %s ", rule->level);
	require(session, strstr(text, level), "a refusal that names another level: %s", text);
}

/* A session that was never taken over: each side got what the other one sent, byte for byte. */
static void judge_streams(struct session *session)
{
	for (int s = 0; s < SIDES; s++) {
		const struct stack *to = &session->stack[s], *from = &session->stack[side_other(s)];
		uint32_t len = session->turned_away && to->next > from->out.len ? (uint32_t)from->out.len : to->next;
		for (uint32_t i = 0; i < len; i++)
			require(session, i < from->out.len && to->in.bytes[i] == from->out.bytes[i],
			        "byte %u towards the %s is another one (of %zu)", i, s == CLIENT ? "client" : "server",
			        from->out.len);
	}
}

void judge_session(struct session *session)
{
	if (!session->taken)
		judge_streams(session);
	for (int i = 0; i < session->messages; i++) {
		totals.messages++;
		judge_message(session, i);
	}
	judge_refusal(session);
	judge_outcome(session);
	if (session->started && session->stack[CLIENT].synced && !sim.stopped)
		require(session, session->closed_seen, "no event was written");
}
