/*
 * runner.h - what the two runners of packet fixtures share.
 *
 * Enters: options on the command line; on standard input, frames, each behind its length and the side it
 * comes from, two little-endian 32-bit words. Leaves: one line a frame. tests/bpf/fixtures.py reads both
 * runners' lines and compares them.
 *
 *   --seed N  --workers N  --pool W,W...  --prefix ADDRESS/LEN=DESTINATION:POOL
 * Pool 0 is all workers; each --pool adds the next one.
 */
#ifndef WAXSEAL_TESTS_BPF_RUNNER_H
#define WAXSEAL_TESTS_BPF_RUNNER_H

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port/private.h"

#define RUNNER_FRAME_MAX 2048
#define RUNNER_PREFIXES_MAX 64

struct runner {
	uint32_t seed, workers;
	struct classifier_pool pools[WAXSEAL_POOLS_MAX];
	size_t pool_count, prefix_count;
	struct port_prefix prefixes[RUNNER_PREFIXES_MAX];
};

static inline void runner_die(const char *what)
{
	fprintf(stderr, "runner: %s\n", what);
	exit(2);
}

static inline void runner_prefix(struct runner *runner, char *text)
{
	struct port_prefix *prefix = &runner->prefixes[runner->prefix_count++];
	char *slash = strchr(text, '/');
	unsigned len, destination, pool;
	if (!slash || sscanf(slash + 1, "%u=%u:%u", &len, &destination, &pool) != 3 || runner->prefix_count == RUNNER_PREFIXES_MAX)
		runner_die("--prefix ADDRESS/LEN=DESTINATION:POOL");
	*slash = '\0';
	*prefix = (struct port_prefix){.len = (uint8_t)len, .ipv6 = strchr(text, ':'), .destination = destination, .pool = pool};
	if (inet_pton(prefix->ipv6 ? AF_INET6 : AF_INET, text, prefix->addr) != 1)
		runner_die("--prefix: not an address");
}

static inline void runner_pool(struct runner *runner, char *text)
{
	struct classifier_pool *pool = &runner->pools[runner->pool_count++];
	for (char *word = strtok(text, ","); word; word = strtok(NULL, ","))
		pool->workers[pool->count++] = (uint8_t)atoi(word);
}

static inline void runner_options(struct runner *runner, int argc, char **argv)
{
	runner->workers = 1;
	runner->pool_count = 1;
	for (int i = 0; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--seed"))
			runner->seed = (uint32_t)strtoul(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--workers"))
			runner->workers = (uint32_t)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--pool"))
			runner_pool(runner, argv[++i]);
		else if (!strcmp(argv[i], "--prefix"))
			runner_prefix(runner, argv[++i]);
	}
	runner->pools[0].count = runner->workers;
	for (uint32_t w = 0; w < runner->workers; w++)
		runner->pools[0].workers[w] = (uint8_t)w;
	runner->prefix_count = steer_normalise(runner->prefixes, runner->prefix_count);
}

/* The next frame's length; -1 at the end. */
static inline int runner_next(uint8_t frame[RUNNER_FRAME_MAX], enum port_side *side)
{
	uint32_t head[2];
	if (fread(head, sizeof(head), 1, stdin) != 1)
		return -1;
	if (head[0] > RUNNER_FRAME_MAX || head[1] >= PORTS || (head[0] && fread(frame, head[0], 1, stdin) != 1))
		runner_die("input");
	*side = head[1];
	return (int)head[0];
}

static inline void runner_print(const struct verdict *v)
{
	printf("%u %u %u %u %u %u %u %u %u\n", v->magic == WAXSEAL_VERDICT_MAGIC, v->action, v->destination, v->worker, v->flags,
	       v->vlan_tags, v->l3_off, v->l4_off, v->flow_hash);
	if (v->reserved[0] || v->reserved[1] || v->reserved[2])
		runner_die("reserved words are not zero");
}

#endif
