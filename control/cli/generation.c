/*
 * generation.c - WATCH, read, plan, MULTI, the changes, XADD, INCR, EXEC; from the beginning where EXEC finds a change.
 *
 * Only attributes that differ are written, so that what a plan did not mean to touch (a TTL on the key) stays.
 */
#include "generation.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../policy/text.h"
#include "history_room.h"
#include "link.h"

#define PAUSE_MAX_US 20000 /* between attempts; at random, or writers in step would stay in step */
#define KEY_MAX (CONTROL_PREFIX_MAX + 16)

/* ---- who ---- */

static void set_author(struct generation *g, const char *given)
{
	char host[64] = "", text[GENERATION_AUTHOR_MAX];
	const char *name = getenv("SUDO_USER");
	const struct passwd *user = NULL;

	if (!name || !*name)
		user = getpwuid(getuid());
	if (user)
		name = user->pw_name;
	gethostname(host, sizeof(host) - 1);
	snprintf(text, sizeof(text), "%s@%s", name && *name ? name : "?", host);
	text_clean(given ? given : text, g->author, sizeof(g->author));
}

/* ---- what has changed ---- */

static json_t *clean_hash(const json_t *hash)
{
	const char *name;
	json_t *value, *clean;

	if (!json_is_object(hash))
		return json_null();
	clean = json_object();
	json_object_foreach((json_t *)(uintptr_t)hash, name, value)
		link_json_set(clean, name, json_string_value(value));
	return clean;
}

static bool differs(const json_t *old, const json_t *new_hash)
{
	if (json_is_null(new_hash))
		return old && !json_is_null(old);
	return !json_equal(old, new_hash);
}

json_t *generation_changes(const json_t *before, const json_t *after)
{
	json_t *changes = json_object(), *new_hash;
	char clean_key[LINK_KEY_MAX];
	const char *redis_key;

	json_object_foreach((json_t *)(uintptr_t)after, redis_key, new_hash)
	{
		const json_t *old = json_object_get(before, redis_key);
		if (!differs(old, new_hash))
			continue;
		json_t *change = json_object();
		json_object_set_new(change, "before", clean_hash(old));
		json_object_set_new(change, "after", clean_hash(new_hash));
		text_clean(redis_key, clean_key, sizeof(clean_key));
		json_object_set_new_nocheck(changes, clean_key, change);
	}
	return changes;
}

/* ---- reading ---- */

int generation_read(struct generation *g, json_t *keys)
{
	char error[CLI_ERROR_MAX] = "";

	g->large = json_object_size(keys) > GENERATION_WATCHED_MAX;
	json_t *read = redisrules_some(g->redis, keys, !g->large, error, sizeof(error));

	if (!read)
		return cli_fail("Redis %s: %s", g->cli->config.redis_address, error);
	json_object_update(g->before, read);
	json_decref(read);
	return CLI_OK;
}

int generation_read_one(struct generation *g, const char *redis_key, json_t **hash)
{
	json_t *keys = json_object();

	json_object_set_new_nocheck(keys, redis_key, json_null());
	int rc = generation_read(g, keys);
	json_decref(keys);
	*hash = json_object_get(g->before, redis_key);
	return rc;
}

/* The last generation, watched; and a look at what EXEC could fail half-way over. */
static int begin(struct generation *g)
{
	const char *prefix = g->cli->config.redis_prefix;
	char error[CLI_ERROR_MAX];
	redisReply *reply = link_command(g->redis, error, sizeof(error), "WATCH %sgeneration", prefix);
	int rc = CLI_OK;

	if (reply) {
		freeReplyObject(reply);
		reply = link_command(g->redis, error, sizeof(error), "GET %sgeneration", prefix);
	}
	if (!reply)
		return cli_fail("Redis %s: %sgeneration: %s", g->cli->config.redis_address, prefix, error);
	char *end = "";
	g->last = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, &end, 10) : 0;
	if (*end || g->last < 0 || g->last == INT64_MAX)
		rc = cli_fail("%sgeneration: %.40s: not a number that can be counted up; nothing was written", prefix, reply->str);
	freeReplyObject(reply);
	if (rc != CLI_OK)
		return rc;
	reply = link_command(g->redis, error, sizeof(error), "TYPE %shistory", prefix);
	if (!reply)
		return cli_fail("Redis %s: %s", g->cli->config.redis_address, error);
	if (strcmp(reply->str, "none") && strcmp(reply->str, "stream"))
		rc = cli_fail("%shistory: is a %s and not the stream of generations; delete or rename it; nothing was written", prefix, reply->str);
	freeReplyObject(reply);
	return rc;
}

