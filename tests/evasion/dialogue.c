/*
 * dialogue.c - evasions in SMTP's text: commands and replies that two readers take for two things.
 */
#include "scene.h"

#define MAIL "MAIL FROM:<mallory@client.example>\r\n"

static void is_still_watched(void)
{
	says(CLIENT, MAIL);
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
}

/* What the client says is answered by waxseal, and the server hears no octet of it. */
static void is_refused_as_mail(const char *command)
{
	says(CLIENT, command);
	passes_us(SECONDS_US(1));
	is_state(FLOW_TAKEN);
	hears(SERVER, "");
	assert_true(s.whole[CLIENT] > s.read[CLIENT]);
	MOVED(takeovers, 1);
}

/* ---- injection ---- */

static void plaintext_behind_starttls_in_its_segment(void **state)
{
	(void)state;
	hello(OFFERS);
	says(CLIENT, "STARTTLS\r\n" MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void plaintext_behind_starttls_in_the_next_segment(void **state)
{
	(void)state;
	hello(OFFERS);
	says(CLIENT, "STARTTLS\r\n");
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void plaintext_of_the_client_behind_220(void **state)
{
	(void)state;
	starttls();
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void plaintext_of_the_server_behind_220_in_its_segment(void **state)
{
	(void)state;
	hello(OFFERS);
	says(CLIENT, "STARTTLS\r\n");
	says(SERVER, "220 go\r\n250-AUTH PLAIN\r\n250 ok\r\n");
	never_heard(CLIENT, "AUTH");
	MOVED(injections, 1);
	is_cut();
}

static void plaintext_of_the_server_behind_220_in_the_next_segment(void **state)
{
	(void)state;
	starttls();
	says(SERVER, "250-AUTH PLAIN\r\n");
	never_heard(CLIENT, "AUTH");
	MOVED(injections, 1);
	is_cut();
}

static void plaintext_behind_220_to_waxseals_own_starttls(void **state)
{
	(void)state;
	hello(OFFERS);
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "220 go\r\n250 2.1.0 sender ok\r\n");
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	MOVED(tls_failed, 1);
}

/* "454 not now" to STARTTLS is where strippers stop asking. */
static void starttls_refused_by_the_server(void **state)
{
	(void)state;
	hello(OFFERS);
	says(CLIENT, "STARTTLS\r\n");
	says(SERVER, "454 not now\r\n");
	hears_all(CLIENT, "454 not now\r\n", 13);
	s.read[SERVER] = s.whole[SERVER];
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n"); /* waxseal asks itself */
	says(SERVER, "454 not now\r\n");
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
}

/* TLS was had at the scene's server. */
static void policy_where_tls_was_had(const char *rule)
{
	const char *const lines[] = {rule, NULL};
	struct discovered_seen seen = {.at = 1699999999};
	struct discovered found = {.seen = &seen, .seen_count = 1};
	memcpy(seen.addr, scene_flow()->key.server, 16);
	struct policy_image *image = image_of_findings(lines, &found);
	worker_set_image(s.worker, image);
	policy_image_close(s.image);
	s.image = image;
}

/* (measure) The rule is only observed: nothing is refused, and it is counted as what it is. */
static void starttls_refused_where_the_rule_is_observed(void **state)
{
	const struct stats_destination *destination;
	(void)state;
	hello(OFFERS);
	policy_where_tls_was_had("* level=may stripped=refuse mode=observe");
	says(CLIENT, "STARTTLS\r\n");
	says(SERVER, "454 not now\r\n");
	s.read[CLIENT] = s.whole[CLIENT];
	s.read[SERVER] = s.whole[SERVER];
	says(CLIENT, MAIL);
	hears(SERVER, MAIL);
	is_state(FLOW_CLEAR);
	MOVED(stripped, 1);
	destination = stats_destination(s.stats, "*");
	assert_int_equal(destination->would[POLICY_DEFER], 1);
	assert_true(destination->reasons[REASON_STRIPPED] > 0);
	says(SERVER, "250 ok\r\n");
	says(CLIENT, "RCPT TO:<b@server.example>\r\n");
	says(SERVER, "250 ok\r\n");
	assert_int_equal(destination->recipients[RCPT_CLEAR], 1);
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT]);
	assert_int_equal(s.events, 1);
	assert_true(s.event.stripped);
	assert_int_equal(s.event.end, END_CLEAR);
	assert_int_equal(s.event.reason, REASON_STRIPPED);
	assert_int_equal(s.event.facts.tls, FACT_TLS_REFUSED);
	assert_true(s.event.facts.offered);
}

/* ---- spellings ---- */

static void verbs_in_any_case(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_refused_as_mail("mAiL from:<a@b.example>\r\n");
}
static void blanks_before_the_verb(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_refused_as_mail(" \t\v MAIL FROM:<a@b.example>\r\n");
}
static void mail_without_a_blank(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_refused_as_mail("MAILFROM:<a@b.example>\r\n");
}
static void mail_behind_an_empty_line(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	says(CLIENT, "\r\n" MAIL);
	hears(SERVER, "\r\n");
	says(SERVER, "500 what\r\n");
	passes_us(SECONDS_US(1));
	never_heard(SERVER, "MAIL");
	is_state(FLOW_TAKEN);
	MOVED(takeovers, 1);
}
/* Of offers and of recipients' domains, too. */
static void parameters_in_any_case(void **state)
{
	(void)state;
	POLICY("* level=may", "hospital.example level=encrypt");
	hello("250-mx.example\r\n250-pipelining\r\n250 StartTls\r\n");
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n"); /* it was offered */
	says(SERVER, "454 not now\r\n");
	passes_us(SECONDS_US(1));
	says(CLIENT, "rcpt to:<a@HOSPITAL.Example.>\r\n");
	passes_us(SECONDS_US(1));
	never_heard(SERVER, "HOSPITAL");
	MOVED(takeovers, 1);
}
static void rcpt_without_mail(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_refused_as_mail("RCPT TO:<a@b.example>\r\n");
}
static void xclient_before_mail(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_refused_as_mail("XCLIENT ADDR=10.0.0.1\r\n");
}
static void octet_by_octet(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	for (const char *p = MAIL; *p; p++)
		says_bytes(CLIENT, p, 1);
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "M");
	MOVED(takeovers, 1);
}
static void bare_lf_lines(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	says(CLIENT, "NOOP\nMAIL FROM:<a@b.example>\n");
	hears(SERVER, "NOOP\n");
	says(SERVER, "250 ok\r\n");
	passes_us(SECONDS_US(1));
	is_state(FLOW_TAKEN);
	never_heard(SERVER, "MAIL");
	MOVED(takeovers, 1);
}

