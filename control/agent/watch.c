/*
 * watch.c - the two connections and what goes over them.
 *
 * Order is what makes it right: tracking is on before the first SCAN, so a change during the reading is
 * announced; an announced key is fetched after the announcement, so the answer is at least as new; and
 * answers of one connection come in order, so the last one counts.
 *
 * Callbacks of hiredis with a null reply belong to a connection that is being freed: they do nothing.
 */
#include "watch_private.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/adapters/libev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INVALIDATE "__redis__:invalidate"
#define SCAN_COUNT "1000"
#define KEY_LEN_MAX 1024 /* longer ones name no rule */

const char *watch_state_name(enum watch_state state)
{
	switch (state) {
	case WATCH_PAUSED: return "down";
	case WATCH_CONNECTING: return "connecting";
	case WATCH_READING: return "reading";
	case WATCH_LIVE: return "live";
	}
	return "?";
}

static void enter_state(struct watch *watch, enum watch_state state)
{
	static const unsigned edges[] = {
		[WATCH_PAUSED] = 1u << WATCH_CONNECTING,
		[WATCH_CONNECTING] = 1u << WATCH_PAUSED | 1u << WATCH_READING,
		[WATCH_READING] = 1u << WATCH_PAUSED | 1u << WATCH_LIVE,
		[WATCH_LIVE] = 1u << WATCH_PAUSED,
	};

	assert(edges[watch->state] & 1u << state);
	watch->state = state;
	watch->ops->state(watch->context);
}

/* Ends both connections and waits before the next attempt. Safe inside callbacks of either one. */
__attribute__((format(printf, 2, 3))) static void fail(struct watch *watch, const char *format, ...)
{
	va_list args;

	if (watch->state == WATCH_PAUSED)
		return;
	va_start(args, format);
	vsnprintf(watch->error, sizeof(watch->error), format, args);
	va_end(args);
	for (enum line l = COMMANDS; l < LINES; l++) {
		redisAsyncContext *ac = watch->line[l];
		watch->line[l] = NULL; /* its disconnect callback then knows that this was us */
		if (ac)
			redisAsyncFree(ac);
	}
	if (watch->sentinel)
		sentinel_forget(watch->sentinel);
	watch_master_close(watch);
	ev_timer_stop(watch->loop, &watch->tick);
	ev_timer_stop(watch->loop, &watch->settle);
	keyqueue_dispose(&watch->queue);
	watch->under_way = watch->writes = 0;
	watch->wanted = watch->fetched = watch->subscribed = watch->confirmed = 0;
	watch->telling = (struct watch_telling){0};
	watch->scanning = watch->read = watch->syncing = false;
	watch->counts.failures++;
	ev_timer_set(&watch->retry, watch->pause, 0);
	ev_timer_start(watch->loop, &watch->retry);
	watch->pause = watch->pause * 2 > WATCH_PAUSE_MAX_S ? WATCH_PAUSE_MAX_S : watch->pause * 2;
	enter_state(watch, WATCH_PAUSED);
}

/* The watch, if this answer is one to look at: notes that the line is alive, and ends it all on an error. */
static struct watch *answered(redisAsyncContext *ac, const redisReply *reply, const char *what)
{
	struct watch *watch = ac->data;

	if (!reply || (ac != watch->line[COMMANDS] && ac != watch->line[INVALIDATIONS]))
		return NULL;
	watch->heard[ac == watch->line[INVALIDATIONS]] = ev_now(watch->loop);
	if (reply->type == REDIS_REPLY_ERROR) {
		fail(watch, "Redis %s: %s: %.150s", watch->config->redis_address, what, reply->str);
		return NULL;
	}
	return watch;
}

/* The key is there, and of another type than was asked for. */
static bool is_wrong_type(const redisReply *reply)
{
	return reply && reply->type == REDIS_REPLY_ERROR && !strncmp(reply->str, "WRONGTYPE", 9);
}

/* ---- reading ---- */

static void fetch_more(struct watch *watch);
static void on_generation(redisAsyncContext *ac, void *memory, void *data);
static void on_message(redisAsyncContext *ac, void *memory, void *data);

