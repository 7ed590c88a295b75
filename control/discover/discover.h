/*
 * discover.h - where the mail of every rule's domain goes: MX, A, AAAA and TLSA, kept current and kept in mind.
 *
 * Enters: the domains that rules name, answers of the DNS, the time. Leaves: questions (ops), and claims for the
 * compiler: "this address is an MX of that domain, by this name". Invariants: what the DNS said last holds until
 * it says something else; a failure (SERVFAIL, silence, bogus) is no answer and touches only its own name, whose
 * addresses are kept for keep_s; "there is none" is an answer. RFC 5321, section 5.1: without MX the domain itself
 * is its server; RFC 7505: "MX 0 ." means that there is none. Names and addresses from outside that cannot be a
 * mail server's are left out, and never repeated. RFC 7672, section 2.2: the TLSA of an MX is asked for only where its
 * addresses are validated, below the name that an alias leads to first; a TLSA question that fails is not "none".
 * No I/O, no clock.
 */
#ifndef WAXSEAL_DISCOVER_H
#define WAXSEAL_DISCOVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/config.h"
#include "../policy/rules.h"

#define DISCOVER_DOMAINS_MAX 262144   /* looked after; those of further rules go by * */
#define DISCOVER_BUSY_MAX 32          /* domains asked about at once */
#define DISCOVER_MX_MAX 16            /* of one domain, the most preferred */
#define DISCOVER_ADDRESSES_MAX 32     /* of one MX and family, the lowest: a rotated answer is the same answer */
#define DISCOVER_TLSA_MAX 32          /* records of one MX; past it none is left out unseen: the set has failed */
#define DISCOVER_TLSA_BYTES_MAX 4096  /* of one record's data, as in ../probe/tlsa.h */
#define DISCOVER_QUESTIONS_MAX (DISCOVER_BUSY_MAX * 2 * DISCOVER_MX_MAX)
#define DISCOVER_TTL_MAX_S 86400u
#define DISCOVER_NEGATIVE_MAX_S 3600u /* a domain that comes into being is not missed for longer */
#define DISCOVER_SLACK_S 1u           /* the resolver's cache counts whole seconds */
#define DISCOVER_RETRY_MIN_S 5u       /* after a failure, then twice as long each time */
#define DISCOVER_RETRY_MAX_S 300u
#define DISCOVER_ERROR_MAX 128

enum discover_type { DISCOVER_MX, DISCOVER_A, DISCOVER_AAAA, DISCOVER_TLSA, DISCOVER_TXT };
enum discover_status { DISCOVER_OK, DISCOVER_NONE, DISCOVER_FAILED };

struct discover_answer {
	enum discover_status status;
	bool secure, bogus; /* validated; found wrong, of FAILED */
	uint32_t ttl;
	const char *why; /* of NONE and FAILED */
	const char *canonical; /* the name that aliases led to, without a final dot; NULL: the one asked for */
	const uint8_t *const *data; /* rdata of each record, in wire form without compression */
	const int *len;
	size_t count;
};

struct discover_time {
	uint64_t us;     /* steady */
	uint64_t unix_s; /* of the wall */
};

struct discover_ops {
	/* Each question is answered with discover_answered(), later. False: it cannot be asked now. */
	bool (*ask)(void *context, const char *name, enum discover_type type, uint64_t token);
	void (*forget)(void *context, uint64_t token);
	void (*changed)(void *context); /* claims are not what they were */
};

struct discover_counts {
	uint64_t questions, answers, failures, timeouts, ignored; /* ignored: records that name no mail server */
	size_t domains, resolved, failing, busy, left_out;
};

struct discover;

struct discover *discover_new(const struct control_config *config, const struct discover_ops *ops, void *context);
void discover_free(struct discover *discover);

/* The domains to look after: ascending, each once. */
void discover_want(struct discover *discover, const char *const *domains, size_t count, struct discover_time now);
void discover_tick(struct discover *discover, struct discover_time now); /* several times a second */
void discover_answered(struct discover *discover, uint64_t token, const struct discover_answer *answer, struct discover_time now);

/* For ruleset_compile_discovered(); good until the next call of any other function. */
const struct discovered_claim *discover_claims(struct discover *discover, size_t *count);
struct discover_counts discover_counts(const struct discover *discover);

/* Each MX once, with its TLSA; likewise. Those whose addresses or TLSA nobody has asked for yet are not in it. */
const struct discovered_host *discover_hosts(struct discover *discover, size_t *count);

/* The servers of those of `domains` (ascending) that are known: an address may come several times. */
struct discover_server {
	const char *domain, *mx, *base; /* as in struct discovered_host */
	uint8_t addr[16];
	const struct discovered_tlsa *records;
	size_t record_count;
};
void discover_servers(const struct discover *discover, const char *const *domains, size_t count,
		      void (*each)(void *context, const struct discover_server *server), void *context);

/* What a restart must not forget: {"example.org": {"time", "ttl", "error", "mx": [{"name", "preference",
 * "A": [...], "A_time", ...}]}}. Recalled domains are asked about again at once, and hold until then. */
json_t *discover_remember(const struct discover *discover);
void discover_recall(struct discover *discover, const json_t *memory, struct discover_time now);

/* What is known of one domain, as texts for Redis; the next one that was not told yet, or false. */
#define DISCOVER_TEXT_MAX (DISCOVER_MX_MAX * (256 + 2 * DISCOVER_ADDRESSES_MAX * 48))
struct discover_row {
	const char *domain, *error;
	char *mx, *addresses, *tlsa; /* as ../policy/findings.h has them; the caller frees */
	uint32_t ttl;
	uint64_t time; /* of the last full answer, Unix seconds; 0: never */
	bool secure, mx_secure;
};
bool discover_next_untold(struct discover *discover, struct discover_row *row);
void discover_tell_again(struct discover *discover); /* Redis may have lost them */

#endif
