/*
 * commands.c - what the client says: SMTP commands, one by one, forwarded, held or answered here.
 *
 * Enters: octets of the client while mode is COMMANDS, AUTH or SKIP. Leaves: commands to the server, each with a
 * place in the pipeline, or replies of our own in their turn. A command that needs a decision which cannot be
 * made yet is held: no octet behind it is taken until commands_retry has dealt with it.
 *
 * It refuses to hand on a command that begins mail before policy allowed it, lines with a bare CR or NUL, and
 * STARTTLS: the client's side of a session taken over stays as it is.
 */
#include <bsd/string.h>
#include <stdio.h>

#include "private.h"

enum outcome { DONE, HOLD };
typedef enum outcome (*handler)(struct takeover *takeover, const struct smtp_command *command, enum smtp_verb verb);

/* ---- replies of our own ---- */

void local_reply(struct takeover *t, const char *reply)
{
	t->local_len = strlcpy(t->local, reply, sizeof(t->local));
	local_flush(t);
}

bool local_flush(struct takeover *t)
{
	if (!t->local_len || t->pipeline.count)
		return false;
	if (write_client(t, t->local, t->local_len))
		t->local_len = 0;
	return t->local_len == 0;
}

static enum outcome refuse(struct takeover *t, struct policy_verdict verdict, const char *domain)
{
	const struct policy_image *image = t->env->image(t->env->context);
	char reply[POLICY_REPLY_MAX];

	/* A client's minimum is named by its own key, whoever the recipient is: it is the sender's postmaster who set it. */
	if (!domain || verdict.rule->kind == POLICY_CLIENT)
		domain = policy_string(image, verdict.rule->name);
	policy_reply(&verdict.decision, verdict.rule, domain, server_text(t), reply);
	note_refusal(t, verdict);
	local_reply(t, reply);
	return DONE;
}

/* ---- to the server ---- */

bool forward(struct takeover *t, const void *line, size_t len, const struct pending *entry)
{
	struct pending pending = *entry;

	pending.clear = t->upstream != UPSTREAM_TLS;
	if (!pipeline_push(&t->pipeline, &pending)) {
		last_word(t, "421 4.3.2 Too many commands at once\r\n");
		return false;
	}
	return write_server(t, line, len);
}

/* The command as it came, but for a line end of LF alone, which servers read differently. */
static void forward_line(struct takeover *t, const struct pending *entry)
{
	char *line = (char *)t->client_line.line;
	size_t len = t->client_line.len;

	while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	char out[SMTP_COMMAND_MAX + 2];
	memcpy(out, line, len);
	memcpy(out + len, "\r\n", 2);
	forward(t, out, len + 2, entry);
}

static enum outcome pass(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	(void)command;
	if (t->upstream == UPSTREAM_GONE)
		local_reply(t, "451 4.4.2 The connection to the server is lost\r\n");
	else
		forward_line(t, &(struct pending){.verb = verb});
	return DONE;
}

/* ---- handlers ---- */

static enum outcome hello(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	char reply[SMTP_DOMAIN_MAX + 16];

	if (t->upstream == UPSTREAM_GONE) {
		snprintf(reply, sizeof(reply), "250 %.255s\r\n", server_text(t));
		local_reply(t, reply);
		t->transaction = MAIL_NONE;
		return DONE;
	}
	size_t len = command->args_len < sizeof(t->client_name) - 1 ? command->args_len : sizeof(t->client_name) - 1;
	memcpy(t->client_name, command->args, len);
	t->client_name[len] = 0;
	t->transaction = MAIL_NONE;
	if (verb == SMTP_HELO)
		t->promised = 0;
	return pass(t, command, verb);
}

static enum outcome starttls(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	(void)command;
	(void)verb;
	local_reply(t, "454 4.7.0 TLS not available: this session was begun in clear\r\n");
	return DONE;
}

static enum outcome rset(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	t->transaction = MAIL_NONE;
	if (t->upstream != UPSTREAM_GONE)
		return pass(t, command, verb);
	local_reply(t, "250 2.0.0 Ok\r\n");
	return DONE;
}

