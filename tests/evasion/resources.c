/*
 * resources.c - evasions by exhaustion: the table, the held segments, the buffers, the takeovers. The outcome is the
 * configured one, counted; what was established goes on; when the pressure ends, so does its effect.
 */
#include "scene.h"

#define MAIL "MAIL FROM:<mallory@client.example>\r\n"

static void other_syn(uint32_t client, uint16_t port)
{
	SEG(.from = CLIENT, .client = client, .port = port, .flags = SYN, .options = syn_options, .options_len = 12);
}
static void other_session(uint32_t client, uint16_t port)
{
	other_syn(client, port);
	SEG(.from = SERVER, .client = client, .port = port, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	SEG(.from = CLIENT, .client = client, .port = port, .seq = 1, .ack = 1);
}
static void is_refused_with_451(void)
{
	says(CLIENT, MAIL);
	passes_us(SECONDS_US(1));
	hears_code(CLIENT, "451");
	never_heard(SERVER, "MAIL");
}

static void syn_flood(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	for (uint32_t i = 0; i < 5000; i++) /* spoofed: every SYN from another /24 */
		other_syn(0x0b000001u + (i << 8), 1000);
	assert_true(flow_count(s.worker->flows) <= SCENE_FLOWS / 4 + 1);
	assert_true(stats_get(s.stats, STAT_flows_evicted) >= 5000 - SCENE_FLOWS / 4);
	MOVED(flows_refused, 0);
	is_state(FLOW_DIALOGUE); /* the established session goes on ... */
	other_session(0x0a4d0505u, 2000); /* ... and a new one comes through the flood */
	assert_int_equal(s.worker->flows->embryonic_count, SCENE_FLOWS / 4 - 1);
	is_refused_with_451();
}

static void syn_said(void)
{
	SEG(.from = CLIENT, .flags = SYN, .options = syn_options, .options_len = 12);
}
static bool syn_ack_passes(void)
{
	frames_out();
	SEG(.from = SERVER, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	return frames_out() == 1;
}
static void flood(void)
{
	for (uint32_t i = 0; i < 1000; i++)
		other_syn(0x0b000001u + (i << 8), 1000);
}

/* It outruns the server's answer. */
static void syn_flood_before_the_syn_ack(void **state)
{
	(void)state;
	syn_said();
	flood();
	assert_false(syn_ack_passes());
	assert_false(syn_ack_passes()); /* the server's timer */
	MOVED(drop_forgotten, 2);
	is_state(NO_FLOW);
	hello(OFFERS_NOTHING); /* the client's timer: from its SYN on */
	is_refused_with_451();
	MOVED(flows_joined, 0);
}

/* The operator's word about what is not seen from its beginning: it is not for a flood to change. */
static void syn_flood_before_the_syn_ack_where_it_may_pass(void **state)
{
	static const char *const rules[] = {"* level=encrypt unknown=pass", "* level=none", "* level=encrypt mode=observe"};
	(void)state;
	flood();
	for (unsigned i = 0; i < 3; i++) {
		POLICY(rules[i]);
		assert_true(syn_ack_passes());
	}
	MOVED(drop_forgotten, 0);
}

/* ... and where the rule itself would let it pass, another one may be in force: a customer's, a recipient's. */
static void syn_flood_before_the_syn_ack_where_another_rule_wants_tls(void **state)
{
	(void)state;
	flood();
	POLICY("* level=encrypt mode=observe", "client:10.77.0.0/16 level=encrypt");
	assert_false(syn_ack_passes());
	POLICY("* level=encrypt unknown=pass", "client:10.77.0.0/16 level=encrypt");
	assert_false(syn_ack_passes());
	POLICY("* level=may mode=observe", "strict.example level=encrypt");
	assert_false(syn_ack_passes());
	POLICY("* level=encrypt unknown=reset");
	assert_false(syn_ack_passes());
	MOVED(drop_forgotten, 4);
	passes_us(SECONDS_US(100)); /* the flood is over, and no SYN of then is waiting any more: a path of which one half is seen */
	assert_true(syn_ack_passes());
}

static void syn_flood_spares_the_answered(void **state)
{
	const uint32_t client = 0x0a4d0505u;
	(void)state;
	other_syn(client, 2000);
	SEG(.from = SERVER, .client = client, .port = 2000, .flags = SYN | ACK, .ack = 1, .options = syn_options, .options_len = 12);
	for (uint32_t i = 0; i < 5000; i++)
		other_syn(0x0b000001u + (i << 8), 1000);
	SEG(.from = CLIENT, .client = client, .port = 2000, .seq = 1, .ack = 1);
	MOVED(flows_evicted_answered, 0);
	MOVED(flows_joined, 0);
	assert_int_equal(s.worker->flows->answered_count, 0); /* it is one of those that are watched */
	assert_int_equal(s.worker->flows->embryonic_count, SCENE_FLOWS / 4 - 1);
}

static void embryonic_flows_age(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		other_syn(0x0b000001u + (i << 8), 1000);
	assert_int_equal(flow_count(s.worker->flows), 100);
	passes_us(SECONDS_US(60));
	other_syn(0x0b000001u, 1000); /* said again: not a new lease */
	passes_us(SECONDS_US(45));
	assert_int_equal(flow_count(s.worker->flows), 0);
	MOVED(flows_aged, 100);
}

/* Established sessions, all of one /24. */
static void one_host_takes_the_table(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2 * SCENE_FLOWS; i++)
		other_session(0x0b010101u + i % 200, (uint16_t)(1000 + i));
	assert_int_equal(flow_count(s.worker->flows), SCENE_FLOWS / 2);
	assert_true(stats_get(s.stats, STAT_flows_refused_prefix) >= SCENE_FLOWS);
	hello(OFFERS_NOTHING); /* another host */
	is_refused_with_451();
}

static void joined_flows_of_one_packet(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100; i++) /* looks like TLS, so it passes; nobody ever answers */
		SEG(.from = CLIENT, .client = 0x0b000001u + (i << 8), .port = 1000, .seq = 5000, .ack = 5000, .bytes = "\x17\x03\x03\x00\x20", .len = 5);
	assert_int_equal(flow_count(s.worker->flows), 100);
	passes_us(SECONDS_US(700)); /* not the two hours of a session between two peers */
	assert_int_equal(flow_count(s.worker->flows), 0);
	MOVED(flows_aged, 100);
}

