/*
 * rules.h - from what a person wrote to the policy image.
 *
 * Enters: rules as key and attributes, from a text file (one a line) or from Redis hashes. Leaves: a
 * struct ruleset, and from it a policy image (dataplane/policy/image.h). One parser for both sources:
 * each attribute is a row of one const table {name, parse, print, help}.
 *
 * A line:  example.org level=verify match=mx.example.org:.example.org protocols=>=TLSv1.2 reason="bank, 2027"
 * A Postfix policy line is one too: example.org verify match=mx.example.org ("level=" may be left out).
 * Values with blanks stand in double quotes, where \\ and \" mean themselves; # begins a comment.
 * Keys:    example.org  .example.org  *  provider:google  client:10.0.0.0/8  inbound:*  inbound:example.org
 * In Redis the same key stands behind "waxseal:policy:", "waxseal:provider:" ... as policy.md says.
 */
#ifndef WAXSEAL_RULES_H
#define WAXSEAL_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* What the DNS says: `addr` (network byte order, IPv4 as v4-mapped) is an MX of `domain`, by the name `mx`.
 * Names are lower case and such as the image may hold. */
struct discovered_claim {
	const char *domain, *mx;
	uint16_t preference;
	uint8_t addr[16];
};
struct discovered {
	const struct discovered_claim *claims; /* in any order */
	size_t count;
	/* Filled in: */
	size_t prefixes, ties, left_out; /* addresses placed; claimed by two providers; no room for them in the image */
	char tie[RULES_ERROR_MAX];       /* the first tie, as a line; "" */
};
/* The same, with the addresses of rules' domains in it: discovered.c says which goes where. `discovered` may be NULL. */
void *ruleset_compile_discovered(const struct ruleset *set, struct discovered *discovered, uint64_t generation, uint64_t now,
				 size_t *len, char *error, size_t error_len);
/* The names whose MX are of interest: plain domains with a rule, and those in providers' lists. `each` may get one twice. */
void ruleset_domains(const struct ruleset *set, void (*each)(void *context, const char *domain), void *context);
/* Temporary name in the same folder, write, fsync, rename, fsync of the folder. 0 / -errno with `error`. */
int image_write(const char *path, const void *image, size_t len, char *error, size_t error_len);

/* Redis' key -> canonical key: "waxseal:policy:Example.ORG" -> "example.org", "waxseal:provider:google"
 * -> "provider:google". -ENOENT if it is none of ours (waxseal:generation, waxseal:seen: ...). And back. */
/* -EINVAL if it is one of ours but names no domain, network or provider: `out` then has what rule_parse()
 * would explain. -ENOSPC if it does not fit. */
int rule_key_from_redis(const char *prefix, const char *redis_key, char *out, size_t out_len);
int rule_key_to_redis(const char *prefix, const char *key, char *out, size_t out_len);

#endif
