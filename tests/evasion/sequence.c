/*
 * sequence.c - evasions in TCP's sequence space: two streams for one, ends that are none, connections within
 * connections. Rows are described in README.md under the same names.
 */
#include "scene.h"

#define MAIL "MAIL FROM:<mallory@client.example>\r\n"

/* After whatever was tried: MAIL is answered by waxseal, and the server does not hear of it. */
static void is_still_watched(void)
{
	says(CLIENT, MAIL);
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
	is_state(FLOW_TAKEN);
}

/* ---- one stream, two forms ---- */

static void overlap_before_approval(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "RSE");
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "MAIL\r\n"); /* only its tail is new */
	hears(SERVER, "RSEL\r\n");
	s.sent[CLIENT] += 6;
	SEG(.from = CLIENT, .seq = at + 8, .ack = ack, .text = "ET\r\n");
	SEG(.from = CLIENT, .seq = at + 6, .ack = ack, .text = "MAIL F");
	hears(SERVER, "MAET\r\n");
	MOVED(held_segments, 7); /* three before, as they passed */
	s.sent[CLIENT] += 6;
	says(SERVER, "500 what\r\n500 what\r\n");
	hears(CLIENT, "500 what\r\n500 what\r\n");
	is_still_watched();
}

static void overlap_after_approval(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	says(CLIENT, "NOOP\r\n");
	hears(SERVER, "NOOP\r\n");
	frames_out();
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "MAIL F"); /* never acknowledged: a server might take it */
	assert_int_equal(frames_out(), 1);
	MOVED(rewritten_segments, 1); /* scene.h: what left was NOOP again */
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "MAIL FROM:<mallory@client.example>\r\n");
	MOVED(rewritten_segments, 2);
	never_heard(SERVER, "MAIL");
}

static void low_ttl_decoy(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	SEG(.from = CLIENT, .seq = at, .ack = ack, .ttl = 1, .text = "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"); /* dies on the way */
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = MAIL);
	hears(SERVER, "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
	never_heard(SERVER, "MAIL");
	MOVED(rewritten_segments, 1);
}

static void out_of_order_mail_ahead_of_starttls(void **state)
{
	(void)state;
	hello(OFFERS);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	uint64_t held = stats_get(s.stats, STAT_held_segments);
	frames_out();
	SEG(.from = CLIENT, .seq = at + 10, .ack = ack, .text = MAIL);
	assert_int_equal(frames_out(), 0);
	MOVED(held_segments, held + 1);
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "STARTTLS\r\n");
	hears(SERVER, "STARTTLS\r\n");
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void bad_checksum_decoy(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	frames_out();
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", .bad_tcp_sum = true);
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "NOOP bbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", .bad_ip_sum = true);
	SEG(.from = CLIENT, .flags = RST, .seq = at, .bad_tcp_sum = true);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_checksum, 3);
	is_state(FLOW_DIALOGUE);
	is_still_watched();
}

/* ---- ends that are none ---- */

static void rst_out_of_window(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT] + 200000000);
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT] - 20000);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_reset, 2);
	is_still_watched();
}

static void rst_guessed_in_window(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT] + 77); /* the server challenges it: RFC 5961, section 3.2 */
	is_state(FLOW_DIALOGUE);
	is_still_watched();
}

static void rst_guessed_in_window_after_takeover(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_still_watched();
	frames_out();
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT] + 77);
	assert_int_equal(frames_out(), 1); /* waxseal's own challenge */
	MOVED(challenge_acks, 1);
	is_state(FLOW_TAKEN);
}

static void segment_out_of_window_after_takeover(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	is_still_watched();
	frames_out();
	SEG(.from = CLIENT, .seq = s.sent[CLIENT] + 200000000, .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "QUIT\r\n");
	assert_int_equal(frames_out(), 1); /* RFC 9293, 3.10.7.4: what is expected */
	MOVED(taken_unacceptable, 1); /* scene.h: and it is no drop_ beside taken_packets */
	is_state(FLOW_TAKEN);
}

static void rst_with_data(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .flags = RST | ACK, .seq = s.sent[CLIENT] + 77, .ack = (uint32_t)s.whole[CLIENT] + 1, .text = MAIL);
	assert_int_equal(frames_out(), 1);
	assert_int_equal(s.out[s.outs - 1].flags, RST | ACK);
	assert_int_equal(s.out[s.outs - 1].len, 0);
	is_still_watched();
}

