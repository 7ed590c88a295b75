/*
 * classify.h - what a frame is: the classifier's one source, included by classify.xdp.c and classify.dpdk.c.
 *
 * Enters: a frame of any content, the port it came in by. Leaves: a struct verdict (verdict.h). A read lies
 * inside the frame and inside what the IP header says is the packet: padding is not looked at. What is
 * malformed in a way that no receiver takes it for port 25 is VERDICT_FORWARD; what a receiver might
 * reassemble into port 25, and what cannot be walked within the limits, is not.
 *
 * The includer says how to reach bytes, and defines before it includes this:
 *   CLASSIFY_BEYOND(p, n)  true if n bytes at p are not there, for the sake of the kernel's verifier
 *   steer4(), steer6()     destination | worker << 32 for the port-25 endpoint's address and a flow hash
 *   CLASSIFY_PASSES(frame, walk, server_is_source)  true: a packet of a sealed flow, which is forwarded here
 * librte_bpf knows no loops, no calls within the program and no constants in .rodata: hence the macros.
 */
#ifndef WAXSEAL_CLASSIFY_H
#define WAXSEAL_CLASSIFY_H

#include <linux/types.h>

#include "verdict.h"

#define INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define BE16(x) __builtin_bswap16(x) /* BPF programs run on the machine that built them: x86-64 */

enum {
	ETHERNET_BYTES = 14, VLAN_BYTES = 4, IPV4_BYTES = 20, IPV6_BYTES = 40, ICMP_BYTES = 8, PORTS_BYTES = 4,
	EXTENSION_BYTES = 8, OFFSET_MAX = 2047, /* headers are looked for no further; no port takes longer frames */
	TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, TYPE_VLAN = 0x8100, TYPE_QINQ = 0x88a8,
	PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_ROUTING = 43, PROTO_FRAGMENT = 44, PROTO_AUTHENTICATION = 51,
	PROTO_ICMPV6 = 58, PROTO_OPTIONS = 60, PROTO_MOBILITY = 135, PROTO_HIP = 139, PROTO_SHIM6 = 140,
	IPV4_MORE = 0x2000, IPV4_OFFSET = 0x1fff, IPV6_OFFSET = 0xfff8,
};

struct frame {
	__u8 *base;
	__u8 *base_end; /* XDP's data_end */
	__u64 end;      /* offset past the last byte that counts */
	__u64 from_outside, hash_seed;
	struct classifier_flow *flow; /* CLASSIFY_PASSES': which flow it is; NULL where nothing passes so */
};

/* Where the walk has come to. 64 bits each: 32-bit arithmetic costs extra instructions before cpu v3. */
struct walk {
	__u64 type, tags;
	__u64 l3, l4, ports;   /* offsets */
	__u64 addresses;       /* offset of the source address; the destination's follows */
	__u64 protocol;
	__u64 ipv6, is_icmp;
	__u64 first_fragment;  /* more of this datagram follows */
};

/* base + off, in one register and in that order: both verifiers follow it, whatever the compiler would like. */
INLINE __u8 *at(const struct frame *frame, __u64 off)
{
	__u8 *p = frame->base;
	asm volatile("%1 &= 2047\n\t%0 += %1" : "+r"(p), "+r"(off));
	return p;
}

#define LOAD16(p, n) BE16(*(const __u16 *)((p) + (n)))
#define LOAD32(p, n) (*(const __u32 *)((p) + (n)))
#define LOAD64(p, n) (*(const __u64 *)((p) + (n)))

/* How a part of the walk ends. Each part is inlined, so that these are jumps and not values. */
enum outcome {
	WALK_ON,
	WALK_FORWARD, /* not port 25, or nothing that a receiver would take for it */
	WALK_CUT,     /* the packet ends before its ports */
	WALK_LIMIT,   /* past what is walked */
	WALK_SEALED,  /* of a sealed flow: passes here */
};

/* p points to n bytes at `off`, or the function returns `otherwise`. */
#define NEED(p, frame, off, n, otherwise)                                       \
	do {                                                                    \
		if ((off) + (n) > (frame)->end)                                 \
			return (otherwise);                                     \
		if ((off) > OFFSET_MAX)                                         \
			return WALK_LIMIT;                                      \
		(p) = at((frame), (off));                                       \
		if (CLASSIFY_BEYOND((frame), (p), (n)))                         \
			return (otherwise);                                     \
	} while (0)
