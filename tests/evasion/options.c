/*
 * options.c - evasions in headers: SYN options, data on SYN, urgent data, fragments, extension chains. The classifier
 * sees fragments and chains first (tests/bpf); here they reach the worker in spite of it.
 */
#include "scene.h"

#define MAIL "MAIL FROM:<mallory@client.example>\r\n"

static void is_still_watched(void)
{
	says(CLIENT, MAIL);
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
}

static void no_option_left(unsigned frame, uint8_t kind)
{
	for (unsigned i = 0; i < 40 && s.out[frame].options[i];) {
		assert_int_not_equal(s.out[frame].options[i], kind);
		i += s.out[frame].options[i] == 1 ? 1 : s.out[frame].options[i + 1];
	}
}

static void data_on_syn(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12, .text = "EHLO c\r\n" MAIL);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12, .text = "250-STARTTLS\r\n");
	assert_int_equal(s.outs, 2);
	assert_int_equal(s.out[0].len, 0);
	assert_int_equal(s.out[1].len, 0);
	MOVED(syn_cleaned, 2);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	is_state(FLOW_DIALOGUE);
}

/* A cookie asked for, a cookie sent with data, and the experimental option of before. */
static void tcp_fast_open(void **state)
{
	static const uint8_t ask[] = {34, 2, 1, 1}, cookie[] = {34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}, old[] = {254, 8, 0xf9, 0x89, 1, 2, 3, 4};
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = ask, .options_len = sizeof(ask));
	SEG(.from = CLIENT, .flags = SYN, .options = cookie, .options_len = sizeof(cookie), .text = MAIL);
	SEG(.from = CLIENT, .flags = SYN, .options = old, .options_len = sizeof(old), .text = MAIL);
	assert_int_equal(s.outs, 3);
	for (unsigned i = 0; i < 3; i++) {
		no_option_left(i, 34);
		no_option_left(i, 254);
		assert_int_equal(s.out[i].len, 0);
	}
	MOVED(syn_cleaned, 3);
}

/* A session on several paths shows each of them a part. */
static void multipath_tcp(void **state)
{
	static const uint8_t capable[] = {30, 12, 0x00, 0x81, 1, 2, 3, 4, 5, 6, 7, 8}, join[] = {30, 12, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8};
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = capable, .options_len = 12);
	SEG(.from = CLIENT, .flags = SYN, .options = join, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = capable, .options_len = 12);
	assert_int_equal(s.outs, 3);
	for (unsigned i = 0; i < 3; i++)
		no_option_left(i, 30);
	MOVED(syn_cleaned, 3);
}

/* An option that servers ignore, and that keeps waxseal from building segments. */
static void authentication_option_against_takeover(void **state)
{
	static const uint8_t ao[] = {29, 16, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = ao, .options_len = 16);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	says(SERVER, "220 mx\r\n");
	says(CLIENT, "EHLO c\r\n");
	says(SERVER, OFFERS_NOTHING);
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(takeover_impossible, 1);
	s.read[CLIENT] = 8 + sizeof(OFFERS_NOTHING) - 1;
	is_turned_away();
}

static void authentication_option_where_clear_is_allowed(void **state)
{
	static const uint8_t ao[] = {29, 16, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	(void)state;
	POLICY("* level=may");
	SEG(.from = CLIENT, .flags = SYN, .options = ao, .options_len = 16);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1);
	SEG(.from = CLIENT, .seq = 1, .ack = 1);
	says(SERVER, "220 mx\r\n");
	says(CLIENT, "EHLO c\r\n");
	says(SERVER, OFFERS);
	says(CLIENT, MAIL);
	is_state(FLOW_CLEAR);
	MOVED(takeover_impossible, 1);
}

/* Servers read urgent data inline or leave it out: "MxAIL" without its urgent octet. */
static void urgent_data(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	SEG(.from = CLIENT, .flags = ACK | URG, .urgent = 3, .seq = s.sent[CLIENT], .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "NOxOP\r\n");
	hears(SERVER, "NOxOP\r\n");
	assert_int_equal(s.out[s.outs - 1].flags & URG, 0);
	assert_int_equal(s.out[s.outs - 1].urgent, 0);
	s.sent[CLIENT] += 7;
	says(SERVER, "500 what\r\n");
	s.read[CLIENT] = s.whole[CLIENT];
	is_still_watched();
}

static void broken_options(void **state)
{
	static const uint8_t endless[] = {2, 0, 1, 1}, past[] = {3, 40, 1, 1}, mss[] = {2, 3, 1, 1};
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = endless, .options_len = 4);
	SEG(.from = CLIENT, .flags = SYN, .options = past, .options_len = 4);
	SEG(.from = CLIENT, .flags = SYN, .options = mss, .options_len = 4);
	assert_int_equal(s.outs, 0);
	MOVED(drop_malformed, 3);
}

static void low_ttl_of_the_first_packet(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .seq = 1, .ack = 1, .ttl = 1); /* would mark waxseal's segments to the server, and TLS would fail */
	says(SERVER, "220 mx\r\n");
	says(CLIENT, "EHLO c\r\n");
	says(SERVER, OFFERS);
	says(CLIENT, MAIL);
	s.read[SERVER] = 8;
	hears(SERVER, "STARTTLS\r\n");
	assert_int_equal(s.out[s.outs - 1].to, SERVER);
	assert_int_equal(s.out[s.outs - 1].ttl, 64);
}

/* ---- fragments and chains ---- */

