/*
 * private.h - what the files of packet/ share: bytes in network order, the walk to the TCP header, sums.
 */
#ifndef WAXSEAL_PACKET_PRIVATE_H
#define WAXSEAL_PACKET_PRIVATE_H

#include <string.h>

#include "packet.h"

enum { ETHERNET_BYTES = 14, VLAN_BYTES = 4, IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20, TCP_OPTIONS_MAX = 40 };
enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8 };
enum { PROTO_ICMP = 1, PROTO_TCP = 6, PROTO_ICMPV6 = 58 };
enum {
	OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2, OPTION_WSCALE = 3, OPTION_SACK_OK = 4, OPTION_SACK = 5, OPTION_TS = 8,
	OPTION_MD5 = 19, OPTION_AO = 29, OPTION_MPTCP = 30, OPTION_TFO = 34, OPTION_EXPERIMENT = 254
};
#define TFO_EXPERIMENT_MAGIC 0xf989 /* RFC 7413's number from before it had a kind of its own */

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, (uint16_t)(v >> 16)); put16(p + 2, (uint16_t)v); }

/* An IP packet's headers, walked: everything lies in [0, end). */
struct walk {
	size_t l3_off, l4_off, end;
	uint16_t vlan[PACKET_VLANS_MAX];
	uint8_t vlan_count, family, protocol;
	uint8_t src[16], dst[16];
};

/* PACKET_OK: whole, with its upper protocol at l4_off. `quoted`: the packet may be cut short, as in an ICMP error. */
enum packet_verdict walk_frame(struct walk *walk, const uint8_t *frame, size_t len);
enum packet_verdict walk_ip(struct walk *walk, const uint8_t *bytes, size_t l3_off, size_t len, bool quoted);

/* One's complement sum (RFC 1071), not yet folded; `len` may be odd only in the last piece. */
uint64_t sum_bytes(uint64_t sum, const uint8_t *bytes, size_t len);
/* Folded and complemented, in the byte order of memory: store it by memcpy. 0 where a sum with its checksum is right. */
uint16_t sum_finish(uint64_t sum);
/* Pseudo header of RFC 9293 and 8200, from the packed IP header at `l3`. */
uint64_t sum_pseudo(const uint8_t *l3, uint8_t family, uint8_t protocol, size_t len);

/* Writes the IP header's length, and both checksums. */
void set_lengths_and_sums(uint8_t *frame, size_t l3_off, size_t l4_off, size_t end, uint8_t family);

#endif
