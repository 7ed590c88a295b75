/*
 * random.c - numbers from a seed, also for OpenSSL; buffers that grow.
 *
 * Each session draws from streams of its own, so that the order in which two sessions move within one instant
 * changes nothing.
 */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

void rng_seed(struct rng *rng, uint64_t seed, uint64_t stream)
{
	rng->state = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (stream + 1) * 0xd1b54a32d192ed03ull;
	for (int i = 0; i < 4; i++)
		draw(rng);
}

/* splitmix64 */
uint32_t draw(struct rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ z >> 31) >> 16);
}

uint32_t below(struct rng *rng, uint32_t n) { return n ? draw(rng) % n : 0; }
bool chance(struct rng *rng, unsigned per_mille) { return below(rng, 1000) < per_mille; }

/* ---- OpenSSL: keys, nonces and signatures have sizes that change packets ---- */

static struct rng openssl_rng;

static int fill(unsigned char *out, int len)
{
	for (int i = 0; i < len; i++)
		out[i] = (unsigned char)draw(&openssl_rng);
	return 1;
}

static int always(void) { return 1; }

void random_openssl_seed(uint64_t seed) { rng_seed(&openssl_rng, seed, 99); }

void random_openssl(void)
{
	static RAND_METHOD method = {.bytes = fill, .pseudorand = fill, .status = always};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	RAND_set_rand_method(&method);
#pragma GCC diagnostic pop
	random_openssl_seed(0);
}

/* ---- buffers ---- */

void buffer_add(struct buffer *buffer, const void *bytes, size_t len)
{
	if (buffer->len + len > buffer->size) {
		buffer->size = (buffer->len + len) * 2 + 64;
		buffer->bytes = realloc(buffer->bytes, buffer->size);
		require(NULL, buffer->bytes, "no memory");
	}
	if (len)
		memcpy(buffer->bytes + buffer->len, bytes, len);
	buffer->len += len;
}

void buffer_cut(struct buffer *buffer, size_t len)
{
	memmove(buffer->bytes, buffer->bytes + len, buffer->len - len);
	buffer->len -= len;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct buffer){0};
}
