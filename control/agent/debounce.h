/*
 * debounce.h - when to act on a run of changes: after a short quiet, but never later than a limit.
 *
 * Enters: the time of each change, and whether more of them is being read. Leaves: when to act. A burst of edits makes one
 * image, and an endless stream of them an image every DEBOUNCE_MAX_US, so that an edit is in force well within a second.
 * What belongs together and arrives in pieces waits for the last, but no longer than DEBOUNCE_HOLD_US.
 */
#ifndef WAXSEAL_DEBOUNCE_H
#define WAXSEAL_DEBOUNCE_H

#include <stdbool.h>
#include <stdint.h>

#define DEBOUNCE_QUIET_US 50000
#define DEBOUNCE_MAX_US 250000
#define DEBOUNCE_HOLD_US 500000

struct debounce {
	bool waiting;
	uint64_t first_us, last_us;
};

void debounce_touch(struct debounce *debounce, uint64_t now_us);
/* Microseconds from now until it is time: 0 is now; UINT64_MAX if nothing waits. `pieces`: more is being read. */
uint64_t debounce_left(const struct debounce *debounce, bool pieces, uint64_t now_us);
void debounce_clear(struct debounce *debounce);

#endif
