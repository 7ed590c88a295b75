/*
 * icmp.c - ICMP and ICMPv6 errors that quote a packet of a mail session (RFC 792, 4443, 1191, 5927).
 *
 * Enters: a frame. Leaves: what the error quotes. The quote need not hold more than 8 octets of TCP: ports
 * and sequence number, which is what RFC 5927 checks an error by.
 */
#include "private.h"

enum { ICMP_BYTES = 8, QUOTED_TCP_BYTES = 8, SMTP_PORT = 25 };
enum { ICMP_UNREACHABLE = 3, ICMP_QUENCH = 4, ICMP_TIME = 11, ICMP_PARAMETER = 12, ICMP_CODE_TOO_BIG = 4 };
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_TOO_BIG = 2, ICMPV6_TIME = 3, ICMPV6_PARAMETER = 4 };

static bool is_error(const struct walk *walk, const uint8_t *icmp)
{
	if (walk->family == 4)
		return walk->protocol == PROTO_ICMP && (icmp[0] == ICMP_UNREACHABLE || icmp[0] == ICMP_QUENCH ||
		                                        icmp[0] == ICMP_TIME || icmp[0] == ICMP_PARAMETER);
	return walk->protocol == PROTO_ICMPV6 && icmp[0] >= ICMPV6_UNREACHABLE && icmp[0] <= ICMPV6_PARAMETER;
}

static bool sum_ok(const struct walk *walk, const uint8_t *frame)
{
	size_t len = walk->end - walk->l4_off;
	uint64_t sum = walk->family == 4 ? 0 : sum_pseudo(frame + walk->l3_off, 6, PROTO_ICMPV6, len);
	return sum_finish(sum_bytes(sum, frame + walk->l4_off, len)) == 0;
}

bool packet_icmp_parse(struct packet_icmp *out, const uint8_t *frame, size_t len)
{
	struct walk walk, quote;

	if (walk_frame(&walk, frame, len) != PACKET_OK || walk.end - walk.l4_off < ICMP_BYTES)
		return false;
	const uint8_t *icmp = frame + walk.l4_off;
	if (!is_error(&walk, icmp) || !sum_ok(&walk, frame))
		return false;
	if (walk_ip(&quote, frame, walk.l4_off + ICMP_BYTES, walk.end, true) != PACKET_OK || quote.family != walk.family ||
	    quote.protocol != PROTO_TCP || quote.end - quote.l4_off < QUOTED_TCP_BYTES)
		return false;
	const uint8_t *tcp = frame + quote.l4_off;
	memset(out, 0, sizeof(*out));
	memcpy(out->addr_src, quote.src, 16);
	memcpy(out->addr_dst, quote.dst, 16);
	out->vlan_count = walk.vlan_count;
	memcpy(out->vlan, walk.vlan, sizeof(out->vlan));
	out->port_src = get16(tcp);
	out->port_dst = get16(tcp + 2);
	out->seq = get32(tcp + 4);
	if (walk.family == 4) {
		out->too_big = icmp[0] == ICMP_UNREACHABLE && icmp[1] == ICMP_CODE_TOO_BIG;
		out->mtu = get16(icmp + 6);
	} else {
		uint32_t mtu = get32(icmp + 4);
		out->too_big = icmp[0] == ICMPV6_TOO_BIG;
		out->mtu = mtu > UINT16_MAX ? UINT16_MAX : (uint16_t)mtu;
	}
	return out->port_src == SMTP_PORT || out->port_dst == SMTP_PORT;
}
