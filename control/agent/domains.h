/*
 * domains.h - discovery within the agent: whose domains, by which resolver, into the image, Redis and the memory.
 *
 * Enters: the rules in force, the loop's time. Leaves: the compiler's input; hashes waxseal:discovered:<domain>;
 * agent->dns_changed when the addresses differ. With [dns] enabled = no there is none of it and every function
 * does nothing. No failure of the DNS or of Redis reaches the caller.
 */
#ifndef WAXSEAL_DOMAINS_H
#define WAXSEAL_DOMAINS_H

#include <jansson.h>

#include "../policy/config.h"
#include "../discover/discover.h"
#include "watch.h"

#define DOMAINS_TICK_S 0.1
#define DOMAINS_WRITES_MAX 200   /* hashes told to Redis at one tick */
#define DOMAINS_RETRY_S 10.0     /* until what Redis refused is told again, then twice as long each time */
#define DOMAINS_RETRY_MAX_S 320.0
#define DOMAINS_RETARGET_SHARE 20 /* between two choices of the servers to probe: this many times as long as one takes */
#define DOMAINS_SAVE_S 900       /* the memory is written so often, even if no address has changed */

struct ev_loop;
struct domains;

struct domains_ops {
	void (*changed)(void *context); /* addresses are not what they were */
	void (*save)(void *context);    /* times in the memory are old */
};

/* NULL if it is not enabled, or without memory. */
struct domains *domains_new(struct ev_loop *loop, const struct control_config *config, const struct domains_ops *ops, void *context);
void domains_free(struct domains *domains);

void domains_want(struct domains *domains, const struct ruleset *rules); /* after each change of rules */
void domains_tell(struct domains *domains, struct watch *watch);         /* from now on; all of it, again */
/* What is known, for the compiler; NULL without discovery. The compiler's findings are kept for reports. */
struct discovered *domains_discovered(struct domains *domains);
json_t *domains_remember(const struct domains *domains); /* the memory's "discovered", "sts" ...; never NULL */
void domains_recall(struct domains *domains, const json_t *findings);
json_t *domains_report(const struct domains *domains); /* for agent.json */
struct discover_counts domains_counts(const struct domains *domains);

#endif
