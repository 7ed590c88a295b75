/*
 * redisrules.c - SCAN in pages, and HGETALL in pipelines: 100,000 rules are a few hundred round trips.
 */
#include "redisrules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"

#define SCAN_COUNT "1000"
#define PIPELINE_MAX 1000 /* questions under way at once */
#define PATTERN_MAX (2 * CONTROL_PREFIX_MAX + 2)

/* One page of SCAN: fetches the rules among its keys. */
static int each_of_page(const struct cli *cli, redisContext *redis, const redisReply *keys, redisrules_fn *each, void *context,
			char *error, size_t error_len)
{
	char key[LINK_KEY_MAX];
	int rc = 0;

	for (size_t i = 0; i < keys->elements; i++)
		if (rule_key_from_redis(cli->config.redis_prefix, keys->element[i]->str, key, sizeof(key)) != -ENOENT)
			redisAppendCommand(redis, "HGETALL %s", keys->element[i]->str);
	for (size_t i = 0; i < keys->elements && rc == 0; i++) {
		const char *redis_key = keys->element[i]->str;
		void *reply;
		int known = rule_key_from_redis(cli->config.redis_prefix, redis_key, key, sizeof(key));
		if (known == -ENOENT)
			continue;
		if (redisGetReply(redis, &reply) != REDIS_OK) {
			snprintf(error, error_len, "Redis %s: %s", cli->config.redis_address, redis->errstr);
			return -1;
		}
		rc = each(context, redis_key, known == -ENOSPC ? redis_key : key, reply);
		if (rc < 0)
			snprintf(error, error_len, "no memory");
	}
	return rc;
}

int redisrules_each(const struct cli *cli, redisContext *redis, redisrules_fn *each, void *context, char *error, size_t error_len)
{
	char pattern[PATTERN_MAX], *out = pattern, cursor[32] = "0";

	for (const char *p = cli->config.redis_prefix; *p; p++) {
		if (strchr("*?[]\\", *p))
			*out++ = '\\';
		*out++ = *p;
	}
	strcpy(out, "*");
	do {
		redisReply *reply = link_command(redis, error, error_len, "SCAN %s MATCH %s COUNT " SCAN_COUNT, cursor, pattern);
		if (!reply)
			return -1;
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING) {
			freeReplyObject(reply);
			snprintf(error, error_len, "Redis %s: SCAN: an answer that is none", cli->config.redis_address);
			return -1;
		}
		snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
		int rc = each_of_page(cli, redis, reply->element[1], each, context, error, error_len);
		freeReplyObject(reply);
		if (rc < 0)
			return -1;
	} while (strcmp(cursor, "0"));
	return 0;
}

json_t *redisrules_hash(const redisReply *reply)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX];
	int count = link_fields(reply, fields, error, sizeof(error));

	if (count < 0)
		return json_string_nocheck(error);
	if (count == 0)
		return json_null();
	json_t *hash = json_object();
	for (int i = 0; i < count; i++)
		json_object_set_new_nocheck(hash, fields[i].name, json_string_nocheck(fields[i].value));
	return hash;
}

static int put(void *context, const char *redis_key, const char *key, redisReply *reply)
{
	json_t *all = context, *hash = redisrules_hash(reply);

	(void)key;
	freeReplyObject(reply);
	if (json_is_null(hash)) /* gone since SCAN named it */
		return 0;
	return json_object_set_new_nocheck(all, redis_key, hash);
}

json_t *redisrules_all(const struct cli *cli, redisContext *redis, char *error, size_t error_len)
{
	json_t *all = json_object();

	if (redisrules_each(cli, redis, put, all, error, error_len) == 0)
		return all;
	json_decref(all);
	return NULL;
}

/* The next `count` replies, the last of which belong to HGETALL. */
static int take(redisContext *redis, json_t *out, const char *redis_key, bool watch, char *error, size_t error_len)
{
	redisReply *reply = NULL;
	void *taken;

	for (int i = watch ? 2 : 1; i > 0; i--) {
		if (reply)
			freeReplyObject(reply);
		if (redisGetReply(redis, &taken) != REDIS_OK) {
			snprintf(error, error_len, "%s", redis->errstr);
			return -1;
		}
		reply = taken;
	}
	if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "WRONGTYPE", 9)) {
		snprintf(error, error_len, "%s", reply->str);
		freeReplyObject(reply);
		return -1;
	}
	int rc = json_object_set_new_nocheck(out, redis_key, redisrules_hash(reply));
	freeReplyObject(reply);
	return rc;
}

json_t *redisrules_some(redisContext *redis, json_t *keys, bool watch, char *error, size_t error_len)
{
	void *ask = json_object_iter(keys), *answer = ask;
	json_t *out = json_object();

	while (answer) {
		for (int i = 0; ask && i < PIPELINE_MAX; i++, ask = json_object_iter_next(keys, ask)) {
			if (watch)
				redisAppendCommand(redis, "WATCH %s", json_object_iter_key(ask));
			redisAppendCommand(redis, "HGETALL %s", json_object_iter_key(ask));
		}
		for (; answer != ask; answer = json_object_iter_next(keys, answer)) {
			if (take(redis, out, json_object_iter_key(answer), watch, error, error_len) != 0) {
				json_decref(out);
				return NULL;
			}
		}
	}
	return out;
}

size_t redisrules_fields(const json_t *hash, struct rule_field *fields, size_t max)
{
	const char *name;
	json_t *value;
	size_t n = 0;

	json_object_foreach((json_t *)(uintptr_t)hash, name, value)
		if (n < max)
			fields[n++] = (struct rule_field){name, json_string_value(value)};
	return n;
}
