/*
 * policy_history.c - policy log, diff and rollback: what was written by whom, what has changed, and back again.
 *
 * A roll-back is a generation like any other, and can be rolled back. What redis-cli changed in between is shown and
 * not undone without --force: the history knows of it only that it was not made by the command.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "generation.h"
#include "history.h"
#include "link.h"
#include "table.h"

#define LOG_DEFAULT 20
#define TIME_MAX 32

/* A whole number of at most 18 digits. */
static bool read_number(const char *text, uint64_t *out)
{
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 18 || text[digits])
		return false;
	*out = strtoull(text, NULL, 10);
	return true;
}

/* ---- log ---- */

static const char *time_text(uint64_t seconds, char out[TIME_MAX])
{
	time_t when = (time_t)seconds;
	struct tm tm;

	out[0] = 0;
	if (gmtime_r(&when, &tm))
		strftime(out, TIME_MAX, "%Y-%m-%d %H:%M:%SZ", &tm);
	return out;
}

static void print_log(const json_t *entries)
{
	static const char *const headings[] = {"GENERATION", "TIME", "AUTHOR", "RULES", "WHAT", NULL};
	struct table *table = table_new(headings);
	char at[TIME_MAX];

	for (size_t i = json_array_size(entries); i-- > 0;) {
		const json_t *entry = json_array_get(entries, i);
		table_number(table, link_number(entry, "generation"));
		table_text(table, time_text(link_number(entry, "time"), at));
		table_text(table, link_text(entry, "author"));
		table_number(table, json_object_size(json_object_get(entry, "changes")));
		table_text(table, link_text(entry, "what"));
	}
	table_print(table, stdout);
	table_free(table);
}

int policy_log(struct cli *cli)
{
	const char *value = NULL;
	char error[CLI_ERROR_MAX];
	uint64_t count = LOG_DEFAULT;

	if (cli_value(cli, "-n", &value) && (!value || !read_number(value, &count) || count < 1 || count > GENERATION_HISTORY_MAX))
		return cli_usage(cli, "-n: a number from 1 to %d", GENERATION_HISTORY_MAX);
	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	json_t *entries = history_read(cli, redis, (unsigned)count, error, sizeof(error));
	redisFree(redis);
	if (!entries)
		return cli_fail("Redis %s: %s", cli->config.redis_address, error);
	if (cli->json) {
		link_print_json(entries);
		return CLI_OK;
	}
	if (json_array_size(entries))
		print_log(entries);
	else
		printf("no history: it begins with the first write of this command\n");
	json_decref(entries);
	return CLI_OK;
}

/* ---- what there is to compare ---- */

struct past {
	json_t *entries, *now;
	uint64_t last;
};

static void past_dispose(struct past *past)
{
	json_decref(past->entries);
	json_decref(past->now);
}

/* CLI_OK, or CLI_FAILED having said why. */
static int past_read(const struct cli *cli, redisContext *redis, struct past *past)
{
	char error[CLI_ERROR_MAX];
	redisReply *reply = link_command(redis, error, sizeof(error), "GET %sgeneration", cli->config.redis_prefix);

	*past = (struct past){0};
	if (reply) {
		past->last = reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
		freeReplyObject(reply);
		past->entries = history_read(cli, redis, 0, error, sizeof(error));
	}
	if (past->entries)
		past->now = redisrules_all(cli, redis, error, sizeof(error));
	if (past->now)
		return CLI_OK;
	past_dispose(past);
	return cli_fail("Redis %s: %s", cli->config.redis_address, error);
}

static void report(void *context, const char *message)
{
	(void)context;
	cli_fail("%s", message);
}

static json_t *hash_of_rule(const struct rule *rule)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
	json_t *hash = json_object();

	for (size_t i = 0; i < count; i++)
		json_object_set_new(hash, fields[i].name, json_string(fields[i].value));
	return hash;
}

