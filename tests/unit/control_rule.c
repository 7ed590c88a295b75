/* control/policy/rule.c: a rule as a whole, from a line and back. */
#include "control_harness.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void lines(void **state)
{
	static const struct { const char *line, *printed; } cases[] = {
		{"example.org level=verify match=mx.example.org", "example.org level=verify match=mx.example.org"},
		{"  Example.ORG.\tencrypt  # as in Postfix\r\n", "example.org level=encrypt"},
		{"example.org verify match=hostname:nexthop", "example.org level=verify match=hostname:nexthop"},
		{"example.org protocols=>=TLSv1.3 level=may", "example.org level=may protocols=>=TLSv1.3"},
		{"example.org may reason=\"a # b \\\"c\\\" \\\\d\\n\"", "example.org level=may reason=a # b \"c\" \\d\\n"},
		{"example.org may reason=a\" \"b", "example.org level=may reason=a b"},
		{"example.org may owner=a=b", "example.org level=may owner=a=b"},
		{"\"example.org\" may", "example.org level=may"},
		{"*", "*"},
		{"* mode=observe", "* mode=observe"},
		{"provider:p nets=10.0.0.0/8", "provider:p nets=10.0.0.0/8"},
		{"provider:p pool=gold nets=10.0.0.0/8", "provider:p pool=gold nets=10.0.0.0/8"},
		{"provider:p encrypt domains=example.org", "provider:p level=encrypt domains=example.org"},
		{"inbound:* encrypt", "inbound:* level=encrypt"},
		{"example.org fingerprint fingerprints=" SHA, "example.org level=fingerprint fingerprints=cert:" SHA},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct rule *rule = h_rule(cases[i].line);

		if (strcmp(h_print(rule), cases[i].printed) != 0)
			fail_msg("%s: is %s", cases[i].line, h_print(rule));
		rule_free(rule);
	}
}

static void nothing_to_read(void **state)
{
	static const char *const empty[] = {"", "   ", "\n", "# example.org may", "\t# x", "\r\n"};

	(void)state;
	for (size_t i = 0; i < COUNT(empty); i++) {
		strcpy(h_error, "?");
		assert_null(rule_parse_line(empty[i], h_error, sizeof(h_error)));
		assert_string_equal(h_error, "");
	}
}

static void wrong_lines(void **state)
{
	char longest[RULES_LINE_MAX + 2], many[1024] = "example.org";

	(void)state;
	h_refuses(".example.org", "level: missing; one of none may");
	h_refuses("client:10.0.0.0/8 mode=observe", "level: missing");
	h_refuses("inbound:* mode=observe", "level: missing");
	h_refuses("a..b may", "a..b: not a domain");
	h_refuses("example.org may encrypt", "encrypt: not an attribute; write name=value");
	h_refuses("example.org may reason=two words", "words: not an attribute");
	h_refuses("example.org may reason=\"open", "a double quote is not closed");
	h_refuses("\"example.org may", "quote");
	h_refuses("example.org level=may level=may", "level=may: given twice");
	h_refuses("example.org =may", "no such attribute");
	h_refuses("example.org\x1b[2J may", "example.org?[2J: not a domain");
	memset(longest, 'a', sizeof(longest));
	longest[RULES_LINE_MAX + 1] = '\0';
	h_refuses(longest, "longer than 8192");
	longest[RULES_LINE_MAX] = '\0';
	h_refuses(longest, "8192 characters; a domain has at most 255");
	for (int i = 0; i <= RULE_FIELDS_MAX; i++)
		strcat(many, " owner=x");
	h_refuses(many, "more than 32 attributes");
}

