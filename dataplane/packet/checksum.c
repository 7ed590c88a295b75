/*
 * checksum.c - the Internet checksum (RFC 1071): check, and fill in.
 *
 * Sums are taken over the frame as it stands. Everything is added in memory's byte order, which RFC 1071
 * allows: the folded sum comes out in the order it is stored in.
 */
#include "private.h"

typedef uint64_t pair __attribute__((vector_size(16)));

/* Octets in whole blocks of 32, as 32-bit words in four lanes each: three times as fast as word by word. */
static uint64_t sum_blocks(const uint8_t *bytes, size_t len)
{
	const pair low = {0xffffffff, 0xffffffff};
	pair first, second, sums[4] = {{0}};

	for (; len; bytes += 32, len -= 32) {
		memcpy(&first, bytes, 16);
		memcpy(&second, bytes + 16, 16);
		sums[0] += first & low;
		sums[1] += first >> 32;
		sums[2] += second & low;
		sums[3] += second >> 32;
	}
	pair all = sums[0] + sums[1] + sums[2] + sums[3];
	return all[0] + all[1];
}

uint64_t sum_bytes(uint64_t sum, const uint8_t *bytes, size_t len)
{
	uint32_t word;
	uint16_t half = 0;
	size_t blocks = len & ~(size_t)31;

	sum += sum_blocks(bytes, blocks);
	bytes += blocks;
	len -= blocks;
	for (; len >= 4; bytes += 4, len -= 4) {
		memcpy(&word, bytes, 4);
		sum += word;
	}
	if (len >= 2) {
		memcpy(&half, bytes, 2);
		sum += half;
		bytes += 2;
		len -= 2;
	}
	if (len) {
		half = 0;
		memcpy(&half, bytes, 1);
		sum += half;
	}
	return sum;
}

uint16_t sum_finish(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint64_t sum_pseudo(const uint8_t *l3, uint8_t family, uint8_t protocol, size_t len)
{
	uint8_t tail[8] = {0};
	put32(tail, (uint32_t)len);
	tail[7] = protocol;
	uint64_t sum = sum_bytes(0, tail, sizeof(tail));
	return family == 4 ? sum_bytes(sum, l3 + 12, 8) : sum_bytes(sum, l3 + 8, 32);
}

bool packet_checksums_ok(const struct packet *packet)
{
	const uint8_t *l3 = packet->frame + packet->l3_off, *l4 = packet->frame + packet->l4_off;
	size_t len = (size_t)packet->frame_len - packet->l4_off;

	if (packet->family == 4 && sum_finish(sum_bytes(0, l3, (size_t)(l3[0] & 15) * 4)) != 0)
		return false;
	return sum_finish(sum_bytes(sum_pseudo(l3, packet->family, PROTO_TCP, len), l4, len)) == 0;
}

void set_lengths_and_sums(uint8_t *frame, size_t l3_off, size_t l4_off, size_t end, uint8_t family)
{
	uint8_t *l3 = frame + l3_off, *l4 = frame + l4_off;
	uint16_t sum;

	if (family == 4) {
		put16(l3 + 2, (uint16_t)(end - l3_off));
		put16(l3 + 10, 0);
		sum = sum_finish(sum_bytes(0, l3, (size_t)(l3[0] & 15) * 4));
		memcpy(l3 + 10, &sum, 2);
	} else {
		put16(l3 + 4, (uint16_t)(end - l3_off - IPV6_BYTES));
	}
	put16(l4 + 16, 0);
	sum = sum_finish(sum_bytes(sum_pseudo(l3, family, PROTO_TCP, end - l4_off), l4, end - l4_off));
	memcpy(l4 + 16, &sum, 2);
}

void packet_update_checksums(struct packet *packet)
{
	set_lengths_and_sums(packet->frame, packet->l3_off, packet->l4_off, packet->frame_len, packet->family);
}
