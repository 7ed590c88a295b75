/*
 * memory.c - servers where TLS failed after 220, for a while: under level may the client's retry passes in clear.
 *
 * A bounded table with one lifetime for all: the order of notes is the order of expiry, and past the limit
 * the oldest goes.
 */
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "takeover.h"

struct note {
	RB_ENTRY(note) node;
	TAILQ_ENTRY(note) age;
	uint8_t server[16];
	uint64_t until_us;
};

RB_HEAD(note_tree, note);

struct takeover_memory {
	struct note_tree tree;
	TAILQ_HEAD(, note) oldest;
	uint32_t count, entries_max;
	uint64_t lifetime_us;
};

static int compare(const struct note *a, const struct note *b)
{
	return memcmp(a->server, b->server, sizeof(a->server));
}
RB_GENERATE_INTERNAL(note_tree, note, node, compare, __attribute__((unused)) static)

struct takeover_memory *takeover_memory_new(uint32_t entries_max, uint64_t lifetime_us)
{
	struct takeover_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return NULL;
	RB_INIT(&memory->tree);
	TAILQ_INIT(&memory->oldest);
	memory->entries_max = entries_max;
	memory->lifetime_us = lifetime_us;
	return memory;
}

static void forget(struct takeover_memory *memory, struct note *note)
{
	RB_REMOVE(note_tree, &memory->tree, note);
	TAILQ_REMOVE(&memory->oldest, note, age);
	memory->count--;
	free(note);
}

void takeover_memory_free(struct takeover_memory *memory)
{
	if (!memory)
		return;
	while (!TAILQ_EMPTY(&memory->oldest))
		forget(memory, TAILQ_FIRST(&memory->oldest));
	free(memory);
}

static struct note *find(const struct takeover_memory *memory, const uint8_t server[16])
{
	struct note wanted;
	memcpy(wanted.server, server, sizeof(wanted.server));
	return RB_FIND(note_tree, (struct note_tree *)&memory->tree, &wanted);
}

void takeover_memory_note(struct takeover_memory *memory, const uint8_t server[16], uint64_t now_us)
{
	struct note *note = find(memory, server), *first;

	if (note)
		forget(memory, note);
	while ((first = TAILQ_FIRST(&memory->oldest)) && (memory->count >= memory->entries_max || first->until_us <= now_us))
		forget(memory, first);
	note = memory->entries_max && memory->lifetime_us ? calloc(1, sizeof(*note)) : NULL;
	if (!note)
		return; /* the retry tries TLS again, and is deferred again: nothing is lost */
	memcpy(note->server, server, sizeof(note->server));
	note->until_us = now_us + memory->lifetime_us;
	RB_INSERT(note_tree, &memory->tree, note);
	TAILQ_INSERT_TAIL(&memory->oldest, note, age);
	memory->count++;
}

bool takeover_memory_holds(const struct takeover_memory *memory, const uint8_t server[16], uint64_t now_us)
{
	const struct note *note = memory ? find(memory, server) : NULL;
	return note && note->until_us > now_us;
}
