/*
 * pool.c - chunks of TCP_CHUNK_BYTES for the endpoints of one worker.
 *
 * Enters: takes and gives. Leaves: chunks, never more than chunks_max at a time. A chunk comes from the
 * heap the first time and is kept in a list afterwards, so that a running appliance does not allocate.
 */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>

struct free_chunk {
	struct free_chunk *next;
};

struct tcp_pool {
	uint32_t chunks_max, used;
	struct free_chunk *spare;
};

void tcp_bug(const char *what, const char *file, int line)
{
	fprintf(stderr, "waxseal: bug: %s at %s:%d\n", what, file, line);
	abort();
}

struct tcp_pool *tcp_pool_new(uint32_t chunks_max)
{
	struct tcp_pool *pool = calloc(1, sizeof(*pool));
	if (pool)
		pool->chunks_max = chunks_max;
	return pool;
}

void tcp_pool_free(struct tcp_pool *pool)
{
	if (!pool)
		return;
	BUG_ON(pool->used);
	while (pool->spare) {
		struct free_chunk *chunk = pool->spare;
		pool->spare = chunk->next;
		free(chunk);
	}
	free(pool);
}

uint32_t tcp_pool_used(const struct tcp_pool *pool)
{
	return pool->used;
}

uint32_t tcp_pool_room(const struct tcp_pool *pool)
{
	return pool->chunks_max - pool->used;
}

uint32_t tcp_pool_spare(const struct tcp_pool *pool)
{
	uint32_t room = tcp_pool_room(pool), reserve = pool->chunks_max / 8;
	return room > reserve ? room - reserve : 0;
}

uint8_t *tcp_chunk_take(struct tcp_pool *pool)
{
	if (pool->used == pool->chunks_max)
		return NULL;
	struct free_chunk *chunk = pool->spare;
	if (chunk)
		pool->spare = chunk->next;
	else
		chunk = malloc(TCP_CHUNK_BYTES);
	if (!chunk)
		return NULL;
	pool->used++;
	return (uint8_t *)chunk;
}

void tcp_chunk_give(struct tcp_pool *pool, uint8_t *bytes)
{
	struct free_chunk *chunk = (struct free_chunk *)(void *)bytes;
	BUG_ON(!pool->used);
	chunk->next = pool->spare;
	pool->spare = chunk;
	pool->used--;
}
