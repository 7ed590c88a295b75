/* policy/postfix.c, postfix_write.c: Postfix's tables to rules, what cannot be said, and the way back. */
#include "control_harness.h"
#include "../../control/policy/postfix.h"

static char said[4096];
static unsigned notes;

static void note(void *context, unsigned line, enum postfix_what what, const char *message)
{
	(void)context;
	if (what == POSTFIX_NOTE)
		notes++;
	size_t n = strlen(said);
	snprintf(said + n, sizeof(said) - n, "%u: %s\n", line, message);
}

static struct ruleset *read_table(const char *text, size_t len)
{
	struct ruleset *set = ruleset_new();

	said[0] = 0;
	notes = 0;
	postfix_read(text, len, set, note, NULL);
	return set;
}

static char *lines_of(const struct ruleset *set)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	const struct rule *rule;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (size_t i = 0; (rule = ruleset_at(set, i)); i++) {
		rule_print(out, rule_key(rule), fields, rule_fields(rule, fields, RULE_FIELDS_MAX));
		fputc('\n', out);
	}
	fclose(out);
	return text;
}

static void reads(const char *text, const char *expected)
{
	struct ruleset *set = read_table(text, strlen(text));
	char *lines = lines_of(set);

	assert_string_equal(said, "");
	assert_string_equal(lines, expected);
	free(lines);
	ruleset_free(set);
}

static void refuses(const char *text, const char *what)
{
	struct ruleset *set = read_table(text, strlen(text));

	assert_int_equal(ruleset_count(set), 0);
	assert_int_equal(notes, 0);
	if (!strstr(said, what))
		fail_msg("%s: %s", text, said);
	ruleset_free(set);
}

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define COLONS "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"

static void test_what_postfix_says(void **state)
{
	(void)state;
	reads("example.org encrypt\n.Example.ORG\tMay\n", ".example.org level=may\nexample.org level=encrypt\n");
	reads("example.org secure match=example.com:.example.com\n", "example.org level=secure match=example.com:.example.com\n");
	reads("example.org verify match=hostname match=nexthop\n", "example.org level=verify match=hostname:nexthop\n");
	reads("example.org encrypt protocols=!SSLv2:!SSLv3:!TLSv1 ciphers=high exclude=3DES:aNULL\n",
	      "example.org level=encrypt protocols=>=TLSv1.1 ciphers=high exclude=3DES:aNULL\n");
	reads("example.org encrypt, protocols=TLSv1.2,ciphers=medium", "example.org level=encrypt protocols=>=TLSv1.2:<=TLSv1.2 ciphers=medium\n");
	reads("example.org verify { match = hostname : .example.org } servername=hostname",
	      "example.org level=verify match=hostname:.example.org servername=hostname\n");
	reads("example.org dane-only\nb.example none\n", "b.example level=none\nexample.org level=dane-only\n");
	reads("example.org fingerprint match=" COLONS "|" DIGEST "\n",
	      "example.org level=fingerprint fingerprints=cert:" DIGEST ",key:" DIGEST ",cert:" DIGEST ",key:" DIGEST "\n");
}

static void test_lines_as_postfix_has_them(void **state)
{
	(void)state;
	reads("# a table\n\n  \t\nexample.org\n   encrypt\n# in the middle\n\n\tciphers=high\r\nb.example may",
	      "b.example level=may\nexample.org level=encrypt ciphers=high\n");
	refuses("  example.org encrypt\n", "1: begins with a blank");
}

static void test_what_no_rule_says(void **state)
{
	(void)state;
	refuses("[mx.example.org] encrypt\n", "1: [mx.example.org]: a next hop in brackets");
	refuses("\n[mx.example.org]:587 encrypt\n", "2: [mx.example.org]:587: a next hop in brackets");
	refuses("example.org:26 encrypt\n", "with a port");
	refuses("user@example.org encrypt\n", "not a recipient's domain");
	refuses("example.org secure tafile=/etc/ssl/x.pem\n", "tafile");
	refuses("example.org half-dane\n", "level=half-dane");
	refuses("example.org\n", "no level");
	refuses("example.org encrypt ciphers=export\n", "without security");
	refuses("example.org encrypt protocols=TLSv1.1:TLSv1.3\n", "protocols");
	refuses("example.org fingerprint match=AA:BB\n", "hex digits");
	refuses("example.org fingerprint\n", "no fingerprints");
	refuses("example.org encrypt colour=red\n", "no such attribute");
	refuses("example.org encrypt colour\n", "not an attribute");
	refuses("example.org encrypt { match = x\n", "not closed");
	refuses("exa\xffmple.org encrypt\n", "exa?mple.org");
	struct ruleset *set = read_table("a.example may\nb\0.example may\nA.example encrypt\n", 46);
	assert_int_equal(ruleset_count(set), 1);
	assert_non_null(strstr(said, "2: a NUL byte"));
	assert_non_null(strstr(said, "3: a.example: stands in this table already"));
	ruleset_free(set);
}

