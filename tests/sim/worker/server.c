/*
 * server.c - SMTP servers: with and without STARTTLS, in many moods; and a mailbox.
 *
 * The server commits a message before it says 2xx, as RFC 5321 wants it: judge_delivered() sees what came, and how.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

#define PATIENCE_US (900 * SECOND)

static void leave(struct session *session)
{
	session->server.closing = true;
}

static void answer(struct session *session, const char *text)
{
	struct server *s = &session->server;
	trace_note(session, "server answers %.60s", text);
	if (!s->later.len && s->late && chance(&session->rng, s->late))
		s->later_at_us = sim.now_us + below(&session->rng, 2 * SECOND);
	if (s->later.len || sim.now_us < s->later_at_us)
		buffer_add(&s->later, text, strlen(text));
	else
		channel_print(&s->channel, text);
}

static void flush(struct session *session)
{
	struct server *s = &session->server;
	channel_write(&s->channel, s->later.bytes, s->later.len);
	s->later.len = 0;
	s->later_at_us = 0;
}

/* A refusal now and then. */
static bool refuses(struct session *session)
{
	if (!session->server.refuse || !chance(&session->rng, session->server.refuse))
		return false;
	answer(session, chance(&session->rng, 500) ? "450 4.2.0 not now\r\n" : chance(&session->rng,
	        500) ? "550-5.1.1 no\r\n550 5.1.1 never\r\n" : "552 5.3.4 no\r\n");
	return true;
}

static void hello(struct session *session, bool extended)
{
	struct server *s = &session->server;
	char text[400];
	bool shown = !s->tls_on || !s->hides_in_tls;
	if (extended && s->refuses_ehlo) {
		answer(session, "502 5.5.1 what?\r\n");
		return;
	}
	s->mail = -1;
	if (!extended) {
		answer(session, "250 mx.sim.example\r\n");
		return;
	}
	snprintf(text, sizeof(text), "250-mx.sim.example\r\n%s%s%s%s250 8BITMIME\r\n", s->pipelining &&
	        shown ? "250-PIPELINING\r\n" : "",
	         s->tls_way != TLS_WAY_NONE && !s->tls_on ? "250-STARTTLS\r\n" : "", s->chunking &&
	        shown ? "250-CHUNKING\r\n" : "",
	        s->many_lines ? "250-SIZE 1000000\r\n250-ENHANCEDSTATUSCODES\r\n250-X-OTHER\r\n" : "");
	answer(session, text);
}

static void starttls(struct session *session)
{
	struct server *s = &session->server;
	if (s->tls_on || s->tls_way == TLS_WAY_NONE) {
		answer(session, "502 5.5.1 no\r\n");
		return;
	}
	if (s->tls_way == TLS_WAY_454) {
		answer(session, "454 4.7.0 no key\r\n");
		return;
	}
	flush(session);
	require(session, !s->channel.in.len, "bytes stand behind STARTTLS");
	trace_note(session, "server says 220 to STARTTLS");
	channel_print(&s->channel, "220 go ahead\r\n");
	s->tls_seen = true;
	switch (s->tls_way) {
	case TLS_WAY_GARBAGE:
		channel_print(&s->channel, "250 and now for something else\r\n");
		s->state = SERVER_DEAF;
		break;
	case TLS_WAY_CLOSE:
		leave(session);
		break;
	case TLS_WAY_STALL:
		s->state = SERVER_DEAF;
		break;
	case TLS_WAY_GOOD:
	case TLS_WAY_NO_CIPHER:
		s->tls_on = true;
		if (s->tls_way == TLS_WAY_GOOD) {
			channel_begin_tls(&s->channel, true, s->certificate, s->tls_min, s->tls_max);
			break;
		}
		channel_begin_tls(&s->channel, true, s->certificate, TLS1_3_VERSION, TLS1_3_VERSION);
		SSL_set_ciphersuites(s->channel.ssl, "TLS_AES_128_CCM_8_SHA256");
		break;
	case TLS_WAY_NONE:
	case TLS_WAY_454:
	case TLS_WAYS:
		break;
	}
}

