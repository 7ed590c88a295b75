/* control/policy/nets.c: networks, one spelling each. */
#include "control_harness.h"

static void networks(void **state)
{
	static const struct h_value cases[] = {
		{"203.0.113.0/24", "203.0.113.0/24", NULL},
		{"203.0.113.7", "203.0.113.7/32", NULL},
		{"0.0.0.0/0", "0.0.0.0/0", NULL},
		{"128.0.0.0/1", "128.0.0.0/1", NULL},
		{"10.0.0.0/08", "10.0.0.0/8", NULL},
		{"2001:DB8::/32", "2001:db8::/32", NULL},
		{"2001:db8::1", "2001:db8::1/128", NULL},
		{"fd77:0:0:0:8000::/65", "fd77::8000:0:0:0/65", NULL},
		{"203.0.113.7/24", NULL, "203.0.113.0/24 would be right"},
		{"129.0.0.0/1", NULL, "128.0.0.0/1 would be right"},
		{"2001:db8::1/32", NULL, "2001:db8::/32 would be right"},
		{"203.0.113.0/33", NULL, "0 to 32"},
		{"2001:db8::/129", NULL, "0 to 128"},
		{"10.0.0.0/", NULL, "0 to 32"},
		{"10.0.0.0/-1", NULL, "0 to 32"},
		{"10.0.0.0/8x", NULL, "0 to 32"},
		{"10.0.0.0/+8", NULL, "0 to 32"},
		{"10.0.0.0/0000008", NULL, "0 to 32"},
		{"::ffff:10.0.0.0/104", NULL, "write it as IPv4"},
		{"::ffff:10.0.0.1", NULL, "write it as IPv4"},
		{"example.org", NULL, "not a network"},
		{"", NULL, "not a network"},
		{"/8", NULL, "not a network"},
		{"10.0.0/24", NULL, "not a network"},
		{"010.0.0.0/8", NULL, "not a network"},
		{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd", NULL, "not a network"},
	};
	char out[NET_TEXT_MAX];
	struct why why;
	struct net net;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int err = net_parse(cases[i].text, &net, &why);

		if (!err)
			net_print(&net, out);
		h_value(&cases[i], err, out, &why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(networks)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