static void test_what_is_nothing_to_a_rule_is_noted(void **state)
{
	(void)state;
	struct ruleset *set = read_table("example.org encrypt connection_reuse=yes enable_rpk=no\n", 55);
	assert_int_equal(ruleset_count(set), 1);
	assert_int_equal(notes, 2);
	ruleset_free(set);
}

static void test_long_lines(void **state)
{
	char text[3 * RULES_LINE_MAX];
	(void)state;
	for (size_t size = RULES_LINE_MAX - 2; size < RULES_LINE_MAX + 3; size++) {
		memset(text, 'x', sizeof(text));
		memcpy(text, "a.example may ", 14);
		memcpy(text + size, "\nb.example may\n", 16);
		struct ruleset *set = read_table(text, strlen(text));
		assert_int_equal(ruleset_count(set), 1);
		assert_non_null(strstr(said, size > RULES_LINE_MAX ? "1: a.example: longer" : "1: a.example: not an attribute"));
		ruleset_free(set);
	}
}

/* import(export(x)) == x; `plain`: rules that Postfix itself is told of. */
static void round_trip(const char *const *lines, size_t plain)
{
	struct ruleset *set = ruleset_new();
	char error[RULES_ERROR_MAX], *text = NULL;
	const struct rule *rule;
	size_t len, sayable = 0;
	FILE *out = open_memstream(&text, &len);

	for (; *lines; lines++) {
		struct rule *parsed = rule_parse_line(*lines, error, sizeof(error));
		if (!parsed)
			fail_msg("%s", error);
		ruleset_put(set, parsed);
	}
	postfix_write_head(out);
	for (size_t i = 0; (rule = ruleset_at(set, i)); i++) {
		postfix_write(rule, out);
		sayable += !postfix_unsayable(rule);
	}
	fclose(out);
	struct ruleset *again = read_table(text, len);
	char *before = lines_of(set), *after = lines_of(again);
	assert_string_equal(said, "");
	assert_string_equal(after, before);
	assert_int_equal(sayable, plain);
	free(before);
	free(after);
	free(text);
	ruleset_free(set);
	ruleset_free(again);
}
#define ROUND_TRIP(plain, ...) round_trip((const char *const[]){__VA_ARGS__, NULL}, plain)

static void test_round_trip(void **state)
{
	(void)state;
	ROUND_TRIP(6, "example.org verify match=mx.example.org:.example.org on_fail=reject owner=\"a b\" reason=\"x,y=z \\\"q\\\" #1\"",
		   ".example.org encrypt protocols=>=TLSv1.3 ciphers=high exclude=aNULL:MD5", "a.example none protocols=>=TLSv1.2",
		   "b.example fingerprint fingerprints=cert:" DIGEST ",key:" DIGEST, "c.example may match=.x.example servername=mx.example",
		   "d.example dane e2e=probe report=mailto:t@d.example");
	ROUND_TRIP(0, "* may", "provider:google nets=192.0.2.0/24 domains=a.example,.b.example level=encrypt pool=big", "client:10.0.0.0/8 none",
		   "inbound:* encrypt", "a.example block", "b.example encrypt mode=observe", "c.example encrypt percent=5",
		   "d.example may expires=2027-01-01", "e.example fingerprint fingerprints=key:" DIGEST,
		   "f.example verify match=*.f.example", "g.example encrypt ciphers=ECDHE+AESGCM",
		   "h.example fingerprint fingerprints=cert:" DIGEST "@2027-01-01,key:" DIGEST);
}

static void test_comments_of_ours(void **state)
{
	(void)state;
	reads("# waxseal with: on_fail=reject\na.example encrypt\nb.example may\n# waxseal rule: c.example level=block\n",
	      "a.example level=encrypt on_fail=reject\nb.example level=may\nc.example level=block\n");
	refuses("# waxseal with: on_fail=reject\n", "1: \"# waxseal with:\" without a line");
	refuses("# waxseal rule:\n", "1: no rule");
	refuses("# waxseal with: on_fail=x\na.example may\n", "2: a.example: on_fail=x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_postfix_says), cmocka_unit_test(test_lines_as_postfix_has_them),
		cmocka_unit_test(test_what_no_rule_says), cmocka_unit_test(test_what_is_nothing_to_a_rule_is_noted),
		cmocka_unit_test(test_long_lines), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_comments_of_ours),
	};
	return cmocka_run_group_tests_name("control_postfix", tests, NULL, NULL);
}
