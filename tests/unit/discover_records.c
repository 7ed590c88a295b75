/* discover_records.c - records of strangers: names that are none, addresses that no server has, sets without end, at every cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/discover/private.h"

struct mx { const char *rdata; int len; const char *name; };
#define MX(text, name) {text, sizeof(text) - 1, name}

static size_t take(const char *const *rdata, const int *len, size_t count, struct host **hosts, size_t *kept, bool *null_mx)
{
	const struct discover_answer answer = {.status = DISCOVER_OK, .data = (const uint8_t *const *)rdata, .len = len, .count = count};

	*null_mx = false;
	return records_mx(&answer, hosts, kept, null_mx);
}

static void names(void **state)
{
	static const struct mx rows[] = {
		MX("\0\12\2mx\4test\0", "mx.test"), MX("\0\12\2MX\4TeSt\0", "mx.test"), MX("\0\12\4m_-1\4test\0", "m_-1.test"),
		MX("\0\12\0", NULL), /* null */
		MX("", NULL), MX("\0", NULL), MX("\0\12", NULL), MX("\0\12\2mx", NULL), MX("\0\12\2mx\4test", NULL),
		MX("\0\12\2mx\4test\0more", NULL), MX("\0\12\3m.x\4test\0", NULL), MX("\0\12\3m\0x\4test\0", NULL),
		MX("\0\12\3m x\4test\0", NULL), MX("\0\12\2m\n\4test\0", NULL), MX("\0\12\2\303\244\4test\0", NULL),
		MX("\0\12\300\14", NULL), MX("\0\12\100aaaa", NULL), MX("\0\12\1*\4test\0", NULL), MX("\0\12\2\33[\4test\0", NULL),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host *hosts;
		size_t kept;
		bool null_mx;
		size_t ignored = take(&rows[i].rdata, &rows[i].len, 1, &hosts, &kept, &null_mx);
		assert_int_equal(kept, rows[i].name ? 1 : 0);
		assert_int_equal(ignored + kept + null_mx, 1);
		if (rows[i].name)
			assert_string_equal(hosts[0].name, rows[i].name);
		hosts_free(hosts, kept);
	}
}

static void cut_anywhere(void **state)
{
	static const char whole[] = "\0\12\3mx1\7example\3org\0";

	(void)state;
	for (int len = 0; len < (int)sizeof(whole) - 1; len++) {
		char *cut = malloc((size_t)len + 1); /* so that a byte too far is seen */
		memcpy(cut, whole, (size_t)len);
		cut = realloc(cut, len ? (size_t)len : 1);
		const char *rdata = cut;
		struct host *hosts;
		size_t kept;
		bool null_mx;
		assert_int_equal(take(&rdata, &len, 1, &hosts, &kept, &null_mx), 1);
		assert_int_equal(kept, 0);
		assert_false(null_mx);
		hosts_free(hosts, kept);
		free(cut);
	}
}

static void too_long_a_name(void **state)
{
	char rdata[2 + 5 * 64 + 1] = {0};
	const char *at = rdata;
	struct host *hosts;
	size_t kept;
	bool null_mx;

	(void)state;
	for (int labels = 1; labels <= 5; labels++) {
		for (int i = 0; i < labels; i++) {
			rdata[2 + i * 64] = 63;
			memset(rdata + 3 + i * 64, 'a', 63);
		}
		rdata[2 + labels * 64] = 0;
		int len = 3 + labels * 64;
		take(&at, &len, 1, &hosts, &kept, &null_mx);
		assert_int_equal(kept, labels < 4 ? 1 : 0); /* 255 octets of name: 4 * 64 is one too many */
		hosts_free(hosts, kept);
	}
}

/* A null MX among others is none; the limit takes the most preferred; the order of records does not matter. */
static void many(void **state)
{
	enum { COUNT = 200 };
	static char texts[COUNT][16];
	const char *rdata[COUNT];
	int len[COUNT];
	struct host *hosts;
	size_t kept;
	bool null_mx;

	(void)state;
	for (int turn = 0; turn < 2; turn++) {
		for (int i = 0; i < COUNT; i++) {
			int n = turn ? COUNT - 1 - i : i;
			memcpy(texts[i], n ? "\0\0\4mxxx\4test\0" : "\0\0\0", n ? 13 : 3);
			texts[i][1] = (char)n;
			if (n) {
				texts[i][5] = (char)('a' + n / 26);
				texts[i][6] = (char)('a' + n % 26);
			}
			rdata[i] = texts[i];
			len[i] = n ? 13 : 3;
		}
		assert_int_equal(take(rdata, len, COUNT, &hosts, &kept, &null_mx), COUNT - DISCOVER_MX_MAX);
		assert_int_equal(kept, DISCOVER_MX_MAX);
		assert_false(null_mx);
		for (size_t i = 0; i < kept; i++)
			assert_int_equal(hosts[i].preference, i + 1);
		hosts_free(hosts, kept);
	}
}

static void addresses(void **state)
{
	static const struct { enum discover_type type; const char *rdata; int len; bool usable; } rows[] = {
		{DISCOVER_A, "\12\115\1\1", 4, true}, {DISCOVER_A, "\0\0\0\0", 4, false}, {DISCOVER_A, "\177\0\0\1", 4, false},
		{DISCOVER_A, "\340\0\0\1", 4, false}, {DISCOVER_A, "\377\377\377\377", 4, false}, {DISCOVER_A, "\251\376\1\1", 4, false},
		{DISCOVER_A, "\12\115\1", 3, false}, {DISCOVER_A, "", 0, false}, {DISCOVER_A, "\12\115\1\1\1", 5, false},
		{DISCOVER_AAAA, "\375\167\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, true},
		{DISCOVER_AAAA, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, false}, {DISCOVER_AAAA, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, false},
		{DISCOVER_AAAA, "\377\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, false}, {DISCOVER_AAAA, "\376\200\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, false},
		{DISCOVER_AAAA, "\0\0\0\0\0\0\0\0\0\0\377\377\12\0\0\1", 16, false}, {DISCOVER_AAAA, "\12\115\1\1", 4, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint8_t *rdata = (const uint8_t *)rows[i].rdata;
		const struct discover_answer answer = {.status = DISCOVER_OK, .data = &rdata, .len = &rows[i].len, .count = 1};
		struct family family = {0};
		size_t ignored = records_addresses(&answer, rows[i].type, &family);
		if (family.count != rows[i].usable || ignored != !rows[i].usable)
			fail_msg("row %zu", i);
		free(family.addrs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(cut_anywhere), cmocka_unit_test(too_long_a_name), cmocka_unit_test(many),
		cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
