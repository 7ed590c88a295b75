/*
 * history.c - walks the entries: the last one at or before a generation says what a key was, else the first one
 * behind it by what it found.
 */
#include "history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generation.h"
#include "link.h"

static uint64_t number_of(const json_t *entry)
{
	return link_number(entry, "generation");
}

/* ---- reading ---- */

json_t *history_entry(const struct rule_field *fields, size_t count)
{
	static const char *const names[] = {"generation", "time", "author", "what", "changes"};
	const char *values[5] = {0};

	for (size_t i = 0; i < count; i++)
		for (size_t n = 0; n < 5; n++)
			if (!strcmp(fields[i].name, names[n]))
				values[n] = fields[i].value;
	for (size_t n = 0; n < 5; n++)
		if (!values[n])
			return NULL;
	json_t *changes = json_loads(values[4], JSON_REJECT_DUPLICATES, NULL), *entry = json_object(), *change;
	const char *redis_key;
	bool good = json_is_object(changes);
	json_object_foreach(changes, redis_key, change)
		good &= json_is_object(change) && json_object_get(change, "before") && json_object_get(change, "after");
	if (!good || !strtoull(values[0], NULL, 10)) {
		json_decref(changes);
		json_decref(entry);
		return NULL;
	}
	json_object_set_new(entry, "generation", json_integer((json_int_t)strtoull(values[0], NULL, 10)));
	json_object_set_new(entry, "time", json_integer((json_int_t)strtoull(values[1], NULL, 10)));
	link_json_set(entry, "author", values[2]);
	link_json_set(entry, "what", values[3]);
	json_object_set_new(entry, "changes", changes);
	return entry;
}

static json_t *entry_of_reply(const redisReply *reply)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX];

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
		return NULL;
	int count = link_fields(reply->element[1], fields, error, sizeof(error));
	return count > 0 ? history_entry(fields, (size_t)count) : NULL;
}

json_t *history_read(const struct cli *cli, redisContext *redis, unsigned count, char *error, size_t error_len)
{
	json_t *entries = json_array(), *entry;
	redisReply *reply = link_command(redis, error, error_len, "XREVRANGE %shistory + - COUNT %u", cli->config.redis_prefix,
					 count ? count : 2 * GENERATION_HISTORY_MAX);

	if (!reply || reply->type != REDIS_REPLY_ARRAY) {
		if (reply)
			snprintf(error, error_len, "%shistory: an answer that is none", cli->config.redis_prefix);
		json_decref(entries);
		entries = NULL;
	}
	for (size_t i = entries ? reply->elements : 0; i-- > 0;)
		if ((entry = entry_of_reply(reply->element[i])))
			json_array_append_new(entries, entry);
	if (reply)
		freeReplyObject(reply);
	return entries;
}

/* ---- what was ---- */

int history_reaches(const json_t *entries, uint64_t generation, uint64_t last, char *error, size_t error_len)
{
	uint64_t first = number_of(json_array_get(entries, 0));

	if (generation > last) {
		snprintf(error, error_len, "generation %" PRIu64 ": the last one is %" PRIu64, generation, last);
		return -1;
	}
	if (generation == last || (first && generation + 1 >= first))
		return 0;
	if (first)
		snprintf(error, error_len, "generation %" PRIu64 ": the history begins with %" PRIu64 " (%" PRIu64 " is what was before it)",
			 generation, first, first - 1);
	else
		snprintf(error, error_len, "generation %" PRIu64 ": there is no history; it begins with the first write of this command", generation);
	return -1;
}

static void put(json_t *state, const char *redis_key, json_t *hash)
{
	if (json_is_object(hash))
		json_object_set_nocheck(state, redis_key, hash);
	else
		json_object_del(state, redis_key);
}

