/*
 * records.h - addresses and TLSA records as discovery keeps them, for whoever goes on with them.
 */
#ifndef WAXSEAL_DISCOVER_RECORDS_H
#define WAXSEAL_DISCOVER_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../policy/rules.h"

struct inet {
	uint8_t bytes[16]; /* network byte order, IPv4 as v4-mapped */
};
bool inet_usable(const struct inet *addr); /* can a mail server have it? */

enum found_tlsa {
	FOUND_UNASKED,
	FOUND_NONE,     /* validated: there are none */
	FOUND_INSECURE, /* the MX' addresses or its TLSA are not signed: no DANE */
	FOUND_SECURE,
	FOUND_FAILED,   /* nobody knows; the records are those known last */
	FOUND_STATES
};

struct tlsa_set {
	enum found_tlsa state;
	struct discovered_tlsa *records; /* ascending; their data are the set's own */
	size_t count;
	uint64_t good_at; /* Unix seconds of the answer */
	bool bogus;       /* FAILED, and it was DNSSEC that said so */
	bool below_alias; /* the records stand below the host's alias */
};

void tlsa_dispose(struct tlsa_set *set);
bool tlsa_equal(const struct tlsa_set *a, const struct tlsa_set *b);
void tlsa_copy(struct tlsa_set *to, const struct tlsa_set *from); /* the records and their time */
void tlsa_print(const struct tlsa_set *set, FILE *out);
void tlsa_read(const char *text, struct tlsa_set *set); /* UNASKED where it is not what tlsa_print writes */
extern const char *const found_tlsa_names[FOUND_STATES];

#endif