static void mail(struct session *session, const char *arguments)
{
	struct server *s = &session->server;
	char expected[80];
	s->mail_seen_in_clear |= !s->channel.tls_up;
	require(session, s->channel.tls_up || policy_clear_allowed(session),
	        "MAIL reaches the server in clear, against the policy");
	if (s->mail != -1) {
		answer(session, "503 5.5.1 nested\r\n");
		return;
	}
	if (refuses(session))
		return;
	for (int i = 0; i < session->messages; i++) {
		snprintf(expected, sizeof(expected), "FROM:<%s>", session->message[i].sender);
		if (!strcasecmp(arguments, expected))
			s->mail = i;
	}
	require(session, s->mail >= 0, "a sender that nobody named: \"%s\"", arguments);
	memset(s->accepted, 0, sizeof(s->accepted));
	s->recipients = 0;
	s->content.len = 0;
	s->chunk_bad = false;
	answer(session, "250 2.1.0 sender ok\r\n");
}

static void recipient(struct session *session, const char *arguments)
{
	struct server *s = &session->server;
	char expected[80];
	int found = -1;
	if (s->mail < 0) {
		answer(session, "503 5.5.1 MAIL first\r\n");
		return;
	}
	for (int i = 0; i < session->message[s->mail].recipients; i++) {
		snprintf(expected, sizeof(expected), "TO:<%s>", session->message[s->mail].recipient[i]);
		if (!strcasecmp(arguments, expected))
			found = i;
	}
	require(session, found >= 0, "a recipient that nobody named: \"%s\"", arguments);
	require(session, s->channel.tls_up || policy_recipient_clear_allowed(session,
	        session->message[s->mail].recipient[found]),
	        "a recipient whose domain wants TLS reaches the server in clear");
	if (refuses(session))
		return;
	s->accepted[found] = true;
	s->recipients++;
	answer(session, "250 2.1.5 recipient ok\r\n");
}

static void take_message(struct session *session)
{
	struct server *s = &session->server;
	if (!refuses(session)) {
		judge_delivered(session, !s->channel.tls_up);
		answer(session, "250 2.0.0 taken\r\n");
	}
	s->mail = -1;
	s->state = SERVER_COMMANDS;
}

static void chunk(struct session *session, const char *arguments)
{
	struct server *s = &session->server;
	char *end;
	s->chunk_left = strtoull(arguments, &end, 10);
	s->chunk_last = !strcasecmp(end, " LAST");
	s->chunk_bad = s->mail < 0 || !s->recipients;
	s->state = SERVER_CHUNK;
}

static void command(struct session *session, const char *line)
{
	struct server *s = &session->server;
	trace_note(session, "server reads %.80s", line);
	if (s->close && chance(&session->rng, s->close)) {
		unsigned how = below(&session->rng, 3);
		trace_note(session, "server breaks off, way %u", how);
		if (how == 0)
			answer(session, "421 4.3.2 going down\r\n");
		if (how == 2)
			stack_abort(&session->stack[SERVER]);
		leave(session);
	} else if (!strncasecmp(line, "EHLO ", 5) || !strncasecmp(line, "HELO ", 5)) {
		hello(session, (line[0] | 32) == 'e');
	} else if (!strcasecmp(line, "STARTTLS")) {
		starttls(session);
	} else if (!strncasecmp(line, "MAIL ", 5)) {
		mail(session, line + 5);
	} else if (!strncasecmp(line, "RCPT ", 5)) {
		recipient(session, line + 5);
	} else if (!strcasecmp(line, "DATA")) {
		if (s->mail < 0 || !s->recipients) {
			answer(session, s->mail < 0 ? "503 5.5.1 MAIL first\r\n" : "554 5.5.1 no valid recipients\r\n");
		} else if (!refuses(session)) {
			s->state = SERVER_DATA;
			answer(session, "354 go on\r\n");
		}
	} else if (!strncasecmp(line, "BDAT ", 5)) {
		chunk(session, line + 5);
	} else if (!strcasecmp(line, "RSET")) {
		s->mail = -1;
		answer(session, "250 2.0.0 forgotten\r\n");
	} else if (!strcasecmp(line, "QUIT")) {
		answer(session, "221 2.0.0 bye\r\n");
		leave(session);
	} else {
		bool known = !strcasecmp(line, "NOOP") || !strcasecmp(line, "HELP") || !strncasecmp(line, "VRFY ", 5);
		require(session, known, "a command that nobody gave: \"%.80s\"", line);
		answer(session, "252 2.0.0 as you like\r\n");
	}
}

