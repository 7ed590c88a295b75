/*
 * dialogue.c - the machine while it watches: up to which byte each direction may pass.
 *
 * Enters: in-order bytes of both sides. Leaves: approvals and at most one event a call. A client's line
 * passes whole or not at all, so that no server has half of a command when its session is taken over (but
 * for one that stalls, and can no longer become one for which that is done); a server's byte passes as soon
 * as it continues a valid reply, because a server whose half line is withheld may wait for its
 * acknowledgment. Bytes are looked at one by one: the same bytes in other segments give the same events.
 *
 * Refuses: client bytes before the banner, behind a verb that decides, behind STARTTLS; server bytes behind
 * its 220 to STARTTLS; replies nobody asked for, unless they end the session.
 */
#include "private.h"

#include <string.h>

#define EDGE(state) (1u << (state))
static const uint8_t edges[] = {
	[SMTP_STATE_GREETING] = EDGE(SMTP_STATE_COMMANDS) | EDGE(SMTP_STATE_OBSERVE) | EDGE(SMTP_STATE_BROKEN),
	[SMTP_STATE_COMMANDS] = EDGE(SMTP_STATE_STARTTLS) | EDGE(SMTP_STATE_DECIDE) | EDGE(SMTP_STATE_OBSERVE) | EDGE(SMTP_STATE_BROKEN),
	[SMTP_STATE_STARTTLS] = EDGE(SMTP_STATE_COMMANDS) | EDGE(SMTP_STATE_TLS) | EDGE(SMTP_STATE_OBSERVE) | EDGE(SMTP_STATE_BROKEN),
	[SMTP_STATE_TLS] = EDGE(SMTP_STATE_OBSERVE),
	[SMTP_STATE_DECIDE] = EDGE(SMTP_STATE_OBSERVE) | EDGE(SMTP_STATE_BROKEN),
	[SMTP_STATE_OBSERVE] = 0,
	[SMTP_STATE_BROKEN] = EDGE(SMTP_STATE_OBSERVE),
};

static void enter_state(struct smtp_dialogue *dialogue, enum smtp_state state)
{
	BUG_ON(!(edges[dialogue->state] & EDGE(state)));
	dialogue->state = state;
}

static void broken(struct smtp_dialogue *dialogue, enum smtp_event why, enum smtp_event *event)
{
	enter_state(dialogue, SMTP_STATE_BROKEN);
	*event = why;
}

struct smtp_dialogue *smtp_dialogue_new(void)
{
	struct smtp_dialogue *dialogue = calloc(1, sizeof(*dialogue));
	if (!dialogue)
		return NULL;
	dialogue->private = calloc(1, sizeof(*dialogue->private));
	if (!dialogue->private) {
		free(dialogue);
		return NULL;
	}
	dialogue->state = SMTP_STATE_GREETING;
	dialogue->held_verb = SMTP_UNKNOWN;
	return dialogue;
}

void smtp_dialogue_free(struct smtp_dialogue *dialogue)
{
	if (!dialogue)
		return;
	smtp_pipeline_dispose(&dialogue->private->pipeline);
	free(dialogue->private);
	free(dialogue);
}

bool smtp_dialogue_partial(const struct smtp_dialogue *dialogue)
{
	const struct smtp_dialogue_private *private = dialogue->private;
	return dialogue->state == SMTP_STATE_COMMANDS && !private->held && !private->line_passes && private->command.len > 0;
}

bool smtp_dialogue_pass_partial(struct smtp_dialogue *dialogue)
{
	struct smtp_dialogue_private *private = dialogue->private;
	const uint8_t *word = private->command.line + private->verb_at;
	if (!smtp_dialogue_partial(dialogue) || (!private->verb_over && smtp_verb_may_decide(word, (size_t)private->command.len - private->verb_at)))
		return false;
	private->line_passes = true;
	dialogue->approved[CLIENT] = dialogue->fed[CLIENT];
	return true;
}

