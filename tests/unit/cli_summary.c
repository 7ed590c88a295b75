/* cli_summary.c - the counters as answers, from destinations as waxseald tells them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/summary.h"

static char *text_of(void (*print)(const json_t *, FILE *), const char *json)
{
	json_t *destinations = json_loads(json, 0, NULL);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(destinations);
	print(destinations, out);
	fclose(out);
	json_decref(destinations);
	return text;
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is missing in:\n%s", part, text);
}

static const char two[] =
	"[{\"name\": \"*\", \"sessions.outbound.clear\": 3, \"sessions.inbound.clear\": 1, \"sessions.outbound.sealed\": 10,"
	"  \"sessions.outbound.deferred\": 5, \"recipients.clear\": 7, \"recipients.upgraded\": 2, \"messages\": 9,"
	"  \"reasons.not-offered\": 4, \"reasons.clear-allowed\": 4, \"would.defer\": 4},"
	" {\"name\": \"google\", \"sessions.outbound.upgraded\": 6, \"recipients.upgraded\": 6, \"reasons.upgraded\": 6,"
	"  \"reasons.name-mismatch\": 1, \"reasons.nonsense\": -1}]";

static void sums(void **state)
{
	json_t *d = json_pack("{s:i, s:i, s:i, s:s}", "sessions.outbound.clear", 3, "sessions.inbound.clear", 4, "clear", 9, "sessions.x.clear", "1");

	(void)state;
	assert_int_equal(summary_sum(d, "sessions.", ".clear"), 7);
	assert_int_equal(summary_sum(d, "sessions.", ".sealed"), 0);
	json_decref(d);
}

static void by_destination(void **state)
{
	char *text = text_of(summary_destinations, two);

	(void)state;
	has(text, "DESTINATION  SEALED  UPGRADED  CLEAR  DEFERRED  REJECTED  CUT  RECIPIENTS  MESSAGES\n");
	has(text, "*                10         .      4         5         .    .           9         9\n");
	has(text, "google            .         6      .         .         .    .           6         .\n");
	has(text, "(all)            10         6      4         5         .    .          15         9\n");
	free(text);
}

static void failures(void **state)
{
	char *text = text_of(summary_failures, two);

	(void)state;
	has(text, "server does not offer STARTTLS");
	has(text, "certificate is for another name");
	assert_null(strstr(text, "policy allows"));
	free(text);
	text = text_of(summary_failures, "[{\"name\": \"*\", \"reasons.upgraded\": 3}]");
	assert_string_equal(text, "");
	free(text);
}

static void what_goes_in_clear(void **state)
{
	char *text = text_of(summary_clear, two);

	(void)state;
	has(text, "Still unencrypted: 4 of 20 sessions that carried mail (20.0 %), 7 recipients.\n");
	has(text, "policy allows clear text (4), server does not offer STARTTLS (4); mode observe let 4 pass");
	assert_null(strstr(text, "google"));
	free(text);
	text = text_of(summary_clear, "[]");
	has(text, "No mail has passed yet.");
	free(text);
	text = text_of(summary_clear, "[{\"name\": \"*\", \"sessions.outbound.sealed\": 2}]");
	has(text, "all of 2 sessions were encrypted");
	free(text);
}

static void one(void **state)
{
	char *text = text_of(summary_one, "{\"name\": \"x\", \"versions.TLSv1.3\": 12, \"bytes\": 0}");

	(void)state;
	has(text, "x\n");
	has(text, "versions.TLSv1.3     12\n");
	assert_null(strstr(text, "bytes"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(sums), cmocka_unit_test(by_destination), cmocka_unit_test(failures),
					   cmocka_unit_test(what_goes_in_clear), cmocka_unit_test(one)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
