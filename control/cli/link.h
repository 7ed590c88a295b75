/*
 * link.h - the command's ways to Redis and to waxseald, and rules as hashes between them.
 *
 * All calls block for a second or two at most. Errors are one line that names the address.
 */
#ifndef WAXSEAL_LINK_H
#define WAXSEAL_LINK_H

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "../policy/rules.h"
#include "../policy/telemetry.h"
#include "cli.h"

#define LINK_TIMEOUT_S 2
#define LINK_KEY_MAX 512
#define LINK_FIELDS_MAX 256

/* Connected, logged in, database selected. NULL with `error`. */
redisContext *link_redis(const struct cli *cli, char *error, size_t error_len);
/* redisCommand, with an error reply or none at all turned into `error` and NULL. */
__attribute__((format(printf, 4, 5))) redisReply *link_command(redisContext *redis, char *error, size_t error_len,
							       const char *format, ...);

/* The pairs of a HGETALL reply; they live as long as it does. Their number, or -1 with `error`. */
int link_fields(const redisReply *reply, struct rule_field fields[LINK_FIELDS_MAX], char *error, size_t error_len);

/* waxseald's answer to a command, without its frame; the caller owns it. NULL with `error`. */
json_t *link_ask(struct telemetry *telemetry, const char *command, char *error, size_t error_len);

uint64_t link_number(const json_t *object, const char *name); /* 0 if it is not there */
const char *link_text(const json_t *object, const char *name); /* "" */
bool link_true(const json_t *object, const char *name); /* true, 1 and "true" */

void link_print_json(json_t *value); /* takes it */
/* Sets a member to text from outside, made clean: jansson takes nothing but UTF-8. */
void link_json_set(json_t *object, const char *name, const char *text);

#endif
