/* port/train.c: which frames are one train, and what the kernel is given. That it comes out as the same frames again is
 * tests/bpf/test_ports.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <rte_mbuf.h>

#include "port/private.h"

#define FRAMES_MAX 70
#define MSS 100
enum { FIN = 1, PSH = 8, ACK = 16 };

/* A burst of segments of one stream, as worker.c builds them; each test changes some. */
static struct {
	struct rte_mbuf mbuf[FRAMES_MAX];
	uint8_t bytes[FRAMES_MAX][2048];
	struct rte_mbuf *list[FRAMES_MAX];
} burst;

struct form { bool ipv6; unsigned tags, options; };
static const struct form plain = {false, 0, 0};

static void put16(uint8_t *p, unsigned v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v & 0xffff); }
static unsigned get16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

static uint8_t *l3(unsigned i) { return burst.bytes[i] + burst.mbuf[i].l2_len; }
static uint8_t *l4(unsigned i) { return l3(i) + burst.mbuf[i].l3_len; }
static unsigned headers(unsigned i) { return burst.mbuf[i].l2_len + burst.mbuf[i].l3_len + burst.mbuf[i].l4_len; }

static void set_payload(unsigned i, unsigned len)
{
	struct rte_mbuf *mbuf = &burst.mbuf[i];
	mbuf->data_len = (uint16_t)(headers(i) + len);
	mbuf->pkt_len = mbuf->data_len;
	if (l3(i)[0] >> 4 == 6)
		put16(l3(i) + 4, mbuf->l4_len + len);
	else
		put16(l3(i) + 2, 20 + mbuf->l4_len + len);
}

static void make(unsigned count, const struct form *form)
{
	memset(&burst, 0, sizeof(burst));
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = &burst.mbuf[i];
		mbuf->buf_addr = burst.bytes[i];
		mbuf->nb_segs = 1;
		mbuf->l2_len = (14 + 4 * form->tags) & 0x7f;
		mbuf->l3_len = form->ipv6 ? 40 : 20;
		mbuf->l4_len = (20 + form->options) & 0xff;
		burst.list[i] = mbuf;
		uint8_t *ip = l3(i);
		ip[0] = form->ipv6 ? 0x60 : 0x45;
		if (!form->ipv6) {
			put16(ip + 4, (65534 + i) & 0xffff);
			put16(ip + 10, 0x1234 + i);
			memcpy(ip + 12, "\x0a\x4d\x01\x01\x0a\x4d\x02\x01", 8);
		}
		ip[form->ipv6 ? 6 : 9] = 6;
		uint8_t *tcp = l4(i);
		put16(tcp, 4000);
		put16(tcp + 2, 25);
		put32(tcp + 4, 0xfffffff0u + i * MSS);
		tcp[12] = (uint8_t)((20 + form->options) / 4 << 4);
		tcp[13] = ACK;
		put16(tcp + 14, 512);
		put16(tcp + 16, 0xabcd + i);
		memset(tcp + 20, 1, form->options);
		memset(burst.bytes[i] + headers(i), 'a' + (int)i % 26, MSS);
		set_payload(i, MSS);
	}
}

static unsigned length(unsigned count) { return train_length(burst.list, count); }

static void test_segments_that_follow_one_another_are_a_train(void **state)
{
	(void)state;
	const struct form forms[] = {plain, {false, 0, 12}, {false, 2, 12}, {true, 0, 0}, {true, 1, 12}};
	for (unsigned f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		make(5, &forms[f]);
		assert_int_equal(length(5), 5);
		assert_int_equal(length(1), 1);
	}
}

static void test_one_of_another_size_fin_and_psh_are_left_behind_it(void **state)
{
	(void)state;
	make(5, &plain);
	set_payload(2, MSS - 1);
	assert_int_equal(length(5), 2);
	make(5, &plain);
	l4(3)[13] |= PSH;
	assert_int_equal(length(5), 3);
	make(5, &plain);
	l4(4)[13] |= FIN;
	assert_int_equal(length(5), 4);
	for (unsigned flag = FIN; flag <= PSH; flag += PSH - FIN) {
		make(5, &plain);
		for (unsigned i = 0; i < 5; i++)
			l4(i)[13] |= (uint8_t)flag;
		assert_int_equal(length(5), 1);
	}
	make(5, &plain);
	set_payload(1, MSS + 1);
	assert_int_equal(length(5), 1);
}

