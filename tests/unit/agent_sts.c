/*
 * agent_sts.c - MTA-STS policies with a clock, a DNS, a Redis and an HTTPS of the test's own: what is asked when, what is
 * kept through which failure and for how long, what another appliance has found, limits, the memory.
 */
#include "asked.h"

#include "../../control/agent/sts.h"

#define POLICY(mode, mx, max_age) "version: STSv1\nmode: " mode "\nmx: " mx "\nmax_age: " max_age "\n"

enum what { TXT, LOOK, FETCH };
static bool redis_is_there;
static struct sts *sts;

static bool on_ask(void *context, const char *name, uint64_t token)
{
	(void)context;
	assert_true(token & STS_TOKEN);
	return asked_note(TXT, name, token);
}

static bool on_look(void *context, const char *domain, uint64_t token)
{
	(void)context;
	return redis_is_there && asked_note(LOOK, domain, token);
}

static bool on_fetch(void *context, const char *domain, uint64_t token)
{
	(void)context;
	return asked_note(FETCH, domain, token);
}

static const struct sts_ops ops = {on_ask, on_look, on_fetch, on_forget, on_changed};

static void want(const char *domain)
{
	sts_want(sts, &domain, domain ? 1 : 0, now);
}

static int begin(void **state)
{
	(void)state;
	asked_begin();
	redis_is_there = false;
	sts = sts_new(&config, &ops, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	sts_free(sts);
	return 0;
}

static void pass(uint64_t seconds)
{
	asked_pass(seconds);
	sts_tick(sts, now);
}

static struct asked *opened(enum what what) { return asked_open((int)what, NULL); }
static uint64_t take(enum what what) { return asked_take((int)what, NULL); }

static void txt(const char *const *texts)
{
	static uint8_t data[4][512];
	const uint8_t *at[4];
	int len[4];
	size_t n = 0;

	for (; texts[n]; n++) { /* in two strings, as TXT may be */
		size_t all = strlen(texts[n]), half = all / 2;
		data[n][0] = (uint8_t)half;
		memcpy(data[n] + 1, texts[n], half);
		data[n][1 + half] = (uint8_t)(all - half);
		memcpy(data[n] + 2 + half, texts[n] + half, all - half);
		at[n] = data[n];
		len[n] = (int)all + 2;
	}
	struct discover_answer answer = {.status = n ? DISCOVER_OK : DISCOVER_NONE, .why = "no such record", .ttl = 300, .data = at, .len = len, .count = n};
	sts_answered(sts, take(TXT), &answer, now);
}
#define TXT_IS(...) txt((const char *const[]){__VA_ARGS__, NULL})

static void txt_fails(void)
{
	sts_answered(sts, take(TXT), &(struct discover_answer){.status = DISCOVER_FAILED, .why = "SERVFAIL"}, now);
}

static void serves(const char *text)
{
	sts_fetched(sts, take(FETCH), &(struct sts_fetched){.text = text, .len = strlen(text)}, now);
}

static void fetch_fails(enum policy_sts_error error)
{
	sts_fetched(sts, take(FETCH), &(struct sts_fetched){.error = error, .why = "because"}, now);
}

/* "enforce mx.a.example 0"; "" where the compiler gets nothing. */
static void holds(const char *expected)
{
	size_t count;
	const struct discovered_sts *found = sts_found(sts, &count);
	char text[300] = "";

	if (count)
		snprintf(text, sizeof(text), "%s %s %d", sts_mode_name(found->mode), found->mx_count ? found->mx[0] : "-", found->error);
	assert_string_equal(text, expected);
}

static void told(const char *expected)
{
	struct sts_row row;
	char text[300];

	assert_true(sts_next_untold(sts, &row));
	snprintf(text, sizeof(text), "%s %s %s", row.state, row.id, row.mx);
	free(row.mx);
	assert_string_equal(text, expected);
	assert_false(sts_next_untold(sts, &row));
}

static void know(const char *max_age_policy)
{
	want("a.example");
	assert_string_equal(opened(TXT)->name, "_mta-sts.a.example");
	TXT_IS("v=STSv1; id=1;");
	serves(max_age_policy);
}

static void a_policy(void **state)
{
	(void)state;
	know(POLICY("enforce", "mx.a.example", "604800"));
	holds("enforce mx.a.example 0");
	told("ok 1 mx.a.example");
	assert_int_equal(changes, 1);
	pass(301);
	TXT_IS("v=spf1 -all", "v=STSv1; id=1;"); /* the same id: nothing is fetched */
	assert_null(opened(FETCH));
	pass(301);
	TXT_IS("v=STSv1; id=2;");
	serves(POLICY("testing", "*.b.example", "604800"));
	holds("testing *.b.example 0");
	assert_int_equal(changes, 2);
	pass(301);
	TXT_IS("v=STSv1; id=3;");
	serves("version: STSv1\nmode: none\nmax_age: 60\n");
	holds("none - 0");
}

static void no_record(void **state)
{
	(void)state;
	want("a.example");
	TXT_IS("v=STSv1; id=1;", "v=STSv1; id=2;");
	holds("");
	told("none  ");
	pass(301);
	TXT_IS("v=STSv1; id=?;");
	assert_null(opened(FETCH));
	holds("");
	pass(301);
	txt_fails();
	holds("");
	assert_int_equal(changes, 0);
}

static void failures_with_and_without_a_policy(void **state)
{
	static const enum policy_sts_error errors[] = {STS_FETCH_ERROR, STS_WEBPKI_INVALID};
	static const char *const names[] = {"sts-policy-fetch-error  ", "sts-webpki-invalid  "};
	char text[32];

	(void)state;
	want("a.example");
	for (int i = 0; i < 2; i++) {
		TXT_IS("v=STSv1; id=1;");
		fetch_fails(errors[i]);
		snprintf(text, sizeof(text), "none - %d", errors[i]);
		holds(text);
		told(names[i]);
		pass(299);
		assert_null(opened(TXT)); /* not sooner than in five minutes */
		pass(602);
	}
	TXT_IS("v=STSv1; id=1;");
	serves("nonsense");
	holds("none - 2");
	pass(3601);
	TXT_IS("v=STSv1; id=1;");
	serves(POLICY("enforce", "mx.a.example", "1000000"));
	holds("enforce mx.a.example 0");
	pass(301);
	TXT_IS("v=STSv1; id=2;");
	fetch_fails(STS_FETCH_ERROR);
	holds("enforce mx.a.example 1"); /* what was fetched earlier goes on */
	pass(3601);
	TXT_IS("v=STSv1; id=2;");
	serves("<html>");
	holds("enforce mx.a.example 2");
}

static void kept_for_its_age_and_no_longer(void **state)
{
	(void)state;
	know(POLICY("enforce", "mx.a.example", "10000"));
	pass(3601);
	TXT_IS("v=spf1 -all"); /* the record went */
	holds("enforce mx.a.example 0");
	pass(3601);
	txt_fails();
	holds("enforce mx.a.example 0");
	pass(2799 - 2);
	holds("enforce mx.a.example 0");
	pass(2);
	holds("");
	want(NULL);
	assert_int_equal(sts_counts(sts).domains, 0);
}

static void refreshed_before_it_ends(void **state)
{
	(void)state;
	know(POLICY("enforce", "mx.a.example", "1000"));
	pass(301);
	TXT_IS("v=STSv1; id=1;");
	assert_null(opened(FETCH));
	pass(201); /* past its half */
	TXT_IS("v=STSv1; id=1;");
	fetch_fails(STS_FETCH_ERROR);
	pass(301);
	TXT_IS("v=STSv1; id=1;");
	serves(POLICY("enforce", "mx.a.example", "1000"));
	pass(999);
	holds("enforce mx.a.example 0");
}

static void another_appliance_has_it(void **state)
{
	static const struct { struct sts_copy copy; bool good; } rows[] = {
		{{"1", "enforce", "mx.a.example", "604800", "1799999000"}, true},
		{{"2", "enforce", "mx.a.example", "604800", "1799999000"}, false}, /* another id */
		{{"1", "enforce", "mx.a.example", "604800", "1800001000"}, false}, /* of the future */
		{{"1", "enforce", "mx.a.example", "604800", "1700000000"}, false}, /* too old */
		{{"1", "enforce", "", "604800", "1799999000"}, false},
		{{"1", "force", "mx.a.example", "604800", "1799999000"}, false},
		{{"1", "enforce", "mx.a.example", "99999999999", "1799999000"}, false},
		{{"1", "enforce", "mx. .a", "604800", "1799999000"}, false},
		{{"1", "enforce", "mx.a.example", "604800", "x"}, false},
		{{"", "", "", "", ""}, false},
	};

	(void)state;
	for (size_t i = 0; i <= sizeof(rows) / sizeof(rows[0]); i++) {
		bool nothing = i == sizeof(rows) / sizeof(rows[0]);
		redis_is_there = true;
		want("a.example");
		TXT_IS("v=STSv1; id=1;");
		assert_string_equal(opened(LOOK)->name, "a.example");
		sts_shared(sts, take(LOOK), nothing ? NULL : &rows[i].copy, now);
		if ((opened(FETCH) == NULL) != (!nothing && rows[i].good))
			fail_msg("row %zu", i);
		holds(!nothing && rows[i].good ? "enforce mx.a.example 0" : "");
		assert_int_equal(sts_counts(sts).shared, !nothing && rows[i].good);
		end(NULL);
		begin(NULL);
	}
}

static void silence(void **state)
{
	(void)state;
	redis_is_there = true;
	want("a.example");
	pass(config.dns_timeout_s);
	assert_int_equal(forgotten, 1);
	assert_int_equal(sts_counts(sts).busy, 0);
	memset(asked, 0, sizeof(asked));
	pass(3601);
	TXT_IS("v=STSv1; id=1;");
	pass(STS_LOOK_S);
	assert_non_null(opened(FETCH));
	pass(config.dns_timeout_s + STS_FETCH_S);
	holds("none - 1");
	serves(POLICY("enforce", "mx.a.example", "1000")); /* too late */
	holds("none - 1");
}

static void no_more_at_once_than_the_limit(void **state)
{
	char names[STS_BUSY_MAX + 5][32];
	const char *list[STS_BUSY_MAX + 5];

	(void)state;
	for (int i = 0; i < STS_BUSY_MAX + 5; i++) {
		snprintf(names[i], sizeof(names[i]), "d%02d.example", i);
		list[i] = names[i];
	}
	sts_want(sts, list, STS_BUSY_MAX + 5, now);
	assert_int_equal(asked_count, STS_BUSY_MAX);
	TXT_IS("v=spf1");
	sts_tick(sts, now);
	assert_int_equal(asked_count, STS_BUSY_MAX + 1);
	sts_want(sts, list, 2, now);
	assert_int_equal(sts_counts(sts).busy, 1);
}

static void memory_there_and_back(void **state)
{
	(void)state;
	know(POLICY("enforce", "mx.a.example", "604800"));
	json_t *memory = sts_remember(sts);
	sts_free(sts);
	sts = sts_new(&config, &ops, NULL);
	json_object_set_new(memory, "bad.example", json_pack("{s:s}", "id", "1"));
	json_object_set_new(memory, "worse.example", json_integer(3));
	sts_recall(sts, memory, now);
	json_decref(memory);
	assert_int_equal(sts_counts(sts).domains, 1);
	holds("enforce mx.a.example 0");
	want("a.example");
	txt_fails();
	holds("enforce mx.a.example 0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(a_policy), TEST(no_record), TEST(failures_with_and_without_a_policy), TEST(kept_for_its_age_and_no_longer),
		TEST(refreshed_before_it_ends), TEST(another_appliance_has_it), TEST(silence), TEST(no_more_at_once_than_the_limit),
		TEST(memory_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
