/* control/policy/protocols.c: Postfix's ways to say it, as a floor and a ceiling. */
#include "control_harness.h"

static void floors(void **state)
{
	static const struct h_value cases[] = {
		{">=TLSv1.2", "TLSv1.2", NULL},
		{">=TLSv1", "TLSv1", NULL},
		{">=tlsv1.3", "TLSv1.3", NULL},
		{">=TLSv1.0", "TLSv1", NULL},
		{"TLSv1.2", "TLSv1.2..TLSv1.2", NULL}, /* that one and no other, as Postfix has it */
		{"TLSv1.1:TLSv1.2", "TLSv1.1..TLSv1.2", NULL},
		{"<=TLSv1.2", "TLSv1..TLSv1.2", NULL},
		{">=TLSv1.1 <=TLSv1.2", "TLSv1.1..TLSv1.2", NULL},
		{"<=TLSv1.2 <=TLSv1.1", "TLSv1..TLSv1.1", NULL},
		{"!TLSv1.3", "TLSv1..TLSv1.2", NULL},
		{"TLSv1.1:!TLSv1.2", "TLSv1.1..TLSv1.1", NULL},
		{">=TLSv1.3 <=TLSv1.2", NULL, "leaves no version"},
		{"<=SSLv3", NULL, "SSL is never spoken"},
		{"TLSv1.2, TLSv1.3", "TLSv1.2", NULL},
		{"TLSv1.3:TLSv1.2", "TLSv1.2", NULL},
		{"!SSLv2, !SSLv3", "TLSv1", NULL},
		{"!SSLv2 !SSLv3 !TLSv1 !TLSv1.1", "TLSv1.2", NULL},
		{">=TLSv1, !TLSv1", "TLSv1.1", NULL},
		{">=TLSv1.1 <=TLSv1.3", "TLSv1.1", NULL},
		{">=TLSv1.3 >=TLSv1.1", "TLSv1.3", NULL},
		{">=TLSv1.1 >=TLSv1.3", "TLSv1.3", NULL},
		{"", NULL, "write a floor"},
		{" , ", NULL, "write a floor"},
		{">=SSLv3", NULL, "SSL is never spoken"},
		{"SSLv2", NULL, "SSL is never spoken"},
		{"!TLSv1.1", NULL, "leaves out TLSv1.1"},
		{"TLSv1 TLSv1.2", NULL, "leaves out TLSv1.1"},
		{"!TLSv1 !TLSv1.1 !TLSv1.2 !TLSv1.3", NULL, "leaves no version"},
		{"TLSv1.2 >=TLSv1.3", NULL, "leaves no version"},
		{"TLSv1.4", NULL, "not a protocol"},
		{">=", NULL, "not a protocol"},
		{"!", NULL, "not a protocol"},
		{">TLSv1.2", NULL, "not a protocol"},
		{"TLSv1.2-and-a-tail-that-no-version-of-TLS-has-had", NULL, "not a list"},
	};
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint16_t floor = 0, ceiling = 0;
		int err = protocols_parse(cases[i].text, &floor, &ceiling, &why);
		char range[32];

		snprintf(range, sizeof(range), "%s%s%s", protocol_name(floor), ceiling ? ".." : "", ceiling ? protocol_name(ceiling) : "");
		h_value(&cases[i], err, range, &why);
	}
	assert_string_equal(protocol_name(0x0303), "TLSv1.2");
	assert_string_equal(protocol_name(0x0300), "?");
	assert_string_equal(protocol_name(0), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(floors)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
