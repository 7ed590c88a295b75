/*
 * explain_redis.c - what only Redis knows: rules that stand there for a domain and do not hold, and postures.
 *
 * Enters: the keys under which the domain's rule would be looked for, servers' addresses. Leaves: a line for each rule
 * that has ended by itself or is refused, with whose it is; the last probe of each server. Silent where Redis does not
 * answer: waxseal status says that.
 */
#include <string.h>

#include "../policy/rules.h"
#include "explain.h"
#include "link.h"
#include "redisrules.h"
#include "table.h"

#define NAMES_MAX 130 /* a domain of 255 has 128 parents, and "*" */

static const char *field_of(const struct rule_field *fields, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(fields[i].name, name))
			return fields[i].value;
	return "";
}

static void judge(json_t *out, const char *key, const json_t *hash, uint64_t now_s)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX], age[TABLE_AGE_MAX], why[CLI_ERROR_MAX];
	size_t count = redisrules_fields(hash, fields, LINK_FIELDS_MAX);

	if (json_is_null(hash))
		return;
	struct rule *rule = json_is_object(hash) ? rule_parse(key, fields, count, error, sizeof(error)) : NULL;
	uint64_t expires = rule ? rule_expires(rule) : 0;
	if (rule && (!expires || expires > now_s)) {
		rule_free(rule);
		return;
	}
	if (rule)
		snprintf(why, sizeof(why), "ended by itself %s ago; owner: %.100s; reason: %.200s", table_age(now_s - expires, age),
			 field_of(fields, count, "owner"), field_of(fields, count, "reason"));
	else
		snprintf(why, sizeof(why), "refused: %.400s", json_is_string(hash) ? json_string_value(hash) : error);
	json_t *entry = json_object();
	link_json_set(entry, "rule", key);
	link_json_set(entry, "state", rule ? "expired" : "refused");
	link_json_set(entry, "why", why);
	json_array_append_new(out, entry);
	rule_free(rule);
}

json_t *explain_not_in_force(const struct cli *cli, const char *domain, uint64_t now_s)
{
	char error[CLI_ERROR_MAX], redis_key[LINK_KEY_MAX], key[LINK_KEY_MAX];
	json_t *keys = json_object(), *out = json_array(), *hash;
	redisContext *redis = link_redis(cli, error, sizeof(error));
	const char *found;

	for (const char *name = domain; name; name = strchr(name + 1, '.'))
		if (rule_key_to_redis(cli->config.redis_prefix, name, redis_key, sizeof(redis_key)) == 0 && json_object_size(keys) < NAMES_MAX)
			json_object_set_new(keys, redis_key, json_null());
	if (rule_key_to_redis(cli->config.redis_prefix, "*", redis_key, sizeof(redis_key)) == 0)
		json_object_set_new(keys, redis_key, json_null());
	json_t *hashes = redis ? redisrules_some(redis, keys, false, error, sizeof(error)) : NULL;
	json_object_foreach(hashes, found, hash)
		if (rule_key_from_redis(cli->config.redis_prefix, found, key, sizeof(key)) == 0)
			judge(out, key, hash, now_s);
	if (redis)
		redisFree(redis);
	json_decref(hashes);
	json_decref(keys);
	return out;
}

void explain_postures(const struct cli *cli, json_t *answers)
{
	char error[CLI_ERROR_MAX];
	redisContext *redis = json_array_size(answers) ? link_redis(cli, error, sizeof(error)) : NULL;
	json_t *server, *hash, *value;
	const char *name;
	size_t i;

	json_array_foreach(answers, i, server)
	{
		redisReply *reply = redis ? link_command(redis, error, sizeof(error), "HGETALL %sposture:%s", cli->config.redis_prefix,
							 link_text(server, "server")) : NULL;
		if (!reply)
			break;
		hash = redisrules_hash(reply);
		freeReplyObject(reply);
		if (json_is_object(hash)) {
			json_t *posture = json_object();
			json_object_foreach(hash, name, value)
				link_json_set(posture, name, json_string_value(value));
			json_object_set_new(server, "posture", posture);
		}
		json_decref(hash);
	}
	if (redis)
		redisFree(redis);
}