static void rst_that_the_server_never_sees(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT], .ttl = 1);
	is_state(FLOW_CLOSED);
	says(CLIENT, MAIL);
	says(SERVER, "250 ok\r\n");
	never_heard(SERVER, "MAIL");
	MOVED(drop_state, 2);
	passes_us(SECONDS_US(30)); /* the flow is forgotten: joined in the middle, and in clear */
	s.sent[CLIENT] -= sizeof(MAIL) - 1;
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
}

static void rst_during_the_handshake_that_the_server_never_sees(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .flags = RST, .seq = 1, .ttl = 1);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	says(SERVER, "220 mx.example ESMTP\r\n");
	says(CLIENT, "HELO client.example\r\n" MAIL);
	never_heard(SERVER, "MAIL");
	never_heard(SERVER, "HELO");
	MOVED(drop_state, 2);
}

static void fin_out_of_window(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = s.sent[CLIENT] + 200000000, .ack = (uint32_t)s.whole[CLIENT] + 1);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_window, 1);
	is_still_watched();
}

static void fin_that_the_server_never_sees(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = s.sent[CLIENT], .ack = (uint32_t)s.whole[CLIENT] + 1, .ttl = 1);
	frames_out();
	says(CLIENT, MAIL); /* its first octet stands where the FIN stood */
	s.sent[CLIENT] = s.sent[CLIENT] - (sizeof(MAIL) - 1) + 1;
	says(CLIENT, MAIL);
	assert_int_equal(frames_out(), 0);
	never_heard(SERVER, "AIL");
	MOVED(drop_state, 2);
}

static void fin_held_with_data_behind_it(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	SEG(.from = CLIENT, .seq = at + 7, .ack = ack, .text = MAIL); /* behind the FIN that comes */
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = at + 2, .ack = ack, .text = "OP\r\n");
	SEG(.from = CLIENT, .seq = at, .ack = ack, .text = "NO");
	hears(SERVER, "NOOP\r\n");
	never_heard(SERVER, "MAIL");
	MOVED(held_segments, 6);
}

static void fin_on_old_octets(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = s.sent[CLIENT] - 6, .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "mple");
	SEG(.from = SERVER, .flags = FIN | ACK, .seq = s.sent[SERVER] - 4, .ack = (uint32_t)s.whole[SERVER] + 1, .text = "NG");
	for (unsigned i = 0; i < s.outs; i++)
		assert_false(s.out[i].flags & FIN);
	acks(CLIENT);
	is_state(FLOW_DIALOGUE);
	is_still_watched();
}

static void second_fin_before_the_first(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = at, .ack = ack, .text = "NOOP\r\n", .ttl = 1); /* dies on the way */
	frames_out();
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = at, .ack = ack, .text = "NO");
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = at, .ack = ack);
	assert_int_equal(frames_out(), 2);
	assert_int_equal((s.out[s.outs - 1].flags | s.out[s.outs - 2].flags) & FIN, 0);
	SEG(.from = CLIENT, .flags = FIN | ACK, .seq = at + 6, .ack = ack); /* the first again */
	assert_int_equal(s.out[s.outs - 1].flags & FIN, FIN);
}

/* ---- numbers that the receiver refuses ---- */

static void ack_of_what_was_never_sent(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .seq = s.sent[CLIENT], .ack = s.sent[SERVER] + 1, .text = "NOOP\r\n");
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 1);
	is_still_watched();
}

static void ack_older_than_any_window(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .seq = s.sent[CLIENT], .ack = (uint32_t)-900000000, .text = "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
	assert_int_equal(frames_out(), 0); /* RFC 5961, section 5: the server would drop it, so it is nobody's first copy */
	MOVED(drop_window, 1);
	is_still_watched();
}

static void no_ack_at_all(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .no_flags = true, .seq = s.sent[CLIENT], .text = "NOOP\r\n");
	SEG(.from = CLIENT, .flags = FIN, .seq = s.sent[CLIENT]);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 2);
	is_still_watched();
}

