/* smtp/dialogue.c: what may pass while waxseal watches. Whole dialogues stand in tests/golden. */
#include "smtp_harness.h"

static void commands_pass_as_whole_lines(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	d_state(SMTP_STATE_COMMANDS);
	assert_false(smtp_dialogue_partial(d));
	assert_int_equal(d_says(CLIENT, "EHLO x", SMTP_EVENT_NONE), 6);
	assert_true(d->approved[CLIENT] == 0);
	assert_true(smtp_dialogue_partial(d));
	d_passes(CLIENT, "\r\n");
	assert_false(smtp_dialogue_partial(d));
	assert_int_equal(d->outstanding, 1);
}

static void a_line_that_stalls_passes_in_pieces_unless_it_may_decide(void **state)
{
	static const char *const may[] = {"M", "MAI", "a", "R", "X-E", "bd", " ", "\t\t"};
	static const char *const cannot[] = {"E", "EHLO", "EHLO x", "s", "ST", "STARTTLS", "RS", " NO", "H", "q"};
	for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++) {
		d_setup(state);
		d_passes(SERVER, "220 mx\r\n");
		d_says(CLIENT, may[i], SMTP_EVENT_NONE);
		assert_false(smtp_dialogue_pass_partial(d));
		assert_true(d->approved[CLIENT] == 0);
		d_teardown(state);
	}
	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++) {
		d_setup(state);
		d_passes(SERVER, "220 mx\r\n");
		d_says(CLIENT, cannot[i], SMTP_EVENT_NONE);
		assert_true(smtp_dialogue_pass_partial(d));
		assert_true(d->approved[CLIENT] == strlen(cannot[i]));
		assert_false(smtp_dialogue_partial(d));
		d_passes(CLIENT, " x");
		d_passes(CLIENT, "\r\n");
		if (d->state == SMTP_STATE_COMMANDS) { /* the next line is whole or not at all */
			d_says(CLIENT, "NOO", SMTP_EVENT_NONE);
			assert_true(d->approved[CLIENT] == d->fed[CLIENT] - 3);
		}
		d_teardown(state);
	}
	d_setup(state);
	assert_false(smtp_dialogue_pass_partial(d));
	d_passes(SERVER, "220 mx\r\n");
	d_says(CLIENT, "S", SMTP_EVENT_NONE);
	assert_true(smtp_dialogue_pass_partial(d));
	assert_int_equal(d_says(CLIENT, "END FROM:<>\r\n", SMTP_EVENT_ODD), 3);
	assert_true(d->approved[CLIENT] == 3);
	d_state(SMTP_STATE_BROKEN);
}

static void what_decides_is_held_from_its_last_letter(void **state)
{
	static const char *const lines[] = {"MAIL FROM:<>", "auth plain", "SEND x", "SOML x", "SAML x", "RCPT TO:<a@b>", "DATA", "BDAT 1",
	                                    "BURL x", "TURN", "ATRN", "XCLIENT a", "XFORWARD a", "\t MAIL", "MAILFROM:<>"};
	static const size_t at[] = {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 7, 8, 6, 4};
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		d_setup(state);
		d_passes(SERVER, "220 mx\r\n");
		assert_int_equal(d_says(CLIENT, lines[i], SMTP_EVENT_DECIDE), at[i]);
		d_state(SMTP_STATE_DECIDE);
		assert_true(smtp_verb_decides(d->held_verb));
		assert_true(d->approved[CLIENT] == 0);
		assert_false(smtp_dialogue_partial(d));
		assert_int_equal(d_says(CLIENT, lines[i] + at[i], SMTP_EVENT_NONE), 0);
		d_teardown(state);
	}
	d_setup(state);
}

