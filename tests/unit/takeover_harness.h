/*
 * takeover_harness.h - a takeover between two peers that are TCP endpoints themselves, over a perfect link.
 *
 * The tests write what a client and a server say, and read what each of them heard. The server may speak TLS,
 * by OpenSSL. Time moves only in scene_settle() and scene_wait().
 */
#ifndef TEST_TAKEOVER_HARNESS_H
#define TEST_TAKEOVER_HARNESS_H

#include "tls_peer.h"

#include "policy_lines.h"
#include "takeover/private.h"

#define CAPS (SMTP_CAP_STARTTLS | SMTP_CAP_PIPELINING | SMTP_CAP_SIZE | SMTP_CAP_CHUNKING)
#define TLS_HELLO "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-CHUNKING\r\n250 8BITMIME\r\n"

struct wire { enum side to; struct tcp_segment segment; uint8_t payload[2048]; };

static struct {
	struct takeover *t;
	struct takeover_env env;
	struct takeover_params params;
	struct tcp_endpoint *peer[SIDES];
	struct policy_image *image;
	struct cert ca, cert;
	char ca_file[32];
	struct peer tls;
	bool tls_on;
	bool lose_next; /* packet to the takeover */
	bool burst; /* the takeover's turn comes by hand, not after each packet */
	uint64_t now;
	struct wire queue[512];
	unsigned queued;
	char heard[SIDES][400000];
	size_t heard_len[SIDES];
	bool reset[SIDES];
} w;

static const struct policy_image *w_image(void *context) { (void)context; return w.image; }
static uint64_t w_unix(void *context) { (void)context; return 1700000000000000; }

static bool w_emit(void *context, void *session, enum side to, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	(void)context;
	(void)session;
	assert_true(w.queued < sizeof(w.queue) / sizeof(w.queue[0]));
	struct wire *wire = &w.queue[w.queued++];
	wire->to = to;
	wire->segment = *segment;
	assert_true(segment->payload_len <= sizeof(wire->payload));
	tcp_payload(endpoint, segment, wire->payload);
	return true;
}

static bool w_peer_emit(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	enum side from = *(enum side *)context;
	uint8_t payload[2048];
	if (w.lose_next) {
		w.lose_next = false;
		return true;
	}
	tcp_payload(endpoint, segment, payload);
	struct packet packet = {
		.frame = payload, .payload_len = segment->payload_len, .seq = segment->seq, .ack = segment->ack, .window = segment->window,
		.flags = segment->flags, .options = segment->ts ? PACKET_OPT_TS : 0, .tsval = segment->tsval, .tsecr = segment->tsecr,
		.sack_count = segment->sack_count,
	};
	for (int i = 0; i < segment->sack_count; i++)
		packet.sack[i] = (struct packet_sack){segment->sack[i].start, segment->sack[i].end};
	takeover_input(w.t, from, &packet, w.now);
	if (!w.burst)
		takeover_turn(w.t, w.now);
	return true;
}

static void w_hear(enum side side, const void *bytes, size_t len)
{
	assert_true(w.heard_len[side] + len < sizeof(w.heard[side]));
	memcpy(w.heard[side] + w.heard_len[side], bytes, len);
	w.heard_len[side] += len;
	w.heard[side][w.heard_len[side]] = 0;
}

static void w_read(enum side side)
{
	uint8_t bytes[16384];
	const uint8_t *piece;
	size_t len;
	while (piece = tcp_peek(w.peer[side], &len), len) {
		if (side == SERVER && w.tls_on)
			BIO_write(w.tls.in, piece, (int)len);
		else
			w_hear(side, piece, len);
		tcp_consume(w.peer[side], len);
	}
	if (side != SERVER || !w.tls_on)
		return;
	int got;
	while ((got = SSL_read(w.tls.ssl, bytes, sizeof(bytes))) > 0)
		w_hear(SERVER, bytes, (size_t)got);
	ERR_clear_error();
	size_t room;
	while ((room = tcp_write_room(w.peer[SERVER])) && (got = BIO_read(w.tls.out, bytes, (int)(room < sizeof(bytes) ? room : sizeof(bytes)))) > 0)
		tcp_write(w.peer[SERVER], bytes, (size_t)got);
}