/* Once for what it says, and again as that line's PING and fence. `data` (of the first): the client's number. */
static void subscribe(struct watch *watch, void *data)
{
	watch->subscribed++;
	redisAsyncCommand(watch->line[INVALIDATIONS], on_message, data, "SUBSCRIBE " INVALIDATE);
}

/* Redis tells each prefix's keys apart, the generation before the rules, and on another line than it answers on. So a
 * generation that was read is told only when the rules of its transaction have been read as well: what had been said on the
 * line of invalidations when GET was answered stands in front of a SUBSCRIBE that is sent now. */
static void ask_generation(struct watch *watch)
{
	struct watch_telling *telling = &watch->telling;

	if (telling->step != TELLING_NOTHING) {
		telling->again = true;
		return;
	}
	telling->again = false;
	telling->step = TELLING_ASKED;
	redisAsyncCommand(watch->line[COMMANDS], on_generation, NULL, "GET %s", watch->generation_key);
}

static void on_generation(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = ac->data;
	char *end = NULL;

	(void)data;
	/* There, but no number: somebody's text, or of another type. Neither may stop the rules. */
	bool wrong_type = is_wrong_type(reply);
	if (!wrong_type && !answered(ac, reply, "GET of the generation"))
		return;
	if (ac != watch->line[COMMANDS])
		return;
	watch->heard[COMMANDS] = ev_now(watch->loop);
	struct watch_telling *telling = &watch->telling;
	telling->present = wrong_type || reply->type == REDIS_REPLY_STRING;
	telling->generation = telling->present && !wrong_type ? strtoull(reply->str, &end, 10) : 0;
	if (end && (end == reply->str || *end))
		telling->generation = 0;
	telling->step = TELLING_FENCED;
	subscribe(watch, NULL);
	telling->fence = watch->subscribed;
}

static void end_reading(struct watch *watch)
{
	watch->read = watch->syncing = false;
	watch->synced_at = ev_now(watch->loop);
	watch->counts.syncs++;
	watch->ops->sync_end(watch->context);
	if (watch->state == WATCH_READING) {
		watch->error[0] = 0;
		watch->pause = WATCH_PAUSE_MIN_S;
		enter_state(watch, WATCH_LIVE);
	}
}

/* Goes on as far as what has arrived lets it. */
static void tell_generation(struct watch *watch)
{
	struct watch_telling *telling = &watch->telling;

	if (telling->step == TELLING_FENCED && watch->confirmed >= telling->fence) {
		telling->step = TELLING_READS;
		telling->behind = watch->wanted;
	}
	if (telling->step != TELLING_READS || watch->fetched < telling->behind)
		return;
	telling->step = TELLING_NOTHING;
	watch->ops->generation(watch->context, telling->present, telling->generation);
	if (watch->read)
		end_reading(watch);
	if (telling->again)
		ask_generation(watch);
}

static void take_hash(struct watch *watch, const char *key, const redisReply *reply)
{
	struct rule_field fields[WATCH_FIELDS_MAX];
	size_t count = reply->elements / 2;

	if (reply->elements == 0) {
		watch->ops->gone(watch->context, key);
		return;
	}
	if (count > WATCH_FIELDS_MAX) {
		watch->ops->wrong(watch->context, key, "has more than 256 attributes; a rule has a few");
		return;
	}
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *text = reply->element[i];
		if (text->type != REDIS_REPLY_STRING || strlen(text->str) != (size_t)text->len) {
			watch->ops->wrong(watch->context, key, "holds a zero byte; attributes and values are text");
			return;
		}
		*(i % 2 ? &fields[i / 2].value : &fields[i / 2].name) = text->str;
	}
	watch->ops->hash(watch->context, key, fields, count);
}

static void on_hash(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = ac->data;
	char *key = data;
	bool wrong_type = is_wrong_type(reply);

	if (ac == watch->line[COMMANDS] && (wrong_type || answered(ac, reply, "HGETALL"))) {
		watch->heard[COMMANDS] = ev_now(watch->loop);
		watch->under_way--;
		watch->fetched++;
		if (wrong_type)
			watch->ops->wrong(watch->context, key, "is not a hash; write it with HSET or waxseal policy set");
		else if (reply->type == REDIS_REPLY_ARRAY)
			take_hash(watch, key, reply);
		fetch_more(watch);
		tell_generation(watch);
	}
	free(key);
}

