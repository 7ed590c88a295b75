/*
 * history.h - generations that were: what the rules were after each, and what was changed behind the command's back.
 *
 * Enters: entries of the stream <prefix>history (generation.h writes them), and the hashes that Redis has now. Leaves:
 * the hashes as they were; keys whose hash is not what the last generation left. Pure, but for history_read().
 */
#ifndef WAXSEAL_HISTORY_H
#define WAXSEAL_HISTORY_H

#include "redisrules.h"

/* [{"generation", "time", "author", "what", "changes": {redis key: {"before", "after"}}}, ...], the oldest first; at most
 * `count` of the newest, 0: all. What does not read so is left out. NULL with `error`. */
json_t *history_read(const struct cli *cli, redisContext *redis, unsigned count, char *error, size_t error_len);
/* One entry out of the fields of a stream's; NULL if it is none of ours. */
json_t *history_entry(const struct rule_field *fields, size_t count);

/* 0 if the rules after `generation` can be told; -1 with `error`: too old, or not yet. `last` is Redis' number now. */
int history_reaches(const json_t *entries, uint64_t generation, uint64_t last, char *error, size_t error_len);
/* {redis key: hash} after `generation`: of keys that no entry names, what is there now. */
json_t *history_state(const json_t *entries, const json_t *now, uint64_t generation);
/* {redis key: what the last generation left} of those that are otherwise now: edits by redis-cli, or a restored backup. */
json_t *history_edited(const json_t *entries, const json_t *now);
/* Numbers in (from, to] without an entry: as text "5, 7 to 9"; "" if there are none. The caller frees it. */
char *history_gaps(const json_t *entries, uint64_t from, uint64_t to);

/* Lines of what makes `b` of `a`: "+ example.org level=verify", "- ...", in order of key; both {redis key: hash}. Their number. */
size_t history_print_diff(const json_t *a, const json_t *b, const char *prefix, FILE *out);
json_t *history_diff(const json_t *a, const json_t *b); /* {redis key: {"before", "after"}} */

#endif
