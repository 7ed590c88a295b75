/* port/steer.c: normal form of a list of prefixes, and the difference between two. */
#include <setjmp.h>
#include <stdarg.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "port/private.h"

#define CALLS_MAX 64

static struct {
	struct { bool add; struct port_prefix prefix; } call[CALLS_MAX];
	int calls, fail_at;
} sink;

static int record(bool add, const struct port_prefix *prefix)
{
	assert_true(sink.calls < CALLS_MAX);
	sink.call[sink.calls].add = add;
	sink.call[sink.calls++].prefix = *prefix;
	return sink.calls == sink.fail_at ? -7 : 0;
}

static int add(void *context, const struct port_prefix *prefix)
{
	assert_ptr_equal(context, &sink);
	return record(true, prefix);
}

static int del(void *context, const struct port_prefix *prefix)
{
	assert_ptr_equal(context, &sink);
	return record(false, prefix);
}

static int diff(const struct port_prefix *old, size_t old_count, const struct port_prefix *new, size_t new_count, int fail_at)
{
	static const struct steer_sink ops = {add, del, &sink};
	sink.calls = 0;
	sink.fail_at = fail_at;
	return steer_diff(old, old_count, new, new_count, &ops);
}

static struct port_prefix prefix(const char *address, uint8_t len, uint32_t destination)
{
	struct port_prefix made = {.len = len, .ipv6 = strchr(address, ':'), .destination = destination};
	assert_int_equal(inet_pton(made.ipv6 ? AF_INET6 : AF_INET, address, made.addr), 1);
	return made;
}

static void assert_same(const struct port_prefix *a, const struct port_prefix *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_memory_equal(a[i].addr, b[i].addr, sizeof(a[i].addr));
		assert_int_equal(a[i].len, b[i].len);
		assert_int_equal(a[i].ipv6, b[i].ipv6);
		assert_int_equal(a[i].destination, b[i].destination);
		assert_int_equal(a[i].pool, b[i].pool);
	}
}

static void host_bits_do_not_count(void **state)
{
	struct port_prefix list[] = {prefix("10.77.255.255", 17, 1), prefix("fd77::ffff", 121, 2), prefix("10.9.8.7", 0, 3), prefix("10.1.2.3", 32, 4)};
	struct port_prefix right[] = {prefix("0.0.0.0", 0, 3), prefix("10.1.2.3", 32, 4), prefix("10.77.128.0", 17, 1), prefix("fd77::ff80", 121, 2)};
	(void)state;
	assert_int_equal(steer_normalise(list, 4), 4);
	assert_same(list, right, 4);
}

static void a_double_counts_once(void **state)
{
	struct port_prefix list[] = {prefix("10.77.1.1", 16, 1), prefix("10.76.0.0", 16, 5), prefix("10.77.2.2", 16, 3), prefix("10.77.0.0", 16, 2)};
	(void)state;
	assert_int_equal(steer_normalise(list, 4), 2);
	assert_int_equal(list[1].destination, 3);
	assert_int_equal(steer_normalise(list, 0), 0);
}

static void nothing_changes_nothing(void **state)
{
	struct port_prefix list[] = {prefix("10.0.0.0", 8, 1), prefix("fd77::", 16, 2)};
	(void)state;
	assert_int_equal(diff(list, 2, list, 2, 0), 0);
	assert_int_equal(sink.calls, 0);
}

static void only_what_differs_is_called_for(void **state)
{
	struct port_prefix old[] = {prefix("10.0.0.0", 8, 1), prefix("10.0.0.0", 16, 2), prefix("fd77::", 16, 3)};
	struct port_prefix new[] = {prefix("10.0.0.0", 8, 9), prefix("10.0.0.0", 24, 2), prefix("fd77::", 16, 3)};
	(void)state;
	assert_int_equal(diff(old, 3, new, 3, 0), 0);
	assert_int_equal(sink.calls, 3);
	assert_true(sink.call[0].add && sink.call[0].prefix.destination == 9);
	assert_true(sink.call[1].add && sink.call[1].prefix.len == 24);
	assert_true(!sink.call[2].add && sink.call[2].prefix.len == 16); /* last: its addresses were never without an answer */
}

static void another_pool_is_a_change(void **state)
{
	struct port_prefix old = prefix("10.0.0.0", 8, 1), new = old;
	(void)state;
	new.pool = 2;
	assert_int_equal(diff(&old, 1, &new, 1, 0), 0);
	assert_int_equal(sink.calls, 1);
	assert_int_equal(sink.call[0].prefix.pool, 2);
}

static void an_error_stops_it(void **state)
{
	struct port_prefix new[] = {prefix("10.0.0.0", 8, 1), prefix("11.0.0.0", 8, 1), prefix("12.0.0.0", 8, 1)};
	(void)state;
	assert_int_equal(diff(NULL, 0, new, 3, 2), -7);
	assert_int_equal(sink.calls, 2);
}

/* A sink that keeps the list as the kernel would ends with the new one, whatever the two were. */
static void applied_it_makes_one_of_the_other(void **state)
{
	(void)state;
	srand(25);
	for (int round = 0; round < 2000; round++) {
		struct port_prefix list[2][16], kept[32];
		size_t count[2], kept_count;
		for (int i = 0; i < 2; i++) {
			count[i] = (size_t)(rand() % 16);
			for (size_t n = 0; n < count[i]; n++) {
				list[i][n] = prefix(rand() % 2 ? "10.77.0.0" : "fd77::", 16, (uint32_t)rand() % 3);
				list[i][n].addr[1] = (uint8_t)(rand() % 4);
			}
			count[i] = steer_normalise(list[i], count[i]);
		}
		assert_int_equal(diff(list[0], count[0], list[1], count[1], 0), 0);
		memcpy(kept, list[0], sizeof(list[0]));
		kept_count = count[0];
		for (int c = 0; c < sink.calls; c++) {
			const struct port_prefix *one = &sink.call[c].prefix;
			size_t at = 0;
			while (at < kept_count && (kept[at].ipv6 != one->ipv6 || kept[at].len != one->len || memcmp(kept[at].addr, one->addr, 16)))
				at++;
			if (sink.call[c].add) {
				kept[at] = *one;
				kept_count += at == kept_count;
			} else {
				assert_true(at < kept_count);
				kept[at] = kept[--kept_count];
			}
		}
		assert_int_equal(steer_normalise(kept, kept_count), count[1]);
		assert_same(kept, list[1], count[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_bits_do_not_count), cmocka_unit_test(a_double_counts_once),
		cmocka_unit_test(nothing_changes_nothing), cmocka_unit_test(only_what_differs_is_called_for),
		cmocka_unit_test(another_pool_is_a_change), cmocka_unit_test(an_error_stops_it),
		cmocka_unit_test(applied_it_makes_one_of_the_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
