/*
 * train.c - segments that follow one another in one stream, given to the kernel as one.
 *
 * AF_XDP in copy mode costs a frame its own way through the kernel, and on a veth the far end's whole TCP as well. A
 * packet socket takes up to 64 KB at once (PACKET_VNET_HDR), which the NIC cuts where it can (TSO), and the kernel just
 * in front of the driver where it cannot (GSO): the same frames on the wire, octet by octet.
 *
 * Enters: a burst for one netdev, of frames with the lengths of their headers (mbuf l2_len, l3_len, l4_len): the
 * appliance has built those itself, so their checksums may be made anew. Leaves: how many of them are one train, and the
 * train, sent. Refuses: whatever differs in more than a later segment does. It is then sent as any other frame.
 *
 * Invariant: the segments are of one size, and none has FIN or PSH. The kernel lets the last one alone have the socket that
 * it cut them for, and a veth leaves it that. To the GRO of the far end it is then of another flow than those before it;
 * and what could only be a stream's end for now (short, PSH, FIN) GRO gives to TCP at once, before what it still gathers.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rte_mbuf.h>

#include "private.h"

#define TRAIN_SEGMENTS_MAX 64
#define TRAIN_BYTES_MAX 65535 /* of the IP packet: its length has 16 bits */
#define HEADERS_MAX 192
#define SEND_BUFFER_BYTES (8 * 1024 * 1024)
#define IPV6_BYTES 40
#define TCP_FLAGS_AT 13
#define TCP_CHECKSUM_AT 16
enum { FLAG_FIN = 0x01, FLAG_PSH = 0x08 };

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }

static unsigned headers_bytes(const struct rte_mbuf *mbuf) { return mbuf->l2_len + mbuf->l3_len + mbuf->l4_len; }

/* Could it be one of several? Bare ACKs, resets and frames of endpoints are none. */
static bool is_segment(const struct rte_mbuf *mbuf)
{
	return mbuf->l4_len && mbuf->nb_segs == 1 && headers_bytes(mbuf) <= HEADERS_MAX && rte_pktmbuf_data_len(mbuf) > headers_bytes(mbuf);
}

/* The same headers but for what each segment has of its own: lengths, identification, sequence number, checksums. */
static bool same_stream(const uint8_t *first, const uint8_t *next, const struct rte_mbuf *mbuf, uint32_t sent, unsigned number)
{
	unsigned l2 = mbuf->l2_len, l3 = mbuf->l3_len;
	const uint8_t *ip = first + l2, *ip2 = next + l2, *tcp = ip + l3, *tcp2 = ip2 + l3;
	bool ipv6 = ip[0] >> 4 == 6;

	if (memcmp(first, next, l2) != 0)
		return false;
	if (ipv6 ? memcmp(ip, ip2, 4) != 0 || memcmp(ip + 6, ip2 + 6, l3 - 6) != 0
	         : memcmp(ip, ip2, 2) != 0 || memcmp(ip + 6, ip2 + 6, 4) != 0 || memcmp(ip + 12, ip2 + 12, l3 - 12) != 0 ||
	           get16(ip2 + 4) != (uint16_t)(get16(ip + 4) + number))
		return false;
	return memcmp(tcp, tcp2, 4) == 0 && get32(tcp2 + 4) == get32(tcp + 4) + sent && memcmp(tcp + 8, tcp2 + 8, TCP_CHECKSUM_AT - 8) == 0 &&
	       memcmp(tcp + 18, tcp2 + 18, mbuf->l4_len - 18u) == 0;
}

