/*
 * store.c - groups of Redis keys by the rule they name, and the rules in force.
 *
 * A group is one canonical key with its sources: usually one Redis key, but "waxseal:policy:Example.ORG"
 * and "waxseal:policy:example.org" name the same rule; the canonical spelling then goes first and the
 * other one is refused. `live` is the set that last compiled. Groups that changed wait in a list; a
 * compile applies them all, and if that fails, halves of them, until the ones in conflict stand alone.
 */
#include "store.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../policy/must.h"

struct source {
	struct source *next;
	char *redis_key;
	bool alias;        /* not the canonical spelling */
	struct rule *rule; /* or */
	char *error;       /* why there is none */
	unsigned epoch;    /* sync that saw it last */
};

struct group {
	char *key;
	struct source *sources; /* canonical spelling first */
	char *conflict;         /* why the first source's rule is not in force */
	bool pending;
	struct group *next_pending;
};

struct store {
	char *prefix;
	void *groups; /* tsearch tree by key */
	struct group *pending;
	struct ruleset *live;
	unsigned epoch;
	size_t keys;
	bool seen, foreign, refuses_empty;
	/* Groups with something to refuse: walking all of them, several times a second, would be most of the work. */
	struct group **refusing;
	size_t refusing_count, refusing_room, conflicts;
	bool refusing_stale; /* one may have joined or left them */
};

struct change {
	struct group *group;
	const struct rule *target; /* NULL: delete */
	struct rule *before;       /* NULL: was not there */
};

static int compare_groups(const void *a, const void *b)
{
	return strcmp(((const struct group *)a)->key, ((const struct group *)b)->key);
}

static struct group *group_find(const struct store *store, const char *key)
{
	struct group probe = {.key = (char *)key};
	struct group **at = tfind(&probe, (void *const *)&store->groups, compare_groups);

	return at ? *at : NULL;
}

static struct group *group_get(struct store *store, const char *key)
{
	struct group *group = group_find(store, key);

	if (group)
		return group;
	group = must(calloc(1, sizeof(*group)));
	group->key = must(strdup(key));
	must(tsearch(group, &store->groups, compare_groups));
	return group;
}

static void group_mark(struct store *store, struct group *group)
{
	if (group->pending)
		return;
	group->pending = true;
	group->next_pending = store->pending;
	store->pending = group;
}

static void source_clear(struct source *source)
{
	rule_free(source->rule);
	free(source->error);
	source->rule = NULL;
	source->error = NULL;
}

static void source_drop(struct store *store, struct group *group, struct source **at)
{
	struct source *source = *at;

	store->refusing_stale |= source->error || group->sources->next;
	*at = source->next;
	source_clear(source);
	free(source->redis_key);
	free(source);
	store->keys--;
	group_mark(store, group);
}

static void group_free(void *memory)
{
	struct group *group = memory;

	for (struct source *next, *s = group->sources; s; s = next) {
		next = s->next;
		source_clear(s);
		free(s->redis_key);
		free(s);
	}
	free(group->conflict);
	free(group->key);
	free(group);
}

struct store *store_new(const char *redis_prefix)
{
	struct store *store = must(calloc(1, sizeof(*store)));

	store->prefix = must(strdup(redis_prefix));
	store->live = must(ruleset_new());
	return store;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	tdestroy(store->groups, group_free);
	free(store->refusing);
	ruleset_free(store->live);
	free(store->prefix);
	free(store);
}

bool store_seed(struct store *store, struct ruleset *rules)
{
	char error[RULES_ERROR_MAX];
	size_t len;
	void *image = ruleset_compile(rules, 0, 0, &len, error, sizeof(error));

	if (!image) {
		ruleset_free(rules);
		store->foreign = true; /* something was in force, even if nobody can say any more what */
		return false;
	}
	free(image);
	ruleset_free(store->live);
	store->live = rules;
	return true;
}

void store_seed_foreign(struct store *store) { store->foreign = true; }

/* ---- what Redis says ---- */

bool store_wants(const struct store *store, const char *redis_key)
{
	char key[STORE_KEY_MAX];

	return rule_key_from_redis(store->prefix, redis_key, key, sizeof(key)) != -ENOENT;
}

