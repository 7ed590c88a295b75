/* takeover/replies.c: each reply to its command; what the client must not see; servers out of step. */
#include "takeover_harness.h"

static void test_ehlo_is_filtered(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "EHLO again\r\n");
	hears(SERVER, "EHLO again\r\n");
	says(SERVER, "250-mx.example hi\r\n250-STARTTLS\r\n250-SIZE 5\r\n250-AUTH PLAIN\r\n250 REQUIRETLS\r\n");
	hears(CLIENT, "250-mx.example hi\r\n250 SIZE 5\r\n");
	says(CLIENT, "EHLO again\r\n");
	says(SERVER, "250 mx.example\r\n");
	hears(CLIENT, "250 mx.example\r\n");
}

static void test_auth_stays_where_it_was_offered_in_clear(void **state)
{
	(void)state;
	w.params.capabilities = CAPS | SMTP_CAP_AUTH;
	in_tls();
	says(CLIENT, "EHLO again\r\n");
	says(SERVER, "250-mx\r\n250 AUTH PLAIN\r\n");
	hears(CLIENT, "250-mx\r\n250 AUTH PLAIN\r\n");
}

static void test_multiline_replies_pass_as_they_are(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "HELP\r\n");
	says(SERVER, "214-one\r\n");
	hears(CLIENT, "214-one\r\n");
	says(SERVER, "214 two\r\n");
	hears(CLIENT, "214 two\r\n");
}

static void test_421_at_any_time(void **state)
{
	(void)state;
	in_tls();
	says(SERVER, "421 4.3.2 going down\r\n");
	hears(CLIENT, "421 4.3.2 going down\r\n");
	assert_true(tcp_eof(w.peer[CLIENT]));
	assert_string_equal(takeover_phase(w.t), "closing");
}

static void out_of_step(const char *reply)
{
	says(SERVER, reply);
	assert_memory_equal(w.heard[CLIENT], "421 4.3.0 ", 10);
	assert_int_equal(outcome().end, END_CUT);
	assert_true(w.reset[SERVER]);
}

static void test_unasked_reply(void **state)
{
	(void)state;
	in_tls();
	out_of_step("250 surprise\r\n");
}

static void test_not_a_reply(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	out_of_step("hello there\r\n");
}

static void test_codes_that_change_within_a_reply(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	says(SERVER, "250-ok\r\n");
	w.heard_len[CLIENT] = 0;
	out_of_step("550 no\r\n");
}

static void test_endless_reply(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	for (int i = 0; i < SMTP_REPLY_LINES_MAX; i++)
		says(SERVER, "250-more\r\n");
	w.heard_len[CLIENT] = 0;
	out_of_step("250-more\r\n");
}

static void test_messages_and_recipients_are_counted(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n");
	says(SERVER, "250 ok\r\n550 no such user\r\n354 go\r\n");
	says(CLIENT, "Subject: x\r\n\r\n.\r\n");
	says(SERVER, "250 queued\r\n");
	assert_int_equal(outcome().messages, 1);
	assert_int_equal(outcome().recipients, 1);
	assert_int_equal(stats_destination(w.env.stats, "*")->messages, 1);
}

/* Taken over within its first line, a session says hello to us: found by the simulator (seed 48). */
static void test_hello_after_adoption(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = 0;
	scene_begin();
	says(CLIENT, "EHLO client.example\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx.example\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
	hears(CLIENT, "250-mx.example\r\n250 AUTH PLAIN\r\n"); /* offered in clear: the client may use it */
	says(CLIENT, "HELO client.example\r\n");
	hears(SERVER, "HELO client.example\r\n");
	says(SERVER, "250 mx.example\r\n");
	hears(CLIENT, "250 mx.example\r\n");
	says(CLIENT, "MAIL FROM:<a@b.example>\r\n");
	hears(SERVER, "EHLO client.example\r\n"); /* whether it offers STARTTLS is asked, not taken for a no */
	says(SERVER, "250-mx.example\r\n250 STARTTLS\r\n");
	hears(SERVER, "STARTTLS\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_hello_after_adoption), SCENE(test_ehlo_is_filtered),
		SCENE(test_auth_stays_where_it_was_offered_in_clear), SCENE(test_multiline_replies_pass_as_they_are),
		SCENE(test_421_at_any_time), SCENE(test_unasked_reply), SCENE(test_not_a_reply), SCENE(test_codes_that_change_within_a_reply),
		SCENE(test_endless_reply), SCENE(test_messages_and_recipients_are_counted),
	};
	return cmocka_run_group_tests_name("takeover_replies", tests, NULL, NULL);
}
