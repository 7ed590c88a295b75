/* smtp/command.c: verbs, paths, BDAT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "smtp/private.h"

static struct smtp_command parse_bytes(const char *line, size_t len)
{
	struct smtp_command command;
	smtp_command_parse((const uint8_t *)line, len, &command);
	return command;
}

static struct smtp_command parse(const char *line)
{
	return parse_bytes(line, strlen(line));
}

static void parsed(const char *line, enum smtp_verb verb, const char *args)
{
	struct smtp_command command = parse(line);
	assert_int_equal(command.verb, verb);
	assert_int_equal(command.args_len, strlen(args));
	assert_memory_equal(command.args, args, command.args_len);
	assert_false(command.odd);
}

static void lines(void **state)
{
	(void)state;
	parsed("EHLO client.example\r\n", SMTP_EHLO, "client.example");
	parsed("ehlo  a b \t\n", SMTP_EHLO, "a b");
	parsed("QUIT", SMTP_QUIT, "");
	parsed("\r\n", SMTP_UNKNOWN, "");
	parsed("", SMTP_UNKNOWN, "");
	parsed("NOOPS x", SMTP_UNKNOWN, "x");
	parsed("EHLO:x", SMTP_UNKNOWN, "");
	parsed("soml FROM:<>", SMTP_SEND, "FROM:<>");
	parsed("atrn a.example", SMTP_TURN, "a.example");
}

static void spellings_of_what_decides(void **state)
{
	(void)state;
	parsed(" \tmail from:<>\r\n", SMTP_MAIL, "from:<>");
	parsed("MAIL\tFROM:<>", SMTP_MAIL, "FROM:<>");
	parsed("MAILFROM:<a@b>", SMTP_MAIL, "FROM:<a@b>");
	parsed("RCPTTO:<a@b>", SMTP_RCPT, "TO:<a@b>");
	parsed("DATA:", SMTP_DATA, ":");
	parsed("STARTTLSX", SMTP_STARTTLS, "X");
	parsed("X-EXPS GSSAPI", SMTP_AUTH, "GSSAPI");
	parsed("XCLIEN", SMTP_UNKNOWN, "");
}

static void odd_lines(void **state)
{
	(void)state;
	assert_true(parse("NOOP a\rb\r\n").odd);
	assert_true(parse("NOOP\r\r\n").odd);
	assert_true(parse_bytes("NO\0OP\r\n", 7).odd);
	assert_true(parse("VRFY \xc3\xbc\r\n").odd);
	assert_false(smtp_line_ambiguous((const uint8_t *)"VRFY \xc3\xbc\r\n", 9));
	assert_false(parse("NOOP\n").odd);
}

static void which_verbs_decide(void **state)
{
	static const enum smtp_verb passing[] = {SMTP_EHLO, SMTP_HELO, SMTP_LHLO, SMTP_STARTTLS, SMTP_RSET, SMTP_NOOP, SMTP_VRFY,
	                                         SMTP_EXPN, SMTP_HELP, SMTP_QUIT, SMTP_ETRN, SMTP_UNKNOWN};
	unsigned deciding = 0;
	(void)state;
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		assert_false(smtp_verb_decides(passing[i]));
	for (enum smtp_verb v = 0; v < SMTP_VERBS; v++) {
		deciding += smtp_verb_decides(v);
		struct smtp_command command = parse(smtp_verb_name(v));
		assert_int_equal(command.verb, v); /* "unknown" is no verb either */
	}
	assert_int_equal(deciding, SMTP_VERBS - sizeof(passing) / sizeof(passing[0]));
	assert_int_equal(smtp_verb_after(SMTP_DATA), SMTP_AFTER_REPLY);
	assert_int_equal(smtp_verb_after(SMTP_BDAT), SMTP_AFTER_CHUNK);
	assert_int_equal(smtp_verb_after(SMTP_UNKNOWN), SMTP_AFTER_LINES);
}

static void path(const char *line, const char *domain)
{
	struct smtp_command command = parse(line);
	char got[SMTP_DOMAIN_MAX];
	assert_int_equal(smtp_path_domain(&command, got), 0);
	assert_string_equal(got, domain);
}

