/*
 * observe.c - the machine after it let a session go in clear: what was mailed.
 *
 * Enters: the bytes of both sides, all of them approved as they come. Leaves: an event for every MAIL,
 * RCPT and message that the server accepted. Commands are matched with replies in the order of the
 * pipeline; DATA's content is skipped up to CRLF . CRLF, BDAT's is counted. It stores no content.
 *
 * What it cannot follow (TLS, lines without end, bytes behind DATA before its 354) is SMTP_EVENT_LOST, once;
 * from there it is silent, and a wrong count is never made up from the middle of a message.
 */
#include "private.h"

#include <string.h>

static void lost(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	dialogue->private->observer.mode = SMTP_OBSERVE_LOST;
	*event = SMTP_EVENT_LOST;
}

void smtp_observe_begin(struct smtp_dialogue *dialogue, bool followable)
{
	struct smtp_dialogue_private *private = dialogue->private;
	struct smtp_observer *observer = &private->observer;

	/* STARTTLS may stand last in the pipeline: nothing may follow it. */
	observer->mode = SMTP_OBSERVE_LINES;
	for (unsigned i = 0; i < private->pipeline.count; i++)
		if (private->pipeline.pending[(private->pipeline.first + i) % SMTP_PIPELINE_MAX].verb == SMTP_STARTTLS)
			observer->mode = SMTP_OBSERVE_REPLY;
	private->held = false;
	observer->lost_due = !followable || !smtp_pipeline_keep_domains(&private->pipeline);
}

/* ---- the client ---- */

static void content_ended(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	struct smtp_dialogue_private *private = dialogue->private;

	private->observer.mode = SMTP_OBSERVE_LINES;
	if (private->lmtp || !smtp_pipeline_push(&private->pipeline, SMTP_PIPELINE_CONTENT, true, ""))
		lost(dialogue, event);
	else
		dialogue->outstanding++;
}

/* Bytes up to and with the end of the content. */
static size_t content(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	enum smtp_content_end end = dialogue->private->observer.content_end;
	size_t at = 0;

	while (at < len) {
		if (end == SMTP_END_TEXT) { /* the usual place to be: straight to the next line end */
			const uint8_t *cr = memchr(bytes + at, '\r', len - at);
			if (!cr) {
				at = len;
				break;
			}
			at = (size_t)(cr - bytes);
		}
		uint8_t c = bytes[at++];
		if (end == SMTP_END_DOT_CR && c == '\n') {
			content_ended(dialogue, event);
			break;
		}
		if (c == '\r')
			end = end == SMTP_END_DOT ? SMTP_END_DOT_CR : SMTP_END_CR;
		else if (c == '\n' && end == SMTP_END_CR)
			end = SMTP_END_CRLF;
		else if (c == '.' && end == SMTP_END_CRLF)
			end = SMTP_END_DOT;
		else
			end = SMTP_END_TEXT;
	}
	dialogue->private->observer.content_end = end;
	return at;
}

/* One line of an authentication may be of 12288 octets, and is nobody's business. */
static size_t authentication(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	const uint8_t *end = memchr(bytes, '\n', len);

	if (!end)
		return len;
	dialogue->private->observer.mode = SMTP_OBSERVE_REPLY;
	if (!smtp_pipeline_push(&dialogue->private->pipeline, SMTP_AUTH, false, ""))
		lost(dialogue, event);
	else
		dialogue->outstanding++;
	return (size_t)(end - bytes) + 1;
}

static size_t chunk(struct smtp_observer *observer, size_t len)
{
	size_t n = len < observer->chunk_left ? len : (size_t)observer->chunk_left;

	observer->chunk_left -= n;
	if (!observer->chunk_left)
		observer->mode = SMTP_OBSERVE_LINES;
	return n;
}

static void command_whole(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	struct smtp_dialogue_private *private = dialogue->private;
	struct smtp_observer *observer = &private->observer;
	struct smtp_command command;
	char domain[SMTP_DOMAIN_MAX] = "";
	bool last = false;

	bool ambiguous = smtp_line_ambiguous(private->command.line, private->command.len);
	smtp_command_parse(private->command.line, private->command.len, &command);
	smtp_framer_reset(&private->command);
	if (command.verb == SMTP_RCPT)
		(void)smtp_path_domain(&command, domain); /* without a domain it still is a recipient */
	if (command.verb == SMTP_BURL)
		last = smtp_args_end_with_last(&command);
	switch (smtp_verb_after(command.verb)) {
	case SMTP_AFTER_LINES:
		break;
	case SMTP_AFTER_REPLY:
		observer->mode = SMTP_OBSERVE_REPLY;
		break;
	case SMTP_AFTER_CHUNK:
		if (smtp_bdat_parse(&command, &observer->chunk_left, &last) < 0)
			ambiguous = true; /* how many octets follow? */
		else if (observer->chunk_left)
			observer->mode = SMTP_OBSERVE_CHUNK;
		break;
	}
	if (ambiguous || (last && private->lmtp) || !smtp_exchange_said(dialogue, &command, last, domain))
		lost(dialogue, event);
}

static size_t line(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	struct smtp_dialogue_private *private = dialogue->private;
	struct smtp_command command;
	size_t consumed;

	switch (smtp_framer_input(&private->command, bytes, len, &consumed)) {
	case SMTP_LINE_PARTIAL:
		break;
	case SMTP_LINE_WHOLE:
		command_whole(dialogue, event);
		break;
	case SMTP_LINE_TOO_LONG:
		smtp_command_parse(private->command.line, private->command.len, &command);
		smtp_framer_reset(&private->command);
		if (command.verb == SMTP_AUTH)
			private->observer.mode = SMTP_OBSERVE_AUTH;
		else
			lost(dialogue, event);
		break;
	}
	return consumed;
}

