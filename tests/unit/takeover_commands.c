/* takeover/commands.c: what is forwarded, held, hidden or answered here, and in which order. */
#include "takeover_harness.h"

static void test_refused_recipient_waits_for_those_before_it(void **state)
{
	(void)state;
	POLICY("* level=encrypt", "bad.example level=verify match=other.example", "block.example level=block on_fail=reject");
	in_tls();
	says(CLIENT, "RCPT TO:<1@ok.example>\r\nRCPT TO:<2@bad.example>\r\nRCPT TO:<3@BLOCK.example>\r\nRCPT TO:<4@ok.example>\r\n");
	hears(SERVER, "RCPT TO:<1@ok.example>\r\n");
	hears(CLIENT, "");
	says(SERVER, "250 one\r\n");
	assert_memory_equal(w.heard[CLIENT], "250 one\r\n451 4.7.5 ", 19);
	assert_non_null(strstr(w.heard[CLIENT], "\r\n554 5.7.1 "));
	assert_non_null(strstr(w.heard[CLIENT], "bad.example"));
	w.heard_len[CLIENT] = 0;
	hears(SERVER, "RCPT TO:<4@ok.example>\r\n");
	says(SERVER, "250 four\r\n");
	hears(CLIENT, "250 four\r\n");
	assert_int_equal(outcome().recipients, 2);
	assert_int_equal(stats_destination(w.env.stats, "*")->recipients[RCPT_DEFERRED], 1);
	assert_int_equal(stats_destination(w.env.stats, "block.example")->recipients[RCPT_REJECTED], 1);
}

static void test_refused_at_mail_and_nothing_of_it_leaves(void **state)
{
	(void)state;
	w.params.capabilities = SMTP_CAP_PIPELINING;
	scene_begin();
	says(CLIENT, MAIL "RCPT TO:<b@x.example>\r\nDATA\r\nBDAT 4 LAST\r\nabcdNOOP\r\n");
	hears(SERVER, "NOOP\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.4 ", 10);
	assert_non_null(strstr(w.heard[CLIENT], "mx.example"));
	assert_non_null(strstr(w.heard[CLIENT], "503 5.5.1 Need MAIL before RCPT\r\n503 5.5.1 Need MAIL before DATA\r\n503 5.5.1 Need MAIL before BDAT\r\n"));
	w.heard_len[CLIENT] = 0;
	says(SERVER, "250 noop\r\n");
	hears(CLIENT, "250 noop\r\n");
	says(CLIENT, "AUTH PLAIN AGEAYg==\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.4 ", 10);
	hears(SERVER, "");
	assert_int_equal(outcome().end, END_DEFERRED);
}

static void test_inbound_client_is_told_to_encrypt(void **state)
{
	(void)state;
	POLICY("* level=may", "inbound:* level=encrypt");
	w.params.inbound = true;
	scene_begin();
	says(CLIENT, MAIL);
	assert_memory_equal(w.heard[CLIENT], "530 5.7.0 ", 10);
	hears(SERVER, "");
}

static void test_starttls_of_the_client_is_answered_here(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "STARTTLS\r\n");
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], "454 4.7.0 ", 10);
}

static void test_lines_that_servers_read_differently(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP a\rb\r\n");
	hears(CLIENT, "500 5.5.2 Bare CR in a command\r\n");
	says(CLIENT, "NOOP\n");
	hears(SERVER, "NOOP\r\n");
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	static const uint8_t behind_nul[] = "\0MAIL FROM:<a@client.example>\r\n";
	assert_int_equal(tcp_write(w.peer[CLIENT], behind_nul, sizeof(behind_nul) - 1), sizeof(behind_nul) - 1);
	scene_settle();
	hears(CLIENT, "500 5.5.2 NUL in a command\r\n");
	says(CLIENT, "NO\rOP\r\n");
	hears(CLIENT, "500 5.5.2 Bare CR in a command\r\n");
	char *line = calloc(1, SMTP_COMMAND_MAX + 100);
	memset(line, 'x', SMTP_COMMAND_MAX + 90);
	says(CLIENT, line);
	says(CLIENT, "\r\nRSET\r\n");
	hears(CLIENT, "500 5.5.2 Line too long\r\n");
	hears(SERVER, "RSET\r\n");
	free(line);
}

