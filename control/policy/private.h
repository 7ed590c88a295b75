/*
 * private.h - what the files of control/policy share: a parsed rule, and the parsers of single values.
 *
 * A value's parser takes text, leaves its canonical form or -EINVAL, and says in `why` what is wrong and
 * what would be right; rule.c puts the key, the attribute and the value in front of it. Lack of memory
 * aborts: the programs of control/ are restarted, and the dataplane goes on from its last image.
 */
#ifndef WAXSEAL_CONTROL_POLICY_PRIVATE_H
#define WAXSEAL_CONTROL_POLICY_PRIVATE_H

#include <stdio.h>
#include <stdlib.h>

#include "../../dataplane/policy/policy.h"
#include "must.h"
#include "rules.h"

#define TEXT_MAX 255        /* owner, reason, report */
#define TOKEN_MAX 63        /* names of providers and pools */
#define KEY_MAX 320         /* longest prefix, longest domain */
#define WHY_MAX 256
#define PROTOCOL_MODERN 0x0303 /* floor of the mandatory levels unless the rule says otherwise */

struct why {
	char text[WHY_MAX];
};
__attribute__((format(printf, 2, 3))) int why_set(struct why *why, const char *format, ...); /* -EINVAL */

/* The first of `count` places in ascending order that is not below what is looked for; `count`: all are. */
static inline size_t first_not_below(size_t count, bool (*below)(const void *looked_for, size_t place), const void *looked_for)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (below(looked_for, middle))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct net {
	uint8_t addr[16]; /* network byte order; IPv4 in the first four */
	uint8_t len;
	bool ipv6;
};

struct text_list {
	char **items;
	size_t count;
};

struct net_list {
	struct net *items;
	size_t count;
};

#define ATTRIBUTES_MAX RULE_FIELDS_MAX

struct rule {
	char *key; /* canonical */
	char *name; /* the key without "provider:" */
	enum policy_kind kind;
	struct image_rule values; /* the plain values; its string offsets and match run are unused */
	struct text_list match, domains, fingerprints;
	struct net_list nets;
	char *servername, *ciphers, *exclude, *pool, *owner, *reason, *report;
	uint32_t given; /* bit i: row i of the attribute table was given */
	char *printed[ATTRIBUTES_MAX]; /* canonical text of what differs from its default, NULL otherwise */
};

/* ---- attributes.c ---- */
enum { ATTRIBUTE_NONE = -1 };
int attribute_find(const char *name);
/* 0 / -EINVAL; also refuses an attribute that a rule of this kind does not have. */
int attribute_parse(int index, struct rule *rule, const char *value, struct why *why);
char *attribute_print(int index, const struct rule *rule); /* NULL: as by default */
bool attribute_given(const struct rule *rule, const char *name);
void attribute_list(char *out, size_t len); /* "level match ..." */

/* ---- values ---- */
void text_list_add(struct text_list *list, const char *text);
void text_list_free(struct text_list *list);
/* The next item of a list; 1 with it in `item`, 0 at the end, -EINVAL if it is too long. */
int item_next(const char **cursor, const char *separators, char *item, size_t item_len);

/* rule.c: one word of a line, in place: quotes taken away, escapes resolved. 1, 0 at the end, -EINVAL. */
int word_next(char **cursor, char **word);

/* domains.c: "Example.ORG." -> "example.org" */
int domain_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 1], struct why *why);
int name_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 2], struct why *why); /* domain or .domain */
int pattern_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 3], struct why *why);
int token_parse(const char *text, const char *what, char out[TOKEN_MAX + 1], struct why *why);

/* nets.c */
#define NET_TEXT_MAX 64
int net_parse(const char *text, struct net *out, struct why *why);
void net_print(const struct net *net, char out[NET_TEXT_MAX]);

/* protocols.c: Postfix's forms to a floor and a ceiling (0: none), as wire versions */
int protocols_parse(const char *text, uint16_t *floor, uint16_t *ceiling, struct why *why);
const char *protocol_name(uint16_t version);

/* times.c: Unix seconds or RFC 3339 */
#define TIME_TEXT_MAX 32
int time_parse(const char *text, uint64_t *out, struct why *why);
void time_print(uint64_t seconds, char out[TIME_TEXT_MAX]);

/* fingerprints.c: "sha256:AB:CD...@2027-01-01" -> "cert:abcd...@2027-01-01T00:00:00Z" */
#define FINGERPRINT_TEXT_MAX (5 + 64 + 1 + TIME_TEXT_MAX)
int fingerprint_parse(const char *text, char out[FINGERPRINT_TEXT_MAX], struct why *why);
struct image_fingerprint fingerprint_read(const char *canonical); /* as fingerprint_parse leaves it */

/* ciphers.c: OpenSSL names as Postfix writes them */
int ciphers_parse(const char *text, char **out, struct why *why);
int exclude_parse(const char *text, char **out, struct why *why);
const char *ciphers_openssl(const char *ciphers); /* Postfix' grades in OpenSSL's words */

/* keys.c */
int key_parse(const char *text, char out[KEY_MAX], enum policy_kind *kind, struct why *why);
/* What stands behind "client:" and "inbound:". */
const char *key_subject(const char *key);
bool key_subject_is_net(const char *subject); /* net_parse() takes it; otherwise a domain, or "*" */

#endif
