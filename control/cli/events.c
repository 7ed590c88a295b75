/*
 * events.c - lines to events. A member that is missing or of another type is as good as empty; only what a session is
 * known by must be there.
 */
#include "events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../policy/text.h"
#include "link.h"

static void take_text(const json_t *object, const char *name, char *out, size_t out_len)
{
	text_clean(link_text(object, name), out, out_len);
}
#define TAKE(object, name, field) take_text(object, name, field, sizeof(field))

static uint32_t take_number(const json_t *object, const char *name)
{
	uint64_t n = link_number(object, name);

	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

bool event_address_parse(const char *text, uint8_t out[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	memcpy(out, mapped, sizeof(mapped));
	return inet_pton(AF_INET, text, out + 12) == 1 || inet_pton(AF_INET6, text, out) == 1;
}

const char *event_address(const uint8_t address[16], char out[46])
{
	bool ipv4 = policy_addr_is_ipv4(address);

	if (!inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? address + 12 : address, out, 46))
		out[0] = 0;
	return out;
}

static const char *const versions[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};

const char *event_version(uint16_t version)
{
	return version >= 0x0301 && version <= 0x0304 ? versions[version - 0x0301] : "?";
}

static uint16_t take_version(const char *text)
{
	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(text, versions[i]))
			return (uint16_t)(0x0301 + i);
	return 0;
}

static bool take_digest(const char *text, uint8_t out[32])
{
	if (strlen(text) != 64 || strspn(text, "0123456789abcdef") != 64)
		return false;
	for (int i = 0; i < 32; i++)
		sscanf(text + 2 * i, "%2hhx", &out[i]);
	return true;
}

/* Unknown words are the fact that proves least. */
static enum policy_tls take_tls(const char *text)
{
	static const enum policy_tls all[] = {FACT_TLS_NONE, FACT_TLS_REFUSED, FACT_TLS_FAILED, FACT_TLS_UP};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(text, policy_tls_name(all[i])))
			return all[i];
	return FACT_TLS_NONE;
}

static enum policy_chain take_chain(const char *text)
{
	static const enum policy_chain all[] = {CHAIN_UNSEEN,  CHAIN_TRUSTED,	    CHAIN_UNTRUSTED, CHAIN_SELF_SIGNED,
						CHAIN_EXPIRED, CHAIN_NOT_YET_VALID, CHAIN_INVALID};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(text, policy_chain_name(all[i])))
			return all[i];
	return CHAIN_UNSEEN;
}

static void take_facts(const json_t *object, struct event_facts *facts)
{
	const json_t *names = json_object_get(object, "names");

	facts->offered = json_is_true(json_object_get(object, "offered"));
	facts->end_to_end = json_is_true(json_object_get(object, "end_to_end"));
	facts->tls = take_tls(link_text(object, "tls"));
	facts->chain = take_chain(link_text(object, "chain"));
	facts->version = take_version(link_text(object, "version"));
	facts->has_certificate = take_digest(link_text(object, "certificate_sha256"), facts->certificate_sha256) &&
				 take_digest(link_text(object, "key_sha256"), facts->key_sha256);
	facts->names_cut = json_is_true(json_object_get(object, "names_cut")) || json_array_size(names) > EVENT_NAMES_MAX;
	for (size_t i = 0; i < json_array_size(names) && facts->name_count < EVENT_NAMES_MAX; i++) {
		const char *name = json_string_value(json_array_get(names, i));
		if (name && strlen(name) < sizeof(facts->names[0]))
			text_clean(name, facts->names[facts->name_count++], sizeof(facts->names[0]));
	}
}

static void take_recipients(const json_t *array, struct event *out)
{
	for (size_t i = 0; i < json_array_size(array) && out->rcpt_count < EVENT_RECIPIENTS_MAX; i++) {
		const json_t *one = json_array_get(array, i);
		TAKE(one, "domain", out->rcpt[out->rcpt_count].domain);
		TAKE(one, "fate", out->rcpt[out->rcpt_count].fate);
		if (out->rcpt[out->rcpt_count].domain[0])
			out->rcpt_count++;
	}
}

