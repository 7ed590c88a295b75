/*
 * packet_frames.h - frames made octet by octet for the tests of packet/, without packet/'s own code.
 */
#ifndef TEST_PACKET_FRAMES_H
#define TEST_PACKET_FRAMES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "packet/packet.h"

struct frame {
	uint8_t bytes[2048];
	size_t len, l3, l4;
	int family;
};

static inline void put(struct frame *f, const void *bytes, size_t len)
{
	if (len)
		memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}
#define PUT(f, ...) put(f, (uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

/* The plainest possible RFC 1071 sum. */
static inline uint32_t slow_sum(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}
static inline uint16_t slow_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
static inline uint32_t slow_pseudo(const struct frame *f, uint8_t protocol)
{
	uint32_t len = (uint32_t)(f->len - f->l4);
	uint32_t sum = f->family == 4 ? slow_sum(0, f->bytes + f->l3 + 12, 8) : slow_sum(0, f->bytes + f->l3 + 8, 32);
	return sum + protocol + (len & 0xffff) + (len >> 16);
}

/* Ethernet, `vlans` tags (ids 100, 101), IPv4 10.77.1.1 -> 10.77.2.1 or IPv6 fd77::1:1 -> fd77::2:1. */
static inline void frame_ip(struct frame *f, int family, int vlans)
{
	memset(f, 0, sizeof(*f));
	f->family = family;
	PUT(f, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1);
	if (vlans == 2)
		PUT(f, 0x88, 0xa8, 0x20, 100);
	if (vlans)
		PUT(f, 0x81, 0x00, 0x00, vlans == 2 ? 101 : 100);
	if (family == 4) {
		PUT(f, 8, 0);
		f->l3 = f->len;
		PUT(f, 0x45, 0xb8, 0, 0, 0x12, 0x34, 0x40, 0, 61, 6, 0, 0, 10, 77, 1, 1, 10, 77, 2, 1);
	} else {
		PUT(f, 0x86, 0xdd);
		f->l3 = f->len;
		PUT(f, 0x6b, 0x8a, 0xbc, 0xde, 0, 0, 6, 61);
		PUT(f, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1);
		PUT(f, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1);
	}
	f->l4 = f->len;
}

/* Port 40000 -> 25, seq 1000, ack 2000, window 500; options padded to words by the caller. */
static inline void frame_tcp(struct frame *f, uint8_t flags, const void *options, size_t options_len)
{
	f->l4 = f->len;
	PUT(f, 0x9c, 0x40, 0, 25, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0);
	PUT(f, (uint8_t)((20 + options_len) / 4 << 4), flags, 0x01, 0xf4, 0, 0, 0, 0);
	put(f, options, options_len);
}

/* Lengths and checksums. `protocol` of the pseudo header; the checksum's place in the upper header. */
static inline void frame_seal(struct frame *f, uint8_t protocol, size_t sum_at)
{
	uint8_t *l3 = f->bytes + f->l3, *l4 = f->bytes + f->l4;
	size_t total = f->len - f->l3 - (f->family == 4 ? 0 : 40);
	l3[f->family == 4 ? 2 : 4] = (uint8_t)(total >> 8);
	l3[f->family == 4 ? 3 : 5] = (uint8_t)total;
	if (f->family == 4) {
		l3[10] = l3[11] = 0;
		uint16_t sum = slow_fold(slow_sum(0, l3, (l3[0] & 15) * 4u));
		l3[10] = (uint8_t)(sum >> 8);
		l3[11] = (uint8_t)sum;
	}
	l4[sum_at] = l4[sum_at + 1] = 0;
	uint16_t sum = slow_fold(slow_sum(protocol == 1 ? 0 : slow_pseudo(f, protocol), l4, f->len - f->l4));
	l4[sum_at] = (uint8_t)(sum >> 8);
	l4[sum_at + 1] = (uint8_t)sum;
}

static inline void frame_segment(struct frame *f, int family, int vlans, uint8_t flags, const void *options, size_t options_len,
                                 const char *payload)
{
	frame_ip(f, family, vlans);
	frame_tcp(f, flags, options, options_len);
	put(f, payload, strlen(payload));
	frame_seal(f, 6, 16);
}

static inline bool sums_right(const uint8_t *bytes, size_t len, size_t l3, size_t l4, int family)
{
	struct frame f = {.len = len, .l3 = l3, .l4 = l4, .family = family};
	memcpy(f.bytes, bytes, len);
	bool ip = family == 6 || slow_fold(slow_sum(0, bytes + l3, (bytes[l3] & 15) * 4u)) == 0;
	return ip && slow_fold(slow_sum(slow_pseudo(&f, 6), bytes + l4, len - l4)) == 0;
}

#endif