#define ON(part)                                                                \
	do {                                                                    \
		enum outcome ended = (part);                                    \
		if (ended != WALK_ON)                                           \
			return ended;                                           \
	} while (0)

/* librte_bpf's verifier walks every path to its end, so each branch whose arms meet again doubles its work: with
 * ifs alone, loading took minutes. What follows is arithmetic on 0 and 1, in assembly where the compiler would
 * make a branch of it again. */
INLINE __u64 is_zero(__u64 x) /* of x < 2^63 */
{
	asm volatile("%0 += -1\n\t%0 >>= 63" : "+r"(x));
	return x;
}

INLINE __u64 choose(__u64 one, __u64 a, __u64 b) { return b ^ ((a ^ b) & (0 - one)); }

INLINE __u64 is_tag(__u64 type) { return is_zero((type ^ TYPE_VLAN) * (type ^ TYPE_QINQ)); }

/* Bit n & 63 of the word for that n, of two words of 64 numbers each. */
INLINE __u64 is_extension(__u64 number)
{
	const __u64 low = 1ull << 0 | 1ull << PROTO_ROUTING | 1ull << PROTO_FRAGMENT | 1ull << PROTO_AUTHENTICATION | 1ull << PROTO_OPTIONS;
	const __u64 high = 1ull << (PROTO_MOBILITY - 128) | 1ull << (PROTO_HIP - 128) | 1ull << (PROTO_SHIM6 - 128);
	__u64 word = low & (0 - is_zero(number >> 6));
	word |= high & (0 - is_zero(number >> 6 ^ 2));
	return word >> (number & 63) & 1;
}

/* ICMP errors, RFC 792 and RFC 4443: unreachable, too big or quench, time exceeded, parameter problem. */
INLINE __u64 is_icmp_error(__u64 type)
{
	return (1ull << 3 | 1ull << 4 | 1ull << 11 | 1ull << 12) >> (type & 63) & is_zero(type >> 6);
}

INLINE __u64 is_icmpv6_error(__u64 type)
{
	return (1ull << 1 | 1ull << 2 | 1ull << 3 | 1ull << 4) >> (type & 63) & is_zero(type >> 6);
}

