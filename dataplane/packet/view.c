/*
 * view.c - from a frame to a view: Ethernet, VLAN tags, IPv4 or IPv6, TCP and its options.
 *
 * Enters: bytes from the wire, of any content. Leaves: PACKET_OK and offsets that all lie inside the frame,
 * or what is wrong with it. It refuses what receivers might read differently: lengths that do not fit, a
 * truncated option, a chain of extension headers past the limit.
 */
#include "private.h"

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

static enum packet_verdict walk_ipv4(struct walk *walk, const uint8_t *l3, size_t room, bool quoted)
{
	if (room < IPV4_BYTES || l3[0] >> 4 != 4)
		return PACKET_MALFORMED;
	size_t header = (size_t)(l3[0] & 15) * 4, total = get16(l3 + 2);
	if (header < IPV4_BYTES || header > room || total < header)
		return PACKET_MALFORMED;
	if (total > room) {
		if (!quoted)
			return PACKET_MALFORMED;
		total = room;
	}
	walk->family = 4;
	walk->protocol = l3[9];
	walk->l4_off = walk->l3_off + header;
	walk->end = walk->l3_off + total;
	memcpy(walk->src, v4_mapped, 12);
	memcpy(walk->src + 12, l3 + 12, 4);
	memcpy(walk->dst, v4_mapped, 12);
	memcpy(walk->dst + 12, l3 + 16, 4);
	return get16(l3 + 6) & 0x3fff ? PACKET_FRAGMENT : PACKET_OK;
}

/* Length of an extension header, 0 if that number is none (RFC 8200, RFC 4302, IANA's registry). */
static size_t extension_len(uint8_t number, const uint8_t *header)
{
	switch (number) {
	case 0:   /* hop-by-hop */
	case 43:  /* routing */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* Shim6 */
		return ((size_t)header[1] + 1) * 8;
	case 44: /* fragment */
		return 8;
	case 51: /* authentication */
		return ((size_t)header[1] + 2) * 4;
	default:
		return 0;
	}
}

static bool is_extension(uint8_t number)
{
	static const uint8_t probe[2];
	return extension_len(number, probe) != 0;
}

static enum packet_verdict walk_ipv6(struct walk *walk, const uint8_t *l3, size_t room, bool quoted)
{
	if (room < IPV6_BYTES || l3[0] >> 4 != 6)
		return PACKET_MALFORMED;
	size_t end = IPV6_BYTES + (size_t)get16(l3 + 4), at = IPV6_BYTES;
	uint8_t next = l3[6];
	if (end > room) {
		if (!quoted)
			return PACKET_MALFORMED;
		end = room;
	}
	for (unsigned i = 0; is_extension(next); i++) {
		if (i == PACKET_IPV6_EXTENSIONS_MAX || at + 8 > end)
			return PACKET_MALFORMED;
		size_t len = extension_len(next, l3 + at);
		if (len > end - at)
			return PACKET_MALFORMED;
		if (next == 44 && get16(l3 + at + 2) & 0xfff9) /* RFC 6946: offset 0 and no more is a whole packet */
			return PACKET_FRAGMENT;
		next = l3[at];
		at += len;
	}
	walk->family = 6;
	walk->protocol = next;
	walk->l4_off = walk->l3_off + at;
	walk->end = walk->l3_off + end;
	memcpy(walk->src, l3 + 8, 16);
	memcpy(walk->dst, l3 + 24, 16);
	return PACKET_OK;
}

enum packet_verdict walk_ip(struct walk *walk, const uint8_t *bytes, size_t l3_off, size_t len, bool quoted)
{
	if (l3_off >= len)
		return PACKET_MALFORMED;
	walk->l3_off = l3_off;
	switch (bytes[l3_off] >> 4) {
	case 4: return walk_ipv4(walk, bytes + l3_off, len - l3_off, quoted);
	case 6: return walk_ipv6(walk, bytes + l3_off, len - l3_off, quoted);
	default: return PACKET_MALFORMED;
	}
}

enum packet_verdict walk_frame(struct walk *walk, const uint8_t *frame, size_t len)
{
	size_t at = ETHERNET_BYTES;

	walk->vlan_count = 0;
	if (len < ETHERNET_BYTES || len > UINT16_MAX)
		return PACKET_MALFORMED;
	uint16_t type = get16(frame + at - 2);
	while (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) {
		if (walk->vlan_count == PACKET_VLANS_MAX || at + VLAN_BYTES > len)
			return PACKET_MALFORMED;
		walk->vlan[walk->vlan_count++] = get16(frame + at) & 0xfff;
		at += VLAN_BYTES;
		type = get16(frame + at - 2);
	}
	if (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6)
		return PACKET_NOT_TCP;
	enum packet_verdict verdict = walk_ip(walk, frame, at, len, false);
	if (verdict == PACKET_OK && walk->family != (type == ETHERTYPE_IPV4 ? 4 : 6))
		return PACKET_MALFORMED;
	return verdict;
}