static void fetch_more(struct watch *watch)
{
	while (watch->under_way < WATCH_PIPELINE_MAX) {
		char *key = keyqueue_pop(&watch->queue);
		if (!key)
			break;
		if (redisAsyncCommand(watch->line[COMMANDS], on_hash, key, "HGETALL %s", key) != REDIS_OK) {
			free(key);
			fail(watch, "Redis %s: cannot send", watch->config->redis_address);
			return;
		}
		watch->under_way++;
		watch->counts.fetches++;
	}
	if (watch->syncing && !watch->scanning && !watch->under_way && !watch->read) {
		watch->read = true;
		ask_generation(watch);
	}
}

static void want_key(struct watch *watch, const redisReply *key)
{
	if (key->type != REDIS_REPLY_STRING || (size_t)key->len > KEY_LEN_MAX || strlen(key->str) != (size_t)key->len)
		return;
	if (watch->ops->wants(watch->context, key->str) && keyqueue_push(&watch->queue, key->str))
		watch->wanted++;
}

static void on_scan(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = answered(ac, reply, "SCAN");

	(void)data;
	if (!watch)
		return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_ARRAY) {
		fail(watch, "Redis %s: SCAN: an answer that is none", watch->config->redis_address);
		return;
	}
	for (size_t i = 0; i < reply->element[1]->elements; i++)
		want_key(watch, reply->element[1]->element[i]);
	watch->scanning = strcmp(reply->element[0]->str, "0") != 0;
	if (watch->scanning)
		redisAsyncCommand(ac, on_scan, NULL, "SCAN %s MATCH %s COUNT " SCAN_COUNT, reply->element[0]->str, watch->pattern);
	fetch_more(watch);
}

static void sync_start(struct watch *watch)
{
	if (watch->syncing) { /* the running one may be past what changed */
		watch_resync(watch);
		return;
	}
	watch->syncing = watch->scanning = true;
	watch->ops->sync_begin(watch->context);
	redisAsyncCommand(watch->line[COMMANDS], on_scan, NULL, "SCAN 0 MATCH %s COUNT " SCAN_COUNT, watch->pattern);
}

static void on_settled(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	sync_start(timer->data);
}

void watch_resync(struct watch *watch)
{
	if (watch->state != WATCH_LIVE && watch->state != WATCH_READING)
		return; /* a new connection begins with one */
	ev_timer_stop(watch->loop, &watch->settle);
	ev_timer_set(&watch->settle, WATCH_SETTLE_S, 0);
	ev_timer_start(watch->loop, &watch->settle);
}

/* ---- invalidations ---- */

static void on_invalidations(struct watch *watch, const redisReply *keys)
{
	watch->counts.invalidations++;
	if (keys->type == REDIS_REPLY_NIL) { /* FLUSHALL, FLUSHDB */
		watch->ops->flushed(watch->context);
		watch_resync(watch);
		return;
	}
	for (size_t i = 0; keys->type == REDIS_REPLY_ARRAY && i < keys->elements; i++) {
		const redisReply *key = keys->element[i];
		if (key->type == REDIS_REPLY_STRING && !strcmp(key->str, watch->generation_key))
			ask_generation(watch);
		else
			want_key(watch, key);
	}
	fetch_more(watch);
}

static void on_tracking(redisAsyncContext *ac, void *memory, void *data)
{
	struct watch *watch = answered(ac, memory, "CLIENT TRACKING (Redis 6 or later is needed)");

	(void)data;
	if (!watch)
		return;
	enter_state(watch, WATCH_READING);
	sync_start(watch);
}

static void start_tracking(struct watch *watch, long long redirect)
{
	/* Not the whole prefix: other appliances' heartbeats and the agents' own findings change all the time. */
	const char *p = watch->config->redis_prefix;

	redisAsyncCommand(watch->line[COMMANDS], on_tracking, NULL,
			  "CLIENT TRACKING ON REDIRECT %lld BCAST PREFIX %spolicy: PREFIX %sprovider: PREFIX %sclient: "
			  "PREFIX %sinbound: PREFIX %sgeneration", redirect, p, p, p, p, p);
}

