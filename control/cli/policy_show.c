/*
 * policy_show.c - policy show and policy list: the rules as Redis has them, and what is wrong with them.
 *
 * Says what Redis holds, not what is in force: the agent's refusals, which also know conflicts between
 * rules, are in `waxseal status`. A rule that does not parse is listed all the same, with its error below.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "link.h"
#include "redisrules.h"
#include "table.h"

struct shown {
	char *redis_key, *key, *error; /* error NULL: a good rule */
	struct rule_field *fields;
	size_t count;
	redisReply *reply; /* owns the fields' text */
};

struct shown_list {
	struct shown *items;
	size_t count, max;
};

/* Takes the reply. */
static void judge(struct shown *shown, const char *redis_key, const char *key, redisReply *reply)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[RULES_ERROR_MAX];
	int count = link_fields(reply, fields, error, sizeof(error));

	*shown = (struct shown){.redis_key = strdup(redis_key), .key = strdup(key), .reply = reply};
	if (count >= 0) {
		struct rule *rule = rule_parse(key, fields, (size_t)count, error, sizeof(error));
		if (rule && !rule_unsupported(rule))
			error[0] = 0;
		else if (rule)
			snprintf(error, sizeof(error), "%s", rule_unsupported(rule));
		rule_free(rule);
		shown->count = (size_t)count;
		shown->fields = malloc(sizeof(*fields) * (shown->count + 1));
		if (shown->fields)
			memcpy(shown->fields, fields, sizeof(*fields) * shown->count);
		else
			shown->count = 0;
	}
	shown->error = *error ? strdup(error) : NULL;
}

static void shown_dispose(struct shown *shown)
{
	free(shown->redis_key);
	free(shown->key);
	free(shown->error);
	free(shown->fields);
	if (shown->reply)
		freeReplyObject(shown->reply);
}

static json_t *shown_json(const struct shown *shown)
{
	json_t *object = json_object(), *attributes = json_object();

	link_json_set(object, "key", shown->key);
	link_json_set(object, "redis_key", shown->redis_key);
	for (size_t i = 0; i < shown->count; i++)
		link_json_set(attributes, shown->fields[i].name, shown->fields[i].value);
	json_object_set_new(object, "attributes", attributes);
	if (shown->error)
		link_json_set(object, "error", shown->error);
	else
		json_object_set_new(object, "error", json_null());
	return object;
}

static const char *field(const struct shown *shown, const char *name)
{
	for (size_t i = 0; i < shown->count; i++)
		if (!strcmp(shown->fields[i].name, name))
			return shown->fields[i].value;
	return "";
}

int policy_show(struct cli *cli)
{
	static const char *const headings[] = {"ATTRIBUTE", "VALUE", NULL};
	char redis_key[LINK_KEY_MAX], error[CLI_ERROR_MAX];
	struct shown shown;

	if (cli->argc != 1)
		return cli_usage(cli, "one key");
	if (rule_key_to_redis(cli->config.redis_prefix, cli->argv[0], redis_key, sizeof(redis_key)) != 0)
		return cli_fail("%s: no key of a rule; example.org, .example.org, *, provider:NAME", cli->argv[0]);
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	redisReply *reply = redisCommand(redis, "HGETALL %s", redis_key);
	if (!reply) {
		int rc = cli_fail("Redis %s: %s", cli->config.redis_address, redis->errstr);
		redisFree(redis);
		return rc;
	}
	redisFree(redis);
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 0) {
		freeReplyObject(reply);
		return cli_fail("%s: no such rule (%s); waxseal policy list shows what there is", cli->argv[0], redis_key);
	}
	judge(&shown, redis_key, cli->argv[0], reply);
	if (cli->json) {
		link_print_json(shown_json(&shown));
	} else {
		struct table *table = table_new(headings);
		for (size_t i = 0; i < shown.count; i++) {
			table_text(table, shown.fields[i].name);
			table_text(table, shown.fields[i].value);
		}
		printf("%s\n", redis_key);
		table_print(table, stdout);
		table_free(table);
	}
	int rc = shown.error ? cli_fail("%s: refused: %s", redis_key, shown.error) : CLI_OK;
	shown_dispose(&shown);
	return rc;
}

static int take(void *context, const char *redis_key, const char *key, redisReply *reply)
{
	struct shown_list *list = context;

	if (list->count == list->max) {
		size_t max = list->max ? list->max * 2 : 256;
		struct shown *bigger = realloc(list->items, max * sizeof(*bigger));
		if (!bigger) {
			freeReplyObject(reply);
			return -1;
		}
		list->items = bigger;
		list->max = max;
	}
	judge(&list->items[list->count++], redis_key, key, reply);
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct shown *x = a, *y = b;
	int by_key = strcmp(x->key, y->key);

	return by_key ? by_key : strcmp(x->redis_key, y->redis_key);
}

static int list_all(struct cli *cli, redisContext *redis, struct shown_list *list, char *error, size_t error_len)
{
	if (redisrules_each(cli, redis, take, list, error, error_len) < 0)
		return -1;
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), compare);
	/* SCAN may name a key twice. */
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (kept && !strcmp(list->items[kept - 1].redis_key, list->items[i].redis_key))
			shown_dispose(&list->items[i]);
		else
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	return 0;
}

static void print_list(const struct shown_list *list)
{
	static const char *const headings[] = {"KEY", "LEVEL", "MODE", "OTHER ATTRIBUTES", NULL};
	struct table *table = table_new(headings);

	for (size_t i = 0; i < list->count; i++) {
		const struct shown *shown = &list->items[i];
		char *others = NULL;
		size_t len;
		FILE *out = open_memstream(&others, &len);
		for (size_t f = 0; out && f < shown->count; f++)
			if (strcmp(shown->fields[f].name, "level") && strcmp(shown->fields[f].name, "mode"))
				rule_print(out, "", &shown->fields[f], 1);
		if (out)
			fclose(out);
		table_text(table, shown->key);
		table_text(table, shown->error ? "(refused)" : field(shown, "level"));
		table_text(table, field(shown, "mode"));
		table_text(table, others && *others ? others + 1 : "");
		free(others);
	}
	table_print(table, stdout);
	table_free(table);
}

int policy_list(struct cli *cli)
{
	struct shown_list list = {0};
	char error[CLI_ERROR_MAX];
	int rc = CLI_OK;

	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	if (list_all(cli, redis, &list, error, sizeof(error)) < 0) {
		rc = cli_fail("%s", error);
	} else if (cli->json) {
		json_t *array = json_array();
		for (size_t i = 0; i < list.count; i++)
			json_array_append_new(array, shown_json(&list.items[i]));
		link_print_json(array);
	} else if (list.count == 0) {
		printf("no rules: everything is level may, mode observe\n");
	} else {
		print_list(&list);
		fflush(stdout);
		for (size_t i = 0; i < list.count; i++)
			if (list.items[i].error)
				cli_fail("%s: refused: %s", list.items[i].redis_key, list.items[i].error);
	}
	for (size_t i = 0; i < list.count; i++)
		shown_dispose(&list.items[i]);
	free(list.items);
	redisFree(redis);
	return rc;
}
