/* packet/build.c: frames in a peer's name carry its headers, and are sound. */
#include "packet_frames.h"

static void test_headers_are_the_peers(void **state)
{
	struct frame f;
	struct packet p, made;
	struct packet_template tmpl;
	uint8_t out[2048];
	(void)state;
	for (int family = 4; family <= 6; family += 2)
		for (int vlans = 0; vlans <= 2; vlans++) {
			frame_segment(&f, family, vlans, PACKET_ACK, NULL, 0, "x");
			packet_parse(&p, f.bytes, f.len);
			packet_template_from(&tmpl, &p);
			struct packet_tcp tcp = {.seq = 5, .ack = 6, .flags = PACKET_ACK | PACKET_PSH, .window = 9, .ts = true, .tsval = 1, .tsecr = 2,
			                         .sack_count = 4, .sack = {{1, 2}, {3, 4}, {5, 6}, {7, 8}}};
			size_t head = packet_build_headers_len(&tmpl, &tcp);
			memcpy(out + head, "hello", 5);
			size_t len = packet_build(&tmpl, &tcp, 5, out, sizeof(out));
			assert_int_equal(len, head + 5);
			assert_true(sums_right(out, len, f.l3, f.l4, family));
			assert_int_equal(packet_parse(&made, out, len), PACKET_OK);
			assert_memory_equal(out, f.bytes, f.l3);
			assert_memory_equal(out + f.l3, f.bytes + f.l3, family == 4 ? 2 : 4); /* DSCP, flow label */
			assert_int_equal(out[f.l3 + (family == 4 ? 8 : 7)], 61);
			assert_memory_equal(made.addr_src, p.addr_src, 16);
			assert_int_equal(made.port_dst, 25);
			assert_int_equal(made.seq, 5);
			assert_int_equal(made.tsval, 1);
			assert_int_equal(made.sack_count, 3); /* a fourth finds no room beside a time stamp */
			assert_int_equal(made.payload_len, 5);
			if (family == 4) {
				assert_int_equal(out[f.l3 + 5], 0x35); /* the next identification */
				packet_build(&tmpl, &tcp, 5, out, sizeof(out));
				assert_int_equal(out[f.l3 + 5], 0x36);
			}
			assert_int_equal(packet_build(&tmpl, &tcp, 5, out, len - 1), 0);
		}
}

static void test_options_left_out(void **state)
{
	struct frame f;
	struct packet p, made;
	struct packet_template tmpl;
	uint8_t out[256];
	(void)state;
	frame_ip(&f, 6, 0);
	f.bytes[f.l3 + 6] = 60;
	PUT(&f, 6, 0, 1, 4, 0, 0, 0, 0);
	frame_tcp(&f, PACKET_ACK, NULL, 0);
	frame_seal(&f, 6, 16);
	packet_parse(&p, f.bytes, f.len);
	packet_template_from(&tmpl, &p);
	size_t len = packet_build(&tmpl, &(struct packet_tcp){.flags = PACKET_ACK}, 0, out, sizeof(out));
	assert_int_equal(len, 14 + 40 + 20);
	assert_int_equal(packet_parse(&made, out, len), PACKET_OK);
	assert_true(packet_checksums_ok(&made));
}

static void test_reverse(void **state)
{
	struct frame f;
	struct packet p, made;
	struct packet_template tmpl, back;
	uint8_t out[256];
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		frame_segment(&f, family, 1, PACKET_ACK, NULL, 0, "x");
		packet_parse(&p, f.bytes, f.len);
		packet_template_from(&tmpl, &p);
		packet_template_reverse(&back, &tmpl);
		size_t len = packet_build(&back, &(struct packet_tcp){.flags = PACKET_ACK}, 0, out, sizeof(out));
		assert_int_equal(packet_parse(&made, out, len), PACKET_OK);
		assert_memory_equal(made.addr_src, p.addr_dst, 16);
		assert_memory_equal(made.addr_dst, p.addr_src, 16);
		assert_int_equal(made.port_src, 25);
		assert_int_equal(made.port_dst, 40000);
		assert_memory_equal(out, f.bytes + 6, 6);
		assert_memory_equal(out + 6, f.bytes, 6);
		assert_int_equal(made.vlan[0], 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers_are_the_peers), cmocka_unit_test(test_options_left_out), cmocka_unit_test(test_reverse),
	};
	return cmocka_run_group_tests_name("packet_build", tests, NULL, NULL);
}
