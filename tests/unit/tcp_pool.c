/* tcp/pool.c: chunks are bounded, kept, and given back. */
#include "tcp_harness.h"

static void chunks_are_bounded(void **state)
{
	(void)state;
	struct tcp_pool *pool = tcp_pool_new(3);
	uint8_t *chunk[3];
	for (int i = 0; i < 3; i++) {
		chunk[i] = tcp_chunk_take(pool);
		assert_non_null(chunk[i]);
		memset(chunk[i], i, TCP_CHUNK_BYTES);
	}
	assert_null(tcp_chunk_take(pool));
	assert_int_equal(tcp_pool_used(pool), 3);
	assert_int_equal(tcp_pool_room(pool), 0);
	tcp_chunk_give(pool, chunk[1]);
	assert_int_equal(tcp_pool_room(pool), 1);
	assert_ptr_equal(tcp_chunk_take(pool), chunk[1]); /* kept, not returned to the heap */
	for (int i = 0; i < 3; i++)
		tcp_chunk_give(pool, chunk[i]);
	assert_int_equal(tcp_pool_used(pool), 0);
	tcp_pool_free(pool);
}

static void the_last_eighth_is_kept(void **state)
{
	(void)state;
	struct tcp_pool *pool = tcp_pool_new(16);
	uint8_t *chunk[14];
	assert_int_equal(tcp_pool_spare(pool), 14);
	for (int i = 0; i < 14; i++)
		chunk[i] = tcp_chunk_take(pool);
	assert_int_equal(tcp_pool_spare(pool), 0);
	assert_int_equal(tcp_pool_room(pool), 2);
	for (int i = 0; i < 14; i++)
		tcp_chunk_give(pool, chunk[i]);
	tcp_pool_free(pool);
}

static void a_pool_of_nothing(void **state)
{
	(void)state;
	struct tcp_pool *pool = tcp_pool_new(0);
	assert_null(tcp_chunk_take(pool));
	tcp_pool_free(pool);
	tcp_pool_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_are_bounded),
		cmocka_unit_test(the_last_eighth_is_kept),
		cmocka_unit_test(a_pool_of_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