static void a_decision_waits_until_it_is_quiet(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	assert_int_equal(d_says(CLIENT, "EHLO x\r\nRSET\r\nMAIL FROM:<>\r\n", SMTP_EVENT_NONE), 18);
	assert_true(d->approved[CLIENT] == 14);
	assert_int_equal(d_says(CLIENT, " FROM:<>\r\n", SMTP_EVENT_NONE), 0);
	d_passes(SERVER, "250-mx\r\n250 DSN\r\n250 o");
	d_state(SMTP_STATE_COMMANDS);
	assert_int_equal(d_says(SERVER, "k\r\n", SMTP_EVENT_DECIDE), 3);
	assert_int_equal(d->held_verb, SMTP_MAIL);
	assert_int_equal(d_says(CLIENT, "", SMTP_EVENT_NONE), 0); /* said once */
}

static void an_unsolicited_leave_delays_the_decision(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	d_passes(SERVER, "421-going");
	assert_int_equal(d_says(CLIENT, "MAIL FROM:<>\r\n", SMTP_EVENT_NONE), 4);
	d_passes(SERVER, "\r\n");
	assert_int_equal(d_says(SERVER, "421 gone\r\n", SMTP_EVENT_DECIDE), 10);
	assert_true(d->closing);
}

static void nothing_before_the_banner(void **state)
{
	(void)state;
	assert_int_equal(d_says(CLIENT, "EHLO x\r\n", SMTP_EVENT_NONE), 0);
	assert_int_equal(d_says(CLIENT, "MAIL FROM:<>\r\n", SMTP_EVENT_NONE), 0);
	d_state(SMTP_STATE_GREETING);
	d_passes(SERVER, "220-mx\r\n22");
	assert_int_equal(d_says(CLIENT, "EHLO x\r\n", SMTP_EVENT_NONE), 0);
	assert_int_equal(d_says(CLIENT, "\x16\x03\x01", SMTP_EVENT_NONSMTP), 0);
	d_state(SMTP_STATE_BROKEN);
	assert_int_equal(d_says(SERVER, "0 mx\r\n", SMTP_EVENT_NONE), 0);
}

static void opened(void **state, enum side side, const char *text, enum smtp_event event)
{
	d_teardown(state);
	d_setup(state);
	if (side == CLIENT)
		d_passes(SERVER, "220 mx\r\n");
	d_says(side, text, event);
	d_state(event == SMTP_EVENT_NONE ? (side == CLIENT ? SMTP_STATE_COMMANDS : SMTP_STATE_GREETING) : SMTP_STATE_BROKEN);
}

static void banners(void **state)
{
	opened(state, SERVER, "22", SMTP_EVENT_NONE);
	opened(state, SERVER, "354 go\r\n", SMTP_EVENT_NONSMTP);
	opened(state, SERVER, "2x", SMTP_EVENT_NONSMTP);
	opened(state, SERVER, "220x", SMTP_EVENT_NONSMTP);
	opened(state, SERVER, "220\rx", SMTP_EVENT_NONSMTP);
	opened(state, SERVER, "* OK IMAP\r\n", SMTP_EVENT_NONSMTP);
	opened(state, SERVER, "\x16\x03\x03", SMTP_EVENT_NONSMTP);
}

static void odd_commands(void **state)
{
	static char line[SMTP_COMMAND_MAX + 1];

	opened(state, CLIENT, "NOOP a\rb", SMTP_EVENT_ODD);
	opened(state, CLIENT, "NOOP\r\r\n", SMTP_EVENT_ODD);
	opened(state, CLIENT, "XYZZY \xc3\xbc\r\n", SMTP_EVENT_ODD);
	opened(state, CLIENT, "VRFY \xc3\xbc\r\n", SMTP_EVENT_NONE);
	opened(state, CLIENT, "\x16\x03\x01", SMTP_EVENT_NONSMTP);
	opened(state, CLIENT, "\x80", SMTP_EVENT_NONSMTP);
	memset(line, 'a', sizeof(line) - 1);
	opened(state, CLIENT, line, SMTP_EVENT_ODD);
	d_teardown(state);
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	assert_int_equal(d_bytes(CLIENT, "NOOP \0x\r\n", 9, SMTP_EVENT_ODD), 5);
	assert_true(d->approved[CLIENT] == 0);
}

