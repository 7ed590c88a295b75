/*
 * exchange.c - commands said and replies received: which reply answers which command, and what both say
 * about the session.
 *
 * Enters: whole command lines that go to the server; whole reply lines. Leaves: names, hello, capabilities
 * in the dialogue; the command that a reply answered. Watch and observe use the same code, so that being let
 * go in the middle of a reply loses nothing. Refuses: a reply whose lines differ in code, or that never ends.
 */
#include "private.h"

#include <string.h>

/* ---- names ---- */

/* The first word, or "" when it does not fit or has other characters. */
static void name_copy(const char *text, size_t len, bool host_name, char out[SMTP_DOMAIN_MAX])
{
	size_t n = 0;
	bool letters = false; /* "421 4.3.2 too busy" names no host */

	out[0] = 0;
	while (n < len && !smtp_blank((uint8_t)text[n]))
		n++;
	if (n >= SMTP_DOMAIN_MAX)
		return;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		bool host = letter || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
		if (host_name ? !host : (c <= ' ' || c > '~'))
			return;
		letters |= letter;
	}
	if (host_name && !letters)
		return;
	memcpy(out, text, n);
	out[n] = 0;
}

bool smtp_exchange_said(struct smtp_dialogue *dialogue, const struct smtp_command *command, bool last, const char *domain)
{
	if (!smtp_pipeline_push(&dialogue->private->pipeline, command->verb, last, domain))
		return false;
	dialogue->outstanding++;
	if (command->verb == SMTP_EHLO || command->verb == SMTP_HELO || command->verb == SMTP_LHLO)
		name_copy(command->args, command->args_len, false, dialogue->client_name);
	return true;
}

/* ---- replies ---- */

void smtp_exchange_reply_begins(struct smtp_dialogue *dialogue)
{
	struct smtp_reply *reply = &dialogue->private->reply;

	if (reply->lines || reply->framer.len)
		return;
	reply->code = 0;
	reply->capabilities = 0;
	reply->size_max = 0;
	if (!dialogue->greeting_code)
		reply->kind = SMTP_REPLY_GREETING;
	else if (smtp_pipeline_front(&dialogue->private->pipeline))
		reply->kind = SMTP_REPLY_COMMAND;
	else {
		reply->kind = SMTP_REPLY_UNSOLICITED;
		dialogue->outstanding++; /* not quiet until it is whole */
	}
}

static void hello_answered(struct smtp_dialogue *dialogue, enum smtp_verb verb, uint16_t code)
{
	const struct smtp_reply *reply = &dialogue->private->reply;

	if (code / 100 != 2)
		return; /* RFC 5321, 4.1.4: as if it had not been said */
	dialogue->hello_done = true;
	dialogue->ehlo = verb != SMTP_HELO;
	dialogue->capabilities = reply->capabilities;
	dialogue->size_max = reply->size_max;
	dialogue->private->lmtp = verb == SMTP_LHLO;
}

static void line_says(struct smtp_dialogue *dialogue, const struct smtp_reply_line *line)
{
	struct smtp_reply *reply = &dialogue->private->reply;
	const struct smtp_pending *front = smtp_pipeline_front(&dialogue->private->pipeline);

	if (reply->kind == SMTP_REPLY_GREETING && reply->lines == 0)
		name_copy(line->text, line->text_len, true, dialogue->server_name);
	if (reply->kind != SMTP_REPLY_COMMAND || reply->lines == 0 || line->code != 250)
		return; /* the first line of an EHLO reply is the server's name, not an offer */
	if (front->verb != SMTP_EHLO && front->verb != SMTP_LHLO)
		return;
	uint32_t capability = smtp_capability_parse(line->text, line->text_len);
	reply->capabilities |= capability;
	if (capability == SMTP_CAP_SIZE)
		reply->size_max = smtp_size_parse(line->text, line->text_len);
}

static enum smtp_answer whole(struct smtp_dialogue *dialogue, uint16_t code, struct smtp_answered *answered)
{
	switch (dialogue->private->reply.kind) {
	case SMTP_REPLY_GREETING:
		dialogue->greeting_code = code;
		dialogue->closing = code == 421;
		return SMTP_ANSWER_GREETING;
	case SMTP_REPLY_UNSOLICITED:
		dialogue->outstanding--;
		dialogue->closing |= code / 100 >= 4;
		answered->code = code;
		return SMTP_ANSWER_UNSOLICITED;
	case SMTP_REPLY_COMMAND:
		break;
	}
	BUG_ON(!smtp_pipeline_pop(&dialogue->private->pipeline, &answered->pending, answered->domain));
	dialogue->outstanding--;
	answered->code = code;
	dialogue->closing |= code == 421 || (answered->pending.verb == SMTP_QUIT && code / 100 == 2);
	if (answered->pending.verb == SMTP_EHLO || answered->pending.verb == SMTP_HELO || answered->pending.verb == SMTP_LHLO)
		hello_answered(dialogue, answered->pending.verb, code);
	return SMTP_ANSWER_COMMAND;
}

enum smtp_answer smtp_exchange_reply_line(struct smtp_dialogue *dialogue, struct smtp_answered *answered)
{
	struct smtp_reply *reply = &dialogue->private->reply;
	struct smtp_reply_line line;

	smtp_reply_line_parse(reply->framer.line, reply->framer.len, &line);
	if (!line.code || (reply->lines && line.code != reply->code))
		return SMTP_ANSWER_BAD;
	if (reply->lines == SMTP_REPLY_LINES_MAX)
		return SMTP_ANSWER_LIMIT;
	reply->code = line.code;
	line_says(dialogue, &line);
	reply->lines++;
	smtp_framer_reset(&reply->framer);
	if (!line.last)
		return SMTP_ANSWER_MORE;
	reply->lines = 0;
	return whole(dialogue, line.code, answered);
}
