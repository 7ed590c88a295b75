/*
 * sightings.c - one timer: read the events, tell Redis, read Redis now and then.
 *
 * Redis is read by SCAN and one HGET for each key, a batch at a time: with a million keys of others it goes on slowly
 * beside everything else. What a whole reading has not found, because Redis is another one, is told again.
 */
#include "sightings.h"

#include <ev.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../policy/text.h"
#include "follow.h"

#define KEY_MAX (CONTROL_PREFIX_MAX + 80)
#define NUMBER_MAX 24
#define BATCH "500"
#define EXPIRE_S 3600.0

struct sightings {
	struct ev_loop *loop;
	const struct control_config *config;
	void (*changed)(void *context);
	void *context;
	struct seen *seen;
	struct follow follow;
	struct watch *watch;
	ev_timer tick;
	bool follows, new, reading;
	double asked_at, read_at, expired_at;
	char by[CONTROL_PREFIX_MAX], prefix[KEY_MAX], pattern[WATCH_PATTERN_MAX];
	char next[NUMBER_MAX];   /* cursor of SCAN */
	size_t open;             /* HGETs under way */
	struct sightings_counts counts;
};

static uint64_t unix_now(void)
{
	return (uint64_t)time(NULL);
}

/* ---- session events ---- */

/* Mostly a second ago; after a first start, or while the agent was away, up to a file's length ago. */
static void on_line(void *context, const char *line, size_t len)
{
	struct sightings *sightings = context;
	json_t *event = json_loadb(line, len, 0, NULL);
	const char *end = json_string_value(json_object_get(event, "end")), *server = json_string_value(json_object_get(event, "server"));
	const char *direction = json_string_value(json_object_get(event, "direction")), *at = json_string_value(json_object_get(event, "at"));
	uint8_t addr[16];

	sightings->counts.events++;
	if (end && server && direction && at && !strcmp(direction, "outbound") && (!strcmp(end, "sealed") || !strcmp(end, "upgraded")) &&
	    address_read(server, addr)) {
		sightings->counts.sightings++;
		sightings->new |= seen_note(sightings->seen, addr, text_moment(at), SEEN_SESSION, unix_now());
	}
	json_decref(event);
}

/* ---- Redis ---- */

static void tell(struct sightings *sightings)
{
	struct seen_row row;

	for (int i = 0; i < SIGHTINGS_WRITES_MAX && watch_state(sightings->watch) == WATCH_LIVE && seen_next_untold(sightings->seen, &row); i++) {
		char key[KEY_MAX + 48], at[NUMBER_MAX], addr[48], expire[NUMBER_MAX];
		address_print(row.addr, addr);
		snprintf(key, sizeof(key), "%s%s", sightings->prefix, addr);
		snprintf(at, sizeof(at), "%" PRIu64, row.at);
		snprintf(expire, sizeof(expire), "%u", FINDINGS_SEEN_TTL_S);
		const char *set[] = {"HSET", key, "time", at, "how", row.how == SEEN_PROBE ? "probe" : "session", "by", sightings->by};
		const char *end[] = {"EXPIRE", key, expire};
		watch_write(sightings->watch, sizeof(set) / sizeof(set[0]), set);
		watch_write(sightings->watch, sizeof(end) / sizeof(end[0]), end);
	}
}

static void scan(struct sightings *sightings);

static void end_reading(struct sightings *sightings, bool whole)
{
	sightings->reading = false;
	sightings->read_at = ev_now(sightings->loop);
	if (whole)
		seen_read_end(sightings->seen);
}

static void next_batch(struct sightings *sightings)
{
	if (sightings->open)
		return;
	if (!strcmp(sightings->next, "0"))
		end_reading(sightings, true);
	else
		scan(sightings);
}

struct asked {
	struct sightings *sightings;
	uint8_t addr[16];
};

static void on_get(void *context, uint64_t token, const redisReply *reply)
{
	struct asked *asked = context;
	struct sightings *sightings = asked->sightings;

	if (reply && reply->type == REDIS_REPLY_STRING)
		sightings->new |= seen_note(sightings->seen, asked->addr, strtoull(reply->str, NULL, 10), SEEN_TOLD, unix_now());
	free(asked);
	(void)token;
	sightings->open--;
	if (reply)
		next_batch(sightings);
	else if (sightings->reading)
		end_reading(sightings, false);
}

static void get(struct sightings *sightings, const char *key)
{
	struct asked *asked = malloc(sizeof(*asked));
	const char *command[] = {"HGET", key, "time"};

	if (!asked)
		return;
	asked->sightings = sightings;
	if (address_read(key + strlen(sightings->prefix), asked->addr) &&
	    watch_ask(sightings->watch, sizeof(command) / sizeof(command[0]), command, on_get, asked, 0)) {
		sightings->open++;
	} else {
		free(asked);
	}
}

