/*
 * client.c - SMTP clients: EHLO or HELO, PIPELINING or not, DATA or BDAT, STARTTLS or not, and bad manners.
 *
 * Replies are matched with what was asked, in order. What the client comes to know of each message (fate) is what
 * judge.c holds against the server's mailbox.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

#define PATIENCE_US (700 * SECOND)

static void expect(struct client *c, enum expecting what, int message, int recipient)
{
	require(c->channel.stack->session, c->count < 64, "the script expects too much");
	c->queue[(c->first + c->count++) % 64] = (struct expected){(uint8_t)what, (uint8_t)message, (uint8_t)recipient};
}

/* A line, or what is to be sent; behind the rest of a line in which the client stalls. */
static void say(struct session *session, const void *bytes, size_t len)
{
	struct client *c = &session->client;
	if (c->later.len) {
		buffer_add(&c->later, bytes, len);
	} else if (c->stalls && len > 2 && len < 200 && chance(&session->rng, 400)) {
		size_t first = 1 + below(&session->rng, (uint32_t)len - 1);
		channel_write(&c->channel, bytes, first);
		buffer_add(&c->later, (const uint8_t *)bytes + first, len - first);
		c->later_at_us = sim.now_us + below(&session->rng, 3 * SECOND);
	} else {
		channel_write(&c->channel, bytes, len);
	}
}

static void say_line(struct session *session, const char *format, const char *argument)
{
	char line[256];
	snprintf(line, sizeof(line), format, argument);
	if (session->client.lower_case)
		for (char *p = line; *p && *p != ':' && *p != ' '; p++)
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	trace_note(session, "client says %.60s", line);
	say(session, line, strlen(line));
}

static void leave(struct session *session)
{
	struct client *c = &session->client;
	c->over = true;
	channel_close(&c->channel);
}

static void give_up(struct session *session, const char *why)
{
	trace_note(session, "client gives up: %s", why);
	session->client.failed = session->client.over = true;
	stack_abort(&session->stack[CLIENT]);
}

static void finish(struct session *session)
{
	struct client *c = &session->client;
	if (c->quit_sent)
		return;
	c->quit_sent = true;
	switch (c->ending) {
	case LEAVE_QUIT_WAIT:
		say_line(session, "QUIT\r\n", "");
		expect(c, EXPECT_QUIT, 0, 0);
		break;
	case LEAVE_QUIT_FIN:
		say_line(session, "QUIT\r\n", "");
		expect(c, EXPECT_QUIT, 0, 0);
		if (!c->later.len)
			channel_close(&c->channel);
		break;
	case LEAVE_FIN:
		if (!c->count)
			leave(session);
		else
			channel_close(&c->channel); /* half-close: the replies that are due still come */
		break;
	case LEAVE_ABORT:
		if (!c->count)
			give_up(session, "as it meant to");
		else
			c->quit_sent = false; /* when all is answered */
		break;
	case LEAVINGS:
		break;
	}
}

static void say_hello(struct session *session)
{
	struct client *c = &session->client;
	c->server_pipelines = c->server_chunks = c->server_starttls = false;
	c->hello_to_waxseal = session->taken;
	say_line(session, c->says_helo ? "HELO %s\r\n" : "EHLO %s\r\n", "client.sim.example");
	expect(c, EXPECT_HELLO, 0, 0);
}

/* ---- a message ---- */

static void send_content(struct session *session, int at)
{
	struct client *c = &session->client;
	const struct buffer *content = &session->message[at].content;
	size_t begin = 0;
	for (size_t i = 0; i < content->len; i++) {
		bool line_begins = i == 0 || (i >= 2 && content->bytes[i - 1] == '\n' && content->bytes[i - 2] == '\r');
		if (line_begins && content->bytes[i] == '.') { /* RFC 5321, 4.5.2 */
			say(session, content->bytes + begin, i - begin);
			say(session, ".", 1);
			begin = i;
		}
	}
	say(session, content->bytes + begin, content->len - begin);
	say(session, ".\r\n", 3);
	expect(c, EXPECT_CONTENT, at, 0);
	session->message[at].fate = FATE_SENT;
}