static void no_path(const char *line)
{
	struct smtp_command command = parse(line);
	char got[SMTP_DOMAIN_MAX];
	assert_int_equal(smtp_path_domain(&command, got), -EINVAL);
	assert_string_equal(got, "");
}

static void paths(void **state)
{
	(void)state;
	path("RCPT TO:<user@Example.ORG>\r\n", "example.org");
	path("rcpt to: <user@example.org.> NOTIFY=NEVER", "example.org");
	path("RCPT TO :<user@example.org>", "example.org");
	path("RCPT TO:user@example.org ORCPT=x@y", "example.org");
	path("MAIL FROM:<> SIZE=5", "");
	path("RCPT TO:<postmaster>", "");
	path("RCPT TO:<\"a@b c>\"@example.org>", "example.org");
	path("RCPT TO:<\"a\\\"@x\"@example.org>", "example.org");
	path("RCPT TO:<@one.example,@two.example:u@three.example>", "three.example");
	path("RCPT TO:<a@one.example@two.example>", "two.example");
	path("RCPT TO:<a@[192.0.2.1]>", "[192.0.2.1]");
	path("RCPT TO:<a@[IPv6:2001:db8::1]>", "[ipv6:2001:db8::1]");
	path("RCPT TO:<a@b\xc3\xbc.example>", "b\xc3\xbc.example");
}

static void what_is_no_path(void **state)
{
	char line[SMTP_DOMAIN_MAX + 32];
	(void)state;
	no_path("RCPT\r\n");
	no_path("RCPT TO\r\n");
	no_path("RCPT TO:\r\n");
	no_path("RCPT <a@b.example>");
	no_path("RCPT TO:<a@b.example");
	no_path("RCPT TO:<a@b.example>x");
	no_path("RCPT TO:<a@>");
	no_path("RCPT TO:<a@.>");
	no_path("RCPT TO:<a@.b.example>");
	no_path("RCPT TO:<a@b.example(comment)>");
	no_path("RCPT TO:<a@b .example>");
	no_path("RCPT TO:<\"a@b.example>");
	no_path("RCPT TO:<@one.example>");
	no_path("RCPT TO:<a@b:c>");
	memset(line, 'd', sizeof(line));
	memcpy(line, "RCPT TO:<a@", 11);
	strcpy(line + 11 + SMTP_DOMAIN_MAX, ">");
	no_path(line);
	line[11 + SMTP_DOMAIN_MAX - 1] = '>';
	line[11 + SMTP_DOMAIN_MAX] = 0;
	struct smtp_command command = parse(line);
	char got[SMTP_DOMAIN_MAX];
	assert_int_equal(smtp_path_domain(&command, got), 0);
	assert_int_equal(strlen(got), SMTP_DOMAIN_MAX - 1);
}

static void chunk(const char *line, int error, uint64_t size, bool last)
{
	struct smtp_command command = parse(line);
	uint64_t got;
	bool got_last;
	assert_int_equal(smtp_bdat_parse(&command, &got, &got_last), error);
	assert_true(got == size);
	assert_int_equal(got_last, last);
}

static void chunks(void **state)
{
	(void)state;
	chunk("BDAT 0", 0, 0, false);
	chunk("BDAT 86 LAST\r\n", 0, 86, true);
	chunk("bdat 1  last", 0, 1, true);
	chunk("BDAT 18446744073709551615", 0, UINT64_MAX, false);
	chunk("BDAT 18446744073709551616", -EINVAL, 0, false);
	chunk("BDAT", -EINVAL, 0, false);
	chunk("BDAT -1", -EINVAL, 0, false);
	chunk("BDAT 1LAST", -EINVAL, 0, false);
	chunk("BDAT 1 LAST x", -EINVAL, 0, false);
	chunk("BDAT 1 FIRST", -EINVAL, 0, false);
	struct smtp_command burl = parse("BURL imap://x/y LAST"), part = parse("BURL imap://x/yLAST");
	assert_true(smtp_args_end_with_last(&burl));
	assert_false(smtp_args_end_with_last(&part));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(spellings_of_what_decides),
		cmocka_unit_test(odd_lines),
		cmocka_unit_test(which_verbs_decide),
		cmocka_unit_test(paths),
		cmocka_unit_test(what_is_no_path),
		cmocka_unit_test(chunks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
