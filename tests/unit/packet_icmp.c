/* packet/icmp.c: errors about mail sessions, quoting as little as 8 octets of TCP (RFC 792). */
#include "packet_frames.h"

static void icmp_about(struct frame *f, int family, uint8_t type, uint8_t code, uint16_t mtu, const struct frame *quoted, size_t quote_len)
{
	frame_ip(f, family, 1);
	f->bytes[f->l3 + (family == 4 ? 9 : 6)] = family == 4 ? 1 : 58;
	if (family == 4)
		PUT(f, type, code, 0, 0, 0, 0, (uint8_t)(mtu >> 8), (uint8_t)mtu);
	else
		PUT(f, type, code, 0, 0, 0, 0, (uint8_t)(mtu >> 8), (uint8_t)mtu);
	put(f, quoted->bytes + quoted->l3, quote_len);
	frame_seal(f, family == 4 ? 1 : 58, 2);
}

static void test_too_big(void **state)
{
	struct frame about, f;
	struct packet_icmp icmp;
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		size_t least = (family == 4 ? 20 : 40) + 8;
		frame_segment(&about, family, 0, PACKET_ACK, NULL, 0, "data");
		icmp_about(&f, family, family == 4 ? 3 : 2, family == 4 ? 4 : 0, 1280, &about, least);
		assert_true(packet_icmp_parse(&icmp, f.bytes, f.len));
		assert_true(icmp.too_big);
		assert_int_equal(icmp.mtu, 1280);
		assert_int_equal(icmp.seq, 1000);
		assert_int_equal(icmp.port_src, 40000);
		assert_int_equal(icmp.port_dst, 25);
		assert_int_equal(icmp.addr_src[15], 1);
		assert_int_equal(icmp.vlan_count, 1);
		assert_int_equal(icmp.vlan[0], 100);
		f.bytes[f.len - 1] ^= 1; /* its checksum counts */
		assert_false(packet_icmp_parse(&icmp, f.bytes, f.len));
		icmp_about(&f, family, family == 4 ? 3 : 2, 4, 1280, &about, least - 1);
		assert_false(packet_icmp_parse(&icmp, f.bytes, f.len));
		icmp_about(&f, family, family == 4 ? 8 : 128, 0, 0, &about, least); /* echo */
		assert_false(packet_icmp_parse(&icmp, f.bytes, f.len));
		icmp_about(&f, family, family == 4 ? 3 : 1, 1, 0, &about, least);
		assert_true(packet_icmp_parse(&icmp, f.bytes, f.len));
		assert_false(icmp.too_big);
	}
}

static void test_others_sessions(void **state)
{
	struct frame about, f;
	struct packet_icmp icmp;
	(void)state;
	frame_segment(&about, 4, 0, PACKET_ACK, NULL, 0, "data");
	about.bytes[about.l4 + 3] = 80;
	icmp_about(&f, 4, 3, 4, 1280, &about, 28);
	assert_false(packet_icmp_parse(&icmp, f.bytes, f.len));
	for (size_t len = 0; len < f.len; len++)
		assert_false(packet_icmp_parse(&icmp, f.bytes, len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_too_big), cmocka_unit_test(test_others_sessions)};
	return cmocka_run_group_tests_name("packet_icmp", tests, NULL, NULL);
}
