/*
 * policy_swap.c - see policy_swap.h. One writer (the main thread), lcores read without locks; the mutex
 * is only between the main thread and telemetry.
 */
#include "policy_swap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

struct policy_swap {
	_Atomic(const struct policy_image *) current;
	struct policy_image *owned; /* the same, for closing */
	struct rte_rcu_qsbr *rcu;
	char path[256];
	struct stat seen;
	pthread_mutex_t lock; /* over what follows */
	uint64_t generation, compiled_at, refused;
	char error[512];
};

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void policy_swap_tell(struct policy_swap *swap)
{
	const struct image_header *header = policy_image_header(swap->owned);
	pthread_mutex_lock(&swap->lock);
	swap->generation = header->generation;
	swap->compiled_at = header->compiled_at;
	swap->error[0] = 0;
	pthread_mutex_unlock(&swap->lock);
}

struct policy_swap *policy_swap_new(const char *path, unsigned lcores, char *error, size_t error_len)
{
	struct policy_swap *swap = calloc(1, sizeof(*swap));
	if (!swap)
		goto no_memory;
	pthread_mutex_init(&swap->lock, NULL);
	snprintf(swap->path, sizeof(swap->path), "%s", path);
	swap->rcu = rte_zmalloc("policy", rte_rcu_qsbr_get_memsize(lcores), RTE_CACHE_LINE_SIZE);
	if (!swap->rcu || rte_rcu_qsbr_init(swap->rcu, lcores))
		goto no_memory;
	if (stat(path, &swap->seen) == 0) {
		swap->owned = policy_image_open(path, error, error_len);
		if (!swap->owned)
			goto out;
	} else if (errno == ENOENT) {
		swap->owned = policy_image_default();
		if (!swap->owned)
			goto no_memory;
	} else {
		snprintf(error, error_len, "%s: %s", path, strerror(errno));
		goto out;
	}
	atomic_store(&swap->current, swap->owned);
	policy_swap_tell(swap);
	return swap;
no_memory:
	snprintf(error, error_len, "%s: no memory for the policy image", path);
out:
	policy_swap_free(swap);
	return NULL;
}

void policy_swap_free(struct policy_swap *swap)
{
	if (!swap)
		return;
	policy_image_close(swap->owned);
	rte_free(swap->rcu);
	free(swap);
}

void policy_swap_online(struct policy_swap *swap, unsigned lcore)
{
	rte_rcu_qsbr_thread_register(swap->rcu, lcore);
	rte_rcu_qsbr_thread_online(swap->rcu, lcore);
}

const struct policy_image *policy_swap_current(struct policy_swap *swap, unsigned lcore)
{
	rte_rcu_qsbr_quiescent(swap->rcu, lcore);
	return atomic_load_explicit(&swap->current, memory_order_acquire);
}

void policy_swap_offline(struct policy_swap *swap, unsigned lcore)
{
	rte_rcu_qsbr_thread_offline(swap->rcu, lcore);
	rte_rcu_qsbr_thread_unregister(swap->rcu, lcore);
}

bool policy_swap_poll(struct policy_swap *swap)
{
	struct stat now;
	char error[512] = "";
	if (stat(swap->path, &now) || same_file(&now, &swap->seen))
		return false;
	swap->seen = now;
	struct policy_image *image = policy_image_open(swap->path, error, sizeof(error));
	if (!image) {
		pthread_mutex_lock(&swap->lock);
		swap->refused++;
		snprintf(swap->error, sizeof(swap->error), "%s", error);
		pthread_mutex_unlock(&swap->lock);
		fprintf(stderr, "waxseald: image refused, the last good one stays: %s\n", error);
		return false;
	}
	struct policy_image *old = swap->owned;
	swap->owned = image;
	atomic_store_explicit(&swap->current, image, memory_order_release);
	rte_rcu_qsbr_synchronize(swap->rcu, RTE_QSBR_THRID_INVALID);
	policy_image_close(old);
	return true;
}

const struct policy_image *policy_swap_image(const struct policy_swap *swap)
{
	return swap->owned;
}

void policy_swap_status(struct policy_swap *swap, uint64_t *generation, uint64_t *compiled_at, uint64_t *refused, char *error, size_t error_len)
{
	pthread_mutex_lock(&swap->lock);
	*generation = swap->generation;
	*compiled_at = swap->compiled_at;
	*refused = swap->refused;
	snprintf(error, error_len, "%s", swap->error);
	pthread_mutex_unlock(&swap->lock);
}
