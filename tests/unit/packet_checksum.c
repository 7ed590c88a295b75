/* packet/checksum.c: against the plainest sum, for every length and every damaged octet. */
#include "packet_frames.h"

#include "packet/private.h"

static void test_every_length(void **state)
{
	char payload[70] = "";
	struct frame f;
	struct packet p;
	(void)state;
	for (int family = 4; family <= 6; family += 2)
		for (size_t len = 0; len < 64; len++) {
			memset(payload, 0, sizeof(payload));
			for (size_t i = 0; i < len; i++)
				payload[i] = (char)(0xff - i * 7 % 250);
			frame_segment(&f, family, 0, PACKET_ACK, NULL, 0, payload);
			assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
			assert_true(packet_checksums_ok(&p));
			uint16_t was[2] = {0x1111, 0x2222};
			memcpy(f.bytes + f.l4 + 16, &was[0], 2);
			assert_false(packet_checksums_ok(&p));
			packet_update_checksums(&p);
			assert_true(sums_right(f.bytes, f.len, f.l3, f.l4, family));
		}
}

/* Blocks of 32 octets and what is left of them, with the greatest words that there are. */
static void test_long_ones(void **state)
{
	static uint8_t bytes[1600];
	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i % 5 ? 0xff : i);
	for (size_t from = 0; from < 9; from++)
		for (size_t len = 0; len + from <= sizeof(bytes); len++) {
			uint64_t plain = 0x1ffff;
			for (size_t i = 0; i < len; i++)
				plain += (uint64_t)bytes[from + i] << (i % 2 ? 8 : 0);
			assert_int_equal(sum_finish(sum_bytes(0x1ffff, bytes + from, len)), sum_finish(plain));
		}
}

static void test_damage_is_seen(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	frame_segment(&f, 4, 0, PACKET_ACK, NULL, 0, "RCPT TO:<a@b.example>");
	packet_parse(&p, f.bytes, f.len);
	for (size_t at = f.l3; at < f.len; at++) {
		f.bytes[at] ^= 0x10;
		if (at != f.l3) /* the header's own length */
			assert_false(packet_checksums_ok(&p));
		f.bytes[at] ^= 0x10;
	}
	assert_true(packet_checksums_ok(&p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_length), cmocka_unit_test(test_long_ones), cmocka_unit_test(test_damage_is_seen)};
	return cmocka_run_group_tests_name("packet_checksum", tests, NULL, NULL);
}
