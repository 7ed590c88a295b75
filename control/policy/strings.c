/*
 * strings.c - the string section of an image under construction: each text once.
 *
 * Enters: texts. Leaves: their offsets; offset 0 is "". A hash table of offsets finds what is there already:
 * 100,000 rules repeat the same owners, reasons and patterns.
 */
#include "compile.h"

#include <string.h>
#include <xxhash.h>

#define SLOTS_MIN 256

void strings_init(struct strings *s)
{
	*s = (struct strings){.mask = SLOTS_MIN - 1};
	s->slots = must(calloc(SLOTS_MIN, sizeof(*s->slots)));
	s->bytes = must(calloc(1, 1));
	s->len = s->room = 1;
}

void strings_dispose(struct strings *s)
{
	free(s->slots);
	free(s->bytes);
}

/* Offset 0 marks a free slot: "" is never looked up. */
static size_t slot_of(const struct strings *s, const char *text)
{
	size_t slot = XXH3_64bits(text, strlen(text)) & s->mask;

	while (s->slots[slot] && strcmp(s->bytes + s->slots[slot], text) != 0)
		slot = (slot + 1) & s->mask;
	return slot;
}

static void grow(struct strings *s)
{
	uint32_t *old = s->slots;
	size_t old_slots = s->mask + 1;

	s->slots = must(calloc(old_slots * 2, sizeof(*s->slots)));
	s->mask = old_slots * 2 - 1;
	for (size_t i = 0; i < old_slots; i++)
		if (old[i])
			s->slots[slot_of(s, s->bytes + old[i])] = old[i];
	free(old);
}

uint32_t strings_put(struct strings *s, const char *text)
{
	size_t len, slot;

	if (!text || !*text)
		return 0;
	slot = slot_of(s, text);
	if (s->slots[slot])
		return s->slots[slot];
	len = strlen(text) + 1;
	if (len > IMAGE_STRINGS_MAX - s->len) {
		s->full = true;
		return 0;
	}
	if (s->len + len > s->room) {
		s->room = (s->len + len) * 2;
		s->bytes = must(realloc(s->bytes, s->room));
	}
	memcpy(s->bytes + s->len, text, len);
	s->slots[slot] = (uint32_t)s->len;
	s->len += len;
	if (++s->count > s->mask / 2)
		grow(s);
	return (uint32_t)(s->len - len);
}
