/* smtp/observe.c: everything passes, and the envelope is counted. Whole dialogues stand in tests/golden. */
#include "smtp_harness.h"

static int observing(void **state)
{
	if (d_setup(state))
		return -1;
	smtp_dialogue_observe(d);
	d_state(SMTP_STATE_OBSERVE);
	return 0;
}

/* In OBSERVE whatever is taken is approved. */
static void event(enum side side, const char *text, enum smtp_event expected)
{
	assert_int_equal(d_says(side, text, expected), strlen(text));
	assert_true(d->approved[side] == d->fed[side]);
}

static void mailed(void)
{
	d_passes(CLIENT, "MAIL FROM:<>\r\nRCPT TO:<a@one.example>\r\n");
	event(SERVER, "250 ok\r\n", SMTP_EVENT_MAIL);
	event(SERVER, "250 ok\r\n", SMTP_EVENT_RCPT);
	assert_string_equal(d->rcpt_domain, "one.example");
}

static void one_event_a_call(void **state)
{
	(void)state;
	d_passes(CLIENT, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@one.example>\r\n");
	d_passes(SERVER, "220 mx\r\n250 mx\r\n");
	assert_int_equal(d_says(SERVER, "250 ok\r\n250 ok\r\n", SMTP_EVENT_MAIL), 8);
	assert_int_equal(d_says(SERVER, "250 ok\r\n", SMTP_EVENT_RCPT), 8);
}

static void content_in_single_bytes(void **state)
{
	static const char content[] = "..\r\n.x\r\n\r.\r\n\n.\n\r\r\n.\r.\r\n \r\n.\r\r\n.\r\n";
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	mailed();
	d_passes(CLIENT, "DATA\r\n");
	d_passes(SERVER, "354 go\r\n");
	for (size_t i = 0; content[i]; i++) {
		assert_int_equal(d->outstanding, 0); /* not over yet */
		assert_int_equal(d_bytes(CLIENT, content + i, 1, SMTP_EVENT_NONE), 1);
	}
	assert_int_equal(d->outstanding, 1);
	event(SERVER, "250 ok\r\n", SMTP_EVENT_MESSAGE);
}

static void empty_content_and_a_refused_message(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	mailed();
	d_passes(CLIENT, "DATA\r\n");
	d_passes(SERVER, "354 go\r\n");
	d_passes(CLIENT, ".\r\nRSET\r\n");
	d_passes(SERVER, "550 spam\r\n250 ok\r\n");
	assert_int_equal(d->outstanding, 0);
	mailed();
}

static void chunks(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	mailed();
	d_passes(CLIENT, "BDAT 10\r\n.\r\nQUIT\r");
	assert_int_equal(d->outstanding, 1);
	d_passes(CLIENT, "\n\nBDAT 0 LAST\r\nNOOP\r\n");
	assert_int_equal(d->outstanding, 3);
	d_passes(SERVER, "250 ok\r\n");
	event(SERVER, "250 taken\r\n", SMTP_EVENT_MESSAGE);
	d_passes(SERVER, "250 ok\r\n");
	d_passes(CLIENT, "BURL imap://x LAST\r\n");
	event(SERVER, "250 taken\r\n", SMTP_EVENT_MESSAGE);
}

static void a_held_line_goes_on(void **state)
{
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	assert_int_equal(d_says(CLIENT, "RCPT", SMTP_EVENT_DECIDE), 4);
	smtp_dialogue_observe(d);
	assert_true(d->approved[CLIENT] == 4);
	d_passes(CLIENT, " TO:<a@held.example>\r\n");
	event(SERVER, "250 ok\r\n", SMTP_EVENT_RCPT);
	assert_string_equal(d->rcpt_domain, "held.example");
}

static void let_go_in_the_middle(void **state)
{
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "EHLO x\r\n");
	d_passes(SERVER, "250-mx\r\n250 D");
	d_says(CLIENT, "NO", SMTP_EVENT_NONE);
	smtp_dialogue_observe(d);
	assert_true(d->approved[CLIENT] == d->fed[CLIENT]);
	d_passes(SERVER, "SN\r\n");
	assert_int_equal(d->capabilities, SMTP_CAP_DSN);
	d_passes(CLIENT, "OP\r\n");
	d_passes(SERVER, "250 ok\r\n");
	mailed();
	d_teardown(state);
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "STARTTLS\r\n");
	smtp_dialogue_observe(d);
	d_passes(SERVER, "454 no\r\n");
	mailed();
}

static void authentication(void **state)
{
	static char line[12288];
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	memset(line, 'A', sizeof(line) - 1);
	d_passes(CLIENT, "AUTH LOGIN\r\n");
	d_passes(SERVER, "334 x\r\n");
	d_passes(CLIENT, line);
	d_passes(CLIENT, "\r\n");
	d_passes(SERVER, "334 x\r\n");
	d_passes(CLIENT, "*\r\n");
	d_passes(SERVER, "501 stopped\r\n");
	memcpy(line, "AUTH PLAIN ", 11);
	d_passes(CLIENT, line);
	d_passes(CLIENT, "\r\n");
	assert_int_equal(d->outstanding, 1);
	d_passes(SERVER, "235 ok\r\n");
	mailed();
}