static void held_segments_of_one_flow(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT], ack = (uint32_t)s.whole[CLIENT] + 1;
	for (uint32_t i = 0; i < 500; i++) /* each with a hole before it */
		SEG(.from = CLIENT, .seq = at + 100 + 2 * i, .ack = ack, .text = "x");
	assert_int_equal(flow_held_total(s.worker->flows), flow_limits_default.held_segments_max);
	MOVED(drop_held_limit, 500 - flow_limits_default.held_segments_max);
	says(CLIENT, "NOOP\r\n"); /* in order: goes on */
	hears(SERVER, "NOOP\r\n");
}

static int scene_open_few_held(void **state)
{
	(void)state;
	scene_clear();
	struct worker_config config = scene_config();
	config.flows.held_segments_total_max = 64;
	return scene_open_with(&config);
}

/* Others' segments out of order leave room for what is in order. */
static void held_segments_of_many_flows(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 100; i++) {
		other_session(0x0b010101u, (uint16_t)(1000 + i));
		SEG(.from = CLIENT, .client = 0x0b010101u, .port = (uint16_t)(1000 + i), .seq = 50, .ack = 1, .text = "x");
	}
	assert_int_equal(flow_held_total(s.worker->flows), 32);
	MOVED(drop_held_limit, 68);
	hello(OFFERS_NOTHING);
	is_refused_with_451();
}

static int scene_open_no_takeovers(void **state)
{
	(void)state;
	scene_clear();
	struct worker_config config = scene_config();
	config.takeovers_max = 0;
	return scene_open_with(&config);
}

static void takeovers_exhausted_overload_reset(void **state)
{
	(void)state;
	POLICY("* level=encrypt overload=reset");
	hello(OFFERS);
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(takeover_no_memory, 1);
	is_turned_away();
}

