/*
 * prefixes.c - networks of providers, of clients and of servers inside, sorted and linked as the image holds them.
 *
 * Enters: networks with what they lead to, a destination or a rule. Leaves: prefixes ascending by (address, length), each with the index
 * of the nearest one that encloses it. A network that one provider names twice is one; networks within each other
 * are no conflict, the longest match decides. Refuses: one network in two providers.
 */
#include "compile.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 129 /* lengths 0..128 of prefixes within each other */

void prefix_table_dispose(struct prefix_table *t)
{
	free(t->entries);
}

void prefix_table_add(struct prefix_table *t, const struct net *net, uint32_t target)
{
	if (t->count == t->room) {
		t->room = t->room ? t->room * 2 : 256;
		t->entries = must(realloc(t->entries, t->room * sizeof(*t->entries)));
	}
	t->entries[t->count++] = (struct prefix_entry){*net, target};
}

#define OCTETS (sizeof(struct net))
_Static_assert(OCTETS == 18, "address, length and family, and nothing between");

static uint8_t octet(const struct prefix_entry *entry, size_t at)
{
	return ((const uint8_t *)&entry->net)[at];
}

/* A stable pass for each octet, the least one first: a million networks are sorted with each edit of any rule. */
static void sort(struct prefix_table *t)
{
	static const uint8_t least_first[] = {offsetof(struct net, len), 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, offsetof(struct net, ipv6)};
	uint32_t counts[OCTETS][256] = {0};
	struct prefix_entry *from = t->entries, *to = must(malloc(t->count * sizeof(*to)));

	for (size_t i = 0; i < t->count; i++)
		for (size_t o = 0; o < OCTETS; o++)
			counts[o][octet(&from[i], o)]++;
	for (size_t pass = 0; pass < OCTETS; pass++) {
		size_t o = least_first[pass];
		uint32_t *place = counts[o], next = 0;
		if (place[octet(from, o)] == t->count) /* the same in all of them */
			continue;
		for (size_t value = 0; value < 256; value++) {
			uint32_t count = place[value];
			place[value] = next;
			next += count;
		}
		for (size_t i = 0; i < t->count; i++)
			to[place[octet(&from[i], o)]++] = from[i];
		struct prefix_entry *other = from;
		from = to;
		to = other;
	}
	free(to);
	t->entries = from;
	t->room = t->count;
}

int prefix_table_build(struct prefix_table *t, const char *const *provider_names, struct why *why)
{
	size_t kept = 0;

	if (t->count)
		sort(t);
	for (size_t i = 0; i < t->count; i++) {
		struct prefix_entry *e = &t->entries[i];

		if (kept && memcmp(&t->entries[kept - 1].net, &e->net, OCTETS) == 0) {
			char text[NET_TEXT_MAX];

			if (t->entries[kept - 1].target == e->target)
				continue;
			net_print(&e->net, text);
			return why_set(why, "%s: in nets of provider:%s and of provider:%s; one of them would be right", text,
				       provider_names[t->entries[kept - 1].target], provider_names[e->target]);
		}
		t->entries[kept++] = *e;
		if (e->net.ipv6)
			t->count6++;
		else
			t->count4++;
	}
	t->count = kept;
	if (t->count4 > IMAGE_PREFIXES_MAX || t->count6 > IMAGE_PREFIXES_MAX)
		return why_set(why, "%zu networks; %u of IPv4 and of IPv6 is the most", t->count, IMAGE_PREFIXES_MAX);
	return 0;
}

static bool encloses(const struct net *outer, const struct net *inner)
{
	unsigned whole = outer->len / 8, rest = outer->len % 8;

	if (outer->len > inner->len || memcmp(outer->addr, inner->addr, whole) != 0)
		return false;
	return !rest || ((outer->addr[whole] ^ inner->addr[whole]) & (uint8_t)(0xff00u >> rest)) == 0;
}

/* Calls `write` for each of `count` entries with its parent: in ascending order the ancestors of the last one seen
 * are all that can enclose the next. */
static void link_each(const struct prefix_entry *entries, size_t count,
		      void (*write)(void *out, size_t index, const struct prefix_entry *entry, uint32_t parent), void *out)
{
	uint32_t ancestors[DEPTH_MAX];
	unsigned depth = 0;

	for (size_t i = 0; i < count; i++) {
		while (depth && !encloses(&entries[ancestors[depth - 1]].net, &entries[i].net))
			depth--;
		write(out, i, &entries[i], depth ? ancestors[depth - 1] : IMAGE_NONE);
		ancestors[depth++] = (uint32_t)i;
	}
}

static void write4(void *out, size_t index, const struct prefix_entry *e, uint32_t parent)
{
	((struct image_prefix4 *)out)[index] = (struct image_prefix4){
		.addr = (uint32_t)e->net.addr[0] << 24 | (uint32_t)e->net.addr[1] << 16 | (uint32_t)e->net.addr[2] << 8 |
			e->net.addr[3],
		.parent = parent,
		.target = e->target,
		.len = e->net.len,
	};
}

static void write6(void *out, size_t index, const struct prefix_entry *e, uint32_t parent)
{
	struct image_prefix6 *p = (struct image_prefix6 *)out + index;

	*p = (struct image_prefix6){.parent = parent, .target = e->target, .len = e->net.len};
	memcpy(p->addr, e->net.addr, sizeof(p->addr));
}

void prefix_table_write4(const struct prefix_table *t, struct image_prefix4 *out)
{
	link_each(t->entries, t->count4, write4, out);
}

void prefix_table_write6(const struct prefix_table *t, struct image_prefix6 *out)
{
	if (t->count6) /* no entries, no array to point into */
		link_each(t->entries + t->count4, t->count6, write6, out);
}
