/*
 * keyqueue.h - keys that wait to be fetched: first in, first out, each at most once.
 *
 * An edit storm on one key costs one entry; a key that is edited again while its answer is under way
 * has left the queue and enters it again.
 */
#ifndef WAXSEAL_KEYQUEUE_H
#define WAXSEAL_KEYQUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct keyqueue_item;
struct keyqueue {
	void *index; /* tsearch tree */
	struct keyqueue_item *first, **last;
	size_t count;
};

void keyqueue_init(struct keyqueue *queue);
void keyqueue_dispose(struct keyqueue *queue);
bool keyqueue_push(struct keyqueue *queue, const char *key); /* false: is in it already, or no memory */
char *keyqueue_pop(struct keyqueue *queue);                  /* the caller frees it; NULL if empty */

#endif
