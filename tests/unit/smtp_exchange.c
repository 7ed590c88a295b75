/* smtp/exchange.c: which reply answers what, names, hello, capabilities. */
#include "smtp_harness.h"

static bool said(const char *line)
{
	struct smtp_command command;
	smtp_command_parse((const uint8_t *)line, strlen(line), &command);
	return smtp_exchange_said(d, &command, false, "");
}

static enum smtp_answer answer(const char *line, struct smtp_answered *answered)
{
	size_t consumed;
	smtp_exchange_reply_begins(d);
	assert_int_equal(smtp_framer_input(&d->private->reply.framer, (const uint8_t *)line, strlen(line), &consumed), SMTP_LINE_WHOLE);
	return smtp_exchange_reply_line(d, answered);
}

static void greeting_then_hello(void **state)
{
	struct smtp_answered a;
	(void)state;
	assert_int_equal(answer("220-mx.example.org hello\n", &a), SMTP_ANSWER_MORE);
	assert_int_equal(d->greeting_code, 0);
	assert_int_equal(answer("220 other.example\n", &a), SMTP_ANSWER_GREETING);
	assert_int_equal(d->greeting_code, 220);
	assert_string_equal(d->server_name, "mx.example.org");
	assert_true(said("EHLO client.example extra"));
	assert_string_equal(d->client_name, "client.example");
	assert_int_equal(d->outstanding, 1);
	assert_int_equal(answer("250-STARTTLS\n", &a), SMTP_ANSWER_MORE); /* a server's name, even so */
	assert_int_equal(answer("250-SIZE 77\n", &a), SMTP_ANSWER_MORE);
	assert_int_equal(d->capabilities, 0); /* not before the reply is whole */
	assert_int_equal(answer("250 DSN\n", &a), SMTP_ANSWER_COMMAND);
	assert_int_equal(a.pending.verb, SMTP_EHLO);
	assert_int_equal(a.code, 250);
	assert_int_equal(d->capabilities, SMTP_CAP_SIZE | SMTP_CAP_DSN);
	assert_true(d->size_max == 77);
	assert_true(d->hello_done && d->ehlo);
	assert_int_equal(d->outstanding, 0);
}

static void a_new_ehlo_replaces_and_a_rejected_one_does_not(void **state)
{
	struct smtp_answered a;
	(void)state;
	answer("220 mx\n", &a);
	said("EHLO a");
	answer("250-mx\n", &a);
	answer("250 STARTTLS\n", &a);
	said("EHLO b");
	answer("550-mx\n", &a);
	answer("550 DSN\n", &a);
	assert_int_equal(d->capabilities, SMTP_CAP_STARTTLS);
	said("EHLO c");
	answer("250-mx\n", &a);
	answer("250 DSN\n", &a);
	assert_int_equal(d->capabilities, SMTP_CAP_DSN);
	said("HELO d");
	answer("250 mx\n", &a);
	assert_int_equal(d->capabilities, 0);
	assert_true(d->hello_done && !d->ehlo);
}

static void an_unsolicited_reply_answers_nothing(void **state)
{
	struct smtp_answered a;
	(void)state;
	answer("220 mx\n", &a);
	assert_int_equal(answer("421-bye\n", &a), SMTP_ANSWER_MORE);
	assert_int_equal(d->outstanding, 1);
	assert_true(said("NOOP")); /* comes too late to be what it answers */
	assert_int_equal(answer("421 bye\n", &a), SMTP_ANSWER_UNSOLICITED);
	assert_int_equal(a.code, 421);
	assert_true(d->closing);
	assert_int_equal(d->outstanding, 1);
	assert_int_equal(answer("250 ok\n", &a), SMTP_ANSWER_COMMAND);
	assert_int_equal(a.pending.verb, SMTP_NOOP);
}

static void bad_lines(void **state)
{
	struct smtp_answered a;
	(void)state;
	assert_int_equal(answer("220-mx\n", &a), SMTP_ANSWER_MORE);
	assert_int_equal(answer("221 mx\n", &a), SMTP_ANSWER_BAD);
}

static void lines_are_limited(void **state)
{
	struct smtp_answered a;
	(void)state;
	for (int i = 0; i < SMTP_REPLY_LINES_MAX; i++)
		assert_int_equal(answer("220-mx\n", &a), SMTP_ANSWER_MORE);
	assert_int_equal(answer("220 mx\n", &a), SMTP_ANSWER_LIMIT);
}

static void names_that_are_none(void **state)
{
	char line[SMTP_DOMAIN_MAX + 8] = "EHLO ";
	struct smtp_answered a;
	(void)state;
	answer("421 4.3.2 busy\n", &a);
	assert_string_equal(d->server_name, "");
	said("EHLO a\x01z");
	assert_string_equal(d->client_name, "");
	memset(line + 5, 'a', SMTP_DOMAIN_MAX - 1);
	said(line);
	assert_int_equal(strlen(d->client_name), SMTP_DOMAIN_MAX - 1);
	line[5 + SMTP_DOMAIN_MAX - 1] = 'a';
	said(line);
	assert_string_equal(d->client_name, "");
}

static void quit_closes(void **state)
{
	struct smtp_answered a;
	(void)state;
	answer("220 mx\n", &a);
	said("NOOP");
	said("QUIT");
	answer("250 ok\n", &a);
	assert_false(d->closing);
	answer("221 bye\n", &a);
	assert_true(d->closing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(greeting_then_hello, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(a_new_ehlo_replaces_and_a_rejected_one_does_not, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(an_unsolicited_reply_answers_nothing, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(bad_lines, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(lines_are_limited, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(names_that_are_none, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(quit_closes, d_setup, d_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
