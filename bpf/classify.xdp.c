/*
 * classify.xdp.c - the classifier in front of AF_XDP sockets.
 *
 * Enters: every frame that arrives on a port. VERDICT_FORWARD leaves by the other port, inside the kernel.
 * The rest goes to the queue's socket, with its verdict in the metadata in front of it. Where no socket
 * takes it (waxseald is not running), or the metadata has no room, the fail mode decides: on to the other
 * port, or dropped; ICMP goes on either way. A program on a port that the configuration does not know
 * passes everything to the kernel.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "verdict.h"

#define CLASSIFY_BEYOND(frame, p, n) ((p) + (n) > (frame)->base_end)
#define XSKS_MAX 64

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, XSKS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps"); /* the poll-mode driver knows it by this name */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2); /* enum port_side */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct classifier_config);
} waxseal_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WAXSEAL_POOLS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct classifier_pool);
} waxseal_pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, WAXSEAL_PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct classifier_key4);
	__type(value, struct classifier_destination);
} waxseal_dest4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, WAXSEAL_PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct classifier_key6);
	__type(value, struct classifier_destination);
} waxseal_dest6 SEC(".maps");

static inline __attribute__((always_inline)) __u64 steer(const struct classifier_destination *found, __u64 hash)
{
	__u32 number = found ? found->pool : 0, destination = found ? found->destination : WAXSEAL_DESTINATION_NONE;
	const struct classifier_pool *pool = bpf_map_lookup_elem(&waxseal_pools, &number);
	__u64 worker = 0;

	if (pool && pool->count)
		worker = pool->workers[(__u32)hash % pool->count & (WAXSEAL_WORKERS_MAX - 1)];
	return destination | worker << 32;
}

static inline __attribute__((always_inline)) __u64 steer4(__u64 address, __u64 hash)
{
	struct classifier_key4 key = {.prefix_len = 32};
	__u32 bytes = (__u32)address;
	__builtin_memcpy(key.addr, &bytes, sizeof(key.addr));
	return steer(bpf_map_lookup_elem(&waxseal_dest4, &key), hash);
}

static inline __attribute__((always_inline)) __u64 steer6(__u64 high, __u64 low, __u64 hash)
{
	struct classifier_key6 key = {.prefix_len = 128};
	__builtin_memcpy(key.addr, &high, sizeof(high));
	__builtin_memcpy(key.addr + sizeof(high), &low, sizeof(low));
	return steer(bpf_map_lookup_elem(&waxseal_dest6, &key), hash);
}

#include "classify.h"

/* Nobody inspects this frame. */
INLINE int uninspected(const struct classifier_config *config, __u32 action)
{
	if (config->fail_open || action == VERDICT_ICMP)
		return (int)bpf_redirect(config->ifindex_peer, 0);
	return XDP_DROP;
}

SEC("xdp")
int waxseal_classify(struct xdp_md *ctx)
{
	__u32 side = 0, queue = ctx->rx_queue_index;
	const struct classifier_config *config = bpf_map_lookup_elem(&waxseal_config, &side);
	struct verdict verdict, *meta;

	if (config && config->ifindex_self != ctx->ingress_ifindex) {
		side = 1;
		config = bpf_map_lookup_elem(&waxseal_config, &side);
	}
	if (!config || config->ifindex_self != ctx->ingress_ifindex)
		return XDP_PASS;

	struct frame frame = {
		.base = (__u8 *)(long)ctx->data,
		.base_end = (__u8 *)(long)ctx->data_end,
		.end = (__u64)ctx->data_end - ctx->data,
		.from_outside = side,
		.hash_seed = config->hash_seed,
	};
	classify(&frame, &verdict);
	if (LIKELY(verdict.action == VERDICT_FORWARD))
		return (int)bpf_redirect(config->ifindex_peer, 0);
	/* The map is asked first: a fallback of bpf_redirect_map cannot name another port. */
	if (!bpf_map_lookup_elem(&xsks_map, &queue) || bpf_xdp_adjust_meta(ctx, -WAXSEAL_VERDICT_BYTES))
		return uninspected(config, verdict.action);
	meta = (struct verdict *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return uninspected(config, verdict.action);
	*meta = verdict;
	return (int)bpf_redirect_map(&xsks_map, queue, XDP_DROP);
}

_Static_assert(sizeof(struct verdict) == WAXSEAL_VERDICT_BYTES, "both programs and their readers agree");
char LICENSE[] SEC("license") = "GPL"; /* the helpers above are for GPL-compatible programs only */
