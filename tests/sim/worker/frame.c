/*
 * frame.c - Ethernet, VLAN, IPv4, IPv6, TCP and ICMP frames of the endpoints: built and read.
 *
 * A second writing of what dataplane/packet does, by plain bytes and one checksum loop. Every frame that waxseal
 * sends is read here, and anything odd in it is a finding.
 */
#include <string.h>

#include "sim.h"

static void put16(uint8_t *at, unsigned value) { at[0] = (uint8_t)(value >> 8); at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value & 0xffff); }
static unsigned get16(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static uint32_t sum(const uint8_t *bytes, size_t len, uint32_t begin)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		begin += get16(bytes + i);
	if (len & 1)
		begin += (uint32_t)bytes[len - 1] << 8;
	return begin;
}

static unsigned folded(uint32_t value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return value;
}

static uint32_t pseudo_header(const uint8_t *ip, unsigned protocol, size_t l4_len)
{
	return ip[0] >> 4 == 4 ? sum(ip + 12, 8, protocol + (uint32_t)l4_len) : sum(ip + 8, 32, protocol + (uint32_t)l4_len);
}

size_t frame_l3(const uint8_t *frame)
{
	return get16(frame + 12) == 0x8100 ? 18 : 14;
}

size_t frame_headers_len(const struct path *path)
{
	return (path->vlan ? 18u : 14u) + (path->family == 4 ? 20 : 40);
}

/* ---- building ---- */

static size_t put_options(uint8_t *at, const struct segment *s)
{
	uint8_t *out = at;
	if (s->has_mss) {
		memcpy(out, "\x02\x04", 2);
		put16(out + 2, s->mss);
		out += 4;
	}
	if (s->has_wscale) {
		memcpy(out, "\x01\x03\x03", 3);
		out[3] = s->wscale;
		out += 4;
	}
	if (s->sack_ok) {
		memcpy(out, "\x01\x01\x04\x02", 4);
		out += 4;
	}
	if (s->has_ts) {
		memcpy(out, "\x01\x01\x08\x0a", 4);
		put32(out + 4, s->tsval);
		put32(out + 8, s->tsecr);
		out += 12;
	}
	if (s->sacks) {
		memcpy(out, "\x01\x01\x05", 3);
		out[3] = (uint8_t)(2 + 8 * s->sacks);
		out += 4;
		for (unsigned i = 0; i < s->sacks; i++, out += 8) {
			put32(out, s->sack[i].start);
			put32(out + 4, s->sack[i].end);
		}
	}
	return (size_t)(out - at);
}

static uint8_t *put_ip(struct path *path, enum side from, size_t l4_len, uint8_t *ip)
{
	enum side to = side_other(from);
	if (path->family == 4) {
		memset(ip, 0, 20);
		ip[0] = 0x45;
		ip[1] = (uint8_t)(path->dscp[from] << 2);
		put16(ip + 2, (unsigned)(20 + l4_len));
		put16(ip + 4, path->id[from]++);
		put16(ip + 6, 0x4000);
		ip[8] = path->ttl[from];
		ip[9] = 6;
		memcpy(ip + 12, path->addr[from], 4);
		memcpy(ip + 16, path->addr[to], 4);
		put16(ip + 10, ~folded(sum(ip, 20, 0)) & 0xffff);
		return ip + 20;
	}
	put32(ip, 6u << 28 | (uint32_t)path->dscp[from] << 22 | path->label[from]);
	put16(ip + 4, (unsigned)l4_len);
	ip[6] = 6;
	ip[7] = path->ttl[from];
	memcpy(ip + 8, path->addr[from], 16);
	memcpy(ip + 24, path->addr[to], 16);
	return ip + 40;
}

