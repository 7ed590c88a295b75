/*
 * keyqueue.c - a list for the order and a search tree for the question "is it in there?".
 *
 * The tree's node and the list's item are one allocation; only its key outlives the item, as the
 * caller's.
 */
#include "keyqueue.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct keyqueue_item {
	char *key;
	struct keyqueue_item *next;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct keyqueue_item *)a)->key, ((const struct keyqueue_item *)b)->key);
}

void keyqueue_init(struct keyqueue *queue) { *queue = (struct keyqueue){.last = &queue->first}; }

void keyqueue_dispose(struct keyqueue *queue)
{
	for (char *key; (key = keyqueue_pop(queue));)
		free(key);
}

bool keyqueue_push(struct keyqueue *queue, const char *key)
{
	struct keyqueue_item probe = {.key = (char *)key};

	if (tfind(&probe, &queue->index, compare))
		return false;
	struct keyqueue_item *item = calloc(1, sizeof(*item));
	if (!item || !(item->key = strdup(key)) || !tsearch(item, &queue->index, compare)) {
		if (item)
			free(item->key);
		free(item);
		return false;
	}
	*queue->last = item;
	queue->last = &item->next;
	queue->count++;
	return true;
}

char *keyqueue_pop(struct keyqueue *queue)
{
	struct keyqueue_item *item = queue->first;

	if (!item)
		return NULL;
	char *key = item->key;
	tdelete(item, &queue->index, compare);
	queue->first = item->next;
	if (!queue->first)
		queue->last = &queue->first;
	queue->count--;
	free(item);
	return key;
}
