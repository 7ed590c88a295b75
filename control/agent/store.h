/*
 * store.h - what Redis holds, what of it is in force, and why the rest is not.
 *
 * Enters: hashes and deletions as Redis keys, between sync_begin and sync_end the whole of them. Leaves:
 * a compiled policy image. Invariants: a key that does not parse, is not supported, or conflicts with the
 * others is refused alone, and its last good form stays in force; deleting single keys is honoured;
 * a whole Redis that is suddenly empty is not (it was flushed, or is a new one), until a key or the
 * generation counter is there again. No I/O, no clock.
 */
#ifndef WAXSEAL_STORE_H
#define WAXSEAL_STORE_H

#include "../policy/rules.h"

#define STORE_KEY_MAX 512
#define STORE_RETRIES_MAX 256 /* rules refused for a conflict that are tried again at one compile */

struct store;

struct store *store_new(const char *redis_prefix);
void store_free(struct store *store);

/* Rules in force from a former run, before the first sync; taken. False: they don't compile any more and are dropped. */
bool store_seed(struct store *store, struct ruleset *rules);
/* There is an image with rules in it that the store knows nothing of: an empty Redis must not replace it. */
void store_seed_foreign(struct store *store);

bool store_wants(const struct store *store, const char *redis_key); /* is it the key of a rule? */
void store_hash(struct store *store, const char *redis_key, const struct rule_field *fields, size_t count);
void store_wrong(struct store *store, const char *redis_key, const char *why); /* there, but no hash */
void store_gone(struct store *store, const char *redis_key);
/* Redis was flushed: deletions since the last compile were part of that, and are forgotten. */
void store_flushed(struct store *store);

void store_sync_begin(struct store *store);
/* Everything that was not seen since sync_begin is gone; false if that would be everything and
 * `generation_present` does not say that somebody meant it. */
bool store_sync_end(struct store *store, bool generation_present);
bool store_refuses_empty(const struct store *store);

bool store_pending(const struct store *store); /* is there anything to compile? */
/* Brings what is pending into force and compiles, with what the DNS says (may be NULL). NULL with `error` "" if that changes nothing and `force` is
 * false; NULL with an error only if what was in force no longer compiles. */
void *store_compile(struct store *store, struct discovered *discovered, uint64_t generation, uint64_t now, bool force,
		    size_t *len, char *error, size_t error_len);
uint64_t store_next_expiry(const struct store *store, uint64_t now); /* Unix seconds, 0: none */

size_t store_keys(const struct store *store);                    /* rule keys that Redis has */
const struct ruleset *store_rules(const struct store *store);    /* in force */
size_t store_refused(const struct store *store, void (*each)(void *context, const char *redis_key, const char *error),
		     void *context); /* how many; `each` may be NULL */

#endif
