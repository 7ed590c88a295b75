/* tls/channel.c: queues, and what a BIO over them takes, holds back and passes on. */
#include "tls_peer.h"

#include "tls/private.h"

static void test_a_queue_keeps_the_order_and_no_memory_while_empty(void **state)
{
	struct tls_queue queue = {.bytes = NULL};
	uint8_t next_in = 0, next_out = 0, bytes[5000];
	(void)state;
	srand(1);
	for (unsigned turn = 0; turn < 2000; turn++) {
		size_t put = (size_t)rand() % sizeof(bytes), drop;
		for (size_t i = 0; i < put; i++)
			bytes[i] = next_in++;
		size_t before = queue.len;
		assert_true(tls_queue_put(&queue, bytes, put));
		assert_int_equal(queue.len, before + put);
		drop = turn % 10 == 9 ? queue.len : (size_t)rand() % (queue.len + 1);
		for (size_t i = 0; i < drop; i++)
			assert_int_equal(queue.bytes[queue.at + i], next_out++);
		tls_queue_drop(&queue, drop);
		assert_int_equal(queue.bytes == NULL, queue.len == 0);
	}
	tls_queue_drop(&queue, queue.len);
	assert_null(queue.bytes);
}

static char taken[64];
static size_t taken_len, room;

static size_t take(void *context, const uint8_t *bytes, size_t len)
{
	assert_ptr_equal(context, taken);
	if (len > room)
		len = room;
	memcpy(taken + taken_len, bytes, len);
	taken_len += len;
	room -= len;
	return len;
}

static void test_what_send_does_not_take_waits_and_is_not_overtaken(void **state)
{
	BIO_METHOD *method = tls_channel_method();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	struct tls_channel channel = {.send = take, .send_context = taken};
	uint8_t out[16];
	(void)state;
	assert_true(tls_channel_open(&channel, method, ssl));
	BIO *bio = SSL_get_wbio(ssl);
	room = 5;
	assert_int_equal(BIO_write(bio, "abc", 3), 3);
	assert_int_equal(channel.out.len, 0);
	assert_int_equal(BIO_write(bio, "defg", 4), 4);
	room = 50;
	assert_int_equal(BIO_write(bio, "hi", 2), 2);
	assert_int_equal(taken_len, 5);
	assert_memory_equal(taken, "abcde", 5);
	assert_int_equal(BIO_wpending(bio), 4);
	assert_memory_equal(channel.out.bytes + channel.out.at, "fghi", 4);

	assert_int_equal(BIO_read(bio, out, sizeof(out)), -1);
	assert_true(BIO_should_read(bio)); /* not the end: more may come */
	assert_true(tls_queue_put(&channel.in, "12345", 5));
	assert_int_equal(BIO_pending(bio), 5);
	assert_int_equal(BIO_read(bio, out, 3), 3);
	assert_int_equal(BIO_read(bio, out + 3, 8), 2);
	assert_memory_equal(out, "12345", 5);
	SSL_free(ssl);
	tls_channel_dispose(&channel);
	BIO_meth_free(method);
	SSL_CTX_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_queue_keeps_the_order_and_no_memory_while_empty),
		cmocka_unit_test(test_what_send_does_not_take_waits_and_is_not_overtaken),
	};
	return cmocka_run_group_tests_name("tls_channel", tests, NULL, NULL);
}