static void lost_by(void **state, const char *client, enum side side, const char *text)
{
	enum smtp_event got;
	uint64_t fed;

	d_teardown(state);
	observing(state);
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, client);
	size_t n = d_says(side, text, SMTP_EVENT_LOST);
	fed = d->fed[side];
	smtp_dialogue_input(d, side, (const uint8_t *)text + n, strlen(text) - n, &got);
	assert_int_equal(got, SMTP_EVENT_NONE);
	assert_true(d->fed[side] == fed + strlen(text) - n);
	d_passes(CLIENT, "MAIL FROM:<>\r\n"); /* silence */
	d_passes(SERVER, "250 ok\r\n\xff");
	d_state(SMTP_STATE_OBSERVE);
}

static void what_cannot_be_followed(void **state)
{
	static char line[3000];
	memset(line, 'A', sizeof(line) - 1);
	lost_by(state, "", CLIENT, line);
	lost_by(state, "", CLIENT, "NOOP a\rb\r\nNOOP\r\n");
	lost_by(state, "", CLIENT, "BDAT x\r\n");
	lost_by(state, "DATA\r\n", CLIENT, "Subject: x\r\n");
	lost_by(state, "DATA\r\n", SERVER, "250 ok\r\n");
	lost_by(state, "STARTTLS\r\n", SERVER, "220 go\r\n");
	lost_by(state, "TURN\r\n", SERVER, "250 ok\r\n");
	lost_by(state, "NOOP\r\n", SERVER, "354 go\r\n");
	lost_by(state, "", SERVER, "250 nobody asked\r\n");
	lost_by(state, "NOOP\r\n", SERVER, "hello\r\n");
	lost_by(state, "NOOP\r\n", SERVER, "250-a\r\n251 b\r\n");
	lost_by(state, "NOOP\r\n", SERVER, line);
}

static void lmtp_has_replies_of_its_own(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "LHLO x\r\n");
	d_passes(SERVER, "250 mx\r\n");
	mailed();
	d_passes(CLIENT, "DATA\r\n");
	d_passes(SERVER, "354 go\r\n");
	assert_int_equal(d_says(CLIENT, ".\r\n", SMTP_EVENT_LOST), 3);
}

static void a_leave_in_the_middle_of_content(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	d_passes(SERVER, "421 time\r\n");
	assert_true(d->closing);
	mailed();
	d_passes(CLIENT, "DATA\r\n");
	d_passes(SERVER, "354 go\r\n");
	event(SERVER, "552 too much\r\n", SMTP_EVENT_LOST);
}

static void too_many_outstanding(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	for (int i = 0; i < SMTP_PIPELINE_MAX; i++)
		d_passes(CLIENT, "NOOP\r\n");
	event(CLIENT, "NOOP\r\n", SMTP_EVENT_LOST);
}

static void after_tls_or_ruin_it_is_silent(void **state)
{
	d_setup(state);
	d_says(SERVER, "HELLO", SMTP_EVENT_NONSMTP);
	smtp_dialogue_observe(d);
	assert_int_equal(d_says(SERVER, "", SMTP_EVENT_LOST), 0);
	d_passes(SERVER, "HELLO");
	d_passes(CLIENT, "\xff");
	smtp_dialogue_observe(d); /* once more: nothing */
	d_passes(CLIENT, "\xff");
	d_teardown(state);
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "STARTTLS\r\n");
	d_says(SERVER, "220 go\r\n", SMTP_EVENT_TLS);
	smtp_dialogue_observe(d);
	assert_int_equal(d_says(CLIENT, "\x16", SMTP_EVENT_LOST), 0);
	d_passes(CLIENT, "\x16");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_event_a_call, observing, d_teardown),
		cmocka_unit_test_setup_teardown(content_in_single_bytes, observing, d_teardown),
		cmocka_unit_test_setup_teardown(empty_content_and_a_refused_message, observing, d_teardown),
		cmocka_unit_test_setup_teardown(chunks, observing, d_teardown),
		cmocka_unit_test_teardown(a_held_line_goes_on, d_teardown),
		cmocka_unit_test_teardown(let_go_in_the_middle, d_teardown),
		cmocka_unit_test_setup_teardown(authentication, observing, d_teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_followed, observing, d_teardown),
		cmocka_unit_test_setup_teardown(lmtp_has_replies_of_its_own, observing, d_teardown),
		cmocka_unit_test_setup_teardown(a_leave_in_the_middle_of_content, observing, d_teardown),
		cmocka_unit_test_setup_teardown(too_many_outstanding, observing, d_teardown),
		cmocka_unit_test_teardown(after_tls_or_ruin_it_is_silent, d_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
