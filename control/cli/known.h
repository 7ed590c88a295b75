/*
 * known.h - what the agent knows of a domain's mail servers, for `waxseal explain`.
 *
 * Enters: the hash waxseal:discovered:<domain>, or, where Redis cannot be had or has none, the agent's memory.
 * Leaves: {"from": "Redis" or the memory's path, "mx", "addresses", "ttl", "time", "error", "secure"}, texts as in
 * the hash. Both are from outside and only shown.
 */
#ifndef WAXSEAL_KNOWN_H
#define WAXSEAL_KNOWN_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "cli.h"

json_t *known_domain(const struct cli *cli, const char *domain); /* NULL: nothing is known */
json_t *known_from_memory(const json_t *memory, const char *domain); /* the file's "discovered" */
void known_print(const json_t *known, const char *domain, uint64_t now_s, FILE *out);

#endif
