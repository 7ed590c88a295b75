/*
 * fleet.c - waxseal fleet: SCAN for the hashes, one look at each, a line for each.
 *
 * An appliance is silent when its hash has not been written for APPLIANCE_SILENT_S; the hash stays for
 * APPLIANCE_TTL_S, so that somebody can see it. "behind" is what it says of itself.
 */
#include "fleet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../policy/appliance.h"
#include "cli.h"
#include "link.h"
#include "table.h"

#define PATTERN_MAX (2 * CONTROL_PREFIX_MAX + 16)
#define SCANS_MAX 1000000 /* steps of 1,000 keys */

static uint64_t number(const json_t *object, const char *name)
{
	const char *text = link_text(object, name);

	return *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : 0;
}

static const char *state_of(const json_t *appliance)
{
	if (link_number(appliance, "silent_s") > APPLIANCE_SILENT_S)
		return "silent";
	if (strcmp(link_text(appliance, "waxseald"), "up") != 0)
		return "down";
	return number(appliance, "lag_s") > FLEET_LAG_MAX_S ? "behind" : "up";
}

static int by_id(const void *a, const void *b)
{
	return strcmp(link_text(*(json_t *const *)a, "id"), link_text(*(json_t *const *)b, "id"));
}

json_t *fleet_judge(json_t *hashes)
{
	size_t count = json_array_size(hashes), shown = count < FLEET_MAX ? count : FLEET_MAX;
	json_t **sorted = calloc(count + 1, sizeof(*sorted)), *appliances = json_array();
	bool ok = count > 0;

	for (size_t i = 0; sorted && i < count; i++)
		sorted[i] = json_array_get(hashes, i);
	if (sorted && count)
		qsort(sorted, count, sizeof(*sorted), by_id);
	for (size_t i = 0; sorted && i < shown; i++) {
		const char *state = state_of(sorted[i]);
		json_object_set_new(sorted[i], "state", json_string(state));
		ok &= strcmp(state, "silent") != 0 && strcmp(state, "down") != 0;
		json_array_append(appliances, sorted[i]);
	}
	free(sorted);
	json_decref(hashes);
	return json_pack("{s:o, s:b, s:I}", "appliances", appliances, "ok", ok, "count", (json_int_t)count);
}

void fleet_print(const json_t *fleet, FILE *out)
{
	static const char *const headings[] = {"APPLIANCE", "STATE", "HEARD", "GENERATION", "RUNS", "LAG s", "FLOWS", "TAKEN OVER",
					       "BUSY %", "RULES", "REFUSED", "VERSION", NULL};
	const json_t *appliance;
	size_t i;

	if (!json_array_size(json_object_get(fleet, "appliances"))) {
		fputs("No appliance has told this Redis of itself: does waxseal-agent run, and may it write?\n", out);
		return;
	}
	struct table *table = table_new(headings);
	json_array_foreach(json_object_get(fleet, "appliances"), i, appliance)
	{
		char age[TABLE_AGE_MAX], heard[TABLE_AGE_MAX + 8];
		snprintf(heard, sizeof(heard), "%s ago", table_age(link_number(appliance, "silent_s"), age));
		table_text(table, link_text(appliance, "id"));
		table_text(table, link_text(appliance, "state"));
		table_text(table, heard);
		table_number(table, number(appliance, "generation"));
		table_number(table, number(appliance, "running_generation"));
		table_number(table, number(appliance, "lag_s"));
		table_number(table, number(appliance, "flows"));
		table_number(table, number(appliance, "takeovers"));
		table_number(table, number(appliance, "busy_permille") / 10);
		table_number(table, number(appliance, "rules"));
		table_number(table, number(appliance, "refused"));
		table_text(table, link_text(appliance, "version"));
	}
	table_print(table, out);
	table_free(table);
	if (link_number(fleet, "count") > FLEET_MAX)
		fprintf(out, "... and %" PRIu64 " more.\n", link_number(fleet, "count") - FLEET_MAX);
}

