/* tcp/buffer.c: bytes by sequence number, across chunks, holes and the wrap. */
#include "tcp_harness.h"

enum { CAPACITY = 20000 };
static struct tcp_ring ring;

static int setup(void **state)
{
	h_setup(state);
	assert_true(tcp_ring_init(&ring, h.pool, CAPACITY, OUT));
	return 0;
}

static int teardown(void **state)
{
	tcp_ring_dispose(&ring);
	return h_teardown(state);
}

static void bytes_come_back(void **state)
{
	(void)state;
	static uint8_t out[CAPACITY];
	assert_int_equal(tcp_ring_put(&ring, OUT, h_bytes, 10001, false), 10001);
	assert_int_equal(tcp_pool_used(h.pool), 3);
	tcp_ring_get(&ring, OUT + 4000, out, 6001);
	assert_memory_equal(out, h_bytes + 4000, 6001);
	size_t len;
	const uint8_t *piece = tcp_ring_piece(&ring, &len);
	assert_int_equal(len, TCP_CHUNK_BYTES);
	assert_memory_equal(piece, h_bytes, len);
}

static void it_goes_round(void **state)
{
	(void)state;
	uint8_t out[3000];
	for (uint32_t at = 0; at + 3000 < sizeof(h_bytes); at += 3000) {
		assert_int_equal(tcp_ring_put(&ring, OUT + at, h_bytes + at, 3000, false), 3000);
		tcp_ring_get(&ring, OUT + at, out, 3000);
		assert_memory_equal(out, h_bytes + at, 3000);
		tcp_ring_drop(&ring, OUT + at + 2000, false);
		assert_in_range(tcp_pool_used(h.pool), 1, 2);
	}
}

static void holes_are_filled_later(void **state)
{
	(void)state;
	static uint8_t out[9000];
	assert_int_equal(tcp_ring_put(&ring, OUT + 5000, h_bytes + 5000, 4000, false), 4000);
	assert_int_equal(tcp_ring_put(&ring, OUT, h_bytes, 5000, false), 5000);
	tcp_ring_get(&ring, OUT, out, 9000);
	assert_memory_equal(out, h_bytes, 9000);
}

static void beyond_the_capacity_nothing_is_kept(void **state)
{
	(void)state;
	assert_int_equal(tcp_ring_put(&ring, OUT + CAPACITY - 10, h_bytes, 100, false), 10);
	assert_int_equal(tcp_ring_put(&ring, OUT + CAPACITY, h_bytes, 100, false), 0);
	tcp_ring_drop(&ring, OUT + 50, false);
	assert_int_equal(tcp_ring_put(&ring, OUT + CAPACITY, h_bytes, 100, false), 50);
}

static void an_empty_ring_holds_no_chunk(void **state)
{
	(void)state;
	assert_int_equal(tcp_ring_put(&ring, OUT, h_bytes, 5000, false), 5000);
	tcp_ring_drop(&ring, OUT + 5000, true);
	assert_int_equal(tcp_pool_used(h.pool), 0);
	size_t len;
	assert_null(tcp_ring_piece(&ring, &len));
	assert_int_equal(len, 0);
}

static void an_exhausted_pool_takes_what_fits(void **state)
{
	(void)state;
	struct tcp_pool *small = tcp_pool_new(8);
	struct tcp_ring tight;
	assert_true(tcp_ring_init(&tight, small, 100000, OUT));
	assert_int_equal(tcp_ring_put(&tight, OUT, h_bytes, 50000, true), 7 * TCP_CHUNK_BYTES); /* the last eighth is not spare */
	assert_int_equal(tcp_ring_put(&tight, OUT + 7 * TCP_CHUNK_BYTES, h_bytes, 50000, false), TCP_CHUNK_BYTES);
	tcp_ring_dispose(&tight);
	tcp_pool_free(small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bytes_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(it_goes_round, setup, teardown),
		cmocka_unit_test_setup_teardown(holes_are_filled_later, setup, teardown),
		cmocka_unit_test_setup_teardown(beyond_the_capacity_nothing_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_ring_holds_no_chunk, setup, teardown),
		cmocka_unit_test_setup_teardown(an_exhausted_pool_takes_what_fits, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
