/* pass.c: the short way does what the long one does, or is not taken. */
#include "flow_harness.h"

#include "flow/private.h"

#define HASH 7

struct wire {
	struct seg seg;
	unsigned tags, padding;
	int16_t total_change;   /* of the IP length */
	uint8_t doff;           /* 0: right */
	bool no_l4, both_25, icmp;
};

/* A frame of the pair of the harness, with the verdict that the classifier gives it. */
static struct rte_mbuf *make(const struct wire *w)
{
	const struct seg *s = &w->seg;
	static const uint8_t mac[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	uint8_t frame[2048] = {0}, *ip = frame + 14 + 4 * w->tags, *tcp = ip + 20;
	bool up = s->from == CLIENT;
	size_t len = s->payload ? strlen(s->payload) : 0, l3 = 14 + 4 * w->tags;
	uint32_t seq = htonl((up ? CLIENT_ISN : SERVER_ISN) + s->seq), ack = htonl((up ? SERVER_ISN : CLIENT_ISN) + s->ack);
	uint16_t total = htons((uint16_t)(40 + len + (size_t)w->total_change)), port = htons(CLIENT_PORT), smtp = htons(25), window = htons(8192);
	memcpy(frame, mac, 12);
	for (unsigned t = 0; t < w->tags; t++)
		memcpy(frame + 12 + 4 * t, (uint8_t[]){0x81, 0, 0xa0, (uint8_t)(7 + t)}, 4);
	memcpy(frame + l3 - 2, "\x08\x00\x45", 3);
	memcpy(ip + 2, &total, 2);
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, up ? "\x0a\x4d\x00\x01\x0a\x4d\x00\x02" : "\x0a\x4d\x00\x02\x0a\x4d\x00\x01", 8);
	memcpy(tcp, up ? &port : &smtp, 2);
	memcpy(tcp + 2, up ? &smtp : &port, 2);
	memcpy(tcp + 4, &seq, 4);
	memcpy(tcp + 8, &ack, 4);
	tcp[12] = (uint8_t)(w->doff ? w->doff << 4 : 0x50);
	tcp[13] = s->flags ? s->flags : PACKET_ACK;
	memcpy(tcp + 14, &window, 2);
	memcpy(tcp + 20, s->payload ? s->payload : "", len);
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(h.pool);
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)(l3 + 40 + len + w->padding)), frame, l3 + 40 + len + w->padding);
	struct verdict *verdict = (struct verdict *)(rte_pktmbuf_mtod(mbuf, uint8_t *) - WAXSEAL_VERDICT_BYTES);
	*verdict = (struct verdict){.magic = WAXSEAL_VERDICT_MAGIC, .flow_hash = HASH, .action = w->icmp ? VERDICT_ICMP : VERDICT_SMTP,
	                            .flags = w->both_25 ? VERDICT_TO_PORT_25 | VERDICT_FROM_PORT_25 : up ? VERDICT_TO_PORT_25 : VERDICT_FROM_PORT_25,
	                            .vlan_tags = (uint8_t)w->tags, .l3_off = (uint16_t)l3, .l4_off = w->no_l4 ? 0 : (uint16_t)(l3 + 20)};
	return mbuf;
}

/* One burst; those that are not taken are freed. Returns which were, a bit each. */
static unsigned burst(unsigned count, const struct wire *wires)
{
	struct rte_mbuf *mbufs[FLOW_BURST_MAX];
	struct flow_burst looked;
	unsigned taken = 0;
	enum port_side from = (wires[0].seg.from == CLIENT) != wires[0].seg.wrong_side ? INSIDE : OUTSIDE;
	for (unsigned i = 0; i < count; i++)
		mbufs[i] = make(&wires[i]);
	h.now += 1000;
	h.damaged_passes = true; /* these frames have no checksums: none is looked at */
	flow_burst_find(h.table, &looked, mbufs, count, from);
	for (unsigned i = 0; i < count; i++) {
		if (flow_burst_pass(h.table, &looked, i, mbufs[i], h.now))
			taken |= 1u << i;
		else
			rte_pktmbuf_free(mbufs[i]);
	}
	return taken;
}
#define ONE(...) burst(1, &(struct wire){__VA_ARGS__})

static void sealed(void)
{
	h_handshake();
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
}

