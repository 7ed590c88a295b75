/* smtp/reply.c: reply lines, capabilities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "smtp/private.h"

static void reply(const char *line, unsigned code, bool last, const char *text)
{
	struct smtp_reply_line got;
	smtp_reply_line_parse((const uint8_t *)line, strlen(line), &got);
	assert_int_equal(got.code, code);
	if (!code)
		return;
	assert_int_equal(got.last, last);
	assert_int_equal(got.text_len, strlen(text));
	assert_memory_equal(got.text, text, got.text_len);
}

static void lines(void **state)
{
	(void)state;
	reply("250 ok\r\n", 250, true, "ok");
	reply("250-first\n", 250, false, "first");
	reply("220", 220, true, "");
	reply("354\r\n", 354, true, "");
	reply("599 ", 599, true, "");
	reply("199 x", 0, false, "");
	reply("600 x", 0, false, "");
	reply("25", 0, false, "");
	reply("", 0, false, "");
	reply("2500 x", 0, false, "");
	reply("250x", 0, false, "");
	reply("2 0 x", 0, false, "");
	reply(" 250 x", 0, false, "");
}

static uint32_t capability(const char *text)
{
	return smtp_capability_parse(text, strlen(text));
}

static void capabilities(void **state)
{
	(void)state;
	assert_int_equal(capability("STARTTLS"), SMTP_CAP_STARTTLS);
	assert_int_equal(capability("starttls"), SMTP_CAP_STARTTLS);
	assert_int_equal(capability("SIZE 1000"), SMTP_CAP_SIZE);
	assert_int_equal(capability("AUTH PLAIN LOGIN"), SMTP_CAP_AUTH);
	assert_int_equal(capability("AUTH=LOGIN"), SMTP_CAP_AUTH);
	assert_int_equal(capability("ENHANCEDSTATUSCODES"), SMTP_CAP_ENHANCED);
	assert_int_equal(capability("XSTARTTLS"), 0);
	assert_int_equal(capability("STARTTLSX"), 0);
	assert_int_equal(capability("START"), 0);
	assert_int_equal(capability(""), 0);
}

static uint64_t size(const char *text)
{
	return smtp_size_parse(text, strlen(text));
}

static void sizes(void **state)
{
	(void)state;
	assert_true(size("SIZE 10240000") == 10240000);
	assert_true(size("SIZE") == 0);
	assert_true(size("SIZE x") == 0);
	assert_true(size("SIZE 99999999999999999999999") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(capabilities),
		cmocka_unit_test(sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
