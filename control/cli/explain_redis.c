/*
 * explain_redis.c - rules that stand in Redis for a domain and do not hold: ended by themselves, or refused.
 *
 * Enters: the keys under which the domain's rule would be looked for. Leaves: a line for each that is not in force, with
 * whose it is. Silent where Redis does not answer: waxseal status says that.
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
