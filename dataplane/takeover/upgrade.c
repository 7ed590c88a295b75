/*
 * upgrade.c - from clear to TLS towards the server: (EHLO,) STARTTLS, handshake, EHLO.
 *
 *   CLEAR ─▶ (PROBE ─▶ CLEAR ─▶) STARTTLS ─▶ HANDSHAKE ─▶ HELLO ─▶ TLS
 *                                   │ not 220      └─────────┴──▶ GONE: nothing falls back to clear behind a 220
 *                                   └──▶ CLEAR, with the fact that it was refused
 *
 * The command that asked for it is held all the while; each end of the way only records facts, and that command
 * is then looked at again.
 */
#include <bsd/string.h>
#include <stdio.h>

#include "private.h"

/* What a client may have used because the server's reply in clear had it. */
#define PROMISES (SMTP_CAP_PIPELINING | SMTP_CAP_CHUNKING | SMTP_CAP_SIZE | SMTP_CAP_8BITMIME | SMTP_CAP_SMTPUTF8 | SMTP_CAP_DSN | \
                  SMTP_CAP_BINARYMIME | SMTP_CAP_DELIVERBY)

static void say_hello(struct takeover *t)
{
	char line[SMTP_DOMAIN_MAX + 8];
	int len = snprintf(line, sizeof(line), "EHLO %s\r\n", t->client_name[0] ? t->client_name : "[127.0.0.1]");

	forward(t, line, (size_t)len, &(struct pending){.verb = SMTP_EHLO, .own = true});
}

void upgrade_probe(struct takeover *t)
{
	enter_upstream(t, UPSTREAM_PROBE);
	say_hello(t);
}

void upgrade_begin(struct takeover *t)
{
	enter_upstream(t, UPSTREAM_STARTTLS);
	forward(t, "STARTTLS\r\n", 10, &(struct pending){.verb = SMTP_STARTTLS, .own = true});
}

/* The rule of what waits: a recipient's, with its domain, where MAIL was deferred; else the destination's. */
static const struct image_rule *waiting_rule(const struct takeover *t, char domain[SMTP_DOMAIN_MAX])
{
	struct smtp_command command;
	const struct image_rule *rule = NULL;

	smtp_command_parse(t->client_line.line, t->client_line.len, &command);
	if (command.verb == SMTP_RCPT && smtp_path_domain(&command, domain) == 0)
		rule = recipient_rule(t, domain);
	if (!rule)
		domain[0] = 0;
	return rule ? rule : session_rules(t).rule;
}

/* Straight into the endpoint's buffer; what finds no room there is pending, and pump.c's send_tls moves it later. */
static size_t to_server(void *context, const uint8_t *bytes, size_t len)
{
	struct takeover *t = context;
	return t->over[SERVER] ? 0 : tcp_write(t->end[SERVER], bytes, len);
}

static void begin_tls(struct takeover *t)
{
	struct tls_choice tls;
	uint8_t key[16 + 2 + SMTP_DOMAIN_MAX];
	char error[160], domain[SMTP_DOMAIN_MAX];
	const struct image_rule *rule = waiting_rule(t, domain);

	choose_tls(t, rule, *domain ? domain : NULL, &tls);
	memcpy(key, t->params.server_addr, 16);
	memcpy(key + 16, &t->params.server_port, 2);
	tls.params.server_key = key;
	tls.params.server_key_len = 18 + strlcpy((char *)key + 18, tls.params.servername, sizeof(key) - 18);
	tls.params.send = to_server;
	tls.params.send_context = t;
	t->tls = tls_client_new(t->env->tls, &tls.params, error, sizeof(error));
	if (!t->tls) {
		upgrade_failed(t, error);
		return;
	}
	enter_upstream(t, UPSTREAM_HANDSHAKE);
	tls_client_start(t->tls);
}

static void starttls_replied(struct takeover *t, uint16_t code)
{
	if (code != 220) {
		struct policy_parties parties = session_parties(t);
		if (takeover_had_tls(t->env->image(t->env->context), &parties)) /* as good as not offered */
			note_stripped(t);
		t->facts.tls = FACT_TLS_REFUSED;
		set_detail(t, "the server answered STARTTLS with %u", code);
		enter_upstream(t, UPSTREAM_CLEAR);
		return;
	}
	if (t->behind) { /* CVE-2011-0411, from the server's side */
		stats_inc(t->env->stats, STAT_injections);
		upgrade_failed(t, "plaintext behind the 220 to STARTTLS");
		return;
	}
	begin_tls(t);
}

