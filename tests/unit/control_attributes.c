/* control/policy/attributes.c: every row of the table: what it takes, prints, refuses, and for which rules. */
#include "control_harness.h"

#include "../../dataplane/policy/policy.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Parsed and printed; NULL: its default, and so not printed. */
static const struct { const char *key, *name, *value, *printed; } good[] = {
	{"example.org", "mode", "observe", "observe"},
	{"example.org", "mode", "enforce", NULL},
	{"example.org", "match", "MX.example.org .example.net,nexthop", "mx.example.org:.example.net:nexthop"},
	{"example.org", "protocols", "TLSv1.3", ">=TLSv1.3"},
	{"example.org", "protocols", "TLSv1.2", ">=TLSv1.2:<=TLSv1.2"},
	{"example.org", "ciphers", "high", "high"},
	{"example.org", "exclude", "RC4, MD5", "RC4:MD5"},
	{"example.org", "fingerprints", SHA "|key:" SHA "@2027-01-01", "cert:" SHA ",key:" SHA "@2027-01-01T00:00:00Z"},
	{"example.org", "servername", "MX.Example.org", "mx.example.org"},
	{"example.org", "percent", "0", "0"},
	{"example.org", "percent", "50%", "50"},
	{"example.org", "percent", "100", NULL},
	{"example.org", "on_fail", "reject", "reject"},
	{"example.org", "on_fail", "defer", NULL},
	{"example.org", "e2e", "probe", "probe"},
	{"example.org", "unknown", "reset", "reset"},
	{"example.org", "unknown", "tls", NULL},
	{"example.org", "nonsmtp", "reset", "reset"},
	{"example.org", "overload", "reset", "reset"},
	{"example.org", "stripped", "refuse", "refuse"},
	{"example.org", "stripped", "pass", NULL},
	{"provider:lab", "pool", "Gold", "gold"},
	{"*", "pool", "gold", "gold"},
	{"provider:lab", "domains", "Example.org,.example.net", "example.org,.example.net"},
	{"provider:lab", "nets", "10.0.0.0/8 2001:db8::1", "10.0.0.0/8,2001:db8::1/128"},
	{"example.org", "expires", "2027-01-31", "2027-01-31T00:00:00Z"},
	{"example.org", "expires", "never", NULL},
	{"example.org", "owner", "J\xc3\xb6rg, mail team", "J\xc3\xb6rg, mail team"},
	{"example.org", "reason", "a \"quoted\" reason \\", "a \"quoted\" reason \\"},
	{"example.org", "report", "mailto:tls@example.org", "mailto:tls@example.org"},
	{"example.org", "report", "https://example.org/tls", "https://example.org/tls"},
};

/* The rule with a level (and, for a provider, a network) beside the attribute. */
static struct rule *rule_with(const char *key, const char *name, const char *value)
{
	struct rule_field fields[3] = {{"level", "encrypt"}, {name, value}, {"nets", "192.0.2.0/24"}};
	bool nets = strncmp(key, "provider:", 9) == 0 && strcmp(name, "nets") != 0;

	if (strcmp(name, "level") == 0)
		fields[0] = (struct rule_field){"owner", "x"};
	return rule_parse(key, fields, nets ? 3 : 2, h_error, sizeof(h_error));
}

static void values_are_taken_and_printed(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct rule *rule = rule_with(good[i].key, good[i].name, good[i].value);

		if (!rule)
			fail_msg("%s=%s: %s", good[i].name, good[i].value, h_error);
		const char *printed = rule->printed[attribute_find(good[i].name)];
		if (good[i].printed ? !printed || strcmp(printed, good[i].printed) != 0 : printed != NULL)
			fail_msg("%s=%s is printed as %s", good[i].name, good[i].value, printed);
		rule_free(rule);
	}
}

static void each_attribute_has_been_tried(void **state)
{
	(void)state;
	for (size_t i = 0; rule_attribute(i); i++) {
		bool tried = strcmp(rule_attribute(i)->name, "level") == 0;

		for (size_t k = 0; k < COUNT(good); k++)
			tried |= strcmp(rule_attribute(i)->name, good[k].name) == 0;
		if (!tried)
			fail_msg("%s", rule_attribute(i)->name);
		assert_true(rule_attribute(i)->values[0] && rule_attribute(i)->help[0]);
		assert_int_equal(attribute_find(rule_attribute(i)->name), i);
	}
	assert_int_equal(attribute_find("levels"), ATTRIBUTE_NONE);
	assert_int_equal(attribute_find(""), ATTRIBUTE_NONE);
	assert_int_equal(attribute_find("Level"), ATTRIBUTE_NONE);
}

