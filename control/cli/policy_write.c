/*
 * policy_write.c - policy set and policy rm.
 *
 * `set` is a merge: named attributes replace, "name=" takes away, others stay; what comes out must parse
 * as a rule, or nothing is written. Both count up <prefix>generation in the same transaction, which is how
 * the agent tells a deletion that was meant from a Redis that lost its data. Two writers at once: the
 * second one's transaction fails (WATCH) and is done over on the new state.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "link.h"

#define ATTEMPTS_MAX 5
#define CHANGES_MAX 64 /* attributes on one command line */

struct change {
	char name[64];
	const char *value; /* "": take away */
};

static int read_changes(struct cli *cli, struct change *changes, size_t *count)
{
	*count = 0;
	for (int i = 1; i < cli->argc; i++) {
		struct change *change = &changes[*count];
		const char *equals = strchr(cli->argv[i], '=');
		/* As in a Postfix table the level may stand right behind the key by itself. */
		size_t len = equals ? (size_t)(equals - cli->argv[i]) : 0;
		if ((!equals && i != 1) || (equals && len == 0) || len >= sizeof(change->name))
			return cli_usage(cli, "%s: not attribute=value", cli->argv[i]);
		if (*count == CHANGES_MAX)
			return cli_usage(cli, "more than %d attributes", CHANGES_MAX);
		snprintf(change->name, sizeof(change->name), "%.*s", equals ? (int)len : 5, equals ? cli->argv[i] : "level");
		change->value = equals ? equals + 1 : cli->argv[i];
		for (size_t c = 0; c < *count; c++)
			if (!strcmp(changes[c].name, change->name))
				return cli_usage(cli, "%s: stands there twice", change->name);
		(*count)++;
	}
	return CLI_OK;
}

/* Old attributes with the changes over them; the result's strings belong to `old` and `changes`. */
static size_t merge(const struct rule_field *old, size_t old_count, const struct change *changes, size_t count,
		    struct rule_field *out)
{
	size_t n = 0;

	for (size_t i = 0; i < old_count; i++) {
		bool replaced = false;
		for (size_t c = 0; c < count; c++)
			replaced |= !strcmp(old[i].name, changes[c].name);
		if (!replaced)
			out[n++] = old[i];
	}
	for (size_t c = 0; c < count; c++)
		if (*changes[c].value)
			out[n++] = (struct rule_field){.name = changes[c].name, .value = changes[c].value};
	return n;
}

/* Queues one command inside MULTI. */
static int queue(redisContext *redis, int argc, const char **argv)
{
	redisReply *reply = redisCommandArgv(redis, argc, argv, NULL);
	int rc = reply && reply->type == REDIS_REPLY_STATUS ? 0 : -EIO;

	if (reply)
		freeReplyObject(reply);
	return rc;
}

/* MULTI, the key's changes, the generation, EXEC. 1: somebody else wrote in between; 0; -EIO with `error`. */
static int transact(redisContext *redis, const char *prefix, const char *redis_key, const struct change *changes, size_t count,
		    long long *generation, char *error, size_t error_len)
{
	const char *set[2 + 2 * CHANGES_MAX] = {"HSET", redis_key}, *del[2 + CHANGES_MAX] = {"HDEL", redis_key};
	char generation_key[CONTROL_PREFIX_MAX + 16];
	const char *multi[] = {"MULTI"}, *incr[] = {"INCR", generation_key};
	int sets = 2, dels = 2;

	snprintf(generation_key, sizeof(generation_key), "%sgeneration", prefix);
	for (size_t i = 0; i < count; i++) {
		if (*changes[i].value) {
			set[sets++] = changes[i].name;
			set[sets++] = changes[i].value;
		} else {
			del[dels++] = changes[i].name;
		}
	}
	if (queue(redis, 1, multi) < 0 || (sets > 2 && queue(redis, sets, set) < 0) || (dels > 2 && queue(redis, dels, del) < 0) ||
	    queue(redis, 2, incr) < 0) {
		snprintf(error, error_len, "Redis refuses the transaction: %.200s; HSET, HDEL and INCR must be allowed",
			 redis->err ? redis->errstr : "no permission");
		return -EIO;
	}
	redisReply *reply = link_command(redis, error, error_len, "EXEC");
	if (!reply)
		return -EIO;
	int rc = 0;
	if (reply->type == REDIS_REPLY_NIL) {
		rc = 1;
	} else {
		for (size_t i = 0; i < reply->elements; i++) {
			if (reply->element[i]->type == REDIS_REPLY_ERROR) {
				snprintf(error, error_len, "%s", reply->element[i]->str);
				rc = -EIO;
			} else if (i + 1 == reply->elements) {
				*generation = reply->element[i]->integer;
			}
		}
	}
	freeReplyObject(reply);
	return rc;
}

