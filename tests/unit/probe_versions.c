/*
 * probe_versions.c - which versions a server takes: what a handshake's end says of it, which answer goes before which, and
 * what is to be asked next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "../../control/probe/private.h"

#define TLS10 0x0301
#define TLS11 0x0302
#define TLS12 0x0303
#define TLS13 0x0304

static void expect(const struct probe_posture *posture, enum probe_answer a, enum probe_answer b, enum probe_answer c, enum probe_answer d)
{
	const enum probe_answer wanted[PROBE_VERSIONS] = {a, b, c, d};

	for (unsigned i = 0; i < PROBE_VERSIONS; i++) {
		assert_int_equal(posture->versions[i].answer, wanted[i]);
		assert_int_equal(posture->versions[i].at, wanted[i] == PROBE_UNTRIED ? 0 : posture->at);
	}
}

static void a_whole_look_tells_of_those_above(void **state)
{
	struct probe_posture p = {.at = 50}, best = {.at = 50}, old = {.at = 50}, odd = {.at = 50};

	(void)state;
	versions_after_success(&best, TLS13, 0);
	expect(&best, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_TAKEN);
	versions_after_success(&p, TLS11, 0);
	expect(&p, PROBE_UNTRIED, PROBE_TAKEN, PROBE_REFUSED, PROBE_REFUSED);
	versions_after_success(&old, TLS10, TLS10); /* it was offered nothing else */
	expect(&old, PROBE_TAKEN, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED);
	versions_after_success(&odd, 0x0300, 0);
	versions_after_success(&odd, 0x0305, 0);
	expect(&odd, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED);
}

static void a_refusal_is_the_servers_own_word(void **state)
{
	static const struct { int ssl_error, reason, number; bool refused; } rows[] = {
		{SSL_ERROR_SSL, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, 0, true},
		{SSL_ERROR_SSL, SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, 0, true},
		{SSL_ERROR_SSL, SSL_R_UNSUPPORTED_PROTOCOL, 0, true},
		{SSL_ERROR_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING, 0, true},
		{SSL_ERROR_SSL, SSL_R_NO_PROTOCOLS_AVAILABLE, 0, false}, /* of our own library */
		{SSL_ERROR_SSL, SSL_R_NO_CIPHERS_AVAILABLE, 0, false},
		{SSL_ERROR_SSL, SSL_R_DH_KEY_TOO_SMALL, 0, false},
		{SSL_ERROR_SYSCALL, 0, ECONNRESET, true},
		{SSL_ERROR_SYSCALL, 0, 0, true},
		{SSL_ERROR_SYSCALL, 0, ETIMEDOUT, false},
		{SSL_ERROR_SYSCALL, 0, EHOSTUNREACH, false},
		{SSL_ERROR_ZERO_RETURN, 0, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct probe_posture p = {.at = 50}, whole = {.at = 50};
		unsigned long error = rows[i].reason ? ERR_PACK(ERR_LIB_SSL, 0, rows[i].reason) : 0;
		versions_after_failure(&p, TLS11, rows[i].ssl_error, error, rows[i].number);
		if ((p.versions[1].answer == PROBE_REFUSED) != rows[i].refused)
			fail_msg("row %zu", i);
		expect(&p, PROBE_UNTRIED, p.versions[1].answer, PROBE_UNTRIED, PROBE_UNTRIED);
		versions_after_failure(&whole, 0, rows[i].ssl_error, error, rows[i].number); /* of which one would it be? */
		expect(&whole, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED, PROBE_UNTRIED);
	}
}

static void answers_are_taken_over(void **state)
{
	struct probe_version to[PROBE_VERSIONS] = {{PROBE_TAKEN, 5}, {PROBE_REFUSED, 6}}, none[PROBE_VERSIONS] = {{0}};
	const struct probe_version from[PROBE_VERSIONS] = {[1] = {PROBE_TAKEN, 7}, [3] = {PROBE_TAKEN, 7}};

	(void)state;
	assert_false(probe_versions_take(to, none));
	assert_true(probe_versions_take(to, from));
	assert_false(probe_versions_take(to, from));
	assert_true(to[0].answer == PROBE_TAKEN && to[0].at == 5 && to[1].answer == PROBE_TAKEN && to[1].at == 7);
	assert_true(to[2].answer == PROBE_UNTRIED && to[3].answer == PROBE_TAKEN);
}

static void the_lowest_unknown_is_due(void **state)
{
	struct probe_posture p = {.version = TLS13, .versions = {[3] = {PROBE_TAKEN, 100}}};

	(void)state;
	assert_int_equal(probe_version_due(&p, 50), TLS10);
	p.versions[0] = (struct probe_version){PROBE_REFUSED, 60};
	assert_int_equal(probe_version_due(&p, 50), TLS11);
	p.versions[1] = p.versions[2] = p.versions[0];
	assert_int_equal(probe_version_due(&p, 50), 0);
	assert_int_equal(probe_version_due(&p, 61), TLS10); /* it is old */
	p.versions[0].at = 70;
	assert_int_equal(probe_version_due(&p, 61), TLS11);
	p.version = 0;
	assert_int_equal(probe_version_due(&p, 61), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_look_tells_of_those_above), cmocka_unit_test(a_refusal_is_the_servers_own_word),
		cmocka_unit_test(answers_are_taken_over), cmocka_unit_test(the_lowest_unknown_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