static enum outcome noop(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	if (t->upstream != UPSTREAM_GONE)
		return pass(t, command, verb);
	local_reply(t, "250 2.0.0 Ok\r\n");
	return DONE;
}

static enum outcome quit(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	if (t->upstream != UPSTREAM_GONE)
		return pass(t, command, verb);
	if (t->pipeline.count)
		return HOLD;
	last_word(t, "221 2.0.0 Bye\r\n");
	return DONE;
}

/* MAIL and what else begins mail or authentication, allowed: sent, or kept until a recipient shows its domain. */
static enum outcome begin_mail(struct takeover *t, enum smtp_verb verb, bool wait_for_recipient)
{
	if (verb != SMTP_MAIL) {
		forward_line(t, &(struct pending){.verb = verb});
		if (verb == SMTP_SEND)
			t->transaction = MAIL_SENT;
		else if (verb == SMTP_AUTH)
			t->mode = CLIENT_WAIT;
		return DONE;
	}
	if (!wait_for_recipient) {
		forward_line(t, &(struct pending){.verb = verb});
		t->transaction = MAIL_SENT;
		return DONE;
	}
	t->deferred_len = t->client_line.len;
	memcpy(t->deferred, t->client_line.line, t->deferred_len);
	t->deferred_refused = false;
	t->transaction = MAIL_DEFERRED;
	local_reply(t, "250 2.1.0 Ok\r\n");
	return DONE;
}

/* It was lost while it was asked what it offers: there is nothing to decide upon, and nobody's mail is to bounce for it. */
static bool lost_unasked(const struct takeover *t)
{
	return t->upstream == UPSTREAM_GONE && t->facts.tls == FACT_TLS_NONE;
}

/* Once all that was sent has been answered. */
static enum outcome upgrade(struct takeover *t)
{
	if (t->pipeline.count)
		return HOLD;
	if (t->capabilities & TAKEOVER_CAP_UNKNOWN)
		upgrade_probe(t);
	else
		upgrade_begin(t);
	return HOLD;
}

static enum outcome mail_in_clear(struct takeover *t, enum smtp_verb verb)
{
	struct policy_parties parties = session_parties(t);
	uint32_t capabilities = t->capabilities | (t->params.capabilities & TAKEOVER_CAP_REFUSED);
	struct takeover_choice choice = takeover_choose(t->env->image(t->env->context), &parties, capabilities, t->env->memory, t->now_us);
	if (t->facts.tls == FACT_TLS_NONE && choice.action == TAKEOVER_CHOOSE_UPGRADE)
		return upgrade(t);
	struct policy_verdict verdict = {choice.rule, choice.decision};
	if (choice.stripped)
		note_stripped(t);
	if (t->facts.tls != FACT_TLS_NONE)
		verdict = with_minimum(t, decide_rule(t, session_rules(t).rule, NULL), NULL);
	if (policy_effect(verdict.decision) != POLICY_ALLOW)
		return refuse(t, verdict, NULL);
	if (choice.remembered && !t->remembered)
		stats_inc(t->env->stats, STAT_tls_memory_hits);
	t->remembered |= choice.remembered;
	note_allowed(t, verdict);
	bool wait = !t->params.inbound && choice.action == TAKEOVER_CHOOSE_RELAY && t->facts.tls == FACT_TLS_NONE && tls_maybe_offered(t);
	return begin_mail(t, verb, wait);
}

static enum outcome mail(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	(void)command;
	if (verb == SMTP_MAIL && t->transaction == MAIL_DEFERRED) {
		local_reply(t, "503 5.5.1 Nested MAIL command\r\n");
		return DONE;
	}
	if (t->upstream == UPSTREAM_CLEAR)
		return mail_in_clear(t, verb);
	if (lost_unasked(t))
		return pass(t, command, verb);
	struct policy_verdict verdict = with_minimum(t, decide_rule(t, session_rules(t).rule, NULL), NULL);
	if (policy_effect(verdict.decision) != POLICY_ALLOW)
		return refuse(t, verdict, NULL);
	if (t->upstream == UPSTREAM_GONE)
		return pass(t, command, verb);
	note_allowed(t, verdict);
	return begin_mail(t, verb, false);
}

