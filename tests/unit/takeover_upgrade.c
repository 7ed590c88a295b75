/* takeover/upgrade.c: STARTTLS, handshake, EHLO, and every way in which they fail. */
#include "takeover_harness.h"

static void test_a_plaintext_mail_goes_on_inside_tls(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	hears(SERVER, MAIL);
	hears(CLIENT, "");
	says(SERVER, "250 2.1.0 Ok\r\n");
	hears(CLIENT, "250 2.1.0 Ok\r\n");
	says(CLIENT, "RCPT TO:<b@x.example>\r\n");
	hears(SERVER, "RCPT TO:<b@x.example>\r\n");
	says(SERVER, "250 ok\r\n");
	says(CLIENT, "QUIT\r\n");
	assert_int_equal(outcome().end, END_UPGRADED);
	assert_int_equal(outcome().tls_version, TLS1_3_VERSION);
	assert_int_equal(outcome().reason, REASON_UPGRADED);
	assert_string_equal(outcome().rcpt[0].domain, "x.example");
	assert_int_equal(stats_destination(w.env.stats, "*")->reasons[REASON_UPGRADED], 1);
	assert_int_equal(stats_destination(w.env.stats, "*")->recipients[RCPT_UPGRADED], 1);
	assert_string_equal(SSL_get_servername(w.tls.ssl, TLSEXT_NAMETYPE_host_name), "mx.example");
	assert_true(outcome().facts.known && outcome().facts.offered && !outcome().facts.end_to_end && outcome().facts.has_certificate);
	assert_int_equal(outcome().facts.tls, FACT_TLS_UP);
	assert_int_equal(outcome().facts.chain, CHAIN_TRUSTED);
	assert_int_equal(outcome().facts.version, TLS1_3_VERSION);
	assert_string_equal(outcome().facts.names[0], "mx.example");
	assert_false(outcome().facts.names_cut || outcome().facts.names[1][0]);
}

static void test_helo_client_is_probed_with_ehlo(void **state)
{
	(void)state;
	w.params.ehlo = false;
	w.params.capabilities = TAKEOVER_CAP_UNKNOWN;
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx\r\n250 STARTTLS\r\n");
	server_upgrades();
	hears(SERVER, MAIL);
	hears(CLIENT, "");
}

static void test_454_is_refused_and_the_session_goes_on(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.", 8);
	w.heard_len[CLIENT] = w.heard[CLIENT][0] = 0;
	hears(SERVER, "");
	says(CLIENT, "RSET\r\n");
	hears(SERVER, "RSET\r\n");
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	assert_int_equal(outcome().end, END_DEFERRED);
	assert_int_equal(outcome().reason, REASON_STARTTLS_REFUSED);
	assert_true(outcome().facts.known && outcome().facts.offered && !outcome().facts.has_certificate);
	assert_int_equal(outcome().facts.tls, FACT_TLS_REFUSED);
}

static void test_454_under_may_goes_on_in_clear(void **state)
{
	(void)state;
	POLICY("* level=may");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	hears(SERVER, MAIL);
	hears(CLIENT, "");
}

/* A way to strip that leaves the EHLO reply alone. */
static void test_454_where_tls_was_had_is_stripping(void **state)
{
	(void)state;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may stripped=refuse on_fail=reject");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	assert_memory_equal(w.heard[CLIENT], "554 5.7.4 TLS required by policy may for ", 41);
	hears(SERVER, "");
	assert_int_equal(outcome().end, END_REJECTED);
	assert_int_equal(outcome().reason, REASON_STRIPPED);
	assert_int_equal(outcome().facts.tls, FACT_TLS_REFUSED);
	assert_true(outcome().stripped);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 1);
	assert_int_equal(stats_destination(w.env.stats, "*")->reasons[REASON_STRIPPED], 1);
}

static void test_454_where_tls_was_had_is_counted_where_it_passes(void **state)
{
	(void)state;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	hears(SERVER, MAIL);
	assert_true(outcome().stripped);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 1);
}

/* Nothing is known of that server: it may be like that. */
static void test_454_of_a_server_without_a_past(void **state)
{
	(void)state;
	POLICY("* level=may stripped=refuse");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	hears(SERVER, MAIL);
	assert_false(outcome().stripped);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 0);
}