static void send_chunk(struct session *session, int at)
{
	struct client *c = &session->client;
	struct message *m = &session->message[at];
	size_t left = m->content.len - c->content_at, len = chance(&session->rng, 500) ? left : below(&session->rng,
	        (uint32_t)left + 1);
	char line[64];
	bool last = len == left;
	snprintf(line, sizeof(line), "BDAT %zu%s\r\n", len, last ? " LAST" : "");
	say(session, line, strlen(line));
	say(session, m->content.bytes + c->content_at, len);
	c->content_at += len;
	expect(c, EXPECT_CHUNK, at, last);
	if (last)
		m->fate = FATE_SENT;
}

static bool by_chunks(const struct client *c) { return c->chunks && c->server_chunks; }
static bool by_groups(const struct client *c) { return c->pipelines && c->server_pipelines; }

static void say_recipient(struct session *session, int at, int recipient)
{
	say_line(session, "RCPT TO:<%s>\r\n", session->message[at].recipient[recipient]);
	expect(&session->client, EXPECT_RCPT, at, recipient);
}

static void next_message(struct session *session)
{
	struct client *c = &session->client;
	if (c->at >= session->messages) {
		finish(session);
		return;
	}
	if (c->chatters && !c->chattered && chance(&session->rng, 500)) {
		static const char *const lines[] = {"NOOP\r\n", "RSET\r\n", "VRFY postmaster\r\n", "HELP\r\n"};
		c->chattered = true;
		if (chance(&session->rng, 250)) { /* RFC 5321, 4.1.4: hello again resets, and asks again what is offered */
			say_hello(session);
			return;
		}
		say_line(session, lines[below(&session->rng, 4)], "");
		expect(c, EXPECT_OTHER, 0, 0);
		if (!by_groups(c))
			return;
	}
	c->chattered = false;
	c->content_at = 0;
	say_line(session, "MAIL FROM:<%s>\r\n", session->message[c->at].sender);
	expect(c, EXPECT_MAIL, c->at, 0);
	if (!by_groups(c))
		return;
	for (int i = 0; i < session->message[c->at].recipients; i++)
		say_recipient(session, c->at, i);
	if (by_chunks(c)) {
		while (session->message[c->at].fate == FATE_UNSENT)
			send_chunk(session, c->at);
	} else {
		say_line(session, "DATA\r\n", "");
		expect(c, EXPECT_DATA, c->at, 0);
	}
}

static bool any_accepted(const struct message *m)
{
	for (int i = 0; i < m->recipients; i++)
		if (m->accepted[i])
			return true;
	return false;
}

/* The message is done with; what was not said of it is not said any more. */
static void message_over(struct session *session, bool reset)
{
	struct client *c = &session->client;
	c->at++;
	if (reset) {
		say_line(session, "RSET\r\n", "");
		expect(c, EXPECT_OTHER, 0, 0);
		if (!by_groups(c))
			return;
	}
	next_message(session);
}

/* ---- replies ---- */

static void hello_replied(struct session *session, int code)
{
	struct client *c = &session->client;
	if (code != 250) {
		if (c->says_helo) {
			leave(session);
			return;
		}
		c->says_helo = true;
		say_hello(session);
		return;
	}
	c->hello_said = true;
	if (c->starttls && !c->channel.ssl && c->server_starttls && !c->tls_asked) {
		c->tls_asked = true;
		say_line(session, "STARTTLS\r\n", "");
		expect(c, EXPECT_STARTTLS, 0, 0);
	} else if (c->starttls && !c->channel.ssl && c->starttls_or_quit) {
		c->at = session->messages;
		finish(session);
	} else {
		next_message(session);
	}
}

static void note_refusal(struct client *c, const char *line)
{
	if (!c->refusal[0])
		snprintf(c->refusal, sizeof(c->refusal), "%s", line);
	if (strstr(line, " policy ") || strstr(line, "Must issue a STARTTLS"))
		c->policy_refusals++;
}

