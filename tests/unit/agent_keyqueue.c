/* agent_keyqueue.c - order is kept, a key stands in the queue once, and may come again when it has left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../control/agent/keyqueue.h"

static void pops(struct keyqueue *queue, const char *key)
{
	char *got = keyqueue_pop(queue);

	assert_non_null(got);
	assert_string_equal(got, key);
	free(got);
}

static void order_and_once(void **state)
{
	struct keyqueue queue;

	(void)state;
	keyqueue_init(&queue);
	assert_null(keyqueue_pop(&queue));
	assert_true(keyqueue_push(&queue, "c"));
	assert_true(keyqueue_push(&queue, "a"));
	assert_false(keyqueue_push(&queue, "c"));
	assert_true(keyqueue_push(&queue, "b"));
	assert_int_equal(queue.count, 3);
	pops(&queue, "c");
	assert_true(keyqueue_push(&queue, "c"));
	pops(&queue, "a");
	pops(&queue, "b");
	pops(&queue, "c");
	assert_null(keyqueue_pop(&queue));
	assert_true(keyqueue_push(&queue, "again"));
	assert_int_equal(queue.count, 1);
	keyqueue_dispose(&queue);
	assert_int_equal(queue.count, 0);
}

static void many(void **state)
{
	struct keyqueue queue;
	char key[32];

	(void)state;
	keyqueue_init(&queue);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 20000; i++) {
			snprintf(key, sizeof(key), "key%d", i * 7919 % 20000);
			assert_int_equal(keyqueue_push(&queue, key), round == 0);
		}
	assert_int_equal(queue.count, 20000);
	pops(&queue, "key0");
	pops(&queue, "key7919");
	keyqueue_dispose(&queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(order_and_once), cmocka_unit_test(many)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