unsigned train_length(struct rte_mbuf *const *mbufs, unsigned count)
{
	const struct rte_mbuf *first = mbufs[0];
	if (count < 2 || !is_segment(first))
		return 1;
	const uint8_t *frame = rte_pktmbuf_mtod(first, const uint8_t *);
	unsigned headers = headers_bytes(first), size = rte_pktmbuf_data_len(first) - headers, length = 1;

	if (frame[first->l2_len + first->l3_len + TCP_FLAGS_AT] & (FLAG_FIN | FLAG_PSH))
		return 1;
	for (; length < count && length < TRAIN_SEGMENTS_MAX; length++) {
		const struct rte_mbuf *next = mbufs[length];
		if (!is_segment(next) || next->tx_offload != first->tx_offload || rte_pktmbuf_data_len(next) != rte_pktmbuf_data_len(first) ||
		    headers - first->l2_len + size * (length + 1) > TRAIN_BYTES_MAX ||
		    !same_stream(frame, rte_pktmbuf_mtod(next, const uint8_t *), next, size * length, length))
			break;
	}
	return length;
}

/* ---- sending ---- */

/* The pseudo header's sum, which is what a NIC that fills in the checksum goes on from: not complemented. */
static uint16_t pseudo_sum(const uint8_t *ip, bool ipv6, uint32_t tcp_bytes)
{
	uint32_t sum = IPPROTO_TCP + (tcp_bytes >> 16) + (tcp_bytes & 0xffff);
	for (unsigned at = ipv6 ? 8 : 12, end = ipv6 ? 40 : 20; at < end; at += 2)
		sum += get16(ip + at);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

static uint16_t header_checksum(const uint8_t *ip, unsigned len)
{
	uint32_t sum = 0;
	for (unsigned at = 0; at < len; at += 2)
		sum += at == 10 ? 0 : get16(ip + at);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

/* The first segment's headers, as of one packet of all their payload. */
static void common_headers(uint8_t *out, const struct rte_mbuf *first, uint32_t payload)
{
	unsigned headers = headers_bytes(first), l3 = first->l3_len;
	memcpy(out, rte_pktmbuf_mtod(first, const uint8_t *), headers);
	uint8_t *ip = out + first->l2_len, *tcp = ip + l3;
	bool ipv6 = ip[0] >> 4 == 6;
	if (ipv6) {
		put16(ip + 4, (uint16_t)(l3 - IPV6_BYTES + first->l4_len + payload));
	} else {
		put16(ip + 2, (uint16_t)(l3 + first->l4_len + payload));
		put16(ip + 10, header_checksum(ip, l3));
	}
	put16(tcp + TCP_CHECKSUM_AT, pseudo_sum(ip, ipv6, first->l4_len + payload));
}

bool train_send(int fd, struct rte_mbuf *const *mbufs, unsigned count)
{
	const struct rte_mbuf *first = mbufs[0];
	unsigned headers = headers_bytes(first);
	uint8_t common[HEADERS_MAX];
	struct iovec pieces[TRAIN_SEGMENTS_MAX + 2];
	struct virtio_net_hdr offload = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = rte_pktmbuf_mtod(first, const uint8_t *)[first->l2_len] >> 4 == 6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = (uint16_t)headers,
		.gso_size = (uint16_t)(rte_pktmbuf_data_len(first) - headers),
		.csum_start = (uint16_t)(first->l2_len + first->l3_len),
		.csum_offset = TCP_CHECKSUM_AT,
	};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count + 2};
	uint32_t payload = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned len = rte_pktmbuf_data_len(mbufs[i]) - headers;
		pieces[i + 2] = (struct iovec){rte_pktmbuf_mtod_offset(mbufs[i], void *, headers), len};
		payload += len;
	}
	common_headers(common, first, payload);
	pieces[0] = (struct iovec){&offload, sizeof(offload)};
	pieces[1] = (struct iovec){common, headers};
	return sendmsg(fd, &message, MSG_DONTWAIT) >= 0;
}

int train_open(const char *netdev)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(netdev)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1, bytes = SEND_BUFFER_BYTES; /* protocol 0: it receives nothing */

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0)
		return fd;
	int failed = -errno;
	close(fd);
	return failed;
}