size_t frame_build(struct path *path, enum side from, const struct segment *s, uint8_t out[FRAME_MAX])
{
	enum side to = side_other(from);
	uint8_t options[64];
	size_t options_len = put_options(options, s), l4_len = 20 + options_len + s->len, at = 12;

	memcpy(out, path->mac[to], 6);
	memcpy(out + 6, path->mac[from], 6);
	if (path->vlan) {
		put16(out + at, 0x8100);
		put16(out + at + 2, (unsigned)path->vlan);
		at += 4;
	}
	put16(out + at, path->family == 4 ? 0x0800 : 0x86dd);
	uint8_t *ip = out + at + 2, *tcp = put_ip(path, from, l4_len, ip);
	put16(tcp, path->port[from]);
	put16(tcp + 2, path->port[to]);
	put32(tcp + 4, s->seq);
	put32(tcp + 8, s->ack);
	tcp[12] = (uint8_t)((20 + options_len) / 4 << 4);
	tcp[13] = s->flags;
	put16(tcp + 14, s->window);
	put32(tcp + 16, 0);
	memcpy(tcp + 20, options, options_len);
	if (s->len)
		memcpy(tcp + 20 + options_len, s->payload, s->len);
	put16(tcp + 16, ~folded(sum(tcp, l4_len, pseudo_header(ip, 6, l4_len))) & 0xffff);
	return (size_t)(tcp - out) + l4_len;
}

/* ---- reading ---- */

static const char *read_options(const uint8_t *at, const uint8_t *end, struct segment *out)
{
	while (at < end && *at) {
		if (*at == 1) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return "a TCP option does not fit";
		switch (at[0]) {
		case 2:
			out->has_mss = true;
			out->mss = (uint16_t)get16(at + 2);
			break;
		case 3:
			out->has_wscale = true;
			out->wscale = at[2];
			break;
		case 4:
			out->sack_ok = true;
			break;
		case 5:
			if ((at[1] - 2) % 8 || at[1] - 2 > 32)
				return "SACK blocks of a wrong length";
			for (out->sacks = 0; out->sacks < (at[1] - 2u) / 8; out->sacks++) {
				out->sack[out->sacks].start = get32(at + 2 + 8 * out->sacks);
				out->sack[out->sacks].end = get32(at + 6 + 8 * out->sacks);
			}
			break;
		case 8:
			out->has_ts = true;
			out->tsval = get32(at + 2);
			out->tsecr = get32(at + 6);
			break;
		default:
			break;
		}
		at += at[1];
	}
	return NULL;
}

static const char *read_ip(const uint8_t *ip, size_t room, const struct path *path, enum side from, size_t *ip_len,
        size_t *l4_len)
{
	enum side to = side_other(from);
	if (path->family == 4) {
		if (room < 40 || ip[0] != 0x45 || ip[9] != 6)
			return "not IPv4 with TCP";
		if (folded(sum(ip, 20, 0)) != 0xffff)
			return "IPv4 checksum";
		if (get16(ip + 2) != room)
			return "IPv4 length is not the frame's";
		if (memcmp(ip + 12, path->addr[from], 4) || memcmp(ip + 16, path->addr[to], 4))
			return "IPv4 addresses";
		*ip_len = 20;
	} else {
		if (room < 60 || ip[0] >> 4 != 6 || ip[6] != 6)
			return "not IPv6 with TCP";
		if (get16(ip + 4) + 40 != room)
			return "IPv6 length is not the frame's";
		if (memcmp(ip + 8, path->addr[from], 16) || memcmp(ip + 24, path->addr[to], 16))
			return "IPv6 addresses";
		*ip_len = 40;
	}
	*l4_len = room - *ip_len;
	return NULL;
}

const char *frame_parse(const uint8_t *frame, size_t len, const struct path *path, enum side from, struct segment *out)
{
	size_t l3 = frame_l3(frame), ip_len, l4_len;
	memset(out, 0, sizeof(*out));
	if (len < l3 + 40)
		return "a frame that is too short";
	if (memcmp(frame, path->mac[side_other(from)], 6) || memcmp(frame + 6, path->mac[from], 6))
		return "MAC addresses";
	if (l3 != (path->vlan ? 18u : 14u) || (path->vlan && get16(frame + 14) != (unsigned)path->vlan))
		return "VLAN tag";
	const char *wrong = read_ip(frame + l3, len - l3, path, from, &ip_len, &l4_len);
	if (wrong)
		return wrong;
	const uint8_t *tcp = frame + l3 + ip_len;
	size_t header = (size_t)(tcp[12] >> 4) * 4;
	if (header < 20 || header > l4_len)
		return "TCP header length";
	if (folded(sum(tcp, l4_len, pseudo_header(frame + l3, 6, l4_len))) != 0xffff)
		return "TCP checksum";
	if (get16(tcp) != path->port[from] || get16(tcp + 2) != path->port[side_other(from)])
		return "TCP ports";
	out->seq = get32(tcp + 4);
	out->ack = get32(tcp + 8);
	out->flags = tcp[13];
	out->window = (uint16_t)get16(tcp + 14);
	out->payload = tcp + header;
	out->len = (uint16_t)(l4_len - header);
	return read_options(tcp + 20, tcp + header, out);
}