/* The subscription's confirmation, repeated ones (they are this line's PING), and invalidations. */
static void on_message(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = answered(ac, reply, "SUBSCRIBE");

	if (!watch || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_STRING)
		return;
	if (!strcmp(reply->element[0]->str, "message"))
		on_invalidations(watch, reply->element[2]);
	else if (!strcmp(reply->element[0]->str, "subscribe"))
		watch->confirmed++;
	if (data && watch->state == WATCH_CONNECTING)
		start_tracking(watch, (long long)(intptr_t)data);
	else
		tell_generation(watch);
}

static void on_client_id(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = answered(ac, reply, "CLIENT ID");

	(void)data;
	if (watch && reply->type == REDIS_REPLY_INTEGER)
		subscribe(watch, (void *)(intptr_t)reply->integer);
	else if (watch)
		fail(watch, "Redis %s: CLIENT ID: an answer that is none", watch->config->redis_address);
}

/* ---- the connections ---- */

static void on_auth(redisAsyncContext *ac, void *memory, void *data)
{
	(void)data;
	answered(ac, memory, "AUTH ([redis] user and password)");
}

static void on_select(redisAsyncContext *ac, void *memory, void *data)
{
	(void)data;
	answered(ac, memory, "SELECT ([redis] database)");
}

static void on_pong(redisAsyncContext *ac, void *memory, void *data)
{
	(void)data;
	answered(ac, memory, "PING");
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	struct watch *watch = ac->data;

	for (enum line l = COMMANDS; l < LINES; l++) {
		if (watch->line[l] != ac)
			continue;
		watch->heard[l] = ev_now(watch->loop);
		if (status != REDIS_OK) {
			watch->line[l] = NULL; /* hiredis frees it */
			fail(watch, "Redis %s: %s", watch->config->redis_address, ac->errstr);
		}
	}
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct watch *watch = ac->data;

	for (enum line l = COMMANDS; l < LINES; l++) {
		if (watch->line[l] != ac)
			continue;
		watch->line[l] = NULL;
		fail(watch, "Redis %s: %s", watch->config->redis_address, status == REDIS_OK ? "closed" : ac->errstr);
	}
}

static int line_open(struct watch *watch, enum line l)
{
	const struct control_config *config = watch->config;
	redisAsyncContext *ac = config->redis_unix[0] ? redisAsyncConnectUnix(config->redis_unix)
						      : redisAsyncConnect(watch->host, watch->port);

	if (!ac || ac->err) {
		fail(watch, "Redis %s: %s", config->redis_address, ac ? ac->errstr : "no memory");
		if (ac)
			redisAsyncFree(ac);
		return -EIO;
	}
	ac->data = watch;
	watch->line[l] = ac;
	watch->heard[l] = ev_now(watch->loop);
	redisLibevAttach(watch->loop, ac);
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	if (config->redis_user[0])
		redisAsyncCommand(ac, on_auth, NULL, "AUTH %s %s", config->redis_user, config->redis_password);
	else if (config->redis_password[0])
		redisAsyncCommand(ac, on_auth, NULL, "AUTH %s", config->redis_password);
	return 0;
}

/* A Sentinel may not have heard yet, and an old master may be back: it says itself what it is. */
static void on_role(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = answered(ac, reply, "ROLE");

	(void)data;
	if (!watch)
		return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    strcmp(reply->element[0]->str, "master") != 0)
		fail(watch, "Redis %s: %.60s:%u is no master", watch->config->redis_address, watch->host, watch->port);
}

static void lines_open(struct watch *watch)
{
	if (line_open(watch, COMMANDS) < 0 || line_open(watch, INVALIDATIONS) < 0)
		return;
	if (watch->sentinel)
		redisAsyncCommand(watch->line[COMMANDS], on_role, NULL, "ROLE");
	if (watch->config->redis_database)
		redisAsyncCommand(watch->line[COMMANDS], on_select, NULL, "SELECT %u", watch->config->redis_database);
	redisAsyncCommand(watch->line[INVALIDATIONS], on_client_id, NULL, "CLIENT ID");
}

