/* cli_table.c - alignment, and that nothing from the network can act upon the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/table.h"

static char *printed(const struct table *table)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	table_print(table, out);
	fclose(out);
	return text;
}

static void aligns(void **state)
{
	static const char *const headings[] = {"NAME", "N", "TEXT", NULL};
	struct table *table = table_new(headings);

	(void)state;
	table_text(table, "example.org");
	table_number(table, 7);
	table_text(table, "x");
	table_text(table, "b\303\266se");
	table_number_or_blank(table, 0);
	table_text(table, "");
	table_text(table, "*");
	table_number(table, 12345);
	table_text(table, "end");
	char *text = printed(table);
	assert_string_equal(text, "NAME             N  TEXT\n"
				  "example.org      7  x\n"
				  "b\303\266se             .  -\n"
				  "*            12345  end\n");
	assert_int_equal(table_rows(table), 3);
	free(text);
	table_free(table);
}

static void flushes(void **state)
{
	static const char *const headings[] = {"NAME", "N", "TEXT", NULL};
	struct table *table = table_new(headings);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	table_text(table, "example.org"), table_number(table, 7), table_text(table, "x");
	table_flush(table, out);
	assert_int_equal(table_rows(table), 0);
	table_text(table, "a"), table_number(table, 12345), table_text(table, "y");
	table_flush(table, out);
	table_text(table, "b"), table_text(table, "n/a"), table_text(table, "z");
	table_flush(table, out);
	fclose(out);
	assert_string_equal(text, "NAME         N  TEXT\n"
				  "example.org  7  x\n"
				  "a            12345  y\n"
				  "b              n/a  z\n");
	free(text);
	table_free(table);
}

static void cleans(void **state)
{
	static const char *const headings[] = {"A", NULL};
	struct table *table = table_new(headings);

	(void)state;
	table_text(table, "\033[2Jx\r\n\x7f\302\233y\t\303\251");
	char *text = printed(table);
	assert_null(strpbrk(text, "\033\r\t\x7f"));
	assert_non_null(strstr(text, "?[2Jx???"));
	assert_null(strstr(text, "\302\233"));
	free(text);
	table_free(table);
}

static void empty(void **state)
{
	static const char *const headings[] = {"A", "B", NULL};
	struct table *table = table_new(headings);

	(void)state;
	char *text = printed(table);
	assert_string_equal(text, "A  B\n");
	free(text);
	table_free(table);
}

static void ages(void **state)
{
	char out[TABLE_AGE_MAX];

	(void)state;
	assert_string_equal(table_age(0, out), "0 s");
	assert_string_equal(table_age(119, out), "119 s");
	assert_string_equal(table_age(120, out), "2 min");
	assert_string_equal(table_age(7200, out), "2 h");
	assert_string_equal(table_age(86400 * 40, out), "40 d");
	table_age(UINT64_MAX, out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(aligns), cmocka_unit_test(flushes),
		cmocka_unit_test(cleans), cmocka_unit_test(empty), cmocka_unit_test(ages)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