static void time_stamps_that_go_back(void **state)
{
	(void)state;
	handshake_with_time_stamps(1000, 5000);
	SEG(.from = SERVER, .seq = 1, .ack = 1, .text = "220 mx\r\n", .ts = true, .tsval = 5001, .tsecr = 1000);
	SEG(.from = CLIENT, .seq = 1, .ack = 9, .text = "HELO c\r\n", .ts = true, .tsval = 1010, .tsecr = 5001);
	SEG(.from = SERVER, .seq = 9, .ack = 9, .text = "250 mx\r\n", .ts = true, .tsval = 5011, .tsecr = 1010);
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .ts = true, .tsval = 1020, .tsecr = 5011);
	frames_out();
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .text = "NOOP\r\n", .ts = true, .tsval = 500, .tsecr = 5011); /* PAWS: RFC 7323, section 5 */
	assert_int_equal(frames_out(), 0);
	MOVED(drop_timestamp, 1);
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .text = "RSET\r\n", .ts = true, .tsval = 1021, .tsecr = 5011);
	s.read[SERVER] = 8;
	hears(SERVER, "RSET\r\n");
}

/* Time stamps of waxseal's own segments go on above the highest relayed, whatever came last. */
static void time_stamps_reordered_before_takeover(void **state)
{
	(void)state;
	handshake_with_time_stamps(1000, 5000);
	SEG(.from = SERVER, .seq = 1, .ack = 1, .text = "220 mx\r\n", .ts = true, .tsval = 0x7fff0000, .tsecr = 1000);
	SEG(.from = CLIENT, .seq = 1, .ack = 9, .text = "EHLO c\r\n", .ts = true, .tsval = 1010, .tsecr = 5001);
	SEG(.from = SERVER, .seq = 9, .ack = 9, .text = "250 mx\r\n", .ts = true, .tsval = 0x7fff0002, .tsecr = 1010);
	SEG(.from = SERVER, .seq = 17, .ack = 9, .ts = true, .tsval = 0x7fff0005, .tsecr = 1010);
	SEG(.from = SERVER, .seq = 9, .ack = 9, .text = "250 mx\r\n", .ts = true, .tsval = 0x7fff0003, .tsecr = 1010); /* late, and acceptable */
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .text = MAIL, .ts = true, .tsval = 1020, .tsecr = 5011);
	const struct out *last = &s.out[s.outs - 1];
	assert_int_equal(last->to, CLIENT);
	assert_true((int32_t)(get32(last->options + 4) - 0x7fff0005u) > 0);
}

/* ---- connections within the connection ---- */

static void syn_in_a_live_flow(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = SYN, .seq = 500000, .text = MAIL, .options = syn_options, .options_len = 12);
	is_state(FLOW_DIALOGUE);
	MOVED(syn_cleaned, 1);
	acks(SERVER); /* its challenge */
	never_heard(SERVER, "MAIL");
	is_still_watched();
}

/* The server has forgotten the old connection, waxseal has not: what follows is not the old, sealed one. */
static void syn_in_a_sealed_flow(void **state)
{
	(void)state;
	handshake();
	struct flow *flow = scene_flow();
	flow_enter_state(s.worker->flows, flow, FLOW_SEALING, s.now);
	flow_enter_state(s.worker->flows, flow, FLOW_SEALED, s.now);
	s.loose = true;
	uint32_t old = 900000;
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .text = "sealed");
	assert_int_equal(kernel_flows(), 1); /* its packets no longer come here */
	SEG(.from = CLIENT, .flags = SYN, .seq = old, .options = syn_options, .options_len = 12);
	assert_int_equal(kernel_flows(), 0);
	is_state(FLOW_SEALED);
	SEG(.from = SERVER, .flags = SYN | ACK, .seq = 500000, .ack = old + 1, .options = syn_options, .options_len = 12);
	assert_int_equal(scene_state(), NO_FLOW); /* the client's SYN comes again, and is seen from its beginning */
	SEG(.from = CLIENT, .flags = SYN, .seq = old, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .seq = 500000, .ack = old + 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = old + 1, .ack = 500001);
	is_state(FLOW_DIALOGUE);
	frames_out();
	SEG(.from = CLIENT, .seq = old + 1, .ack = 500001, .text = MAIL);
	assert_int_equal(frames_out(), 0);
	MOVED(flows_opened, 2);
	MOVED(drop_state, 1);
}

