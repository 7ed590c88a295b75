/*
 * steer.c - the difference between two lists of prefixes.
 *
 * Enters: what is in force and what a new policy image asks for. Leaves: calls that add, change or delete
 * single entries, so that an image with one more prefix costs one call and not two million.
 */
#include <stdlib.h>
#include <string.h>

#include "private.h"

static int compare_keys(const struct port_prefix *a, const struct port_prefix *b)
{
	if (a->ipv6 != b->ipv6)
		return a->ipv6 ? 1 : -1;
	int order = memcmp(a->addr, b->addr, sizeof(a->addr));
	return order ? order : (int)a->len - (int)b->len;
}

/* Host bits as they may come from a rule's text would make one prefix two. */
static void clear_host_bits(struct port_prefix *prefix)
{
	unsigned width = prefix->ipv6 ? 128 : 32;
	if (prefix->len > width)
		prefix->len = (uint8_t)width;
	for (unsigned byte = 0; byte < sizeof(prefix->addr); byte++) {
		unsigned kept = prefix->len <= byte * 8 ? 0 : prefix->len - byte * 8;
		if (kept < 8)
			prefix->addr[byte] &= (uint8_t)(0xff00 >> kept);
	}
}

/* Which of two doubles stays must not hang on qsort's whims, or an unchanged image would seem changed. */
static int compare(const void *left, const void *right)
{
	const struct port_prefix *a = left, *b = right;
	int order = compare_keys(a, b);
	if (order)
		return order;
	if (a->destination != b->destination)
		return a->destination < b->destination ? -1 : 1;
	return a->pool < b->pool ? -1 : a->pool > b->pool;
}

size_t steer_normalise(struct port_prefix *prefixes, size_t count)
{
	size_t kept = 0;
	if (!count)
		return 0; /* NULL, then */
	for (size_t i = 0; i < count; i++)
		clear_host_bits(&prefixes[i]);
	qsort(prefixes, count, sizeof(*prefixes), compare);
	for (size_t i = 0; i < count; i++) {
		if (kept && !compare_keys(&prefixes[kept - 1], &prefixes[i]))
			kept--;
		prefixes[kept++] = prefixes[i];
	}
	return kept;
}

int steer_diff(const struct port_prefix *old, size_t old_count, const struct port_prefix *new, size_t new_count, const struct steer_sink *sink)
{
	for (int deleting = 0; deleting < 2; deleting++) {
		for (size_t o = 0, n = 0; o < old_count || n < new_count;) {
			int order = o == old_count ? 1 : n == new_count ? -1 : compare_keys(&old[o], &new[n]), failed = 0;
			if (order < 0) {
				failed = deleting ? sink->del(sink->context, &old[o]) : 0;
				o++;
			} else if (order > 0) {
				failed = deleting ? 0 : sink->add(sink->context, &new[n]);
				n++;
			} else {
				if (!deleting && (old[o].destination != new[n].destination || old[o].pool != new[n].pool))
					failed = sink->add(sink->context, &new[n]);
				o++;
				n++;
			}
			if (failed)
				return failed;
		}
	}
	return 0;
}