/* The operator's choice, and the default: mail goes on, and is counted. */
static void takeovers_exhausted_overload_pass(void **state)
{
	(void)state;
	POLICY("* level=encrypt overload=pass");
	hello(OFFERS);
	says(CLIENT, MAIL);
	hears(SERVER, MAIL);
	is_state(FLOW_CLEAR);
	MOVED(takeover_no_memory, 1);
}

/* (measure) A rule that is only observed refuses nobody, for lack of room neither. */
static void takeovers_exhausted_where_the_rule_is_observed(void **state)
{
	(void)state;
	POLICY("* level=encrypt mode=observe overload=reset");
	hello(OFFERS);
	says(CLIENT, "MAI"); /* and stalls: only adoption would get the rest */
	passes_us(200000);
	says(CLIENT, "L FROM:<a@b.example>\r\n");
	hears(SERVER, "MAIL FROM:<a@b.example>\r\n");
	MOVED(takeover_no_memory, 1);
	is_state(FLOW_CLEAR);
}

/* One handshake at a time, and one session that may wait for it. */
static int scene_open_one_handshake(void **state)
{
	(void)state;
	scene_clear();
	struct worker_config config = scene_config();
	config.handshakes_max = config.handshakes_waiting_max = 1;
	return scene_open_with(&config);
}

#define OTHER 0x0a4d0909u
static const char banner[] = "220 mx.example ESMTP\r\n", ehlo[] = "EHLO other.example\r\n";
/* The server's numbers behind its offers. */
static const uint32_t offered = sizeof(banner) + sizeof(OFFERS) - 1, asked = sizeof(ehlo);

/* A session of somebody else's, up to its MAIL. */
static void other_mail(uint16_t port)
{
	other_session(OTHER, port);
	SEG(.from = SERVER, .client = OTHER, .port = port, .seq = 1, .ack = 1, .text = banner);
	SEG(.from = CLIENT, .client = OTHER, .port = port, .seq = 1, .ack = sizeof(banner), .text = ehlo);
	SEG(.from = SERVER, .client = OTHER, .port = port, .seq = sizeof(banner), .ack = asked, .text = OFFERS);
	SEG(.from = CLIENT, .client = OTHER, .port = port, .seq = asked, .ack = offered, .text = MAIL);
}

static void handshakes_are_admitted_in_turn(void **state)
{
	(void)state;
	other_mail(1000);
	assert_int_equal(s.worker->handshakes, 1);
	hello(OFFERS);
	says(CLIENT, MAIL);
	never_heard(SERVER, "STARTTLS"); /* it waits, and nothing of it passes */
	never_heard(SERVER, "MAIL");
	is_state(FLOW_DIALOGUE);
	MOVED(handshakes_waited, 1);
	acks(SERVER);
	never_heard(SERVER, "STARTTLS");
	SEG(.from = SERVER, .client = OTHER, .port = 1000, .flags = RST | ACK, .seq = offered, .ack = asked + 10); /* its STARTTLS is under way */
	passes_us(SECONDS_US(40)); /* or its time is over */
	hears(SERVER, "STARTTLS\r\n");
	is_state(FLOW_TAKEN);
	MOVED(handshakes_refused, 0);
}

static void too_many_wait_for_a_handshake(void **state)
{
	(void)state;
	POLICY("* level=encrypt overload=reset");
	other_mail(1000);
	other_mail(1001);
	MOVED(handshakes_waited, 1);
	hello(OFFERS);
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(handshakes_refused, 1);
	is_turned_away();
}

static void one_that_waits_may_give_up(void **state)
{
	(void)state;
	other_mail(1000);
	other_mail(1001);
	assert_int_equal(s.worker->waiting_count, 1);
	SEG(.from = CLIENT, .client = OTHER, .port = 1001, .flags = RST | ACK, .seq = asked + sizeof(MAIL) - 1, .ack = offered);
	assert_int_equal(s.worker->waiting_count, 0);
	hello(OFFERS);
	says(CLIENT, MAIL);
	MOVED(handshakes_refused, 0);
	MOVED(handshakes_waited, 2);
}

