/* agent_memory.c - rules survive the file as they were; a damaged file costs the memory and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../control/agent/memory.h"

static json_t *discovered;
static char folder[] = "/tmp/waxseal-memory-XXXXXX", path[64], error[512];

static void write_text(const char *text)
{
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void there_and_back(void **state)
{
	static const char *const lines[] = {
		"example.org level=verify match=mx.example.org:.example.org",
		"* level=encrypt on_fail=reject reason=\"two \\\"words\\\" # and more\" owner=\"J\303\266rg\"",
		"provider:lab level=may nets=10.77.0.0/16,fd77::/16",
	};
	struct ruleset *set = ruleset_new();
	uint64_t generation = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct rule *rule = rule_parse_line(lines[i], error, sizeof(error));
		if (!rule)
			fail_msg("%s", error);
		ruleset_put(set, rule);
	}
	assert_int_equal(memory_write(path, set, 77, NULL, error, sizeof(error)), 0);
	struct ruleset *again = memory_read(path, &generation, &discovered, error, sizeof(error));
	assert_non_null(again);
	assert_string_equal(error, "");
	assert_int_equal(generation, 77);
	assert_int_equal(ruleset_count(again), 3);
	for (size_t i = 0; i < 3; i++) {
		struct rule_field a[RULE_FIELDS_MAX], b[RULE_FIELDS_MAX];
		const struct rule *x = ruleset_at(set, i), *y = ruleset_at(again, i);
		assert_string_equal(rule_key(x), rule_key(y));
		size_t n = rule_fields(x, a, RULE_FIELDS_MAX);
		assert_int_equal(rule_fields(y, b, RULE_FIELDS_MAX), n);
		for (size_t f = 0; f < n; f++) {
			assert_string_equal(a[f].name, b[f].name);
			assert_string_equal(a[f].value, b[f].value);
		}
	}
	ruleset_free(set);
	ruleset_free(again);
	json_decref(discovered);
}

static void absent_and_damaged(void **state)
{
	static const char *const damaged[] = {"", "{", "[]", "{\"rules\": 3}", "{\"generation\": 1}", "\xff\xfe", "{\"rules\": {\"a\": {}, \"a\": {}}}"};
	uint64_t generation;

	(void)state;
	unlink(path);
	assert_null(memory_read(path, &generation, &discovered, error, sizeof(error)));
	assert_string_equal(error, "");
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		write_text(damaged[i]);
		assert_null(memory_read(path, &generation, &discovered, error, sizeof(error)));
		assert_non_null(strstr(error, path));
	}
}

static void a_wrong_rule_is_left_out(void **state)
{
	uint64_t generation;

	(void)state;
	write_text("{\"generation\": 5, \"rules\": {\"good.example\": {\"level\": \"may\"}, \"bad.example\": {\"level\": \"x\"},"
		   " \"worse.example\": 7, \"worst.example\": {\"level\": 7}}}");
	struct ruleset *set = memory_read(path, &generation, &discovered, error, sizeof(error));
	assert_non_null(set);
	assert_non_null(ruleset_find(set, "good.example"));
	assert_null(ruleset_find(set, "bad.example"));
	assert_null(ruleset_find(set, "worst.example"));
	assert_non_null(strstr(error, "left out"));
	ruleset_free(set);
	json_decref(discovered);
}

static void unwritable(void **state)
{
	struct ruleset *set = ruleset_new();

	(void)state;
	assert_true(memory_write("/nonexistent/rules.json", set, 1, NULL, error, sizeof(error)) < 0);
	assert_non_null(strstr(error, "/nonexistent"));
	ruleset_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(absent_and_damaged),
					   cmocka_unit_test(a_wrong_rule_is_left_out), cmocka_unit_test(unwritable)};

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/rules.json", folder);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return rc;
}
