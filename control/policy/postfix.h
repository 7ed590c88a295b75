/*
 * postfix.h - the text of a Postfix smtp_tls_policy_maps table (postconf(5), hash: or texthash: before postmap), to
 * rules and back.
 *
 * Enters: lines "domain level attr=value ...", comments, lines that begin with a blank and go on with the one before.
 * Leaves: rules; and what waxseal's rules cannot say, by line. waxseal's own attributes may stand in a line, too.
 * Written, a table is one that Postfix reads; what Postfix cannot say stands in comments that are read back:
 *
 *   # waxseal with: on_fail=reject owner=noc       more attributes for the next line
 *   # waxseal rule: provider:google level=may ...  a rule that has no place in the table
 */
#ifndef WAXSEAL_POSTFIX_H
#define WAXSEAL_POSTFIX_H

#include "rules.h"

#define POSTFIX_BYTES_MAX (64u << 20) /* of a table */

enum postfix_what {
	POSTFIX_UNSAID, /* the line asks for what no rule says; it has become none */
	POSTFIX_NOTE,   /* a rule was made without something that is nothing to it */
};
typedef void postfix_say(void *context, unsigned line, enum postfix_what what, const char *message);
/* Rules go to `set`, which is empty; a key stands once in a table. `text` is any bytes. */
void postfix_read(const char *text, size_t len, struct ruleset *set, postfix_say *say, void *context);

/* Why a rule has no line of its own in a table; NULL if it has. */
const char *postfix_unsayable(const struct rule *rule);
void postfix_write_head(FILE *out);
void postfix_write(const struct rule *rule, FILE *out); /* its lines; a comment alone where it is unsayable */

#endif