/* One attempt of set: CLI_OK, CLI_FAILED after saying why, -1 to do it over. */
static int set_once(struct cli *cli, redisContext *redis, const struct change *changes, size_t count)
{
	struct rule_field old[LINK_FIELDS_MAX], merged[LINK_FIELDS_MAX + CHANGES_MAX];
	char redis_key[LINK_KEY_MAX], error[CLI_ERROR_MAX];
	long long generation = 0;
	struct rule *rule = NULL;
	int rc = CLI_FAILED, old_count;
	redisReply *hash = NULL, *watch;

	if (rule_key_to_redis(cli->config.redis_prefix, cli->argv[0], redis_key, sizeof(redis_key)) != 0) {
		/* The parser knows better what is wrong with it. */
		struct rule_field level = {.name = "level", .value = "may"};
		rule_free(rule_parse(cli->argv[0], &level, 1, error, sizeof(error)));
		return cli_fail("%s", error);
	}
	watch = link_command(redis, error, sizeof(error), "WATCH %s", redis_key);
	if (watch)
		hash = link_command(redis, error, sizeof(error), "HGETALL %s", redis_key);
	old_count = hash ? link_fields(hash, old, error, sizeof(error)) : -1;
	if (old_count < 0) {
		cli_fail("%s: %s", redis_key, error);
		goto out;
	}
	size_t n = merge(old, (size_t)old_count, changes, count, merged);
	if (n == 0) {
		cli_fail("%s: a rule without attributes is none; waxseal policy rm deletes it", cli->argv[0]);
		goto out;
	}
	rule = rule_parse(cli->argv[0], merged, n, error, sizeof(error));
	if (!rule || rule_unsupported(rule)) {
		if (rule)
			cli_fail("%s: %s; nothing was written", rule_key(rule), rule_unsupported(rule));
		else
			cli_fail("%s; nothing was written", error);
		goto out;
	}
	int done = transact(redis, cli->config.redis_prefix, redis_key, changes, count, &generation, error, sizeof(error));
	rc = done > 0 ? -1 : done < 0 ? cli_fail("%s: %s", redis_key, error) : CLI_OK;
	if (rc == CLI_OK && cli->json) {
		json_t *attributes = json_object();
		for (size_t i = 0; i < n; i++)
			json_object_set_new(attributes, merged[i].name, json_string(merged[i].value));
		link_print_json(json_pack("{s:s, s:o, s:I}", "key", rule_key(rule), "attributes", attributes, "generation", (json_int_t)generation));
	} else if (rc == CLI_OK) {
		link_print_rule(stdout, rule_key(rule), merged, n);
		putchar('\n');
	}
out:
	rule_free(rule);
	if (hash)
		freeReplyObject(hash);
	if (watch)
		freeReplyObject(watch);
	return rc;
}

int policy_set(struct cli *cli)
{
	struct change changes[CHANGES_MAX];
	char error[CLI_ERROR_MAX];
	size_t count;

	if (cli->argc < 2)
		return cli_usage(cli, "a key and at least one attribute=value are needed");
	int rc = read_changes(cli, changes, &count);
	if (rc != CLI_OK)
		return rc;
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	rc = -1;
	for (int attempt = 0; rc < 0 && attempt < ATTEMPTS_MAX; attempt++)
		rc = set_once(cli, redis, changes, count);
	if (rc < 0)
		rc = cli_fail("%s: others change it all the time; try again", cli->argv[0]);
	redisFree(redis);
	return rc;
}

int policy_rm(struct cli *cli)
{
	char redis_key[LINK_KEY_MAX], error[CLI_ERROR_MAX];
	redisReply *reply;
	int rc = CLI_FAILED;

	if (cli->argc != 1)
		return cli_usage(cli, "one key");
	if (rule_key_to_redis(cli->config.redis_prefix, cli->argv[0], redis_key, sizeof(redis_key)) != 0)
		/* What redis-cli wrote under a name that is none must be deletable too. */
		snprintf(redis_key, sizeof(redis_key), "%spolicy:%s", cli->config.redis_prefix, cli->argv[0]);
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	reply = link_command(redis, error, sizeof(error), "EXISTS %s", redis_key);
	if (reply && reply->integer == 0) {
		cli_fail("%s: no such rule (%s); waxseal policy list shows what there is", cli->argv[0], redis_key);
		goto out;
	}
	/* In one transaction: a deletion that the generation does not tell of would look like a loss of data. */
	const char *commands[][2] = {{"MULTI", NULL}, {"DEL", redis_key}, {"INCR", NULL}, {"EXEC", NULL}};
	char generation_key[CONTROL_PREFIX_MAX + 16];
	snprintf(generation_key, sizeof(generation_key), "%sgeneration", cli->config.redis_prefix);
	commands[2][1] = generation_key;
	for (size_t i = 0; reply && i < sizeof(commands) / sizeof(commands[0]); i++) {
		freeReplyObject(reply);
		reply = commands[i][1] ? link_command(redis, error, sizeof(error), "%s %s", commands[i][0], commands[i][1])
				       : link_command(redis, error, sizeof(error), "%s", commands[i][0]);
	}
	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		cli_fail("%s: %s", redis_key, reply ? "not deleted" : error);
		goto out;
	}
	rc = CLI_OK;
	if (cli->json)
		link_print_json(json_pack("{s:s}", "deleted", redis_key));
	else
		printf("%s deleted\n", redis_key);
out:
	if (reply)
		freeReplyObject(reply);
	redisFree(redis);
	return rc;
}