/* The key that a message and a group go by; one that names no rule goes by what was written. */
static void canonical_key(const struct store *store, const char *redis_key, char key[STORE_KEY_MAX])
{
	if (rule_key_from_redis(store->prefix, redis_key, key, STORE_KEY_MAX) == -ENOSPC)
		snprintf(key, STORE_KEY_MAX, "%s", redis_key);
}

static struct source **source_at(struct group *group, const char *redis_key)
{
	struct source **at = &group->sources;

	while (*at && strcmp((*at)->redis_key, redis_key))
		at = &(*at)->next;
	return at;
}

static struct source *source_get(struct store *store, const char *redis_key, char key[STORE_KEY_MAX])
{
	char spelled[STORE_KEY_MAX];

	canonical_key(store, redis_key, key);
	struct group *group = group_get(store, key);
	struct source *source = *source_at(group, redis_key);
	if (!source) {
		source = must(calloc(1, sizeof(*source)));
		source->redis_key = must(strdup(redis_key));
		source->alias = rule_key_to_redis(store->prefix, key, spelled, sizeof(spelled)) != 0 || strcmp(spelled, redis_key) != 0;
		struct source **at = &group->sources;
		while (*at && ((*at)->alias < source->alias ||
			       ((*at)->alias == source->alias && strcmp((*at)->redis_key, redis_key) < 0)))
			at = &(*at)->next;
		source->next = *at;
		*at = source;
		store->keys++;
		store->refusing_stale |= group->sources->next != NULL;
	}
	store->refusing_stale |= source->error != NULL;
	source_clear(source);
	source->epoch = store->epoch;
	store->seen = true;
	group_mark(store, group);
	return source;
}

void store_hash(struct store *store, const char *redis_key, const struct rule_field *fields, size_t count)
{
	char key[STORE_KEY_MAX], error[RULES_ERROR_MAX];
	struct source *source = source_get(store, redis_key, key);

	source->rule = rule_parse(key, fields, count, error, sizeof(error));
	if (!source->rule) {
		source->error = must(strdup(error));
		store->refusing_stale = true;
	}
}

void store_wrong(struct store *store, const char *redis_key, const char *why)
{
	char key[STORE_KEY_MAX];
	struct source *source = source_get(store, redis_key, key);

	source->error = must(strdup(why));
	store->refusing_stale = true;
}

void store_gone(struct store *store, const char *redis_key)
{
	char key[STORE_KEY_MAX];

	canonical_key(store, redis_key, key);
	struct group *group = group_find(store, key);
	struct source **at = group ? source_at(group, redis_key) : NULL;
	if (at && *at)
		source_drop(store, group, at);
	else if (!group && ruleset_find(store->live, key))
		group_mark(store, group_get(store, key)); /* in force from a former run */
}

static void group_remove(struct store *store, struct group *group)
{
	store->refusing_stale = true;
	tdelete(group, &store->groups, compare_groups);
	group_free(group);
}

void store_flushed(struct store *store)
{
	struct group *pending = store->pending;

	store->pending = NULL;
	for (struct group *next; pending; pending = next) {
		next = pending->next_pending;
		pending->pending = false;
		if (pending->sources)
			group_mark(store, pending);
		else
			group_remove(store, pending);
	}
}

void store_sync_begin(struct store *store)
{
	store->epoch++;
	store->seen = false;
}

static void sweep_group(const void *node, VISIT which, void *context)
{
	struct store *store = context;
	struct group *group = *(struct group *const *)node;

	if (which != postorder && which != leaf)
		return;
	for (struct source **at = &group->sources; *at;) {
		if ((*at)->epoch != store->epoch)
			source_drop(store, group, at);
		else
			at = &(*at)->next;
	}
}

bool store_sync_end(struct store *store, bool generation_present)
{
	store->refuses_empty = !store->seen && !generation_present && (store->foreign || ruleset_count(store->live) > 0);
	if (store->refuses_empty) {
		store_flushed(store);
		return false;
	}
	store->foreign = false;
	twalk_r(store->groups, sweep_group, store);
	for (size_t i = 0; i < ruleset_count(store->live); i++) {
		const char *key = rule_key(ruleset_at(store->live, i));
		if (!group_find(store, key))
			group_mark(store, group_get(store, key));
	}
	return true;
}