/* What could never be met, or says nothing, is refused when it is written. */
static void rules_that_make_no_sense(void **state)
{
	(void)state;
	h_refuses("* verify", "no name to match");
	h_refuses("inbound:* secure", "no name to match");
	h_refuses("* secure match=hostname", "no name to match");
	rule_free(h_rule("* secure")); /* it waits for the recipient's domain */
	rule_free(h_rule("provider:p verify domains=example.org"));
	rule_free(h_rule("provider:p verify nets=10.0.0.0/8 servername=mx.example.org"));
	h_refuses("provider:p secure nets=10.0.0.0/8 match=hostname", "no name to match");
	rule_free(h_rule("provider:p secure nets=10.0.0.0/8 match=.example.org"));
	rule_free(h_rule("example.org verify"));
	h_refuses("example.org fingerprint", "no fingerprints");
	h_refuses("provider:p encrypt", "nets: missing");
	h_refuses("provider:p nets=10.0.0.0/8 mode=observe", "mode: needs a level");
	h_refuses("provider:p domains=example.org unknown=pass", "unknown: needs a level");
	h_refuses("example.org match=nexthop", "match: needs a level");
	h_refuses("example.org fingerprints=" SHA, "fingerprints: needs a level");
	rule_free(h_rule("provider:p domains=example.org mode=observe"));
	rule_free(h_rule("example.org mode=observe percent=10 stripped=refuse"));
}

static void defaults(void **state)
{
	static const struct { const char *line; uint16_t floor; } floors[] = {
		{"example.org none", 0}, {"example.org may", 0}, {"example.org encrypt", 0x0303}, {"example.org verify", 0x0303},
		{"example.org dane", 0x0303}, {"example.org block", 0}, {"example.org encrypt protocols=>=TLSv1", 0x0301},
	};
	struct rule *rule;

	(void)state;
	for (size_t i = 0; i < COUNT(floors); i++) {
		rule = h_rule(floors[i].line);
		assert_int_equal(rule->values.protocol_min, floors[i].floor);
		assert_null(strstr(h_print(rule), "TLSv1.2")); /* a default is not printed, so that it may change */
		assert_int_equal(rule->values.percent, 100);
		assert_int_equal(rule->values.mode, MODE_ENFORCE);
		assert_int_equal(rule_expires(rule), 0);
		rule_free(rule);
	}
	rule = h_rule("*");
	assert_int_equal(rule->values.level, LEVEL_MAY);
	rule_free(rule);
}

/* rule_fields() of any rule parses to an equal one: the agent keeps its memory and its copies in that form. */
static void what_is_printed_parses_to_the_same(void **state)
{
	static const char *const rules[] = {
		"example.org verify match=a.b:nexthop protocols=>=TLSv1.3 ciphers=high exclude=RC4,MD5 servername=mx.a mode=observe percent=7 "
		"on_fail=reject e2e=probe unknown=reset nonsmtp=reset overload=reset expires=2027-01-31 owner=\"a \\\"b\" reason=\"c \\\\\" "
		"report=mailto:a@b",
		"provider:p block pool=x domains=a.b,.c nets=10.0.0.0/8,2001:db8::/32",
		"example.org fingerprint fingerprints=" SHA "@2027-01-01,key:" SHA,
		"*",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rules); i++) {
		struct rule_field fields[RULE_FIELDS_MAX];
		struct rule *first = h_rule(rules[i]), *again;
		char printed[RULES_LINE_MAX];

		strcpy(printed, h_print(first));
		again = rule_parse(rule_key(first), fields, rule_fields(first, fields, RULE_FIELDS_MAX), h_error, sizeof(h_error));
		assert_non_null(again);
		assert_string_equal(h_print(again), printed);
		assert_memory_equal(&again->values, &first->values, sizeof(first->values));
		rule_free(first);
		rule_free(again);
	}
}

static void every_key_can_be_put_into_force(void **state)
{
	static const char *const lines[] = {
		"client:10.0.0.0/8 none", "inbound:example.org encrypt", "inbound:203.0.113.0/24 encrypt", "inbound:* encrypt", "example.org dane-only",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct rule *rule = h_rule(lines[i]);

		assert_null(rule_unsupported(rule));
		rule_free(rule);
	}
}

static void errors_fit_where_they_go(void **state)
{
	char small[16];

	(void)state;
	assert_null(rule_parse_line("example.org colour=red", small, sizeof(small)));
	assert_int_equal(strlen(small), 15);
	assert_string_equal(small + 12, "...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines), cmocka_unit_test(nothing_to_read), cmocka_unit_test(wrong_lines),
		cmocka_unit_test(rules_that_make_no_sense), cmocka_unit_test(defaults),
		cmocka_unit_test(what_is_printed_parses_to_the_same), cmocka_unit_test(every_key_can_be_put_into_force), cmocka_unit_test(errors_fit_where_they_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
