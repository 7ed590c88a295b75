/*
 * channel.c - what OpenSSL reads and writes: a BIO over two queues of octets.
 *
 * Enters: the server's ciphertext. Leaves: ours, straight to `send`; what that does not take waits in a queue. A
 * queue has no memory while it is empty, so that an idle session keeps nothing. OpenSSL's own memory BIO clears what
 * it grows, moves what is left at each write, keeps its greatest size, and would be one copy more of every octet.
 */
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define QUEUE_BYTES_MIN 1024

bool tls_queue_put(struct tls_queue *queue, const void *bytes, size_t len)
{
	size_t need = queue->len + len, size = queue->size ? queue->size : QUEUE_BYTES_MIN;

	if (queue->at + need > queue->size) {
		while (size < need)
			size *= 2;
		if (queue->at)
			memmove(queue->bytes, queue->bytes + queue->at, queue->len);
		queue->at = 0;
		if (size != queue->size) {
			uint8_t *grown = realloc(queue->bytes, size);
			if (!grown)
				return false;
			queue->bytes = grown;
			queue->size = size;
		}
	}
	memcpy(queue->bytes + queue->at + queue->len, bytes, len);
	queue->len = need;
	return true;
}

void tls_queue_drop(struct tls_queue *queue, size_t len)
{
	queue->at += len;
	queue->len -= len;
	if (queue->len)
		return;
	free(queue->bytes);
	*queue = (struct tls_queue){.bytes = NULL};
}

/* ---- the BIO ---- */

static int channel_read(BIO *bio, char *out, size_t len, size_t *done)
{
	struct tls_queue *in = &((struct tls_channel *)BIO_get_data(bio))->in;

	BIO_clear_retry_flags(bio);
	*done = len < in->len ? len : in->len;
	if (!*done) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(out, in->bytes + in->at, *done);
	tls_queue_drop(in, *done);
	return 1;
}

static int channel_write(BIO *bio, const char *bytes, size_t len, size_t *done)
{
	struct tls_channel *channel = BIO_get_data(bio);
	size_t sent = 0;

	BIO_clear_retry_flags(bio);
	if (channel->send && !channel->out.len)
		sent = channel->send(channel->send_context, (const uint8_t *)bytes, len);
	if (sent < len && !tls_queue_put(&channel->out, bytes + sent, len - sent))
		return 0;
	*done = len;
	return 1;
}

static long channel_ctrl(BIO *bio, int command, long number, void *pointer)
{
	struct tls_channel *channel = BIO_get_data(bio);
	(void)number, (void)pointer;

	switch (command) {
	case BIO_CTRL_PENDING: return (long)channel->in.len;
	case BIO_CTRL_WPENDING: return (long)channel->out.len;
	case BIO_CTRL_FLUSH: return 1;
	default: return 0;
	}
}

BIO_METHOD *tls_channel_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "channel");

	if (method) {
		BIO_meth_set_read_ex(method, channel_read);
		BIO_meth_set_write_ex(method, channel_write);
		BIO_meth_set_ctrl(method, channel_ctrl);
	}
	return method;
}

bool tls_channel_open(struct tls_channel *channel, const BIO_METHOD *method, SSL *ssl)
{
	BIO *bio = BIO_new(method);

	if (!bio)
		return false;
	BIO_set_data(bio, channel);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio); /* takes the reference */
	return true;
}

void tls_channel_dispose(struct tls_channel *channel)
{
	free(channel->in.bytes);
	free(channel->out.bytes);
}
