/*
 * seen.c - a tree by address; a queue of what is to be told would be as long, so that a flag does, and a walk round the tree
 * that goes on where it was.
 */
#include "seen.h"

#include <arpa/inet.h>
#include <bsd/sys/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../discover/records.h"
#include "../policy/must.h"

#define EVICT_SHARE 16 /* of a full table at once: finding the oldest costs a walk */

struct place {
	RB_ENTRY(place) tree;
	struct seen_row row;
	uint64_t told_at;
	bool untold;
	unsigned epoch; /* reading of Redis that had it */
};

static int by_addr(const struct place *a, const struct place *b)
{
	return memcmp(a->row.addr, b->row.addr, sizeof(a->row.addr));
}

RB_HEAD(places, place);
RB_GENERATE_INTERNAL(places, place, tree, by_addr, __attribute__((unused)) static)

struct seen {
	struct places places;
	struct discovered_seen *found;
	bool stale;
	size_t untold;
	uint8_t told[16]; /* the last one */
	unsigned epoch;
	struct seen_counts counts;
};

struct seen *seen_new(void)
{
	struct seen *seen = calloc(1, sizeof(*seen));

	if (seen)
		RB_INIT(&seen->places);
	return seen;
}

static void drop(struct seen *seen, struct place *place)
{
	RB_REMOVE(places, &seen->places, place);
	seen->counts.addresses--;
	seen->untold -= place->untold;
	seen->stale = true;
	free(place);
}

void seen_free(struct seen *seen)
{
	struct place *place;

	if (!seen)
		return;
	while ((place = RB_MIN(places, &seen->places)))
		drop(seen, place);
	free(seen->found);
	free(seen);
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void evict(struct seen *seen)
{
	uint64_t *times = must(malloc(seen->counts.addresses * sizeof(*times)));
	size_t n = 0, share = seen->counts.addresses / EVICT_SHARE;
	struct place *place, *next;

	RB_FOREACH(place, places, &seen->places)
		times[n++] = place->row.at;
	qsort(times, n, sizeof(*times), by_time);
	uint64_t limit = times[share - 1];
	free(times);
	RB_FOREACH_SAFE(place, places, &seen->places, next)
	{
		if (place->row.at > limit || !share)
			continue;
		share--;
		seen->counts.evicted++;
		drop(seen, place);
	}
}

bool seen_note(struct seen *seen, const uint8_t addr[16], uint64_t at, enum seen_how how, uint64_t now_s)
{
	struct place probe = {.row.at = at, .row.how = how}, *place;
	struct inet inet;

	memcpy(inet.bytes, addr, 16);
	if (!inet_usable(&inet) || at > now_s + SEEN_FUTURE_S || at + FINDINGS_SEEN_TTL_S <= now_s) {
		seen->counts.ignored++;
		return false;
	}
	memcpy(probe.row.addr, addr, 16);
	place = RB_FIND(places, &seen->places, &probe);
	bool new = !place;
	if (new) {
		if (seen->counts.addresses >= SEEN_MAX)
			evict(seen);
		place = must(calloc(1, sizeof(*place)));
		*place = probe;
		RB_INSERT(places, &seen->places, place);
		seen->counts.addresses++;
	}
	if (how == SEEN_TOLD)
		place->epoch = seen->epoch;
	if (!new && at <= place->row.at)
		return false;
	bool old = new || at >= place->row.at + SEEN_TELL_S;
	place->row.at = at;
	place->row.how = how;
	seen->stale = true;
	if (how == SEEN_TOLD) {
		place->told_at = at;
	} else if (!place->untold && at >= place->told_at + SEEN_TELL_S) {
		place->untold = true;
		seen->untold++;
	}
	return old;
}

void seen_expire(struct seen *seen, uint64_t now_s)
{
	struct place *place, *next;

	RB_FOREACH_SAFE(place, places, &seen->places, next)
	{
		if (place->row.at + FINDINGS_SEEN_TTL_S <= now_s)
			drop(seen, place);
	}
}

const struct discovered_seen *seen_found(struct seen *seen, size_t *count)
{
	struct place *place;
	size_t n = 0;

	if (seen->stale || !seen->found) {
		free(seen->found);
		seen->found = must(calloc(seen->counts.addresses + 1, sizeof(*seen->found)));
		RB_FOREACH(place, places, &seen->places)
		{
			memcpy(seen->found[n].addr, place->row.addr, 16);
			seen->found[n++].at = place->row.at;
		}
		seen->stale = false;
	}
	*count = seen->counts.addresses;
	return seen->found;
}

bool seen_next_untold(struct seen *seen, struct seen_row *row)
{
	struct place last = {0};

	if (!seen->untold)
		return false;
	memcpy(last.row.addr, seen->told, 16);
	struct place *place = RB_NFIND(places, &seen->places, &last);
	while (!place || !place->untold)
		place = place ? RB_NEXT(places, &seen->places, place) : RB_MIN(places, &seen->places);
	place->untold = false;
	place->told_at = place->row.at;
	seen->untold--;
	memcpy(seen->told, place->row.addr, 16);
	*row = place->row;
	return true;
}

void seen_read_begin(struct seen *seen) { seen->epoch++; }

void seen_read_end(struct seen *seen)
{
	struct place *place;

	RB_FOREACH(place, places, &seen->places)
	{
		if (place->epoch == seen->epoch)
			continue;
		seen->untold += !place->untold;
		place->untold = true;
	}
}

struct seen_counts seen_counts(const struct seen *seen) { return seen->counts; }

/* ---- texts ---- */

bool address_read(const char *text, uint8_t addr[16])
{
	struct inet inet = {.bytes = {[10] = 0xff, [11] = 0xff}};

	if (inet_pton(AF_INET, text, inet.bytes + 12) != 1 && inet_pton(AF_INET6, text, inet.bytes) != 1)
		return false;
	memcpy(addr, inet.bytes, 16);
	return inet_usable(&inet);
}

void address_print(const uint8_t addr[16], char out[48])
{
	bool ipv4 = policy_addr_is_ipv4(addr);

	inet_ntop(ipv4 ? AF_INET : AF_INET6, addr + (ipv4 ? 12 : 0), out, 48);
}

json_t *seen_remember(const struct seen *seen)
{
	json_t *root = json_object();
	struct place *place;
	char text[48];

	RB_FOREACH(place, places, (struct places *)&seen->places)
	{
		address_print(place->row.addr, text);
		json_object_set_new(root, text, json_integer((json_int_t)place->row.at));
	}
	return root;
}

void seen_recall(struct seen *seen, const json_t *memory, uint64_t now_s)
{
	const char *text;
	json_t *at;
	uint8_t addr[16];

	json_object_foreach((json_t *)memory, text, at)
	{
		if (address_read(text, addr) && json_integer_value(at) > 0)
			seen_note(seen, addr, (uint64_t)json_integer_value(at), SEEN_TOLD, now_s);
	}
}