static void test_one_octet_at_a_time(void **state)
{
	(void)state;
	in_tls();
	for (const char *p = "RCPT TO:<b@x.example>\r\n"; *p; p++) {
		char one[2] = {*p, 0};
		says(CLIENT, one);
	}
	hears(SERVER, "RCPT TO:<b@x.example>\r\n");
}

static void test_no_pipelining_towards_a_server_without_it(void **state)
{
	(void)state;
	w.params.capabilities = SMTP_CAP_STARTTLS;
	scene_begin();
	says(CLIENT, MAIL);
	server_begins_tls(&w.cert);
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250 mx.example\r\n");
	hears(SERVER, MAIL);
	says(CLIENT, "RCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\n");
	hears(SERVER, "");
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@x.example>\r\n");
}

static void test_auth_exchange_goes_through(void **state)
{
	(void)state;
	w.params.capabilities = CAPS | SMTP_CAP_AUTH;
	scene_begin();
	says(CLIENT, "AUTH LOGIN\r\n");
	server_upgrades();
	hears(SERVER, "AUTH LOGIN\r\n");
	says(SERVER, "334 VXNlcm5hbWU6\r\n");
	hears(CLIENT, "334 VXNlcm5hbWU6\r\n");
	says(CLIENT, "TUFJTA==\r\n");
	hears(SERVER, "TUFJTA==\r\n");
	says(SERVER, "235 ok\r\n");
	says(CLIENT, MAIL);
	hears(SERVER, MAIL);
}

/* ---- MAIL deferred until a recipient shows its domain ---- */

static void deferred(void)
{
	POLICY("* level=may mode=observe", "tls.example level=encrypt");
	scene_begin();
	says(CLIENT, MAIL);
	hears(CLIENT, "250 2.1.0 Ok\r\n");
	hears(SERVER, "");
}

static void test_deferred_mail_is_upgraded_for_its_recipient(void **state)
{
	(void)state;
	deferred();
	says(CLIENT, "RCPT TO:<b@tls.example>\r\n");
	server_upgrades();
	hears(SERVER, MAIL);
	hears(CLIENT, "");
	says(SERVER, "250 mail ok\r\n");
	hears(CLIENT, "");
	hears(SERVER, "RCPT TO:<b@tls.example>\r\n");
	says(SERVER, "250 rcpt ok\r\n");
	hears(CLIENT, "250 rcpt ok\r\n");
}

/* A client that said HELO has not heard of STARTTLS: the server is asked before a recipient is refused. */
static void test_deferred_mail_of_a_helo_client(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	deferred();
	assert_false(takeover_begins_tls(w.t));
	says(CLIENT, "RCPT TO:<b@tls.example>\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	assert_true(takeover_begins_tls(w.t)); /* counts among those that are at their handshakes */
	says(SERVER, "250-mx\r\n250 STARTTLS\r\n");
	server_upgrades();
	assert_false(takeover_begins_tls(w.t));
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@tls.example>\r\n");
}

/* Only what the probe says shows that STARTTLS is missing, which stood there before. */
static void test_deferred_mail_of_a_helo_client_that_is_stripped(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may mode=observe", "bound.example level=may stripped=refuse");
	scene_begin();
	says(CLIENT, "MAIL FROM:<a@client.example>\r\n");
	hears(SERVER, "");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "RCPT TO:<b@bound.example>\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx\r\n250 PIPELINING\r\n");
	hears(SERVER, "");
	assert_int_equal(strncmp(w.heard[CLIENT], "451 4.7.4 TLS required by ", 26), 0);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 1);
	says(CLIENT, "RCPT TO:<b@plain.example>\r\n");
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 1);
	hears(SERVER, "MAIL FROM:<a@client.example>\r\n");
}