/* ---- odd dialogues: the rule wants TLS, so they do not pass unseen ---- */

static void is_cut_as_odd(const char *bytes, size_t len)
{
	hello(OFFERS_NOTHING);
	says_bytes(CLIENT, bytes, len);
	never_heard(SERVER, "MAIL");
	MOVED(nonsmtp, 1);
	is_cut();
}
#define CUT_AS_ODD(bytes) is_cut_as_odd(bytes, sizeof(bytes) - 1)

static void bare_cr_lines(void **state) { (void)state; CUT_AS_ODD("NOOP x\rMAIL FROM:<a@b.example>\r\n"); }
static void nul_in_a_command(void **state) { (void)state; CUT_AS_ODD("NOOP \0\r\nMAIL FROM:<a@b.example>\r\n"); }
static void eight_bit_verb(void **state) { (void)state; CUT_AS_ODD("\xcdMAIL FROM:<a@b.example>\r\n"); }
static void line_without_end(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	for (unsigned i = 0; i < 30; i++) /* past SMTP_COMMAND_MAX */
		says(CLIENT, "NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ");
	MOVED(nonsmtp, 1);
	hears(SERVER, "");
	is_cut();
}
static void odd_where_clear_is_allowed(void **state)
{
	(void)state;
	POLICY("* level=may");
	hello(OFFERS_NOTHING);
	says_bytes(CLIENT, "NOOP \0\r\n", 8);
	hears_all(SERVER, "NOOP \0\r\n", 8);
	is_state(FLOW_CLEAR);
	MOVED(nonsmtp, 1);
}
static void odd_where_only_a_domain_wants_tls(void **state)
{
	(void)state;
	POLICY("* level=may", "hospital.example level=encrypt");
	CUT_AS_ODD("NOOP \0\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@hospital.example>\r\n");
}
static void odd_behind(const char *hello_reply)
{
	hello(hello_reply);
	policy_where_tls_was_had("* level=may stripped=refuse");
	says_bytes(CLIENT, "NOOP \0\r\nMAIL FROM:<a@b.example>\r\n", 34);
	never_heard(SERVER, "MAIL");
	MOVED(nonsmtp, 1);
	is_cut();
}
static void odd_where_starttls_is_missed(void **state)
{
	(void)state;
	odd_behind(OFFERS_NOTHING);
}
static void odd_where_tls_was_had(void **state)
{
	(void)state;
	odd_behind(OFFERS);
}
static void thousands_of_noops(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	for (unsigned i = 0; i < 3000 && scene_state() == FLOW_DIALOGUE; i++) {
		says(CLIENT, "NOOP\r\n");
		says(SERVER, "250 ok\r\n");
	}
	assert_true(s.whole[SERVER] < 1010 * 6);
	MOVED(nonsmtp, 1);
	is_cut();
}
static void thousands_of_noops_without_a_reply(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	for (unsigned i = 0; i < 3000 && scene_state() == FLOW_DIALOGUE; i++) {
		says(CLIENT, "NOOP\r\n");
		acks(SERVER);
	}
	assert_true(s.whole[SERVER] <= 21 + SMTP_PIPELINE_MAX * 6);
	MOVED(nonsmtp, 1);
	is_cut();
}