/* The recipient's rule alone asks for it, after the destination's has let MAIL pass. */
static void test_454_is_stripping_for_the_recipient_that_minds(void **state)
{
	(void)state;
	POLICY_FOUND(TLSA_NONE, NULL, 0, "* level=may mode=observe", "bound.example level=may stripped=refuse");
	scene_begin();
	says(CLIENT, MAIL);
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "RCPT TO:<b@bound.example>\r\n");
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "454 4.7.0 not now\r\n");
	assert_int_equal(strncmp(w.heard[CLIENT], "451 4.7.4 TLS required by ", 26), 0);
	says(CLIENT, "RCPT TO:<b@plain.example>\r\n");
	hears(SERVER, MAIL);
	assert_int_equal(stats_get(w.env.stats, STAT_stripped), 1);
}

static void test_plaintext_behind_220_is_injection(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "220 go\r\n250 injected\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9);
	assert_int_equal(stats_get(w.env.stats, STAT_injections), 1);
	assert_null(strstr(w.heard[CLIENT], "injected"));
}

static void test_no_tls_behind_220_is_deferred_and_remembered(void **state)
{
	(void)state;
	POLICY("* level=may on_fail=reject");
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	says(SERVER, "220 go\r\n");
	says(SERVER, "500 what?\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9); /* never a bounce under may */
	assert_true(takeover_memory_holds(w.env.memory, w.params.server_addr, w.now));
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "QUIT\r\n");
	hears(CLIENT, "221 2.0.0 Bye\r\n");
	assert_true(tcp_eof(w.peer[CLIENT]));
	assert_int_equal(stats_get(w.env.stats, STAT_tls_failed), 1);
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, false, 7};
	struct takeover_choice next = takeover_choose(w.image, &parties, CAPS, w.env.memory, w.now);
	assert_int_equal(next.action, TAKEOVER_CHOOSE_PASS);
	assert_true(next.remembered);
}

static void test_commands_after_the_server_is_gone(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	says(SERVER, "220 go\r\n");
	says(SERVER, "garbage\r\n");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "EHLO c\r\nNOOP\r\nRSET\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
	hears(CLIENT, "250 mx.example\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n503 5.5.1 Need MAIL before RCPT\r\n503 5.5.1 Need MAIL before DATA\r\n");
	says(CLIENT, MAIL);
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9);
}

static void refused_by_certificate(const struct cert *cert, const char *code, enum policy_reason reason)
{
	scene_begin();
	says(CLIENT, MAIL);
	server_begins_tls(cert);
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, TLS_HELLO);
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], code, 9);
	assert_int_equal(outcome().reason, reason);
}

static void test_wrong_name_under_verify(void **state)
{
	struct cert wrong = cert_make("mx.wrong.example", "DNS:mx.wrong.example", &w.ca, -1, 30);
	(void)state;
	POLICY("* level=verify match=mx.example");
	refused_by_certificate(&wrong, "451 4.7.5", REASON_NAME_MISMATCH);
	assert_non_null(strstr(outcome().detail, "mx.wrong.example"));
	cert_free(&wrong);
}

static void test_self_signed_under_verify_rejects(void **state)
{
	struct cert self = cert_make("mx.example", "DNS:mx.example", NULL, -1, 30);
	(void)state;
	POLICY("* level=verify match=mx.example on_fail=reject");
	refused_by_certificate(&self, "554 5.7.5", REASON_UNTRUSTED);
	cert_free(&self);
}

/* "key:..." or "cert:..." as a rule has it. */
static const char *pin_of(const struct cert *cert, bool of_key)
{
	static char text[80];
	unsigned char digest[32], *der = NULL;
	unsigned len = 32;
	int at = sprintf(text, of_key ? "key:" : "cert:"), der_len = i2d_PUBKEY(cert->key, &der);

	if (of_key)
		EVP_Digest(der, (size_t)der_len, digest, &len, EVP_sha256(), NULL);
	else
		X509_digest(cert->x509, EVP_sha256(), digest, &len);
	OPENSSL_free(der);
	for (int i = 0; i < 32; i++)
		at += sprintf(text + at, "%02X", digest[i]);
	return text;
}

static void pinned_policy(const char *pin, const char *more)
{
	char line[300];
	snprintf(line, sizeof(line), "* level=fingerprint fingerprints=%s%s", pin, more);
	POLICY(line);
}

/* Neither signed by anybody known, nor of that name, nor in its time: the pin is the proof. */
static void test_pinned_key_or_certificate(void **state)
{
	struct cert own = cert_make("nobody", "DNS:nobody.example", NULL, -30, -1);
	(void)state;
	for (int of_key = 0; of_key < 2; of_key++) {
		pinned_policy(pin_of(&own, of_key), "");
		if (of_key)
			scene_again();
		else
			scene_begin();
		says(CLIENT, MAIL);
		server_begins_tls(&own);
		hears(SERVER, "EHLO client.example\r\n");
		says(SERVER, TLS_HELLO);
		hears(SERVER, MAIL);
		assert_int_equal(outcome().reason, REASON_UPGRADED);
		assert_int_equal(outcome().resumed, of_key); /* the pin holds in a session that shows no certificate, too */
	}
	cert_free(&own);
}

