/*
 * replies.c - what the server says: each reply belongs to the oldest command whose reply is due.
 *
 * Enters: octets of the server, out of TLS where it is up. Leaves: the client's replies as they came, line by
 * line; those to our own commands to upgrade.c. Of an EHLO reply it leaves out what the client must not use:
 * STARTTLS, REQUIRETLS, and AUTH where it was not offered in clear.
 *
 * It refuses a reply that nothing asked for, but for 421, and one to content that has not ended: the server
 * takes the stream differently from us (SMTP smuggling), and the session is cut.
 */
#include <stdio.h>

#include "private.h"

/* ---- EHLO, filtered: each line waits until it is known whether it is the last ---- */

static bool hidden(const struct takeover *t, uint32_t capability)
{
	if (capability & (SMTP_CAP_STARTTLS | SMTP_CAP_REQUIRETLS))
		return true;
	return capability & SMTP_CAP_AUTH && t->upstream == UPSTREAM_TLS && !(t->promised & SMTP_CAP_AUTH);
}

static void hello_line_out(struct takeover *t, char separator)
{
	if (!t->hello_line_len)
		return;
	t->hello_line[3] = separator;
	write_client(t, t->hello_line, t->hello_line_len);
	t->hello_line_len = 0;
}

static void hello_line(struct takeover *t, const struct smtp_reply_line *line, const uint8_t *bytes, size_t len)
{
	uint32_t capability = t->reply_lines > 1 ? smtp_capability_parse(line->text, line->text_len) : 0;

	t->hello_capabilities |= capability;
	if (!hidden(t, capability)) {
		hello_line_out(t, '-');
		memcpy(t->hello_line, bytes, len);
		t->hello_line_len = len;
		if (len == 5) { /* "250\r\n": it has no separator */
			memcpy(t->hello_line, "250 \r\n", 6);
			t->hello_line_len = 6;
		}
	}
	if (line->last)
		hello_line_out(t, ' ');
}

/* ---- the end of a reply ---- */

static void recipient_accepted(struct takeover *t, const struct pending *entry)
{
	t->carried = true;
	note_recipient(t, entry->domain, entry->clear ? RCPT_CLEAR : RCPT_UPGRADED, entry->named);
}

static void after_content(struct takeover *t, uint16_t code)
{
	if (code / 100 != 2)
		return;
	t->carried = true;
	t->outcome.messages++;
	t->destination->messages++;
}

/* Whole, and shown to the client unless it was ours. */
static void reply_over(struct takeover *t, uint16_t code)
{
	struct pending entry = *pipeline_head(&t->pipeline);

	if (entry.verb == SMTP_AUTH && code == 334) { /* the exchange goes on: RFC 4954 */
		t->mode = CLIENT_AUTH;
		return;
	}
	pipeline_pop(&t->pipeline);
	if (entry.own) {
		upgrade_replied(t, entry.verb, code);
		return;
	}
	if (entry.quiet_ok && code / 100 != 2)
		t->deferred_refused = true;
	switch (entry.verb) {
	case SMTP_EHLO:
	case SMTP_LHLO:
		if (code == 250) {
			t->capabilities = t->hello_capabilities;
			if (entry.clear)
				t->promised = t->hello_capabilities;
		}
		break;
	case SMTP_HELO:
		if (code == 250 && entry.clear)
			t->capabilities = TAKEOVER_CAP_UNKNOWN; /* it has not been asked */
		break;
	case SMTP_RCPT:
		if (code / 100 == 2)
			recipient_accepted(t, &entry);
		break;
	case SMTP_DATA:
		if (entry.content)
			after_content(t, code);
		else if (code == 354) {
			t->mode = CLIENT_DATA;
			t->end_match = 2; /* a dot on the first line ends an empty message */
		} else
			t->mode = t->mode == CLIENT_WAIT ? CLIENT_COMMANDS : t->mode;
		break;
	case SMTP_BDAT:
		if (entry.content) {
			after_content(t, code);
			t->transaction = MAIL_NONE;
		}
		break;
	case SMTP_AUTH:
		if (t->mode == CLIENT_WAIT || t->mode == CLIENT_AUTH)
			t->mode = CLIENT_COMMANDS;
		break;
	case SMTP_QUIT:
		t->quit = true;
		break;
	case SMTP_STARTTLS: case SMTP_MAIL: case SMTP_RSET: case SMTP_NOOP: case SMTP_VRFY: case SMTP_EXPN:
	case SMTP_HELP: case SMTP_ETRN: case SMTP_SEND: case SMTP_BURL: case SMTP_TURN: case SMTP_XCLIENT: case SMTP_XFORWARD:
	case SMTP_UNKNOWN: case SMTP_VERBS:
		break;
	}
}

