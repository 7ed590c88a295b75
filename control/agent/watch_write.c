/*
 * watch_write.c - commands of the agent's own on the line of commands: findings that are written, and questions.
 *
 * Enters: commands, while the watch is live. Leaves: counts, and the answers to who asked. A refusal ends nothing.
 */
#include "watch_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_written(redisAsyncContext *ac, void *memory, void *data)
{
	const redisReply *reply = memory;
	struct watch *watch = ac->data;

	if (ac->data && ac == watch->line[COMMANDS] && reply)
		watch->heard[COMMANDS] = ev_now(watch->loop);
	if (ac == watch->master && reply) {
		watch->master_heard = ev_now(watch->loop);
		watch->master_open--;
	}
	watch->writes -= watch->writes > 0;
	if (!reply)
		return;
	if (reply->type != REDIS_REPLY_ERROR) {
		if (watch->refused_verb == (intptr_t)data) /* another command may be allowed all the time */
			watch->write_error[0] = 0;
		return;
	}
	watch->counts.writes_refused++;
	watch->refused_verb = (intptr_t)data;
	bool read_only = !strncmp(reply->str, "READONLY", 8);
	if (!read_only || !watch->master_silent) /* else why it comes to the replica at all is the news */
		snprintf(watch->write_error, sizeof(watch->write_error), "%.200s", reply->str);
	if (read_only)
		watch_master_wanted(watch);
}

bool watch_write(struct watch *watch, int argc, const char *const *argv)
{
	if (watch->state != WATCH_LIVE || !watch->line[COMMANDS] || watch->writes == WATCH_WRITES_MAX)
		return false;
	redisAsyncContext *ac = watch->master_ready ? watch->master : watch->line[COMMANDS];
	if (redisAsyncCommandArgv(ac, on_written, (void *)(intptr_t)argv[0][0], argc, (const char **)argv, NULL) != REDIS_OK)
		return false;
	watch->writes++;
	watch->counts.writes++;
	if (ac == watch->master && !watch->master_open++)
		watch->master_heard = ev_now(watch->loop); /* until now there was nothing to say */
	return true;
}

struct asked {
	watch_replied *replied;
	void *context;
	uint64_t token;
};

static void on_replied(redisAsyncContext *ac, void *reply, void *data)
{
	struct watch *watch = ac->data;
	struct asked *asked = data;

	if (reply && ac == watch->line[COMMANDS]) {
		watch->heard[COMMANDS] = ev_now(watch->loop);
		watch->writes--;
	}
	asked->replied(asked->context, asked->token, reply);
	free(asked);
}

bool watch_ask(struct watch *watch, int argc, const char *const *argv, watch_replied *replied, void *context, uint64_t token)
{
	struct asked *asked = NULL;

	if (watch->state == WATCH_LIVE && watch->line[COMMANDS] && watch->writes < WATCH_WRITES_MAX)
		asked = malloc(sizeof(*asked));
	if (!asked)
		return false;
	*asked = (struct asked){replied, context, token};
	if (redisAsyncCommandArgv(watch->line[COMMANDS], on_replied, asked, argc, (const char **)argv, NULL) != REDIS_OK) {
		free(asked);
		return false;
	}
	watch->writes++;
	return true;
}

const char *watch_write_error(const struct watch *watch) { return watch->write_error; }
