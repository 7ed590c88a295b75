/*
 * frame.h - a frame of one of two peers, written octet by octet, its checksums left out.
 *
 * Its payload is a function of sequence number and variant: two variants of one octet differ, as an attacker's would.
 */
#ifndef FUZZ_FRAME_H
#define FUZZ_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "side.h"

struct shape { /* of a packet */
	enum side side;
	unsigned port; /* of the client */
	uint8_t flags;
	uint32_t seq, ack;
	uint16_t len, window;
	unsigned variant;
	bool ipv6, ts, syn_options, sack, urgent, bad_sum, other_port;
	uint32_t tsval;
};

static void put16(uint8_t *p, uint32_t n) { p[0] = (uint8_t)(n >> 8); p[1] = (uint8_t)n; }
static void put32(uint8_t *p, uint32_t n) { put16(p, n >> 16); put16(p + 2, n); }
static uint8_t content(uint32_t seq, unsigned variant) { return (uint8_t)(seq * 7 + variant * 61); }

static size_t put_options(uint8_t *out, const struct shape *s)
{
	static const uint8_t syn[16] = {2, 4, 1, 0, 4, 2, 3, 3, 5, 1, 34, 4, 9, 9, 1, 1}; /* MSS 256: segments merge up to it */
	size_t len = 0;
	if (s->syn_options) {
		memcpy(out, syn, sizeof(syn));
		len = sizeof(syn);
	}
	if (s->sack) {
		memcpy(out + len, (uint8_t[]){1, 1, 5, 10}, 4);
		put32(out + len + 4, s->ack + 4);
		put32(out + len + 8, s->ack + 9);
		len += 12;
	}
	if (s->ts) {
		memcpy(out + len, (uint8_t[]){1, 1, 8, 10}, 4);
		put32(out + len + 4, s->tsval);
		put32(out + len + 8, s->tsval);
		len += 12;
	}
	return len;
}

static size_t make_frame(uint8_t *frame, const struct shape *s)
{
	static const uint8_t mac[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	size_t l3 = s->ipv6 ? 40 : 20, options;
	uint8_t *ip = frame + 14, *tcp = ip + l3;
	bool up = s->side == CLIENT;

	memset(frame, 0, 14 + l3 + 20);
	memcpy(frame, mac, sizeof(mac));
	options = put_options(tcp + 20, s);
	uint8_t *payload = tcp + 20 + options;
	for (uint32_t i = 0; i < s->len; i++)
		payload[i] = content(s->seq + i, s->variant);
	if (s->ipv6) {
		memcpy(frame + 12, (uint8_t[]){0x86, 0xdd, 0x60}, 3);
		put16(ip + 4, (uint32_t)(20 + options + s->len));
		memcpy(ip + 6, (uint8_t[]){6, 64, 0xfd, 0x77}, 4);
		memcpy(ip + 24, (uint8_t[]){0xfd, 0x77}, 2);
		ip[23] = up ? 1 : 2;
		ip[39] = up ? 2 : 1;
	} else {
		memcpy(frame + 12, (uint8_t[]){8, 0, 0x45}, 3);
		put16(ip + 2, (uint32_t)(40 + options + s->len));
		memcpy(ip + 8, (uint8_t[]){64, 6}, 2);
		memcpy(ip + 12, (uint8_t[]){10, 77, 0, up ? 1 : 2, 10, 77, 0, up ? 2 : 1}, 8);
	}
	put16(tcp, up ? s->port : 25);
	put16(tcp + 2, up ? 25 : s->port);
	put32(tcp + 4, s->seq);
	put32(tcp + 8, s->ack);
	tcp[12] = (uint8_t)((20 + options) / 4 << 4);
	tcp[13] = s->flags;
	put16(tcp + 14, s->window);
	put16(tcp + 18, s->urgent ? 3 : 0);
	return (size_t)(payload - frame) + s->len;
}

#endif