bool store_refuses_empty(const struct store *store) { return store->refuses_empty; }
bool store_pending(const struct store *store) { return store->pending != NULL; }
size_t store_keys(const struct store *store) { return store->keys; }
const struct ruleset *store_rules(const struct store *store) { return store->live; }

/* ---- into force ---- */

static struct rule *rule_copy(const struct rule *rule)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	char error[RULES_ERROR_MAX];

	if (!rule)
		return NULL;
	struct rule *copy = rule_parse(rule_key(rule), fields, rule_fields(rule, fields, RULE_FIELDS_MAX), error, sizeof(error));
	if (!copy) { /* the printed form of a rule parses: our bug otherwise */
		fprintf(stderr, "waxseal-agent: rule does not survive printing: %s\n", error);
		abort();
	}
	return copy;
}

static bool rules_equal(const struct rule *a, const struct rule *b)
{
	struct rule_field x[RULE_FIELDS_MAX], y[RULE_FIELDS_MAX];

	if (!a || !b)
		return a == b;
	size_t n = rule_fields(a, x, RULE_FIELDS_MAX);
	if (rule_fields(b, y, RULE_FIELDS_MAX) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(x[i].name, y[i].name) || strcmp(x[i].value, y[i].value))
			return false;
	return true;
}

static void put(struct store *store, const char *key, struct rule *rule)
{
	if (rule)
		ruleset_put(store->live, rule);
	else
		ruleset_remove(store->live, key);
}

static void set_conflict(struct store *store, struct group *group, const char *why)
{
	store->refusing_stale |= group->conflict || why;
	store->conflicts += (why != NULL) - (size_t)(group->conflict != NULL);
	free(group->conflict);
	group->conflict = why ? must(strdup(why)) : NULL;
}

struct compiling {
	struct store *store;
	struct discovered *discovered;
	uint64_t generation, now;
	void *image; /* of the last set that compiled */
	size_t len;
};

static bool try_compile(struct compiling *c, char *error, size_t error_len)
{
	size_t len;
	void *image = ruleset_compile_discovered(c->store->live, c->discovered, c->generation, c->now, &len, error, error_len);

	if (!image)
		return false;
	free(c->image);
	c->image = image;
	c->len = len;
	return true;
}

/* All of them, or none and the same for each half: what fails alone is refused alone. */
static void apply(struct compiling *c, struct change *changes, size_t count)
{
	char error[RULES_ERROR_MAX] = "";

	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++)
		put(c->store, changes[i].group->key, rule_copy(changes[i].target));
	if (try_compile(c, error, sizeof(error))) {
		for (size_t i = 0; i < count; i++)
			set_conflict(c->store, changes[i].group, NULL);
		return;
	}
	for (size_t i = 0; i < count; i++)
		put(c->store, changes[i].group->key, rule_copy(changes[i].before));
	if (count == 1) {
		set_conflict(c->store, changes[0].group, error);
		return;
	}
	apply(c, changes, count / 2);
	apply(c, changes + count / 2, count - count / 2);
}

static void collect_group(const void *node, VISIT which, void *context)
{
	struct store *store = context;
	struct group *group = *(struct group *const *)node;
	bool refuses = group->conflict != NULL;

	if (which != postorder && which != leaf)
		return;
	for (const struct source *s = group->sources; s; s = s->next)
		refuses |= s->error || s != group->sources;
	if (!refuses)
		return;
	if (store->refusing_count == store->refusing_room) {
		store->refusing_room = store->refusing_room ? 2 * store->refusing_room : 64;
		store->refusing = must(realloc(store->refusing, store->refusing_room * sizeof(struct group *)));
	}
	store->refusing[store->refusing_count++] = group;
}

static void collect(struct store *store)
{
	if (!store->refusing_stale)
		return;
	store->refusing_count = 0;
	twalk_r(store->groups, collect_group, store);
	store->refusing_stale = false;
}