static void numbers_move_as_on_the_long_way(void **state)
{
	struct flow_track after[2][SIDES];
	uint64_t bytes[2];
	(void)state;
	for (int way = 0; way < 2; way++) {
		if (way) {
			flow_remove(h.table, h.last);
			h.established = h.sent_count = 0;
		}
		sealed();
		const struct wire wires[] = {
			{.seg = {.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1, .payload = "twelve bytes"}},
			{.seg = {.from = CLIENT, .flags = PACKET_ACK, .seq = 1, .ack = 1, .payload = "twelve"}},
			{.seg = {.from = CLIENT, .flags = PACKET_ACK | PACKET_PSH, .seq = 13, .ack = 1, .payload = "x"}},
			{.seg = {.from = CLIENT, .flags = PACKET_ACK, .seq = 14, .ack = 900, .payload = "y"}}, /* of what was never sent */
			{.seg = {.from = CLIENT, .flags = 0x40, .seq = 15, .ack = 1, .payload = "z"}},         /* no ACK at all */
		};
		const struct wire back[] = {{.seg = {.from = SERVER, .flags = PACKET_ACK, .seq = 1, .ack = 14, .payload = "reply"}},
		                            {.seg = {.from = SERVER, .flags = PACKET_ACK, .seq = 6, .ack = 2}}};
		if (way) {
			assert_int_equal(burst(5, wires), 31);
			assert_int_equal(burst(2, back), 3);
		} else {
			for (unsigned i = 0; i < 5; i++)
				h_packet(wires[i].seg);
			for (unsigned i = 0; i < 2; i++)
				h_packet(back[i].seg);
		}
		assert_int_equal(h.sent_count, 7);
		memcpy(after[way], h.last->side, sizeof(after[way]));
		bytes[way] = h.last->bytes[CLIENT] << 32 | h.last->bytes[SERVER];
		assert_int_equal(h.last->seen_us, h.now);
	}
	for (int s = 0; s < SIDES; s++) {
		assert_int_equal(after[0][s].next, after[1][s].next);
		assert_int_equal(after[0][s].acked, after[1][s].acked);
		assert_int_equal(after[0][s].edge, after[1][s].edge);
		assert_int_equal(after[0][s].heard, after[1][s].heard);
	}
	assert_int_equal(bytes[0], bytes[1]);
}

static void padding_is_left_behind(void **state)
{
	(void)state;
	sealed();
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .padding = 6), 1);
	assert_int_equal(h.last->bytes[CLIENT], 0);
	assert_int_equal(h.sent[0].len, 0);
}

static void what_could_change_the_flow_goes_the_long_way(void **state)
{
	static const uint8_t flags[] = {PACKET_SYN, PACKET_SYN | PACKET_ACK, PACKET_FIN | PACKET_ACK, PACKET_RST, PACKET_RST | PACKET_ACK};
	(void)state;
	sealed();
	for (unsigned i = 0; i < sizeof(flags); i++)
		assert_int_equal(ONE(.seg = {.from = CLIENT, .flags = flags[i], .seq = 1, .ack = 1}), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x", .wrong_side = true}), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}), 1);
	h_packet((struct seg){.from = SERVER, .flags = PACKET_FIN | PACKET_ACK, .seq = 1, .ack = 2});
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 2, .ack = 2}), 0); /* it may be the last one's acknowledgment */
}

static void what_is_not_as_long_as_it_says_goes_the_long_way(void **state)
{
	(void)state;
	sealed();
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}, .total_change = 1), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}, .total_change = -20), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .doff = 4), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .doff = 6), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .no_l4 = true), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .both_25 = true), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1}, .icmp = true), 0);
	assert_int_equal(h.sent_count, 0);
}

static void only_sealed_flows_of_that_name_pass(void **state)
{
	(void)state;
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}), 0);
	h_handshake();
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}), 0);
	flow_enter_state(h.table, h.last, FLOW_SEALING, h.now);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}), 0);
	flow_enter_state(h.table, h.last, FLOW_SEALED, h.now);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}, .tags = 1), 0);
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}), 1);
}

static void tags_are_part_of_the_name(void **state)
{
	struct packet packet;
	(void)state;
	for (unsigned tags = 1; tags <= 2; tags++) { /* joined, by the long way */
		struct rte_mbuf *mbuf = make(&(struct wire){.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}, .tags = tags});
		assert_int_equal(packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)), PACKET_OK);
		packet_update_checksums(&packet);
		flow_packet(h.table, mbuf, &packet, INSIDE, HASH, h.now);
		assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 2, .ack = 1, .payload = "y"}, .tags = tags), 1);
		assert_int_equal(ONE(.seg = {.from = SERVER, .seq = 1, .ack = 3, .payload = "y"}, .tags = tags), 1);
	}
	assert_int_equal(ONE(.seg = {.from = CLIENT, .seq = 2, .ack = 1, .payload = "y"}), 0);
	assert_int_equal(flow_count(h.table), 2);
}

/* A flow that was found is gone, or another one is in its place, when its turn in the burst comes. */
static void a_table_that_has_changed_is_not_trusted(void **state)
{
	struct flow_burst looked;
	(void)state;
	sealed();
	struct rte_mbuf *mbuf = make(&(struct wire){.seg = {.from = CLIENT, .seq = 1, .ack = 1, .payload = "x"}});
	flow_burst_find(h.table, &looked, &mbuf, 1, INSIDE);
	flow_remove(h.table, h.last);
	assert_false(flow_burst_pass(h.table, &looked, 0, mbuf, h.now));
	rte_pktmbuf_free(mbuf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, h_setup, h_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(numbers_move_as_on_the_long_way), TEST(padding_is_left_behind), TEST(what_could_change_the_flow_goes_the_long_way),
		TEST(what_is_not_as_long_as_it_says_goes_the_long_way), TEST(only_sealed_flows_of_that_name_pass), TEST(tags_are_part_of_the_name),
		TEST(a_table_that_has_changed_is_not_trusted),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
