/*
 * control_rules.c - fuzzing of the way from text to an image: a file of rules, as it would be read.
 *
 * Each line is parsed; what is taken must survive printing (the agent keeps its memory in that form) and name no
 * control character in an error. All that was taken is compiled; the compiler must either refuse, naming why, or
 * make an image that the dataplane's reader takes: "does not pass the dataplane's check" is a bug here.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "../../control/policy/rules.h"
#include "../../control/policy/text.h"

#define INPUT_MAX (1u << 15)
#define NOW 1800000000u

static void survives_printing(const struct rule *rule)
{
	struct rule_field fields[RULE_FIELDS_MAX], again_fields[RULE_FIELDS_MAX];
	char error[RULES_ERROR_MAX];
	size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
	struct rule *again = rule_parse(rule_key(rule), fields, count, error, sizeof(error));

	if (!again || strcmp(rule_key(again), rule_key(rule)) != 0 || rule_expires(again) != rule_expires(rule))
		abort();
	if (rule_fields(again, again_fields, RULE_FIELDS_MAX) != count)
		abort();
	for (size_t i = 0; i < count; i++)
		if (strcmp(fields[i].name, again_fields[i].name) != 0 || strcmp(fields[i].value, again_fields[i].value) != 0 ||
		    !text_printable(fields[i].value))
			abort();
	rule_free(again);
}

/* The key by way of Redis is the same rule's. */
static void survives_redis(const struct rule *rule)
{
	char redis_key[512], key[512];

	if (rule_key_to_redis("waxseal:", rule_key(rule), redis_key, sizeof(redis_key)) != 0 ||
	    rule_key_from_redis("waxseal:", redis_key, key, sizeof(key)) != 0 || strcmp(key, rule_key(rule)) != 0)
		abort();
}

static void take_line(struct ruleset *set, const char *line)
{
	char error[RULES_ERROR_MAX], out[512];
	struct rule *rule = rule_parse_line(line, error, sizeof(error));

	rule_key_from_redis("waxseal:", line, out, sizeof(out)); /* any key at all may stand in Redis */
	if (!rule) {
		if (!text_printable(error))
			abort();
		return;
	}
	survives_printing(rule);
	survives_redis(rule);
	if (rule_unsupported(rule))
		rule_free(rule);
	else
		ruleset_put(set, rule);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ruleset *set;
	char error[RULES_ERROR_MAX] = "", *text, *cursor, *line;
	size_t len;
	void *image;

	if (size > INPUT_MAX)
		return 0;
	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	set = ruleset_new();
	for (cursor = text; (line = strsep(&cursor, "\n"));)
		take_line(set, line);
	image = ruleset_compile(set, 1, NOW, &len, error, sizeof(error));
	if (!image && (!error[0] || strstr(error, "dataplane's check")))
		abort();
	free(image);
	ruleset_free(set);
	free(text);
	return 0;
}
