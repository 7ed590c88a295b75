/*
 * known.h - what the agent knows of a domain's mail servers, for `waxseal explain` and `waxseal probe`.
 *
 * Enters: the hash waxseal:discovered:<domain>, or, where Redis cannot be had or has none, the agent's memory; the DNS
 * (lookup.h), for a domain that nobody has looked up.
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
/* known_domain(), and the DNS for what that has not: then "servers_from" and "tlsa_from" say "DNS now". NULL without memory. */
json_t *known_or_found(const struct cli *cli, const char *domain);
void known_print_tlsa(const json_t *known, uint64_t now_s, FILE *out); /* a line for each server */
void known_print(const json_t *known, const char *domain, uint64_t now_s, FILE *out);

#endif
