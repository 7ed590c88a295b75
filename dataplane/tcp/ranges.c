/*
 * ranges.c - a bounded, sorted set of disjoint ranges of sequence numbers.
 *
 * Used twice: what the peer has SACKed of ours, and what has arrived of its own beyond a hole. Adjacent
 * ranges are merged. Look-ups are binary searches; an insertion moves at most TCP_RANGES_MAX entries.
 */
#include "private.h"

/* Index of the first range that ends at or after seq. */
static uint32_t search(const struct tcp_ranges *ranges, uint32_t seq)
{
	uint32_t low = 0, high = ranges->count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (seq_before(ranges->at[middle].end, seq))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void replace(struct tcp_ranges *ranges, uint32_t first, uint32_t gone, uint32_t added)
{
	memmove(&ranges->at[first + added], &ranges->at[first + gone], (ranges->count - first - gone) * sizeof(ranges->at[0]));
	ranges->count += added - gone;
}

bool tcp_ranges_add(struct tcp_ranges *ranges, uint32_t start, uint32_t end)
{
	uint32_t first = search(ranges, start), last = first;
	if (!seq_before(start, end))
		return true;
	for (; last < ranges->count && !seq_after(ranges->at[last].start, end); last++) {
		start = seq_min(start, ranges->at[last].start);
		end = seq_max(end, ranges->at[last].end);
		ranges->total -= ranges->at[last].end - ranges->at[last].start;
	}
	if (last == first && ranges->count == TCP_RANGES_MAX)
		return false;
	replace(ranges, first, last - first, 1);
	ranges->at[first] = (struct tcp_sack){start, end};
	ranges->total += end - start;
	return true;
}

void tcp_ranges_drop(struct tcp_ranges *ranges, uint32_t before)
{
	uint32_t gone = 0;
	while (gone < ranges->count && !seq_after(ranges->at[gone].end, before)) {
		ranges->total -= ranges->at[gone].end - ranges->at[gone].start;
		gone++;
	}
	if (gone)
		replace(ranges, 0, gone, 0);
	if (ranges->count && seq_before(ranges->at[0].start, before)) {
		ranges->total -= before - ranges->at[0].start;
		ranges->at[0].start = before;
	}
}

void tcp_ranges_cut(struct tcp_ranges *ranges, uint32_t start, uint32_t end)
{
	uint32_t i = search(ranges, start);
	while (seq_before(start, end) && i < ranges->count && seq_before(ranges->at[i].start, end)) {
		struct tcp_sack *at = &ranges->at[i], right = {seq_max(end, at->start), at->end};
		bool left = seq_before(at->start, start);
		if (!seq_after(at->end, start)) { /* touches only */
			i++;
			continue;
		}
		if (left && seq_before(right.start, right.end)) {
			if (ranges->count == TCP_RANGES_MAX)
				return;
			ranges->total -= end - start;
			replace(ranges, i, 0, 1);
			ranges->at[i].start = ranges->at[i + 1].start;
			ranges->at[i].end = start;
			ranges->at[i + 1] = right;
			return;
		}
		ranges->total -= seq_min(at->end, end) - seq_max(at->start, start);
		if (left)
			at->end = start;
		else if (seq_before(right.start, right.end))
			*at = right;
		else
			replace(ranges, i, 1, 0);
		i += left || seq_before(right.start, right.end);
	}
}

void tcp_ranges_clear(struct tcp_ranges *ranges)
{
	ranges->count = 0;
	ranges->total = 0;
}

uint32_t tcp_ranges_covered(const struct tcp_ranges *ranges, uint32_t start, uint32_t end)
{
	uint32_t sum = 0;
	for (uint32_t i = search(ranges, start); i < ranges->count && seq_before(ranges->at[i].start, end); i++) {
		uint32_t from = seq_max(start, ranges->at[i].start), to = seq_min(end, ranges->at[i].end);
		if (seq_before(from, to))
			sum += to - from;
	}
	return sum;
}

uint32_t tcp_ranges_gap(const struct tcp_ranges *ranges, uint32_t seq, uint32_t end, uint32_t *until)
{
	uint32_t i = search(ranges, seq);
	if (i < ranges->count && !seq_after(ranges->at[i].start, seq))
		seq = seq_max(seq, ranges->at[i++].end);
	*until = i < ranges->count ? seq_min(ranges->at[i].start, end) : end;
	return seq;
}

const struct tcp_sack *tcp_ranges_find(const struct tcp_ranges *ranges, uint32_t seq)
{
	uint32_t i = search(ranges, seq + 1);
	return i < ranges->count && !seq_after(ranges->at[i].start, seq) ? &ranges->at[i] : NULL;
}