/* What the client's own STARTTLS got counts for the recipient whose rule is observed, also after another EHLO; the one whose
 * rule is in force has waxseal ask, and that goes by its answer. */
static void test_deferred_mail_of_a_client_that_got_454(void **state)
{
	(void)state;
	w.params.capabilities |= TAKEOVER_CAP_REFUSED;
	w.params.stripped = true; /* the worker has counted it */
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may mode=observe", "seen.example level=may stripped=refuse mode=observe",
	             "wants.example level=encrypt mode=observe", "bound.example level=may stripped=refuse");
	scene_begin();
	says(CLIENT, "EHLO client.example\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx\r\n250 STARTTLS\r\n");
	says(CLIENT, MAIL);
	hears(SERVER, "");
	says(CLIENT, "RCPT TO:<b@seen.example>\r\n");
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@seen.example>\r\n");
	says(SERVER, "250 ok\r\n");
	says(CLIENT, "RCPT TO:<b@wants.example>\r\n");
	hears(SERVER, "RCPT TO:<b@wants.example>\r\n");
	says(SERVER, "250 ok\r\n");
	assert_int_equal(stats_destination(w.env.stats, "seen.example")->reasons[REASON_STRIPPED], 1);
	assert_int_equal(stats_destination(w.env.stats, "wants.example")->reasons[REASON_STARTTLS_REFUSED], 1);
	assert_true(outcome().stripped);
	assert_int_equal(outcome().facts.tls, FACT_TLS_REFUSED);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 0);
}

static void test_the_recipient_that_wants_tls_has_it_asked_again(void **state)
{
	(void)state;
	w.params.capabilities |= TAKEOVER_CAP_REFUSED;
	w.params.stripped = true;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may mode=observe", "bound.example level=may stripped=refuse");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "");
	says(CLIENT, "RCPT TO:<b@bound.example>\r\n");
	server_upgrades();
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@bound.example>\r\n");
}

static void test_deferred_mail_of_a_helo_client_without_tls(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	deferred();
	says(CLIENT, "RCPT TO:<b@tls.example>\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250 mx\r\n");
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.4 ", 10);
}

/* What was never learnt of its TLS bounces no mail: found by the simulator, seed 1795802761415817. */
static void test_server_that_is_lost_while_it_is_asked(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	POLICY("* level=may mode=observe", "tls.example level=encrypt on_fail=reject");
	scene_begin();
	says(CLIENT, MAIL);
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "RCPT TO:<b@tls.example>\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	tcp_abort(w.peer[SERVER]);
	scene_settle();
	hears(CLIENT, "451 4.4.2 The connection to the server is lost\r\n");
	says(CLIENT, "RCPT TO:<c@tls.example>\r\n");
	hears(CLIENT, "451 4.4.2 The connection to the server is lost\r\n");
	says(CLIENT, "QUIT\r\n");
	hears(CLIENT, "221 2.0.0 Bye\r\n");
}

static void test_server_that_is_lost_while_it_is_asked_at_mail(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	POLICY("* level=encrypt on_fail=reject");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "EHLO client.example\r\n");
	tcp_abort(w.peer[SERVER]);
	scene_settle();
	hears(CLIENT, "451 4.4.2 The connection to the server is lost\r\n");
}

static void test_deferred_mail_goes_in_clear_for_others(void **state)
{
	(void)state;
	deferred();
	says(CLIENT, "RCPT TO:<b@else.example>\r\n");
	hears(SERVER, MAIL);
	says(SERVER, "250 mail ok\r\n");
	hears(SERVER, "RCPT TO:<b@else.example>\r\n");
	says(SERVER, "250 rcpt ok\r\n");
	hears(CLIENT, "250 rcpt ok\r\n");
	says(CLIENT, "RCPT TO:<b@tls.example>\r\n"); /* too late for this session */
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.", 8);
	assert_int_equal(outcome().end, END_CLEAR);
}

