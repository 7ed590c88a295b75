/*
 * agent.h - waxseal-agent: Redis in, policy image out, and what it says about itself.
 *
 * Enters: events of watch/, what the DNS says (domains.h). Leaves: the image, agent-rules.json (memory.h),
 * agent.json and /metrics (report.h), and its findings and presence in Redis. An image is written only when the store is in step with Redis, or from what was in force.
 */
#ifndef WAXSEAL_AGENT_H
#define WAXSEAL_AGENT_H

#include "../policy/config.h"
#include "debounce.h"
#include "domains.h"
#include "presence.h"
#include "store.h"
#include "watch.h"

#define AGENT_VERSION "0.1"
#define AGENT_HEARTBEAT_S 1.0
#define AGENT_RETRY_S 1.0 /* after an image could not be written */
#define AGENT_DNS_SHARE 4     /* an image that the DNS asks for waits this many times as long as the last one took */
#define AGENT_SAVE_S 5.0      /* until the memory follows an image, where publishing is slower than */
#define AGENT_QUICK_S 0.1     /* ... this, and no rule is new or there are */
#define AGENT_MANY_RULES 10000
#define AGENT_ERROR_MAX 512

struct metrics;

struct agent_image { /* the last one written */
	uint64_t generation, compiled_at, bytes, rules;
	double compile_ms;
	char error[AGENT_ERROR_MAX]; /* why the last attempt failed; "" */
};

struct agent_counts {
	uint64_t images, compile_errors, write_errors;
};

struct agent {
	struct control_config config;
	struct ev_loop *loop;
	struct store *store;
	struct watch *watch;
	struct metrics *metrics;
	struct domains *domains;   /* NULL: no discovery */
	struct presence *presence; /* NULL: it tells nobody */
	struct debounce debounce;
	struct agent_image image;
	struct agent_counts counts;
	uint64_t generation;
	bool generation_present;
	bool in_step;     /* the store has all of Redis */
	bool seeded;      /* there are rules in force that a compile may start from */
	bool force;       /* write an image even if no rule changed */
	bool outage;      /* Redis is down, and that was said */
	bool once;        /* compile, then end */
	bool running;
	int exit_code;
	uint64_t started_at, state_since;
	uint64_t refused_logged; /* print of what was logged */
	uint64_t ties_logged;
	double state_failed_at, presence_at;
	double published_at, publish_s; /* the end of the last publishing, and how long it took */
	struct saving *saving; /* saving.h's */
	void *timers; /* struct agent_timers */
};

/* 0, or -1 with `error`. */
int agent_start(struct agent *agent, char *error, size_t error_len);
void agent_stop(struct agent *agent);

#endif
