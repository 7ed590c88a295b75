/*
 * mtasts.h - MTA-STS within the agent: joins sts.c, which decides, to the resolver, Redis and HTTPS.
 *
 * Enters: domains whose rule has no level, answers to questions whose token has STS_TOKEN. Leaves: discovered.sts;
 * the fields sts... of waxseal:discovered:<domain>. With [dns] mta_sts = no every function does nothing.
 */
#ifndef WAXSEAL_MTASTS_H
#define WAXSEAL_MTASTS_H

#include "../discover/resolver.h"
#include "sts.h"
#include "watch.h"

struct mtasts;

struct mtasts *mtasts_new(struct ev_loop *loop, const struct control_config *config, struct resolver *resolver,
			  void (*changed)(void *context), void *context); /* NULL if it is not enabled, or without memory */
void mtasts_free(struct mtasts *mtasts);
struct sts *mtasts_sts(struct mtasts *mtasts); /* NULL without it */
void mtasts_want(struct mtasts *mtasts, const char *const *domains, size_t count, struct discover_time now);
void mtasts_tick(struct mtasts *mtasts, struct discover_time now);
void mtasts_answered(struct mtasts *mtasts, uint64_t token, const struct discover_answer *answer, struct discover_time now);
void mtasts_watch(struct mtasts *mtasts, struct watch *watch); /* tell it all, again */
void mtasts_tell(struct mtasts *mtasts);

#endif