json_t *history_state(const json_t *entries, const json_t *now, uint64_t generation)
{
	json_t *state = json_copy((json_t *)(uintptr_t)now), *entry, *change;
	const char *redis_key;

	for (size_t i = json_array_size(entries); i-- > 0;) {
		entry = json_array_get(entries, i);
		if (number_of(entry) > generation)
			json_object_foreach(json_object_get(entry, "changes"), redis_key, change)
				put(state, redis_key, json_object_get(change, "before"));
	}
	for (size_t i = 0; i < json_array_size(entries); i++) {
		entry = json_array_get(entries, i);
		if (number_of(entry) <= generation)
			json_object_foreach(json_object_get(entry, "changes"), redis_key, change)
				put(state, redis_key, json_object_get(change, "after"));
	}
	return state;
}

json_t *history_edited(const json_t *entries, const json_t *now)
{
	json_t *left = json_object(), *edited = json_object(), *change, *hash;
	const char *redis_key;

	for (size_t i = 0; i < json_array_size(entries); i++)
		json_object_foreach(json_object_get(json_array_get(entries, i), "changes"), redis_key, change)
			json_object_set_nocheck(left, redis_key, json_object_get(change, "after"));
	json_object_foreach(left, redis_key, hash)
	{
		const json_t *there = json_object_get(now, redis_key);
		if (json_is_object(hash) ? !json_equal(hash, there) : there != NULL)
			json_object_set_nocheck(edited, redis_key, hash);
	}
	json_decref(left);
	return edited;
}

char *history_gaps(const json_t *entries, uint64_t from, uint64_t to)
{
	char *text = NULL;
	size_t len, at = 0, listed = 0;
	FILE *out = open_memstream(&text, &len);

	for (uint64_t expected = from + 1; out && expected <= to;) {
		while (at < json_array_size(entries) && number_of(json_array_get(entries, at)) < expected)
			at++;
		uint64_t next = at < json_array_size(entries) ? number_of(json_array_get(entries, at)) : to + 1;
		uint64_t end = next > to ? to : next - 1; /* the gap is [expected, end] if it is one */
		if (next != expected) {
			fprintf(out, "%s%" PRIu64, listed++ ? ", " : "", expected);
			if (end > expected)
				fprintf(out, " to %" PRIu64, end);
		}
		expected = next > to ? to + 1 : next + 1;
	}
	if (out)
		fclose(out);
	return text;
}

/* ---- differences ---- */

json_t *history_diff(const json_t *a, const json_t *b)
{
	json_t *wanted = json_copy((json_t *)(uintptr_t)b), *hash;
	const char *redis_key;

	json_object_foreach((json_t *)(uintptr_t)a, redis_key, hash)
		if (!json_object_get(wanted, redis_key))
			json_object_set_new_nocheck(wanted, redis_key, json_null());
	json_t *diff = generation_changes(a, wanted);
	json_decref(wanted);
	return diff;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_side(char sign, const char *redis_key, const json_t *hash, const char *prefix, FILE *out)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char key[LINK_KEY_MAX];
	int known;

	if (!json_is_object(hash))
		return;
	known = rule_key_from_redis(prefix, redis_key, key, sizeof(key));
	fprintf(out, "%c ", sign);
	rule_print(out, known == 0 ? key : redis_key, fields, redisrules_fields(hash, fields, LINK_FIELDS_MAX));
	fputc('\n', out);
}

size_t history_print_diff(const json_t *a, const json_t *b, const char *prefix, FILE *out)
{
	json_t *diff = history_diff(a, b), *change;
	size_t count = json_object_size(diff), n = 0;
	const char **keys = calloc(count + 1, sizeof(*keys)), *redis_key;

	json_object_foreach(diff, redis_key, change)
		if (keys)
			keys[n++] = redis_key;
	if (keys)
		qsort(keys, n, sizeof(*keys), by_text);
	for (size_t i = 0; i < n; i++) {
		change = json_object_get(diff, keys[i]);
		print_side('-', keys[i], json_object_get(change, "before"), prefix, out);
		print_side('+', keys[i], json_object_get(change, "after"), prefix, out);
	}
	free(keys);
	json_decref(diff);
	return count;
}
