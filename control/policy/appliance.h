/*
 * appliance.h - what agent and command agree upon about the hashes waxseal:appliance:<id>.
 *
 * The agent writes time generation image_generation running_generation lag_s rules refused flows takeovers
 * busy_permille uptime_s (numbers), version host waxseald ("up", "down") waxseald_version. The age of a hash is what
 * is gone of its TTL, so that no two clocks need to agree.
 */
#ifndef WAXSEAL_CONTROL_APPLIANCE_H
#define WAXSEAL_CONTROL_APPLIANCE_H

#define APPLIANCE_WRITE_S 2  /* between two writes */
#define APPLIANCE_TTL_S 3600 /* an appliance that went silent is shown for as long */
#define APPLIANCE_TTL_TEXT "3600"
#define APPLIANCE_SILENT_S 10 /* without a write: it is silent */

#endif