static bool parse_sack(struct packet *packet, const uint8_t *option, size_t len)
{
	if ((len - 2) % 8)
		return false;
	for (size_t i = 2; i < len && packet->sack_count < PACKET_SACK_MAX; i += 8)
		packet->sack[packet->sack_count++] = (struct packet_sack){get32(option + i), get32(option + i + 4)};
	return true;
}

/* One option of `len` octets. false: its length is not the one its kind has. */
static bool parse_option(struct packet *packet, const uint8_t *option, size_t len)
{
	switch (option[0]) {
	case OPTION_MSS:
		if (len != 4)
			return false;
		packet->mss = get16(option + 2);
		packet->options |= PACKET_OPT_MSS;
		return true;
	case OPTION_WSCALE:
		if (len != 3)
			return false;
		packet->wscale = option[2] > 14 ? 14 : option[2]; /* RFC 7323, section 2.3 */
		packet->options |= PACKET_OPT_WSCALE;
		return true;
	case OPTION_SACK_OK:
		packet->options |= PACKET_OPT_SACK_OK;
		return len == 2;
	case OPTION_SACK:
		return parse_sack(packet, option, len);
	case OPTION_TS:
		if (len != 10)
			return false;
		packet->tsval = get32(option + 2);
		packet->tsecr = get32(option + 6);
		packet->options |= PACKET_OPT_TS;
		return true;
	case OPTION_MD5: packet->options |= PACKET_OPT_MD5; return true;
	case OPTION_AO: packet->options |= PACKET_OPT_AO; return true;
	case OPTION_MPTCP: packet->options |= PACKET_OPT_MPTCP; return true;
	case OPTION_TFO: packet->options |= PACKET_OPT_TFO; return true;
	case OPTION_EXPERIMENT:
		if (len >= 4 && get16(option + 2) == TFO_EXPERIMENT_MAGIC)
			packet->options |= PACKET_OPT_TFO;
		return true;
	default:
		return true;
	}
}

static bool parse_options(struct packet *packet, const uint8_t *options, size_t len)
{
	for (size_t at = 0; at < len && options[at] != OPTION_END;) {
		if (options[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (len - at < 2 || options[at + 1] < 2 || options[at + 1] > len - at || !parse_option(packet, options + at, options[at + 1]))
			return false;
		at += options[at + 1];
	}
	return true;
}

enum packet_verdict packet_parse(struct packet *packet, uint8_t *frame, size_t len)
{
	struct walk walk;

	memset(packet, 0, sizeof(*packet));
	enum packet_verdict verdict = walk_frame(&walk, frame, len);
	if (verdict != PACKET_OK)
		return verdict;
	if (walk.protocol != PROTO_TCP)
		return PACKET_NOT_TCP;
	const uint8_t *tcp = frame + walk.l4_off;
	if (walk.end - walk.l4_off < TCP_BYTES)
		return PACKET_MALFORMED;
	size_t header = (size_t)(tcp[12] >> 4) * 4;
	if (header < TCP_BYTES || header > walk.end - walk.l4_off)
		return PACKET_MALFORMED;

	packet->frame = frame;
	packet->frame_len = (uint16_t)walk.end;
	packet->l3_off = (uint16_t)walk.l3_off;
	packet->l4_off = (uint16_t)walk.l4_off;
	packet->payload_off = (uint16_t)(walk.l4_off + header);
	packet->payload_len = (uint16_t)(walk.end - packet->payload_off);
	packet->family = walk.family;
	packet->vlan_count = walk.vlan_count;
	memcpy(packet->vlan, walk.vlan, walk.vlan_count * sizeof(walk.vlan[0]));
	memcpy(packet->addr_src, walk.src, 16);
	memcpy(packet->addr_dst, walk.dst, 16);
	packet->port_src = get16(tcp);
	packet->port_dst = get16(tcp + 2);
	packet->seq = get32(tcp + 4);
	packet->ack = get32(tcp + 8);
	packet->flags = tcp[13];
	packet->window = get16(tcp + 14);
	return parse_options(packet, tcp + TCP_BYTES, header - TCP_BYTES) ? PACKET_OK : PACKET_MALFORMED;
}

uint32_t packet_seq_len(const struct packet *packet)
{
	return packet->payload_len + (packet->flags & PACKET_SYN ? 1u : 0) + (packet->flags & PACKET_FIN ? 1u : 0);
}
