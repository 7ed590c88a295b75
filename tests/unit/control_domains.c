/* control/policy/domains.c: names as people write them, and lists of them. */
#include "control_harness.h"

static void names(void **state)
{
	static const struct h_value cases[] = {
		{"Example.ORG", "example.org", NULL},
		{"example.org.", "example.org", NULL},
		{".Example.org", ".example.org", NULL},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", NULL},
		{"b\xc3\xbc" "cher.example", NULL, "A-label"},
		{"[mx.example.org]", NULL, "brackets"},
		{"[192.0.2.1]", NULL, "brackets"},
		{"192.0.2.1", NULL, "an address"},
		{"192.0.2.1.", NULL, "an address"},
		{"2001:db8::1", NULL, "an address"},
		{"", NULL, "empty"},
		{".", NULL, "empty"},
		{"..", NULL, "empty"},
		{"a..b", NULL, "not a domain"},
		{"example.org:25", NULL, "not a domain"},
		{"user@example.org", NULL, "not a domain"},
		{"*.example.org", NULL, "not a domain"},
	};
	char out[IMAGE_DOMAIN_MAX + 2];
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		h_value(&cases[i], name_parse(cases[i].text, out, &why), out, &why);
}

static void patterns(void **state)
{
	static const struct h_value cases[] = {
		{"nexthop", "nexthop", NULL},
		{"MX.Example.org", "mx.example.org", NULL},
		{".Example.org", ".example.org", NULL},
		{"*.Example.org.", "*.example.org", NULL},
		{"*", NULL, "left-most label"},
		{"m*.example.org", NULL, "left-most label"},
		{"*.*.org", NULL, "left-most label"},
		{"*.", NULL, "empty"},
		{"*.a..b", NULL, "not a domain"},
	};
	char out[IMAGE_DOMAIN_MAX + 3];
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		h_value(&cases[i], pattern_parse(cases[i].text, out, &why), out, &why);
}

static void lengths(void **state)
{
	char text[IMAGE_DOMAIN_MAX + 8] = "*.", out[IMAGE_DOMAIN_MAX + 3], token[TOKEN_MAX + 1];
	struct why why;

	(void)state;
	for (size_t i = 0; i <= IMAGE_DOMAIN_MAX; i++)
		text[2 + i] = i % 64 == 63 ? '.' : 'A';
	assert_int_equal(domain_parse(text + 2, out, &why), 0); /* 255 and a final dot */
	assert_int_equal(pattern_parse(text, out, &why), 0);
	assert_int_equal(strlen(out), IMAGE_DOMAIN_MAX + 2);
	text[2 + IMAGE_DOMAIN_MAX] = 'A';
	assert_int_equal(domain_parse(text + 2, out, &why), -EINVAL);
	memset(text, 'A', TOKEN_MAX + 1);
	text[TOKEN_MAX + 1] = '\0';
	assert_int_equal(token_parse(text, "a name", token, &why), -EINVAL);
	text[TOKEN_MAX] = '\0';
	assert_int_equal(token_parse(text, "a name", token, &why), 0);
	assert_int_equal(token[TOKEN_MAX - 1], 'a');
}

static void tokens(void **state)
{
	static const struct h_value cases[] = {
		{"Google", "google", NULL}, {"pool-1_a.b", "pool-1_a.b", NULL},
		{"", NULL, "1 to 63"}, {"a b", NULL, "made of"}, {"a/b", NULL, "made of"}, {"*", NULL, "made of"},
	};
	char out[TOKEN_MAX + 1];
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		h_value(&cases[i], token_parse(cases[i].text, "a name", out, &why), out, &why);
}

static void items_of_a_list(void **state)
{
	const char *cursor = " ,one,, two:";
	char item[5];

	(void)state;
	assert_int_equal(item_next(&cursor, " ,:", item, sizeof(item)), 1);
	assert_string_equal(item, "one");
	assert_int_equal(item_next(&cursor, " ,:", item, sizeof(item)), 1);
	assert_string_equal(item, "two");
	assert_int_equal(item_next(&cursor, " ,:", item, sizeof(item)), 0);
	assert_int_equal(item_next(&cursor, " ,:", item, sizeof(item)), 0);
	cursor = "12345,6";
	assert_int_equal(item_next(&cursor, ",", item, sizeof(item)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(patterns), cmocka_unit_test(lengths), cmocka_unit_test(tokens),
		cmocka_unit_test(items_of_a_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