/* Two empty segments of a connection that is over leave an undecided flow; a SYN in its ports is none of it. */
static void syn_in_an_undecided_flow(void **state)
{
	static const uint8_t cookie[] = {34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1};
	(void)state;
	SEG(.from = CLIENT, .seq = 5000, .ack = 5000);
	is_state(FLOW_HANDSHAKE);
	SEG(.from = CLIENT, .flags = SYN, .options = cookie, .options_len = sizeof(cookie), .bytes = "\x17\x03\x03\x00\x20", .len = 5);
	assert_int_equal(s.outs, 2);
	assert_int_equal(s.out[1].len, 0);
	MOVED(syn_cleaned, 1);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	assert_int_equal(scene_state(), NO_FLOW);
	MOVED(drop_state, 1);
	hello(OFFERS_NOTHING); /* the client's SYN, sent again, is seen from its beginning */
	is_still_watched();
}

/* Handed over to the kernel it is as hard to speak in its name as it was before. */
static void sealed_flow_by_the_other_port(void **state)
{
	(void)state;
	handshake();
	struct flow *flow = scene_flow();
	flow_enter_state(s.worker->flows, flow, FLOW_SEALING, s.now);
	flow_enter_state(s.worker->flows, flow, FLOW_SEALED, s.now);
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .text = "sealed");
	SEG(.from = SERVER, .seq = 1, .ack = 7, .text = "too");
	assert_int_equal(kernel.passed, 1);
	frames_out();
	SEG(.from = CLIENT, .seq = 7, .ack = 4, .text = MAIL, .by_other_port = true);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 1);
	SEG(.from = CLIENT, .flags = RST, .seq = 999); /* beyond what either has seen */
	SEG(.from = CLIENT, .seq = 7, .ack = 4, .text = "on it goes");
	is_state(FLOW_SEALED);
}

static void second_syn_ack(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	frames_out();
	SEG(.from = SERVER, .flags = SYN | ACK, .seq = 4711, .ack = 1, .options = syn_options, .options_len = 12);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 1);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	is_state(FLOW_DIALOGUE);
	frames_out();
	SEG(.from = SERVER, .flags = SYN | ACK, .seq = 4711, .ack = 1); /* and when it is established */
	assert_int_equal(frames_out(), 0);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12); /* the first again: the ACK was lost */
	assert_int_equal(frames_out(), 1);
}

static void split_handshake(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	frames_out();
	SEG(.from = SERVER, .flags = ACK, .ack = 1);
	SEG(.from = SERVER, .flags = SYN, .options = syn_options, .options_len = 12); /* the client would answer SYN-ACK: roles turned */
	SEG(.from = CLIENT, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 3);
	is_state(FLOW_HANDSHAKE);
}

static void simultaneous_open(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .port = 25, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN, .port = 25, .options = syn_options, .options_len = 12);
	uint64_t before = s.others;
	SEG(.from = CLIENT, .flags = SYN | ACK, .port = 25, .ack = 1);
	SEG(.from = SERVER, .flags = SYN | ACK, .port = 25, .ack = 1);
	SEG(.from = CLIENT, .flags = ACK, .port = 25, .seq = 1, .ack = 1, .text = MAIL);
	SEG(.from = SERVER, .flags = ACK, .port = 25, .seq = 1, .ack = 1, .text = MAIL);
	assert_int_equal(s.others, before);
	MOVED(drop_state, 4);
}

static void syn_with_fin(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN | FIN, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .flags = SYN | RST, .options = syn_options, .options_len = 12);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 2);
	assert_int_equal(scene_state(), NO_FLOW);
}

static void handshake_ack_out_of_window(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 5000000, .ack = 1); /* the server does not take it for the third step */
	is_state(FLOW_HANDSHAKE);
	MOVED(drop_state, 1);
}

static void other_client_isn_after_the_syn_ack(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .flags = SYN, .seq = 70000); /* somebody in the client's name */
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	is_state(FLOW_DIALOGUE); /* and the connection goes on */
}

static void own_syn_doubled_by_the_network(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	is_state(FLOW_DIALOGUE);
	says(SERVER, "220 mx\r\n");
	hears(CLIENT, "220 mx\r\n");
	MOVED(flows_joined, 0);
}

static void packets_by_the_other_port(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	SEG(.from = CLIENT, .flags = RST, .seq = s.sent[CLIENT], .by_other_port = true);
	SEG(.from = SERVER, .seq = s.sent[SERVER], .ack = (uint32_t)s.whole[SERVER] + 1, .text = "250-STARTTLS\r\n", .by_other_port = true);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_state, 2);
	is_still_watched();
}

