/* control/policy/ruleset.c: one rule a key, in order; and text files, line by line. */
#include "control_harness.h"

static void put_find_remove(void **state)
{
	struct ruleset *set = H_SET("b.example may", "a.example may", "* none", "provider:p nets=10.0.0.0/8");

	(void)state;
	assert_int_equal(ruleset_count(set), 4);
	assert_string_equal(rule_key(ruleset_at(set, 0)), "*");
	assert_string_equal(rule_key(ruleset_at(set, 1)), "a.example");
	assert_string_equal(rule_key(ruleset_at(set, 3)), "provider:p");
	assert_null(ruleset_at(set, 4));
	ruleset_put(set, h_rule("a.example encrypt")); /* replaces */
	assert_int_equal(ruleset_count(set), 4);
	assert_string_equal(h_print(ruleset_find(set, "a.example")), "a.example level=encrypt");
	assert_true(ruleset_remove(set, "a.example"));
	assert_false(ruleset_remove(set, "a.example"));
	assert_null(ruleset_find(set, "a.example"));
	assert_string_equal(rule_key(ruleset_at(set, 1)), "b.example");
	assert_int_equal(ruleset_count(set), 3);
	ruleset_free(set);
	ruleset_free(NULL);
}

/* Growth, and holes in the middle of runs. */
static void many(void **state)
{
	struct ruleset *set = ruleset_new();
	char line[64];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "d%d.example may", i);
		ruleset_put(set, h_rule(line));
	}
	for (int i = 0; i < 5000; i += 3) {
		snprintf(line, sizeof(line), "d%d.example", i);
		assert_true(ruleset_remove(set, line));
	}
	for (int i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "d%d.example", i);
		assert_int_equal(ruleset_find(set, line) != NULL, i % 3 != 0);
	}
	for (size_t i = 1; i < ruleset_count(set); i++)
		assert_true(strcmp(rule_key(ruleset_at(set, i - 1)), rule_key(ruleset_at(set, i))) < 0);
	ruleset_free(set);
}

/* ---- files ---- */

static char reported[4096];

static void report(void *context, const char *message)
{
	(void)context;
	assert_null(strchr(message, '\n'));
	strcat(strcat(reported, message), "\n");
}

static int read_text(struct ruleset *set, const char *text, size_t len)
{
	char path[] = "/tmp/waxseal-rules-XXXXXX";
	int fd = mkstemp(path), bad;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
	reported[0] = '\0';
	bad = ruleset_read(set, path, report, NULL);
	unlink(path);
	return bad;
}

static void a_file_is_read(void **state)
{
	static const char text[] = "# rules\n\nexample.org encrypt\r\n\t* may # all\nexample.net none";
	struct ruleset *set = H_SET("example.org may", "example.com may");

	(void)state;
	assert_int_equal(read_text(set, text, strlen(text)), 0);
	assert_string_equal(reported, "");
	assert_int_equal(ruleset_count(set), 4);
	assert_string_equal(h_print(ruleset_find(set, "example.org")), "example.org level=encrypt");
	ruleset_free(set);
}

static void each_bad_line_is_named_and_the_others_are_read(void **state)
{
	static const char text[] = "example.org encript\nexample.net may\nExample.NET none\n\nnul\0 may\n* may x\n";
	struct ruleset *set = ruleset_new();

	(void)state;
	assert_int_equal(read_text(set, text, sizeof(text) - 1), 4);
	assert_non_null(strstr(reported, ":1: example.org: level=encript"));
	assert_non_null(strstr(reported, ":3: example.net: stands in this file already"));
	assert_non_null(strstr(reported, ":5: a NUL byte"));
	assert_non_null(strstr(reported, ":6: *: x: not an attribute"));
	assert_int_equal(ruleset_count(set), 1);
	assert_string_equal(h_print(ruleset_find(set, "example.net")), "example.net level=may");
	ruleset_free(set);
}

static void files_that_cannot_be_read(void **state)
{
	struct ruleset *set = ruleset_new();

	(void)state;
	reported[0] = '\0';
	assert_int_equal(ruleset_read(set, "/nonexistent/rules", report, NULL), -ENOENT);
	assert_string_equal(reported, "/nonexistent/rules: cannot open: No such file or directory\n");
	reported[0] = '\0';
	assert_int_equal(ruleset_read(set, "/", report, NULL), -EISDIR);
	assert_string_equal(reported, "/: cannot read: Is a directory\n");
	ruleset_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_find_remove), cmocka_unit_test(many), cmocka_unit_test(a_file_is_read),
		cmocka_unit_test(each_bad_line_is_named_and_the_others_are_read), cmocka_unit_test(files_that_cannot_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
