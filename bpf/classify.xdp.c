/*
 * classify.xdp.c - the classifier in front of AF_XDP sockets.
 *
 * Enters: every frame that arrives on a port. VERDICT_FORWARD leaves by the other port, inside the kernel, and so do
 * the packets of flows that waxseald has handed over as sealed, but for the last one and those that could reset or reopen one.
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

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WAXSEAL_SEALED_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct classifier_flow);
	__type(value, struct classifier_sealed);
} waxseal_sealed SEC(".maps");

struct frame;
struct walk;
static inline __attribute__((always_inline)) int passes_sealed(const struct frame *frame, const struct walk *walk, __u64 server_is_source);
#define CLASSIFY_PASSES passes_sealed

#include "classify.h"

enum { TCP_BYTES = 20, TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16, VLAN_ID = 0xfff };

INLINE int after(__u32 a, __u32 b) { return (__s32)(a - b) > 0; }

/* Addresses are copied as words of their frame's alignment. */
INLINE void copy_address(__u8 to[16], const __u8 *from, __u64 ipv6)
{
	__u32 *words = (__u32 *)to;
	words[0] = ipv6 ? LOAD32(from, 0) : 0;
	words[1] = ipv6 ? LOAD32(from, 4) : 0;
	words[2] = ipv6 ? LOAD32(from, 8) : 0xffff0000; /* ::ffff:0:0/96 */
	words[3] = LOAD32(from, ipv6 ? 12 : 0);
}

/* Which flow it is. 0: the frame ends too early, or the IP header says that it should be longer. */
INLINE int name_flow(const struct frame *frame, const struct walk *walk, __u64 server_is_source)
{
	struct classifier_flow *flow = frame->flow;
	__u64 address = walk->ipv6 ? 16 : 4, total;
	__u8 *ip = at(frame, walk->l3), *tag = at(frame, ETHERNET_BYTES), *tcp;

	if (walk->l3 > OFFSET_MAX || walk->l4 > OFFSET_MAX || CLASSIFY_BEYOND(frame, ip, IPV4_BYTES))
		return 0;
	total = walk->ipv6 ? IPV6_BYTES + LOAD16(ip, 4) : LOAD16(ip, 2);
	if (walk->l3 + total != frame->end || CLASSIFY_BEYOND(frame, ip, walk->ipv6 ? IPV6_BYTES : IPV4_BYTES))
		return 0;
	ip += walk->ipv6 ? 8 : 12;
	copy_address(server_is_source ? flow->server : flow->client, ip, walk->ipv6);
	copy_address(server_is_source ? flow->client : flow->server, ip + address, walk->ipv6);
	tcp = at(frame, walk->l4);
	if (walk->l4 + TCP_BYTES > frame->end || CLASSIFY_BEYOND(frame, tcp, TCP_BYTES))
		return 0;
	flow->client_port = LOAD16(tcp, server_is_source ? 2 : 0);
	flow->server_port = WAXSEAL_SMTP_PORT;
	flow->vlan[0] = flow->vlan[1] = 0;
	if (walk->tags && CLASSIFY_BEYOND(frame, tag, 2 * VLAN_BYTES))
		return 0;
	if (walk->tags)
		flow->vlan[0] = LOAD16(tag, 0) & VLAN_ID;
	if (walk->tags > 1)
		flow->vlan[1] = LOAD16(tag, VLAN_BYTES) & VLAN_ID;
	return 1;
}

/* What flow/'s tracker does with a packet that passes, RFC 9293 and RFC 5961: no more than to tell later whether a RST is
 * one, and when both ends have ended. 0: it is more than that, and flow/'s to judge: a FIN out of order, what is sent behind
 * one, and the ACK that is the flow's last packet. */
