/*
 * agent_store.c - what of Redis is in force: last good forms, refusals one by one, conflicts, spellings,
 * and an empty Redis.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/agent/store.h"
#include "../../dataplane/policy/policy.h"

#define NOW 1800000000ull

static void hash(struct store *store, const char *key, const char *level)
{
	struct rule_field field = {.name = "level", .value = level};

	store_hash(store, key, &field, 1);
}

static void provider(struct store *store, const char *key, const char *nets)
{
	struct rule_field fields[] = {{.name = "level", .value = "encrypt"}, {.name = "nets", .value = nets}};

	store_hash(store, key, fields, 2);
}

/* Compiles; whether an image came out, which then has to be a good one. */
static bool compiles(struct store *store, bool force)
{
	char error[512] = "untouched";
	size_t len;
	void *image = store_compile(store, NULL, 1, NOW, force, &len, error, sizeof(error));

	if (!image) {
		assert_string_equal(error, "");
		return false;
	}
	struct policy_image *parsed = policy_image_parse(image, len, error, sizeof(error));
	if (!parsed)
		fail_msg("%s", error);
	policy_image_close(parsed);
	free(image);
	assert_false(store_pending(store));
	return true;
}

static const char *level(struct store *store, const char *key)
{
	static char text[64];
	struct rule_field fields[RULE_FIELDS_MAX];
	const struct rule *rule = ruleset_find(store_rules(store), key);

	if (!rule)
		return "none there";
	size_t n = rule_fields(rule, fields, RULE_FIELDS_MAX);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(fields[i].name, "level")) {
			snprintf(text, sizeof(text), "%s", fields[i].value);
			return text;
		}
	return "default";
}

struct refusal { const char *key; char error[512]; };

static void find_refusal(void *context, const char *key, const char *error)
{
	struct refusal *refusal = context;

	if (!strcmp(key, refusal->key))
		snprintf(refusal->error, sizeof(refusal->error), "%s", error);
}

static void refuses(struct store *store, const char *key, const char *why)
{
	struct refusal refusal = {.key = key};

	store_refused(store, find_refusal, &refusal);
	if (why ? !strstr(refusal.error, why) : refusal.error[0] != 0)
		fail_msg("%s: refused: \"%s\", should be \"%s\"", key, refusal.error, why ? why : "");
}

/* In step with a Redis that has one rule, example.org = encrypt. */
static struct store *one_rule(void)
{
	struct store *store = store_new("waxseal:");

	store_sync_begin(store);
	hash(store, "waxseal:policy:example.org", "encrypt");
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, true));
	assert_string_equal(level(store, "example.org"), "encrypt");
	assert_int_equal(store_keys(store), 1);
	return store;
}

static void which_keys(void **state)
{
	struct store *store = store_new("a:");

	(void)state;
	assert_true(store_wants(store, "a:policy:example.org"));
	assert_true(store_wants(store, "a:policy:not a domain")); /* so that it can be refused by name */
	assert_true(store_wants(store, "a:provider:google"));
	assert_false(store_wants(store, "a:generation"));
	assert_false(store_wants(store, "a:seen:mx.example.org"));
	assert_false(store_wants(store, "b:policy:example.org"));
	store_free(store);
}

static void nothing_changed(void **state)
{
	struct store *store = one_rule();

	(void)state;
	hash(store, "waxseal:policy:example.org", "encrypt");
	assert_true(store_pending(store));
	assert_false(compiles(store, false));
	assert_true(compiles(store, true));
	store_gone(store, "waxseal:policy:example.net");
	assert_false(store_pending(store));
	store_free(store);
}