static size_t client_input(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	size_t taken = 0;

	while (taken < len && *event == SMTP_EVENT_NONE) {
		const uint8_t *at = bytes + taken;
		size_t left = len - taken;
		switch (dialogue->private->observer.mode) {
		case SMTP_OBSERVE_LINES:
			taken += line(dialogue, at, left, event);
			break;
		case SMTP_OBSERVE_CONTENT:
			taken += content(dialogue, at, left, event);
			break;
		case SMTP_OBSERVE_CHUNK:
			taken += chunk(&dialogue->private->observer, left);
			break;
		case SMTP_OBSERVE_AUTH:
			taken += authentication(dialogue, at, left, event);
			break;
		case SMTP_OBSERVE_REPLY: /* content or commands? The reply is not here yet */
			lost(dialogue, event);
			break;
		case SMTP_OBSERVE_LOST:
			taken = len;
			break;
		}
	}
	return taken;
}

/* ---- the server ---- */

/* The reply to a verb that leaves the rest of the stream open: what comes from the client now? */
static void reply_opens(struct smtp_dialogue *dialogue, enum smtp_verb verb, uint16_t code, enum smtp_event *event)
{
	struct smtp_observer *observer = &dialogue->private->observer;

	observer->mode = SMTP_OBSERVE_LINES;
	if (code / 100 >= 4)
		return;
	if (verb == SMTP_DATA && code == 354) {
		observer->mode = SMTP_OBSERVE_CONTENT;
		observer->content_end = SMTP_END_CRLF;
	} else if (verb == SMTP_AUTH && code / 100 == 3) {
		observer->mode = SMTP_OBSERVE_AUTH;
	} else if (verb != SMTP_AUTH) {
		lost(dialogue, event); /* TLS begins, or the roles are turned */
	}
}

static void answered_command(struct smtp_dialogue *dialogue, const struct smtp_answered *answered, enum smtp_event *event)
{
	const struct smtp_pending *pending = &answered->pending;
	bool accepted = answered->code / 100 == 2;

	if (pending->verb == SMTP_PIPELINE_CONTENT || ((pending->verb == SMTP_BDAT || pending->verb == SMTP_BURL) && pending->last)) {
		*event = accepted ? SMTP_EVENT_MESSAGE : SMTP_EVENT_NONE;
		return;
	}
	if (smtp_verb_after(pending->verb) == SMTP_AFTER_REPLY) {
		reply_opens(dialogue, pending->verb, answered->code, event);
		return;
	}
	if (answered->code / 100 == 3) {
		lost(dialogue, event);
		return;
	}
	if (accepted && (pending->verb == SMTP_MAIL || pending->verb == SMTP_SEND))
		*event = SMTP_EVENT_MAIL;
	if (accepted && pending->verb == SMTP_RCPT) {
		memcpy(dialogue->rcpt_domain, answered->domain, sizeof(dialogue->rcpt_domain));
		*event = SMTP_EVENT_RCPT;
	}
}

static void reply_line_whole(struct smtp_dialogue *dialogue, enum smtp_event *event)
{
	struct smtp_answered answered;

	switch (smtp_exchange_reply_line(dialogue, &answered)) {
	case SMTP_ANSWER_MORE:
	case SMTP_ANSWER_GREETING:
		break;
	case SMTP_ANSWER_COMMAND:
		answered_command(dialogue, &answered, event);
		break;
	case SMTP_ANSWER_UNSOLICITED:
		/* In the middle of content it may be the answer to it, from a server that ends it elsewhere. */
		if (answered.code / 100 < 4 || dialogue->private->observer.mode == SMTP_OBSERVE_CONTENT)
			lost(dialogue, event);
		break;
	case SMTP_ANSWER_BAD:
	case SMTP_ANSWER_LIMIT:
		lost(dialogue, event);
		break;
	}
}

static size_t server_input(struct smtp_dialogue *dialogue, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	size_t taken = 0, consumed;

	while (taken < len && *event == SMTP_EVENT_NONE) {
		if (dialogue->private->observer.mode == SMTP_OBSERVE_LOST)
			return len;
		smtp_exchange_reply_begins(dialogue);
		switch (smtp_framer_input(&dialogue->private->reply.framer, bytes + taken, len - taken, &consumed)) {
		case SMTP_LINE_PARTIAL:
			break;
		case SMTP_LINE_WHOLE:
			reply_line_whole(dialogue, event);
			break;
		case SMTP_LINE_TOO_LONG:
			lost(dialogue, event);
			break;
		}
		taken += consumed;
	}
	return taken;
}

size_t smtp_observe_input(struct smtp_dialogue *dialogue, enum side side, const uint8_t *bytes, size_t len, enum smtp_event *event)
{
	size_t taken;

	if (dialogue->private->observer.lost_due) {
		dialogue->private->observer.lost_due = false;
		lost(dialogue, event);
		return 0;
	}
	taken = side == CLIENT ? client_input(dialogue, bytes, len, event) : server_input(dialogue, bytes, len, event);
	dialogue->fed[side] += taken;
	dialogue->approved[side] = dialogue->fed[side];
	return taken;
}
