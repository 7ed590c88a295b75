/* cli_events.c - lines that stats/event.c writes, read back; and what is no event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../control/cli/events.h"

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD "{\"at\":\"2023-11-14T22:13:20.123Z\",\"client\":\"10.77.1.1\",\"server\":\"fd77::1\""

static bool parse(const char *line, struct event *event)
{
	return event_parse(line, strlen(line), event);
}

static void test_whole_event(void **state)
{
	struct event e;
	char text[46];
	(void)state;
	assert_true(parse(HEAD ",\"flow\":77,\"direction\":\"inbound\",\"server_name\":\"mx.example\",\"destination\":\"google\",\"end\":\"deferred\","
			       "\"reason\":\"name-mismatch\",\"rule\":\"a.example\",\"detail\":\"d\",\"stripped\":true,\"facts\":{\"offered\":true,"
			       "\"end_to_end\":false,\"tls\":\"up\",\"version\":\"TLSv1.2\",\"chain\":\"self-signed\",\"certificate_sha256\":\"" DIGEST "\","
			       "\"key_sha256\":\"" DIGEST "\",\"names\":[\"mx.example\",\"*.b.example\"],\"names_cut\":true},\"flow_hash\":4000000000,"
			       "\"messages\":1,\"recipients\":2,\"recipient_domains\":[{\"domain\":\"a.example\",\"fate\":\"upgraded\"},"
			       "{\"domain\":\"b.example\",\"fate\":\"deferred\"}]}\n", &e));
	assert_int_equal(e.at_s, 1700000000);
	assert_true(e.inbound && e.stripped && e.has_facts && e.facts.offered && !e.facts.end_to_end && e.facts.names_cut);
	assert_string_equal(event_address(e.client, text), "10.77.1.1");
	assert_string_equal(event_address(e.server, text), "fd77::1");
	assert_int_equal(e.flow_hash, 4000000000u);
	assert_int_equal(e.facts.tls, FACT_TLS_UP);
	assert_int_equal(e.facts.version, 0x0303);
	assert_int_equal(e.facts.chain, CHAIN_SELF_SIGNED);
	assert_true(e.facts.has_certificate && e.facts.certificate_sha256[1] == 0x11 && e.facts.key_sha256[31] == 0xff);
	assert_int_equal(e.facts.name_count, 2);
	assert_string_equal(e.facts.names[1], "*.b.example");
	assert_string_equal(e.facts.mismatched, "a.example");
	assert_int_equal(e.rcpt_count, 2);
	assert_string_equal(e.rcpt[1].fate, "deferred");
}

static void test_what_is_missing_is_empty(void **state)
{
	struct event e;
	(void)state;
	assert_true(parse(HEAD "}", &e));
	assert_true(!e.inbound && !e.has_facts && !e.rcpt_count && !e.end[0] && !e.facts.has_certificate);
	assert_true(parse(HEAD ",\"facts\":{\"tls\":\"perhaps\",\"chain\":7,\"version\":\"TLSv9\",\"certificate_sha256\":\"00\"},\"flow_hash\":-1}", &e));
	assert_true(e.has_facts && !e.facts.offered && e.facts.tls == FACT_TLS_NONE && e.facts.chain == CHAIN_UNSEEN && e.facts.version == 0);
	assert_false(e.facts.has_certificate);
	assert_int_equal(e.flow_hash, 0);
}

static void test_hostile_text_is_bounded_and_clean(void **state)
{
	char line[2048], longest[1024];
	struct event e;
	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	snprintf(line, sizeof(line), HEAD ",\"server_name\":\"\\u001b[2J%s\",\"recipient_domains\":[{\"domain\":\"a\\nb\"}]}", longest);
	assert_true(parse(line, &e));
	assert_int_equal(strlen(e.server_name), 63);
	assert_memory_equal(e.server_name, "?[2Jxxx", 7);
	assert_string_equal(e.rcpt[0].domain, "a?b");
}

static void test_what_is_no_event(void **state)
{
	static const char *const bad[] = {
		"", "{", "null", "[]", "\"x\"", "{}", "{\"at\":1}", "{\"at\":\"2023-11-14T22:13:20.123Z\"}",
		"{\"at\":\"yesterday\",\"client\":\"10.0.0.1\",\"server\":\"10.0.0.2\"}",
		"{\"at\":\"2023-11-14T22:13:20.123Z\",\"client\":\"10.0.0.1\",\"server\":\"x\"}", HEAD "} x", HEAD ",\"at\":1}", "\xff",
	};
	struct event e;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(parse(bad[i], &e));
}

static unsigned seen;
static void count(void *context, const struct event *event)
{
	(void)context;
	(void)event;
	seen++;
}

static void reads(const char *text, uint64_t tail, unsigned events, unsigned bad)
{
	struct events_source source = {.count = 1, .tail_bytes = tail};
	char path[] = "/tmp/waxseal-events-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	source.paths[0] = path;
	seen = 0;
	assert_int_equal(events_each(&source, count, NULL), CLI_OK);
	unlink(path);
	assert_int_equal(seen, events);
	assert_int_equal(source.read, events);
	assert_int_equal(source.bad, bad);
}

static void test_files(void **state)
{
	static const char line[] = HEAD "}\n";
	char *text = calloc(1, 3 * EVENT_LINE_MAX);
	(void)state;
	reads("", 0, 0, 0);
	reads(HEAD "}\nx\n" HEAD "}\n" HEAD, 0, 2, 1); /* the last one is being written */
	reads(HEAD "}\n" HEAD "}\n" HEAD "}\n", sizeof(line) + 3, 1, 0); /* from where a line begins */
	reads(HEAD "}\n", 10000, 1, 0);
	memset(text, 'y', 2 * EVENT_LINE_MAX);
	strcat(text, "\n" HEAD "}\n");
	reads(text, 0, 1, 1); /* one too long is one line */
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_event), cmocka_unit_test(test_what_is_missing_is_empty),
		cmocka_unit_test(test_hostile_text_is_bounded_and_clean), cmocka_unit_test(test_what_is_no_event), cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests_name("cli_events", tests, NULL, NULL);
}
