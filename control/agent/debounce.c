/*
 * debounce.c - two times of a run of changes, and the earlier of two ends of waiting.
 *
 * A clock that goes backwards (the caller's is monotonic, so: never by much) only shortens the wait.
 */
#include "debounce.h"

void debounce_touch(struct debounce *debounce, uint64_t now_us)
{
	if (!debounce->waiting)
		debounce->first_us = now_us;
	debounce->last_us = now_us;
	debounce->waiting = true;
}

uint64_t debounce_left(const struct debounce *debounce, bool pieces, uint64_t now_us)
{
	if (!debounce->waiting)
		return UINT64_MAX;
	uint64_t quiet = debounce->last_us + DEBOUNCE_QUIET_US, limit = debounce->first_us + DEBOUNCE_MAX_US;
	uint64_t due = pieces ? debounce->first_us + DEBOUNCE_HOLD_US : quiet < limit ? quiet : limit;
	return due > now_us ? due - now_us : 0;
}

void debounce_clear(struct debounce *debounce) { debounce->waiting = false; }