/* ---- windows ---- */

static void window_shrunk_to_nothing(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1);
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .window = 40); /* up to offset 41, and never more */
	SEG(.from = SERVER, .seq = 1, .ack = 1, .text = "220 mx\r\n");
	SEG(.from = CLIENT, .seq = 1, .ack = 9, .text = "HELO c\r\n", .window = 32);
	SEG(.from = SERVER, .seq = 9, .ack = 9, .text = "250 mx\r\n");
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .text = MAIL, .window = 1);
	is_state(FLOW_TAKEN);
	SEG(.from = SERVER, .seq = 17, .ack = (uint32_t)s.whole[SERVER] + 1);
	passes_us(SECONDS_US(20));
	SEG(.from = SERVER, .seq = 17, .ack = (uint32_t)s.whole[SERVER] + 1, .text = "502 no\r\n"); /* to an EHLO of waxseal's own */
	passes_us(SECONDS_US(20));
	assert_true(s.whole[CLIENT] <= 40);
	for (int i = 0; i < 4; i++) { /* open at last: the rest of the reply comes */
		SEG(.from = CLIENT, .seq = 9 + sizeof(MAIL) - 1, .ack = (uint32_t)s.whole[CLIENT] + 1, .window = 4096);
		passes_us(SECONDS_US(1));
	}
	s.read[CLIENT] = 16;
	assert_true(s.whole[CLIENT] > 60);
	hears_code(CLIENT, "451");
}

static void zero_window_forever(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1);
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .window = 16);
	SEG(.from = SERVER, .seq = 1, .ack = 1, .text = "220 mx\r\n");
	SEG(.from = CLIENT, .seq = 1, .ack = 9, .text = "EHLO c\r\n", .window = 8);
	SEG(.from = SERVER, .seq = 9, .ack = 9, .text = "250 mx\r\n");
	SEG(.from = CLIENT, .seq = 9, .ack = 17, .text = MAIL, .zero_window = true);
	is_state(FLOW_TAKEN);
	for (int i = 0; i < 200; i++) { /* it acknowledges every probe, and never opens */
		passes_us(SECONDS_US(10));
		if (scene_state() != FLOW_TAKEN)
			break;
		SEG(.from = CLIENT, .seq = 9 + sizeof(MAIL) - 1, .ack = 17, .zero_window = true);
	}
	assert_true(s.whole[CLIENT] <= 16 + 1); /* a probe of one octet */
	assert_int_not_equal(scene_state(), FLOW_TAKEN); /* and it does not hold its buffers for ever */
	assert_int_equal(s.worker->takeovers, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest rows[] = {
		ROW(overlap_before_approval), ROW(overlap_after_approval), ROW(low_ttl_decoy),
		ROW(out_of_order_mail_ahead_of_starttls), ROW(bad_checksum_decoy),
		ROW(rst_out_of_window), ROW(rst_guessed_in_window), ROW(rst_guessed_in_window_after_takeover), ROW(rst_with_data),
		ROW(segment_out_of_window_after_takeover),
		ROW(rst_that_the_server_never_sees), ROW(rst_during_the_handshake_that_the_server_never_sees),
		ROW(fin_out_of_window), ROW(fin_that_the_server_never_sees), ROW(fin_held_with_data_behind_it), ROW(fin_on_old_octets),
		ROW(second_fin_before_the_first),
		ROW(ack_of_what_was_never_sent), ROW(ack_older_than_any_window), ROW(no_ack_at_all),
		ROW(time_stamps_that_go_back), ROW(time_stamps_reordered_before_takeover),
		ROW(syn_in_a_live_flow), ROW(syn_in_a_sealed_flow), ROW(syn_in_an_undecided_flow), ROW(sealed_flow_by_the_other_port), ROW(second_syn_ack),
		ROW(split_handshake),
		ROW(simultaneous_open), ROW(syn_with_fin), ROW(handshake_ack_out_of_window), ROW(other_client_isn_after_the_syn_ack),
		ROW(own_syn_doubled_by_the_network), ROW(packets_by_the_other_port), ROW(window_shrunk_to_nothing), ROW(zero_window_forever),
	};
	return PLAY("sequence", rows, argc, argv);
}