INLINE __u64 mix(__u64 x)
{
	x *= 0x9e3779b97f4a7c15ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

/* Adding the endpoints up makes the hash the same both ways; each is mixed with the seed before, so that
 * whoever chooses addresses cannot choose sums. */
#define HASH4(seed, a, port_a, b, port_b) (mix(mix((seed) ^ ((__u64)(a) << 16 | (port_a))) + mix((seed) ^ ((__u64)(b) << 16 | (port_b)))) >> 32)
#define ENDPOINT6(seed, high, low, port) mix(mix((seed) ^ (high)) ^ mix((low) + (port)))
#define HASH6(seed, ah, al, port_a, bh, bl, port_b) (mix(ENDPOINT6(seed, ah, al, port_a) + ENDPOINT6(seed, bh, bl, port_b)) >> 32)

INLINE void ends_at(struct frame *frame, __u64 off)
{
	if (off < frame->end)
		frame->end = off;
}

INLINE enum outcome walk_tags(const struct frame *frame, struct walk *walk)
{
	__u8 *p;

	NEED(p, frame, (__u64)0, ETHERNET_BYTES, WALK_FORWARD);
	walk->type = LOAD16(p, 12);
	walk->l3 = ETHERNET_BYTES;
	if (!is_tag(walk->type))
		return WALK_ON;
	NEED(p, frame, (__u64)ETHERNET_BYTES, VLAN_BYTES, WALK_FORWARD);
	walk->type = LOAD16(p, 2);
	walk->l3 = ETHERNET_BYTES + VLAN_BYTES;
	walk->tags = 1;
	if (!is_tag(walk->type))
		return WALK_ON;
	NEED(p, frame, (__u64)ETHERNET_BYTES + VLAN_BYTES, VLAN_BYTES, WALK_FORWARD);
	walk->type = LOAD16(p, 2);
	walk->l3 = ETHERNET_BYTES + 2 * VLAN_BYTES;
	walk->tags = 2;
	return WALK_ON;
}

INLINE enum outcome walk_ipv4(struct frame *frame, struct walk *walk)
{
	__u64 header;
	__u8 *p;

	NEED(p, frame, walk->l3, IPV4_BYTES, WALK_FORWARD);
	header = (__u64)(p[0] & 15) * 4;
	if (p[0] >> 4 != 4 || header < IPV4_BYTES || LOAD16(p, 6) & IPV4_OFFSET)
		return WALK_FORWARD; /* a later fragment is useless without the first */
	walk->protocol = p[9];
	walk->first_fragment = LOAD16(p, 6) & IPV4_MORE;
	walk->l4 = walk->l3 + header;
	walk->addresses = walk->l3 + 12;
	ends_at(frame, walk->l3 + LOAD16(p, 2));
	return WALK_ON;
}

/* One extension header (RFC 8200). The length is in units of 8 octets less the first; AH's in 4 less two (RFC
 * 4302, section 2.2); a fragment header has none. */
#define EXTENSION_STEP                                                                                               \
	if (!is_extension(walk->protocol))                                                                           \
		return WALK_ON;                                                                                      \
	NEED(p, frame, walk->l4, EXTENSION_BYTES, WALK_CUT);                                                         \
	fragment = is_zero(walk->protocol ^ PROTO_FRAGMENT);                                                         \
	if (LOAD16(p, 2) & IPV6_OFFSET & (0 - fragment))                                                             \
		return WALK_FORWARD;                                                                                 \
	walk->first_fragment |= LOAD16(p, 2) & fragment; /* M; without it an atomic one, RFC 6946: whole */           \
	walk->l4 += EXTENSION_BYTES + p[1] * (8 - 8 * fragment - 4 * is_zero(walk->protocol ^ PROTO_AUTHENTICATION)); \
	walk->protocol = p[0];

INLINE enum outcome walk_ipv6(struct frame *frame, struct walk *walk)
{
	__u64 fragment;
	__u8 *p;

	NEED(p, frame, walk->l3, IPV6_BYTES, WALK_FORWARD);
	if (p[0] >> 4 != 6)
		return WALK_FORWARD;
	ends_at(frame, walk->l3 + IPV6_BYTES + LOAD16(p, 4));
	walk->ipv6 = 1;
	walk->protocol = p[6];
	walk->l4 = walk->l3 + IPV6_BYTES;
	walk->addresses = walk->l3 + 8;
	EXTENSION_STEP
	EXTENSION_STEP
	EXTENSION_STEP
	EXTENSION_STEP
	EXTENSION_STEP
	EXTENSION_STEP
	_Static_assert(WAXSEAL_IPV6_EXTENSIONS_MAX == 6, "one step each");
	return is_extension(walk->protocol) ? WALK_LIMIT : WALK_ON;
}

/* An ICMP error: its quote is of a packet that went the other way. The quote of a packet with IPv6 extension
 * headers is not followed: no TCP sends them but at its user's wish. */
INLINE enum outcome walk_icmp(const struct frame *frame, struct walk *walk)
{
	__u64 header;
	__u8 *p;

	if (walk->protocol != choose(walk->ipv6, PROTO_ICMPV6, PROTO_ICMP) || walk->first_fragment)
		return WALK_FORWARD;
	NEED(p, frame, walk->l4, ICMP_BYTES, WALK_FORWARD);
	if (!choose(walk->ipv6, is_icmpv6_error(p[0]), is_icmp_error(p[0])))
		return WALK_FORWARD;
	walk->is_icmp = 1;
	walk->l4 += ICMP_BYTES;
	if (walk->ipv6) {
		NEED(p, frame, walk->l4, IPV6_BYTES, WALK_FORWARD);
		if (p[0] >> 4 != 6 || p[6] != PROTO_TCP)
			return WALK_FORWARD;
		walk->addresses = walk->l4 + 8;
		walk->ports = walk->l4 + IPV6_BYTES;
		return WALK_ON;
	}
	NEED(p, frame, walk->l4, IPV4_BYTES, WALK_FORWARD);
	header = (__u64)(p[0] & 15) * 4;
	if (p[0] >> 4 != 4 || header < IPV4_BYTES || p[9] != PROTO_TCP || LOAD16(p, 6) & IPV4_OFFSET)
		return WALK_FORWARD;
	walk->addresses = walk->l4 + 12;
	walk->ports = walk->l4 + header;
	return WALK_ON;
}

/* Is it port 25, and if so whose? */
INLINE enum outcome walk_ports(const struct frame *frame, struct walk *walk, struct verdict *out)
{
	__u64 source, destination, from_25, to_25, server_is_source, hash, steered;
	__u8 *p;

	NEED(p, frame, walk->ports, PORTS_BYTES, WALK_CUT);
	source = LOAD16(p, 0);
	destination = LOAD16(p, 2);
	from_25 = is_zero(source ^ WAXSEAL_SMTP_PORT);
	to_25 = is_zero(destination ^ WAXSEAL_SMTP_PORT);
	if (!(from_25 | to_25))
		return WALK_FORWARD;
	if (walk->first_fragment)
		return WALK_CUT;
	/* Both ports are 25: the outside endpoint is the server. It sent what comes from outside, and what an
	 * ICMP error from inside quotes. */
	server_is_source = from_25 & ((to_25 ^ 1) | (frame->from_outside ^ walk->is_icmp));
	if (!(from_25 & to_25) && CLASSIFY_PASSES(frame, walk, server_is_source))
		return WALK_SEALED;
	if (walk->ipv6) {
		__u64 source_high, source_low, high, low;
		NEED(p, frame, walk->addresses, 32, WALK_FORWARD);
		source_high = LOAD64(p, 0), source_low = LOAD64(p, 8);
		high = LOAD64(p, 16), low = LOAD64(p, 24);
		hash = HASH6(frame->hash_seed, source_high, source_low, source, high, low, destination);
		steered = steer6(choose(server_is_source, source_high, high), choose(server_is_source, source_low, low), hash);
	} else {
		__u64 from, to;
		NEED(p, frame, walk->addresses, 8, WALK_FORWARD);
		from = LOAD32(p, 0), to = LOAD32(p, 4);
		hash = HASH4(frame->hash_seed, from, source, to, destination);
		steered = steer4(choose(server_is_source, from, to), hash);
	}
	out->destination = (__u32)steered;
	out->flow_hash = (__u32)hash;
	out->worker = (__u8)(steered >> 32);
	out->flags = (__u8)(to_25 * VERDICT_TO_PORT_25 | from_25 * VERDICT_FROM_PORT_25);
	out->l4_off = (__u16)(walk->l4 * (1 - walk->is_icmp));
	out->action = (__u8)choose(walk->is_icmp, VERDICT_ICMP, VERDICT_SMTP);
	return WALK_ON;
}

INLINE enum outcome walk_frame(struct frame *frame, struct walk *walk, struct verdict *out)
{
	ON(walk_tags(frame, walk));
	if (walk->type == TYPE_IPV4)
		ON(walk_ipv4(frame, walk));
	else if (walk->type == TYPE_IPV6)
		ON(walk_ipv6(frame, walk));
	else
		return WALK_FORWARD;
	walk->ports = walk->l4;
	if (!LIKELY(walk->protocol == PROTO_TCP))
		ON(walk_icmp(frame, walk));
	return walk_ports(frame, walk, out);
}

INLINE void classify(struct frame *frame, struct verdict *out)
{
	struct walk walk = {0};
	enum outcome ended = walk_frame(frame, &walk, out);

	if (ended != WALK_ON) {
		out->destination = WAXSEAL_DESTINATION_NONE;
		out->flow_hash = 0;
		out->worker = out->flags = 0;
		out->l4_off = 0;
		/* RFC 7112: a first fragment that ends before the ports must not hide them. */
		out->action = ended == WALK_CUT ? VERDICT_FRAGMENT : VERDICT_UNPARSED;
		if (ended == WALK_FORWARD || ended == WALK_SEALED || (ended == WALK_CUT && !walk.first_fragment)) {
			out->action = VERDICT_FORWARD;
			walk.ipv6 = walk.tags = walk.l3 = 0;
		}
	}
	out->magic = WAXSEAL_VERDICT_MAGIC;
	out->flags |= (__u8)(walk.ipv6 * VERDICT_IPV6);
	out->vlan_tags = (__u8)walk.tags;
	out->l3_off = (__u16)walk.l3;
	out->reserved[0] = out->reserved[1] = out->reserved[2] = 0;
}

#endif
