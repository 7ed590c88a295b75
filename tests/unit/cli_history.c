/* cli_history.c - what the rules were after each generation, and what was changed beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/history.h"

/* 3: a made; 4: a changed, b made; 7: b deleted. */
static const char entries_text[] =
	"[{'generation':3,'changes':{'w:policy:a':{'before':null,'after':{'level':'may'}}}},"
	" {'generation':4,'changes':{'w:policy:a':{'before':{'level':'may'},'after':{'level':'encrypt'}},"
	"                            'w:policy:b':{'before':null,'after':{'level':'block'}}}},"
	" {'generation':7,'changes':{'w:policy:b':{'before':{'level':'block','owner':'x'},'after':null}}}]";

static json_t *json(const char *text)
{
	char copy[2048];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *p = copy; (p = strchr(p, '\''));)
		*p = '"';
	json_t *value = json_loads(copy, JSON_DECODE_ANY, NULL);
	assert_non_null(value);
	return value;
}

static void state_is(const char *now_text, uint64_t generation, const char *expected)
{
	json_t *entries = json(entries_text), *now = json(now_text), *wanted = json(expected);
	json_t *state = history_state(entries, now, generation);

	if (!json_equal(state, wanted)) {
		fprintf(stderr, "%s\n", json_dumps(state, 0));
		fail();
	}
	json_decref(entries);
	json_decref(now);
	json_decref(wanted);
	json_decref(state);
}

static void test_states(void **state)
{
	static const char now[] = "{'w:policy:a':{'level':'encrypt'},'w:policy:c':{'level':'none'}}";
	(void)state;
	state_is(now, 7, now);
	state_is(now, 6, "{'w:policy:a':{'level':'encrypt'},'w:policy:b':{'level':'block'},'w:policy:c':{'level':'none'}}");
	state_is(now, 3, "{'w:policy:a':{'level':'may'},'w:policy:c':{'level':'none'}}");
	state_is(now, 2, "{'w:policy:c':{'level':'none'}}");
	/* Edited by hand since, or gone with the hash: the generation left what it left. */
	state_is("{'w:policy:a':{'level':'none'}}", 7, "{'w:policy:a':{'level':'encrypt'}}");
	state_is("{'w:policy:a':'is not a hash'}", 4, "{'w:policy:a':{'level':'encrypt'},'w:policy:b':{'level':'block'}}");
}

static void test_edited(void **state)
{
	json_t *entries = json(entries_text), *now = json("{'w:policy:a':{'level':'encrypt'},'w:policy:c':{'level':'none'}}"), *edited;
	(void)state;
	edited = history_edited(entries, now);
	assert_int_equal(json_object_size(edited), 0);
	json_decref(edited);
	json_object_set_new(now, "w:policy:b", json("{'level':'block'}"));
	json_object_del(now, "w:policy:a");
	edited = history_edited(entries, now);
	assert_int_equal(json_object_size(edited), 2);
	assert_true(json_is_null(json_object_get(edited, "w:policy:b")) && json_is_object(json_object_get(edited, "w:policy:a")));
	json_decref(edited);
	json_decref(entries);
	json_decref(now);
}

static void gaps_are(uint64_t from, uint64_t to, const char *expected)
{
	json_t *entries = json(entries_text);
	char *text = history_gaps(entries, from, to);

	assert_string_equal(text, expected);
	free(text);
	json_decref(entries);
}

static void test_gaps(void **state)
{
	(void)state;
	gaps_are(4, 7, "5 to 6");
	gaps_are(2, 4, "");
	gaps_are(0, 10, "1 to 2, 5 to 6, 8 to 10");
	gaps_are(7, 7, "");
	gaps_are(7, 8, "8");
	gaps_are(5, 6, "6");
}

static void reach(uint64_t generation, uint64_t last, const char *wrong)
{
	json_t *entries = json(entries_text);
	char error[512] = "";

	assert_int_equal(history_reaches(entries, generation, last, error, sizeof(error)), wrong ? -1 : 0);
	if (wrong)
		assert_non_null(strstr(error, wrong));
	json_decref(entries);
}

static void test_reach(void **state)
{
	(void)state;
	reach(7, 7, NULL);
	reach(2, 7, NULL);
	reach(1, 7, "begins with 3");
	reach(8, 7, "the last one is 7");
}

static void test_entries_that_are_none(void **state)
{
	struct rule_field good[] = {{"generation", "5"}, {"time", "1700000000"}, {"author", "a\x1b[2J"}, {"what", "set"},
				    {"changes", "{\"k\":{\"before\":null,\"after\":null}}"}};
	static const char *const bad[] = {"", "[]", "{", "{\"k\":1}", "{\"k\":{\"before\":1}}", "\xff"};
	(void)state;
	json_t *entry = history_entry(good, 5);
	assert_int_equal(json_integer_value(json_object_get(entry, "generation")), 5);
	assert_string_equal(json_string_value(json_object_get(entry, "author")), "a?[2J");
	json_decref(entry);
	assert_null(history_entry(good, 4));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		good[4].value = bad[i];
		assert_null(history_entry(good, 5));
	}
	good[4].value = "{}";
	good[0].value = "x";
	assert_null(history_entry(good, 5));
}

static void test_diff_in_order_of_key(void **state)
{
	json_t *a = json("{'w:policy:b.example':{'level':'may'},'w:policy:a.example':{'level':'may'}}");
	json_t *b = json("{'w:policy:a.example':{'level':'may','reason':'two words'},'w:provider:p':{'level':'none'}}");
	char *text = NULL;
	size_t len;
	(void)state;
	FILE *out = open_memstream(&text, &len);
	assert_int_equal(history_print_diff(a, b, "w:", out), 3);
	fclose(out);
	assert_string_equal(text, "- a.example level=may\n+ a.example level=may reason=\"two words\"\n- b.example level=may\n+ provider:p level=none\n");
	free(text);
	json_decref(a);
	json_decref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states), cmocka_unit_test(test_edited), cmocka_unit_test(test_gaps), cmocka_unit_test(test_reach),
		cmocka_unit_test(test_entries_that_are_none), cmocka_unit_test(test_diff_in_order_of_key),
	};
	return cmocka_run_group_tests_name("cli_history", tests, NULL, NULL);
}