/* ---- the decision ---- */

static void decide_if_quiet(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	if (dialogue->state != SMTP_STATE_COMMANDS || !dialogue->private->held || dialogue->outstanding)
		return;
	enter_state(dialogue, SMTP_STATE_DECIDE);
	*event = SMTP_EVENT_DECIDE;
}

/* ---- the client ---- */

/* What talks before the server's banner is no SMTP client; two that will wait for ever for an answer are named. */
static bool speaks_another_protocol(const uint8_t *bytes, size_t len)
{
	static const char *const openings[] = {"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT ", "PRI * HTTP", "SSH-"};
	if (bytes[0] < ' ' && bytes[0] != '\r' && bytes[0] != '\n' && bytes[0] != '\t')
		return true; /* 0x16: a TLS record */
	if (bytes[0] >= 0x7f)
		return true;
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++)
		if (len >= strlen(openings[i]) && memcmp(bytes, openings[i], strlen(openings[i])) == 0)
			return true;
	return false;
}

static void command_whole(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	struct smtp_dialogue_private *private = dialogue->private;
	struct smtp_command command;

	smtp_command_parse(private->command.line, private->command.len, &command);
	BUG_ON(smtp_verb_decides(command.verb)); /* verb_seen() has held it */
	if (command.verb == SMTP_UNKNOWN && command.odd) {
		broken(dialogue, SMTP_EVENT_ODD, event);
		return;
	}
	if (++private->commands > SMTP_COMMANDS_BEFORE_MAIL_MAX || !smtp_exchange_said(dialogue, &command, false, "")) {
		broken(dialogue, SMTP_EVENT_LIMIT, event);
		return;
	}
	dialogue->approved[CLIENT] = dialogue->fed[CLIENT];
	smtp_framer_reset(&private->command);
	private->verb_at = 0;
	private->verb_over = private->line_passes = false;
	if (command.verb == SMTP_STARTTLS)
		enter_state(dialogue, SMTP_STATE_STARTTLS);
}

/* The last byte of the line so far: does it complete a verb that decides? */
static void verb_seen(struct smtp_dialogue *dialogue)
{
	struct smtp_dialogue_private *private = dialogue->private;
	const uint8_t *word = private->command.line + private->verb_at;
	size_t len = (size_t)private->command.len - private->verb_at;

	if (private->verb_over)
		return;
	if (smtp_blank(word[len - 1])) {
		if (len == 1)
			private->verb_at++; /* blanks before a verb */
		else
			private->verb_over = true;
		return;
	}
	enum smtp_verb verb = smtp_verb_of(word, len);
	if (smtp_verb_decides(verb)) {
		private->held = true;
		dialogue->held_verb = verb;
	}
	private->verb_over = len >= SMTP_VERB_LEN_MAX;
}

/* One byte of a command line. False: an event, and the byte is not taken. */
static bool client_byte(struct smtp_dialogue *dialogue, uint8_t byte, enum smtp_event *event)
{
	struct smtp_framer *framer = &dialogue->private->command;
	enum smtp_event wrong = SMTP_EVENT_NONE;
	size_t consumed;

	if (byte == 0 || (framer->len && framer->line[framer->len - 1] == '\r' && byte != '\n'))
		wrong = SMTP_EVENT_ODD;
	if (framer->len == 0 && speaks_another_protocol(&byte, 1))
		wrong = SMTP_EVENT_NONSMTP;
	if (wrong != SMTP_EVENT_NONE) {
		broken(dialogue, wrong, event);
		return false;
	}
	enum smtp_framing framing = smtp_framer_input(framer, &byte, 1, &consumed);
	dialogue->fed[CLIENT]++;
	switch (framing) {
	case SMTP_LINE_PARTIAL:
		verb_seen(dialogue);
		if (dialogue->private->line_passes && dialogue->private->held)
			broken(dialogue, SMTP_EVENT_ODD, event); /* it did become a verb that decides, and the server has its beginning */
		else if (dialogue->private->line_passes)
			dialogue->approved[CLIENT] = dialogue->fed[CLIENT];
		break;
	case SMTP_LINE_WHOLE:
		command_whole(dialogue, event);
		break;
	case SMTP_LINE_TOO_LONG:
		broken(dialogue, SMTP_EVENT_ODD, event);
		break;
	}
	return true;
}

