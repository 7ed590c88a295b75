/*
 * steer.c - see steer.h. Runs on the main thread, at start and with each new image.
 *
 * A named pool is given a worker of its own from the last one down, as long as one remains for all
 * others; past that a pool shares the default one. With one worker every pool is the same.
 */
#include "steer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct port_config steer_port_config(const struct config *config)
{
	return (struct port_config){
		.name = {config->port[INSIDE], config->port[OUTSIDE]},
		.fail_open = config->fail_open,
		.bpf_dir = config->bpf_dir,
		.mbufs = config->mbufs,
		.workers = config->workers,
		.lcores = config_pipeline(config) ? 1 : config->workers,
	};
}

/* Index of the named pool, made where it is new. */
static uint32_t pool_index(const char *names[], struct classifier_pool *pools, size_t *count, const char *name)
{
	if (!*name)
		return 0;
	for (uint32_t i = 1; i < *count; i++)
		if (!strcmp(names[i], name))
			return i;
	if (*count == WAXSEAL_POOLS_MAX || pools[0].count == 1)
		return 0;
	uint32_t made = (uint32_t)(*count)++;
	names[made] = name;
	pools[made] = (struct classifier_pool){.count = 1, .workers = {pools[0].workers[--pools[0].count]}};
	return made;
}

int steer(struct ports *ports, const struct policy_image *image, unsigned workers, unsigned *shared, char *error, size_t error_len)
{
	const char *names[WAXSEAL_POOLS_MAX] = {""};
	struct classifier_pool pools[WAXSEAL_POOLS_MAX] = {{.count = workers}};
	size_t pool_count = 1, count = policy_prefixes(image);
	struct port_prefix *prefixes = calloc(count + 1, sizeof(*prefixes));

	if (!prefixes) {
		snprintf(error, error_len, "no memory for %zu prefixes of the policy image", count);
		return -1;
	}
	for (unsigned w = 0; w < workers; w++)
		pools[0].workers[w] = (uint8_t)w;
	for (size_t i = 0; i < count; i++) {
		struct policy_prefix prefix = policy_prefix(image, i);
		prefixes[i] = (struct port_prefix){
			.len = prefix.len,
			.ipv6 = prefix.ipv6,
			.destination = prefix.destination,
			.pool = pool_index(names, pools, &pool_count, prefix.pool),
		};
		memcpy(prefixes[i].addr, prefix.addr, sizeof(prefix.addr));
	}
	int result = port_steer(ports, prefixes, count, pools, pool_count, error, error_len);
	free(prefixes);
	if (!result)
		*shared = pools[0].count;
	return result ? -1 : 0;
}
