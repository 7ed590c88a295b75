/* control_harness.h - what the tests of control/policy/ share: rules from a line, an image of several, tables of values. */
#ifndef WAXSEAL_CONTROL_HARNESS_H
#define WAXSEAL_CONTROL_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../control/policy/compile.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char h_error[RULES_ERROR_MAX] __attribute__((unused));

static inline struct rule *h_rule(const char *line)
{
	struct rule *rule = rule_parse_line(line, h_error, sizeof(h_error));

	if (!rule)
		fail_msg("%s: refused: %s", line, h_error);
	return rule;
}

/* The line is refused, in one line that names `what`. */
static inline void h_refuses(const char *line, const char *what)
{
	struct rule *rule = rule_parse_line(line, h_error, sizeof(h_error));

	if (rule)
		fail_msg("%s: taken", line);
	if (!strstr(h_error, what) || strchr(h_error, '\n'))
		fail_msg("%s: \"%s\" should name \"%s\"", line, h_error, what);
}

/* "key a=b c=d", in the table's order. */
static inline const char *h_print(const struct rule *rule)
{
	static char text[RULES_LINE_MAX];
	struct rule_field fields[RULE_FIELDS_MAX];
	size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
	int at = snprintf(text, sizeof(text), "%s", rule_key(rule));

	for (size_t i = 0; i < count; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, " %s=%s", fields[i].name, fields[i].value);
	return text;
}

/* NULL-terminated lines. */
static inline struct ruleset *h_set(const char *const *lines)
{
	struct ruleset *set = ruleset_new();

	for (; *lines; lines++)
		ruleset_put(set, h_rule(*lines));
	return set;
}
#define H_SET(...) h_set((const char *const[]){__VA_ARGS__, NULL})

#define H_NOW 1800000000u /* 2027-01-15 */

/* Takes the set. */
static inline struct policy_image *h_image(struct ruleset *set)
{
	size_t len = 0;
	void *bytes = ruleset_compile(set, 42, H_NOW, &len, h_error, sizeof(h_error));
	struct policy_image *image;

	if (!bytes)
		fail_msg("does not compile: %s", h_error);
	image = policy_image_parse(bytes, len, h_error, sizeof(h_error));
	free(bytes);
	ruleset_free(set);
	assert_non_null(image);
	return image;
}

/* Takes the set. */
static inline void h_conflict(struct ruleset *set, const char *what)
{
	size_t len;
	void *bytes = ruleset_compile(set, 42, H_NOW, &len, h_error, sizeof(h_error));

	ruleset_free(set);
	if (bytes)
		fail_msg("compiled in spite of %s", what);
	if (!strstr(h_error, what))
		fail_msg("\"%s\" should name \"%s\"", h_error, what);
}

/* What a parser of values makes of a text: its canonical form, or a part of what it says is wrong. */
struct h_value {
	const char *text, *out, *wrong;
};

static inline void h_value(const struct h_value *v, int err, const char *out, const struct why *why)
{
	if (v->out && (err != 0 || strcmp(v->out, out) != 0))
		fail_msg("\"%s\" is %s (%s), should be %s", v->text, err ? "refused" : out, err ? why->text : "", v->out);
	if (v->wrong && (err != -EINVAL || !strstr(why->text, v->wrong)))
		fail_msg("\"%s\": %s, should name \"%s\"", v->text, err ? why->text : "taken", v->wrong);
}

#endif
