/*
 * agent_seen.c - where STARTTLS was seen: times go forward, telling is rare, old ones and the oldest of too many go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/agent/seen.h"

#define NOW 1800000000ull
static struct seen *seen;

static int begin(void **state)
{
	(void)state;
	seen = seen_new();
	return 0;
}

static int end(void **state)
{
	(void)state;
	seen_free(seen);
	return 0;
}

static bool note(const char *text, uint64_t at, enum seen_how how, uint64_t now)
{
	uint8_t addr[16];

	address_read(text, addr);
	return seen_note(seen, addr, at, how, now);
}

static size_t untold(void)
{
	struct seen_row row;
	size_t n = 0;

	while (seen_next_untold(seen, &row))
		n++;
	return n;
}

static void told_rarely(void **state)
{
	(void)state;
	assert_true(note("192.0.2.1", NOW, SEEN_SESSION, NOW));
	assert_int_equal(untold(), 1);
	for (uint64_t at = NOW + 1; at < NOW + SEEN_TELL_S; at += 7)
		note("192.0.2.1", at, SEEN_SESSION, at);
	assert_int_equal(untold(), 0);
	note("192.0.2.1", NOW + SEEN_TELL_S, SEEN_PROBE, NOW + SEEN_TELL_S);
	assert_int_equal(untold(), 1);
	assert_false(note("192.0.2.1", NOW, SEEN_SESSION, NOW)); /* never back */
	size_t count;
	assert_int_equal(seen_found(seen, &count)->at, NOW + SEEN_TELL_S);
	assert_int_equal(count, 1);
	note("2001:db8::1", NOW, SEEN_TOLD, NOW); /* what Redis says it has already */
	assert_int_equal(untold(), 0);
	seen_read_begin(seen);
	note("2001:db8::1", NOW, SEEN_TOLD, NOW);
	seen_read_end(seen);
	assert_int_equal(untold(), 1); /* 192.0.2.1 is not there any more */
}

static void ignored(void **state)
{
	(void)state;
	assert_false(note("127.0.0.1", NOW, SEEN_TOLD, NOW));
	assert_false(note("192.0.2.1", NOW + SEEN_FUTURE_S + 1, SEEN_TOLD, NOW));
	assert_false(note("192.0.2.1", NOW - FINDINGS_SEEN_TTL_S, SEEN_TOLD, NOW));
	assert_int_equal(seen_counts(seen).ignored, 3);
	note("192.0.2.1", NOW, SEEN_SESSION, NOW);
	seen_expire(seen, NOW + FINDINGS_SEEN_TTL_S - 1);
	assert_int_equal(seen_counts(seen).addresses, 1);
	seen_expire(seen, NOW + FINDINGS_SEEN_TTL_S);
	assert_int_equal(seen_counts(seen).addresses, 0);
	assert_int_equal(untold(), 0);
}

static void the_oldest_of_too_many_give_way(void **state)
{
	uint8_t addr[16] = {0x20, 1};
	size_t count;

	(void)state;
	for (uint32_t i = 0; i <= SEEN_MAX; i++) {
		memcpy(addr + 12, &i, 4);
		seen_note(seen, addr, NOW - SEEN_MAX + i, SEEN_SESSION, NOW);
	}
	assert_int_equal(seen_counts(seen).addresses, SEEN_MAX - SEEN_MAX / 16 + 1);
	assert_int_equal(seen_counts(seen).evicted, SEEN_MAX / 16);
	const struct discovered_seen *found = seen_found(seen, &count);
	for (size_t i = 0; i < count; i++) {
		assert_true(found[i].at >= NOW - SEEN_MAX + SEEN_MAX / 16);
		assert_true(!i || memcmp(found[i - 1].addr, found[i].addr, 16) < 0);
	}
}

static void each_of_many_is_told_once(void **state)
{
	uint8_t addr[16] = {0x20, 1};
	struct seen_row row, last = {0};
	size_t told = 0;

	(void)state;
	for (uint32_t i = 0; i < SEEN_MAX; i++) {
		memcpy(addr + 12, &i, 4);
		seen_note(seen, addr, NOW, SEEN_SESSION, NOW);
	}
	for (; seen_next_untold(seen, &row); told++) {
		assert_true(memcmp(last.addr, row.addr, 16) < 0);
		last = row;
	}
	assert_int_equal(told, SEEN_MAX);
	note("192.0.2.1", NOW, SEEN_SESSION, NOW); /* before the last one, and new */
	assert_int_equal(untold(), 1);
}

static void memory_there_and_back(void **state)
{
	size_t count;

	(void)state;
	note("192.0.2.1", NOW, SEEN_SESSION, NOW);
	note("2001:db8::1", NOW - 5, SEEN_PROBE, NOW);
	json_t *memory = seen_remember(seen);
	json_object_set_new(memory, "nonsense", json_integer(5));
	json_object_set_new(memory, "192.0.2.9", json_string("x"));
	end(NULL);
	begin(NULL);
	seen_recall(seen, memory, NOW);
	json_decref(memory);
	seen_found(seen, &count);
	assert_int_equal(count, 2);
	assert_int_equal(untold(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {TEST(told_rarely), TEST(ignored), TEST(the_oldest_of_too_many_give_way), TEST(each_of_many_is_told_once),
					   TEST(memory_there_and_back)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