static void envelope_replied(struct session *session, const struct expected *e, int code, const char *line)
{
	struct client *c = &session->client;
	struct message *m = &session->message[e->message];
	bool ok = code / 100 == 2, recipient = e->what == EXPECT_RCPT;
	if (!ok)
		note_refusal(c, line);
	if (!recipient)
		m->mail_ok = ok;
	else
		m->accepted[e->recipient] = ok;
	if (by_groups(c))
		return;
	if (!recipient && !ok) {
		m->fate = FATE_REFUSED;
		message_over(session, false);
	} else if (!recipient || e->recipient + 1 < m->recipients) {
		say_recipient(session, e->message, recipient ? e->recipient + 1 : 0);
	} else if (!any_accepted(m)) {
		m->fate = FATE_REFUSED;
		message_over(session, true);
	} else if (by_chunks(c)) {
		send_chunk(session, e->message);
	} else {
		say_line(session, "DATA\r\n", "");
		expect(c, EXPECT_DATA, e->message, 0);
	}
}

static void data_replied(struct session *session, const struct expected *e, int code, const char *line)
{
	struct client *c = &session->client;
	struct message *m = &session->message[e->message];
	if (code != 354) {
		note_refusal(c, line);
		m->fate = FATE_REFUSED;
		message_over(session, m->mail_ok);
	} else if (!any_accepted(m)) { /* RFC 2920, 3.1: nothing but the dot */
		say(session, ".\r\n", 3);
		expect(c, EXPECT_CONTENT, e->message, 0);
	} else {
		send_content(session, e->message);
		if (c->eager && by_groups(c))
			message_over(session, false);
	}
}

static void content_replied(struct session *session, const struct expected *e, int code)
{
	struct client *c = &session->client;
	struct message *m = &session->message[e->message];
	bool last = e->what == EXPECT_CONTENT || e->recipient;
	if (code / 100 == 2 && last) {
		require(session, m->fate == FATE_SENT || any_accepted(m), "2xx for a message without recipients");
		m->fate = FATE_ACCEPTED;
	} else if (code / 100 != 2) {
		m->fate = FATE_REFUSED;
	}
	if (!last && !by_groups(c)) {
		if (code / 100 == 2) {
			send_chunk(session, e->message);
			return;
		}
		message_over(session, true);
		return;
	}
	/* RFC 3030, section 2: behind a chunk that failed, the transaction is in a state that only RSET makes known. */
	if (last && e->message == c->at)
		message_over(session, e->what == EXPECT_CHUNK && code / 100 != 2);
}

static void reply(struct session *session, const char *line)
{
	struct client *c = &session->client;
	int code = atoi(line);
	trace_note(session, "client reads %.100s", line);
	c->patience_us = sim.now_us + PATIENCE_US;
	if (code == 421 || !c->count) {
		require(session, code == 421 || c->failed, "the client gets a reply that nothing asked for: %s", line);
		c->failed = true;
		if (strstr(line, " policy "))
			c->policy_refusals++;
		leave(session);
		return;
	}
	struct expected e = c->queue[c->first];
	c->first = (c->first + 1) % 64;
	c->count--;
	switch ((enum expecting)e.what) {
	case EXPECT_GREETING:
		if (code == 220)
			say_hello(session);
		else
			leave(session);
		break;
	case EXPECT_HELLO:
		hello_replied(session, code);
		break;
	case EXPECT_STARTTLS:
		if (code == 220 &&
		        c->channel.in.len) { /* CVE-2011-0411: waxseal lets it through only where it is to touch nothing */
			require(session, policy_clear_allowed(session), "plaintext behind 220 reaches the client");
			give_up(session, "plaintext behind 220");
		} else if (code == 220) {
			channel_begin_tls(&c->channel, false, CERT_GOOD, TLS1_2_VERSION, c->tls_max);
		} else if (c->starttls_or_quit) {
			c->at = session->messages;
			finish(session);
		} else {
			next_message(session);
		}
		break;
	case EXPECT_MAIL:
	case EXPECT_RCPT:
		envelope_replied(session, &e, code, line);
		break;
	case EXPECT_DATA:
		data_replied(session, &e, code, line);
		break;
	case EXPECT_CONTENT:
	case EXPECT_CHUNK:
		content_replied(session, &e, code);
		break;
	case EXPECT_OTHER:
		if (!c->count)
			next_message(session);
		break;
	case EXPECT_QUIT:
		leave(session);
		break;
	}
	if (!c->count && !c->over && c->quit_sent && c->ending == LEAVE_FIN)
		c->over = true;
	if (!c->count && !c->over && c->at >= session->messages && !c->quit_sent && !c->channel.ssl)
		finish(session);
}