/* A line of DATA ends in CRLF, and in nothing else. False: there is no whole one. */
static bool data_line(struct session *session)
{
	struct server *s = &session->server;
	struct buffer *in = &s->channel.in;
	const uint8_t *end = in->len ? memmem(in->bytes, in->len, "\r\n", 2) : NULL;
	if (!end)
		return false;
	size_t len = (size_t)(end - in->bytes) + 2;
	if (len == 3 && in->bytes[0] == '.') {
		buffer_cut(in, len);
		take_message(session);
		return true;
	}
	size_t dot = in->bytes[0] == '.';
	buffer_add(&s->content, in->bytes + dot, len - dot);
	buffer_cut(in, len);
	return true;
}

static bool chunk_bytes(struct session *session)
{
	struct server *s = &session->server;
	struct buffer *in = &s->channel.in;
	size_t len = in->len < s->chunk_left ? in->len : (size_t)s->chunk_left;
	buffer_add(&s->content, in->bytes, len);
	if (len)
		buffer_cut(in, len);
	s->chunk_left -= len;
	if (s->chunk_left)
		return false;
	s->state = SERVER_COMMANDS;
	if (s->chunk_bad) {
		answer(session, s->mail < 0 ? "503 5.5.1 MAIL first\r\n" : "554 5.5.1 no valid recipients\r\n");
		if (s->chunk_last)
			s->mail = -1;
	} else if (s->chunk_last) {
		take_message(session);
	} else if (refuses(session)) {
		s->mail = -1; /* RFC 3030: the rest of the transaction fails too */
	} else {
		answer(session, "250 2.0.0 chunk\r\n");
	}
	return true;
}

static bool step(struct session *session)
{
	struct server *s = &session->server;
	const char *line;
	switch (s->state) {
	case SERVER_COMMANDS:
		line = channel_line(&s->channel);
		if (line)
			command(session, line);
		return line != NULL;
	case SERVER_DATA:
		return data_line(session);
	case SERVER_CHUNK:
		return chunk_bytes(session);
	case SERVER_DEAF:
		s->channel.in.len = 0;
		return false;
	}
	return false;
}

static bool interrupted(struct session *session)
{
	struct server *s = &session->server;
	struct stack *stack = &session->stack[SERVER];
	if (sim.now_us >= s->vanish_at_us) {
		trace_note(session, "server vanishes");
		stack_vanish(stack);
		s->over = true;
		return true;
	}
	if (!s->over && (sim.now_us >= s->abort_at_us || sim.now_us >= s->patience_us)) {
		trace_note(session, "server aborts");
		stack_abort(stack);
		s->over = true;
		return true;
	}
	if (sim.now_us >= s->pause_at_us && sim.now_us < s->pause_at_us + s->pause_us) {
		s->wake_us = s->pause_at_us + s->pause_us;
		return true;
	}
	return false;
}

static void greet(struct session *session)
{
	struct server *s = &session->server;
	s->greeted = true;
	s->mail = -1;
	s->patience_us = sim.now_us + PATIENCE_US;
	if (s->greeting == 220) {
		answer(session,
		        s->many_lines ? "220-mx.sim.example ESMTP\r\n220-no spam\r\n220 ready\r\n" : "220 mx.sim.example ESMTP\r\n");
	} else {
		answer(session, s->greeting == 554 ? "554 5.3.2 no service\r\n" : "421 4.3.2 too busy\r\n");
		if (s->greeting == 421)
			leave(session);
	}
}

void server_run(struct session *session)
{
	struct server *s = &session->server;
	struct stack *stack = &session->stack[SERVER];
	s->wake_us = sim.now_us + 5 * SECOND;
	if (stack_over(stack)) {
		s->over = true;
		s->wake_us = NEVER;
		return;
	}
	if (interrupted(session))
		return;
	if (stack->state == STACK_OPEN) {
		if (!s->greeted)
			greet(session);
		uint32_t read = stack->read;
		channel_read(&s->channel, s->reads_max);
		if (stack->read != read)
			s->patience_us = sim.now_us + PATIENCE_US;
		if (s->channel.tls_failed)
			leave(session);
		while (!s->closing && !stack_over(stack) && step(session))
			;
		if (s->later.len && sim.now_us >= s->later_at_us)
			flush(session);
		bool end = stack_eof(stack) || s->channel.tls_closed;
		if ((s->closing || end) && !s->later.len && !s->over) {
			trace_note(session, "server closes");
			s->over = true;
			channel_close(&s->channel);
		}
	}
	if (stack->next > stack->read)
		s->wake_us = sim.now_us + 1 + below(&session->rng, s->lazy_us);
	if (s->later.len && s->later_at_us < s->wake_us)
		s->wake_us = s->later_at_us;
	stack_output(stack);
}
