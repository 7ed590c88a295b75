/* cli_explain.c - the winner is the dataplane's own answer, and what lost stands in the order in which it is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/explain.h"
#include "policy_lines.h"

static struct policy_image *image;

static int begin(void **state)
{
	static const char *const lines[] = {
		"* may", ".example.org encrypt owner=\"the team\"", "mail.example.org verify match=mx.example.org mode=observe percent=5",
		".sub.mail.example.org none", "provider:wide encrypt nets=142.0.0.0/8 domains=.org",
		"provider:big dane nets=142.250.0.0/15,2a00:1450::/32 on_fail=reject", "provider:counted nets=142.250.7.0/24", NULL,
	};

	(void)state;
	image = image_of_lines(lines);
	return 0;
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	return 0;
}

static const uint8_t *address(const char *text)
{
	static uint8_t addr[16];

	memset(addr, 0, sizeof(addr));
	if (inet_pton(AF_INET6, text, addr) != 1) {
		addr[10] = addr[11] = 0xff;
		assert_int_equal(inet_pton(AF_INET, text, addr + 12), 1);
	}
	return addr;
}

static const char *text(const json_t *rules, size_t i, const char *name)
{
	return json_string_value(json_object_get(json_array_get(rules, i), name));
}

/* The names of the rules, the winner first. */
static void order(const char *domain, const char *addr, const char *expected)
{
	json_t *rules = explain_rules(image, domain, addr ? address(addr) : NULL);
	char names[512] = "";

	for (size_t i = 0; i < json_array_size(rules); i++) {
		strcat(strcat(names, i ? " " : ""), text(rules, i, "rule"));
		assert_int_equal(json_is_true(json_object_get(json_array_get(rules, i), "wins")), i == 0);
	}
	if (strcmp(names, expected) != 0)
		fail_msg("%s %s: %s, should be %s", domain ? domain : "", addr ? addr : "", names, expected);
	json_decref(rules);
}

static void orders(void **state)
{
	(void)state;
	order("mail.example.org", NULL, "mail.example.org .example.org wide *");
	order("MAIL.example.org.", NULL, "mail.example.org .example.org wide *");
	order("a.b.sub.mail.example.org", NULL, ".sub.mail.example.org .example.org wide *");
	order("example.org", NULL, "wide *");
	order("example.com", NULL, "*");
	order("org", NULL, "*");
	order(NULL, "142.250.1.1", "big wide *");
	order(NULL, "142.1.1.1", "wide *");
	order(NULL, "142.250.7.9", "* big wide"); /* without a level of its own: the rule of everything else */
	order(NULL, "9.9.9.9", "*");
	order(NULL, "2a00:1450::1", "big *");
	order(NULL, "2a00:1451::1", "*");
	order("mail.example.org", "142.250.1.1", "mail.example.org .example.org wide big *");
	order("example.com", "142.250.1.1", "big wide *");
}

static void the_winner_is_the_dataplanes(void **state)
{
	static const char *const domains[] = {"mail.example.org", "x.mail.example.org", "x.sub.mail.example.org", "a.example.org", "b.org", "c.com"};
	static const char *const addrs[] = {"142.250.1.1", "142.250.7.7", "142.9.9.9", "1.1.1.1", "2a00:1450:1::", "::1"};

	(void)state;
	for (size_t i = 0; i < 6; i++)
		for (size_t k = 0; k < 6; k++) {
			json_t *rules = explain_rules(image, domains[i], address(addrs[k]));
			const struct image_rule *rule = policy_domain_rule(image, domains[i]);

			if (!rule)
				rule = policy_rule(image, policy_destination(image, policy_destination_of(image, address(addrs[k])))->rule);
			assert_string_equal(text(rules, 0, "rule"), policy_string(image, rule->name));
			json_decref(rules);
		}
}

static void why_and_with_what(void **state)
{
	json_t *rules = explain_rules(image, "mail.example.org", address("142.250.1.1"));
	char *page = NULL;
	size_t len;
	FILE *out = open_memstream(&page, &len);

	(void)state;
	assert_string_equal(text(rules, 0, "level"), "verify");
	assert_string_equal(text(rules, 0, "mode"), "observe");
	assert_string_equal(text(rules, 0, "attributes"), "match=mx.example.org protocols=>=TLSv1.2 percent=5");
	assert_string_equal(text(rules, 0, "why"), "the domain's own");
	assert_string_equal(text(rules, 1, "attributes"), "protocols=>=TLSv1.2 owner=\"the team\"");
	assert_string_equal(text(rules, 1, "why"), "parent .example.org: the nearer name goes first");
	assert_string_equal(text(rules, 3, "why"), "destination big has 142.250.0.0/15: the recipient's domain goes first");
	assert_string_equal(text(rules, 3, "attributes"), "protocols=>=TLSv1.2 on_fail=reject");
	explain_print(rules, out);
	fclose(out);
	assert_non_null(strstr(page, "\nwins   mail.example.org  verify   observe  the domain's own"));
	assert_non_null(strstr(page, "\nloses  *"));
	free(page);
	json_decref(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(orders), cmocka_unit_test(the_winner_is_the_dataplanes), cmocka_unit_test(why_and_with_what)};
	return cmocka_run_group_tests(tests, begin, end);
}
