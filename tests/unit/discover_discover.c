/*
 * discover_discover.c - discovery with a clock and a DNS of the test's own: rounds, TTLs and their clamps, failures that
 * touch one name, what is kept and for how long, limits, late answers, the memory.
 */
#include <arpa/inet.h>

#include "discover_harness.h"

static void fails(const char *name, enum discover_type type)
{
	answer(name, type, (struct discover_answer){.status = DISCOVER_FAILED, .why = "SERVFAIL"});
}

static void none(const char *name, enum discover_type type, const char *why, uint32_t ttl)
{
	answer(name, type, (struct discover_answer){.status = DISCOVER_NONE, .why = why, .ttl = ttl});
}

/* "10 mx1.example" to rdata. */
static int mx_rdata(const char *text, uint8_t *out)
{
	char *name;
	unsigned long preference = strtoul(text, &name, 10);
	int at = 2;

	out[0] = (uint8_t)(preference >> 8);
	out[1] = (uint8_t)preference;
	for (name++; *name && strcmp(name, "."); name += strcspn(name, ".") + (strchr(name, '.') != NULL)) {
		size_t len = strcspn(name, ".");
		out[at++] = (uint8_t)len;
		memcpy(out + at, name, len);
		at += (int)len;
	}
	out[at++] = 0;
	return at;
}

static void records(const char *name, enum discover_type type, uint32_t ttl, const char *const *texts)
{
	uint8_t data[32][300];
	const uint8_t *at[32];
	int len[32];
	size_t count = 0;

	for (; texts[count]; count++) {
		at[count] = data[count];
		if (type == DISCOVER_MX)
			len[count] = mx_rdata(texts[count], data[count]);
		else
			assert_int_equal(inet_pton(type == DISCOVER_A ? AF_INET : AF_INET6, texts[count], data[count]), 1);
		if (type != DISCOVER_MX)
			len[count] = type == DISCOVER_A ? 4 : 16;
	}
	answer(name, type, (struct discover_answer){.status = DISCOVER_OK, .ttl = ttl, .data = at, .len = len, .count = count});
}
#define RECORDS(name, type, ttl, ...) records(name, type, ttl, (const char *const[]){__VA_ARGS__, NULL})

static void want(const char *a, const char *b)
{
	const char *names[] = {a, b};

	discover_want(discover, names, b ? 2 : a ? 1 : 0, now);
}

static bool claimed(const char *addr, const char *mx)
{
	size_t count;
	const struct discovered_claim *claims = discover_claims(discover, &count);
	uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, addr, bytes + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, addr, bytes), 1);
	for (size_t i = 0; i < count; i++)
		if (!memcmp(claims[i].addr, bytes, 16) && !strcmp(claims[i].mx, mx))
			return true;
	return false;
}

static size_t claim_count(void)
{
	size_t count;

	discover_claims(discover, &count);
	return count;
}

/* One domain with one server and one address, known. */
static void know(const char *domain, const char *mx, const char *addr, uint32_t ttl)
{
	char record[300];

	snprintf(record, sizeof(record), "10 %s", mx);
	RECORDS(domain, DISCOVER_MX, ttl, record);
	RECORDS(mx, DISCOVER_A, ttl, addr);
	none(mx, DISCOVER_AAAA, "no such record", ttl);
}

static void a_round(void **state)
{
	(void)state;
	want("one.test", NULL);
	assert_int_equal(asked_count, 1);
	RECORDS("one.test", DISCOVER_MX, 300, "20 mx2.one.test", "10 MX1.one.test", "10 mx1.one.test");
	assert_int_equal(asked_count, 5);
	RECORDS("mx1.one.test", DISCOVER_A, 200, "10.0.0.2", "10.0.0.1", "10.0.0.2");
	RECORDS("mx1.one.test", DISCOVER_AAAA, 200, "fd77::1");
	RECORDS("mx2.one.test", DISCOVER_A, 100, "10.0.0.3");
	assert_int_equal(changes, 0);
	none("mx2.one.test", DISCOVER_AAAA, "no such record", 500);
	assert_int_equal(changes, 1);
	assert_int_equal(claim_count(), 4);
	assert_true(claimed("10.0.0.1", "mx1.one.test") && claimed("10.0.0.2", "mx1.one.test") && claimed("fd77::1", "mx1.one.test"));
	assert_true(claimed("10.0.0.3", "mx2.one.test"));
	pass(100);
	assert_int_equal(asked_count, 5);
	pass(1);
	assert_int_equal(asked_count, 6); /* the least TTL, and a second of the resolver's cache */
	RECORDS("one.test", DISCOVER_MX, 300, "10 mx1.one.test", "20 mx2.one.test");
	RECORDS("mx1.one.test", DISCOVER_A, 200, "10.0.0.1", "10.0.0.2");
	RECORDS("mx1.one.test", DISCOVER_AAAA, 200, "fd77::1");
	RECORDS("mx2.one.test", DISCOVER_A, 100, "10.0.0.3");
	none("mx2.one.test", DISCOVER_AAAA, "no such record", 500);
	assert_int_equal(changes, 1); /* the same in another order */
}

