/*
 * fleet.h - the appliances of one Redis as a table, and what is wrong with them.
 *
 * Enters: the hashes waxseal:appliance:<id> as objects {"id", "silent_s", and the hash's fields as texts}, in any
 * order. Leaves: {"appliances": [...by id, each with a "state"], "ok"}. Anybody may have written those hashes.
 */
#ifndef WAXSEAL_FLEET_H
#define WAXSEAL_FLEET_H

#include <jansson.h>
#include <stdio.h>

#define FLEET_MAX 1000      /* appliances shown */
#define FLEET_LAG_MAX_S 10  /* an appliance whose image is older than that is behind */

json_t *fleet_judge(json_t *hashes); /* takes an array of them */
void fleet_print(const json_t *fleet, FILE *out);

#endif
