/*
 * private.h - what the files of discovery share: domains, their hosts, questions under way.
 */
#ifndef WAXSEAL_DISCOVER_PRIVATE_H
#define WAXSEAL_DISCOVER_PRIVATE_H

#include <stdio.h>

#include "../policy/must.h"
#include "discover.h"
#include "records.h"

#define TIMEOUT_SWEEP_US 100000

enum { FAMILY_A, FAMILY_AAAA, FAMILIES };

struct family {
	struct inet *addrs; /* ascending */
	size_t count;
	uint64_t good_at; /* Unix seconds of the answer */
	bool failed, secure; /* in this round */
};

struct host {
	char *name;
	uint16_t preference;
	struct family family[FAMILIES];
	struct tlsa_set tlsa;
	char *alias;   /* where its addresses really stand, validated; NULL */
	unsigned open; /* questions for its addresses */
};

enum domain_state { WAITING, ASKING_MX, ASKING_ADDRESSES };

struct domain {
	char *name;
	enum domain_state state;
	struct host *hosts; /* by preference, then name */
	size_t host_count;
	uint64_t good_at, tried_at;
	uint64_t due_us;
	uint32_t ttl;
	unsigned failures; /* rounds in a row */
	bool null_mx, implicit, secure, mx_secure, untold;
	char error[DISCOVER_ERROR_MAX];
	/* this round */
	struct host *next;
	size_t next_count;
	unsigned open;
	uint32_t round_ttl;
	bool failed;
};

struct question {
	struct domain *domain; /* NULL: free */
	size_t host;
	enum discover_type type;
	bool alias; /* TLSA, below the host's alias */
	uint64_t token, asked_us;
};

struct discover {
	const struct control_config *config;
	const struct discover_ops *ops;
	void *context;
	struct domain **domains;
	size_t count, cursor, busy, open, left_out;
	uint64_t earliest_us, swept_us; /* no domain is due before; when questions were last looked over */
	struct question questions[DISCOVER_QUESTIONS_MAX];
	size_t next_slot;
	uint64_t serial;
	bool ticking, stale_claims, stale_hosts;
	struct discovered_claim *claims;
	struct discovered_host *hosts;
	size_t claim_count, host_count, told;
	struct discover_counts counts;
};

struct domain *discover_add(const char *name, struct discover_time now);
void hosts_free(struct host *hosts, size_t count);

/* records.c: rdata to hosts and addresses; both return how many records were left out. */
size_t records_mx(const struct discover_answer *answer, struct host **hosts, size_t *count, bool *null_mx);
size_t records_addresses(const struct discover_answer *answer, enum discover_type type, struct family *family);
/* Sorted, each once; past a limit the set has failed. */
void records_tlsa(const struct discover_answer *answer, struct tlsa_set *set);

#endif
