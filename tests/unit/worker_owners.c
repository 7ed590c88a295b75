/* owners.c: which lcore has a connection: claims, holds, shared buckets, and that two lcores never both have one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "owners.h"

#define THREADS 4
#define HASHES 64
#define ROUNDS 200000

static struct owners *owners;

static int set_up(void **state)
{
	(void)state;
	owners = owners_new(1024);
	return owners ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	owners_free(owners);
	return 0;
}

static void the_first_has_it(void **state)
{
	(void)state;
	assert_int_equal(owners_take(owners, 7, 2, true), 2);
	assert_int_equal(owners_take(owners, 7, 3, true), 2);
	assert_int_equal(owners_take(owners, 7, 0, false), 2);
	owners_release(owners, 7);
	assert_int_equal(owners_take(owners, 7, 3, true), 3);
	assert_int_equal(owners_take(owners, 7, 2, true), 3);
	owners_release(owners, 7);
}

static void who_may_not_take_is_told_that_nobody_has_it(void **state)
{
	(void)state;
	assert_int_equal(owners_take(owners, 9, 1, false), OWNERS_NONE);
	assert_int_equal(owners_take(owners, 9, 15, true), 15);
	assert_int_equal(owners_take(owners, 9, 1, false), 15);
	owners_release(owners, 9);
	assert_int_equal(owners_take(owners, 9, 1, false), OWNERS_NONE);
}

/* A flow outlives the frame that opened it, and a frame in hand outlives the flow that it closes. */
static void it_is_kept_to_the_last_hold(void **state)
{
	(void)state;
	assert_int_equal(owners_take(owners, 5, 0, true), 0); /* its SYN */
	assert_true(owners_hold(owners, 5, 0));
	owners_release(owners, 5);
	assert_int_equal(owners_take(owners, 5, 1, true), 0);
	assert_int_equal(owners_take(owners, 5, 0, true), 0); /* its last frame */
	owners_release(owners, 5);                            /* the flow's */
	assert_int_equal(owners_take(owners, 5, 1, true), 0);
	owners_release(owners, 5);
	assert_int_equal(owners_take(owners, 5, 1, true), 1);
	owners_release(owners, 5);
}

static void a_flow_in_anothers_bucket_holds_nothing(void **state)
{
	(void)state;
	assert_false(owners_hold(owners, 3, 1)); /* nobody's: a pool's own worker does not take */
	assert_int_equal(owners_take(owners, 3, 0, true), 0);
	assert_false(owners_hold(owners, 3, 1));
	owners_release(owners, 3);
	assert_int_equal(owners_take(owners, 3, 1, false), OWNERS_NONE);
}

static void hashes_share_buckets(void **state)
{
	uint32_t other = 11 + owners->mask + 1;
	(void)state;
	assert_true(owners->mask + 1 >= 4 * 1024);
	assert_ptr_equal(owners_place(owners, 11), owners_place(owners, other));
	assert_int_equal(owners_take(owners, 11, 0, true), 0);
	assert_int_equal(owners_take(owners, other, 0, true), 0);
	owners_release(owners, 11);
	assert_int_equal(owners_take(owners, 11, 1, true), 0);
	owners_release(owners, other);
	assert_int_equal(owners_take(owners, 11, 1, true), 1);
	owners_release(owners, 11);
}

static void its_size_has_a_limit(void **state)
{
	struct owners *largest = owners_new(UINT64_MAX / 8), *least = owners_new(0);
	(void)state;
	assert_non_null(largest);
	assert_non_null(least);
	assert_int_equal(largest->mask, OWNERS_BUCKETS_MAX - 1);
	assert_int_equal(owners_take(least, UINT32_MAX, 15, true), 15);
	owners_free(largest);
	owners_free(least);
}

/* ---- several threads ---- */

static int in_hands[HASHES]; /* lcores that have the hash at this moment */
static bool twice;

static void *lcore(void *index)
{
	uint32_t self = (uint32_t)(uintptr_t)index, taken = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t hash = (i * 2654435761u >> 7) % HASHES;
		if (owners_take(owners, hash, self, true) != self)
			continue;
		if (__atomic_add_fetch(&in_hands[hash], 1, __ATOMIC_SEQ_CST) != 1)
			__atomic_store_n(&twice, true, __ATOMIC_SEQ_CST);
		taken++;
		__atomic_sub_fetch(&in_hands[hash], 1, __ATOMIC_SEQ_CST);
		owners_release(owners, hash);
	}
	return (void *)(uintptr_t)taken;
}

static void two_never_have_one(void **state)
{
	pthread_t thread[THREADS];
	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, lcore, (void *)i), 0);
	for (int i = 0; i < THREADS; i++) {
		void *taken;
		assert_int_equal(pthread_join(thread[i], &taken), 0);
		assert_non_null(taken);
	}
	assert_false(twice);
	for (uint32_t hash = 0; hash < HASHES; hash++) /* and nobody has any now */
		assert_int_equal(owners_take(owners, hash, 0, false), OWNERS_NONE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(the_first_has_it), T(who_may_not_take_is_told_that_nobody_has_it), T(it_is_kept_to_the_last_hold),
		T(a_flow_in_anothers_bucket_holds_nothing), T(hashes_share_buckets), T(its_size_has_a_limit), T(two_never_have_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
