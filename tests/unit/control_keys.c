/* control/policy/keys.c: what a rule stands under; two spellings are one key. */
#include "control_harness.h"

static void keys(void **state)
{
	static const struct {
		struct h_value value;
		enum policy_kind kind;
	} cases[] = {
		{{"Example.ORG.", "example.org", NULL}, POLICY_DOMAIN},
		{{".Example.ORG", ".example.org", NULL}, POLICY_PARENT},
		{{"*", "*", NULL}, POLICY_DEFAULT},
		{{"Provider:Google", "provider:google", NULL}, POLICY_PROVIDER},
		{{"client:10.0.0.0/8", "client:10.0.0.0/8", NULL}, POLICY_CLIENT},
		{{"CLIENT:2001:DB8::/32", "client:2001:db8::/32", NULL}, POLICY_CLIENT},
		{{"inbound:*", "inbound:*", NULL}, POLICY_INBOUND},
		{{"inbound:Example.org", "inbound:example.org", NULL}, POLICY_INBOUND},
		{{"inbound:.Example.org", "inbound:.example.org", NULL}, POLICY_INBOUND},
		{{"inbound:203.0.113.0/24", "inbound:203.0.113.0/24", NULL}, POLICY_INBOUND},
		{{"inbound:2001:db8::1", "inbound:2001:db8::1/128", NULL}, POLICY_INBOUND},
		{{"", NULL, "empty"}, 0},
		{{"provider:", NULL, "1 to 63"}, 0},
		{{"client:", NULL, "not a network"}, 0},
		{{"client:example.org", NULL, "not a network"}, 0},
		{{"client:10.0.0.1/8", NULL, "10.0.0.0/8 would be right"}, 0},
		{{"inbound:", NULL, "empty"}, 0},
		{{"destination:x", NULL, "not a key"}, 0},
		{{"**", NULL, "not a domain"}, 0},
		{{"192.0.2.1", NULL, "an address"}, 0},
	};
	char out[KEY_MAX];
	enum policy_kind kind;
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int err = key_parse(cases[i].value.text, out, &kind, &why);

		h_value(&cases[i].value, err, out, &why);
		if (!err)
			assert_int_equal(kind, cases[i].kind);
	}
	assert_string_equal(key_subject("client:10.0.0.0/8"), "10.0.0.0/8");
	assert_string_equal(key_subject("inbound:fd77::/16"), "fd77::/16");
	assert_true(key_subject_is_net("10.0.0.0/8"));
	assert_true(key_subject_is_net("fd77::/16"));
	assert_false(key_subject_is_net("example.org"));
	assert_false(key_subject_is_net("*"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(keys)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
