/*
 * presence.h - waxseal:appliance:<id>: what one appliance says of itself to all others, for `waxseal fleet`.
 *
 * Enters: waxseald's numbers, asked by a thread because a waxseald that hangs answers late, and the agent's own.
 * Leaves: a hash that is written every APPLIANCE_WRITE_S and that Redis forgets APPLIANCE_TTL_S after the last time:
 * long enough to show an appliance that went silent. Nothing here decides anything.
 */
#ifndef WAXSEAL_PRESENCE_H
#define WAXSEAL_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "../policy/appliance.h"
#include "watch.h"

#define PRESENCE_WORKERS_MAX 16

struct presence_facts { /* the agent's part */
	const char *version;
	uint64_t generation;       /* of Redis */
	uint64_t image_generation; /* of the image written last */
	uint64_t image_compiled_at;
	bool image_failed;         /* the one that is due could not be made or written */
	uint64_t rules, refused;
	uint64_t now_s;
};

struct presence;

/* NULL without memory or without a thread. */
struct presence *presence_new(const struct control_config *config);
void presence_free(struct presence *presence);
void presence_write(struct presence *presence, struct watch *watch, const struct presence_facts *facts);
/* Seconds for which waxseald has been running another image than the newest; 0: in step. */
uint64_t presence_lag_s(const struct presence *presence);

#endif
