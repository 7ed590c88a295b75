/*
 * agent_sts_text.c - the TXT record and the policy file of MTA-STS: what is taken, what is passed over, what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/agent/sts_text.h"

static void records(void **state)
{
	static const struct { const char *text, *id; bool ours; } rows[] = {
		{"v=STSv1; id=20160831085700Z;", "20160831085700Z", true},
		{"v=STSv1;id=1", "1", true},
		{"v=STSv1 ; x=y; id=abc ;", "abc", true},
		{"v=STSv1; id=first; id=second", "first", true},
		{"v=STSv1; id=12345678901234567890123456789012", "12345678901234567890123456789012", true},
		{"v=STSv1; id=123456789012345678901234567890123", NULL, true},
		{"v=STSv1; id=", NULL, true},
		{"v=STSv1; id=a-b", NULL, true},
		{"v=STSv1; id=a b", NULL, true},
		{"v=STSv1;", NULL, true},
		{"v=STSv1", NULL, false},
		{"v=STSv10; id=1", NULL, false},
		{"V=STSv1; id=1", NULL, false},
		{" v=STSv1; id=1", NULL, false},
		{"v=spf1 -all", NULL, false},
		{"", NULL, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char id[STS_ID_MAX + 1] = "";
		size_t len = strlen(rows[i].text);
		if (sts_record_is_ours(rows[i].text, len) != rows[i].ours || sts_record_parse(rows[i].text, len, id) != (rows[i].id != NULL))
			fail_msg("row %zu: %s", i, rows[i].text);
		if (rows[i].id)
			assert_string_equal(id, rows[i].id);
	}
	char id[STS_ID_MAX + 1];
	assert_false(sts_record_parse("v=STSv1; id=1\0;", 15, id));
}

static void policies(void **state)
{
	static const struct { const char *text, *mx; enum policy_sts mode; uint32_t max_age; } rows[] = {
		{"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n",
		 "mail.example.com *.example.net", STS_ENFORCE, 604800},
		{"version: STSv1\nmode: testing\nmx: MX.Example.COM.\nmax_age: 1", "mx.example.com", STS_TESTING, 1},
		{"max_age:86400\nmx:a.example\nmode:enforce\nversion:STSv1\n", "a.example", STS_ENFORCE, 86400},
		{"version: STSv1\nmode: none\nmax_age: 86400\n", "", STS_NONE, 86400},
		{"version: STSv1 \t\nmode: enforce\nmode: bad\nmx: a.example\nmax_age: 5\nmax_age: x\n", "a.example", STS_ENFORCE, 5},
		{"version: STSv1\nmode: enforce\nfuture_field: any: thing\nx:\nmx: a.example\nmax_age: 9999999999\n\n", "a.example", STS_ENFORCE, STS_MAX_AGE_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sts_policy policy, again = {0};
		const char *why = sts_policy_parse(rows[i].text, strlen(rows[i].text), &policy);
		if (why)
			fail_msg("row %zu: %s", i, why);
		assert_int_equal(policy.mode, rows[i].mode);
		assert_int_equal(policy.max_age, rows[i].max_age);
		char *mx = sts_mx_print(&policy);
		assert_string_equal(mx, rows[i].mx);
		again.mode = policy.mode;
		again.max_age = policy.max_age;
		assert_true(sts_mx_parse(mx, &again));
		assert_true(sts_policy_equal(&policy, &again));
		again.max_age++;
		assert_false(sts_policy_equal(&policy, &again));
		free(mx);
		sts_policy_dispose(&policy);
		sts_policy_dispose(&again);
	}
}

static void refused(void **state)
{
	static const char *const rows[] = {
		"", "\n\n", "<html>no</html>", "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 5\n",
		"mode: enforce\nmx: a.example\nmax_age: 5\n", "version: STSv1\nmx: a.example\nmax_age: 5\n",
		"version: STSv1\nmode: enforce\nmax_age: 5\n", "version: STSv1\nmode: enforce\nmx: a.example\n",
		"version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 5\n", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -5\n",
		"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 12345678901\n", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: \n",
		"version: STSv1\nmode: enforce\nmx: a b\nmax_age: 5\n", "version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 5\n",
		"version: STSv1\nmode: enforce\nmx: *\nmax_age: 5\n", "version: STSv1\nmode: enforce\nmx: \nmax_age: 5\n",
		"version: STSv1\nmode: enforce\nmx: .example\nmax_age: 5\n", "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 5\n",
		"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 5\nnonsense\n", "Version: STSv1\nmode: none\nmax_age: 5\n",
	};
	struct sts_policy policy;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!sts_policy_parse(rows[i], strlen(rows[i]), &policy))
			fail_msg("row %zu is taken: %s", i, rows[i]);
	assert_non_null(sts_policy_parse("version: STSv1\0\nmode: none\nmax_age: 5\n", 38, &policy));
	assert_int_equal(policy.mx_count, 0);
}

static void limits(void **state)
{
	static char text[STS_TEXT_MAX + 2];
	struct sts_policy policy;
	size_t len = (size_t)sprintf(text, "version: STSv1\nmode: enforce\nmax_age: 5\n");

	(void)state;
	for (int i = 0; i < STS_MX_MAX; i++)
		len += (size_t)sprintf(text + len, "mx: a%d.example\n", i);
	assert_null(sts_policy_parse(text, len, &policy));
	assert_int_equal(policy.mx_count, STS_MX_MAX);
	sts_policy_dispose(&policy);
	sprintf(text + len, "mx: more.example\n");
	assert_non_null(sts_policy_parse(text, strlen(text), &policy));
	memset(text + len, '\n', sizeof(text) - len);
	assert_null(sts_policy_parse(text, STS_TEXT_MAX, &policy));
	sts_policy_dispose(&policy);
	assert_non_null(sts_policy_parse(text, STS_TEXT_MAX + 1, &policy));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(records), cmocka_unit_test(policies), cmocka_unit_test(refused), cmocka_unit_test(limits)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
