/* smtp/line.c: one line out of pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "smtp/smtp.h"

static struct smtp_framer framer;

static enum smtp_framing input(const char *text, size_t *consumed)
{
	return smtp_framer_input(&framer, (const uint8_t *)text, strlen(text), consumed);
}

static void pieces(void **state)
{
	size_t n;
	(void)state;
	smtp_framer_reset(&framer);
	assert_int_equal(input("EH", &n), SMTP_LINE_PARTIAL);
	assert_int_equal(n, 2);
	assert_int_equal(input("", &n), SMTP_LINE_PARTIAL);
	assert_int_equal(n, 0);
	assert_int_equal(input("LO x\r", &n), SMTP_LINE_PARTIAL);
	assert_int_equal(input("\nMAIL", &n), SMTP_LINE_WHOLE);
	assert_int_equal(n, 1);
	assert_int_equal(framer.len, 8);
	assert_memory_equal(framer.line, "EHLO x\r\n", 8);
}

static void a_whole_line_stands_until_reset(void **state)
{
	size_t n;
	(void)state;
	smtp_framer_reset(&framer);
	assert_int_equal(input("A\nB\n", &n), SMTP_LINE_WHOLE);
	assert_int_equal(n, 2);
	assert_int_equal(input("B\n", &n), SMTP_LINE_WHOLE);
	assert_int_equal(n, 0);
	assert_memory_equal(framer.line, "A\n", 2);
	smtp_framer_reset(&framer);
	assert_int_equal(input("B\n", &n), SMTP_LINE_WHOLE);
	assert_memory_equal(framer.line, "B\n", 2);
}

static void the_longest_line_fits_and_no_longer_one(void **state)
{
	static char text[SMTP_COMMAND_MAX + 2];
	size_t n;
	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[SMTP_COMMAND_MAX - 1] = '\n';
	smtp_framer_reset(&framer);
	assert_int_equal(input(text, &n), SMTP_LINE_WHOLE);
	assert_int_equal(n, SMTP_COMMAND_MAX);
	text[SMTP_COMMAND_MAX - 1] = 'a';
	text[SMTP_COMMAND_MAX] = '\n';
	smtp_framer_reset(&framer);
	assert_int_equal(input(text, &n), SMTP_LINE_TOO_LONG);
	assert_int_equal(n, SMTP_COMMAND_MAX);
	assert_int_equal(input("\n", &n), SMTP_LINE_TOO_LONG);
	assert_int_equal(n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces),
		cmocka_unit_test(a_whole_line_stands_until_reset),
		cmocka_unit_test(the_longest_line_fits_and_no_longer_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