static void ip_fragments(void **state)
{
	uint8_t frame[2048];
	(void)state;
	hello(OFFERS_NOTHING);
	frames_out();
	struct seg seg = {.from = CLIENT, .seq = s.sent[CLIENT], .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "NOOP\r\n"};
	size_t len = make_frame(&seg, frame);
	for (unsigned i = 0; i < 3; i++) { /* first, middle, overlapping the TCP header */
		put16(frame + 20, (unsigned[]){0x2000, 0x2003, 0x0001}[i]);
		put16(frame + 24, 0);
		put16(frame + 24, sum_fold(sum16(0, frame + 14, 20)));
		put_frame(frame, len, INSIDE, VERDICT_SMTP);
	}
	put16(frame + 16, 28); /* tiny: eight octets of TCP */
	put16(frame + 20, 0x2000);
	put_frame(frame, 42, INSIDE, VERDICT_SMTP);
	assert_int_equal(frames_out(), 0);
	MOVED(drop_fragment, 4);
	is_still_watched();
}

/* Ethernet, IPv6, `chain` of `chain_len` octets that ends before TCP, and a SYN. */
static size_t ipv6_syn(uint8_t *frame, const uint8_t *chain, size_t chain_len, uint8_t first)
{
	uint8_t *ip = frame + 14, *tcp = ip + 40 + chain_len;
	memset(frame, 0, 14 + 40 + chain_len + 20);
	frame[12] = 0x86;
	frame[13] = 0xdd;
	ip[0] = 0x60;
	put16(ip + 4, (uint32_t)(chain_len + 20));
	ip[6] = first;
	ip[7] = 64;
	memcpy(ip + 8, (uint8_t[]){0xfd, 0x77, [15] = 1}, 16);
	memcpy(ip + 24, (uint8_t[]){0xfd, 0x77, [15] = 2}, 16);
	memcpy(ip + 40, chain, chain_len);
	put16(tcp, SCENE_PORT);
	put16(tcp + 2, 25);
	tcp[12] = 0x50;
	tcp[13] = SYN;
	put16(tcp + 16, sum_fold(sum16(sum16(6 + 20, ip + 8, 32), tcp, 20)));
	return 14 + 40 + chain_len + 20;
}

static void ipv6_chains(void **state)
{
	uint8_t frame[256], seven[56] = {0}, endless[8] = {6, 255};
	(void)state;
	for (unsigned i = 0; i < 7; i++)
		seven[i * 8] = i < 6 ? 60 : 6;
	put_frame(frame, ipv6_syn(frame, seven, 56, 60), INSIDE, VERDICT_SMTP); /* one header more than is walked */
	put_frame(frame, ipv6_syn(frame, endless, 8, 60), INSIDE, VERDICT_SMTP); /* past the packet's end */
	MOVED(drop_malformed, 2);
	put_frame(frame, ipv6_syn(frame, (uint8_t[]){6, 0, 0, 1, 0, 0, 0, 9}, 8, 44), INSIDE, VERDICT_SMTP); /* a first fragment */
	put_frame(frame, ipv6_syn(frame, (uint8_t[]){6, 0, 0, 8, 0, 0, 0, 9}, 8, 44), INSIDE, VERDICT_SMTP); /* a later one */
	MOVED(drop_fragment, 2);
	assert_int_equal(flow_count(s.worker->flows), 0);
}

static void ipv6_syn_that_is_watched(const uint8_t *chain, size_t len, uint8_t first)
{
	uint8_t frame[256];
	size_t n = ipv6_syn(frame, chain, len, first);
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(s.pool);
	memcpy(rte_pktmbuf_append(mbuf, (uint16_t)n), frame, n);
	struct packet packet;
	assert_int_equal(packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), n), PACKET_OK);
	assert_true(packet_checksums_ok(&packet));
	flow_packet(s.worker->flows, mbuf, &packet, INSIDE, 7, s.now);
	for (int p = 0; p < PORTS; p++) { /* what scene.h cannot read: it has IPv4 only */
		rte_pktmbuf_free_bulk(s.worker->tx[p], s.worker->tx_count[p]);
		s.worker->tx_count[p] = 0;
	}
	assert_int_equal(flow_count(s.worker->flows), 1);
	assert_int_equal(flow_at(s.worker->flows, 0) || flow_at(s.worker->flows, 1), 1);
	MOVED(flows_opened, 1);
}

/* RFC 6946: a whole packet that says it is a fragment. A filter that passes all fragments would not look at it. */
static void ipv6_atomic_fragment(void **state)
{
	(void)state;
	ipv6_syn_that_is_watched((uint8_t[]){6, 0, 0, 0, 0, 0, 0, 9}, 8, 44);
}

static void ipv6_chain_within_the_limit(void **state)
{
	uint8_t six[48] = {0};
	(void)state;
	for (unsigned i = 0; i < 6; i++)
		six[i * 8] = i < 5 ? 60 : 6;
	ipv6_syn_that_is_watched(six, 48, 60);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest rows[] = {
		ROW(data_on_syn), ROW(tcp_fast_open), ROW(multipath_tcp), ROW(authentication_option_against_takeover),
		ROW(authentication_option_where_clear_is_allowed), ROW(urgent_data), ROW(broken_options), ROW(low_ttl_of_the_first_packet),
		ROW(ip_fragments), ROW(ipv6_chains), ROW(ipv6_atomic_fragment), ROW(ipv6_chain_within_the_limit),
	};
	return PLAY("options", rows, argc, argv);
}
