/*
 * sts.h - which MTA-STS policy holds for each domain that may use one: looked for, fetched, kept (RFC 8461, 3 to 5).
 *
 * Enters: domains, answers of the DNS, of Redis and of HTTPS, the time. Leaves: questions (ops), and for the compiler
 * the policies in force. Invariants: a policy holds for its max_age from when it was fetched, whatever fails or vanishes
 * meanwhile; another id, or half its max_age, or a day asks for a new one; what another appliance has fetched is taken
 * first; without one that holds there is none. A failure touches its own domain. No I/O, no clock.
 */
#ifndef WAXSEAL_STS_H
#define WAXSEAL_STS_H

#include <jansson.h>

#include "../discover/discover.h"
#include "sts_text.h"

#define STS_DOMAINS_MAX 262144
#define STS_BUSY_MAX 16            /* domains looked after at once */
#define STS_CHECK_MAX_S 3600u      /* the record is looked at so often at least */
#define STS_REFRESH_MAX_S 86400u   /* and the policy fetched */
#define STS_RETRY_FACTOR 5u        /* times [dns] ttl_min_s after a failure: 5 minutes; then twice as long each time */
#define STS_RETRY_MAX_S 3600u
#define STS_LOOK_S 5u              /* for an answer of Redis */
#define STS_FETCH_S 65u            /* for a policy; https.h ends earlier */
#define STS_WHY_MAX 128
#define STS_TOKEN (1ull << 63)     /* marks this part's tokens among those of the agent */

struct sts_ops {
	bool (*ask)(void *context, const char *name, uint64_t token);    /* TXT; answered by sts_answered() */
	bool (*look)(void *context, const char *domain, uint64_t token); /* Redis; answered by sts_shared() */
	bool (*fetch)(void *context, const char *domain, uint64_t token); /* HTTPS; answered by sts_fetched() */
	void (*forget)(void *context, uint64_t token);
	void (*changed)(void *context);
};

struct sts_fetched { /* the end of one fetch: a text, or why there is none */
	enum policy_sts_error error;
	const char *why, *text;
	size_t len;
};

struct sts_copy { /* what Redis has; texts of anybody's */
	const char *id, *mode, *mx, *max_age, *time;
};

struct sts_counts {
	uint64_t fetches, failures, shared; /* shared: policies taken from Redis */
	size_t domains, policies, busy, failing;
};

struct sts;

struct sts *sts_new(const struct control_config *config, const struct sts_ops *ops, void *context);
void sts_free(struct sts *sts);
void sts_want(struct sts *sts, const char *const *domains, size_t count, struct discover_time now); /* ascending, each once */
void sts_tick(struct sts *sts, struct discover_time now);
void sts_answered(struct sts *sts, uint64_t token, const struct discover_answer *answer, struct discover_time now);
void sts_shared(struct sts *sts, uint64_t token, const struct sts_copy *copy, struct discover_time now); /* NULL: nothing */
void sts_fetched(struct sts *sts, uint64_t token, const struct sts_fetched *fetched, struct discover_time now);

/* Good until the next call of any other function. */
const struct discovered_sts *sts_found(struct sts *sts, size_t *count);
struct sts_counts sts_counts(const struct sts *sts);

/* {"example.org": {"id", "mode", "mx", "max_age", "time"}} */
json_t *sts_remember(const struct sts *sts);
void sts_recall(struct sts *sts, const json_t *memory, struct discover_time now);

/* The fields sts... of ../policy/findings.h, of the next domain that was not told yet. */
struct sts_row {
	const char *domain, *state, *why, *id, *mode;
	char *mx; /* the caller frees it */
	uint32_t max_age;
	uint64_t time, checked;
};
bool sts_next_untold(struct sts *sts, struct sts_row *row);
void sts_tell_again(struct sts *sts);

#endif