/* A file of rules as hashes; NULL having said why. */
static json_t *file_state(const struct cli *cli, const char *path)
{
	char redis_key[LINK_KEY_MAX];
	struct ruleset *set = ruleset_new();
	int bad = ruleset_read(set, path, report, NULL);
	json_t *state = bad == 0 ? json_object() : NULL;
	const struct rule *rule;

	if (bad > 0)
		cli_fail("%s: %d bad line%s", path, bad, bad == 1 ? "" : "s");
	for (size_t i = 0; state && (rule = ruleset_at(set, i)); i++)
		if (rule_key_to_redis(cli->config.redis_prefix, rule_key(rule), redis_key, sizeof(redis_key)) == 0)
			json_object_set_new(state, redis_key, hash_of_rule(rule));
	ruleset_free(set);
	return state;
}

/* Beside a file: every rule that is one, in its canonical form. */
static json_t *canonical(const struct cli *cli, json_t *state)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char key[LINK_KEY_MAX], error[CLI_ERROR_MAX];
	json_t *out = json_object(), *hash;
	const char *redis_key;

	json_object_foreach(state, redis_key, hash)
	{
		struct rule *rule = NULL;
		if (json_is_object(hash) && rule_key_from_redis(cli->config.redis_prefix, redis_key, key, sizeof(key)) == 0)
			rule = rule_parse(key, fields, redisrules_fields(hash, fields, LINK_FIELDS_MAX), error, sizeof(error));
		if (rule && rule_key_to_redis(cli->config.redis_prefix, key, error, sizeof(error)) == 0)
			json_object_set_new_nocheck(out, error, hash_of_rule(rule));
		else
			json_object_set_nocheck(out, redis_key, hash);
		rule_free(rule);
	}
	return out;
}

/* A generation, "now", or a file. NULL having said why. */
static json_t *state_of(const struct cli *cli, const struct past *past, const char *what)
{
	char error[CLI_ERROR_MAX];
	uint64_t generation;

	if (!strcmp(what, "now"))
		return json_incref(past->now);
	if (!read_number(what, &generation))
		return file_state(cli, what);
	if (history_reaches(past->entries, generation, past->last, error, sizeof(error)) == 0)
		return history_state(past->entries, past->now, generation);
	cli_fail("%s", error);
	return NULL;
}

/* ---- diff ---- */

static bool is_file(const char *what)
{
	uint64_t generation;

	return strcmp(what, "now") && !read_number(what, &generation);
}

static int compare(struct cli *cli, const struct past *past, const char *from, const char *to)
{
	json_t *a = state_of(cli, past, from), *b = a ? state_of(cli, past, to) : NULL, *plain;

	if (b && (is_file(from) || is_file(to))) {
		plain = canonical(cli, a);
		json_decref(a);
		a = plain;
		plain = canonical(cli, b);
		json_decref(b);
		b = plain;
	}
	if (b && cli->json)
		link_print_json(json_pack("{s:s, s:s, s:o}", "from", from, "to", to, "changes", history_diff(a, b)));
	else if (b && history_print_diff(a, b, cli->config.redis_prefix, stdout) == 0)
		printf("no difference between %s and %s\n", from, to);
	json_decref(a);
	json_decref(b);
	return b ? CLI_OK : CLI_FAILED;
}

int policy_diff(struct cli *cli)
{
	char error[CLI_ERROR_MAX], last[24];
	struct past past;

	if (cli->argc > 2 || (cli->argc > 0 && cli->argv[0][0] == '-'))
		return cli_usage(cli, "at most two of: a generation, now, a file");
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	int rc = past_read(cli, redis, &past);
	redisFree(redis);
	if (rc != CLI_OK)
		return rc;
	snprintf(last, sizeof(last), "%" PRIu64, past.last);
	rc = compare(cli, &past, cli->argc > 0 ? cli->argv[0] : last, cli->argc > 1 ? cli->argv[1] : "now");
	past_dispose(&past);
	return rc;
}

/* ---- rollback ---- */

struct rollback {
	uint64_t generation;
	bool force, dry_run;
	json_t *from, *to; /* of the last attempt, for what is told */
};

