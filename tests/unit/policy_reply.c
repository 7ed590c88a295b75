/* policy/reply.c: policy.md's table of refusals, and that nobody else can write into them. */
#include "policy_harness.h"

static char out[POLICY_REPLY_MAX];

static const char *reply(enum policy_action action, enum policy_reason reason, const char *whom, const char *server)
{
	struct image_rule rule = {.level = LEVEL_ENCRYPT};
	struct policy_decision d = {.action = action, .reason = reason};
	size_t len;

	memset(out, 'x', sizeof(out));
	len = policy_reply(&d, &rule, whom, server, out);
	assert_int_equal(strlen(out), len);
	return out;
}

static void says_what_was_asked_of_whom(void **state)
{
	(void)state;
	assert_string_equal(reply(POLICY_DEFER, REASON_NOT_OFFERED, "example.org", "mx1.example.org"),
			    "451 4.7.4 TLS required by policy encrypt for example.org, not offered by mx1.example.org\r\n");
	assert_string_equal(reply(POLICY_REJECT, REASON_NOT_OFFERED, "*", NULL),
			    "554 5.7.4 TLS required by policy encrypt for all destinations, not offered by the server\r\n");
}

static void names_whose_word_it_is(void **state)
{
	struct image_rule rule = {.level = LEVEL_SECURE, .origin = ORIGIN_STS};
	struct policy_decision d = {.action = POLICY_DEFER, .reason = REASON_STS_MX};

	(void)state;
	policy_reply(&d, &rule, "example.org", "mx.evil.example", out);
	assert_string_equal(out, "451 4.7.5 Server refused by MTA-STS for example.org, which does not name mx.evil.example\r\n");
	rule = (struct image_rule){.level = LEVEL_DANE, .origin = ORIGIN_DANE};
	d.reason = REASON_TLSA;
	policy_reply(&d, &rule, "example.org", "mx.example.org", out);
	assert_string_equal(out, "451 4.7.5 Certificate with a TLSA record required by DANE for example.org, none meets that of mx.example.org\r\n");
}

static void codes_of_each_case(void **state)
{
	static const struct { enum policy_reason reason; const char *defer, *reject; } cases[] = {
		{REASON_NOT_OFFERED, "451 4.7.4 ", "554 5.7.4 "},   {REASON_STARTTLS_REFUSED, "451 4.7.4 ", "554 5.7.4 "},
		{REASON_CLEAR_SESSION, "451 4.7.4 ", "554 5.7.4 "}, {REASON_HANDSHAKE, "451 4.7.5 ", "554 5.7.5 "},
		{REASON_VERSION, "451 4.7.5 ", "554 5.7.5 "},       {REASON_UNTRUSTED, "451 4.7.5 ", "554 5.7.5 "},
		{REASON_EXPIRED, "451 4.7.5 ", "554 5.7.5 "},       {REASON_CHAIN_INVALID, "451 4.7.5 ", "554 5.7.5 "},
		{REASON_NAME_MISMATCH, "451 4.7.5 ", "554 5.7.5 "}, {REASON_UNSUPPORTED, "451 4.7.5 ", "554 5.7.5 "},
		{REASON_BLOCKED, "451 4.7.1 ", "554 5.7.1 "},       {REASON_STRIPPED, "451 4.7.4 ", "554 5.7.4 "},
		{REASON_TLSA, "451 4.7.5 ", "554 5.7.5 "},          {REASON_DNSSEC, "451 4.7.5 ", "554 5.7.5 "},
		{REASON_DANE_REQUIRED, "451 4.7.5 ", "554 5.7.5 "}, {REASON_STS_MX, "451 4.7.5 ", "554 5.7.5 "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_memory_equal(reply(POLICY_DEFER, cases[i].reason, "example.org", "mx"), cases[i].defer, 10);
		assert_memory_equal(reply(POLICY_REJECT, cases[i].reason, "example.org", "mx"), cases[i].reject, 10);
		assert_non_null(strstr(out, "example.org"));
		assert_non_null(strstr(out, "mx"));
	}
}

static void a_client_from_outside_is_told_to_use_starttls(void **state)
{
	struct image_rule rule = {.kind = POLICY_INBOUND, .level = LEVEL_ENCRYPT};
	struct policy_decision d = {.action = POLICY_REJECT, .reason = REASON_CLEAR_SESSION};

	(void)state;
	assert_int_equal(policy_reply(&d, &rule, "inbound:*", "mx", out), 47);
	assert_string_equal(out, "530 5.7.0 Must issue a STARTTLS command first\r\n");
}

static void an_allowance_has_no_reply(void **state)
{
	(void)state;
	assert_string_equal(reply(POLICY_ALLOW, REASON_NOT_OFFERED, "example.org", "mx"), "");
	assert_string_equal(reply(POLICY_DEFER, POLICY_REASONS, "example.org", "mx"), "");
	/* a caller that refuses for a reason that allows still gets a reply, and no crash */
	assert_memory_equal(reply(POLICY_DEFER, REASON_SEALED, "example.org", "mx"), "451 4.7.1 ", 10);
}

static void nobody_writes_a_line_of_their_own(void **state)
{
	(void)state;
	reply(POLICY_DEFER, REASON_NOT_OFFERED, "a\r\n250 OK", "mx\r\n221 bye\x80\x7f\t");
	assert_non_null(strstr(out, "for a??250 OK,"));
	assert_non_null(strstr(out, "by mx??221 bye???\r\n"));
	for (size_t i = 0; i < strlen(out) - 2; i++)
		assert_true(out[i] >= ' ' && out[i] <= '~');
}

static void the_longest_names_fit(void **state)
{
	char longest[1000];

	(void)state;
	memset(longest, 'w', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (enum policy_level level = 0; level < POLICY_LEVELS; level++)
		for (enum policy_reason reason = 0; reason < POLICY_REASONS; reason++) {
			struct image_rule rule = {.level = (uint8_t)level};
			struct policy_decision d = {.action = POLICY_REJECT, .reason = reason};
			size_t len = policy_reply(&d, &rule, longest, longest, out);

			assert_true(len > 320 && len < POLICY_REPLY_MAX);
			assert_string_equal(out + len - 2, "\r\n");
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_was_asked_of_whom),
		cmocka_unit_test(names_whose_word_it_is),
		cmocka_unit_test(codes_of_each_case),
		cmocka_unit_test(a_client_from_outside_is_told_to_use_starttls),
		cmocka_unit_test(an_allowance_has_no_reply),
		cmocka_unit_test(nobody_writes_a_line_of_their_own),
		cmocka_unit_test(the_longest_names_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
