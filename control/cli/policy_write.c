/*
 * policy_write.c - policy set and policy rm.
 *
 * `set` is a merge: named attributes replace, "name=" takes away, others stay; what comes out must parse
 * as a rule, or nothing is written. Both are a generation (generation.h), and that is how the agent tells a
 * deletion that was meant from a Redis that lost its data.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "generation.h"
#include "link.h"

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

/* The old hash with the changes over it. */
static json_t *merge(const json_t *old, const struct change *changes, size_t count)
{
	json_t *merged = json_object();

	if (json_is_object(old))
		json_object_update(merged, (json_t *)(uintptr_t)old);
	for (size_t c = 0; c < count; c++) {
		if (!*changes[c].value)
			json_object_del(merged, changes[c].name);
		else
			json_object_set_new_nocheck(merged, changes[c].name, json_stringn_nocheck(changes[c].value, strlen(changes[c].value)));
	}
	return merged;
}

struct setting {
	const char *key;
	struct change changes[CHANGES_MAX];
	size_t count;
	char shown[LINK_KEY_MAX]; /* the canonical key */
	json_t *merged;
};

/* What comes out, judged. CLI_OK with `shown`, or CLI_FAILED after saying why. */
static int judge(struct setting *setting, const json_t *merged)
{
	struct rule_field fields[LINK_FIELDS_MAX + CHANGES_MAX];
	char error[CLI_ERROR_MAX];
	size_t count = redisrules_fields(merged, fields, LINK_FIELDS_MAX + CHANGES_MAX);
	int rc = CLI_OK;

	if (count == 0)
		return cli_fail("%s: a rule without attributes is none; waxseal policy rm deletes it", setting->key);
	struct rule *rule = rule_parse(setting->key, fields, count, error, sizeof(error));
	if (!rule)
		rc = cli_fail("%s; nothing was written", error);
	else if (rule_unsupported(rule))
		rc = cli_fail("%s: %s; nothing was written", rule_key(rule), rule_unsupported(rule));
	else
		snprintf(setting->shown, sizeof(setting->shown), "%s", rule_key(rule));
	rule_free(rule);
	return rc;
}

static int plan_set(void *context, struct generation *g)
{
	struct setting *setting = context;
	char redis_key[LINK_KEY_MAX], error[CLI_ERROR_MAX];
	json_t *old;

	if (rule_key_to_redis(g->cli->config.redis_prefix, setting->key, redis_key, sizeof(redis_key)) != 0) {
		/* The parser knows better what is wrong with it. */
		struct rule_field level = {.name = "level", .value = "may"};
		rule_free(rule_parse(setting->key, &level, 1, error, sizeof(error)));
		return cli_fail("%s", error);
	}
	if (generation_read_one(g, redis_key, &old) != CLI_OK)
		return CLI_FAILED;
	if (json_is_string(old))
		return cli_fail("%s: %s", redis_key, json_string_value(old));
	json_decref(setting->merged);
	setting->merged = merge(old, setting->changes, setting->count);
	json_object_set(g->after, redis_key, setting->merged);
	return judge(setting, setting->merged);
}

static void tell_set(const struct cli *cli, const struct setting *setting, const struct generation *g)
{
	struct rule_field fields[LINK_FIELDS_MAX + CHANGES_MAX];
	size_t count = redisrules_fields(setting->merged, fields, LINK_FIELDS_MAX + CHANGES_MAX);

	if (cli->json) {
		link_print_json(json_pack("{s:s, s:O, s:I}", "key", setting->shown, "attributes", setting->merged, "generation",
					  (json_int_t)g->number));
		return;
	}
	rule_print(stdout, setting->shown, fields, count);
	putchar('\n');
}

int policy_set(struct cli *cli)
{
	struct setting setting = {0};
	struct generation g = {0};

	if (cli->argc < 2)
		return cli_usage(cli, "a key and at least one attribute=value are needed");
	setting.key = cli->argv[0];
	int rc = read_changes(cli, setting.changes, &setting.count);
	if (rc != CLI_OK)
		return rc;
	snprintf(g.what, sizeof(g.what), "set %s", setting.key);
	rc = generation_write(cli, &g, plan_set, &setting);
	if (rc == GENERATION_UNCHANGED)
		rc = CLI_OK;
	if (rc == CLI_OK)
		tell_set(cli, &setting, &g);
	json_decref(setting.merged);
	generation_dispose(&g);
	return rc;
}

static int plan_rm(void *context, struct generation *g)
{
	const char *redis_key = context;
	json_t *old;

	if (generation_read_one(g, redis_key, &old) != CLI_OK)
		return CLI_FAILED;
	if (json_is_null(old))
		return cli_fail("%s: no such rule (%s); waxseal policy list shows what there is", g->cli->argv[0], redis_key);
	json_object_set_new_nocheck(g->after, redis_key, json_null());
	return CLI_OK;
}

int policy_rm(struct cli *cli)
{
	char redis_key[LINK_KEY_MAX];
	struct generation g = {0};

	if (cli->argc != 1)
		return cli_usage(cli, "one key");
	if (rule_key_to_redis(cli->config.redis_prefix, cli->argv[0], redis_key, sizeof(redis_key)) != 0)
		/* What redis-cli wrote under a name that is none must be deletable too. */
		snprintf(redis_key, sizeof(redis_key), "%spolicy:%s", cli->config.redis_prefix, cli->argv[0]);
	snprintf(g.what, sizeof(g.what), "rm %s", cli->argv[0]);
	int rc = generation_write(cli, &g, plan_rm, redis_key);
	if (rc == CLI_OK && cli->json)
		link_print_json(json_pack("{s:s, s:I}", "deleted", redis_key, "generation", (json_int_t)g.number));
	else if (rc == CLI_OK)
		printf("%s deleted\n", redis_key);
	generation_dispose(&g);
	return rc;
}