/* Everything that moves at this instant. */
static bool w_move(void)
{
	bool moved = w.queued > 0;
	for (unsigned i = 0; i < w.queued; i++) {
		struct wire wire = w.queue[i];
		wire.segment.payload = wire.payload;
		if (wire.segment.flags & PACKET_RST)
			w.reset[wire.to] = true;
		tcp_input(w.peer[wire.to], &wire.segment, w.now);
	}
	w.queued = 0;
	for (enum side s = CLIENT; s <= SERVER; s++) {
		w_read(s);
		tcp_output(w.peer[s], w.now, w_peer_emit, &s);
	}
	return moved || w.queued;
}

static void scene_wait(uint64_t us)
{
	for (uint64_t end = w.now + us; w.now < end; w.now += us > 2000000 ? us / 100 : 10000) {
		while (w_move())
			;
		for (int s = 0; s < SIDES; s++)
			if (tcp_deadline_us(w.peer[s]) <= w.now)
				tcp_tick(w.peer[s], w.now);
		if (takeover_deadline_us(w.t) <= w.now)
			takeover_tick(w.t, w.now);
	}
}
static void scene_settle(void) { scene_wait(500000); }

static struct tcp_adoption w_numbers(uint32_t snd, uint32_t rcv)
{
	return (struct tcp_adoption){.snd_una = snd, .snd_nxt = snd, .rcv_nxt = rcv, .rcv_edge = rcv + 65535, .snd_wnd = 65535,
	                             .mss = 1400, .sack_ok = true, .rtt_us = 1000, .unacked = (const uint8_t *)""};
}

/* Rules as lines of a policy file; NULL ends the list. */
static void scene_policy(const char *const *lines)
{
	policy_image_close(w.image);
	w.image = image_of_lines(lines);
}
/* The scene's server as an MX of both domains: "bound.example" and "sts.example" call it "mx.example", and "other.example" by a
 * name of another. */
__attribute__((unused)) static void scene_findings(const char *const *lines, enum policy_tlsa state, const struct discovered_tlsa *records, size_t count)
{
	static const char *const patterns[] = {"*.example.net"};
	struct discovered_claim claims[3] = {{.domain = "bound.example", .mx = "mx.example"}, {.domain = "sts.example", .mx = "mx.sts.example"},
	                                     {.domain = "other.example", .mx = "other.mx.example"}};
	struct discovered_host host = {.mx = "mx.example", .base = "base.example", .tlsa = state, .records = records, .record_count = count};
	struct discovered_sts sts = {.domain = "sts.example", .mode = STS_ENFORCE, .mx = patterns, .mx_count = 1};
	struct discovered_seen seen = {.at = 1699999999};
	struct discovered found = {.claims = claims, .count = 3, .hosts = &host, .host_count = 1, .sts = &sts, .sts_count = 1, .seen = &seen, .seen_count = 1};

	for (int i = 0; i < 3; i++)
		memcpy(claims[i].addr, w.params.server_addr, 16);
	memcpy(seen.addr, w.params.server_addr, 16);
	policy_image_close(w.image);
	w.image = image_of_findings(lines, &found);
}
#define POLICY_FOUND(state, records, count, ...) scene_findings((const char *const[]){__VA_ARGS__, NULL}, state, records, count)
#define POLICY(...) scene_policy((const char *const[]){__VA_ARGS__, NULL})

