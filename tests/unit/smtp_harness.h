/* smtp_harness.h - both sides of a dialogue as strings, for the tests of the machine. */
#ifndef SMTP_HARNESS_H
#define SMTP_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "smtp/private.h"

static struct smtp_dialogue *d;

static inline int d_setup(void **state)
{
	(void)state;
	d = smtp_dialogue_new();
	return d ? 0 : -1;
}

static inline int d_teardown(void **state)
{
	(void)state;
	smtp_dialogue_free(d);
	return 0;
}

/* Offers the bytes once: how many were taken, and the event that is expected. */
static inline size_t d_bytes(enum side side, const char *bytes, size_t len, enum smtp_event expected)
{
	enum smtp_event event;
	uint64_t fed = d->fed[side];
	size_t n = smtp_dialogue_input(d, side, (const uint8_t *)bytes, len, &event);

	assert_string_equal(smtp_event_name(event), smtp_event_name(expected));
	assert_true(n <= len);
	assert_true(d->fed[side] == fed + n);
	assert_true(d->approved[side] <= d->fed[side]);
	return n;
}

static inline size_t d_says(enum side side, const char *text, enum smtp_event expected)
{
	return d_bytes(side, text, strlen(text), expected);
}

/* Says all of it, taken and approved, with no event. */
static inline void d_passes(enum side side, const char *text)
{
	assert_int_equal(d_says(side, text, SMTP_EVENT_NONE), strlen(text));
	assert_true(d->approved[side] == d->fed[side]);
}

static inline void d_state(enum smtp_state state)
{
	assert_string_equal(smtp_state_name(d->state), smtp_state_name(state));
}

#endif