static void test_refused_deferred_mail_answers_the_recipient(void **state)
{
	(void)state;
	deferred();
	says(CLIENT, "RCPT TO:<b@else.example>\r\n");
	hears(SERVER, MAIL);
	says(SERVER, "550-no\r\n550 5.7.1 not you\r\n");
	hears(CLIENT, "550-no\r\n550 5.7.1 not you\r\n");
	hears(SERVER, "");
	says(CLIENT, "RCPT TO:<c@else.example>\r\n");
	hears(CLIENT, "503 5.5.1 Need MAIL before RCPT\r\n");
}

static void test_deferred_mail_without_recipient(void **state)
{
	(void)state;
	deferred();
	says(CLIENT, "DATA\r\n" MAIL "RSET\r\n");
	hears(CLIENT, "554 5.5.1 No valid recipients\r\n503 5.5.1 Nested MAIL command\r\n");
	hears(SERVER, "RSET\r\n");
}

static void test_recipient_in_clear_by_its_own_rule(void **state)
{
	(void)state;
	POLICY("* level=may", "tls.example level=encrypt", "watch.example level=encrypt mode=observe");
	w.params.capabilities = SMTP_CAP_PIPELINING;
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, MAIL); /* nothing to wait for: no TLS is offered */
	says(SERVER, "250 ok\r\n");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "RCPT TO:<b@tls.example>\r\nRCPT TO:<b@watch.example>\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.4 ", 10);
	hears(SERVER, "RCPT TO:<b@watch.example>\r\n");
	assert_int_equal(stats_destination(w.env.stats, "watch.example")->would[POLICY_DEFER], 1);
	assert_int_equal(stats_destination(w.env.stats, "watch.example")->recipients[RCPT_WOULD_DEFER], 1);
}

/* What is only observed counts as what enforcing it would bring: TLS, where the server offers it. */
static void test_observed_recipient_of_a_server_with_tls(void **state)
{
	(void)state;
	POLICY("* level=may mode=observe", "tls.example level=encrypt", "watch.example level=encrypt mode=observe", "shut.example level=block mode=observe");
	scene_begin();
	says(CLIENT, MAIL "RCPT TO:<b@watch.example>\r\nRCPT TO:<b@shut.example>\r\n");
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@watch.example>\r\nRCPT TO:<b@shut.example>\r\n");
	assert_int_equal(stats_destination(w.env.stats, "shut.example")->would[POLICY_DEFER], 1);
	assert_int_equal(stats_destination(w.env.stats, "watch.example")->would[POLICY_DEFER], 0);
	assert_int_equal(stats_destination(w.env.stats, "watch.example")->recipients[RCPT_WOULD_DEFER], 0);
}

static void test_why_it_may_is_counted_as_it_went(void **state)
{
	struct stats_destination *all = stats_destination(w.env.stats, "*");
	(void)state;
	POLICY("* level=may mode=observe", "tls.example level=encrypt");
	scene_begin();
	says(CLIENT, MAIL "RCPT TO:<b@tls.example>\r\n");
	server_upgrades();
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(SERVER, "RCPT TO:<b@tls.example>\r\n");
	says(SERVER, "250 ok\r\n");
	assert_int_equal(all->reasons[REASON_UPGRADED], 1);
	assert_int_equal(all->reasons[REASON_CLEAR_ALLOWED], 0);
	assert_int_equal(stats_destination(w.env.stats, "tls.example")->reasons[REASON_UPGRADED], 1); /* it has had two turns */
	assert_int_equal(outcome().reason, REASON_UPGRADED);
}