/* ---- writing ---- */

struct queue {
	redisContext *redis;
	size_t count;
};

static void queue_text(struct queue *queue, int argc, const char **argv)
{
	if (redisAppendCommandArgv(queue->redis, argc, argv, NULL) == REDIS_OK)
		queue->count++;
}

static void queue_hash(struct queue *queue, const char *redis_key, const json_t *old, json_t *new_hash, bool whole)
{
	const char *set[2 + 2 * LINK_FIELDS_MAX] = {"HSET", redis_key}, *del[2 + LINK_FIELDS_MAX] = {"HDEL", redis_key};
	const char *name, *drop[] = {"DEL", redis_key};
	int sets = 2, dels = 2;
	json_t *value;

	if (!json_is_object(new_hash)) {
		queue_text(queue, 2, drop);
		return;
	}
	if (json_is_string(old) || whole) { /* no hash, which cannot be one before it is gone; or nobody has watched it */
		queue_text(queue, 2, drop);
		old = NULL;
	}
	json_object_foreach(new_hash, name, value)
	{
		if (json_equal(value, json_object_get(old, name)) || sets + 2 > 2 + 2 * LINK_FIELDS_MAX)
			continue;
		set[sets++] = name;
		set[sets++] = json_string_value(value);
	}
	json_object_foreach((json_t *)(uintptr_t)(json_is_object(old) ? old : NULL), name, value)
		if (!json_object_get(new_hash, name))
			del[dels++] = name;
	if (dels > 2)
		queue_text(queue, dels, del);
	if (sets > 2)
		queue_text(queue, sets, set);
}

struct entry {
	char history[KEY_MAX], generation[KEY_MAX], sum[KEY_MAX], number[24], at[24], most[24], bytes[24];
};

/* Ready for queue_entry(): asks Redis what has to go for it, so before MULTI. -1 having said why. */
static int prepare_entry(struct generation *g, const char *changes, struct entry *entry)
{
	const char *prefix = g->cli->config.redis_prefix;
	struct history_room room;
	char error[CLI_ERROR_MAX];

	snprintf(entry->history, KEY_MAX, "%shistory", prefix);
	snprintf(entry->generation, KEY_MAX, "%sgeneration", prefix);
	snprintf(entry->sum, KEY_MAX, "%shistory_bytes", prefix);
	snprintf(entry->number, sizeof(entry->number), "%lld", g->last + 1);
	snprintf(entry->at, sizeof(entry->at), "%" PRIu64, (uint64_t)time(NULL));
	const char *const parts[] = {"generation", entry->number, "time", entry->at, "author", g->author, "what", g->what, "changes", changes};
	uint64_t bytes = 0;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		bytes += strlen(parts[i]);
	if (history_room(g->cli, g->redis, bytes, &room, error, sizeof(error)) != 0) {
		cli_fail("Redis %s: the history: %s", g->cli->config.redis_address, error);
		return -1;
	}
	g->squeezed = room.squeezed;
	snprintf(entry->most, sizeof(entry->most), "%" PRIu64, room.keep);
	snprintf(entry->bytes, sizeof(entry->bytes), "%" PRIu64, room.bytes);
	return 0;
}

static void queue_entry(struct queue *queue, const struct generation *g, const struct entry *entry, const char *changes)
{
	const char *add[] = {"XADD", entry->history, "MAXLEN", entry->most, "*", "generation", entry->number, "time", entry->at,
			     "author", g->author, "what", g->what, "changes", changes};
	const char *set[] = {"SET", entry->sum, entry->bytes};
	const char *incr[] = {"INCR", entry->generation};
	queue_text(queue, sizeof(add) / sizeof(add[0]), add);
	queue_text(queue, 3, set);
	queue_text(queue, 2, incr);
}