static enum stats_recipient would_be(struct policy_decision decision)
{
	return decision.action == POLICY_REJECT ? RCPT_WOULD_REJECT : RCPT_WOULD_DEFER;
}

/* The MAIL that has waited for a recipient that may go to the server, and the reply to it; then the recipient's turn comes again. */
static enum outcome send_deferred_mail(struct takeover *t)
{
	if (t->pipeline.count)
		return HOLD;
	t->transaction = MAIL_SENT;
	forward(t, t->deferred, t->deferred_len, &(struct pending){.verb = SMTP_MAIL, .quiet_ok = true});
	return HOLD;
}

static enum outcome rcpt(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	char domain[SMTP_DOMAIN_MAX];

	if (t->deferred_refused) { /* the refusal of MAIL has answered this RCPT, which waited for it */
		t->deferred_refused = false;
		t->transaction = MAIL_NONE;
		return DONE;
	}
	if (t->transaction == MAIL_NONE) {
		local_reply(t, "503 5.5.1 Need MAIL before RCPT\r\n");
		return DONE;
	}
	if (smtp_path_domain(command, domain) < 0) {
		local_reply(t, "501 5.1.3 Bad recipient address syntax\r\n");
		return DONE;
	}
	if (lost_unasked(t))
		return pass(t, command, verb);
	const struct image_rule *rule = recipient_rule(t, domain);
	if (t->transaction == MAIL_DEFERRED && recipient_wants_upgrade(t, rule, domain))
		return upgrade(t);
	/* Without a rule of its own: the destination's may have waited for a domain to compare names with. */
	struct policy_verdict own = rule ? decide_rule(t, rule, domain) : names_of_recipient(t, domain);
	struct policy_verdict verdict = rule ? with_minimum(t, own, domain) : own;
	bool allowed = policy_effect(verdict.decision) == POLICY_ALLOW;
	if (allowed && t->transaction == MAIL_DEFERRED && t->upstream != UPSTREAM_GONE)
		return send_deferred_mail(t);

	const char *name = rule ? policy_string(t->env->image(t->env->context), rule->name) : NULL;
	struct pending entry = {.verb = SMTP_RCPT, .named = name ? stats_destination(t->env->stats, name) : NULL};
	struct stats_destination *testing = note_sts(t, rule, domain);
	if (!rule)
		entry.named = testing;
	else if (entry.named != t->destination)
		entry.named->reasons[own.decision.reason]++;
	if (!allowed) {
		note_recipient(t, domain, verdict.decision.action == POLICY_REJECT ? RCPT_REJECTED : RCPT_DEFERRED, entry.named);
		return refuse(t, verdict, domain);
	}
	if (rule && own.decision.observed && own.decision.action != POLICY_ALLOW) {
		entry.named->would[own.decision.action]++;
		note_recipient(t, domain, would_be(own.decision), entry.named);
	}
	if (t->upstream == UPSTREAM_GONE)
		return pass(t, command, SMTP_RCPT);
	strlcpy(entry.domain, domain, sizeof(entry.domain));
	forward_line(t, &entry);
	return DONE;
}

static enum outcome data(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	if (t->transaction != MAIL_SENT) {
		local_reply(t, t->transaction == MAIL_NONE ? "503 5.5.1 Need MAIL before DATA\r\n" : "554 5.5.1 No valid recipients\r\n");
		return DONE;
	}
	pass(t, command, verb);
	if (t->upstream != UPSTREAM_GONE && t->mode == CLIENT_COMMANDS)
		t->mode = CLIENT_WAIT;
	return DONE;
}

static enum outcome bdat(struct takeover *t, const struct smtp_command *command, enum smtp_verb verb)
{
	bool last, drop = t->transaction != MAIL_SENT || t->upstream == UPSTREAM_GONE;

	if (smtp_bdat_parse(command, &t->chunk_left, &last) < 0) {
		/* Where the next command begins nobody can know. */
		if (t->pipeline.count)
			return HOLD;
		last_word(t, "421 4.5.2 Malformed BDAT\r\n");
		return DONE;
	}
	if (drop)
		local_reply(t, t->transaction == MAIL_SENT ? "451 4.4.2 The connection to the server is lost\r\n" : "503 5.5.1 Need MAIL before BDAT\r\n");
	else
		forward_line(t, &(struct pending){.verb = verb, .content = last});
	t->chunk_drop = drop;
	if (t->chunk_left && t->mode == CLIENT_COMMANDS)
		t->mode = CLIENT_CHUNK;
	return DONE;
}

