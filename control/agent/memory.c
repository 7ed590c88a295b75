/*
 * memory.c - struct ruleset to JSON and back, through the rules' own text form of each attribute.
 *
 * Rules are read with the same parser as those from Redis: a file that somebody edited cannot put
 * anything into force that Redis could not.
 */
#include "memory.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct rule *rule_from_json(const char *key, json_t *attributes)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	char error[RULES_ERROR_MAX];
	const char *name;
	json_t *value;
	size_t count = 0;

	json_object_foreach(attributes, name, value)
	{
		if (count == RULE_FIELDS_MAX || !json_is_string(value))
			return NULL;
		fields[count++] = (struct rule_field){.name = name, .value = json_string_value(value)};
	}
	return rule_parse(key, fields, count, error, sizeof(error));
}

struct ruleset *memory_read(const char *path, uint64_t *generation, json_t **findings, char *error, size_t error_len)
{
	json_error_t where;
	const char *key;
	json_t *attributes;

	*error = 0;
	*findings = NULL;
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return NULL;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	json_t *rules = json_object_get(root, "rules");
	if (!json_is_object(rules)) {
		snprintf(error, error_len, "%s:%d: %.100s; the rules in force are taken from Redis alone", path,
			 root ? 1 : where.line, root ? "has no rules" : where.text);
		json_decref(root);
		return NULL;
	}
	struct ruleset *set = ruleset_new();
	json_object_foreach(rules, key, attributes)
	{
		struct rule *rule = rule_from_json(key, attributes);
		if (!rule || rule_unsupported(rule)) {
			snprintf(error, error_len, "%s: rule %.100s is not understood any more, and left out", path, key);
			rule_free(rule);
		} else {
			ruleset_put(set, rule);
		}
	}
	*generation = (uint64_t)json_integer_value(json_object_get(root, "generation"));
	json_object_del(root, "rules");
	json_object_del(root, "generation");
	*findings = root;
	return set;
}

int memory_write(const char *path, const struct ruleset *rules, uint64_t generation, json_t *findings, char *error,
		 size_t error_len)
{
	json_t *root = json_object(), *object = json_object();
	struct rule_field fields[RULE_FIELDS_MAX];
	int rc = -ENOMEM;

	json_object_set_new(root, "generation", json_integer((json_int_t)generation));
	json_object_set_new(root, "rules", object);
	for (size_t i = 0; i < ruleset_count(rules); i++) {
		const struct rule *rule = ruleset_at(rules, i);
		size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
		json_t *attributes = json_object();
		for (size_t f = 0; f < count; f++)
			json_object_set_new(attributes, fields[f].name, json_string(fields[f].value));
		json_object_set_new(object, rule_key(rule), attributes);
	}
	if (findings)
		json_object_update(root, findings);
	json_decref(findings);
	char *text = json_dumps(root, JSON_INDENT(1));
	if (text)
		rc = image_write(path, text, strlen(text), error, error_len);
	else
		snprintf(error, error_len, "%s: no memory to write it", path);
	free(text);
	json_decref(root);
	return rc;
}