/* ---- the command ---- */

/* NULL if the key is gone meanwhile or is no hash. */
static json_t *read_one(redisContext *redis, const char *key, const char *id)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX];
	redisReply *hash = link_command(redis, error, sizeof(error), "HGETALL %s", key);
	int count = hash ? link_fields(hash, fields, error, sizeof(error)) : -1;
	json_t *object = NULL;

	if (count > 0) {
		object = json_object();
		for (int i = 0; i < count; i++)
			link_json_set(object, fields[i].name, fields[i].value);
		redisReply *ttl = link_command(redis, error, sizeof(error), "TTL %s", key);
		long long left = ttl && ttl->type == REDIS_REPLY_INTEGER && ttl->integer >= 0 ? ttl->integer : 0;
		json_object_set_new(object, "silent_s", json_integer(left < APPLIANCE_TTL_S ? APPLIANCE_TTL_S - left : 0));
		if (ttl)
			freeReplyObject(ttl);
		link_json_set(object, "id", id);
	}
	if (hash)
		freeReplyObject(hash);
	return object;
}

static void pattern_of(const char *prefix, char pattern[PATTERN_MAX])
{
	char *out = pattern;

	for (; *prefix; prefix++) {
		if (strchr("*?[]\\^-", *prefix))
			*out++ = '\\';
		*out++ = *prefix;
	}
	strcpy(out, "appliance:*");
}

static bool is_new(const json_t *hashes, const char *id)
{
	const json_t *there;
	size_t i;

	json_array_foreach(hashes, i, there)
	{
		if (!strcmp(link_text(there, "id"), id))
			return false; /* SCAN may name a key twice */
	}
	return true;
}

static json_t *read_all(const struct cli *cli, redisContext *redis, char *error, size_t error_len)
{
	char pattern[PATTERN_MAX], cursor[32] = "0";
	size_t skip = strlen(cli->config.redis_prefix) + strlen("appliance:");
	json_t *hashes = json_array();

	pattern_of(cli->config.redis_prefix, pattern);
	for (unsigned step = 0; step < SCANS_MAX; step++) {
		redisReply *reply = link_command(redis, error, error_len, "SCAN %s MATCH %s COUNT 1000", cursor, pattern);
		if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING) {
			if (reply) {
				snprintf(error, error_len, "SCAN: an answer that is none");
				freeReplyObject(reply);
			}
			json_decref(hashes);
			return NULL;
		}
		for (size_t i = 0; i < reply->element[1]->elements && json_array_size(hashes) <= FLEET_MAX; i++) {
			const redisReply *key = reply->element[1]->element[i];
			if (key->type != REDIS_REPLY_STRING || strlen(key->str) != (size_t)key->len || (size_t)key->len < skip ||
			    !is_new(hashes, key->str + skip))
				continue;
			json_t *one = read_one(redis, key->str, key->str + skip);
			if (one)
				json_array_append_new(hashes, one);
		}
		snprintf(cursor, sizeof(cursor), "%.31s", reply->element[0]->str);
		freeReplyObject(reply);
		if (!strcmp(cursor, "0"))
			break;
	}
	return hashes;
}

int fleet_run(struct cli *cli)
{
	char error[CLI_ERROR_MAX];

	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis)
		return cli_fail("%s", error);
	json_t *hashes = read_all(cli, redis, error, sizeof(error));
	redisFree(redis);
	if (!hashes)
		return cli_fail("Redis %s: %s", cli->config.redis_address, error);
	json_t *fleet = fleet_judge(hashes);
	bool ok = json_is_true(json_object_get(fleet, "ok"));
	if (cli->json) {
		link_print_json(fleet);
	} else {
		fleet_print(fleet, stdout);
		json_decref(fleet);
	}
	return ok ? CLI_OK : CLI_FAILED;
}
