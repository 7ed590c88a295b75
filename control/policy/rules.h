/*
 * rules.h - from what a person wrote to the policy image.
 *
 * Enters: rules as key and attributes, from a text file (one a line) or from Redis hashes. Leaves: a
 * struct ruleset, and from it a policy image (dataplane/policy/image.h). One parser for both sources:
 * each attribute is a row of one const table {name, parse, print, help}.
 *
 * A line:  example.org level=verify match=mx.example.org:.example.org protocols=>=TLSv1.2 reason="bank, 2027"
 * A Postfix policy line is one too: example.org verify match=mx.example.org ("level=" may be left out).
 * A domain without a level, "example.org" alone: as discovered, DANE and then MTA-STS, else as if the key were not there.
 * Values with blanks stand in double quotes, where \\ and \" mean themselves; # begins a comment.
 * Keys:    example.org  .example.org  *  provider:google  client:10.0.0.0/8  inbound:*  inbound:example.org
 * In Redis the same key stands behind "waxseal:policy:", "waxseal:provider:" ... as policy.md says.
 */
#ifndef WAXSEAL_RULES_H
#define WAXSEAL_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../../dataplane/policy/policy.h"

#define RULES_ERROR_MAX 512
#define RULES_LINE_MAX 8192

struct rule;    /* one parsed rule; opaque */
struct ruleset;

struct rule_field { const char *name; const char *value; };

/* A rule out of its attributes. NULL with `error`: key, attribute, what was wrong and what would be right. */
struct rule *rule_parse(const char *key, const struct rule_field *fields, size_t count, char *error, size_t error_len);
struct rule *rule_parse_line(const char *line, char *error, size_t error_len); /* NULL and error "" for blank and comment lines */
void rule_free(struct rule *rule);
const char *rule_key(const struct rule *rule); /* canonical: "example.org", "provider:google", "*" */
/* The attributes that differ from their defaults, in the table's order; strings live as long as the rule. */
size_t rule_fields(const struct rule *rule, struct rule_field *out, size_t max);
#define RULE_FIELDS_MAX 32 /* no rule has more */
/* "example.org level=verify reason=\"a b\"" on `out`, as rule_parse_line reads it, without a newline. */
void rule_print(FILE *out, const char *key, const struct rule_field *fields, size_t count);
/* Why this version cannot put the rule into force, or NULL if it can: now there is none that it cannot.
 * ruleset_compile fails on such a rule; a caller that wants the others goes on without it. */
const char *rule_unsupported(const struct rule *rule);
uint64_t rule_expires(const struct rule *rule); /* Unix seconds, 0: never; compile again then */

/* Every attribute, for help texts and completion: NULL past the last. */
struct rule_attribute {
	const char *name;   /* "level" */
	const char *values; /* "none may encrypt ..." */
	const char *help;   /* one line */
};
const struct rule_attribute *rule_attribute(size_t index);

struct ruleset *ruleset_new(void);
void ruleset_free(struct ruleset *set);
void ruleset_put(struct ruleset *set, struct rule *rule); /* takes it; replaces one of the same key */
bool ruleset_remove(struct ruleset *set, const char *key);
const struct rule *ruleset_find(const struct ruleset *set, const char *key);
size_t ruleset_count(const struct ruleset *set);
const struct rule *ruleset_at(const struct ruleset *set, size_t index); /* in order of key */

/* Reads a text file. A key that stands in it twice is a bad line. Every bad line is reported ("FILE:LINE: ..."), one call of `report` each; returns
 * how many were bad, or -errno if the file could not be read (reported too). */
int ruleset_read(struct ruleset *set, const char *path, void (*report)(void *context, const char *message), void *context);

/* Compiles to a new image in memory (caller frees). NULL with `error` for conflicts between rules
 * (one prefix in two providers ...). `now` (Unix seconds) leaves out what has expired. */
void *ruleset_compile(const struct ruleset *set, uint64_t generation, uint64_t now, size_t *len, char *error, size_t error_len);

/* What the agent found. Names are lower case, without a final dot; addresses in network byte order, IPv4 as v4-mapped;
 * times are Unix seconds. All of it comes from outside: what the image could not hold is left out alone, and counted. */

/* `addr` is an MX of `domain`, by the name `mx`. */
struct discovered_claim {
	const char *domain, *mx;
	uint16_t preference;
	uint8_t addr[16];
	bool mx_secure; /* the domain's MX was validated by DNSSEC */
};

