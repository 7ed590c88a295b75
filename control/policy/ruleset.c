/*
 * ruleset.c - all rules of an operator, one under each key.
 *
 * Enters: parsed rules, or a text file of them. Leaves: look-up by key, and the rules in order of key. A hash
 * table holds them; the sorted list is made when it is first asked for after a change, so that 100,000
 * puts cost no 100,000 sorts. Refuses: no rule. A bad line of a file is reported and the others are read.
 */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define SLOTS_MIN 64

struct table {
	struct rule **slots; /* open addressing, at most half full */
	size_t mask, count;
	const struct rule **order; /* NULL: changed since it was made */
};

struct ruleset {
	struct table *table;
};

struct ruleset *ruleset_new(void)
{
	struct ruleset *set = must(calloc(1, sizeof(*set)));

	set->table = must(calloc(1, sizeof(*set->table)));
	set->table->slots = must(calloc(SLOTS_MIN, sizeof(*set->table->slots)));
	set->table->mask = SLOTS_MIN - 1;
	return set;
}

void ruleset_free(struct ruleset *set)
{
	if (!set)
		return;
	for (size_t i = 0; i <= set->table->mask; i++)
		rule_free(set->table->slots[i]);
	free(set->table->slots);
	free(set->table->order);
	free(set->table);
	free(set);
}

/* The slot of a key, or the free one where it belongs. */
static size_t slot_of(const struct table *table, const char *key)
{
	size_t slot = XXH3_64bits(key, strlen(key)) & table->mask;

	while (table->slots[slot] && strcmp(table->slots[slot]->key, key) != 0)
		slot = (slot + 1) & table->mask;
	return slot;
}

static void forget_order(struct table *table)
{
	free(table->order);
	table->order = NULL;
}

static void grow(struct table *table)
{
	struct rule **old = table->slots;
	size_t old_slots = table->mask + 1;

	table->slots = must(calloc(old_slots * 2, sizeof(*table->slots)));
	table->mask = old_slots * 2 - 1;
	for (size_t i = 0; i < old_slots; i++)
		if (old[i])
			table->slots[slot_of(table, old[i]->key)] = old[i];
	free(old);
}

static int by_key(const void *a, const void *b)
{
	return strcmp((*(const struct rule *const *)a)->key, (*(const struct rule *const *)b)->key);
}

/* An edit of one rule among many must not cost sorting them all. */
static void replace_in_order(struct table *table, const struct rule *old, const struct rule *new)
{
	const struct rule **at = table->order ? bsearch(&old, table->order, table->count, sizeof(*table->order), by_key) : NULL;

	if (at)
		*at = new;
}

void ruleset_put(struct ruleset *set, struct rule *rule)
{
	struct table *table = set->table;
	size_t slot = slot_of(table, rule->key);

	if (table->slots[slot]) {
		replace_in_order(table, table->slots[slot], rule);
		rule_free(table->slots[slot]);
		table->slots[slot] = rule;
		return;
	}
	forget_order(table);
	table->slots[slot] = rule;
	if (++table->count > table->mask / 2)
		grow(table);
}

bool ruleset_remove(struct ruleset *set, const char *key)
{
	struct table *table = set->table;
	size_t hole = slot_of(table, key);

	if (!table->slots[hole])
		return false;
	forget_order(table);
	rule_free(table->slots[hole]);
	table->slots[hole] = NULL;
	table->count--;
	/* What stands behind the hole may have come from before it: put each in its place again. */
	for (size_t i = (hole + 1) & table->mask; table->slots[i]; i = (i + 1) & table->mask) {
		struct rule *moved = table->slots[i];

		table->slots[i] = NULL;
		table->slots[slot_of(table, moved->key)] = moved;
	}
	return true;
}

const struct rule *ruleset_find(const struct ruleset *set, const char *key)
{
	return set->table->slots[slot_of(set->table, key)];
}

size_t ruleset_count(const struct ruleset *set)
{
	return set->table->count;
}

static void make_order(struct table *table)
{
	size_t n = 0;

	table->order = must(calloc(table->count, sizeof(*table->order)));
	for (size_t i = 0; i <= table->mask; i++)
		if (table->slots[i])
			table->order[n++] = table->slots[i];
	qsort(table->order, n, sizeof(*table->order), by_key);
}

const struct rule *ruleset_at(const struct ruleset *set, size_t index)
{
	if (index >= set->table->count)
		return NULL;
	if (!set->table->order)
		make_order(set->table);
	return set->table->order[index];
}

/* ---- text files ---- */

struct reader {
	const char *path;
	unsigned line;
	struct ruleset *set, *seen; /* `seen`: of this file; its rules move to `set` at the end */
	void (*report)(void *context, const char *message);
	void *context;
};

static void complain(const struct reader *reader, const char *what)
{
	char message[RULES_ERROR_MAX + 256];

	snprintf(message, sizeof(message), "%s:%u: %s", reader->path, reader->line, what);
	reader->report(reader->context, message);
}

/* 1 if the line is bad. */
static int take_line(struct reader *reader, const char *line, size_t len)
{
	char error[RULES_ERROR_MAX] = "";
	struct rule *rule;

	if (strlen(line) != len) {
		complain(reader, "a NUL byte in the line; the file is plain text");
		return 1;
	}
	rule = rule_parse_line(line, error, sizeof(error));
	if (!rule && !error[0])
		return 0;
	if (rule && ruleset_find(reader->seen, rule->key)) {
		snprintf(error, sizeof(error), "%.300s: stands in this file already; one line a key", rule->key);
		rule_free(rule);
		rule = NULL;
	}
	if (!rule) {
		complain(reader, error);
		return 1;
	}
	ruleset_put(reader->seen, rule);
	return 0;
}

static void move_all(struct ruleset *to, struct ruleset *from)
{
	for (size_t i = 0; i <= from->table->mask; i++)
		if (from->table->slots[i]) {
			ruleset_put(to, from->table->slots[i]);
			from->table->slots[i] = NULL;
		}
}

int ruleset_read(struct ruleset *set, const char *path, void (*report)(void *context, const char *message), void *context)
{
	struct reader reader = {.path = path, .set = set, .report = report, .context = context};
	char *line = NULL, message[RULES_ERROR_MAX];
	FILE *file = fopen(path, "re");
	size_t size = 0;
	int bad = 0, err = 0;
	ssize_t len;

	if (!file) {
		err = errno;
		snprintf(message, sizeof(message), "%s: cannot open: %s", path, strerror(err));
		report(context, message);
		return -err;
	}
	reader.seen = ruleset_new();
	errno = 0;
	while ((len = getline(&line, &size, file)) >= 0) {
		reader.line++;
		bad += take_line(&reader, line, (size_t)len);
		errno = 0;
	}
	if (ferror(file)) {
		err = errno ? errno : EIO;
		snprintf(message, sizeof(message), "%s: cannot read: %s", path, strerror(err));
		report(context, message);
	} else {
		move_all(set, reader.seen);
	}
	free(line);
	fclose(file);
	ruleset_free(reader.seen);
	return err ? -err : bad;
}