/* ---- lines ---- */

/* Nothing asked for it. 421 ends the session (RFC 5321, 3.8); so does a refusal of content that is still coming. */
static void unasked(struct takeover *t, const struct smtp_reply_line *line, const uint8_t *bytes, size_t len)
{
	bool content = t->mode == CLIENT_DATA || t->mode == CLIENT_CHUNK;

	if (line->code != 421 && !(content && line->code / 100 >= 4)) {
		cut_out_of_step(t, content ? "the server answered content that has not ended" : "a reply that nothing asked for");
		return;
	}
	if (!line->last) {
		write_client(t, bytes, len);
		return;
	}
	char last[SMTP_REPLY_LINE_MAX + 1];
	memcpy(last, bytes, len);
	last[len] = 0;
	set_detail(t, "the server said %.100s", last);
	last_word(t, last);
}

static bool chunk_in_progress(const struct takeover *t, const struct pending *head)
{
	return t->mode == CLIENT_CHUNK && t->pipeline.count == 1 && head->verb == SMTP_BDAT;
}

static void reply_line(struct takeover *t, const uint8_t *bytes, size_t len)
{
	const struct pending *head = pipeline_head(&t->pipeline);
	struct smtp_reply_line line;

	smtp_reply_line_parse(bytes, len, &line);
	if (!line.code || (t->reply_lines && line.code != t->reply_code) || ++t->reply_lines > SMTP_REPLY_LINES_MAX) {
		cut_out_of_step(t, "the server's reply is not SMTP");
		return;
	}
	t->reply_code = line.code;
	if (t->reply_lines == 1)
		t->hello_capabilities = 0;
	if (!head) {
		unasked(t, &line, bytes, len);
	} else if (chunk_in_progress(t, head) && line.code / 100 < 4) {
		cut_out_of_step(t, "the server answered content that has not ended");
	} else if (head->own) {
		if (t->reply_lines > 1)
			t->hello_capabilities |= smtp_capability_parse(line.text, line.text_len);
		if (line.last)
			reply_over(t, line.code);
	} else {
		if ((head->verb == SMTP_EHLO || head->verb == SMTP_LHLO) && line.code == 250)
			hello_line(t, &line, bytes, len);
		else if (!(head->quiet_ok && line.code / 100 == 2))
			write_client(t, bytes, len);
		if (line.last && t->mode != CLIENT_OVER)
			reply_over(t, line.code);
	}
	if (line.last)
		t->reply_lines = 0;
}

size_t replies_input(struct takeover *t, const uint8_t *bytes, size_t len)
{
	size_t taken;

	switch (smtp_framer_input(&t->server_line, bytes, len, &taken)) {
	case SMTP_LINE_PARTIAL:
		break;
	case SMTP_LINE_TOO_LONG:
		cut_out_of_step(t, "a line of the server's reply is too long");
		break;
	case SMTP_LINE_WHOLE:
		t->behind = t->upstream == UPSTREAM_STARTTLS ? tcp_readable(t->end[SERVER]) - taken : 0;
		reply_line(t, t->server_line.line, t->server_line.len);
		smtp_framer_reset(&t->server_line);
		break;
	}
	return taken;
}
