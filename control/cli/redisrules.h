/*
 * redisrules.h - the rules' hashes as Redis has them: all of them, or those of given keys.
 *
 * Enters: a connection. Leaves: what stands there, right or wrong; judging it is the caller's. A hash as JSON is an
 * object of texts, byte for byte, so that it may hold what is no UTF-8; what is no hash is a string that says why.
 */
#ifndef WAXSEAL_REDISRULES_H
#define WAXSEAL_REDISRULES_H

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "../policy/rules.h"
#include "cli.h"

/* Calls `each` for every key of a rule, some perhaps twice; it takes the reply of HGETALL. `key` is the canonical one, or
 * what stands in its place. 0, or -1 with `error`. */
typedef int redisrules_fn(void *context, const char *redis_key, const char *key, redisReply *reply);
int redisrules_each(const struct cli *cli, redisContext *redis, redisrules_fn *each, void *context, char *error, size_t error_len);

json_t *redisrules_hash(const redisReply *reply); /* null where nothing stands */
/* {redis key: hash} of every rule; NULL with `error`. */
json_t *redisrules_all(const struct cli *cli, redisContext *redis, char *error, size_t error_len);
/* The same of the members of `keys`, also of those where nothing stands; with `watch` for a transaction. NULL with `error`. */
json_t *redisrules_some(redisContext *redis, json_t *keys, bool watch, char *error, size_t error_len);

/* The fields of a hash as above, for rule_parse(); at most `max`. */
size_t redisrules_fields(const json_t *hash, struct rule_field *fields, size_t max);

#endif