static const handler handlers[SMTP_VERBS] = {
	[SMTP_EHLO] = hello, [SMTP_HELO] = hello, [SMTP_LHLO] = hello, [SMTP_STARTTLS] = starttls, [SMTP_AUTH] = mail,
	[SMTP_MAIL] = mail, [SMTP_SEND] = mail, [SMTP_BURL] = mail, [SMTP_TURN] = mail, [SMTP_XCLIENT] = mail, [SMTP_XFORWARD] = mail,
	[SMTP_RCPT] = rcpt, [SMTP_DATA] = data, [SMTP_BDAT] = bdat, [SMTP_RSET] = rset, [SMTP_NOOP] = noop, [SMTP_QUIT] = quit,
	[SMTP_VRFY] = pass, [SMTP_EXPN] = pass, [SMTP_HELP] = pass, [SMTP_ETRN] = pass, [SMTP_UNKNOWN] = pass,
};

/* ---- lines ---- */

/* Deals with the whole line in client_line, or holds it. */
static void line_is_whole(struct takeover *t)
{
	struct smtp_command command;
	enum outcome outcome = DONE;

	size_t len = t->client_line.len;
	while (len && (t->client_line.line[len - 1] == '\n' || t->client_line.line[len - 1] == '\r'))
		len--;
	smtp_command_parse(t->client_line.line, t->client_line.len, &command);
	if (memchr(t->client_line.line, 0, len))
		local_reply(t, "500 5.5.2 NUL in a command\r\n");
	else if (memchr(t->client_line.line, '\r', len))
		local_reply(t, "500 5.5.2 Bare CR in a command\r\n");
	else
		outcome = handlers[command.verb](t, &command, command.verb);
	t->held = outcome == HOLD && t->mode == CLIENT_COMMANDS;
	if (!t->held)
		smtp_framer_reset(&t->client_line);
}

bool commands_retry(struct takeover *t)
{
	if (!t->held || t->local_len || t->pipeline.count || upstream_in_transition(t))
		return false;
	line_is_whole(t);
	return true;
}

static size_t skip_line(struct takeover *t, const uint8_t *bytes, size_t len)
{
	const uint8_t *end = memchr(bytes, '\n', len);
	if (!end)
		return len;
	t->mode = CLIENT_COMMANDS;
	local_reply(t, "500 5.5.2 Line too long\r\n");
	return (size_t)(end - bytes) + 1;
}

static bool may_read(const struct takeover *t)
{
	if (t->held || t->local_len || upstream_in_transition(t))
		return false;
	if (t->mode == CLIENT_AUTH)
		return true;
	if (t->pipeline.count && !(t->capabilities & SMTP_CAP_PIPELINING))
		return false; /* a client that does not wait, before a server that wants it to */
	return t->pipeline.count < SMTP_PIPELINE_MAX / 2;
}

size_t commands_input(struct takeover *t, const uint8_t *bytes, size_t len)
{
	size_t taken;

	if (!may_read(t))
		return 0;
	if (t->mode == CLIENT_SKIP)
		return skip_line(t, bytes, len);
	switch (smtp_framer_input(&t->client_line, bytes, len, &taken)) {
	case SMTP_LINE_PARTIAL:
		break;
	case SMTP_LINE_TOO_LONG:
		smtp_framer_reset(&t->client_line);
		t->mode = CLIENT_SKIP;
		if (taken && bytes[taken - 1] == '\n') {
			t->mode = CLIENT_COMMANDS;
			local_reply(t, "500 5.5.2 Line too long\r\n");
		}
		break;
	case SMTP_LINE_WHOLE:
		if (t->mode == CLIENT_AUTH) {
			t->mode = CLIENT_WAIT;
			write_server(t, t->client_line.line, t->client_line.len);
			smtp_framer_reset(&t->client_line);
		} else {
			line_is_whole(t);
		}
		break;
	}
	return taken;
}