/* Those of the keys to be written that were edited by hand: told, and in the way without --force. */
static int check_edited(const struct past *past, const json_t *diff, const struct rollback *back)
{
	json_t *edited = history_edited(past->entries, past->now), *hash;
	char *gaps = history_gaps(past->entries, back->generation, past->last);
	const char *redis_key;
	size_t count = 0;

	if (gaps && *gaps)
		cli_fail("not in the history: generation %s; what was written there is known only where a later one found it", gaps);
	json_object_foreach(edited, redis_key, hash)
	{
		if (!json_object_get(diff, redis_key))
			continue;
		cli_fail("%s: was changed since without this command%s", redis_key, back->force ? ", and is set back too" : "");
		count++;
	}
	free(gaps);
	json_decref(edited);
	if (count == 0 || back->force || back->dry_run)
		return CLI_OK;
	return cli_fail("%zu rule%s changed by others would be set back; nothing was written; waxseal policy diff shows them, --force does it",
			count, count == 1 ? "" : "s");
}

static int plan_rollback(void *context, struct generation *g)
{
	struct rollback *back = context;
	const struct cli *cli = g->cli;
	char error[CLI_ERROR_MAX];
	struct past past;
	const char *redis_key;
	json_t *change;
	int rc = past_read(cli, g->redis, &past);

	if (rc != CLI_OK)
		return rc;
	if (history_reaches(past.entries, back->generation, past.last, error, sizeof(error)) != 0) {
		past_dispose(&past);
		return cli_fail("%s", error);
	}
	json_t *target = history_state(past.entries, past.now, back->generation), *diff = history_diff(past.now, target);
	rc = check_edited(&past, diff, back);
	if (rc == CLI_OK)
		rc = generation_read(g, diff);
	json_object_foreach(diff, redis_key, change)
	{
		json_t *there = json_object_get(g->before, redis_key), *wanted = json_object_get(target, redis_key);
		if (rc == CLI_OK && !json_is_null(there) && !json_equal(there, json_object_get(past.now, redis_key)))
			rc = cli_fail("%s: was changed this moment; nothing was written, try again", redis_key);
		json_object_set_new_nocheck(g->after, redis_key, wanted ? json_incref(wanted) : json_null());
	}
	json_decref(diff);
	json_decref(back->from);
	json_decref(back->to);
	back->from = json_incref(past.now);
	back->to = target;
	past_dispose(&past);
	if (rc == CLI_OK && back->dry_run)
		json_object_clear(g->after);
	return rc;
}

int policy_rollback(struct cli *cli)
{
	struct rollback back = {.force = cli_flag(cli, "--force"), .dry_run = cli_flag(cli, "--dry-run")};
	struct generation g = {0};

	if (cli->argc != 1 || !read_number(cli->argv[0], &back.generation))
		return cli_usage(cli, "the number of one generation; waxseal policy log shows them");
	snprintf(g.what, sizeof(g.what), "rollback to %" PRIu64 "%s", back.generation, back.force ? " --force" : "");
	int rc = generation_write(cli, &g, plan_rollback, &back);
	if (rc != CLI_FAILED && cli->json) {
		link_print_json(json_pack("{s:I, s:I, s:b, s:o}", "rolled_back_to", (json_int_t)back.generation, "generation", (json_int_t)g.number,
					  "written", rc == CLI_OK, "changes", history_diff(back.from, back.to)));
	} else if (rc != CLI_FAILED) {
		size_t count = history_print_diff(back.from, back.to, cli->config.redis_prefix, stdout);
		if (rc == CLI_OK)
			printf("generation %lld: %zu rule%s as after generation %" PRIu64 "\n", g.number, count, count == 1 ? "" : "s", back.generation);
		else
			printf("nothing %s generation %" PRIu64 "\n", count ? "was written (--dry-run); that is the way to" : "to do: all is as after",
			       back.generation);
	}
	json_decref(back.from);
	json_decref(back.to);
	generation_dispose(&g);
	return rc == GENERATION_UNCHANGED ? CLI_OK : rc;
}
