/*
 * answers.h - what a client would be told by each server of a domain, by all that is known of these servers.
 *
 * Enters: the image, a domain or an address, the recorded sessions. Leaves: {"answers": [for each
 * server what is known of it, the answer to a client in clear and to one that encrypts by itself], "failures": [the last
 * sessions that were refused]}. The answers are replay.h's.
 */
#ifndef WAXSEAL_ANSWERS_H
#define WAXSEAL_ANSWERS_H

#include <jansson.h>
#include <stdio.h>

#include "events.h"

#define ANSWERS_SERVERS_MAX 16
#define ANSWERS_FAILURES_MAX 5
#define ANSWERS_TAIL_BYTES (16u << 20) /* of the recorded sessions, the newest */

struct answers_query {
	const char *domain;    /* or NULL */
	const uint8_t *addr;   /* or NULL: the domain's servers, as far as they are known */
	const uint8_t *client; /* or NULL: anybody */
	bool inbound;
	const json_t *known;   /* what the DNS says of the domain; or NULL */
	struct events_source *source;
};
json_t *answers_of(const struct policy_image *image, const struct answers_query *query);
void answers_print(const json_t *answers, uint64_t now_s, FILE *out);

#endif