static size_t client_input(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	size_t taken = 0;

	while (taken < len && *event == SMTP_EVENT_NONE) {
		if (dialogue->state == SMTP_STATE_GREETING) {
			if (speaks_another_protocol(bytes, len))
				broken(dialogue, SMTP_EVENT_NONSMTP, event);
			break;
		}
		if (dialogue->state == SMTP_STATE_STARTTLS) {
			broken(dialogue, SMTP_EVENT_INJECTION, event);
			break;
		}
		if (dialogue->private->held || !client_byte(dialogue, bytes[taken], event))
			break;
		taken++;
	}
	if (*event == SMTP_EVENT_NONE)
		decide_if_quiet(dialogue, event);
	return taken;
}

/* ---- the server ---- */

/* May the byte stand here in a reply? */
static bool reply_byte_fits(const struct smtp_dialogue *dialogue, uint8_t byte)
{
	const struct smtp_reply *reply = &dialogue->private->reply;
	unsigned at = reply->framer.len;
	const uint16_t weight[3] = {100, 10, 1};

	if (at < 3 && reply->lines)
		return byte == '0' + reply->code / weight[at] % 10;
	if (at == 0) {
		/* 3yz asks for more, and nothing that passes here has more; unasked, a server may only take its leave. */
		bool leave = byte == '4' || byte == '5';
		return reply->kind == SMTP_REPLY_UNSOLICITED ? leave : leave || byte == '2';
	}
	if (at < 3)
		return byte >= '0' && byte <= '9';
	if (at == 3)
		return byte == ' ' || byte == '-' || byte == '\r' || byte == '\n';
	if (at == 4 && reply->framer.line[3] == '\r')
		return byte == '\n';
	return byte != 0;
}

/* With one more byte, is this the end of 220 to STARTTLS? */
static bool ends_starttls(const struct smtp_dialogue *dialogue, uint8_t byte)
{
	const struct smtp_reply *reply = &dialogue->private->reply;
	const struct smtp_pending *front = smtp_pipeline_front(&dialogue->private->pipeline);
	struct smtp_reply_line line;

	if (byte != '\n' || reply->kind != SMTP_REPLY_COMMAND || front->verb != SMTP_STARTTLS)
		return false;
	smtp_reply_line_parse(reply->framer.line, reply->framer.len, &line);
	return line.code == 220 && line.last;
}

static void reply_line_whole(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	struct smtp_answered answered;

	switch (smtp_exchange_reply_line(dialogue, &answered)) {
	case SMTP_ANSWER_MORE:
	case SMTP_ANSWER_UNSOLICITED:
		break;
	case SMTP_ANSWER_GREETING:
		enter_state(dialogue, SMTP_STATE_COMMANDS);
		break;
	case SMTP_ANSWER_COMMAND:
		if (answered.pending.verb != SMTP_STARTTLS)
			break;
		dialogue->starttls_refused = answered.code != 220;
		enter_state(dialogue, dialogue->starttls_refused ? SMTP_STATE_COMMANDS : SMTP_STATE_TLS);
		if (!dialogue->starttls_refused)
			*event = SMTP_EVENT_TLS;
		break;
	case SMTP_ANSWER_BAD:
		broken(dialogue, SMTP_EVENT_NONSMTP, event);
		break;
	case SMTP_ANSWER_LIMIT:
		broken(dialogue, SMTP_EVENT_LIMIT, event);
		break;
	}
	if (*event == SMTP_EVENT_NONE)
		decide_if_quiet(dialogue, event);
}