static void starttls(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "STARTTLS\r\n");
	d_state(SMTP_STATE_STARTTLS);
	assert_false(smtp_dialogue_partial(d));
	assert_false(d->starttls_refused);
	d_passes(SERVER, "454-later\r\n");
	assert_false(d->starttls_refused);
	d_passes(SERVER, "454 later\r\n");
	d_state(SMTP_STATE_COMMANDS);
	assert_true(d->starttls_refused);
	d_passes(CLIENT, "EHLO x\r\n");
	d_passes(SERVER, "250-mx\r\n250 STARTTLS\r\n"); /* it says so */
	assert_true(d->starttls_refused);
	d_passes(CLIENT, "starttls\r\n");
	d_passes(SERVER, "220-one\r\n");
	assert_int_equal(d_says(SERVER, "220 two\r\n", SMTP_EVENT_TLS), 9);
	assert_true(d->approved[SERVER] == d->fed[SERVER] && d->approved[CLIENT] == d->fed[CLIENT]);
	d_state(SMTP_STATE_TLS);
	assert_int_equal(d_says(CLIENT, "\x16", SMTP_EVENT_NONE), 0);
	assert_int_equal(d_says(SERVER, "\x16", SMTP_EVENT_NONE), 0);
}

static void injections(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	assert_int_equal(d_says(CLIENT, "STARTTLS\r\nX", SMTP_EVENT_INJECTION), 10);
	d_state(SMTP_STATE_BROKEN);
	d_teardown(state);
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	d_passes(CLIENT, "STARTTLS\r\n");
	uint64_t before = d->approved[SERVER];
	assert_int_equal(d_says(SERVER, "220 go\r\nX", SMTP_EVENT_INJECTION), 7);
	assert_true(d->approved[SERVER] == before + 7); /* the client never sees the end of 220 */
	d_state(SMTP_STATE_BROKEN);
}

static void limits(void **state)
{
	(void)state;
	d_passes(SERVER, "220 mx\r\n");
	for (int i = 0; i < SMTP_PIPELINE_MAX; i++)
		d_passes(CLIENT, "NOOP\r\n");
	assert_int_equal(d->outstanding, SMTP_PIPELINE_MAX);
	d_says(CLIENT, "NOOP\r\n", SMTP_EVENT_LIMIT);
	assert_true(d->approved[CLIENT] == 6 * SMTP_PIPELINE_MAX);
	d_teardown(state);
	d_setup(state);
	d_passes(SERVER, "220 mx\r\n");
	for (int i = 0; i < SMTP_COMMANDS_BEFORE_MAIL_MAX; i++) {
		d_passes(CLIENT, "NOOP\r\n");
		d_passes(SERVER, "250 ok\r\n");
	}
	d_says(CLIENT, "NOOP\r\n", SMTP_EVENT_LIMIT);
	d_teardown(state);
	d_setup(state);
	for (int i = 0; i < SMTP_REPLY_LINES_MAX; i++)
		d_passes(SERVER, "220-mx\r\n");
	d_says(SERVER, "220 mx\r\n", SMTP_EVENT_LIMIT);
}

static void names(void **state)
{
	(void)state;
	for (enum smtp_event e = SMTP_EVENT_NONE; e <= SMTP_EVENT_LOST; e++)
		assert_string_not_equal(smtp_event_name(e), "?");
	for (enum smtp_state s = SMTP_STATE_GREETING; s <= SMTP_STATE_BROKEN; s++)
		assert_string_not_equal(smtp_state_name(s), "?");
	assert_string_equal(smtp_event_name(99), "?");
	assert_string_equal(smtp_state_name(99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(commands_pass_as_whole_lines, d_setup, d_teardown),
		cmocka_unit_test_teardown(a_line_that_stalls_passes_in_pieces_unless_it_may_decide, d_teardown),
		cmocka_unit_test_teardown(what_decides_is_held_from_its_last_letter, d_teardown),
		cmocka_unit_test_setup_teardown(a_decision_waits_until_it_is_quiet, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(an_unsolicited_leave_delays_the_decision, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(nothing_before_the_banner, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(banners, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(odd_commands, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(starttls, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(injections, d_setup, d_teardown),
		cmocka_unit_test_setup_teardown(limits, d_setup, d_teardown),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
