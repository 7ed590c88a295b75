/*
 * owners.h - which lcore has a connection, where every lcore receives (layout = run-to-completion).
 *
 * Enters: the classifier's flow hash of a frame, and who received it. Leaves: the lcore whose frame it is. A connection
 * belongs to the lcore that received its first frame, so where both directions come in on one lcore, none of its frames
 * ever leaves it; whatever a device does with them, they all go to that one lcore. Hashes share buckets, and a bucket is
 * owned while there are holds on it: one for each flow in the owner's table and for each frame in its hands. Invariant:
 * nobody but its owner changes a bucket that is owned. So there are no locks, and the one atomic exchange is the claim.
 */
#ifndef WAXSEAL_OWNERS_H
#define WAXSEAL_OWNERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OWNERS_LCORES_MAX 16
#define OWNERS_NONE UINT32_MAX
#define OWNERS_HOLD_BITS 27 /* more holds than the largest table has flows */
#define OWNERS_BUCKETS_MAX (1u << 24)

struct owners {
	uint32_t mask;
	_Atomic uint32_t bucket[]; /* 0: nobody's; else (lcore + 1) << OWNERS_HOLD_BITS | holds */
};

/* `flows` of all lcores; NULL: no memory. Buckets take memory as they are used. */
struct owners *owners_new(uint64_t flows);
void owners_free(struct owners *owners);

static inline const void *owners_place(const struct owners *owners, uint32_t hash) { return &owners->bucket[hash & owners->mask]; }
static inline uint32_t owners_lcore(uint32_t bucket) { return (bucket >> OWNERS_HOLD_BITS) - 1; } /* 0: OWNERS_NONE */

/* Who has the frame with that hash: if `self`, with a hold for the frame. What nobody has `self` takes if it `may`;
 * else the answer is OWNERS_NONE. */
static inline uint32_t owners_take(struct owners *owners, uint32_t hash, uint32_t self, bool may)
{
	_Atomic uint32_t *place = &owners->bucket[hash & owners->mask];
	uint32_t bucket = atomic_load_explicit(place, memory_order_relaxed);

	if (!bucket && may && atomic_compare_exchange_strong_explicit(place, &bucket, (self + 1) << OWNERS_HOLD_BITS | 1, memory_order_acquire, memory_order_relaxed))
		return self;
	uint32_t owner = owners_lcore(bucket);
	if (owner == self)
		atomic_store_explicit(place, bucket + 1, memory_order_relaxed);
	return owner;
}

/* A hold for a flow of `self`; false: the bucket is not its own, and there is nothing to release. */
static inline bool owners_hold(struct owners *owners, uint32_t hash, uint32_t self)
{
	return owners_take(owners, hash, self, false) == self;
}

/* Gives a hold back; by the owner. */
static inline void owners_release(struct owners *owners, uint32_t hash)
{
	_Atomic uint32_t *place = &owners->bucket[hash & owners->mask];
	uint32_t bucket = atomic_load_explicit(place, memory_order_relaxed) - 1;
	bool last = !(bucket & ((1u << OWNERS_HOLD_BITS) - 1));

	atomic_store_explicit(place, last ? 0 : bucket, memory_order_release);
}

#endif
