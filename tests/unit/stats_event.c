/* stats/event.c: one line, valid JSON whatever peers put into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "stats/stats.h"

static struct stats_event example(void)
{
	struct stats_event event = {
		.at_us = 1700000000123456, .duration_us = 4500000, .flow_id = 77, .client_port = 40000, .direction = OUTBOUND,
		.end = END_UPGRADED, .reason = REASON_UPGRADED, .tls_version_index = 3, .destination = "*", .rule = "*",
		.server_name = "mx.example", .cipher = "TLS_AES_256_GCM_SHA384", .messages = 1, .recipients = 2,
		.rcpt = {{"a.example", RCPT_UPGRADED}, {"b.example", RCPT_DEFERRED}}, .bytes = {100, 200},
	};
	memcpy(event.client, (uint8_t[16]){[10] = 0xff, 0xff, 10, 77, 1, 1}, 16);
	memcpy(event.server, (uint8_t[16]){0xfd, 0x77, [15] = 1}, 16);
	return event;
}

static void test_whole_event(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	size_t len = stats_event_json(&event, line, sizeof(line));
	assert_int_equal(line[len - 1], '\n');
	json_t *json = json_loadb(line, len, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "at")), "2023-11-14T22:13:20.123Z");
	assert_string_equal(json_string_value(json_object_get(json, "client")), "10.77.1.1");
	assert_string_equal(json_string_value(json_object_get(json, "server")), "fd77::1");
	assert_string_equal(json_string_value(json_object_get(json, "end")), "upgraded");
	assert_null(json_object_get(json, "stripped"));
	assert_string_equal(json_string_value(json_object_get(json, "tls")), "TLSv1.3");
	assert_null(json_object_get(json, "result_type"));
	assert_int_equal(json_integer_value(json_object_get(json, "duration_ms")), 4500);
	json_t *domains = json_object_get(json, "recipient_domains");
	assert_int_equal(json_array_size(domains), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(domains, 1), "fate")), "deferred");
	json_decref(json);
}

static void test_stripping_is_marked(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	event.end = END_DEFERRED;
	event.reason = REASON_STRIPPED;
	event.stripped = true;
	json_t *json = json_loadb(line, stats_event_json(&event, line, sizeof(line)), 0, NULL);
	assert_true(json_is_true(json_object_get(json, "stripped")));
	assert_string_equal(json_string_value(json_object_get(json, "reason")), "stripped");
	assert_string_equal(json_string_value(json_object_get(json, "result_type")), "starttls-not-supported");
	json_decref(json);
}

static const char *member(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static void test_facts(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	size_t len = stats_event_json(&event, line, sizeof(line));
	json_t *json = json_loadb(line, len, 0, NULL);
	assert_null(json_object_get(json, "facts")); /* nothing was seen: nothing is said */
	json_decref(json);

	event.flow_hash = 4000000000u;
	event.facts = (struct stats_facts){.known = true, .offered = true, .tls = FACT_TLS_UP, .chain = CHAIN_SELF_SIGNED, .version = 0x0303,
	                                   .has_certificate = true, .names = {"mx.example", "*.mail\x1b.example"}, .names_cut = true};
	event.facts.key_sha256[31] = 0xab;
	len = stats_event_json(&event, line, sizeof(line));
	json = json_loadb(line, len, 0, NULL);
	const json_t *facts = json_object_get(json, "facts"), *names = json_object_get(facts, "names");
	assert_int_equal(json_integer_value(json_object_get(json, "flow_hash")), 4000000000u);
	assert_true(json_is_true(json_object_get(facts, "offered")) && json_is_false(json_object_get(facts, "end_to_end")));
	assert_true(json_is_true(json_object_get(facts, "names_cut")));
	assert_string_equal(member(facts, "tls"), "up");
	assert_string_equal(member(facts, "version"), "TLSv1.2");
	assert_string_equal(member(facts, "chain"), "self-signed");
	assert_int_equal(strlen(member(facts, "certificate_sha256")), 64);
	assert_string_equal(member(facts, "key_sha256") + 62, "ab");
	assert_int_equal(json_array_size(names), 2);
	assert_string_equal(json_string_value(json_array_get(names, 1)), "*.mail?.example");
	json_decref(json);

	/* The longest names there are still leave a whole line. */
	for (unsigned i = 0; i < STATS_EVENT_NAMES_MAX; i++)
		memset(event.facts.names[i], '"', sizeof(event.facts.names[i]));
	for (unsigned i = 0; i < STATS_EVENT_RECIPIENTS_MAX; i++)
		memset(event.rcpt[i].domain, '"', sizeof(event.rcpt[i].domain));
	memset(event.detail, '"', sizeof(event.detail));
	assert_true(stats_event_json(&event, line, sizeof(line)) > 0);
}

static void test_result_type(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	event.end = END_DEFERRED;
	event.reason = REASON_NAME_MISMATCH;
	size_t len = stats_event_json(&event, line, sizeof(line));
	json_t *json = json_loadb(line, len, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "reason")), "name-mismatch");
	assert_string_equal(json_string_value(json_object_get(json, "result_type")), "certificate-host-mismatch");
	json_decref(json);
}

static void test_hostile_strings(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	strcpy(event.server_name, "a\"b\\c\nd\x80\x1b[0m");
	memset(event.detail, 'x', sizeof(event.detail)); /* not terminated */
	size_t len = stats_event_json(&event, line, sizeof(line));
	assert_ptr_equal(memchr(line, '\n', len), line + len - 1);
	json_t *json = json_loadb(line, len, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "server_name")), "a\"b\\c?d??[0m");
	assert_int_equal(json_string_length(json_object_get(json, "detail")), sizeof(event.detail));
	json_decref(json);
}

static void test_no_room(void **state)
{
	struct stats_event event = example();
	char line[8192];
	(void)state;
	size_t len = stats_event_json(&event, line, sizeof(line));
	for (size_t room = 0; room < len; room += 7)
		assert_int_equal(stats_event_json(&event, line, room), 0);
	assert_int_equal(stats_event_json(&event, line, len), len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_event), cmocka_unit_test(test_stripping_is_marked), cmocka_unit_test(test_result_type),
		cmocka_unit_test(test_facts), cmocka_unit_test(test_hostile_strings), cmocka_unit_test(test_no_room),
	};
	return cmocka_run_group_tests_name("stats_event", tests, NULL, NULL);
}