/* One octet of the third frame's headers: each is either a segment's own, or ends the train before it. */
static void test_every_other_octet_of_the_headers_counts(void **state)
{
	(void)state;
	const struct form forms[] = {{false, 1, 12}, {true, 1, 12}};
	for (unsigned f = 0; f < 2; f++) {
		make(1, &forms[f]);
		unsigned all = headers(0), ip = burst.mbuf[0].l2_len, tcp = ip + burst.mbuf[0].l3_len, own = 0;
		for (unsigned at = 0; at < all; at++) {
			make(4, &forms[f]);
			burst.bytes[2][at] ^= 8; /* of the TCP flags: PSH */
			bool checksum = at == tcp + 16 || at == tcp + 17 || (!forms[f].ipv6 && (at == ip + 10 || at == ip + 11));
			bool size = forms[f].ipv6 ? at == ip + 4 || at == ip + 5 : at == ip + 2 || at == ip + 3; /* the mbuf says it */
			own += checksum || size;
			assert_int_equal(length(4), checksum || size ? 4 : 2);
		}
		assert_int_equal(own, forms[f].ipv6 ? 4 : 6);
	}
}

static void test_only_what_was_built_here_is_joined(void **state)
{
	(void)state;
	make(4, &plain);
	burst.mbuf[0].l4_len = 0;
	assert_int_equal(length(4), 1);
	make(4, &plain);
	burst.mbuf[2].tx_offload = 0;
	assert_int_equal(length(4), 2);
	make(4, &plain);
	set_payload(0, 0); /* an ACK */
	assert_int_equal(length(4), 1);
	make(4, &plain);
	burst.mbuf[1].nb_segs = 2;
	assert_int_equal(length(4), 1);
}

static void test_its_size_is_bounded(void **state)
{
	(void)state;
	make(FRAMES_MAX, &plain);
	assert_int_equal(length(FRAMES_MAX), 64);
	make(FRAMES_MAX, &plain);
	for (unsigned i = 0; i < FRAMES_MAX; i++) {
		put32(l4(i) + 4, 0xfffffff0u + i * 1448);
		set_payload(i, 1448);
	}
	assert_int_equal(length(FRAMES_MAX), (65535 - 40) / 1448);
}

static void sent(const struct form *form)
{
	int pair[2];
	uint8_t got[8192];
	struct virtio_net_hdr offload;

	make(4, form);
	assert_int_equal(length(4), 4);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_true(train_send(pair[0], burst.list, 4));
	ssize_t len = recv(pair[1], got, sizeof(got), 0);
	unsigned all = headers(0), payload = 4 * MSS;
	assert_int_equal(len, sizeof(offload) + all + payload);
	memcpy(&offload, got, sizeof(offload));
	assert_int_equal(offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(offload.gso_type, form->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(offload.gso_size, MSS);
	assert_int_equal(offload.hdr_len, all);
	assert_int_equal(offload.csum_start, burst.mbuf[0].l2_len + burst.mbuf[0].l3_len);
	assert_int_equal(offload.csum_offset, 16);

	const uint8_t *frame = got + sizeof(offload), *ip = frame + burst.mbuf[0].l2_len, *tcp = frame + offload.csum_start, *at = frame + all;
	assert_int_equal(get16(ip + (form->ipv6 ? 4 : 2)), (form->ipv6 ? 0 : 20) + burst.mbuf[0].l4_len + payload);
	assert_int_equal(tcp[13], ACK);
	assert_memory_equal(tcp + 4, l4(0) + 4, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_memory_equal(at, burst.bytes[i] + all, MSS);
		at += MSS;
	}
	/* The sum that hardware goes on from covers addresses, protocol and length. */
	uint32_t sum = 6 + burst.mbuf[0].l4_len + payload;
	for (unsigned i = form->ipv6 ? 8 : 12; i < (form->ipv6 ? 40u : 20u); i += 2)
		sum += get16(ip + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(get16(tcp + 16), sum);
	if (!form->ipv6) { /* the header's own checksum is right */
		sum = 0;
		for (unsigned i = 0; i < 20; i += 2)
			sum += get16(ip + i);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_int_equal(sum, 0xffff);
	}
	close(pair[0]);
	assert_int_equal(recv(pair[1], got, sizeof(got), MSG_DONTWAIT), -1); /* one only */
	close(pair[1]);
}

static void test_the_kernel_gets_one_packet(void **state)
{
	(void)state;
	sent(&plain);
	sent(&(struct form){false, 1, 12});
	sent(&(struct form){true, 0, 12});
}

static void test_what_is_not_sent_is_said(void **state)
{
	(void)state;
	make(3, &plain);
	assert_false(train_send(-1, burst.list, 3));
	assert_int_equal(errno, EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments_that_follow_one_another_are_a_train),
		cmocka_unit_test(test_one_of_another_size_fin_and_psh_are_left_behind_it),
		cmocka_unit_test(test_every_other_octet_of_the_headers_counts),
		cmocka_unit_test(test_only_what_was_built_here_is_joined),
		cmocka_unit_test(test_its_size_is_bounded),
		cmocka_unit_test(test_the_kernel_gets_one_packet),
		cmocka_unit_test(test_what_is_not_sent_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
