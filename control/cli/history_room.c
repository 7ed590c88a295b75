/*
 * history_room.c - the oldest entries are read one by one, until the new one fits: as a rule one of them.
 */
#include "history_room.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generation.h"
#include "link.h"

#define ID_MAX 48

static uint64_t bytes_of(const redisReply *fields)
{
	uint64_t bytes = 0;

	for (size_t i = 0; fields->type == REDIS_REPLY_ARRAY && i < fields->elements; i++)
		bytes += fields->element[i]->type == REDIS_REPLY_STRING ? (uint64_t)fields->element[i]->len : 0;
	return bytes;
}

/* The entry at or behind `id`, which becomes the first one behind it. Its bytes; 0: there is none, or, with `error`, no answer. */
static uint64_t next_entry(const struct cli *cli, redisContext *redis, char id[ID_MAX], char *error, size_t error_len)
{
	uint64_t bytes = 0, at, number;
	redisReply *reply = link_command(redis, error, error_len, "XRANGE %shistory %s + COUNT 1", cli->config.redis_prefix, id);
	const redisReply *entry = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements ? reply->element[0] : NULL;

	if (entry && entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 && entry->element[0]->type == REDIS_REPLY_STRING &&
	    sscanf(entry->element[0]->str, "%" SCNu64 "-%" SCNu64, &at, &number) == 2) {
		bytes = bytes_of(entry->element[1]);
		snprintf(id, ID_MAX, "%" PRIu64 "-%" PRIu64, at, number + 1);
	}
	if (reply)
		freeReplyObject(reply);
	return bytes;
}

static uint64_t count_anew(const struct cli *cli, redisContext *redis, char *error, size_t error_len)
{
	char id[ID_MAX] = "0-0";
	uint64_t bytes = 0;

	for (uint64_t one; (one = next_entry(cli, redis, id, error, error_len)); bytes += one)
		;
	return bytes;
}

/* A number of Redis; `missing` where there is none. */
static uint64_t ask_number(redisContext *redis, const char *command, const char *key, uint64_t missing, char *error, size_t error_len)
{
	redisReply *reply = link_command(redis, error, error_len, "%s %s", command, key);
	uint64_t n = missing;
	char *end = "x";

	if (reply && reply->type == REDIS_REPLY_INTEGER)
		n = (uint64_t)reply->integer;
	else if (reply && reply->type == REDIS_REPLY_STRING && reply->len)
		n = strtoull(reply->str, &end, 10);
	if (reply && reply->type == REDIS_REPLY_STRING && *end)
		n = missing;
	if (reply)
		freeReplyObject(reply);
	return n;
}

int history_room(const struct cli *cli, redisContext *redis, uint64_t entry_bytes, struct history_room *room, char *error, size_t error_len)
{
	uint64_t limit = (uint64_t)cli->config.history_mb << 20, entries, bytes;
	char key[LINK_KEY_MAX], id[ID_MAX] = "0-0";

	*error = 0;
	*room = (struct history_room){0};
	snprintf(key, sizeof(key), "%shistory", cli->config.redis_prefix);
	entries = ask_number(redis, "XLEN", key, 0, error, error_len);
	snprintf(key, sizeof(key), "%shistory_bytes", cli->config.redis_prefix);
	bytes = *error ? 0 : ask_number(redis, "GET", key, UINT64_MAX, error, error_len);
	if (!*error && bytes == UINT64_MAX)
		bytes = count_anew(cli, redis, error, error_len);
	while (!*error && entries && (entries + 1 > GENERATION_HISTORY_MAX || bytes + entry_bytes > limit)) {
		uint64_t oldest = next_entry(cli, redis, id, error, error_len);
		room->squeezed += entries + 1 <= GENERATION_HISTORY_MAX;
		bytes -= oldest < bytes ? oldest : bytes;
		entries--;
	}
	room->keep = entries + 1;
	room->bytes = (entries ? bytes : 0) + entry_bytes;
	return *error ? -1 : 0;
}