static void hello_replied(struct takeover *t, uint16_t code)
{
	if (t->upstream == UPSTREAM_PROBE) {
		struct policy_parties parties = session_parties(t);
		t->capabilities = code == 250 ? t->hello_capabilities : 0;
		if (takeover_stripped(t->env->image(t->env->context), &parties, t->capabilities))
			note_stripped(t);
		enter_upstream(t, UPSTREAM_CLEAR);
		return;
	}
	uint32_t missing = t->promised & PROMISES & ~t->hello_capabilities;
	char why[sizeof(t->outcome.detail)];
	if (code != 250) {
		snprintf(why, sizeof(why), "the server answered EHLO inside TLS with %u", code);
		upgrade_failed(t, why);
	} else if (missing) {
		snprintf(why, sizeof(why), "the server offers less inside TLS (missing capabilities %#x)", missing);
		upgrade_failed(t, why);
	} else {
		t->capabilities = t->hello_capabilities;
		enter_upstream(t, UPSTREAM_TLS);
	}
}

void upgrade_replied(struct takeover *t, enum smtp_verb verb, uint16_t code)
{
	if (verb == SMTP_STARTTLS)
		starttls_replied(t, code);
	else
		hello_replied(t, code);
}

static bool note_name(void *context, const char *name)
{
	struct stats_facts *noted = context;

	for (unsigned i = 0; i < STATS_EVENT_NAMES_MAX && strlen(name) < sizeof(noted->names[i]); i++) {
		if (noted->names[i][0])
			continue;
		strlcpy(noted->names[i], name, sizeof(noted->names[i]));
		return false;
	}
	noted->names_cut = true;
	return false;
}

static void note_facts(struct takeover *t, const struct tls_facts *facts)
{
	struct stats_facts *noted = &t->outcome.facts;

	noted->version = facts->version;
	noted->chain = (uint8_t)facts->chain;
	noted->has_certificate = facts->has_certificate;
	memcpy(noted->certificate_sha256, facts->certificate_sha256, sizeof(noted->certificate_sha256));
	memcpy(noted->key_sha256, facts->key_sha256, sizeof(noted->key_sha256));
	tls_client_any_name(t->tls, note_name, noted);
}

static void established(struct takeover *t)
{
	const struct tls_facts *facts = tls_client_facts(t->tls);

	t->facts.tls = FACT_TLS_UP;
	t->facts.version = facts->version;
	t->facts.chain = (enum policy_chain)facts->chain;
	t->outcome.tls_version = facts->version;
	t->outcome.resumed = facts->resumed;
	note_facts(t, facts);
	strlcpy(t->outcome.cipher, facts->cipher, sizeof(t->outcome.cipher));
	if (*facts->chain_error)
		set_detail(t, "certificate %s: %s", facts->subject, facts->chain_error);
	else
		set_detail(t, "certificate %s", facts->subject);
	stats_inc(t->env->stats, STAT_tls_handshakes);
	t->destination->versions[stats_version_index(facts->version)]++;
	if (facts->resumed) {
		stats_inc(t->env->stats, STAT_tls_resumed);
		t->destination->resumed++;
	}
	enter_upstream(t, UPSTREAM_HELLO);
	say_hello(t);
}

void upgrade_progress(struct takeover *t)
{
	switch (tls_client_phase(t->tls)) {
	case TLS_HANDSHAKE:
		return;
	case TLS_ESTABLISHED:
		if (t->upstream == UPSTREAM_HANDSHAKE)
			established(t);
		return;
	case TLS_FAILED:
		if (upstream_in_transition(t))
			upgrade_failed(t, tls_client_error(t->tls));
		else
			server_lost(t, tls_client_error(t->tls));
		return;
	case TLS_CLOSED:
		return; /* pump.c, once its last octets are read */
	}
}

void upgrade_failed(struct takeover *t, const char *why)
{
	stats_inc(t->env->stats, STAT_tls_failed);
	takeover_memory_note(t->env->memory, t->params.server_addr, t->now_us);
	t->facts.tls = FACT_TLS_FAILED;
	server_gone(t, why);
}
