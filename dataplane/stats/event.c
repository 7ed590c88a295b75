/*
 * event.c - one line of JSON for each session: who, with whom, how it ended, and why.
 *
 * Strings come from peers. Whatever is not printable ASCII becomes '?' before jansson escapes the rest, so
 * that a line is one line in every viewer, and is always valid.
 */
#include "stats.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *text(const char *value, size_t max)
{
	char clean[STATS_NAME_MAX];
	size_t len = 0;

	for (; len < max && len < sizeof(clean) - 1 && value[len]; len++)
		clean[len] = value[len] >= 0x20 && value[len] < 0x7f ? value[len] : '?';
	return json_stringn_nocheck(clean, len);
}

static void set_text(json_t *object, const char *name, const char *value, size_t max)
{
	if (*value)
		json_object_set_new_nocheck(object, name, text(value, max));
}
#define SET_TEXT(object, name, field) set_text(object, name, field, sizeof(field))

static void set_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new_nocheck(object, name, json_integer((json_int_t)value));
}

static void set_address(json_t *object, const char *name, const uint8_t address[16])
{
	char printed[STATS_ADDRESS_MAX];

	json_object_set_new_nocheck(object, name, json_string_nocheck(stats_address_text(address, printed)));
}

static void set_time(json_t *object, uint64_t at_us)
{
	char printed[64];
	time_t seconds = (time_t)(at_us / 1000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	size_t len = strftime(printed, sizeof(printed), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(printed + len, sizeof(printed) - len, ".%03uZ", (unsigned)(at_us / 1000 % 1000));
	json_object_set_new_nocheck(object, "at", json_string_nocheck(printed));
}

static void set_recipients(json_t *object, const struct stats_event *event)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX && event->rcpt[i].domain[0]; i++) {
		json_t *one = json_object();
		SET_TEXT(one, "domain", event->rcpt[i].domain);
		if (event->rcpt[i].fate < STATS_RECIPIENTS)
			json_object_set_new_nocheck(one, "fate", json_string_nocheck(stats_recipient_name(event->rcpt[i].fate)));
		json_array_append_new(list, one);
	}
	json_object_set_new_nocheck(object, "recipient_domains", list);
}

static void set_digest(json_t *object, const char *name, const uint8_t digest[32])
{
	char hex[2 * 32 + 1];

	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	json_object_set_new_nocheck(object, name, json_string_nocheck(hex));
}

static void set_facts(json_t *object, const struct stats_facts *facts)
{
	json_t *known, *names;

	if (!facts->known)
		return;
	known = json_object();
	json_object_set_new_nocheck(known, "offered", json_boolean(facts->offered));
	json_object_set_new_nocheck(known, "end_to_end", json_boolean(facts->end_to_end));
	json_object_set_new_nocheck(known, "tls", json_string_nocheck(policy_tls_name((enum policy_tls)facts->tls)));
	if (facts->tls == FACT_TLS_UP) {
		json_object_set_new_nocheck(known, "version", json_string_nocheck(stats_version_name(stats_version_index(facts->version))));
		json_object_set_new_nocheck(known, "chain", json_string_nocheck(policy_chain_name((enum policy_chain)facts->chain)));
	}
	if (facts->has_certificate) {
		set_digest(known, "certificate_sha256", facts->certificate_sha256);
		set_digest(known, "key_sha256", facts->key_sha256);
		names = json_array();
		for (unsigned i = 0; i < STATS_EVENT_NAMES_MAX && facts->names[i][0]; i++)
			json_array_append_new(names, text(facts->names[i], sizeof(facts->names[i])));
		json_object_set_new_nocheck(known, "names", names);
		if (facts->names_cut)
			json_object_set_new_nocheck(known, "names_cut", json_true());
	}
	json_object_set_new_nocheck(object, "facts", known);
}

/* With its type of RFC 8460, section 4.3, where it is a failure. */
static void set_reason(json_t *object, enum policy_reason reason)
{
	const char *type = policy_result_type(reason);

	json_object_set_new_nocheck(object, "reason", json_string_nocheck(policy_reason_name(reason)));
	if (type)
		json_object_set_new_nocheck(object, "result_type", json_string_nocheck(type));
}

size_t stats_event_json(const struct stats_event *event, char *out, size_t out_len)
{
	json_t *object = json_object();
	bool tls = event->end == END_SEALED || event->end == END_UPGRADED;

	set_time(object, event->at_us);
	set_number(object, "flow", event->flow_id);
	json_object_set_new_nocheck(object, "direction", json_string_nocheck(event->direction == INBOUND ? "inbound" : "outbound"));
	set_address(object, "client", event->client);
	set_number(object, "client_port", event->client_port);
	set_address(object, "server", event->server);
	SET_TEXT(object, "server_name", event->server_name);
	SET_TEXT(object, "destination", event->destination);
	json_object_set_new_nocheck(object, "end", json_string_nocheck(stats_end_name(event->end < STATS_ENDS ? event->end : END_UNKNOWN)));
	if (event->end != END_NOTHING && event->end != END_UNKNOWN && event->reason < POLICY_REASONS)
		set_reason(object, event->reason);
	if (event->stripped)
		json_object_set_new_nocheck(object, "stripped", json_true());
	SET_TEXT(object, "rule", event->rule);
	SET_TEXT(object, "detail", event->detail);
	if (tls && event->tls_version_index < STATS_VERSIONS)
		json_object_set_new_nocheck(object, "tls", json_string_nocheck(stats_version_name(event->tls_version_index)));
	SET_TEXT(object, "cipher", event->cipher);
	set_facts(object, &event->facts);
	set_number(object, "flow_hash", event->flow_hash);
	set_number(object, "messages", event->messages);
	set_number(object, "recipients", event->recipients);
	set_recipients(object, event);
	set_number(object, "bytes_client", event->bytes[CLIENT]);
	set_number(object, "bytes_server", event->bytes[SERVER]);
	set_number(object, "duration_ms", event->duration_us / 1000);

	size_t len = json_dumpb(object, out, out_len, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(object);
	if (len == 0 || len >= out_len)
		return 0;
	out[len] = '\n';
	return len + 1;
}
