/*
 * policy_text.c - rules from a text file: check them, compile them. No Redis.
 *
 * All bad lines are named, not only the first; one bad line, or two rules in conflict, and no image is
 * written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../policy/rules.h"
#include "cli.h"
#include "link.h"

static void report(void *context, const char *message)
{
	(void)context;
	cli_fail("%s", message);
}

/* Every rule without mode and percent: as if all were enforced. */
static struct ruleset *enforced(const struct ruleset *set)
{
	struct rule_field all[RULE_FIELDS_MAX], kept[RULE_FIELDS_MAX];
	struct ruleset *out = ruleset_new();
	char error[RULES_ERROR_MAX];
	const struct rule *rule;

	for (size_t i = 0; (rule = ruleset_at(set, i)); i++) {
		size_t count = rule_fields(rule, all, RULE_FIELDS_MAX), n = 0;
		for (size_t f = 0; f < count; f++)
			if (strcmp(all[f].name, "mode") && strcmp(all[f].name, "percent"))
				kept[n++] = all[f];
		struct rule *parsed = rule_parse(rule_key(rule), kept, n, error, sizeof(error));
		if (parsed)
			ruleset_put(out, parsed);
	}
	return out;
}

void *cli_compile(const char *path, const char *found, bool enforce, uint64_t now, size_t *len, size_t *rules)
{
	char error[RULES_ERROR_MAX];
	struct discovered *discovered = found ? discovered_read(found, error, sizeof(error)) : NULL;
	struct ruleset *set = ruleset_new();
	void *image = NULL;

	if (!set) {
		cli_fail("no memory");
		return NULL;
	}
	int bad = ruleset_read(set, path, report, NULL);
	*rules = ruleset_count(set);
	if (found && !discovered) {
		cli_fail("%s", error);
	} else if (bad > 0) {
		cli_fail("%s: %d bad line%s", path, bad, bad == 1 ? "" : "s");
	} else if (bad == 0) {
		if (enforce) {
			struct ruleset *strict = enforced(set);
			ruleset_free(set);
			set = strict;
		}
		image = ruleset_compile_discovered(set, discovered, now, now, len, error, sizeof(error));
		if (!image)
			cli_fail("%s: %s", path, error);
		else if (discovered && discovered->refused)
			fprintf(stderr, "%s: %zu left out: %s\n", found, discovered->refused, discovered->refusal);
	}
	discovered_free(discovered);
	ruleset_free(set);
	return image;
}

int policy_compile(struct cli *cli)
{
	const char *out = cli->config.image, *path = NULL, *found = NULL;
	char error[CLI_ERROR_MAX];
	size_t len, rules;

	for (int i = 0; i < cli->argc; i++) {
		if (!strcmp(cli->argv[i], "-o") || !strcmp(cli->argv[i], "--output")) {
			if (++i == cli->argc)
				return cli_usage(cli, "-o: the name of the image is missing");
			out = cli->argv[i];
		} else if (!strcmp(cli->argv[i], "--discovered")) {
			if (++i == cli->argc)
				return cli_usage(cli, "--discovered: the name of a file of findings is missing");
			found = cli->argv[i];
		} else if (path || cli->argv[i][0] == '-') {
			return cli_usage(cli, "%s: not expected", cli->argv[i]);
		} else {
			path = cli->argv[i];
		}
	}
	if (!path)
		return cli_usage(cli, "the name of a file with rules is missing");
	uint64_t now = (uint64_t)time(NULL);
	void *image = cli_compile(path, found, false, now, &len, &rules);
	if (!image)
		return CLI_FAILED;
	int rc = image_write(out, image, len, error, sizeof(error));
	free(image);
	if (rc != 0)
		return cli_fail("%s", error);
	if (cli->json)
		link_print_json(json_pack("{s:s, s:I, s:I, s:I}", "image", out, "rules", (json_int_t)rules, "bytes", (json_int_t)len,
					  "generation", (json_int_t)now));
	else
		printf("%s: %zu rule%s, %zu bytes, generation %" PRIu64 "\n", out, rules, rules == 1 ? "" : "s", len, now);
	return CLI_OK;
}

static int check_rule(struct cli *cli, const char *line)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	char error[RULES_ERROR_MAX] = "";
	struct rule *rule = rule_parse_line(line, error, sizeof(error));

	if (!rule)
		return cli_fail("%s", *error ? error : "--rule: no rule; write \"KEY attribute=value ...\"");
	const char *unsupported = rule_unsupported(rule);
	if (unsupported) {
		cli_fail("%s: %s", rule_key(rule), unsupported);
	} else if (cli->json) {
		size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
		json_t *attributes = json_object();
		for (size_t i = 0; i < count; i++)
			json_object_set_new(attributes, fields[i].name, json_string(fields[i].value));
		link_print_json(json_pack("{s:s, s:o}", "key", rule_key(rule), "attributes", attributes));
	} else {
		rule_print(stdout, rule_key(rule), fields, rule_fields(rule, fields, RULE_FIELDS_MAX));
		putchar('\n');
	}
	rule_free(rule);
	return unsupported ? CLI_FAILED : CLI_OK;
}

int policy_check(struct cli *cli)
{
	size_t len, rules;

	if (cli->argc == 2 && !strcmp(cli->argv[0], "--rule"))
		return check_rule(cli, cli->argv[1]);
	if (cli->argc == 1 && !strncmp(cli->argv[0], "--rule=", 7))
		return check_rule(cli, cli->argv[0] + 7);
	if (cli->argc != 1 || cli->argv[0][0] == '-')
		return cli_usage(cli, "one file, or one --rule");
	void *image = cli_compile(cli->argv[0], NULL, false, (uint64_t)time(NULL), &len, &rules);
	if (!image)
		return CLI_FAILED;
	free(image);
	if (cli->json)
		link_print_json(json_pack("{s:s, s:I}", "file", cli->argv[0], "rules", (json_int_t)rules));
	else
		printf("%s: %zu rule%s, nothing wrong\n", cli->argv[0], rules, rules == 1 ? "" : "s");
	return CLI_OK;
}
