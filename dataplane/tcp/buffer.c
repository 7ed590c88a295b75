/*
 * buffer.c - the bytes of one direction, found by sequence number.
 *
 * Enters: bytes with their sequence number, in any order (a receiver's arrive with holes; which bytes are
 * there is the caller's to know). Leaves: the same bytes, copied. A ring of chunk pointers makes every
 * access O(1); a chunk is taken when its first byte comes and given back when its last one is dropped.
 * Refuses: bytes before the first one kept, and beyond `capacity`.
 */
#include "private.h"

#include <stdlib.h>

bool tcp_ring_init(struct tcp_ring *ring, struct tcp_pool *pool, uint32_t capacity, uint32_t seq)
{
	uint32_t slots = 2;
	while (slots < capacity / TCP_CHUNK_BYTES + 2) /* the first and the last chunk may be partly used */
		slots *= 2;
	*ring = (struct tcp_ring){.pool = pool, .mask = slots - 1, .capacity = capacity, .seq = seq};
	ring->slot = calloc(slots, sizeof(*ring->slot));
	return ring->slot != NULL;
}

static void give(struct tcp_ring *ring, uint64_t chunk)
{
	uint8_t **slot = &ring->slot[chunk & ring->mask];
	if (*slot)
		tcp_chunk_give(ring->pool, *slot);
	*slot = NULL;
}

void tcp_ring_dispose(struct tcp_ring *ring)
{
	if (!ring->slot)
		return;
	for (uint64_t n = 0; n <= ring->mask; n++)
		give(ring, n);
	free(ring->slot);
	ring->slot = NULL;
}

static uint64_t position(const struct tcp_ring *ring, uint32_t seq)
{
	BUG_ON(seq_before(seq, ring->seq));
	return ring->start + (uint32_t)(seq - ring->seq);
}

uint32_t tcp_ring_put(struct tcp_ring *ring, uint32_t seq, const uint8_t *bytes, uint32_t len, bool spare)
{
	uint64_t at = position(ring, seq), end = ring->start + ring->capacity;
	uint32_t done = 0;
	if (at >= end)
		return 0;
	if (len > end - at)
		len = (uint32_t)(end - at);
	while (done < len) {
		uint8_t **slot = &ring->slot[(at / TCP_CHUNK_BYTES) & ring->mask];
		uint32_t off = at % TCP_CHUNK_BYTES;
		uint32_t n = min_u32(len - done, TCP_CHUNK_BYTES - off);
		if (!*slot && !(spare && !tcp_pool_spare(ring->pool)))
			*slot = tcp_chunk_take(ring->pool);
		if (!*slot)
			break;
		memcpy(*slot + off, bytes + done, n);
		done += n;
		at += n;
	}
	return done;
}

void tcp_ring_get(const struct tcp_ring *ring, uint32_t seq, uint8_t *out, uint32_t len)
{
	uint64_t at = position(ring, seq);
	while (len) {
		const uint8_t *chunk = ring->slot[(at / TCP_CHUNK_BYTES) & ring->mask];
		uint32_t off = at % TCP_CHUNK_BYTES;
		uint32_t n = min_u32(len, TCP_CHUNK_BYTES - off);
		BUG_ON(!chunk);
		memcpy(out, chunk + off, n);
		out += n;
		at += n;
		len -= n;
	}
}

const uint8_t *tcp_ring_piece(const struct tcp_ring *ring, size_t *len)
{
	const uint8_t *chunk = ring->slot[(ring->start / TCP_CHUNK_BYTES) & ring->mask];
	uint32_t off = ring->start % TCP_CHUNK_BYTES;
	*len = chunk ? TCP_CHUNK_BYTES - off : 0;
	return chunk ? chunk + off : NULL;
}

void tcp_ring_drop(struct tcp_ring *ring, uint32_t seq, bool empty)
{
	uint64_t to = position(ring, seq);
	for (uint64_t n = ring->start / TCP_CHUNK_BYTES; n < to / TCP_CHUNK_BYTES; n++)
		give(ring, n);
	if (empty)
		give(ring, to / TCP_CHUNK_BYTES);
	ring->start = to;
	ring->seq = seq;
}
