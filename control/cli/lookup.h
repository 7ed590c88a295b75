/*
 * lookup.h - a domain's mail servers as the DNS has them now, by the agent's own discovery (control/discover).
 *
 * Enters: the configuration's [dns], a domain in lower case. Leaves: texts as ../policy/findings.h has them: {"mx", "addresses",
 * "tlsa", "error", "time", "mx_secure"}. One round: MX, A and AAAA, TLSA where DNSSEC vouches for the addresses. Blocks for as
 * long as the DNS takes, each question for [dns] timeout_s at most.
 */
#ifndef WAXSEAL_LOOKUP_H
#define WAXSEAL_LOOKUP_H

#include <jansson.h>

#include "../policy/config.h"

json_t *lookup_domain(const struct control_config *config, const char *domain); /* NULL without memory */

#endif