/* ---- who says that it is no SMTP? ---- */

static void another_protocol_first_then_smtp(void **state)
{
	(void)state;
	handshake();
	says(CLIENT, "GET / HTTP/1.0\r\n\r\n");
	hears(SERVER, "GET / HTTP/1.0\r\n\r\n"); /* it may be: nonsmtp = pass */
	says(SERVER, "220 mx ESMTP\r\n500 what\r\n");
	says(CLIENT, "\x01 mail FROM:<mallory@client.example>\r\n");
	never_heard(SERVER, "mail");
	is_cut();
}
static void greeting_that_is_none_then_smtp(void **state)
{
	(void)state;
	handshake();
	says_bytes(SERVER, "220 mx\0 ESMTP\r\n", 15); /* somebody outside hides the server */
	says(CLIENT, "EHLO client.example\r\n" MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(nonsmtp, 1);
	is_cut();
}
static void another_protocol_passes(void **state)
{
	(void)state;
	handshake();
	says(CLIENT, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");
	hears(SERVER, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");
	says(SERVER, "HTTP/1.0 200 ok\r\n\r\n");
	hears(CLIENT, "HTTP/1.0 200 ok\r\n\r\n");
	MOVED(nonsmtp, 1);
}

/* ---- replies ---- */

static void replies_with_differing_codes(void **state)
{
	(void)state;
	greeting();
	says(CLIENT, "EHLO client.example\r\n");
	says(SERVER, "250-mx.example\r\n251 STARTTLS\r\n");
	MOVED(nonsmtp, 1);
	is_cut();
}
static void starttls_offered_in_the_greeting(void **state)
{
	(void)state;
	handshake();
	says(SERVER, "220-mx.example\r\n220-STARTTLS\r\n220 250-STARTTLS\r\n");
	says(CLIENT, "EHLO client.example\r\n");
	says(SERVER, OFFERS_NOTHING);
	s.read[CLIENT] = s.whole[CLIENT];
	is_still_watched(); /* not offered: 451, and no STARTTLS of waxseal's own */
	never_heard(SERVER, "STARTTLS");
}
static void greeting_of_250(void **state)
{
	(void)state;
	handshake();
	says(SERVER, "250-mx.example\r\n250-STARTTLS\r\n250 ok\r\n");
	says(CLIENT, "EHLO client.example\r\n");
	says(SERVER, OFFERS_NOTHING);
	s.read[CLIENT] = s.whole[CLIENT];
	is_still_watched();
	never_heard(SERVER, "STARTTLS");
}
static void two_replies_to_one_command(void **state)
{
	(void)state;
	greeting();
	says(CLIENT, "EHLO client.example\r\n");
	says(SERVER, OFFERS_NOTHING "250 2.1.0 sender ok\r\n"); /* shifts every reply after it by one */
	never_heard(CLIENT, "sender ok");
	MOVED(nonsmtp, 1);
	is_cut();
}
static void endless_reply(void **state)
{
	(void)state;
	greeting();
	says(CLIENT, "EHLO client.example\r\n");
	for (unsigned i = 0; i < 1000 && scene_state() == FLOW_DIALOGUE; i++) {
		says(SERVER, "250-X\r\n");
		acks(CLIENT);
	}
	assert_true(s.whole[CLIENT] < 7 * (SMTP_REPLY_LINES_MAX + 10));
	MOVED(nonsmtp, 1);
	is_cut();
}
static void ehlo_pipelined_with_mail(void **state)
{
	(void)state;
	greeting();
	says(CLIENT, "EHLO client.example\r\n" MAIL "RCPT TO:<a@b.example>\r\nDATA\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	MOVED(split_segments, 1);
	says(SERVER, OFFERS_NOTHING);
	passes_us(SECONDS_US(1));
	never_heard(SERVER, "MAIL");
	is_state(FLOW_TAKEN);
	never_heard(CLIENT, "354");
}
static void commands_before_the_greeting(void **state)
{
	(void)state;
	handshake();
	says(CLIENT, "EHLO client.example\r\n" MAIL);
	hears(SERVER, "");
	MOVED(held_segments, 1);
	says(SERVER, "220 mx.example ESMTP\r\n");
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, OFFERS_NOTHING);
	passes_us(SECONDS_US(1));
	never_heard(SERVER, "MAIL");
}
static void fin_of_the_server_before_mail(void **state)
{
	(void)state;
	hello(OFFERS);
	SEG(.from = SERVER, .flags = FIN | ACK, .seq = s.sent[SERVER], .ack = (uint32_t)s.whole[SERVER] + 1);
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(takeover_impossible, 1);
	is_cut();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest rows[] = {
		ROW(plaintext_behind_starttls_in_its_segment), ROW(plaintext_behind_starttls_in_the_next_segment),
		ROW(plaintext_of_the_client_behind_220), ROW(plaintext_of_the_server_behind_220_in_its_segment),
		ROW(plaintext_of_the_server_behind_220_in_the_next_segment), ROW(plaintext_behind_220_to_waxseals_own_starttls),
		ROW(starttls_refused_by_the_server), ROW(starttls_refused_where_the_rule_is_observed),
		ROW(verbs_in_any_case), ROW(blanks_before_the_verb), ROW(mail_without_a_blank), ROW(mail_behind_an_empty_line), ROW(parameters_in_any_case),
		ROW(rcpt_without_mail), ROW(xclient_before_mail), ROW(octet_by_octet), ROW(bare_lf_lines),
		ROW(bare_cr_lines), ROW(nul_in_a_command), ROW(eight_bit_verb), ROW(line_without_end), ROW(odd_where_clear_is_allowed),
		ROW(odd_where_only_a_domain_wants_tls), ROW(odd_where_starttls_is_missed), ROW(odd_where_tls_was_had),
		ROW(thousands_of_noops), ROW(thousands_of_noops_without_a_reply),
		ROW(another_protocol_first_then_smtp), ROW(greeting_that_is_none_then_smtp), ROW(another_protocol_passes),
		ROW(replies_with_differing_codes), ROW(starttls_offered_in_the_greeting), ROW(greeting_of_250), ROW(two_replies_to_one_command),
		ROW(endless_reply), ROW(ehlo_pipelined_with_mail), ROW(commands_before_the_greeting), ROW(fin_of_the_server_before_mail),
	};
	return PLAY("dialogue", rows, argc, argv);
}