bool event_parse(const char *line, size_t len, struct event *out)
{
	json_t *object = len <= EVENT_LINE_MAX ? json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL) : NULL, *facts;

	memset(out, 0, sizeof(*out));
	out->at_s = text_moment(link_text(object, "at"));
	bool good = out->at_s && event_address_parse(link_text(object, "client"), out->client) &&
		    event_address_parse(link_text(object, "server"), out->server);
	if (good) {
		out->flow = link_number(object, "flow");
		out->inbound = !strcmp(link_text(object, "direction"), "inbound");
		out->stripped = json_is_true(json_object_get(object, "stripped"));
		out->flow_hash = take_number(object, "flow_hash");
		out->messages = take_number(object, "messages");
		out->recipients = take_number(object, "recipients");
		TAKE(object, "end", out->end);
		TAKE(object, "reason", out->reason);
		TAKE(object, "destination", out->destination);
		TAKE(object, "rule", out->rule);
		TAKE(object, "server_name", out->server_name);
		TAKE(object, "detail", out->detail);
		take_recipients(json_object_get(object, "recipient_domains"), out);
		facts = json_object_get(object, "facts");
		out->has_facts = json_is_object(facts);
		take_facts(facts, &out->facts);
		if (!strcmp(out->reason, policy_reason_name(REASON_NAME_MISMATCH)))
			strcpy(out->facts.mismatched, out->rule);
	}
	json_decref(object);
	return good;
}

/* ---- files ---- */

int events_take(struct cli *cli, struct events_source *source)
{
	const char *path;

	while (cli_value(cli, "--events", &path)) {
		if (!path || !*path)
			return cli_usage(cli, "--events: the name of a file is missing");
		if (source->count == EVENTS_FILES_MAX)
			return cli_usage(cli, "--events: more than %d files", EVENTS_FILES_MAX);
		source->paths[source->count++] = path;
	}
	if (!source->count && cli->config.events[0] && strcmp(cli->config.events, "-") != 0)
		source->paths[source->count++] = cli->config.events;
	return CLI_OK;
}

/* To where a line begins. */
static void skip_to_tail(FILE *in, uint64_t bytes)
{
	int c;

	if (fseeko(in, 0, SEEK_END) != 0 || ftello(in) <= (off_t)bytes) {
		rewind(in);
		return;
	}
	fseeko(in, -(off_t)bytes, SEEK_END);
	while ((c = getc(in)) != EOF && c != '\n')
		;
}

static void each_line(struct events_source *source, FILE *in, void (*each)(void *context, const struct event *event), void *context)
{
	static char line[EVENT_LINE_MAX + 2];
	struct event event;

	while (fgets(line, sizeof(line), in)) {
		size_t len = strlen(line);
		bool whole = len && line[len - 1] == '\n';
		for (int c = 0; !whole && len == sizeof(line) - 1 && c != EOF && c != '\n';)
			c = getc(in);
		if (whole && event_parse(line, len, &event)) {
			source->read++;
			each(context, &event);
		} else if (whole || len == sizeof(line) - 1) { /* else: one that is being written */
			source->bad++;
		}
	}
}

int events_each(struct events_source *source, void (*each)(void *context, const struct event *event), void *context)
{
	int rc = source->count ? CLI_OK : cli_fail("no events: [events] file names none; --events FILE does");

	for (size_t i = 0; i < source->count && rc == CLI_OK; i++) {
		bool input = !strcmp(source->paths[i], "-");
		FILE *in = input ? stdin : fopen(source->paths[i], "re");
		if (!in)
			return cli_fail("%s: %s; --events FILE names another one", source->paths[i], strerror(errno));
		if (source->tail_bytes)
			skip_to_tail(in, source->tail_bytes);
		each_line(source, in, each, context);
		if (ferror(in))
			rc = cli_fail("%s: cannot be read", source->paths[i]);
		if (!input)
			fclose(in);
	}
	return rc;
}