/* ... but where a recipient's rule may be in force. */
static void takeovers_exhausted_where_only_a_domain_wants_tls(void **state)
{
	(void)state;
	POLICY("* level=encrypt mode=observe overload=reset", "strict.example level=encrypt");
	hello(OFFERS);
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(takeover_no_memory, 1);
	is_turned_away();
}

static void no_packet_buffer_for_a_split(void **state)
{
	struct rte_mbuf *taken[SCENE_BUFFERS];
	unsigned n = 0;
	(void)state;
	greeting();
	while (n < SCENE_BUFFERS - 1 && rte_mempool_avail_count(s.pool) > 1 && (taken[n] = rte_pktmbuf_alloc(s.pool)))
		n++;
	says(CLIENT, "EHLO client.example\r\n" MAIL); /* takes the last one; its head needs another */
	MOVED(drop_no_mbuf, 1);
	rte_pktmbuf_free_bulk(taken, n);
	never_heard(SERVER, "MAIL");
	SEG(.from = CLIENT, .seq = 1, .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "EHLO client.example\r\n" MAIL); /* again */
	hears(SERVER, "EHLO client.example\r\n"); /* recovered */
	never_heard(SERVER, "MAIL");
}

/* The server reads nothing: what it was promised is kept, but no more than the limit. */
static void server_that_never_acknowledges(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	uint32_t at = s.sent[CLIENT];
	for (uint32_t i = 0; i < 1500; i++)
		SEG(.from = CLIENT, .seq = at + 6 * i, .ack = (uint32_t)s.whole[CLIENT] + 1, .text = "NOOP\r\n");
	assert_true(stats_get(s.stats, STAT_held_segments) >= SMTP_PIPELINE_MAX);
	uint32_t kept;
	const struct flow *flow = scene_flow();
	if (flow && flow->stream) {
		flow_kept(flow, CLIENT, &kept);
		assert_true(kept <= FLOW_KEPT_BYTES_MAX);
	}
	assert_true(s.whole[SERVER] <= 21 + FLOW_KEPT_BYTES_MAX);
	assert_true(flow_held_total(s.worker->flows) <= flow_limits_default.held_segments_max + 2);
}

static void dialogue_that_stands_still(void **state)
{
	(void)state;
	hello(OFFERS_NOTHING);
	passes_us(SECONDS_US(700));
	assert_int_equal(scene_state(), NO_FLOW);
	MOVED(flows_aged, 1);
	s.sent[CLIENT]++; /* and then goes on in clear: joined in the middle */
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	is_state(FLOW_CUT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest rows[] = {
		ROW(syn_flood), ROW(syn_flood_before_the_syn_ack), ROW(syn_flood_before_the_syn_ack_where_it_may_pass),
		ROW(syn_flood_before_the_syn_ack_where_another_rule_wants_tls), ROW(syn_flood_spares_the_answered),
		ROW(embryonic_flows_age), ROW(one_host_takes_the_table), ROW(joined_flows_of_one_packet),
		ROW(held_segments_of_one_flow),
		cmocka_unit_test_setup_teardown(held_segments_of_many_flows, scene_open_few_held, scene_close),
		cmocka_unit_test_setup_teardown(takeovers_exhausted_overload_reset, scene_open_no_takeovers, scene_close),
		cmocka_unit_test_setup_teardown(takeovers_exhausted_overload_pass, scene_open_no_takeovers, scene_close),
		cmocka_unit_test_setup_teardown(takeovers_exhausted_where_the_rule_is_observed, scene_open_no_takeovers, scene_close),
		cmocka_unit_test_setup_teardown(handshakes_are_admitted_in_turn, scene_open_one_handshake, scene_close),
		cmocka_unit_test_setup_teardown(too_many_wait_for_a_handshake, scene_open_one_handshake, scene_close),
		cmocka_unit_test_setup_teardown(one_that_waits_may_give_up, scene_open_one_handshake, scene_close),
		cmocka_unit_test_setup_teardown(takeovers_exhausted_where_only_a_domain_wants_tls, scene_open_no_takeovers, scene_close),
		ROW(no_packet_buffer_for_a_split), ROW(server_that_never_acknowledges), ROW(dialogue_that_stands_still),
	};
	return PLAY("resources", rows, argc, argv);
}
