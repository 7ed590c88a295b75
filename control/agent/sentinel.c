/*
 * sentinel.c - one connection at a time: asked, answered or given up, and then the next of the list.
 *
 * A failure goes by way of the timer, so that nothing is freed or told from within a callback of hiredis.
 */
#include "sentinel.h"

#include <ev.h>
#include <hiredis/adapters/libev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sentinel {
	struct ev_loop *loop;
	const struct control_config *config;
	sentinel_told *told;
	void *context;
	redisAsyncContext *line; /* NULL: none is being asked */
	ev_timer timer;          /* until it is given up */
	unsigned at, asked;      /* the one that is asked; how many have been */
	char why[SENTINEL_WHY_MAX];
};

static void hang_up(struct sentinel *sentinel)
{
	redisAsyncContext *line = sentinel->line;

	sentinel->line = NULL; /* its callbacks then know that this was us */
	if (line)
		redisAsyncFree(line);
	ev_timer_stop(sentinel->loop, &sentinel->timer);
}

static void wait(struct sentinel *sentinel, double seconds)
{
	ev_timer_stop(sentinel->loop, &sentinel->timer);
	ev_timer_set(&sentinel->timer, seconds, 0);
	ev_timer_start(sentinel->loop, &sentinel->timer);
}

static void give_up(struct sentinel *sentinel, const char *why)
{
	char host[CONTROL_TEXT_MAX] = "?";
	uint16_t port = 0;

	control_sentinel(sentinel->config, sentinel->at, host, &port);
	snprintf(sentinel->why, sizeof(sentinel->why), "Sentinel %.60s:%u: %.80s", host, port, why);
	wait(sentinel, 0);
}

static void on_reply(redisAsyncContext *line, void *memory, void *data)
{
	struct sentinel *sentinel = line->data;
	const redisReply *reply = memory;
	char host[CONTROL_TEXT_MAX], *end;

	(void)data;
	if (!reply || line != sentinel->line)
		return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING || (size_t)reply->element[0]->len >= sizeof(host)) {
		give_up(sentinel, reply->type == REDIS_REPLY_ERROR ? reply->str : "knows no master of that name");
		return;
	}
	unsigned long port = strtoul(reply->element[1]->str, &end, 10);
	if (*end || port < 1 || port > UINT16_MAX) {
		give_up(sentinel, "an answer that is none");
		return;
	}
	snprintf(host, sizeof(host), "%s", reply->element[0]->str);
	hang_up(sentinel);
	sentinel->told(sentinel->context, host, (uint16_t)port, "");
}

static void on_connect(const redisAsyncContext *line, int status)
{
	struct sentinel *sentinel = line->data;

	if (status == REDIS_OK || line != sentinel->line)
		return;
	sentinel->line = NULL; /* hiredis frees it */
	give_up(sentinel, line->errstr);
}

static void on_disconnect(const redisAsyncContext *line, int status)
{
	struct sentinel *sentinel = line->data;

	if (line != sentinel->line)
		return;
	sentinel->line = NULL;
	give_up(sentinel, status == REDIS_OK ? "closed" : line->errstr);
}

static void ask_one(struct sentinel *sentinel)
{
	char host[CONTROL_TEXT_MAX];
	uint16_t port;

	if (!control_sentinel(sentinel->config, sentinel->at, host, &port)) {
		sentinel->at = 0;
		control_sentinel(sentinel->config, 0, host, &port);
	}
	sentinel->asked++;
	redisAsyncContext *line = redisAsyncConnect(host, port);
	if (!line || line->err) {
		give_up(sentinel, line ? line->errstr : "no memory");
		if (line)
			redisAsyncFree(line);
		return;
	}
	line->data = sentinel;
	sentinel->line = line;
	redisLibevAttach(sentinel->loop, line);
	redisAsyncSetConnectCallback(line, on_connect);
	redisAsyncSetDisconnectCallback(line, on_disconnect);
	redisAsyncCommand(line, on_reply, NULL, "SENTINEL get-master-addr-by-name %s", sentinel->config->redis_master);
	wait(sentinel, SENTINEL_TIMEOUT_S);
}

static unsigned count(const struct sentinel *sentinel)
{
	char host[CONTROL_TEXT_MAX];
	uint16_t port;
	unsigned n = 0;

	while (control_sentinel(sentinel->config, n, host, &port))
		n++;
	return n;
}

/* This one has had its time, or has failed. */
static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct sentinel *sentinel = timer->data;

	(void)loop;
	(void)events;
	if (sentinel->line)
		give_up(sentinel, "no answer");
	hang_up(sentinel);
	sentinel->at++;
	if (sentinel->asked < count(sentinel))
		ask_one(sentinel);
	else
		sentinel->told(sentinel->context, NULL, 0, sentinel->why);
}

void sentinel_ask(struct sentinel *sentinel)
{
	hang_up(sentinel);
	sentinel->asked = 0;
	ask_one(sentinel);
}

void sentinel_forget(struct sentinel *sentinel)
{
	hang_up(sentinel);
}

struct sentinel *sentinel_new(struct ev_loop *loop, const struct control_config *config, sentinel_told *told, void *context)
{
	struct sentinel *sentinel = calloc(1, sizeof(*sentinel));

	if (!sentinel)
		return NULL;
	*sentinel = (struct sentinel){.loop = loop, .config = config, .told = told, .context = context};
	ev_timer_init(&sentinel->timer, on_timer, 0, 0);
	sentinel->timer.data = sentinel;
	return sentinel;
}

void sentinel_free(struct sentinel *sentinel)
{
	if (!sentinel)
		return;
	hang_up(sentinel);
	free(sentinel);
}
