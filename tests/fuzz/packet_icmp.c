/*
 * packet_icmp.c - ICMP errors about mail sessions: any bytes, under a checksum and lengths that are right.
 *
 * Input: a byte (bit 0 = IPv6; bits 1, 2 = VLAN tags; bit 3 = leave lengths and checksums as they are; bit 4 = an
 * extension header), then the ICMP message with its quote. What is taken must name port 25, and say what the octets say, read the plainest way; what
 * is not taken must not have been a whole error with 8 octets of TCP; the same frame shorter must not be read past its end.
 */
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include "packet/packet.h"

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }
static void put16(uint8_t *p, uint32_t n) { p[0] = (uint8_t)(n >> 8); p[1] = (uint8_t)n; }

static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Ethernet, tags, IP (and one extension header) in front of `len` octets of ICMP at the returned offset. */
static size_t put_headers(uint8_t *frame, uint8_t how, size_t len)
{
	bool v6 = how & 1, extension = v6 && how & 16;
	unsigned tags = (how >> 1 & 3) % 3;
	size_t at = 12;

	memset(frame, 0, 14 + 8 + 40 + 8);
	for (unsigned i = 0; i < tags; i++, at += 4)
		memcpy(frame + at, (uint8_t[]){0x81, 0, 0, (uint8_t)(100 + i)}, 4);
	put16(frame + at, v6 ? 0x86dd : 0x0800);
	uint8_t *ip = frame + at + 2;
	if (!v6) {
		ip[0] = 0x45;
		put16(ip + 2, (uint32_t)(20 + len));
		ip[9] = 1;
		return at + 2 + 20;
	}
	ip[0] = 0x60;
	put16(ip + 4, (uint32_t)(len + (extension ? 8 : 0)));
	ip[6] = extension ? 60 : 58;
	ip[23] = 1;
	ip[39] = 2;
	ip[40] = 58;
	return at + 2 + 40 + (extension ? 8 : 0);
}

/* An ICMP error that quotes, with the plainest headers, TCP to or from port 25. */
static bool plainly_about_mail(const uint8_t *icmp, size_t len, bool v6)
{
	size_t header = v6 ? 40 : 20;
	const uint8_t *quote = icmp + 8, *tcp = quote + header;

	if (len < 8 + header + 8 || (v6 ? icmp[0] < 1 || icmp[0] > 4 : icmp[0] != 3 && icmp[0] != 4 && icmp[0] != 11 && icmp[0] != 12))
		return false;
	if (v6 ? quote[0] >> 4 != 6 || quote[6] != 6 || get16(quote + 4) < 8 : quote[0] != 0x45 || quote[9] != 6 || get16(quote + 6) & 0x3fff || get16(quote + 2) < 28)
		return false;
	return get16(tcp) == 25 || get16(tcp + 2) == 25;
}

static void check(const struct packet_icmp *out, const uint8_t *icmp, size_t len, bool v6)
{
	MUST(out->port_src == 25 || out->port_dst == 25);
	MUST(out->vlan_count <= PACKET_VLANS_MAX);
	MUST(out->too_big == (v6 ? icmp[0] == 2 : icmp[0] == 3 && icmp[1] == 4));
	uint32_t mtu = v6 ? get32(icmp + 4) : get16(icmp + 6);
	MUST(out->mtu == (mtu > 65535 ? 65535 : mtu));
	if (!plainly_about_mail(icmp, len, v6))
		return; /* IP options, extension headers */
	const uint8_t *tcp = icmp + 8 + (v6 ? 40 : 20);
	MUST(out->port_src == get16(tcp) && out->port_dst == get16(tcp + 2) && out->seq == get32(tcp + 4));
	MUST(!memcmp(v6 ? out->addr_src : out->addr_src + 12, icmp + 8 + (v6 ? 8 : 12), v6 ? 16 : 4));
	MUST(!memcmp(v6 ? out->addr_dst : out->addr_dst + 12, icmp + 8 + (v6 ? 24 : 16), v6 ? 16 : 4));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t headers[80], *frame, *icmp;
	struct packet_icmp out;

	if (!size || size > 1500)
		return 0;
	size_t len = size - 1, at = put_headers(headers, data[0], len);
	bool v6 = data[0] & 1, as_is = data[0] & 8;
	frame = malloc(at + len); /* of its own size: reading past it is found */
	memcpy(frame, headers, at);
	icmp = frame + at;
	memcpy(icmp, data + 1, len);
	if (len >= 4 && !as_is) {
		put16(icmp + 2, 0);
		uint32_t pseudo = v6 ? sum16((uint32_t)(58 + len), frame + at - (data[0] & 16 ? 8 : 0) - 32, 32) : 0;
		put16(icmp + 2, ~sum16(pseudo, icmp, len) & 0xffff);
	}
	bool taken = packet_icmp_parse(&out, frame, at + len);
	if (taken)
		check(&out, icmp, len, v6);
	else
		MUST(as_is || !plainly_about_mail(icmp, len, v6));
	for (size_t shorter = 0; shorter < at + len; shorter += 1 + shorter / 8) {
		uint8_t *part = malloc(shorter ? shorter : 1);
		memcpy(part, frame, shorter);
		MUST(!packet_icmp_parse(&out, part, shorter)); /* the IP length says more */
		free(part);
	}
	free(frame);
	return 0;
}
