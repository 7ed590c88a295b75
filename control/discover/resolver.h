/*
 * resolver.h - questions to the DNS, answered later: libunbound in a thread of its own, its descriptor in the loop.
 *
 * Enters: a name, a type, a token. Leaves: one answer for each token, unless it is forgotten first: records as
 * the DNS has them, or that there are none, or why nobody knows. Names and records are not judged here.
 * With a trust anchor answers are validated, and one that is bogus is a failure.
 * A resolver that cannot be set up answers every question with that failure and is tried again later: a missing
 * file or an unreachable server stops nothing.
 */
#ifndef WAXSEAL_RESOLVER_H
#define WAXSEAL_RESOLVER_H

#include "discover.h"

#define RESOLVER_QUESTIONS_MAX 4096 /* under way */
#define RESOLVER_SETUP_S 5.0        /* between attempts to set it up, and looks at whether its file has changed */
#define RESOLVER_HOST_TTL_S "10"    /* how long a server that was mute is held to be so */
#define RESOLVER_RTT_MAX_MS "2000"  /* before a question is sent again */

struct ev_loop;
struct resolver;

typedef void resolver_answered(void *context, uint64_t token, const struct discover_answer *answer);

/* `config`, the loop and the context outlive it. NULL without memory. */
struct resolver *resolver_new(struct ev_loop *loop, const struct control_config *config, resolver_answered *answered, void *context);
void resolver_free(struct resolver *resolver);
bool resolver_ask(struct resolver *resolver, const char *name, enum discover_type type, uint64_t token);
void resolver_forget(struct resolver *resolver, uint64_t token);
struct discover_time resolver_time(void); /* the clocks, for discovery, which has none */
const char *resolver_error(const struct resolver *resolver); /* why it is not set up; "" */

#endif