/* The replies of a transaction. 0 written, 1 somebody else was faster, -1 having said why. */
static int answers(struct generation *g, const struct queue *queue)
{
	char error[CLI_ERROR_MAX] = "";
	int rc = -1;
	void *taken;

	for (size_t i = 0; i < queue->count; i++) {
		if (redisGetReply(queue->redis, &taken) != REDIS_OK) {
			cli_fail("Redis %s: %s; whether it was written is not known: waxseal policy log tells", g->cli->config.redis_address,
				 queue->redis->errstr);
			return -1;
		}
		redisReply *reply = taken;
		if (reply->type == REDIS_REPLY_ERROR && !*error)
			snprintf(error, sizeof(error), "%s", reply->str);
		if (i + 1 == queue->count && reply->type == REDIS_REPLY_NIL)
			rc = 1;
		else if (i + 1 == queue->count && reply->type == REDIS_REPLY_ARRAY)
			rc = 0;
		for (size_t e = 0; rc == 0 && i + 1 == queue->count && e < reply->elements; e++)
			if (reply->element[e]->type == REDIS_REPLY_ERROR && !*error)
				snprintf(error, sizeof(error), "%s", reply->element[e]->str);
		freeReplyObject(reply);
	}
	if (!*error)
		return rc;
	cli_fail("Redis refuses the transaction: %.200s; HSET, HDEL, DEL, XADD, SET and INCR must be allowed", error);
	return -1;
}

/* 0, 1, -1 as answers(); NOTHING where all is so already. */
enum { NOTHING = -2 };
static int transact(struct generation *g)
{
	static const char *multi[] = {"MULTI"}, *exec[] = {"EXEC"};
	json_t *changes = generation_changes(g->before, g->after), *hash;
	struct queue queue = {.redis = g->redis};
	const char *redis_key;
	struct entry entry;
	int rc = NOTHING;

	char *text = json_dumps(changes, JSON_COMPACT);
	if (!text || strlen(text) > GENERATION_ENTRY_BYTES_MAX) {
		cli_fail("the change is larger than the %u MB that one generation may have; make several of it", GENERATION_ENTRY_BYTES_MAX >> 20);
		rc = -1;
	} else if (json_object_size(changes)) {
		if (g->large)
			redisSetTimeout(g->redis, (struct timeval){.tv_sec = GENERATION_PATIENCE_S});
		rc = prepare_entry(g, text, &entry);
	}
	if (rc == 0) {
		queue_text(&queue, 1, multi);
		json_object_foreach(g->after, redis_key, hash)
			if (differs(json_object_get(g->before, redis_key), hash))
				queue_hash(&queue, redis_key, json_object_get(g->before, redis_key), hash, g->large);
		queue_entry(&queue, g, &entry, text);
		queue_text(&queue, 1, exec);
		rc = answers(g, &queue);
	}
	free(text);
	json_decref(changes);
	return rc;
}

static void pause_a_little(void)
{
	static unsigned seed;
	struct timespec wait;

	if (!seed)
		seed = (unsigned)getpid();
	wait = (struct timespec){.tv_nsec = rand_r(&seed) % PAUSE_MAX_US * 1000};
	nanosleep(&wait, NULL);
}

static int attempt(struct generation *g, generation_plan *plan, void *context)
{
	json_decref(g->before);
	json_decref(g->after);
	g->before = json_object();
	g->after = json_object();
	int rc = begin(g);
	if (rc == CLI_OK)
		rc = plan(context, g);
	return rc == CLI_OK ? transact(g) : -1;
}

static void tell_squeezed(const struct generation *g)
{
	char many[48];

	snprintf(many, sizeof(many), g->squeezed == 1 ? "the oldest generation was" : "the %" PRIu64 " oldest generations were", g->squeezed);
	if (g->squeezed)
		cli_fail("%s dropped from the history, to keep it within [redis] history_mb = %u", many, g->cli->config.history_mb);
}

int generation_write(struct cli *cli, struct generation *g, generation_plan *plan, void *context)
{
	char error[CLI_ERROR_MAX], what[GENERATION_WHAT_MAX];
	int done = 1;

	g->cli = cli;
	text_clean(g->what, what, sizeof(what));
	memcpy(g->what, what, sizeof(what));
	set_author(g, cli->author);
	g->redis = link_redis(cli, error, sizeof(error));
	if (!g->redis)
		return cli_fail("%s", error);
	for (int i = 0; done == 1 && i < GENERATION_ATTEMPTS_MAX; i++) {
		if (i)
			pause_a_little();
		done = attempt(g, plan, context);
	}
	if (done == 0) {
		g->number = g->last + 1;
		tell_squeezed(g);
		return CLI_OK;
	}
	g->number = g->last;
	if (done == NOTHING)
		return GENERATION_UNCHANGED;
	return done == 1 ? cli_fail("others write all the time; try again") : CLI_FAILED;
}

void generation_dispose(struct generation *g)
{
	if (g->redis)
		redisFree(g->redis);
	json_decref(g->before);
	json_decref(g->after);
}