static void last_good_form_stays(void **state)
{
	struct store *store = one_rule();

	(void)state;
	hash(store, "waxseal:policy:example.org", "encript");
	hash(store, "waxseal:policy:example.net", "may");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "encrypt");
	assert_int_equal(store_refused(store, NULL, NULL), 1);
	refuses(store, "waxseal:policy:example.org", "encript");
	store_wrong(store, "waxseal:policy:example.org", "is not a hash");
	assert_false(compiles(store, false));
	refuses(store, "waxseal:policy:example.org", "is not a hash");
	assert_string_equal(level(store, "example.org"), "encrypt");
	hash(store, "waxseal:policy:example.org", "block");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "block");
	hash(store, "waxseal:policy:example.org", "?");
	store_gone(store, "waxseal:policy:example.org"); /* deleting a refused key deletes the rule */
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "none there");
	assert_int_equal(store_refused(store, NULL, NULL), 0);
	store_free(store);
}

static void bad_from_the_start(void **state)
{
	struct store *store = store_new("waxseal:");

	(void)state;
	store_sync_begin(store);
	hash(store, "waxseal:policy:bad..name", "may");
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, true));
	assert_int_equal(ruleset_count(store_rules(store)), 0);
	refuses(store, "waxseal:policy:bad..name", "bad..name");
	store_free(store);
}

static void conflicts_are_refused_alone(void **state)
{
	struct store *store = one_rule();
	char key[64];

	(void)state;
	provider(store, "waxseal:provider:one", "10.77.1.0/24");
	assert_true(compiles(store, false));
	provider(store, "waxseal:provider:two", "10.77.1.0/24");
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "waxseal:policy:d%d.example", i);
		hash(store, key, "block");
	}
	assert_true(compiles(store, false));
	assert_int_equal(ruleset_count(store_rules(store)), 42);
	assert_string_equal(level(store, "provider:two"), "none there");
	assert_int_equal(store_refused(store, NULL, NULL), 1);
	refuses(store, "waxseal:provider:two", "10.77.1.0/24");

	/* Nothing new: the conflict is tried again in vain. */
	hash(store, "waxseal:policy:d0.example", "may");
	assert_true(compiles(store, false));
	refuses(store, "waxseal:provider:two", "10.77.1.0/24");
	/* A net that moves from one to the other in one go is no conflict. */
	provider(store, "waxseal:provider:one", "10.77.2.0/24");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "provider:two"), "encrypt");
	assert_int_equal(store_refused(store, NULL, NULL), 0);
	store_free(store);
}

static void spellings(void **state)
{
	struct store *store = one_rule();

	(void)state;
	hash(store, "waxseal:policy:EXAMPLE.org", "block");
	compiles(store, false);
	assert_string_equal(level(store, "example.org"), "encrypt");
	refuses(store, "waxseal:policy:EXAMPLE.org", "the same rule as waxseal:policy:example.org");
	refuses(store, "waxseal:policy:example.org", NULL);
	store_gone(store, "waxseal:policy:example.org");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "block");
	hash(store, "waxseal:policy:example.org", "may");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "may");
	store_free(store);
}

static void a_sync_sweeps(void **state)
{
	struct store *store = one_rule();

	(void)state;
	hash(store, "waxseal:policy:example.net", "may");
	assert_true(compiles(store, false));
	store_sync_begin(store);
	hash(store, "waxseal:policy:example.net", "may");
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "none there");
	assert_int_equal(ruleset_count(store_rules(store)), 1);
	assert_int_equal(store_keys(store), 1);
	store_free(store);
}

static void an_empty_redis_removes_nothing(void **state)
{
	struct store *store = one_rule();

	(void)state;
	store_sync_begin(store);
	assert_false(store_sync_end(store, false));
	assert_true(store_refuses_empty(store));
	assert_false(store_pending(store));
	assert_string_equal(level(store, "example.org"), "encrypt");
	/* The counter says that somebody removed it on purpose. */
	store_sync_begin(store);
	assert_true(store_sync_end(store, true));
	assert_false(store_refuses_empty(store));
	assert_true(compiles(store, false));
	assert_int_equal(ruleset_count(store_rules(store)), 0);
	/* And an empty one that was empty before is no loss. */
	store_sync_begin(store);
	assert_true(store_sync_end(store, false));
	store_free(store);
}

