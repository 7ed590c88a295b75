/*
 * discover_harness.h - discovery with a DNS of the test's own.
 */
#ifndef WAXSEAL_DISCOVER_HARNESS_H
#define WAXSEAL_DISCOVER_HARNESS_H

#include "asked.h"

static bool refuses; /* questions cannot be asked now */
static struct discover *discover;

static inline bool on_ask(void *context, const char *name, enum discover_type type, uint64_t token)
{
	(void)context;
	return !refuses && asked_note((int)type, name, token);
}

static inline int begin(void **state)
{
	static const struct discover_ops ops = {on_ask, on_forget, on_changed};

	(void)state;
	asked_begin();
	refuses = false;
	discover = discover_new(&config, &ops, NULL);
	return 0;
}

static inline int end(void **state)
{
	(void)state;
	discover_free(discover);
	return 0;
}

static inline void pass(uint64_t seconds)
{
	asked_pass(seconds);
	discover_tick(discover, now);
}

static inline void answer(const char *name, enum discover_type type, struct discover_answer what)
{
	discover_answered(discover, asked_take((int)type, name), &what, now);
}

#endif