static void ttls_are_clamped(void **state)
{
	(void)state;
	want("a.test", NULL);
	know("a.test", "mx.a.test", "10.0.0.1", 0);
	size_t before = asked_count;
	pass(config.dns_ttl_min_s);
	assert_int_equal(asked_count, before);
	pass(1);
	assert_int_equal(asked_count, before + 1);
	RECORDS("a.test", DISCOVER_MX, UINT32_MAX, "10 mx.a.test");
	RECORDS("mx.a.test", DISCOVER_A, UINT32_MAX, "10.0.0.1");
	RECORDS("mx.a.test", DISCOVER_AAAA, UINT32_MAX, "fd77::1");
	before = asked_count;
	pass(DISCOVER_TTL_MAX_S);
	assert_int_equal(asked_count, before);
	pass(1);
	none("a.test", DISCOVER_MX, "NXDOMAIN", UINT32_MAX);
	before = asked_count;
	pass(DISCOVER_NEGATIVE_MAX_S + 1);
	assert_int_equal(asked_count, before + 1);
}

static void without_mx(void **state)
{
	(void)state;
	want("bare.test", "null.test");
	none("bare.test", DISCOVER_MX, "no such record", 60);
	RECORDS("bare.test", DISCOVER_A, 60, "10.0.0.1");
	none("bare.test", DISCOVER_AAAA, "no such record", 60);
	assert_true(claimed("10.0.0.1", "bare.test"));
	RECORDS("null.test", DISCOVER_MX, 60, "0 .");
	assert_null(asked_open(DISCOVER_A, "null.test"));
	pass(61);
	none("bare.test", DISCOVER_MX, "NXDOMAIN", 60);
	assert_null(asked_open(DISCOVER_A, "bare.test")); /* nothing of that name can have an address */
	assert_int_equal(claim_count(), 0);
}

static void a_failure_is_no_answer(void **state)
{
	(void)state;
	want("a.test", "b.test");
	know("a.test", "mx.a.test", "10.0.0.1", 60);
	know("b.test", "mx.b.test", "10.0.0.2", 60);
	assert_int_equal(changes, 2);
	pass(61);
	fails("a.test", DISCOVER_MX);
	know("b.test", "mx.b.test", "10.0.0.3", 60);
	assert_true(claimed("10.0.0.1", "mx.a.test") && claimed("10.0.0.3", "mx.b.test"));
	assert_int_equal(discover_counts(discover).failing, 1);
	assert_int_equal(changes, 3);
	size_t before = asked_count;
	pass(DISCOVER_RETRY_MIN_S);
	assert_int_equal(asked_count, before + 1);
	fails("a.test", DISCOVER_MX);
	pass(DISCOVER_RETRY_MIN_S);
	assert_int_equal(asked_count, before + 1); /* twice as long the second time */
	pass(DISCOVER_RETRY_MIN_S);
	/* Its server's AAAA fails alone: what was known of A goes on changing. */
	RECORDS("a.test", DISCOVER_MX, 60, "10 mx.a.test");
	RECORDS("mx.a.test", DISCOVER_A, 60, "10.0.0.9");
	fails("mx.a.test", DISCOVER_AAAA);
	assert_true(claimed("10.0.0.9", "mx.a.test"));
	assert_false(claimed("10.0.0.1", "mx.a.test"));
	assert_int_equal(discover_counts(discover).failing, 1);
	assert_int_equal(discover_counts(discover).failures, 3);
}

static void known_addresses_end(void **state)
{
	(void)state;
	config.dns_keep_s = 1000;
	want("a.test", NULL);
	know("a.test", "mx.a.test", "10.0.0.1", 60);
	uint64_t known_at = now.unix_s;
	while (now.unix_s < known_at + config.dns_keep_s) {
		assert_true(claimed("10.0.0.1", "mx.a.test"));
		pass(50);
		if (asked_open(DISCOVER_MX, "a.test"))
			fails("a.test", DISCOVER_MX);
	}
	pass(DISCOVER_RETRY_MAX_S);
	fails("a.test", DISCOVER_MX);
	assert_int_equal(claim_count(), 0);
	assert_int_equal(changes, 2);
}

static void silence(void **state)
{
	(void)state;
	want("a.test", NULL);
	pass(config.dns_timeout_s - 1);
	assert_int_equal(forgotten, 0);
	pass(1);
	assert_int_equal(forgotten, 1);
	assert_int_equal(discover_counts(discover).timeouts, 1);
	/* The answer comes after all: nobody waits for it any more. */
	answer("a.test", DISCOVER_MX, (struct discover_answer){.status = DISCOVER_NONE, .why = "NXDOMAIN", .ttl = 60});
	assert_int_equal(discover_counts(discover).answers, 1);
	assert_int_equal(discover_counts(discover).busy, 0);
}

