/*
 * watch.h - Redis as a stream of events: all rule keys first, then only what changed.
 *
 * Enters: the configuration, an ev_loop. Leaves: calls of watch_ops. Two connections: commands, and one
 * subscribed to __redis__:invalidate, to which the first one's CLIENT TRACKING ... BCAST is redirected
 * (RESP2; nothing on the server has to be configured). Whatever goes wrong, silence included, ends both
 * connections; after a pause that doubles they are made anew and everything is read again.
 */
#ifndef WAXSEAL_WATCH_H
#define WAXSEAL_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/config.h"
#include "../policy/rules.h"

#define WATCH_TICK_S 0.25
#define WATCH_PING_S 1.0
#define WATCH_SILENCE_S 3.0         /* without any answer: the connection is dead */
#define WATCH_PAUSE_MIN_S 0.1
#define WATCH_PAUSE_MAX_S 2.0
#define WATCH_RESYNC_S 300.0        /* everything is read again, in case an invalidation was missed */
#define WATCH_SETTLE_S 0.3          /* from a flush to reading again: whoever flushes often loads at once */
#define WATCH_PIPELINE_MAX 256      /* HGETALLs under way */
#define WATCH_FIELDS_MAX 256        /* of one hash; no rule has nearly as many */
#define WATCH_ERROR_MAX 256

#define WATCH_PATTERN_MAX (2 * CONTROL_PREFIX_MAX + 32)
#define WATCH_MASTER_S 5.0          /* between two attempts to reach the master of a replica */
#define WATCH_MASTER_SILENCE_S 3.0  /* it takes what is written and says nothing: it is left, and what was under way counts as refused */
#define WATCH_WRITES_MAX 4096       /* the agent's own findings under way */

enum watch_state {
	WATCH_PAUSED,     /* until the next attempt */
	WATCH_CONNECTING, /* both connections, login, subscription, tracking */
	WATCH_READING,    /* SCAN and HGETALL of everything */
	WATCH_LIVE,       /* in step; a later reading of everything happens within this state */
};
const char *watch_state_name(enum watch_state state);

struct watch_ops {
	bool (*wants)(void *context, const char *redis_key);
	void (*hash)(void *context, const char *redis_key, const struct rule_field *fields, size_t count);
	void (*wrong)(void *context, const char *redis_key, const char *why);
	void (*gone)(void *context, const char *redis_key);
	void (*flushed)(void *context);
	/* Behind the rules that were written with it or before. */
	void (*generation)(void *context, bool present, uint64_t generation);
	void (*sync_begin)(void *context);
	void (*sync_end)(void *context);
	void (*state)(void *context); /* changed, or the error did */
};

struct watch_counts {
	uint64_t connects, failures, invalidations, syncs, fetches, writes, writes_refused;
};

struct ev_loop;
struct watch;

struct watch *watch_new(struct ev_loop *loop, const struct control_config *config, const struct watch_ops *ops, void *context);
void watch_free(struct watch *watch);
void watch_resync(struct watch *watch); /* read everything again, WATCH_SETTLE_S from now */

/* Sends one command, of the agent's own findings, and does not wait. A refusal (a replica, a user who may not write, a
 * full memory) is counted and ends nothing. False: not live, or too many are under way; try again later. */
bool watch_write(struct watch *watch, int argc, const char *const *argv);
/* Sends one command and calls back with its reply, whatever it is, or with NULL if none will come; from the loop, never from
 * within. False as above. */
struct redisReply;
typedef void watch_replied(void *context, uint64_t token, const struct redisReply *reply);
bool watch_ask(struct watch *watch, int argc, const char *const *argv, watch_replied *replied, void *context, uint64_t token);
void watch_glob(const char *prefix, char *out, size_t out_len); /* SCAN's pattern for all keys that begin so */
const char *watch_write_error(const struct watch *watch); /* of the last write that was answered; "" */

enum watch_state watch_state(const struct watch *watch);
bool watch_busy(const struct watch *watch);    /* rules that have changed are being read, or the generation is */
bool watch_syncing(const struct watch *watch); /* between sync_begin and sync_end, or about to be */
const char *watch_error(const struct watch *watch); /* of the last failure; "" while live */
const struct watch_counts *watch_counts(const struct watch *watch);

#endif