/* One byte of a reply; `more`: others stand behind it. False: an event, and the byte is not taken. */
static bool server_byte(struct smtp_dialogue *dialogue, uint8_t byte, bool more, enum smtp_event *event)
{
	struct smtp_framer *framer = &dialogue->private->reply.framer;
	size_t consumed;

	smtp_exchange_reply_begins(dialogue);
	if (!reply_byte_fits(dialogue, byte)) {
		broken(dialogue, SMTP_EVENT_NONSMTP, event);
		return false;
	}
	if (more && ends_starttls(dialogue, byte)) {
		broken(dialogue, SMTP_EVENT_INJECTION, event);
		return false;
	}
	enum smtp_framing framing = smtp_framer_input(framer, &byte, 1, &consumed);
	dialogue->approved[SERVER] = ++dialogue->fed[SERVER];
	switch (framing) {
	case SMTP_LINE_PARTIAL:
		break;
	case SMTP_LINE_WHOLE:
		reply_line_whole(dialogue, event);
		break;
	case SMTP_LINE_TOO_LONG:
		broken(dialogue, SMTP_EVENT_LIMIT, event);
		break;
	}
	return true;
}

static size_t server_input(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	size_t taken = 0;
	while (taken < len && *event == SMTP_EVENT_NONE && server_byte(dialogue, bytes[taken], taken + 1 < len, event))
		taken++;
	return taken;
}

/* ---- both ---- */

size_t smtp_dialogue_input(struct smtp_dialogue *dialogue, enum side side, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	*event = SMTP_EVENT_NONE;
	switch (dialogue->state) {
	case SMTP_STATE_GREETING:
	case SMTP_STATE_COMMANDS:
	case SMTP_STATE_STARTTLS:
	case SMTP_STATE_DECIDE:
		return side == CLIENT ? client_input(dialogue, bytes, len, event) : server_input(dialogue, bytes, len, event);
	case SMTP_STATE_OBSERVE:
		return smtp_observe_input(dialogue, side, bytes, len, event);
	case SMTP_STATE_TLS:
	case SMTP_STATE_BROKEN:
		break;
	}
	return 0;
}

void smtp_dialogue_observe(struct smtp_dialogue *dialogue)
{
	bool followable = dialogue->state != SMTP_STATE_TLS && dialogue->state != SMTP_STATE_BROKEN;

	if (dialogue->state == SMTP_STATE_OBSERVE)
		return;
	enter_state(dialogue, SMTP_STATE_OBSERVE);
	for (int s = 0; s < SIDES; s++)
		dialogue->approved[s] = dialogue->fed[s];
	smtp_observe_begin(dialogue, followable);
}

const char *smtp_event_name(enum smtp_event event)
{
	static const char *const names[] = {
		[SMTP_EVENT_NONE] = "none", [SMTP_EVENT_DECIDE] = "decide", [SMTP_EVENT_TLS] = "tls",
		[SMTP_EVENT_INJECTION] = "injection", [SMTP_EVENT_NONSMTP] = "nonsmtp", [SMTP_EVENT_ODD] = "odd",
		[SMTP_EVENT_LIMIT] = "limit", [SMTP_EVENT_MAIL] = "mail", [SMTP_EVENT_RCPT] = "rcpt",
		[SMTP_EVENT_MESSAGE] = "message", [SMTP_EVENT_LOST] = "lost",
	};
	return (unsigned)event < sizeof(names) / sizeof(names[0]) ? names[event] : "?";
}

const char *smtp_state_name(enum smtp_state state)
{
	static const char *const names[] = {
		[SMTP_STATE_GREETING] = "greeting", [SMTP_STATE_COMMANDS] = "commands", [SMTP_STATE_STARTTLS] = "starttls",
		[SMTP_STATE_TLS] = "tls", [SMTP_STATE_DECIDE] = "decide", [SMTP_STATE_OBSERVE] = "observe",
		[SMTP_STATE_BROKEN] = "broken",
	};
	return (unsigned)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}
