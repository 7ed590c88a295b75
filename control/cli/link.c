/*
 * link.c - hiredis with time limits, telemetry answers through jansson.
 *
 * Anything that Redis or waxseald sends is checked for its type before it is used.
 */
#include "link.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "../policy/text.h"

/* The master's address, as the first Sentinel that answers tells it. */
static bool find_master(const struct control_config *config, char host[CONTROL_TEXT_MAX], uint16_t *port, char *error, size_t error_len)
{
	struct timeval limit = {.tv_sec = 1};
	bool found = false;

	for (unsigned i = 0; !found && control_sentinel(config, i, host, port); i++) {
		char why[CLI_ERROR_MAX] = "no memory";
		redisContext *redis = redisConnectWithTimeout(host, *port, limit);
		if (redis && redis->err)
			snprintf(why, sizeof(why), "%s", redis->errstr);
		redisReply *reply = NULL;
		if (redis && !redis->err && redisSetTimeout(redis, limit) == REDIS_OK)
			reply = link_command(redis, why, sizeof(why), "SENTINEL get-master-addr-by-name %s", config->redis_master);
		found = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING &&
			reply->element[1]->type == REDIS_REPLY_STRING;
		if (!found)
			snprintf(error, error_len, "Sentinel %.60s:%u: %.160s", host, *port, reply ? "knows no master of that name" : why);
		if (found) {
			snprintf(host, CONTROL_TEXT_MAX, "%s", reply->element[0]->str);
			*port = (uint16_t)strtoul(reply->element[1]->str, NULL, 10);
		}
		if (reply)
			freeReplyObject(reply);
		if (redis)
			redisFree(redis);
	}
	return found;
}

static redisContext *connect_to(const struct control_config *config, char *error, size_t error_len)
{
	struct timeval limit = {.tv_sec = LINK_TIMEOUT_S};
	char host[CONTROL_TEXT_MAX];
	uint16_t port = config->redis_port;

	if (config->redis_unix[0])
		return redisConnectUnixWithTimeout(config->redis_unix, limit);
	snprintf(host, sizeof(host), "%s", config->redis_host);
	if (config->redis_master[0] && !find_master(config, host, &port, error, error_len))
		return NULL;
	return redisConnectWithTimeout(host, port, limit);
}

redisContext *link_redis(const struct cli *cli, char *error, size_t error_len)
{
	const struct control_config *config = &cli->config;
	struct timeval limit = {.tv_sec = LINK_TIMEOUT_S};
	char why[CLI_ERROR_MAX] = "no memory";
	redisReply *reply = NULL;

	redisContext *redis = connect_to(config, why, sizeof(why));
	if (!redis || redis->err) {
		snprintf(error, error_len, "Redis %s: %.200s; [redis] address names it", config->redis_address, redis ? redis->errstr : why);
		goto fail;
	}
	redisSetTimeout(redis, limit);
	if (config->redis_user[0])
		reply = link_command(redis, why, sizeof(why), "AUTH %s %s", config->redis_user, config->redis_password);
	else if (config->redis_password[0])
		reply = link_command(redis, why, sizeof(why), "AUTH %s", config->redis_password);
	else
		reply = link_command(redis, why, sizeof(why), "PING");
	if (reply && config->redis_database) {
		freeReplyObject(reply);
		reply = link_command(redis, why, sizeof(why), "SELECT %u", config->redis_database);
	}
	if (!reply) {
		snprintf(error, error_len, "Redis %s: %.200s", config->redis_address, why);
		goto fail;
	}
	freeReplyObject(reply);
	return redis;
fail:
	if (redis)
		redisFree(redis);
	return NULL;
}

redisReply *link_command(redisContext *redis, char *error, size_t error_len, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	redisReply *reply = redisvCommand(redis, format, args);
	va_end(args);
	if (!reply) {
		bool silent = redis->err == REDIS_ERR_IO && !strcmp(redis->errstr, "Resource temporarily unavailable");
		snprintf(error, error_len, "%s", silent ? "no answer within 2 s" : redis->errstr);
		return NULL;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(error, error_len, "%s", reply->str);
		freeReplyObject(reply);
		return NULL;
	}
	return reply;
}

int link_fields(const redisReply *reply, struct rule_field fields[LINK_FIELDS_MAX], char *error, size_t error_len)
{
	if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(error, error_len, "%s", strncmp(reply->str, "WRONGTYPE", 9) ? reply->str : "is not a hash; delete the key");
		return -1;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements / 2 > LINK_FIELDS_MAX) {
		snprintf(error, error_len, "has more than 256 attributes");
		return -1;
	}
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *text = reply->element[i];
		if (text->type != REDIS_REPLY_STRING || strlen(text->str) != (size_t)text->len) {
			snprintf(error, error_len, "holds a zero byte; attributes and values are text");
			return -1;
		}
		*(i % 2 ? &fields[i / 2].value : &fields[i / 2].name) = text->str;
	}
	return (int)(reply->elements / 2);
}

json_t *link_ask(struct telemetry *telemetry, const char *command, char *error, size_t error_len)
{
	json_t *value = telemetry_ask(telemetry, command, error, error_len);

	if (!json_is_null(value))
		return value;
	snprintf(error, error_len, "waxseald does not know %s; is it of another version than this command?", command);
	return NULL;
}

uint64_t link_number(const json_t *object, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(object, name));

	return n > 0 ? (uint64_t)n : 0;
}

const char *link_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

bool link_true(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_true(value) || json_integer_value(value) > 0 || !strcmp(link_text(object, name), "true");
}

void link_print_json(json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2));

	if (text)
		puts(text);
	free(text);
	json_decref(value);
}

static char *clean_copy(const char *text)
{
	size_t room = strlen(text) + 4; /* never shortened */
	char *copy = malloc(room);

	if (copy)
		text_clean(text, copy, room);
	return copy;
}

void link_json_set(json_t *object, const char *name, const char *text)
{
	char *clean_name = clean_copy(name), *clean_text = clean_copy(text);

	if (clean_name && clean_text)
		json_object_set_new(object, clean_name, json_string(clean_text));
	free(clean_name);
	free(clean_text);
}
