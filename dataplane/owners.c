/*
 * owners.c - see owners.h. Four buckets a flow: a full table shares every fifth bucket, which costs its frames a way
 * from lcore to lcore and nothing else.
 */
#include "owners.h"

#include <stdlib.h>

_Static_assert((OWNERS_LCORES_MAX + 1ull) << OWNERS_HOLD_BITS <= 1ull << 32, "an owner and holds are one word");

struct owners *owners_new(uint64_t flows)
{
	uint64_t buckets = 1;
	while (buckets < 4 * flows && buckets < OWNERS_BUCKETS_MAX)
		buckets *= 2;
	struct owners *owners = calloc(1, sizeof(*owners) + buckets * sizeof(owners->bucket[0]));
	if (owners)
		owners->mask = (uint32_t)buckets - 1;
	return owners;
}

void owners_free(struct owners *owners)
{
	free(owners);
}
