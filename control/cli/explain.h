/*
 * explain.h - which rule of an image holds for a recipient's domain, for a server's address, or for both.
 *
 * Enters: an image, a domain, an address. Leaves: every rule that could hold, the winner first, and for each
 * why it stands where it stands. The answers are those of dataplane/policy/, not of a second opinion.
 */
#ifndef WAXSEAL_EXPLAIN_H
#define WAXSEAL_EXPLAIN_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "../../dataplane/policy/policy.h"
#include "cli.h"

/* [{rule, level, mode, attributes, why, wins}, ...]: `domain` in any spelling and may be NULL; `addr` as
 * policy_destination_of() has it and may be NULL. The caller owns it. */
json_t *explain_rules(const struct policy_image *image, const char *domain, const uint8_t *addr);
/* Of sessions from outside. */
json_t *explain_inbound(const struct policy_image *image, const char *domain, const uint8_t *addr);
/* Puts in front what holds in the winner's place at that server: where no TLSA records speak for it, a rule of MTA-STS ... */
void explain_in_place(const struct policy_image *image, json_t *rules, const char *domain, const uint8_t addr[16]);
/* ... and what the rule of a client's prefix does to all of them. */
void explain_client(const struct policy_image *image, json_t *rules, const uint8_t client[16]);
/* What stands in Redis for it and does not hold: [{rule, state: "expired" or "refused", why}]. explain_redis.c */
json_t *explain_not_in_force(const struct cli *cli, const char *domain, uint64_t now_s);
/* Adds to each answer (answers.h) the last probe of its server, as the agent keeps it: "posture". explain_redis.c */
void explain_postures(const struct cli *cli, json_t *answers);
/* explain_rules() as a table. */
void explain_print(const json_t *rules, FILE *out);

#endif
