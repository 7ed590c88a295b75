/*
 * generation.h - every write of the command is a generation: whole, counted, signed and kept.
 *
 * Enters: a plan, which reads rules and says what they are to be. Leaves: all of its changes and <prefix>generation
 * counted up by one in one transaction, together with an entry of the stream <prefix>history that has the time, the
 * author, and each changed key's hash before and after. If anybody writes to what the plan has read, or another
 * generation is made meanwhile, nothing is written and the plan is asked again on the new state.
 */
#ifndef WAXSEAL_GENERATION_H
#define WAXSEAL_GENERATION_H

#include "redisrules.h"

#define GENERATION_HISTORY_MAX 1000             /* entries kept; the oldest go first; and see history_room.h */
#define GENERATION_ENTRY_BYTES_MAX (64u << 20) /* of one entry; a larger change is refused */
#define GENERATION_ATTEMPTS_MAX 100
/* Redis walks a client's whole list at each WATCH: past so many keys only the generation is watched, and a rule that is
 * edited by hand while its import is under way is replaced as a whole. */
#define GENERATION_WATCHED_MAX 1000
#define GENERATION_PATIENCE_S 60 /* for such a transaction */
#define GENERATION_AUTHOR_MAX 128
#define GENERATION_WHAT_MAX 256

struct generation {
	struct cli *cli;
	redisContext *redis;
	char author[GENERATION_AUTHOR_MAX];
	char what[GENERATION_WHAT_MAX]; /* "set example.org" */
	long long last;   /* the number before this one */
	long long number; /* once written */
	uint64_t squeezed; /* entries that left the history because it has too many bytes */
	bool large;       /* its keys are not watched */
	json_t *before;   /* of this attempt: {redis key: hash} of what was read */
	json_t *after;    /* {redis key: hash, or null: deleted}; filled by the plan */
};

/* CLI_OK: write `after`. CLI_FAILED: it has said why. */
typedef int generation_plan(void *context, struct generation *generation);

/* Connects, and runs the plan until it is written. `what` says what is done.
 * GENERATION_UNCHANGED: the plan asked for nothing that is not so already, and no generation was made. */
enum { GENERATION_UNCHANGED = -1 };
int generation_write(struct cli *cli, struct generation *generation, generation_plan *plan, void *context);
void generation_dispose(struct generation *generation);

/* For plans: watches the members of `keys`, unless they are too many, and reads them into `before`. CLI_OK, or CLI_FAILED having said why. */
int generation_read(struct generation *generation, json_t *keys);
int generation_read_one(struct generation *generation, const char *redis_key, json_t **hash);
/* The changes as they are kept: {redis key: {"before", "after"}}, only what differs, all of it UTF-8. */
json_t *generation_changes(const json_t *before, const json_t *after);

#endif
