/* policy/names.c: the words of levels and reasons, and what a domain name is. */
#include "policy_harness.h"

static void levels_there_and_back(void **state)
{
	static const char *const postfix[] = {"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure", "block"};
	static const char *const wrong[] = {"", "May", "may ", "dane_only", "verified", "fingerprints"};
	enum policy_level level;

	(void)state;
	for (unsigned i = 0; i < POLICY_LEVELS; i++) {
		assert_string_equal(policy_level_name((enum policy_level)i), postfix[i]);
		assert_int_equal(policy_level_parse(postfix[i], &level), 0);
		assert_int_equal(level, i);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(policy_level_parse(wrong[i], &level) < 0);
	assert_string_equal(policy_level_name(POLICY_LEVELS), "?");
}

static void reasons_have_names_and_only_failures_a_result_type(void **state)
{
	(void)state;
	for (enum policy_reason a = 0; a < POLICY_REASONS; a++) {
		assert_true(strspn(policy_reason_name(a), "abcdefghijklmnopqrstuvwxyz-") == strlen(policy_reason_name(a)));
		for (enum policy_reason b = 0; b < a; b++)
			assert_string_not_equal(policy_reason_name(a), policy_reason_name(b));
	}
	assert_string_equal(policy_reason_name(POLICY_REASONS), "?");
	assert_null(policy_result_type(POLICY_REASONS));
	assert_null(policy_result_type(REASON_SEALED));
	assert_null(policy_result_type(REASON_UPGRADED));
	assert_null(policy_result_type(REASON_CLEAR_ALLOWED));
	assert_null(policy_result_type(REASON_BLOCKED));
	assert_string_equal(policy_result_type(REASON_NOT_OFFERED), "starttls-not-supported");
	assert_string_equal(policy_result_type(REASON_NAME_MISMATCH), "certificate-host-mismatch");
	assert_string_equal(policy_result_type(REASON_EXPIRED), "certificate-expired");
	assert_string_equal(policy_result_type(REASON_UNTRUSTED), "certificate-not-trusted");
	assert_string_equal(policy_result_type(REASON_HANDSHAKE), "validation-failure");
	assert_string_equal(policy_result_type(REASON_TLSA), "tlsa-invalid");
	assert_string_equal(policy_result_type(REASON_DNSSEC), "dnssec-invalid");
	assert_string_equal(policy_result_type(REASON_DANE_REQUIRED), "dane-required");
	assert_string_equal(policy_result_type(REASON_STS_FETCH), "sts-policy-fetch-error");
	assert_string_equal(policy_result_type(REASON_STS_INVALID), "sts-policy-invalid");
	assert_string_equal(policy_result_type(REASON_STS_WEBPKI), "sts-webpki-invalid");
	assert_string_equal(policy_result_type(REASON_STRIPPED), "starttls-not-supported");
}

static void domains(void **state)
{
	static const char *const good[] = {"org", "example.org", "a-b.example", "xn--bcher-kva.example", "1.2.3", "_dmarc.example.org"};
	static const char *const wrong[] = {"", ".", "example.org.", ".example.org", "a..b", "Example.org", "-a.org", "a-.org", "a.org-",
					    "a b", "a/b", "*.org", "b\xc3\xbc" "cher.example", "[192.0.2.1]", "a\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!policy_domain_valid(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (policy_domain_valid(wrong[i]))
			fail_msg("%s", wrong[i]);
}

static void lengths(void **state)
{
	char name[IMAGE_DOMAIN_MAX + 2];

	(void)state;
	memset(name, 'a', sizeof(name));
	name[63] = '\0';
	assert_true(policy_domain_valid(name));
	name[63] = 'a';
	name[64] = '\0';
	assert_false(policy_domain_valid(name));
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 64 == 63 ? '.' : 'a';
	name[IMAGE_DOMAIN_MAX] = '\0';
	assert_true(policy_domain_valid(name)); /* three times 63, and 63 again */
	name[IMAGE_DOMAIN_MAX] = 'a';
	name[IMAGE_DOMAIN_MAX + 1] = '\0';
	assert_false(policy_domain_valid(name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_there_and_back),
		cmocka_unit_test(reasons_have_names_and_only_failures_a_result_type),
		cmocka_unit_test(domains),
		cmocka_unit_test(lengths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