static void rules_come_and_go(void **state)
{
	(void)state;
	want("a.test", "b.test");
	know("a.test", "mx.a.test", "10.0.0.1", 60);
	want("a.test", NULL);
	assert_int_equal(forgotten, 1);
	answer("b.test", DISCOVER_MX, (struct discover_answer){.status = DISCOVER_NONE, .why = "NXDOMAIN", .ttl = 60});
	assert_int_equal(discover_counts(discover).domains, 1);
	assert_int_equal(changes, 1);
	want(NULL, NULL);
	assert_int_equal(changes, 2);
	assert_int_equal(claim_count(), 0);
	pass(1000);
	assert_int_equal(discover_counts(discover).busy, 0);
}

static void no_more_at_once_than_the_limit(void **state)
{
	static char names[100][16];
	const char *list[100];

	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(names[i], sizeof(names[i]), "d%02d.test", i);
		list[i] = names[i];
	}
	discover_want(discover, list, 100, now);
	assert_int_equal(asked_count, DISCOVER_BUSY_MAX);
	for (int i = 0; i < 100; i++)
		none(names[i], DISCOVER_MX, "NXDOMAIN", 60);
	assert_int_equal(asked_count, 100);
	pass(61);
	assert_int_equal(asked_count, 100 + DISCOVER_BUSY_MAX);
}

static void a_resolver_that_takes_nothing(void **state)
{
	(void)state;
	refuses = true;
	want("a.test", "b.test");
	assert_int_equal(discover_counts(discover).failing, 2);
	refuses = false;
	pass(DISCOVER_RETRY_MIN_S);
	know("a.test", "mx.a.test", "10.0.0.1", 60);
	assert_true(claimed("10.0.0.1", "mx.a.test"));
}

static void memory_there_and_back(void **state)
{
	struct discover_row row;

	want("a.test", "b.test");
	RECORDS("a.test", DISCOVER_MX, 60, "10 mx.a.test", "10 mx2.a.test");
	RECORDS("mx.a.test", DISCOVER_A, 60, "10.0.0.1", "10.0.0.2");
	RECORDS("mx.a.test", DISCOVER_AAAA, 60, "fd77::1");
	fails("mx2.a.test", DISCOVER_A);
	none("mx2.a.test", DISCOVER_AAAA, "no such record", 60);
	json_t *memory = discover_remember(discover);
	assert_int_equal(json_object_size(memory), 2);
	/* Somebody has been at the file. */
	json_object_set_new(memory, "Bad..Name", json_object());
	json_object_set_new(memory, "c.test", json_pack("{s:[{s:s,s:[s,s,i],s:I},{s:s}],s:s}", "mx", "name", "mx.c.test", "A", "127.0.0.1",
							"10.0.0.7", 7, "A_time", (json_int_t)START_S, "name", "\n", "time", "x"));
	discover_free(discover);
	begin(state);
	now.unix_s += 100;
	discover_recall(discover, memory, now);
	json_decref(memory);
	assert_int_equal(claim_count(), 4);
	assert_true(claimed("10.0.0.1", "mx.a.test") && claimed("fd77::1", "mx.a.test") && claimed("10.0.0.7", "mx.c.test"));
	want("a.test", NULL);
	assert_int_equal(claim_count(), 3);
	assert_non_null(asked_open(DISCOVER_MX, "a.test")); /* at once */
	assert_true(discover_next_untold(discover, &row));
	assert_string_equal(row.mx, "mx.a.test mx2.a.test");
	assert_string_equal(row.addresses, "mx.a.test=10.0.0.1,10.0.0.2,fd77::1");
	free(row.mx);
	free(row.addresses);
	free(row.tlsa);
	assert_false(discover_next_untold(discover, &row));
	fails("a.test", DISCOVER_MX);
	assert_int_equal(claim_count(), 3);
}

static void old_memory_is_left(void **state)
{
	want("a.test", NULL);
	know("a.test", "mx.a.test", "10.0.0.1", 60);
	json_t *memory = discover_remember(discover);
	discover_free(discover);
	begin(state);
	now.unix_s += config.dns_keep_s;
	discover_recall(discover, memory, now);
	json_decref(memory);
	assert_int_equal(claim_count(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_round, begin, end),
		cmocka_unit_test_setup_teardown(ttls_are_clamped, begin, end),
		cmocka_unit_test_setup_teardown(without_mx, begin, end),
		cmocka_unit_test_setup_teardown(a_failure_is_no_answer, begin, end),
		cmocka_unit_test_setup_teardown(known_addresses_end, begin, end),
		cmocka_unit_test_setup_teardown(silence, begin, end),
		cmocka_unit_test_setup_teardown(rules_come_and_go, begin, end),
		cmocka_unit_test_setup_teardown(no_more_at_once_than_the_limit, begin, end),
		cmocka_unit_test_setup_teardown(a_resolver_that_takes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(memory_there_and_back, begin, end),
		cmocka_unit_test_setup_teardown(old_memory_is_left, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