bool frame_looks_like(const uint8_t *frame, const struct path *path, enum side from)
{
	const uint8_t *ip = frame + frame_l3(frame);
	if (path->family == 4)
		return ip[8] == path->ttl[from] && ip[1] >> 2 == path->dscp[from];
	return ip[7] == path->ttl[from] && (get32(ip) & 0xfffff) == path->label[from];
}

uint16_t frame_client_port(const uint8_t *frame, size_t len, bool *from_client)
{
	size_t l3 = frame_l3(frame), l4 = l3 + (frame[l3] >> 4 == 4 ? 20 : 40);
	if (len < l4 + 20)
		return 0;
	unsigned source = get16(frame + l4), destination = get16(frame + l4 + 2);
	*from_client = destination == 25;
	return (uint16_t)(destination == 25 ? source : source == 25 ? destination : 0);
}

/* ---- ICMP, RFC 1191 and RFC 8201 ---- */

size_t frame_too_big(const uint8_t *frame, size_t len, uint16_t mtu, uint8_t out[FRAME_MAX])
{
	size_t l3 = frame_l3(frame), quoted = len - l3;
	const uint8_t *ip = frame + l3;
	bool four = ip[0] >> 4 == 4;
	uint8_t *to = out + l3, *icmp = to + (four ? 20 : 40);

	if (quoted > (four ? 28u : 200u))
		quoted = four ? 28 : 200;
	memcpy(out, frame + 6, 6);
	memcpy(out + 6, frame, 6);
	memcpy(out + 12, frame + 12, l3 - 12);
	memset(icmp, 0, 8);
	memcpy(icmp + 8, ip, quoted);
	if (four) {
		memcpy(to, ip, 20);
		put16(to + 2, (unsigned)(28 + quoted));
		to[9] = 1;
		memcpy(to + 16, ip + 12, 4);
		memcpy(to + 12, "\x0a\x4d\x09\x01", 4);
		put16(to + 10, 0);
		put16(to + 10, ~folded(sum(to, 20, 0)) & 0xffff);
		icmp[0] = 3;
		icmp[1] = 4;
		put16(icmp + 6, mtu);
		put16(icmp + 2, ~folded(sum(icmp, 8 + quoted, 0)) & 0xffff);
		return l3 + 28 + quoted;
	}
	memcpy(to, ip, 40);
	put16(to + 4, (unsigned)(8 + quoted));
	to[6] = 58;
	memcpy(to + 24, ip + 8, 16);
	memcpy(to + 8, "\xfd\x77\0\x09\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	icmp[0] = 2;
	put32(icmp + 4, mtu);
	put16(icmp + 2, ~folded(sum(icmp, 8 + quoted, pseudo_header(to, 58, 8 + quoted))) & 0xffff);
	return l3 + 48 + quoted;
}

uint16_t frame_is_too_big(const uint8_t *frame, size_t len, uint16_t *client_port, bool *to_client)
{
	size_t l3 = frame_l3(frame);
	bool four = frame[l3] >> 4 == 4;
	const uint8_t *icmp = frame + l3 + (four ? 20 : 40), *quoted = icmp + 8;
	if (frame[l3 + (four ? 9 : 6)] != (four ? 1 : 58) || icmp[0] != (four ? 3 : 2) || len < l3 + (four ? 56 : 96))
		return 0;
	const uint8_t *ports = quoted + (four ? 20 : 40);
	*to_client = get16(ports + 2) == 25; /* what was too big came from the client */
	*client_port = (uint16_t)get16(*to_client ? ports : ports + 2);
	return (uint16_t)(four ? get16(icmp + 6) : get32(icmp + 4));
}
