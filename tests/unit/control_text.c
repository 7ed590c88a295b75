/* control/policy/text.c: what is a printable character, and that a copy is one clean line. */
#include "control_harness.h"

#include "../../control/policy/text.h"

static void characters(void **state)
{
	static const struct { const char *text; size_t len; } cases[] = {
		{"a", 1}, {" ", 1}, {"~", 1}, {"\x7f", 0}, {"\n", 0}, {"\x1b", 0}, {"", 0},
		{"\xc3\xa4", 2}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x93\xa7", 4}, {"\xf4\x8f\xbf\xbf", 4},
		{"\xc2\x9b", 0},             /* C1: a terminal's CSI */
		{"\xc2\xa0", 2}, {"\xc0\xaf", 0}, {"\xe0\x80\xaf", 0}, {"\xf0\x80\x80\xaf", 0}, /* overlong */
		{"\xed\xa0\x80", 0},         /* a surrogate */
		{"\xf4\x90\x80\x80", 0}, {"\xf8\x88\x80\x80\x80", 0}, {"\xff", 0}, {"\x80", 0},
		{"\xc3", 0}, {"\xe2\x82", 0}, {"\xf0\x9f\x93", 0}, {"\xe2" "a", 0}, /* cut short */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (text_character(cases[i].text) != cases[i].len)
			fail_msg("case %zu is %zu", i, text_character(cases[i].text));
	assert_true(text_printable(""));
	assert_true(text_printable("stra\xc3\x9f" "e 1"));
	assert_false(text_printable("a\nb"));
	assert_false(text_printable("a\xff"));
}

static void copies(void **state)
{
	char out[12];

	(void)state;
	text_clean("a\r\n\x1b[0m", out, sizeof(out));
	assert_string_equal(out, "a???[0m");
	text_clean("12345678", out, sizeof(out));
	assert_string_equal(out, "12345678");
	text_clean("12345678901234567890", out, sizeof(out));
	assert_string_equal(out, "12345678...");
	text_clean("1234567\xc3\xa4 and more", out, sizeof(out)); /* no half of a character */
	assert_string_equal(out, "1234567...");
	text_clean("\xe2\x82", out, sizeof(out));
	assert_string_equal(out, "??");
	text_clean("abcd", out, 4);
	assert_string_equal(out, "...");
	text_clean("", out, 4);
	assert_string_equal(out, "");
}

static void moments(void **state)
{
	(void)state;
	assert_int_equal(text_moment("2023-11-14T22:13:20.123Z"), 1700000000);
	assert_int_equal(text_moment("2023-11-14T22:13:20Z"), 1700000000);
	assert_int_equal(text_moment("2023-11-14T22:13:20"), 0);
	assert_int_equal(text_moment("1900-01-01T00:00:00Z"), 0);
	assert_int_equal(text_moment("yesterday"), 0);
	assert_int_equal(text_moment(""), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(characters), cmocka_unit_test(copies), cmocka_unit_test(moments)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