static void on_scan(void *context, uint64_t token, const redisReply *reply)
{
	struct sightings *sightings = context;
	size_t len = strlen(sightings->prefix);

	(void)token;
	if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_ARRAY) {
		end_reading(sightings, false);
		return;
	}
	snprintf(sightings->next, sizeof(sightings->next), "%.20s", reply->element[0]->str);
	const redisReply *keys = reply->element[1];
	for (size_t i = 0; i < keys->elements; i++)
		if (keys->element[i]->type == REDIS_REPLY_STRING && !strncmp(keys->element[i]->str, sightings->prefix, len))
			get(sightings, keys->element[i]->str);
	next_batch(sightings);
}

static void scan(struct sightings *sightings)
{
	const char *command[] = {"SCAN", sightings->next, "MATCH", sightings->pattern, "COUNT", BATCH};

	if (!watch_ask(sightings->watch, sizeof(command) / sizeof(command[0]), command, on_scan, sightings, 0))
		end_reading(sightings, false);
}

/* ---- time ---- */

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct sightings *sightings = timer->data;
	double now = ev_now(loop);

	(void)events;
	if (sightings->follows)
		follow_read(&sightings->follow, on_line, sightings);
	if (sightings->watch && watch_state(sightings->watch) == WATCH_LIVE) {
		tell(sightings);
		if (!sightings->reading && now - sightings->read_at > SIGHTINGS_READ_S) {
			sightings->reading = true;
			seen_read_begin(sightings->seen);
			strcpy(sightings->next, "0");
			scan(sightings);
		}
	}
	if (now - sightings->expired_at > EXPIRE_S) {
		sightings->expired_at = now;
		seen_expire(sightings->seen, unix_now());
	}
	if (sightings->new && now - sightings->asked_at > SIGHTINGS_IMAGE_S) {
		sightings->new = false;
		sightings->asked_at = now;
		sightings->changed(sightings->context);
	}
}

void sightings_watch(struct sightings *sightings, struct watch *watch)
{
	if (!sightings)
		return;
	sightings->watch = watch;
	sightings->read_at = -SIGHTINGS_READ_S;
}

/* ---- start and end ---- */

struct sightings *sightings_new(struct ev_loop *loop, const struct control_config *config, void (*changed)(void *context), void *context)
{
	struct sightings *sightings = calloc(1, sizeof(*sightings));
	char host[CONTROL_PREFIX_MAX] = "";

	if (!sightings || !(sightings->seen = seen_new())) {
		free(sightings);
		return NULL;
	}
	sightings->loop = loop;
	sightings->config = config;
	sightings->changed = changed;
	sightings->context = context;
	sightings->follows = *config->events && strcmp(config->events, "-") != 0;
	if (gethostname(host, sizeof(host) - 1) != 0)
		host[0] = 0;
	snprintf(sightings->by, sizeof(sightings->by), "%s", *config->id ? config->id : host);
	snprintf(sightings->prefix, sizeof(sightings->prefix), "%sseen:", config->redis_prefix);
	watch_glob(sightings->prefix, sightings->pattern, sizeof(sightings->pattern));
	follow_init(&sightings->follow, config->events, (struct follow_position){0});
	ev_timer_init(&sightings->tick, on_tick, SIGHTINGS_TICK_S, SIGHTINGS_TICK_S);
	sightings->tick.data = sightings;
	ev_timer_start(loop, &sightings->tick);
	return sightings;
}

void sightings_free(struct sightings *sightings)
{
	if (!sightings)
		return;
	ev_timer_stop(sightings->loop, &sightings->tick);
	follow_dispose(&sightings->follow);
	seen_free(sightings->seen);
	free(sightings);
}

struct seen *sightings_seen(struct sightings *sightings) { return sightings->seen; }

struct sightings_counts sightings_counts(const struct sightings *sightings)
{
	struct sightings_counts counts = sightings->counts;

	counts.skipped_bytes = sightings->follow.skipped_bytes;
	return counts;
}

json_t *sightings_remember(const struct sightings *sightings)
{
	struct follow_position at = follow_position(&sightings->follow);

	return json_pack("{s:o, s:I, s:I}", "seen", seen_remember(sightings->seen), "inode", (json_int_t)at.inode, "offset", (json_int_t)at.offset);
}

void sightings_recall(struct sightings *sightings, const json_t *memory)
{
	struct follow_position at = {(uint64_t)json_integer_value(json_object_get(memory, "inode")),
				     (uint64_t)json_integer_value(json_object_get(memory, "offset"))};

	seen_recall(sightings->seen, json_object_get(memory, "seen"), unix_now());
	follow_dispose(&sightings->follow);
	follow_init(&sightings->follow, sightings->config->events, at);
}