static void test_another_certificate_than_the_pinned(void **state)
{
	struct cert pinned = cert_make("mx.example", "DNS:mx.example", &w.ca, -1, 30);
	(void)state;
	pinned_policy(pin_of(&pinned, true), " on_fail=reject");
	refused_by_certificate(&w.cert, "554 5.7.5", REASON_FINGERPRINT);
	assert_non_null(strstr(w.heard[CLIENT], "Certificate fingerprint required by policy fingerprint"));
	cert_free(&pinned);
}

static void test_pin_that_has_ended(void **state)
{
	(void)state;
	pinned_policy(pin_of(&w.cert, false), "@2023-11-14"); /* the scene plays at 22:13 of that day */
	refused_by_certificate(&w.cert, "451 4.7.5", REASON_FINGERPRINT);
}

static void test_pin_on_its_last_day(void **state)
{
	(void)state;
	pinned_policy(pin_of(&w.cert, false), "@2023-11-15");
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	hears(SERVER, MAIL);
}

static void test_recipients_with_pins_of_their_own(void **state)
{
	struct cert other = cert_make("mx.example", "DNS:mx.example", &w.ca, -1, 30);
	char mine[200], theirs[200];
	(void)state;
	snprintf(mine, sizeof(mine), "mine.example fingerprint fingerprints=%s", pin_of(&w.cert, true));
	snprintf(theirs, sizeof(theirs), "theirs.example fingerprint fingerprints=%s", pin_of(&other, true));
	POLICY("* level=encrypt", mine, theirs);
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	says(CLIENT, "RCPT TO:<a@theirs.example>\r\n");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5 ", 10);
	assert_non_null(strstr(w.heard[CLIENT], "theirs.example"));
	hears(SERVER, "");
	assert_int_equal(stats_destination(w.env.stats, "theirs.example")->reasons[REASON_FINGERPRINT], 1);
	says(CLIENT, "RCPT TO:<a@mine.example>\r\n");
	hears(SERVER, "RCPT TO:<a@mine.example>\r\n");
	cert_free(&other);
}

/* ---- TLSA records ---- */

static struct discovered_tlsa record_of(const struct cert *cert, uint8_t digest[32])
{
	uint8_t *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert->x509), &der);

	EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	return (struct discovered_tlsa){3, 1, 1, 32, digest};
}

/* Self-signed, of another name, out of its time, and in a resumed session: the record is the proof; and another server's
 * recipients in the same session are not held to it. */
static void test_tlsa_records_of_a_recipients_server(void **state)
{
	struct cert own = cert_make("nobody", "DNS:nobody.example", NULL, -30, -1), other = cert_make("x", "DNS:x", NULL, -1, 30);
	uint8_t digest[32], wrong[32];
	struct discovered_tlsa records[2] = {record_of(&own, digest), record_of(&other, wrong)};
	(void)state;
	for (int round = 0; round < 3; round++) { /* matched, resumed and matched, not matched */
		POLICY_FOUND(TLSA_SECURE, &records[round / 2], 1, "* level=encrypt", "bound.example dane", "other.example encrypt");
		if (round)
			scene_again();
		else
			scene_begin();
		says(CLIENT, MAIL);
		server_begins_tls(&own);
		hears(SERVER, "EHLO client.example\r\n");
		says(SERVER, TLS_HELLO);
		hears(SERVER, MAIL);
		says(SERVER, "250 ok\r\n");
		hears(CLIENT, "250 ok\r\n");
		assert_int_equal(outcome().resumed, round > 0);
		says(CLIENT, "RCPT TO:<a@bound.example>\r\n");
		if (round < 2) {
			hears(SERVER, "RCPT TO:<a@bound.example>\r\n");
			says(SERVER, "250 ok\r\n");
			continue;
		}
		assert_memory_equal(w.heard[CLIENT], "451 4.7.5 Certificate with a TLSA record required", 49);
		assert_int_equal(stats_destination(w.env.stats, "bound.example")->reasons[REASON_TLSA], 1);
		hears(SERVER, "");
		says(CLIENT, "RCPT TO:<a@other.example>\r\n");
		hears(SERVER, "RCPT TO:<a@other.example>\r\n");
	}
	cert_free(&own);
	cert_free(&other);
}

/* ---- a client's minimum beside the destination's rule ---- */

