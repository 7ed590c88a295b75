/*
 * sentinel.h - where the master is, by the word of Redis Sentinels.
 *
 * Enters: the configuration's list. Leaves: one answer a question: the master's address, or why none of them told it.
 * They are asked one after another, the one that told it last first; none may take longer than SENTINEL_TIMEOUT_S.
 */
#ifndef WAXSEAL_SENTINEL_H
#define WAXSEAL_SENTINEL_H

#include "../policy/config.h"

#define SENTINEL_TIMEOUT_S 1.0
#define SENTINEL_WHY_MAX 160

struct ev_loop;
struct sentinel;

/* `host` NULL: `why`, one line. From the loop, never from within sentinel_ask(). */
typedef void sentinel_told(void *context, const char *host, uint16_t port, const char *why);

struct sentinel *sentinel_new(struct ev_loop *loop, const struct control_config *config, sentinel_told *told, void *context);
void sentinel_free(struct sentinel *sentinel);
void sentinel_ask(struct sentinel *sentinel);    /* a question under way is forgotten */
void sentinel_forget(struct sentinel *sentinel); /* nothing is told any more */

#endif