/* The words of a row stand in the order of the enum that the dataplane reads. */
static void words_are_the_enums(void **state)
{
	char level[32], line[160];
	const char *cursor = rule_attribute(0)->values;

	(void)state;
	for (enum policy_level l = 0; item_next(&cursor, " ", level, sizeof(level)) == 1; l++) {
		assert_string_equal(level, policy_level_name(l));
		snprintf(line, sizeof(line), "example.org level=%s fingerprints=%s", level, SHA);
		struct rule *rule = h_rule(line);
		assert_int_equal(rule->values.level, l);
		rule_free(rule);
	}
	struct rule *rule = h_rule("example.org may mode=observe on_fail=reject e2e=probe unknown=pass nonsmtp=reset overload=reset");
	assert_int_equal(rule->values.mode, MODE_OBSERVE);
	assert_int_equal(rule->values.on_fail, ON_FAIL_REJECT);
	assert_int_equal(rule->values.e2e, E2E_PROBE);
	assert_int_equal(rule->values.unknown, UNKNOWN_PASS);
	assert_int_equal(rule->values.nonsmtp, PASS_RESET);
	assert_int_equal(rule->values.overload, PASS_RESET);
	rule_free(rule);
}

static void values_are_refused_by_name(void **state)
{
	static const struct { const char *key, *name, *value, *what; } wrong[] = {
		{"example.org", "level", "encript", "level=encript: not a level; one of none may encrypt"},
		{"example.org", "level", "Encrypt", "not a level"},
		{"example.org", "level", "", "level=: empty"},
		{"example.org", "mode", "observe ", "not a mode; one of enforce observe"},
		{"example.org", "percent", "101", "0 to 100"},
		{"example.org", "percent", "-1", "0 to 100"},
		{"example.org", "percent", "0100", "0 to 100"},
		{"example.org", "percent", "5x", "0 to 100"},
		{"example.org", "percent", "5%%", "0 to 100"},
		{"example.org", "match", " : ", "empty"},
		{"example.org", "match", "mx.example.org:*", "*: a star stands only"},
		{"example.org", "protocols", "SSLv3", "SSL is never spoken"},
		{"example.org", "fingerprints", "abc", "abc: 3 hex digits"},
		{"example.org", "servername", "a b", "not a domain"},
		{"example.org", "pool", "gold", "only a provider:NAME or * has it"},
		{"example.org", "nets", "10.0.0.0/8", "only a provider:NAME has it"},
		{"*", "domains", "example.org", "only a provider:NAME has it"},
		{"provider:lab", "pool", "a b", "a pool's name"},
		{"provider:lab", "nets", "10.0.0.0/8,10.0.0.1/8", "10.0.0.1/8: bits are set"},
		{"provider:lab", "nets", "0.0.0.0/0", "every address"},
		{"provider:lab", "nets", "::/0", "every address"},
		{"provider:lab", "nets", ",", "not a list of networks"},
		{"provider:lab", "domains", "a..b", "a..b: not a domain"},
		{"example.org", "expires", "soon", "not a time"},
		{"example.org", "owner", "a\nb", "control character"},
		{"example.org", "owner", "a\xff", "not UTF-8"},
		{"example.org", "reason", "a\x1b[2J", "control character"},
		{"example.org", "report", "tls@example.org", "not an address for reports"},
		{"example.org", "report", "mailto:nobody", "not an address for reports"},
		{"example.org", "report", "http://example.org/", "not an address for reports"},
		{"example.org", "report", "https://", "not an address for reports"},
		{"example.org", "report", "mailto:a@b c@d", "not an address for reports"},
		{"example.org", "colour", "red", "colour: no such attribute; one of level match"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct rule *rule = rule_with(wrong[i].key, wrong[i].name, wrong[i].value);

		if (rule)
			fail_msg("%s %s=%s: taken", wrong[i].key, wrong[i].name, wrong[i].value);
		if (!strstr(h_error, wrong[i].what) || !strstr(h_error, wrong[i].name) || strncmp(h_error, wrong[i].key, strlen(wrong[i].key)) != 0)
			fail_msg("\"%s\" should name \"%s\"", h_error, wrong[i].what);
		assert_null(strpbrk(h_error, "\n\x1b\xff"));
	}
}

static void limits(void **state)
{
	char text[4096] = "";
	struct rule *rule;

	(void)state;
	for (int i = 0; i < IMAGE_MATCHES_MAX; i++)
		sprintf(text + strlen(text), "mx%d.example.org:", i);
	rule = rule_with("example.org", "match", text);
	assert_non_null(rule);
	assert_int_equal(rule->match.count, IMAGE_MATCHES_MAX);
	rule_free(rule);
	strcat(text, "one.too.many");
	assert_null(rule_with("example.org", "match", text));
	assert_non_null(strstr(h_error, "64 is the most"));
	memset(text, 'a', 600);
	text[600] = '\0';
	assert_null(rule_with("example.org", "match", text));
	assert_null(rule_with("example.org", "owner", text));
	assert_non_null(strstr(h_error, "more than 255"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_taken_and_printed), cmocka_unit_test(each_attribute_has_been_tried),
		cmocka_unit_test(words_are_the_enums), cmocka_unit_test(values_are_refused_by_name), cmocka_unit_test(limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
