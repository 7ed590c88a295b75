/* packet/edit.c: each edit leaves a frame that a receiver takes. */
#include "packet_frames.h"

static void sound(struct packet *p, const struct frame *f, const char *payload)
{
	struct packet again;
	uint8_t copy[2048];
	memcpy(copy, f->bytes, p->frame_len);
	assert_int_equal(packet_parse(&again, copy, p->frame_len), PACKET_OK);
	assert_true(sums_right(copy, p->frame_len, f->l3, f->l4, f->family));
	assert_int_equal(again.payload_len, strlen(payload));
	assert_memory_equal(copy + again.payload_off, payload, strlen(payload));
	assert_int_equal(again.seq, p->seq);
	assert_int_equal(again.flags, p->flags);
	assert_int_equal(again.payload_len, p->payload_len);
}

static void begin(struct frame *f, struct packet *p, int family, uint8_t flags, const char *payload)
{
	frame_segment(f, family, 1, flags, NULL, 0, payload);
	assert_int_equal(packet_parse(p, f->bytes, f->len), PACKET_OK);
}

static void test_cuts_and_overwrites(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		begin(&f, &p, family, PACKET_ACK | PACKET_PSH | PACKET_FIN, "NOOP\r\nMAIL");
		packet_keep_head(&p, 6);
		sound(&p, &f, "NOOP\r\n");
		assert_int_equal(p.flags, PACKET_ACK);
		begin(&f, &p, family, PACKET_ACK | PACKET_FIN, "NOOP\r\nMAIL");
		packet_drop_head(&p, 6);
		sound(&p, &f, "MAIL");
		assert_int_equal(p.seq, 1006);
		assert_int_equal(p.flags, PACKET_ACK | PACKET_FIN);
		packet_overwrite(&p, 1, (const uint8_t *)"xy", 2);
		sound(&p, &f, "MxyL");
		packet_overwrite(&p, 3, (const uint8_t *)"xy", 2); /* does not fit: nothing happens */
		sound(&p, &f, "MxyL");
		packet_append(&p, (const uint8_t *)" FROM", 5);
		sound(&p, &f, "MxyL FROM");
	}
}

static void test_urgent(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	begin(&f, &p, 4, PACKET_ACK | PACKET_URG, "x");
	f.bytes[f.l4 + 19] = 5;
	packet_clear_urgent(&p);
	sound(&p, &f, "x");
	assert_int_equal(p.flags, PACKET_ACK);
	assert_int_equal(f.bytes[f.l4 + 19], 0);
}

static void test_syn(void **state)
{
	static const uint8_t dirty[] = {2, 4, 5, 0xb4, 34, 6, 1, 2, 3, 4, 30, 4, 0, 0, 254, 4, 0xf9, 0x89, 4, 2};
	static const uint8_t clean[] = {2, 4, 5, 0xb4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 2};
	struct frame f;
	struct packet p;
	(void)state;
	frame_segment(&f, 6, 0, PACKET_SYN, dirty, sizeof(dirty), "EHLO");
	assert_int_equal(packet_parse(&p, f.bytes, f.len), PACKET_OK);
	assert_true(packet_clean_syn(&p));
	sound(&p, &f, "");
	assert_memory_equal(f.bytes + f.l4 + 20, clean, sizeof(clean));
	assert_false(packet_clean_syn(&p));
	assert_int_equal(p.options, PACKET_OPT_MSS | PACKET_OPT_SACK_OK);
}

static void test_reset(void **state)
{
	struct frame f;
	struct packet p;
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		begin(&f, &p, family, PACKET_ACK, "data");
		packet_make_reset(&p, 77, 88);
		sound(&p, &f, "");
		assert_int_equal(p.seq, 77);
		assert_int_equal(p.ack, 88);
		assert_int_equal(p.flags, PACKET_RST | PACKET_ACK);
		assert_int_equal(p.frame_len, f.l4 + 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts_and_overwrites), cmocka_unit_test(test_urgent),
		cmocka_unit_test(test_syn), cmocka_unit_test(test_reset),
	};
	return cmocka_run_group_tests_name("packet_edit", tests, NULL, NULL);
}
