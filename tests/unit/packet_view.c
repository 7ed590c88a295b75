/* packet/view.c: what is found in a frame, and what is refused. */
#include "packet_frames.h"

static const uint8_t all_options[] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7};

static void test_every_encapsulation(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	for (int family = 4; family <= 6; family += 2)
		for (int vlans = 0; vlans <= 2; vlans++) {
			frame_segment(&f, family, vlans, PACKET_ACK | PACKET_PSH, all_options, sizeof(all_options), "MAIL");
			PUT(&f, 0, 0, 0, 0, 0); /* Ethernet padding */
			assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
			assert_int_equal(p.frame_len, f.len - 5);
			assert_int_equal(p.family, family);
			assert_int_equal(p.vlan_count, vlans);
			if (vlans == 2)
				assert_int_equal(p.vlan[1], 101);
			if (vlans)
				assert_int_equal(p.vlan[0], 100);
			assert_int_equal(p.payload_len, 4);
			assert_memory_equal(f.bytes + p.payload_off, "MAIL", 4);
			assert_int_equal(p.port_src, 40000);
			assert_int_equal(p.port_dst, 25);
			assert_int_equal(p.seq, 1000);
			assert_int_equal(p.ack, 2000);
			assert_int_equal(p.window, 500);
			assert_int_equal(p.options, PACKET_OPT_MSS | PACKET_OPT_WSCALE | PACKET_OPT_SACK_OK | PACKET_OPT_TS);
			assert_int_equal(p.mss, 1460);
			assert_int_equal(p.wscale, 7);
			assert_int_equal(p.tsval, 7);
			assert_int_equal(p.tsecr, 9);
			assert_true(packet_checksums_ok(&p));
		}
	frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "");
	packet_parse(&p, f.bytes, f.len);
	assert_memory_equal(p.addr_src, ((uint8_t[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 1, 1}), 16);
}

static void test_ipv4_options_and_ipv6_extensions(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	frame_ip(&f, 4, 0);
	f.bytes[f.l3] = 0x46;
	PUT(&f, 1, 1, 1, 0);
	frame_tcp(&f, PACKET_SYN, NULL, 0);
	frame_seal(&f, 6, 16);
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
	assert_int_equal(p.l4_off, f.l4);

	for (unsigned count = 1; count <= PACKET_IPV6_EXTENSIONS_MAX + 1; count++) {
		frame_ip(&f, 6, 0);
		f.bytes[f.l3 + 6] = 60;
		for (unsigned i = 1; i <= count; i++)
			PUT(&f, i == count ? 6 : 60, 0, 1, 4, 0, 0, 0, 0);
		frame_tcp(&f, PACKET_SYN, NULL, 0);
		frame_seal(&f, 6, 16);
		assert_int_equal(packet_parse(&p, f.bytes, f.len), count <= PACKET_IPV6_EXTENSIONS_MAX ? PACKET_OK : PACKET_MALFORMED);
	}
}

static void test_fragments(void **state)
{
	static const struct { uint8_t flags, offset; } pieces[] = {{0x20, 0}, {0, 185}, {0x20, 185}};
	struct frame f;
	struct packet p;
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "x");
		f.bytes[f.l3 + 6] = pieces[i].flags;
		f.bytes[f.l3 + 7] = pieces[i].offset;
		assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_FRAGMENT);
	}
	for (int more = 0; more <= 1; more++) { /* RFC 6946: atomic fragments are whole */
		frame_ip(&f, 6, 0);
		f.bytes[f.l3 + 6] = 44;
		PUT(&f, 6, 0, 0, (uint8_t)more, 1, 2, 3, 4);
		frame_tcp(&f, PACKET_ACK, NULL, 0);
		frame_seal(&f, 6, 16);
		assert_int_equal(packet_parse(&p, f.bytes, f.len), more ? PACKET_FRAGMENT : PACKET_OK);
	}
}

static void test_not_tcp(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "x");
	f.bytes[f.l3 + 9] = 17;
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_NOT_TCP);
	f.bytes[12] = 0x08, f.bytes[13] = 0x06;
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_NOT_TCP);
}

/* Every truncation of a sound frame is refused, whatever was cut. */
static void test_truncations(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		frame_segment(&f, family, 2, PACKET_ACK, all_options, sizeof(all_options), "MAIL");
		for (size_t len = 0; len < f.len; len++)
			assert_int_not_equal(packet_parse(&p, f.bytes, len), PACKET_OK);
	}
}

static void test_bad_headers(void **state)
{
	static const uint8_t bad[][4] = {{2, 3, 0, 0}, {8, 4, 0, 0}, {3, 0, 0, 0}, {1, 1, 1, 2}, {5, 9, 1, 1}, {99, 200, 0, 0}};
	struct frame f;
	struct packet p;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		frame_segment(&f, 4, 0, PACKET_ACK, bad[i], 4, "");
		assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_MALFORMED);
	}
	frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "");
	f.bytes[f.l4 + 12] = 0x40; /* data offset below 5 */
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_MALFORMED);
	f.bytes[f.l4 + 12] = 0xf0; /* past the end */
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_MALFORMED);
	frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "");
	f.bytes[f.l3] = 0x44;
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_MALFORMED);
	frame_segment(&f, 6, 0, PACKET_ACK, NULL, 0, "");
	f.bytes[f.l3] = 0x45; /* says IPv4 below an IPv6 ethertype */
	assert_int_not_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
}

static void test_sack_and_experiments(void **state)
{
	static const uint8_t sack[] = {1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 6};
	static const uint8_t odd[] = {254, 4, 0xf9, 0x89, 30, 4, 0, 0, 19, 2, 29, 4, 0, 0, 34, 2};
	struct frame f;
	struct packet p;
	(void)state;
	frame_segment(&f, 4, 0, PACKET_ACK, sack, sizeof(sack), "");
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
	assert_int_equal(p.sack_count, 2);
	assert_int_equal(p.sack[1].end, 6);
	frame_segment(&f, 4, 0, PACKET_SYN, odd, sizeof(odd), "");
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
	assert_int_equal(p.options, PACKET_OPT_TFO | PACKET_OPT_MPTCP | PACKET_OPT_MD5 | PACKET_OPT_AO);
	assert_int_equal(packet_seq_len(&p), 1);
	assert_true(seq_before(0xfffffff0u, 5) && seq_after(5, 0xfffffff0u) && seq_between(2, 0xfffffff0u, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_encapsulation), cmocka_unit_test(test_ipv4_options_and_ipv6_extensions),
		cmocka_unit_test(test_fragments),           cmocka_unit_test(test_not_tcp),
		cmocka_unit_test(test_truncations),         cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_sack_and_experiments),
	};
	return cmocka_run_group_tests_name("packet_view", tests, NULL, NULL);
}
