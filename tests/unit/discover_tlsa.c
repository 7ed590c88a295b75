/*
 * discover_tlsa.c - TLSA in discovery: only where addresses are validated, below an alias first, what is secure,
 * insecure, none and failed, what is kept, order, limits, the text and the memory.
 */
#include "discover_harness.h"

#include "../../control/discover/private.h"

#define RDATA(...) {(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})}

static int begin_one(void **state)
{
	const char *name = "a.example";

	begin(state);
	discover_want(discover, &name, 1, now);
	return 0;
}

static void one(const char *name, enum discover_type type, const uint8_t *data, int len, bool secure, const char *canonical)
{
	answer(name, type, (struct discover_answer){.status = DISCOVER_OK, .secure = secure, .ttl = 300, .data = &data, .len = &len,
						    .count = 1, .canonical = canonical});
}

static void none(const char *name, enum discover_type type, bool secure)
{
	answer(name, type, (struct discover_answer){.status = DISCOVER_NONE, .secure = secure, .why = "no such record", .ttl = 300});
}

static void fails(const char *name, enum discover_type type)
{
	answer(name, type, (struct discover_answer){.status = DISCOVER_FAILED, .why = "DNSSEC validation failed"});
}

/* MX and addresses of the one domain; `canonical`: what the MX is an alias of. */
static void addresses(bool mx_secure, bool secure, const char *canonical)
{
	static const uint8_t mx[] = {0, 10, 2, 'm', 'x', 1, 'a', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0}, a[] = {192, 0, 2, 1};

	one("a.example", DISCOVER_MX, mx, sizeof(mx), mx_secure, NULL);
	one("mx.a.example", DISCOVER_A, a, sizeof(a), secure, canonical);
	none("mx.a.example", DISCOVER_AAAA, secure);
}

static void next_round(void)
{
	pass(400);
}

/* What Redis is told of the last round. */
static void told(const char *tlsa, bool mx_secure)
{
	struct discover_row row;

	assert_true(discover_next_untold(discover, &row));
	assert_string_equal(row.tlsa, tlsa);
	assert_int_equal(row.mx_secure, mx_secure);
	free(row.mx);
	free(row.addresses);
	free(row.tlsa);
	discover_next_untold(discover, &row);
}

static const uint8_t pin[] = {3, 1, 1, 0xab, 0xcd}, other_pin[] = {3, 1, 1, 0xef, 0x01};

static void secure_records(void **state)
{
	(void)state;
	addresses(true, true, NULL);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
	told("mx.a.example=secure@1800000000,3-1-1-abcd", true);
	assert_int_equal(changes, 1);
	next_round();
	addresses(false, true, NULL);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, other_pin, sizeof(other_pin), true, NULL);
	told("mx.a.example=secure@1800000400,3-1-1-ef01", false);
	assert_true(changes >= 2);
}

static void not_asked_where_addresses_are_not_validated(void **state)
{
	(void)state;
	addresses(true, false, NULL);
	assert_null(asked_open(DISCOVER_TLSA, "_25._tcp.mx.a.example"));
	told("mx.a.example=none-insecure@1800000000", true);
}

static void none_and_insecure(void **state)
{
	(void)state;
	addresses(true, true, NULL);
	none("_25._tcp.mx.a.example", DISCOVER_TLSA, true);
	told("mx.a.example=none@1800000000", true);
	next_round();
	addresses(true, true, NULL);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), false, NULL);
	told("mx.a.example=none-insecure@1800000400", true);
}

static void a_failure_is_not_none_and_keeps_what_was(void **state)
{
	(void)state;
	addresses(true, true, NULL);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
	told("mx.a.example=secure@1800000000,3-1-1-abcd", true);
	next_round();
	addresses(true, true, NULL);
	fails("_25._tcp.mx.a.example", DISCOVER_TLSA);
	told("mx.a.example=failed@1800000000,3-1-1-abcd", true);
	assert_int_equal(discover_counts(discover).failing, 1);
	next_round(); /* addresses fail as well: nobody knows */
	static const uint8_t mx[] = {0, 10, 2, 'm', 'x', 1, 'a', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0};
	one("a.example", DISCOVER_MX, mx, sizeof(mx), true, NULL);
	fails("mx.a.example", DISCOVER_A);
	fails("mx.a.example", DISCOVER_AAAA);
	told("mx.a.example=failed@1800000000,3-1-1-abcd", true);
	now.unix_s += config.dns_keep_s;
	next_round();
	fails("a.example", DISCOVER_MX);
	told("mx.a.example=failed@0", false);
}

static void below_the_alias_first(void **state)
{
	(void)state;
	addresses(true, true, "host.b.example");
	none("_25._tcp.host.b.example", DISCOVER_TLSA, true);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
	told("mx.a.example=secure@1800000000,3-1-1-abcd", true);
	next_round();
	addresses(true, true, "host.b.example");
	one("_25._tcp.host.b.example", DISCOVER_TLSA, other_pin, sizeof(other_pin), true, NULL);
	assert_null(asked_open(DISCOVER_TLSA, "_25._tcp.mx.a.example"));
	told("mx.a.example=secure@1800000400,3-1-1-ef01", true);
	next_round();
	addresses(true, true, "host.b.example");
	fails("_25._tcp.host.b.example", DISCOVER_TLSA);
	assert_null(asked_open(DISCOVER_TLSA, "_25._tcp.mx.a.example"));
	told("mx.a.example=failed@1800000400,3-1-1-ef01", true);
}

