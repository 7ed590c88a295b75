/*
 * fastpath.h - the lcores: I/O, workers, and the rings between them.
 *
 * With one worker, one lcore does both in one loop. With n in a pipeline, lcore 0 of the dataplane does I/O on both
 * ports and hands frames to the workers through single-producer single-consumer rings, and their
 * frames back. With n that run to completion, each has queues of its own, and rings carry to another lcore what belongs
 * there. An lcore with nothing to do sleeps until frames come to its ports or rings; one that has work polls.
 */
#ifndef WAXSEAL_FASTPATH_H
#define WAXSEAL_FASTPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "policy_swap.h"
#include "port/port.h"
#include "stats/stats.h"

#define FASTPATH_RING_FRAMES 2048  /* between two lcores, one way */
#define FASTPATH_EVENTS 1024       /* session events on their way to the file */

struct fastpath;

/* Makes workers and rings; nothing runs yet. `shared`: as fastpath_share has it. NULL with `error`. */
struct fastpath *fastpath_new(const struct config *config, struct ports *ports, struct policy_swap *swap, unsigned shared, char *error, size_t error_len);
/* Launches on the EAL's worker lcores, in their order. */
void fastpath_start(struct fastpath *fastpath);
/* Ends the loops, resets the sessions taken over, closes every flow. */
void fastpath_stop(struct fastpath *fastpath);
void fastpath_free(struct fastpath *fastpath);

/* Main thread, about once a second: measures the load, notices a loop that does not turn. */
void fastpath_watch(struct fastpath *fastpath);
/* Main thread: next session event; false when there is none. */
bool fastpath_event(struct fastpath *fastpath, struct stats_event *event);

/* Main thread: workers from this one up belong to named pools from now on (steer.h). */
void fastpath_share(struct fastpath *fastpath, unsigned shared);

/* For telemetry (any thread). Stats: one a worker, and one of the I/O lcore, if there is one. */
unsigned fastpath_stats(const struct fastpath *fastpath, struct stats *const **out);
bool fastpath_load(struct fastpath *fastpath, unsigned worker, struct stats_worker *out);
/* As stats_source.flows; a cursor is a worker's number above a place of its table. */
unsigned fastpath_flows(struct fastpath *fastpath, uint64_t cursor, struct stats_flow *out, unsigned max, struct stats_flows_at *at);

#endif