INLINE int note(struct classifier_passed *from, const struct classifier_passed *peer, const __u8 *tcp, __u64 payload)
{
	__u32 seq = __builtin_bswap32(LOAD32(tcp, 4)), ack = __builtin_bswap32(LOAD32(tcp, 8)), end = seq + (__u32)payload, next = from->next, edge;
	int fin = tcp[13] & TCP_FIN, counts = tcp[13] & TCP_ACK && !after(from->ack, ack) && !after(ack, peer->next);

	if (fin && !from->fin && (after(seq, next) || after(next, end)))
		return 0;
	end += (__u32)fin;
	if (from->fin && after(end, next))
		return 0;
	if (after(end, next))
		next = end;
	if ((fin || from->fin) && peer->fin && counts && ack == peer->next && peer->ack == next)
		return 0;

	/* Exact also if a NIC moves a flow to another queue. */
	__sync_fetch_and_add(&from->packets, 1);
	__sync_fetch_and_add(&from->bytes, payload);
	from->seen_ns = bpf_ktime_get_coarse_ns();
	from->next = next;
	if (fin)
		from->fin = 1;
	if (!counts)
		return 1;
	from->ack = ack;
	edge = ack + ((__u32)LOAD16(tcp, 14) << (from->wscale & 15));
	if (after(edge, from->edge))
		from->edge = edge;
	return 1;
}

/* What is refused here goes up, where flow/ says what becomes of it. */
INLINE int passes_sealed(const struct frame *frame, const struct walk *walk, __u64 server_is_source)
{
	struct classifier_sealed *sealed;
	__u64 header;
	__u8 *tcp;

	if (walk->is_icmp || !name_flow(frame, walk, server_is_source))
		return 0;
	tcp = at(frame, walk->l4);
	if (CLASSIFY_BEYOND(frame, tcp, TCP_BYTES) || tcp[13] & (TCP_SYN | TCP_RST))
		return 0;
	header = (__u64)(tcp[12] >> 4) * 4;
	if (header < TCP_BYTES || walk->l4 + header > frame->end)
		return 0;
	sealed = bpf_map_lookup_elem(&waxseal_sealed, frame->flow);
	if (!sealed || sealed->client_port_side != (frame->from_outside ^ server_is_source))
		return 0;
	return note(&sealed->from[server_is_source & 1], &sealed->from[~server_is_source & 1], tcp, frame->end - walk->l4 - header);
}

INLINE int begins_connection(const struct frame *frame, const struct verdict *verdict)
{
	__u8 *tcp = at(frame, verdict->l4_off);
	return verdict->action == VERDICT_SMTP && !CLASSIFY_BEYOND(frame, tcp, TCP_BYTES) && tcp[13] & TCP_SYN;
}

/* Nobody inspects this frame. A connection that begins here is none that was sealed. */
INLINE int uninspected(const struct classifier_config *config, const struct frame *frame, __u32 action, int begins)
{
	if (begins)
		bpf_map_delete_elem(&waxseal_sealed, frame->flow);
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
	struct classifier_flow flow = {0};
	int begins;

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
		.flow = &flow,
	};
	classify(&frame, &verdict);
	if (LIKELY(verdict.action == VERDICT_FORWARD))
		return (int)bpf_redirect(config->ifindex_peer, 0);
	begins = begins_connection(&frame, &verdict);
	/* The map is asked first: a fallback of bpf_redirect_map cannot name another port. */
	if (!bpf_map_lookup_elem(&xsks_map, &queue) || bpf_xdp_adjust_meta(ctx, -WAXSEAL_VERDICT_BYTES))
		return uninspected(config, &frame, verdict.action, begins);
	meta = (struct verdict *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return uninspected(config, &frame, verdict.action, begins);
	*meta = verdict;
	return (int)bpf_redirect_map(&xsks_map, queue, XDP_DROP);
}

_Static_assert(sizeof(struct verdict) == WAXSEAL_VERDICT_BYTES, "both programs and their readers agree");
char LICENSE[] SEC("license") = "GPL"; /* the helpers above are for GPL-compatible programs only */
