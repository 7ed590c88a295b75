/*
 * edit.c - changes to a frame in place. Each leaves the view, the IP length and both checksums right.
 */
#include "private.h"

static void put_flags(struct packet *packet, uint8_t flags)
{
	packet->flags = flags;
	packet->frame[packet->l4_off + 13] = flags;
}

void packet_keep_head(struct packet *packet, uint16_t payload_len)
{
	if (payload_len > packet->payload_len)
		return;
	packet->payload_len = payload_len;
	packet->frame_len = (uint16_t)(packet->payload_off + payload_len);
	put_flags(packet, packet->flags & (uint8_t)~(PACKET_FIN | PACKET_PSH));
	packet_update_checksums(packet);
}

void packet_drop_head(struct packet *packet, uint16_t bytes)
{
	if (bytes > packet->payload_len)
		bytes = packet->payload_len;
	uint8_t *payload = packet->frame + packet->payload_off;
	packet->payload_len = (uint16_t)(packet->payload_len - bytes);
	memmove(payload, payload + bytes, packet->payload_len);
	packet->frame_len = (uint16_t)(packet->frame_len - bytes);
	packet->seq += bytes;
	put32(packet->frame + packet->l4_off + 4, packet->seq);
	packet_update_checksums(packet);
}

void packet_append(struct packet *packet, const uint8_t *bytes, uint16_t len)
{
	memcpy(packet->frame + packet->payload_off + packet->payload_len, bytes, len);
	packet->payload_len = (uint16_t)(packet->payload_len + len);
	packet->frame_len = (uint16_t)(packet->frame_len + len);
	packet_update_checksums(packet);
}

void packet_overwrite(struct packet *packet, uint16_t payload_at, const uint8_t *bytes, uint16_t len)
{
	if (payload_at > packet->payload_len || len > packet->payload_len - payload_at)
		return;
	memcpy(packet->frame + packet->payload_off + payload_at, bytes, len);
	packet_update_checksums(packet);
}

void packet_clear_urgent(struct packet *packet)
{
	put_flags(packet, packet->flags & (uint8_t)~PACKET_URG);
	put16(packet->frame + packet->l4_off + 18, 0);
	packet_update_checksums(packet);
}

static bool unwanted_in_syn(const uint8_t *option)
{
	return option[0] == OPTION_TFO || option[0] == OPTION_MPTCP ||
	       (option[0] == OPTION_EXPERIMENT && option[1] >= 4 && get16(option + 2) == TFO_EXPERIMENT_MAGIC);
}

bool packet_clean_syn(struct packet *packet)
{
	uint8_t *options = packet->frame + packet->l4_off + TCP_BYTES, *end = packet->frame + packet->payload_off;
	bool changed = packet->payload_len > 0;

	while (options < end && *options != OPTION_END) {
		uint8_t len = *options == OPTION_NOP ? 1 : options[1]; /* packet_parse has checked lengths */
		if (*options != OPTION_NOP && unwanted_in_syn(options)) {
			memset(options, OPTION_NOP, len);
			changed = true;
		}
		options += len;
	}
	packet->options &= (uint8_t)~(PACKET_OPT_TFO | PACKET_OPT_MPTCP);
	if (changed)
		packet_keep_head(packet, 0);
	return changed;
}

void packet_make_reset(struct packet *packet, uint32_t seq, uint32_t ack)
{
	uint8_t *tcp = packet->frame + packet->l4_off;

	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = (TCP_BYTES / 4) << 4;
	put16(tcp + 14, 0);
	put16(tcp + 18, 0);
	packet->seq = seq;
	packet->ack = ack;
	packet->window = 0;
	packet->options = 0;
	packet->sack_count = 0;
	packet->payload_off = (uint16_t)(packet->l4_off + TCP_BYTES);
	packet->payload_len = 0;
	packet->frame_len = packet->payload_off;
	put_flags(packet, PACKET_RST | PACKET_ACK);
	packet_update_checksums(packet);
}