__attribute__((unused)) static int scene_open(void **state)
{
	char error[256];
	(void)state;
	memset(&w, 0, sizeof(w));
	w.now = 1000000;
	w.ca = cert_make("lab CA", "CA", NULL, -1, 30);
	w.cert = cert_make("mx.example", "DNS:mx.example", &w.ca, -1, 30);
	cert_write(&w.ca, w.ca_file);
	w.env = (struct takeover_env){
		.pool = tcp_pool_new(4096), .tcp_limits = &tcp_limits_default, .stats = stats_new(),
		.tls = tls_context_new(&(struct tls_context_config){w.ca_file, 8, 8}, error, sizeof(error)),
		.memory = takeover_memory_new(16, 3600000000), .reply_timeout_us = 300000000, .data_reply_timeout_us = 600000000,
		.idle_timeout_us = 300000000, .tls_timeout_us = 30000000, .image = w_image, .emit = w_emit, .unix_time_us = w_unix,
	};
	w.params = (struct takeover_params){
		.end = {w_numbers(5000, 1000), w_numbers(1000, 5000)},
		.client_addr = {[10] = 0xff, 0xff, 10, 77, 1, 1},
		.server_addr = {[10] = 0xff, 0xff, 10, 77, 2, 1}, .server_port = 25, .flow_hash = 7, .ehlo = true,
		.capabilities = CAPS, .client_name = "client.example", .server_name = "mx.example",
	};
	POLICY("* level=encrypt");
	return 0;
}

static void scene_begin(void)
{
	struct tcp_adoption client = w_numbers(1000, 5000), server = w_numbers(5000, 1000);
	w.peer[CLIENT] = tcp_adopt(w.env.pool, &client, &tcp_limits_default, w.now);
	w.peer[SERVER] = tcp_adopt(w.env.pool, &server, &tcp_limits_default, w.now);
	w.t = takeover_new(&w.env, &w.params, w.now);
	assert_non_null(w.t);
}

__attribute__((unused)) static int scene_close(void **state)
{
	(void)state;
	takeover_free(w.t);
	for (int s = 0; s < SIDES; s++)
		if (w.peer[s])
			tcp_free(w.peer[s]);
	assert_int_equal(tcp_pool_used(w.env.pool), 0);
	peer_free(&w.tls);
	tcp_pool_free(w.env.pool);
	stats_free(w.env.stats);
	tls_context_free(w.env.tls);
	takeover_memory_free(w.env.memory);
	policy_image_close(w.image);
	cert_free(&w.ca);
	cert_free(&w.cert);
	return unlink(w.ca_file);
}

static void says(enum side side, const char *text)
{
	if (side == SERVER && w.tls_on)
		assert_true(SSL_write(w.tls.ssl, text, (int)strlen(text)) > 0);
	else
		assert_int_equal(tcp_write(w.peer[side], (const uint8_t *)text, strlen(text)), strlen(text));
	scene_settle();
}

static void hears(enum side side, const char *text)
{
	assert_string_equal(w.heard[side], text);
	w.heard_len[side] = 0;
	w.heard[side][0] = 0;
}

/* The server answers 220 and begins TLS with `cert`. */
static void server_begins_tls(const struct cert *cert)
{
	hears(SERVER, "STARTTLS\r\n");
	if (!w.tls.ctx)
		w.tls = peer_new(true, cert, TLS1_2_VERSION, TLS1_3_VERSION);
	peer_begin(&w.tls, true);
	tcp_write(w.peer[SERVER], (const uint8_t *)"220 go\r\n", 8);
	w.tls_on = true; /* what is heard from here on is TLS */
	scene_settle();
}

/* The same env and policy, with new peers. */
__attribute__((unused)) static void scene_again(void)
{
	takeover_free(w.t);
	w.t = NULL;
	for (int s = 0; s < SIDES; s++) {
		tcp_free(w.peer[s]);
		w.heard_len[s] = w.heard[s][0] = 0;
		w.reset[s] = false;
	}
	w.tls_on = false;
	w.queued = 0;
	scene_begin();
}

/* Up to the point where the held command is dealt with. */
__attribute__((unused)) static void server_upgrades(void)
{
	server_begins_tls(&w.cert);
	hears(SERVER, "EHLO client.example\r\n");
	says(SERVER, TLS_HELLO);
}

#define MAIL "MAIL FROM:<a@inside.example>\r\n"

/* A session whose MAIL has been taken inside TLS. */
__attribute__((unused)) static void in_tls(void)
{
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	hears(SERVER, MAIL);
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
}

__attribute__((unused)) static struct takeover_outcome outcome(void)
{
	struct takeover_outcome o;
	takeover_outcome(w.t, &o);
	return o;
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)

#endif