static void a_flush_forgets_deletions(void **state)
{
	struct store *store = one_rule();

	(void)state;
	hash(store, "waxseal:policy:example.net", "may");
	store_gone(store, "waxseal:policy:example.org"); /* its HGETALL met the flush */
	store_flushed(store);
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "encrypt");
	assert_string_equal(level(store, "example.net"), "may");
	store_sync_begin(store);
	assert_false(store_sync_end(store, false));
	assert_string_equal(level(store, "example.org"), "encrypt");
	store_free(store);
}

static void the_last_one_is_deleted_by_itself(void **state)
{
	struct store *store = one_rule();

	(void)state;
	store_gone(store, "waxseal:policy:example.org");
	assert_true(compiles(store, false));
	assert_int_equal(ruleset_count(store_rules(store)), 0);
	assert_int_equal(store_keys(store), 0);
	store_free(store);
}

static struct ruleset *seed(const char *line)
{
	struct ruleset *set = ruleset_new();
	char error[RULES_ERROR_MAX];
	struct rule *rule = rule_parse_line(line, error, sizeof(error));

	assert_non_null(rule);
	ruleset_put(set, rule);
	return set;
}

static void seeded(void **state)
{
	struct store *store = store_new("waxseal:");

	(void)state;
	assert_true(store_seed(store, seed("example.org level=block")));
	store_sync_begin(store);
	assert_false(store_sync_end(store, false));
	store_sync_begin(store);
	hash(store, "waxseal:policy:example.org", "blck");
	hash(store, "waxseal:policy:example.net", "may");
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "block");
	store_gone(store, "waxseal:policy:example.org");
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "none there");
	store_free(store);

	store = store_new("waxseal:"); /* gone while nobody looked */
	assert_true(store_seed(store, seed("example.org level=block")));
	store_sync_begin(store);
	hash(store, "waxseal:policy:example.net", "may");
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, false));
	assert_string_equal(level(store, "example.org"), "none there");
	store_free(store);

	store = store_new("waxseal:");
	store_seed_foreign(store);
	store_sync_begin(store);
	assert_false(store_sync_end(store, false));
	store_sync_begin(store);
	assert_true(store_sync_end(store, true));
	store_free(store);
}

static void expiry(void **state)
{
	struct store *store = one_rule();
	char text[32];

	(void)state;
	assert_int_equal(store_next_expiry(store, NOW), 0);
	for (int i = 0; i < 3; i++) {
		char key[64];
		struct rule_field fields[] = {{"level", "may"}, {"expires", text}};
		snprintf(key, sizeof(key), "waxseal:policy:e%d.example", i);
		snprintf(text, sizeof(text), "%llu", NOW + 100 - (unsigned)i * 60);
		store_hash(store, key, fields, 2);
	}
	assert_true(compiles(store, false));
	assert_int_equal(store_next_expiry(store, NOW), NOW + 40); /* the third is over already */
	assert_int_equal(store_next_expiry(store, NOW + 40), NOW + 100);
	assert_int_equal(store_next_expiry(store, NOW + 100), 0);
	store_free(store);
}

static void many_keys(void **state)
{
	struct store *store = store_new("waxseal:");
	char key[64];

	(void)state;
	store_sync_begin(store);
	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "waxseal:policy:d%d.example", i * 7919 % 20000);
		hash(store, key, i % 100 ? "may" : "mya");
	}
	assert_true(store_sync_end(store, false));
	assert_true(compiles(store, true));
	assert_int_equal(ruleset_count(store_rules(store)), 19800);
	assert_int_equal(store_refused(store, NULL, NULL), 200);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(which_keys),
		cmocka_unit_test(nothing_changed),
		cmocka_unit_test(last_good_form_stays),
		cmocka_unit_test(bad_from_the_start),
		cmocka_unit_test(conflicts_are_refused_alone),
		cmocka_unit_test(spellings),
		cmocka_unit_test(a_sync_sweeps),
		cmocka_unit_test(an_empty_redis_removes_nothing),
		cmocka_unit_test(a_flush_forgets_deletions),
		cmocka_unit_test(the_last_one_is_deleted_by_itself),
		cmocka_unit_test(seeded),
		cmocka_unit_test(expiry),
		cmocka_unit_test(many_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
