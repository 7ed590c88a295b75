/*
 * build.c - new frames in the name of a peer: its headers, kept as a template, around segments of our own.
 *
 * MAC addresses, VLAN tags, TTL, DSCP, DF and the flow label stay as the peer sends them, so that the path
 * treats our frames like its own. IPv4 options and IPv6 extension headers are left out: they were about
 * that one packet.
 */
#include "private.h"

#define TEMPLATE_TTL 64 /* where no packet of that direction has been seen */

void packet_template_from(struct packet_template *out, const struct packet *packet)
{
	size_t ip_bytes = packet->family == 4 ? IPV4_BYTES : IPV6_BYTES;

	memset(out, 0, sizeof(*out));
	out->l3_off = (uint8_t)packet->l3_off;
	out->len = (uint8_t)(packet->l3_off + ip_bytes);
	out->family = packet->family;
	memcpy(out->headers, packet->frame, out->len);
	uint8_t *l3 = out->headers + out->l3_off;
	if (packet->family == 4) {
		l3[0] = 0x45;
		l3[6] &= 0x40;
		l3[7] = 0;
		out->ip_id = (uint16_t)(get16(l3 + 4) + 1);
	} else {
		l3[6] = PROTO_TCP;
	}
	memcpy(&out->port_src_be, packet->frame + packet->l4_off, 2);
	memcpy(&out->port_dst_be, packet->frame + packet->l4_off + 2, 2);
}

void packet_template_reverse(struct packet_template *out, const struct packet_template *in)
{
	size_t addr_at = in->l3_off + (in->family == 4 ? 12 : 8), addr_len = in->family == 4 ? 4 : 16;

	*out = *in;
	memcpy(out->headers, in->headers + 6, 6);
	memcpy(out->headers + 6, in->headers, 6);
	memcpy(out->headers + addr_at, in->headers + addr_at + addr_len, addr_len);
	memcpy(out->headers + addr_at + addr_len, in->headers + addr_at, addr_len);
	out->headers[in->l3_off + (in->family == 4 ? 8 : 7)] = TEMPLATE_TTL;
	if (in->family == 6) { /* the flow label is the sender's own: RFC 6437 */
		out->headers[in->l3_off + 1] &= 0xf0;
		out->headers[in->l3_off + 2] = out->headers[in->l3_off + 3] = 0;
	}
	out->port_src_be = in->port_dst_be;
	out->port_dst_be = in->port_src_be;
}

/* SACK blocks that find room beside a time stamp (RFC 2018, section 3). */
static size_t sack_blocks(const struct packet_tcp *tcp)
{
	size_t room = tcp->ts ? 3 : 4;
	return tcp->sack_count < room ? tcp->sack_count : room;
}

static size_t options_len(const struct packet_tcp *tcp)
{
	size_t blocks = sack_blocks(tcp);
	return (tcp->ts ? 12u : 0) + (blocks ? 4 + blocks * 8 : 0);
}

size_t packet_build_headers_len(const struct packet_template *tmpl, const struct packet_tcp *tcp)
{
	return tmpl->len + TCP_BYTES + options_len(tcp);
}

static void write_options(uint8_t *out, const struct packet_tcp *tcp)
{
	size_t blocks = sack_blocks(tcp);

	if (tcp->ts) {
		out[0] = out[1] = OPTION_NOP;
		out[2] = OPTION_TS;
		out[3] = 10;
		put32(out + 4, tcp->tsval);
		put32(out + 8, tcp->tsecr);
		out += 12;
	}
	if (blocks) {
		out[0] = out[1] = OPTION_NOP;
		out[2] = OPTION_SACK;
		out[3] = (uint8_t)(2 + blocks * 8);
		for (size_t i = 0; i < blocks; i++) {
			put32(out + 4 + i * 8, tcp->sack[i].start);
			put32(out + 8 + i * 8, tcp->sack[i].end);
		}
	}
}

size_t packet_build(struct packet_template *tmpl, const struct packet_tcp *tcp, uint16_t payload_len, uint8_t *out, size_t cap)
{
	size_t headers = packet_build_headers_len(tmpl, tcp), total = headers + payload_len;

	if (total > cap || total > UINT16_MAX)
		return 0;
	memcpy(out, tmpl->headers, tmpl->len);
	if (tmpl->family == 4)
		put16(out + tmpl->l3_off + 4, tmpl->ip_id++);
	uint8_t *l4 = out + tmpl->len;
	memset(l4, 0, TCP_BYTES);
	memcpy(l4, &tmpl->port_src_be, 2);
	memcpy(l4 + 2, &tmpl->port_dst_be, 2);
	put32(l4 + 4, tcp->seq);
	put32(l4 + 8, tcp->ack);
	l4[12] = (uint8_t)((TCP_BYTES + options_len(tcp)) / 4 << 4);
	l4[13] = tcp->flags;
	put16(l4 + 14, tcp->window);
	write_options(l4 + TCP_BYTES, tcp);
	set_lengths_and_sums(out, tmpl->l3_off, tmpl->len, total, tmpl->family);
	return total;
}