static void on_master(void *context, const char *host, uint16_t port, const char *why)
{
	struct watch *watch = context;

	if (!host) {
		fail(watch, "Redis %s: %s", watch->config->redis_address, why);
		return;
	}
	snprintf(watch->host, sizeof(watch->host), "%s", host);
	watch->port = port;
	lines_open(watch);
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct watch *watch = timer->data;

	(void)events;
	ev_now_update(loop);
	watch->counts.connects++;
	enter_state(watch, WATCH_CONNECTING);
	watch->ticked = ev_now(loop);
	ev_timer_again(loop, &watch->tick);
	if (watch->sentinel)
		sentinel_ask(watch->sentinel);
	else
		lines_open(watch);
}

/* A stopped server or a cut cable says nothing at all: ask, and take silence for an answer. */
static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct watch *watch = timer->data;
	double now = ev_now(loop);

	(void)events;
	/* It was this process that stood still (stopped, or the whole machine): the answers may be waiting. */
	bool late = now - watch->ticked > WATCH_PING_S;
	watch->ticked = now;
	for (enum line l = COMMANDS; l < LINES; l++) {
		if (late || !watch->line[l])
			watch->heard[l] = now;
		if (now - watch->heard[l] > WATCH_SILENCE_S) {
			fail(watch, "Redis %s: no answer for %.0f s", watch->config->redis_address, WATCH_SILENCE_S);
			return;
		}
	}
	watch_master_tick(watch, late);
	if (watch->state == WATCH_CONNECTING || now - watch->asked < WATCH_PING_S)
		return;
	watch->asked = now;
	redisAsyncCommand(watch->line[COMMANDS], on_pong, NULL, "PING");
	subscribe(watch, NULL);
	if (watch->state == WATCH_LIVE && !watch->syncing && now - watch->synced_at > WATCH_RESYNC_S)
		sync_start(watch);
}

void watch_glob(const char *prefix, char *out, size_t out_len)
{
	char *end = out + out_len - 2;

	for (const char *p = prefix; *p && out + 1 < end; p++) {
		if (strchr("*?[]\\^-", *p))
			*out++ = '\\';
		*out++ = *p;
	}
	*out++ = '*';
	*out = 0;
}

struct watch *watch_new(struct ev_loop *loop, const struct control_config *config, const struct watch_ops *ops, void *context)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	*watch = (struct watch){.loop = loop, .config = config, .ops = ops, .context = context, .pause = WATCH_PAUSE_MIN_S, .port = config->redis_port};
	snprintf(watch->host, sizeof(watch->host), "%s", config->redis_host);
	if (config->redis_master[0]) {
		watch->sentinel = sentinel_new(loop, config, on_master, watch);
		if (!watch->sentinel) {
			free(watch);
			return NULL;
		}
	}
	watch_glob(config->redis_prefix, watch->pattern, sizeof(watch->pattern));
	snprintf(watch->generation_key, sizeof(watch->generation_key), "%sgeneration", config->redis_prefix);
	keyqueue_init(&watch->queue);
	ev_timer_init(&watch->tick, on_tick, 0, WATCH_TICK_S);
	ev_timer_init(&watch->retry, on_retry, 0, 0);
	ev_timer_init(&watch->settle, on_settled, 0, 0);
	watch->tick.data = watch->retry.data = watch->settle.data = watch;
	ev_timer_start(loop, &watch->retry);
	return watch;
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	for (enum line l = COMMANDS; l < LINES; l++) {
		redisAsyncContext *ac = watch->line[l];
		watch->line[l] = NULL;
		if (ac)
			redisAsyncFree(ac);
	}
	watch_master_close(watch);
	ev_timer_stop(watch->loop, &watch->tick);
	ev_timer_stop(watch->loop, &watch->retry);
	ev_timer_stop(watch->loop, &watch->settle);
	keyqueue_dispose(&watch->queue);
	sentinel_free(watch->sentinel);
	free(watch);
}

enum watch_state watch_state(const struct watch *watch) { return watch->state; }
bool watch_busy(const struct watch *watch) { return watch->fetched != watch->wanted || watch->telling.step != TELLING_NOTHING; }
bool watch_syncing(const struct watch *watch) { return watch->syncing || ev_is_active(&watch->settle); }
const char *watch_error(const struct watch *watch) { return watch->error; }
const struct watch_counts *watch_counts(const struct watch *watch) { return &watch->counts; }
