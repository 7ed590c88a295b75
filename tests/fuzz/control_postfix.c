/*
 * control_postfix.c - fuzzing of Postfix tables: any bytes, as a table.
 *
 * What is said of a line is printable. The rules that came out are written as a table and read again: they must be the
 * same rules, and nothing may be said of a table that was written here.
 */
#include <stdlib.h>
#include <string.h>

#include "../../control/policy/postfix.h"
#include "../../control/policy/text.h"

#define INPUT_MAX (1u << 15)

static void say(void *context, unsigned line, enum postfix_what what, const char *message)
{
	(void)what;
	if (!line || !*message || !text_printable(message))
		abort();
	if (context)
		abort();
}

/* But for the level that is a rule's where none is said: a line of Postfix's has to say it. */
static size_t fields_of(const struct rule *rule, struct rule_field out[RULE_FIELDS_MAX])
{
	size_t count = rule_fields(rule, out, RULE_FIELDS_MAX), kept = 0;

	for (size_t i = 0; i < count; i++)
		if (strcmp(out[i].name, "level") != 0 || strcmp(out[i].value, "may") != 0)
			out[kept++] = out[i];
	return kept;
}

static void same(const struct rule *a, const struct rule *b)
{
	struct rule_field x[RULE_FIELDS_MAX], y[RULE_FIELDS_MAX];
	size_t count = fields_of(a, x);

	if (strcmp(rule_key(a), rule_key(b)) != 0 || fields_of(b, y) != count)
		abort();
	for (size_t i = 0; i < count; i++)
		if (strcmp(x[i].name, y[i].name) != 0 || strcmp(x[i].value, y[i].value) != 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ruleset *set, *again;
	char *text = NULL;
	size_t len;
	FILE *out;

	if (size > INPUT_MAX)
		return 0;
	set = ruleset_new();
	again = ruleset_new();
	postfix_read((const char *)data, size, set, say, NULL);
	out = open_memstream(&text, &len);
	for (size_t i = 0; i < ruleset_count(set); i++)
		postfix_write(ruleset_at(set, i), out);
	fclose(out);
	postfix_read(text, len, again, say, again);
	if (ruleset_count(again) != ruleset_count(set))
		abort();
	for (size_t i = 0; i < ruleset_count(set); i++)
		same(ruleset_at(set, i), ruleset_at(again, i));
	ruleset_free(set);
	ruleset_free(again);
	free(text);
	return 0;
}
