/*
 * steer.h - from the policy image to the classifier: prefixes, destinations, pools of workers.
 */
#ifndef WAXSEAL_STEER_H
#define WAXSEAL_STEER_H

#include <stddef.h>

#include "config.h"
#include "policy/policy.h"
#include "port/port.h"

/* What port/ needs to know of the configuration; points into it. */
struct port_config steer_port_config(const struct config *config);

/* Fills the classifier's tries from an image. Pools of the policy share out the workers by name: pool 0 is
 * all of them, each named pool has one worker of its own while there are enough. `shared`: those below it are pool 0's
 * then. 0, or -1 with `error`, and the classifier goes on by what it had. */
int steer(struct ports *ports, const struct policy_image *image, unsigned workers, unsigned *shared, char *error, size_t error_len);

#endif