/* The recipient's rule goes out of force with all others; nothing is asked of that customer. */
static void test_exempt_client_sends_to_anybody_in_clear(void **state)
{
	(void)state;
	POLICY("* level=block", "x.example level=block", "client:10.77.1.1/32 level=none");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	says(CLIENT, "RCPT TO:<b@x.example>\r\n");
	hears(SERVER, "RCPT TO:<b@x.example>\r\n");
	assert_string_equal(outcome().rule, "client:10.77.1.1/32");
}

static void test_minimum_holds_for_a_recipient_with_an_exception(void **state)
{
	(void)state;
	POLICY("* level=may", "x.example level=none", "client:10.77.0.0/16 level=encrypt");
	w.params.capabilities = SMTP_CAP_PIPELINING;
	scene_begin();
	says(CLIENT, MAIL "RCPT TO:<b@x.example>\r\n");
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.4 TLS required by policy encrypt for client:10.77.0.0/16", 64);
	assert_string_equal(outcome().rule, "client:10.77.0.0/16");
}

/* From outside nobody is a customer, and each recipient's domain inside may ask for TLS. */
static void test_inbound_by_recipient_and_by_server(void **state)
{
	(void)state;
	w.params.inbound = true;
	POLICY("* level=block", "client:10.77.1.0/24 level=block", "in.example level=block", "inbound:in.example level=encrypt",
	       "inbound:10.77.2.0/24 level=may");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	assert_string_equal(outcome().rule, "inbound:10.77.2.0/24");
	says(CLIENT, "RCPT TO:<a@in.example>\r\n");
	hears(CLIENT, "530 5.7.0 Must issue a STARTTLS command first\r\n");
	says(CLIENT, "RCPT TO:<a@else.example>\r\n");
	hears(SERVER, "RCPT TO:<a@else.example>\r\n");
	POLICY("inbound:10.77.2.0/24 level=encrypt");
	says(SERVER, "250 ok\r\n");
	says(CLIENT, "RSET\r\n");
	says(SERVER, "250 ok\r\n");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, MAIL);
	hears(CLIENT, "530 5.7.0 Must issue a STARTTLS command first\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_refused_recipient_waits_for_those_before_it), SCENE(test_refused_at_mail_and_nothing_of_it_leaves),
		SCENE(test_inbound_client_is_told_to_encrypt), SCENE(test_starttls_of_the_client_is_answered_here),
		SCENE(test_lines_that_servers_read_differently), SCENE(test_one_octet_at_a_time),
		SCENE(test_no_pipelining_towards_a_server_without_it), SCENE(test_auth_exchange_goes_through),
		SCENE(test_deferred_mail_is_upgraded_for_its_recipient), SCENE(test_deferred_mail_of_a_helo_client),
		SCENE(test_deferred_mail_of_a_helo_client_that_is_stripped), SCENE(test_deferred_mail_of_a_client_that_got_454),
		SCENE(test_the_recipient_that_wants_tls_has_it_asked_again),
		SCENE(test_deferred_mail_of_a_helo_client_without_tls), SCENE(test_server_that_is_lost_while_it_is_asked),
		SCENE(test_server_that_is_lost_while_it_is_asked_at_mail), SCENE(test_deferred_mail_goes_in_clear_for_others),
		SCENE(test_refused_deferred_mail_answers_the_recipient), SCENE(test_deferred_mail_without_recipient),
		SCENE(test_observed_recipient_of_a_server_with_tls), SCENE(test_why_it_may_is_counted_as_it_went),
		SCENE(test_recipient_in_clear_by_its_own_rule), SCENE(test_exempt_client_sends_to_anybody_in_clear),
		SCENE(test_minimum_holds_for_a_recipient_with_an_exception), SCENE(test_inbound_by_recipient_and_by_server),
	};
	return cmocka_run_group_tests_name("takeover_commands", tests, NULL, NULL);
}
