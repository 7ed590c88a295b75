/*
 * watch_master.c - where the agent reads from a replica, its own findings go to the master that the replica names.
 *
 * Asked for with ROLE after a write was refused with READONLY, and again when that connection is lost, not sooner than
 * WATCH_MASTER_S later. Nothing but findings goes there; without it they are refused and counted as before. One that takes
 * them and does not answer is left after WATCH_MASTER_SILENCE_S.
 */
#include "watch_private.h"

#include <stdio.h>
#include <string.h>
#include <hiredis/adapters/libev.h>

static void on_login(redisAsyncContext *ac, void *memory, void *data)
{
	struct watch *watch = ac->data;
	const redisReply *reply = memory;

	(void)data;
	if (ac == watch->master && reply && reply->type == REDIS_REPLY_ERROR)
		watch_master_close(watch);
	else if (ac == watch->master && reply)
		watch->master_ready = true;
	if (ac == watch->master && reply) {
		watch->master_silent = false;
		watch->master_heard = ev_now(watch->loop);
	}
}

/* What was under way there may have been carried out or not: it is told again. */
static void forget(struct watch *watch)
{
	watch->counts.writes_refused += watch->master_open;
	watch->master = NULL;
	watch->master_open = 0;
	watch->master_ready = false;
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	struct watch *watch = ac->data;

	if (status != REDIS_OK && watch->master == ac) /* hiredis frees it */
		watch->master = NULL;
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct watch *watch = ac->data;

	(void)status;
	if (watch->master == ac)
		forget(watch);
}

void watch_master_close(struct watch *watch)
{
	redisAsyncContext *ac = watch->master;

	forget(watch);
	if (ac)
		redisAsyncFree(ac);
}

void watch_master_tick(struct watch *watch, bool late)
{
	double now = ev_now(watch->loop);

	if (late)
		watch->master_heard = now;
	if (!watch->master || (watch->master_ready && !watch->master_open) || now - watch->master_heard <= WATCH_MASTER_SILENCE_S)
		return;
	snprintf(watch->write_error, sizeof(watch->write_error), "the master %.100s:%d: no answer for %.0f s", watch->master->c.tcp.host,
		 watch->master->c.tcp.port, WATCH_MASTER_SILENCE_S);
	watch->refused_verb = 'H'; /* HSET: what is written most takes it back */
	watch->master_silent = true;
	watch_master_close(watch);
}

static void master_open(struct watch *watch, const char *host, int port)
{
	const struct control_config *config = watch->config;
	redisAsyncContext *ac = redisAsyncConnect(host, port);

	if (!ac || ac->err) {
		if (ac)
			redisAsyncFree(ac);
		return;
	}
	ac->data = watch;
	watch->master = ac;
	watch->master_heard = ev_now(watch->loop);
	redisLibevAttach(watch->loop, ac);
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	if (config->redis_user[0])
		redisAsyncCommand(ac, on_login, NULL, "AUTH %s %s", config->redis_user, config->redis_password);
	else if (config->redis_password[0])
		redisAsyncCommand(ac, on_login, NULL, "AUTH %s", config->redis_password);
	redisAsyncCommand(ac, on_login, NULL, "SELECT %u", config->redis_database);
}

/* "slave", the master's host and port, ... */
static void on_role(redisAsyncContext *ac, void *memory, void *data)
{
	struct watch *watch = ac->data;
	const redisReply *reply = memory;

	(void)data;
	if (!reply || ac != watch->line[COMMANDS] || watch->master || reply->type != REDIS_REPLY_ARRAY || reply->elements < 3 ||
	    reply->element[0]->type != REDIS_REPLY_STRING || strcmp(reply->element[0]->str, "slave") != 0 ||
	    reply->element[1]->type != REDIS_REPLY_STRING || reply->element[2]->type != REDIS_REPLY_INTEGER)
		return;
	master_open(watch, reply->element[1]->str, (int)reply->element[2]->integer);
}

void watch_master_wanted(struct watch *watch)
{
	double now = ev_now(watch->loop);

	if (watch->master || now - watch->master_asked < WATCH_MASTER_S || !watch->line[COMMANDS])
		return;
	watch->master_asked = now;
	redisAsyncCommand(watch->line[COMMANDS], on_role, NULL, "ROLE");
}
