/* watch_private.h - the state that watch.c, watch_write.c and watch_master.c share. */
#ifndef WAXSEAL_WATCH_PRIVATE_H
#define WAXSEAL_WATCH_PRIVATE_H

#include "watch.h"

#include <ev.h>
#include <hiredis/async.h>

#include "keyqueue.h"
#include "sentinel.h"

enum line { COMMANDS, INVALIDATIONS, LINES };

/* What has been read of the generation, and what it waits for. */
struct watch_telling {
	enum { TELLING_NOTHING, TELLING_ASKED, TELLING_FENCED, TELLING_READS } step;
	bool again; /* it was changed meanwhile */
	bool present;
	uint64_t generation;
	uint64_t fence;  /* which SUBSCRIBE */
	uint64_t behind; /* how many reads */
};

struct watch {
	struct ev_loop *loop;
	const struct control_config *config;
	const struct watch_ops *ops;
	void *context;
	enum watch_state state;
	struct sentinel *sentinel; /* NULL: the address is in the configuration */
	char host[CONTROL_TEXT_MAX];
	uint16_t port;
	redisAsyncContext *line[LINES]; /* both NULL while connecting: Sentinels are being asked */
	redisAsyncContext *master;      /* of the replica that the lines are with; NULL */
	bool master_ready, master_silent; /* silent: when it was left last */
	unsigned master_open;             /* writes under way there */
	double master_asked, master_heard;
	double heard[LINES]; /* when each last answered */
	double asked;        /* last PING */
	double ticked;
	ev_timer tick, retry, settle;
	double pause, synced_at;
	struct keyqueue queue;
	unsigned under_way, writes;
	/* On these connections: keys queued, and read; SUBSCRIBEs sent, and confirmed. Each in its order. */
	uint64_t wanted, fetched, subscribed, confirmed;
	struct watch_telling telling;
	intptr_t refused_verb; /* first letter of the write that was refused last */
	bool scanning, syncing;
	bool read; /* all of it; the reading ends with the generation */
	char pattern[WATCH_PATTERN_MAX], generation_key[CONTROL_PREFIX_MAX + 16];
	char error[WATCH_ERROR_MAX], write_error[WATCH_ERROR_MAX];
	struct watch_counts counts;
};

/* watch_master.c */
void watch_master_wanted(struct watch *watch); /* a write was refused with READONLY */
void watch_master_close(struct watch *watch);
void watch_master_tick(struct watch *watch, bool late); /* leaves it where it is silent; `late`: it was this process that stood still */

#endif