static void order_copies_and_limits(void **state)
{
	const struct { const uint8_t *data; int len; } rows[] = {
		RDATA(3, 1, 1, 2), RDATA(2, 0, 2, 1, 1), RDATA(3, 1, 1, 2), RDATA(255, 255, 255, 0)};
	const uint8_t *data[DISCOVER_TLSA_MAX + 1];
	int len[DISCOVER_TLSA_MAX + 1];
	struct tlsa_set set = {0};

	(void)state;
	for (int i = 0; i <= DISCOVER_TLSA_MAX; i++) {
		data[i] = rows[i % 4].data;
		len[i] = rows[i % 4].len;
	}
	struct discover_answer many = {.status = DISCOVER_OK, .data = data, .len = len, .count = 4};
	records_tlsa(&many, &set);
	assert_int_equal(set.state, FOUND_SECURE);
	assert_int_equal(set.count, 3);
	assert_int_equal(set.records[0].usage, 2);
	assert_int_equal(set.records[2].usage, 255);
	many.count = DISCOVER_TLSA_MAX + 1;
	records_tlsa(&many, &set);
	assert_int_equal(set.state, FOUND_FAILED);
	assert_int_equal(set.count, 0);
	many.count = 1;
	for (int bad = 0; bad < 2; bad++) {
		len[0] = bad ? DISCOVER_TLSA_BYTES_MAX + 4 : 3; /* too long is not read, so that the data may be short */
		records_tlsa(&many, &set);
		assert_int_equal(set.state, FOUND_FAILED);
	}
	tlsa_dispose(&set);
}

static void text_there_and_back(void **state)
{
	static const char *const good[] = {"secure@1800000000,2-0-2-0101,3-1-1-ab", "failed@5,3-1-1-00", "none@7", "none-insecure@8", "failed@0"};
	static const char *const bad[] = {"", "secure", "safe@1", "secure@1,3-1-1-", "secure@1,3-1-1-a", "secure@1,3-1-1-zz", "secure@1,3-1-ab",
					  "secure@1,999-1-1-ab", "secure@1,x"};
	struct tlsa_set set = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char *text = NULL;
		size_t len;
		tlsa_read(good[i], &set);
		FILE *out = open_memstream(&text, &len);
		tlsa_print(&set, out);
		fclose(out);
		assert_string_equal(text, good[i]);
		free(text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tlsa_read(bad[i], &set);
		assert_int_equal(set.state, FOUND_UNASKED);
		assert_int_equal(set.count, 0);
	}
	tlsa_dispose(&set);
}

static void memory_has_it(void **state)
{
	(void)state;
	addresses(true, true, NULL);
	one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
	json_t *memory = discover_remember(discover);
	end(NULL);
	asked_count = 0;
	static const struct discover_ops ops = {on_ask, on_forget, on_changed};
	discover = discover_new(&config, &ops, NULL);
	discover_recall(discover, memory, now);
	json_decref(memory);
	told("mx.a.example=secure@1800000000,3-1-1-abcd", true);
	const char *name = "a.example";
	discover_want(discover, &name, 1, now);
	addresses(true, true, NULL);
	fails("_25._tcp.mx.a.example", DISCOVER_TLSA);
	told("mx.a.example=failed@1800000000,3-1-1-abcd", true);
}

/* They point into what is known, which a round replaces, also if it brings no news. */
static void claims_and_hosts_outlive_a_round(void **state)
{
	size_t count;

	(void)state;
	for (int round = 0; round < 3; round++) {
		addresses(true, true, "host.b.example");
		one("_25._tcp.host.b.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
		const struct discovered_claim *claims = discover_claims(discover, &count);
		assert_int_equal(count, 1);
		assert_string_equal(claims[0].mx, "mx.a.example");
		assert_true(claims[0].mx_secure);
		const struct discovered_host *hosts = discover_hosts(discover, &count);
		assert_int_equal(count, 1);
		assert_string_equal(hosts[0].mx, "mx.a.example");
		assert_string_equal(hosts[0].base, "host.b.example");
		assert_int_equal(hosts[0].tlsa, TLSA_SECURE);
		assert_memory_equal(hosts[0].records[0].data, pin + 3, 2);
		assert_int_equal(changes, 1);
		next_round();
	}
}

static void what_the_compiler_gets_of_a_failure(void **state)
{
	size_t count;

	(void)state;
	for (int bogus = 0; bogus < 2; bogus++) {
		addresses(true, true, NULL);
		one("_25._tcp.mx.a.example", DISCOVER_TLSA, pin, sizeof(pin), true, NULL);
		next_round();
		addresses(true, true, NULL);
		answer("_25._tcp.mx.a.example", DISCOVER_TLSA,
		       (struct discover_answer){.status = DISCOVER_FAILED, .bogus = bogus, .why = "as told"});
		assert_int_equal(discover_hosts(discover, &count)[0].tlsa, bogus ? TLSA_FAILED : TLSA_SECURE);
		next_round();
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_one, end)
	const struct CMUnitTest tests[] = {
		TEST(secure_records), TEST(not_asked_where_addresses_are_not_validated), TEST(none_and_insecure),
		TEST(a_failure_is_not_none_and_keeps_what_was), TEST(below_the_alias_first), TEST(order_copies_and_limits),
		TEST(text_there_and_back), TEST(memory_has_it), TEST(claims_and_hosts_outlive_a_round),
		TEST(what_the_compiler_gets_of_a_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