/* One TLSA record as the DNS has it, usable or not: the compiler tells. */
struct discovered_tlsa {
	uint8_t usage, selector, matching;
	uint16_t len;
	const uint8_t *data;
};
struct discovered_host {
	const char *mx;
	const char *base;     /* TLSA base domain where the name is an alias; NULL: mx itself */
	enum policy_tlsa tlsa; /* NONE, SECURE (with records) or FAILED; a host that was not asked about does not stand here */
	const struct discovered_tlsa *records;
	size_t record_count;
};

/* A domain's MTA-STS: the policy in force (STS_NONE: none, or of mode none) and what went wrong at the last look, if
 * anything; both can be: a policy that was fetched earlier outlives a failed fetch (RFC 8461, section 3.3). */
struct discovered_sts {
	const char *domain;
	enum policy_sts mode;
	enum policy_sts_error error;
	const char *const *mx; /* patterns: mx.example.org, *.example.org */
	size_t mx_count;
};

struct discovered_probe {
	uint8_t addr[16];
	uint64_t at;
	uint16_t version;        /* wire version; 0: no TLS could be had */
	enum policy_chain chain;
	enum policy_dane dane;   /* against the host's TLSA records; UNSEEN: it has none */
	const char *const *names; /* of the certificate */
	size_t name_count;
	uint8_t certificate_sha256[32], key_sha256[32];
};

struct discovered_seen {
	uint8_t addr[16];
	uint64_t at;
};

struct discovered { /* each array in any order */
	const struct discovered_claim *claims;
	size_t count;
	const struct discovered_host *hosts;
	size_t host_count;
	const struct discovered_sts *sts;
	size_t sts_count;
	const struct discovered_probe *probes;
	size_t probe_count;
	const struct discovered_seen *seen;
	size_t seen_count;
	/* Filled in: */
	size_t prefixes, ties, left_out; /* addresses placed; claimed by two providers; no room for them in the image */
	char tie[RULES_ERROR_MAX];       /* the first tie, as a line; "" */
	size_t refused;                  /* findings that no image can hold: a name that is none, a TLSA set too long ... */
	char refusal[RULES_ERROR_MAX];   /* the first of them, as a line; "" */
};
/* The findings of a JSON file, for `waxseal policy compile --discovered FILE` and for tests: compile without an agent.
 * NULL with `error`. All of these may be left out:
 *   {"mx":    [{"domain": "a.example", "mx": "mx.a.example", "addr": "192.0.2.1", "preference": 10, "secure": true}, ...],
 *    "tlsa":  {"mx.a.example": {"state": "none | secure | failed", "base": "alias.example", "records": ["3 1 1 AB12..."]}, ...},
 *    "sts":   {"a.example": {"mode": "none | testing | enforce", "mx": ["mx.a.example", "*.b.example"], "error": "sts-webpki-invalid"}},
 *    "probe": {"192.0.2.1": {"at": 1700000000, "version": "TLSv1.3", "chain": "trusted | untrusted | self-signed | expired |
 *              not-yet-valid | invalid", "dane": "matched | no-match | name-mismatch | expired | invalid", "names": ["mx.a.example"],
 *              "cert": "SHA256", "key": "SHA256"}},
 *    "seen":  {"192.0.2.1": 1700000000}} */
struct discovered *discovered_read(const char *path, char *error, size_t error_len);
void discovered_free(struct discovered *discovered); /* one that discovered_read() made */
/* The same, with what was found in it: discovered.c says which address goes where, findings.c what becomes of the rest.
 * `discovered` may be NULL. */
void *ruleset_compile_discovered(const struct ruleset *set, struct discovered *discovered, uint64_t generation, uint64_t now,
				 size_t *len, char *error, size_t error_len);
/* The names whose MX are of interest: plain domains with a rule, and those in providers' lists, and what else their rule
 * may ask for. `each` may get one twice. */
enum ruleset_need {
	NEED_STS = 1,   /* the rule has no level: as discovered */
	NEED_PROBE = 2, /* its servers' certificates count, or what a probe finds does */
};
void ruleset_domains(const struct ruleset *set, void (*each)(void *context, const char *domain, unsigned needs), void *context);
/* Temporary name in the same folder, write, fsync, rename, fsync of the folder. 0 / -errno with `error`. */
int image_write(const char *path, const void *image, size_t len, char *error, size_t error_len);

/* Redis' key -> canonical key: "waxseal:policy:Example.ORG" -> "example.org", "waxseal:provider:google"
 * -> "provider:google". -ENOENT if it is none of ours (waxseal:generation, waxseal:seen: ...). And back. */
/* -EINVAL if it is one of ours but names no domain, network or provider: `out` then has what rule_parse()
 * would explain. -ENOSPC if it does not fit. */
int rule_key_from_redis(const char *prefix, const char *redis_key, char *out, size_t out_len);
int rule_key_to_redis(const char *prefix, const char *key, char *out, size_t out_len);

#endif