static void test_minimum_upgrades_where_the_destination_asks_for_nothing(void **state)
{
	(void)state;
	POLICY("* level=none", "client:10.77.1.0/24 level=verify match=mx.example protocols=>=TLSv1.3");
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	hears(SERVER, MAIL);
	assert_string_equal(outcome().rule, "client:10.77.1.0/24");
	assert_int_equal(outcome().tls_version, TLS1_3_VERSION);
}

static void test_the_higher_floor_is_offered(void **state)
{
	(void)state;
	POLICY("* level=encrypt protocols=>=TLSv1.2", "client:10.77.1.0/24 level=encrypt protocols=>=TLSv1.3");
	w.tls = peer_new(true, &w.cert, TLS1_2_VERSION, TLS1_2_VERSION);
	scene_begin();
	says(CLIENT, MAIL);
	server_begins_tls(&w.cert);
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5 ", 10);
}

static void test_minimum_refuses_what_the_destination_takes(void **state)
{
	(void)state;
	POLICY("* level=encrypt", "client:10.77.1.0/24 level=verify match=mx.other.example on_fail=reject");
	refused_by_certificate(&w.cert, "554 5.7.5", REASON_NAME_MISMATCH);
	assert_string_equal(outcome().rule, "client:10.77.1.0/24");
	assert_non_null(strstr(w.heard[CLIENT], "policy verify for client:10.77.1.0/24"));
}

static void test_destination_refuses_what_the_minimum_takes(void **state)
{
	(void)state;
	POLICY("* level=verify match=mx.other.example", "client:10.77.1.0/24 level=encrypt");
	refused_by_certificate(&w.cert, "451 4.7.5", REASON_NAME_MISMATCH);
	assert_string_equal(outcome().rule, "*");
}

static void test_less_inside_tls_than_promised(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	server_begins_tls(&w.cert);
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx.example\r\n250 SIZE 100\r\n");
	hears(SERVER, "");
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9);
}

static void test_server_hangs_up_at_each_step(void **state)
{
	(void)state;
	for (int step = 0; step < 3; step++) {
		if (step)
			scene_again();
		else
			scene_begin();
		says(CLIENT, MAIL);
		if (step == 1)
			says(SERVER, "220 go\r\n");
		if (step == 2)
			server_begins_tls(&w.cert);
		tcp_shutdown(w.peer[SERVER]);
		scene_settle();
		assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9);
	}
}

static void test_handshake_times_out(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	says(SERVER, "220 go\r\n");
	scene_wait(31000000);
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5", 9);
	assert_string_equal(outcome().detail, "TLS handshake timed out");
}

static void test_resumption(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		if (i)
			scene_again();
		else
			scene_begin();
		says(CLIENT, MAIL);
		server_begins_tls(&w.cert);
		says(SERVER, TLS_HELLO);
		assert_int_equal(outcome().resumed, i);
	}
	assert_int_equal(stats_get(w.env.stats, STAT_tls_resumed), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_tlsa_records_of_a_recipients_server), SCENE(test_a_plaintext_mail_goes_on_inside_tls), SCENE(test_helo_client_is_probed_with_ehlo),
		SCENE(test_454_is_refused_and_the_session_goes_on), SCENE(test_454_under_may_goes_on_in_clear),
		SCENE(test_454_where_tls_was_had_is_stripping), SCENE(test_454_where_tls_was_had_is_counted_where_it_passes),
		SCENE(test_454_of_a_server_without_a_past), SCENE(test_454_is_stripping_for_the_recipient_that_minds),
		SCENE(test_plaintext_behind_220_is_injection), SCENE(test_no_tls_behind_220_is_deferred_and_remembered),
		SCENE(test_commands_after_the_server_is_gone), SCENE(test_wrong_name_under_verify),
		SCENE(test_self_signed_under_verify_rejects),
		SCENE(test_pinned_key_or_certificate), SCENE(test_another_certificate_than_the_pinned), SCENE(test_pin_that_has_ended),
		SCENE(test_pin_on_its_last_day), SCENE(test_recipients_with_pins_of_their_own),
		SCENE(test_minimum_upgrades_where_the_destination_asks_for_nothing), SCENE(test_the_higher_floor_is_offered),
		SCENE(test_minimum_refuses_what_the_destination_takes), SCENE(test_destination_refuses_what_the_minimum_takes), SCENE(test_less_inside_tls_than_promised),
		SCENE(test_server_hangs_up_at_each_step), SCENE(test_handshake_times_out), SCENE(test_resumption),
	};
	return cmocka_run_group_tests_name("takeover_upgrade", tests, NULL, NULL);
}
