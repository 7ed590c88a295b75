/*
 * policy_import.c - policy import and policy export: Postfix's smtp_tls_policy_maps, in and out of Redis.
 *
 * An import is one generation: all of it or nothing. Rules of the table replace those of the same key; others stay.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../policy/postfix.h"
#include "cli.h"
#include "generation.h"
#include "history.h"
#include "link.h"

/* ---- import ---- */

struct import {
	const char *path;
	struct ruleset *set;
	size_t unsaid;
	json_t *said; /* --json: what was said, by line */
	json_t *from, *to;
	bool dry_run;
};

static void say(void *context, unsigned line, enum postfix_what what, const char *message)
{
	struct import *import = context;
	json_t *entry = json_object();

	cli_fail("%s:%u: %s", import->path, line, message);
	import->unsaid += what == POSTFIX_UNSAID;
	json_object_set_new(entry, "line", json_integer(line));
	json_object_set_new(entry, "refused", json_boolean(what == POSTFIX_UNSAID));
	link_json_set(entry, "message", message);
	json_array_append_new(import->said, entry);
}

/* The whole file, or standard input for "-". NULL having said why. */
static char *read_file(const char *path, size_t *len)
{
	FILE *in = strcmp(path, "-") ? fopen(path, "re") : stdin;
	char *text = NULL;
	size_t room = 0, got = 1;

	*len = 0;
	if (!in) {
		cli_fail("%s: %s", path, strerror(errno));
		return NULL;
	}
	while (got && *len <= POSTFIX_BYTES_MAX) {
		if (*len == room) {
			room = room ? 2 * room : 65536;
			char *bigger = realloc(text, room);
			if (!bigger)
				break;
			text = bigger;
		}
		got = fread(text + *len, 1, room - *len, in);
		*len += got;
	}
	bool whole = text && !got && !ferror(in);
	if (in != stdin)
		fclose(in);
	if (whole)
		return text;
	free(text);
	cli_fail("%s: cannot be read, or is larger than %u MB", path, POSTFIX_BYTES_MAX >> 20);
	return NULL;
}

static json_t *hashes_of(const struct cli *cli, const struct ruleset *set)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	char redis_key[LINK_KEY_MAX];
	json_t *hashes = json_object();
	const struct rule *rule;

	for (size_t i = 0; (rule = ruleset_at(set, i)); i++) {
		size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
		json_t *hash = json_object();
		for (size_t f = 0; f < count; f++)
			json_object_set_new(hash, fields[f].name, json_string(fields[f].value));
		if (rule_key_to_redis(cli->config.redis_prefix, rule_key(rule), redis_key, sizeof(redis_key)) == 0)
			json_object_set(hashes, redis_key, hash);
		json_decref(hash);
	}
	return hashes;
}

static int plan_import(void *context, struct generation *g)
{
	struct import *import = context;
	int rc = generation_read(g, import->to);

	json_object_update(g->after, import->to);
	json_decref(import->from);
	import->from = json_copy(g->before);
	if (rc == CLI_OK && import->dry_run)
		json_object_clear(g->after);
	return rc;
}

/* Before: null where nothing stood. For the diff such keys are left out. */
static void drop_nulls(json_t *hashes)
{
	const char *key;
	json_t *hash;
	void *next;

	json_object_foreach_safe(hashes, next, key, hash)
		if (!json_is_object(hash))
			json_object_del(hashes, key);
}

static void tell_import(const struct cli *cli, struct import *import, const struct generation *g, bool written)
{
	size_t rules = ruleset_count(import->set);

	drop_nulls(import->from);
	if (cli->json) {
		link_print_json(json_pack("{s:i, s:i, s:b, s:I, s:O, s:o}", "rules", (int)rules, "refused", (int)import->unsaid, "written", written,
					  "generation", (json_int_t)g->number, "lines", import->said, "changes",
					  history_diff(import->from, import->to)));
		return;
	}
	size_t changed = history_print_diff(import->from, import->to, cli->config.redis_prefix, stdout);
	if (written)
		printf("generation %lld: %zu rule%s, %zu of them changed\n", g->number, rules, rules == 1 ? "" : "s", changed);
	else
		printf("nothing was written: %s\n", changed ? "--dry-run" : "all rules stand there so");
}

int policy_import(struct cli *cli)
{
	struct import import = {.dry_run = cli_flag(cli, "--dry-run"), .said = json_array(), .set = ruleset_new()};
	bool partial = cli_flag(cli, "--partial");
	struct generation g = {0};
	char *text = NULL;
	size_t len;
	int rc = CLI_FAILED;

	if (cli->argc != 1 || (cli->argv[0][0] == '-' && cli->argv[0][1])) {
		rc = cli_usage(cli, "the name of one table is wanted");
		goto out;
	}
	import.path = cli->argv[0];
	text = read_file(import.path, &len);
	if (!text)
		goto out;
	postfix_read(text, len, import.set, say, &import);
	if (import.unsaid && !partial && !import.dry_run) {
		rc = cli_fail("%s: %zu line%s cannot be said in rules; nothing was written; --partial writes the other %zu", import.path, import.unsaid,
			      import.unsaid == 1 ? "" : "s", ruleset_count(import.set));
		goto out;
	}
	import.to = hashes_of(cli, import.set);
	snprintf(g.what, sizeof(g.what), "import %s", import.path);
	rc = generation_write(cli, &g, plan_import, &import);
	if (rc != CLI_FAILED) {
		tell_import(cli, &import, &g, rc == CLI_OK);
		rc = import.unsaid && !partial ? CLI_FAILED : CLI_OK;
	}
out:
	free(text);
	ruleset_free(import.set);
	json_decref(import.said);
	json_decref(import.from);
	json_decref(import.to);
	generation_dispose(&g);
	return rc;
}

/* ---- export ---- */

static int collect(void *context, const char *redis_key, const char *key, redisReply *reply)
{
	struct import *export = context;
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX];
	int count = link_fields(reply, fields, error, sizeof(error));
	struct rule *rule = count > 0 ? rule_parse(key, fields, (size_t)count, error, sizeof(error)) : NULL;

	if (rule) {
		ruleset_put(export->set, rule);
	} else if (count != 0) {
		cli_fail("%s: refused, and not exported: %s", redis_key, error);
		export->unsaid++;
	}
	freeReplyObject(reply);
	return 0;
}

int policy_export(struct cli *cli)
{
	struct import export = {.set = ruleset_new()};
	char error[CLI_ERROR_MAX];
	const struct rule *rule;
	size_t beside = 0;
	int rc = CLI_OK;

	if (cli->argc != 0) {
		ruleset_free(export.set);
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	}
	redisContext *redis = link_redis(cli, error, sizeof(error));
	if (!redis || redisrules_each(cli, redis, collect, &export, error, sizeof(error)) < 0)
		rc = cli_fail("%s", error);
	if (redis)
		redisFree(redis);
	if (rc == CLI_OK)
		postfix_write_head(stdout);
	for (size_t i = 0; rc == CLI_OK && (rule = ruleset_at(export.set, i)); i++) {
		postfix_write(rule, stdout);
		beside += postfix_unsayable(rule) != NULL;
	}
	fflush(stdout);
	if (rc == CLI_OK && beside)
		cli_fail("%zu of %zu rules have no line for Postfix: comments say which and why", beside, ruleset_count(export.set));
	ruleset_free(export.set);
	return rc == CLI_OK && export.unsaid ? CLI_FAILED : rc;
}