static void retry_conflicts(struct store *store)
{
	size_t left = STORE_RETRIES_MAX;

	if (!store->conflicts)
		return;
	collect(store);
	for (size_t i = 0; i < store->refusing_count && left; i++)
		if (store->refusing[i]->conflict) {
			group_mark(store, store->refusing[i]);
			left--;
		}
}

/* What the group wants to be in force; false: nothing else than what is. */
static bool group_target(struct store *store, struct group *group, struct change *change)
{
	const struct rule *live = ruleset_find(store->live, group->key);
	const struct rule *target = group->sources ? group->sources->rule : NULL;

	if (group->sources && !target) {
		set_conflict(store, group, NULL); /* the source's own error says more */
		return false;
	}
	if (target && rule_unsupported(target)) {
		set_conflict(store, group, rule_unsupported(target));
		return false;
	}
	if (rules_equal(live, target)) {
		set_conflict(store, group, NULL);
		return false;
	}
	*change = (struct change){.group = group, .target = target, .before = rule_copy(live)};
	return true;
}

static int compare_changes(const void *a, const void *b)
{
	return strcmp(((const struct change *)a)->group->key, ((const struct change *)b)->group->key);
}

void *store_compile(struct store *store, struct discovered *discovered, uint64_t generation, uint64_t now, bool force,
		    size_t *len, char *error, size_t error_len)
{
	struct compiling c = {.store = store, .discovered = discovered, .generation = generation, .now = now};
	size_t pending = 0, count = 0;

	retry_conflicts(store);
	for (struct group *g = store->pending; g; g = g->next_pending)
		pending++;
	struct change *changes = must(calloc(pending + 1, sizeof(*changes)));
	for (struct group *g = store->pending; g; g = g->next_pending)
		if (group_target(store, g, &changes[count]))
			count++;
	/* In order of key, so that which one of two is refused does not depend on how they arrived. */
	qsort(changes, count, sizeof(*changes), compare_changes);
	apply(&c, changes, count);
	for (size_t i = 0; i < count; i++)
		rule_free(changes[i].before);
	free(changes);
	for (struct group *next, *g = store->pending; g; g = next) {
		next = g->next_pending;
		g->pending = false;
		if (!g->sources && !g->conflict)
			group_remove(store, g);
	}
	store->pending = NULL;
	*error = 0;
	if (!c.image && force)
		try_compile(&c, error, error_len);
	*len = c.len;
	return c.image;
}

uint64_t store_next_expiry(const struct store *store, uint64_t now)
{
	uint64_t next = 0;

	for (size_t i = 0; i < ruleset_count(store->live); i++) {
		uint64_t expires = rule_expires(ruleset_at(store->live, i));
		if (expires > now && (!next || expires < next))
			next = expires;
	}
	return next;
}

/* ---- what is refused ---- */

struct refusing {
	void (*each)(void *context, const char *redis_key, const char *error);
	void *context;
	size_t count;
};

static void refuse(struct refusing *refusing, const char *redis_key, const char *error)
{
	refusing->count++;
	if (refusing->each)
		refusing->each(refusing->context, redis_key, error);
}

static void refused_group(struct refusing *refusing, const struct group *group)
{
	char text[STORE_KEY_MAX * 2];

	for (struct source *s = group->sources; s; s = s->next) {
		if (s->error) {
			refuse(refusing, s->redis_key, s->error);
		} else if (s != group->sources) {
			snprintf(text, sizeof(text), "the same rule as %s, which goes first; delete one of them", group->sources->redis_key);
			refuse(refusing, s->redis_key, text);
		} else if (group->conflict) {
			refuse(refusing, s->redis_key, group->conflict);
		}
	}
	if (!group->sources && group->conflict)
		refuse(refusing, group->key, group->conflict);
}

size_t store_refused(const struct store *store, void (*each)(void *context, const char *redis_key, const char *error),
		     void *context)
{
	struct refusing refusing = {.each = each, .context = context};

	collect((struct store *)store); /* a memory of what is there, no change of it */
	for (size_t i = 0; i < store->refusing_count; i++)
		refused_group(&refusing, store->refusing[i]);
	return refusing.count;
}
