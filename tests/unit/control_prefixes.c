/* control/policy/prefixes.c: sorted, linked to the nearest one around, each once. */
#include "control_harness.h"

static const char *const names[] = {"*", "one", "two"};
static struct prefix_table t;
static struct why why;

static void add(const char *text, uint32_t destination)
{
	struct net net;

	assert_int_equal(net_parse(text, &net, &why), 0);
	prefix_table_add(&t, &net, destination);
}

static int begin(void **state)
{
	(void)state;
	t = (struct prefix_table){0};
	return 0;
}

static int end(void **state)
{
	(void)state;
	prefix_table_dispose(&t);
	return 0;
}

static void sorted_and_linked(void **state)
{
	struct image_prefix4 four[5];
	struct image_prefix6 six[3];

	(void)state;
	add("10.1.2.0/24", 1);
	add("2001:db8::/32", 2);
	add("10.0.0.0/8", 1);
	add("192.0.2.0/24", 2);
	add("10.1.0.0/16", 2);
	add("10.1.2.0/24", 1); /* named twice by one provider */
	add("10.2.0.0/16", 1);
	add("2001:db8:1::/48", 1);
	add("fd77::1", 1);
	assert_int_equal(prefix_table_build(&t, names, &why), 0);
	assert_int_equal(t.count4, 5);
	assert_int_equal(t.count6, 3);
	prefix_table_write4(&t, four);
	prefix_table_write6(&t, six);
	assert_int_equal(four[0].addr, 10u << 24);
	assert_int_equal(four[0].parent, IMAGE_NONE);
	assert_int_equal(four[1].len, 16);
	assert_int_equal(four[1].parent, 0);
	assert_int_equal(four[1].target, 2);
	assert_int_equal(four[2].len, 24);
	assert_int_equal(four[2].parent, 1);
	assert_int_equal(four[3].addr, 10u << 24 | 2u << 16);
	assert_int_equal(four[3].parent, 0);
	assert_int_equal(four[4].parent, IMAGE_NONE);
	assert_int_equal(six[0].parent, IMAGE_NONE);
	assert_int_equal(six[1].parent, 0);
	assert_int_equal(six[1].len, 48);
	assert_int_equal(six[2].parent, IMAGE_NONE);
	assert_int_equal(six[2].addr[15], 1);
}

static void one_network_in_two_providers_is_refused(void **state)
{
	(void)state;
	add("10.0.0.0/8", 1);
	add("10.0.0.0/8", 2);
	assert_int_equal(prefix_table_build(&t, names, &why), -EINVAL);
	assert_non_null(strstr(why.text, "10.0.0.0/8: in nets of provider:one and of provider:two"));
}

static void same_bits_of_both_families_are_two(void **state)
{
	(void)state;
	add("32.1.13.184/32", 1);
	add("2001:db8::/32", 2);
	assert_int_equal(prefix_table_build(&t, names, &why), 0);
	assert_int_equal(t.count4, 1);
	assert_int_equal(t.count6, 1);
}

static bool ascending(const struct net *a, const struct net *b)
{
	int order = (int)a->ipv6 - (int)b->ipv6;

	if (!order)
		order = memcmp(a->addr, b->addr, sizeof(a->addr));
	return order ? order < 0 : a->len < b->len;
}

static void many_of_both_families(void **state)
{
	uint32_t random = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct net net = {.ipv6 = i % 3 == 0};
		for (int o = 0; o < (net.ipv6 ? 16 : 4); o++) {
			random = random * 1664525 + 1013904223;
			net.addr[o] = (uint8_t)(random >> 24);
		}
		net.len = net.ipv6 ? 128 : 24 + (uint8_t)(random >> 16) % 9;
		net.addr[3] = net.ipv6 ? net.addr[3] : 0;
		prefix_table_add(&t, &net, 1);
	}
	assert_int_equal(prefix_table_build(&t, names, &why), 0);
	assert_true(t.count > 19000 && t.count == t.count4 + t.count6);
	assert_true(t.count4 > 12000 && t.count6 > 6000);
	for (size_t i = 1; i < t.count; i++)
		assert_true(ascending(&t.entries[i - 1].net, &t.entries[i].net));
	add("255.255.255.255", 1); /* it can grow after it was built */
	assert_int_equal(t.entries[t.count - 1].target, 1);
}

static void nothing(void **state)
{
	(void)state;
	assert_int_equal(prefix_table_build(&t, names, &why), 0);
	assert_int_equal(t.count4 + t.count6, 0);
	prefix_table_write4(&t, NULL); /* touches nothing */
	prefix_table_write6(&t, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sorted_and_linked, begin, end),
		cmocka_unit_test_setup_teardown(one_network_in_two_providers_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(same_bits_of_both_families_are_two, begin, end),
		cmocka_unit_test_setup_teardown(many_of_both_families, begin, end),
		cmocka_unit_test_setup_teardown(nothing, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
