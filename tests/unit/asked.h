/*
 * asked.h - for tests of what asks and is answered later: a clock of the test's own, and what is still to be answered.
 */
#ifndef WAXSEAL_TESTS_ASKED_H
#define WAXSEAL_TESTS_ASKED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/discover/discover.h"

#define START_S 1800000000ull
#define ASKED_MAX 4096

struct asked {
	int what; /* of the test's own, or a type of record */
	char name[300];
	uint64_t token;
	bool open;
};
static struct asked asked[ASKED_MAX];
static size_t asked_count, changes, forgotten;
static struct control_config config;
static struct discover_time now;

static inline void asked_begin(void)
{
	control_config_default(&config);
	memset(asked, 0, sizeof(asked));
	asked_count = changes = forgotten = 0;
	now = (struct discover_time){1000000, START_S};
}

static inline void asked_pass(uint64_t seconds)
{
	now.us += seconds * 1000000;
	now.unix_s += seconds;
}

static inline bool asked_note(int what, const char *name, uint64_t token)
{
	assert_true(asked_count < ASKED_MAX);
	struct asked *a = &asked[asked_count++];
	*a = (struct asked){.what = what, .token = token, .open = true};
	snprintf(a->name, sizeof(a->name), "%s", name);
	return true;
}

/* The oldest that is open; `name` NULL: of any name. NULL: none. */
static inline struct asked *asked_open(int what, const char *name)
{
	for (size_t i = 0; i < asked_count; i++)
		if (asked[i].open && asked[i].what == what && (!name || !strcmp(asked[i].name, name)))
			return &asked[i];
	return NULL;
}

/* Its token: it is answered now. */
static inline uint64_t asked_take(int what, const char *name)
{
	struct asked *a = asked_open(what, name);

	if (!a)
		fail_msg("%s was not asked for %d", name ? name : "nobody", what);
	a->open = false;
	return a->token;
}

static inline void on_forget(void *context, uint64_t token)
{
	(void)context;
	(void)token;
	forgotten++;
}

static inline void on_changed(void *context)
{
	(void)context;
	changes++;
}

#endif