static void reply_line(struct session *session, const char *line)
{
	struct client *c = &session->client;
	bool digits = strlen(line) >= 3 && strspn(line, "0123456789") == 3 && (!line[3] || line[3] == ' ' || line[3] == '-');
	require(session, digits, "the client gets something that is no reply: \"%.60s\"", line);
	if (c->count && c->queue[c->first].what == EXPECT_HELLO) {
		c->server_pipelines |= !strcasecmp(line + 4, "PIPELINING");
		c->server_chunks |= !strcasecmp(line + 4, "CHUNKING");
		c->server_starttls |= !strcasecmp(line + 4, "STARTTLS");
		require(session, !c->server_starttls || !c->hello_to_waxseal,
		        "waxseal offers STARTTLS in a session that it has taken over");
	}
	if (line[3] != '-')
		reply(session, line);
}

/* ---- its life ---- */

void client_start(struct session *session)
{
	struct client *c = &session->client;
	session->started = true;
	expect(c, EXPECT_GREETING, 0, 0);
	c->patience_us = sim.now_us + PATIENCE_US;
	stack_connect(&session->stack[CLIENT]);
}

static void tls_moves(struct session *session)
{
	struct client *c = &session->client;
	if (c->channel.tls_failed && !c->over) {
		trace_note(session, "client: TLS failed");
		c->failed = true;
		leave(session);
	} else if (c->channel.tls_up && !c->tls_done) {
		trace_note(session, "client: TLS is up");
		c->tls_done = true;
		c->patience_us = sim.now_us + PATIENCE_US;
		say_hello(session);
	}
}

static bool interrupted(struct session *session)
{
	struct client *c = &session->client;
	struct stack *s = &session->stack[CLIENT];
	if (sim.now_us >= c->vanish_at_us) {
		trace_note(session, "client vanishes");
		stack_vanish(s);
		c->over = c->failed = true;
		return true;
	}
	if (!c->over && (sim.now_us >= c->abort_at_us || sim.now_us >= c->patience_us)) {
		give_up(session, sim.now_us >= c->abort_at_us ? "in the middle" : "out of patience");
		return true;
	}
	if (sim.now_us >= c->pause_at_us && sim.now_us < c->pause_at_us + c->pause_us) {
		c->wake_us = c->pause_at_us + c->pause_us;
		return true;
	}
	return false;
}

void client_run(struct session *session)
{
	struct client *c = &session->client;
	struct stack *s = &session->stack[CLIENT];
	const char *line;

	c->wake_us = sim.now_us + 5 * SECOND;
	if (stack_over(s) && !stack_unread(s)) {
		c->over = true;
		c->wake_us = NEVER;
		return;
	}
	if (interrupted(session))
		return;
	if (c->later.len && sim.now_us >= c->later_at_us) {
		channel_write(&c->channel, c->later.bytes, c->later.len);
		c->later.len = 0;
		if (c->quit_sent && c->ending == LEAVE_QUIT_FIN)
			channel_close(&c->channel);
	}
	channel_read(&c->channel, c->reads_max);
	while (!c->over && (line = channel_line(&c->channel))) {
		reply_line(session, line);
		if (c->channel.ssl && !c->tls_done)
			channel_read(&c->channel, 0);
	}
	if (c->channel.ssl)
		tls_moves(session);
	if (c->over)
		c->channel.in.len = 0;
	if (stack_eof(s) && !c->over) {
		trace_note(session, "client: the server has closed");
		c->failed = true;
		leave(session);
	}
	if (s->next > s->read || c->later.len)
		c->wake_us = sim.now_us + 1 + below(&session->rng, c->lazy_us);
	if (c->later.len && c->later_at_us < c->wake_us)
		c->wake_us = c->later_at_us;
	stack_output(s);
}
