/* tls/client.c: handshakes with real OpenSSL servers, and the facts that come of them. */
#include "tls_peer.h"

#include <time.h>

/* OpenSSL's clock, in client and server alike. */
static time_t ahead_s;
time_t time(time_t *at)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += ahead_s;
	return at ? *at = now.tv_sec : now.tv_sec;
}

static struct { struct cert ca, good; char ca_file[32]; struct tls_context *context; } t;

static int set_up(void **state)
{
	char error[256];
	(void)state;
	t.ca = cert_make("lab CA", "CA", NULL, -1, 30);
	t.good = cert_make("mx.example", "DNS:mx.example,DNS:*.b.example", &t.ca, -1, 30);
	cert_write(&t.ca, t.ca_file);
	t.context = tls_context_new(&(struct tls_context_config){t.ca_file, 8, 4}, error, sizeof(error));
	return t.context ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	tls_context_free(t.context);
	cert_free(&t.ca);
	cert_free(&t.good);
	return unlink(t.ca_file);
}

static struct tls_client *client_new(const char *server, uint16_t floor)
{
	char error[256] = "";
	struct tls_client_params params = {.servername = "mx.example", .floor = floor, .ciphers = "", .exclude = "",
	                                   .server_key = (const uint8_t *)server, .server_key_len = strlen(server)};
	struct tls_client *client = tls_client_new(t.context, &params, error, sizeof(error));
	assert_non_null(client);
	return client;
}

/* Moves `piece` octets at a time until nothing moves. */
static void pump(struct tls_client *client, struct peer *server, size_t piece)
{
	uint8_t bytes[4096];
	for (bool moved = true; moved;) {
		size_t len;
		moved = false;
		const uint8_t *pending = tls_client_pending(client, &len);
		if (len > piece)
			len = piece;
		if (len) {
			BIO_write(server->in, pending, (int)len);
			tls_client_sent(client, len);
			moved = true;
		}
		if (!SSL_is_init_finished(server->ssl))
			SSL_do_handshake(server->ssl);
		int got = BIO_read(server->out, bytes, (int)(piece < sizeof(bytes) ? piece : sizeof(bytes)));
		if (got > 0) {
			assert_int_equal(tls_client_feed(client, bytes, (size_t)got), got);
			moved = true;
		}
	}
	ERR_clear_error();
}

static struct tls_client *connect_to(struct peer *server, const char *key, uint16_t floor, size_t piece)
{
	struct tls_client *client = client_new(key, floor);
	peer_begin(server, true);
	tls_client_start(client);
	pump(client, server, piece);
	return client;
}

static void test_every_version_one_octet_at_a_time(void **state)
{
	(void)state;
	for (int version = TLS1_VERSION; version <= TLS1_3_VERSION; version++) {
		struct peer server = peer_new(true, &t.good, version, version);
		struct tls_client *client = connect_to(&server, "", 0, 1);
		assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
		assert_int_equal(tls_client_facts(client)->version, version);
		assert_int_equal(tls_client_facts(client)->chain, TLS_CHAIN_TRUSTED);
		assert_string_equal(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name), "mx.example");
		assert_string_equal(tls_client_facts(client)->subject, "/CN=mx.example");
		tls_client_free(client);
		peer_free(&server);
	}
}

static void test_no_version_above_the_ceiling(void **state)
{
	char error[256];
	struct tls_client_params params = {.servername = "mx.example", .ceiling = TLS1_2_VERSION, .ciphers = "", .exclude = ""};
	struct tls_client *client = tls_client_new(t.context, &params, error, sizeof(error));
	struct peer server = peer_new(true, &t.good, TLS1_VERSION, TLS1_3_VERSION);
	(void)state;
	assert_non_null(client);
	peer_begin(&server, true);
	tls_client_start(client);
	pump(client, &server, 4096);
	assert_int_equal(tls_client_facts(client)->version, TLS1_2_VERSION);
	tls_client_free(client);
	peer_free(&server);
}

static void test_below_the_floor_fails_with_a_reason(void **state)
{
	(void)state;
	struct peer server = peer_new(true, &t.good, TLS1_VERSION, TLS1_1_VERSION);
	struct tls_client *client = connect_to(&server, "", TLS1_2_VERSION, 4096);
	assert_int_equal(tls_client_phase(client), TLS_FAILED);
	assert_true(strlen(tls_client_error(client)) > 5);
	tls_client_free(client);
	peer_free(&server);
}

static void test_garbage_fails(void **state)
{
	struct tls_client *client = client_new("", 0);
	(void)state;
	tls_client_start(client);
	tls_client_feed(client, (const uint8_t *)"500 what is this?\r\n", 19);
	assert_int_equal(tls_client_phase(client), TLS_FAILED);
	assert_string_equal(tls_client_error(client), "wrong version number");
	tls_client_free(client);
}

static void test_chains(void **state)
{
	struct cert other = cert_make("other CA", "CA", NULL, -1, 30);
	struct { struct cert cert; enum tls_chain chain; } all[] = {
		{cert_make("mx.example", "DNS:mx.example", NULL, -1, 30), TLS_CHAIN_SELF_SIGNED},
		{cert_make("mx.example", "DNS:mx.example", &other, -1, 30), TLS_CHAIN_UNTRUSTED},
		{cert_make("mx.example", "DNS:mx.example", &t.ca, -30, -1), TLS_CHAIN_EXPIRED},
		{cert_make("mx.example", "DNS:mx.example", &t.ca, 2, 30), TLS_CHAIN_NOT_YET_VALID},
		{cert_make("mx.example", "DNS:wrong.example", &t.ca, -1, 30), TLS_CHAIN_TRUSTED}, /* names are another fact */
	};
	(void)state;
	for (size_t n = 0; n < 2 * sizeof(all) / sizeof(all[0]); n++) {
		size_t i = n / 2; /* each twice: what is known of a chain is what was found */
		struct peer server = peer_new(true, &all[i].cert, TLS1_2_VERSION, TLS1_3_VERSION);
		struct tls_client *client = connect_to(&server, "", 0, 4096);
		assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
		assert_false(tls_client_facts(client)->resumed);
		assert_int_equal(tls_client_facts(client)->chain, all[i].chain);
		assert_int_equal(*tls_client_facts(client)->chain_error != 0, all[i].chain != TLS_CHAIN_TRUSTED);
		tls_client_free(client);
		peer_free(&server);
		if (n % 2)
			cert_free(&all[i].cert);
	}
	cert_free(&other);
}

/* What is too weak to prove anything is so under a rule that takes any TLS, too: another one may judge the session. */
static void test_a_chain_signed_with_sha1_proves_nothing(void **state)
{
	struct cert weak = cert_make_of(EVP_EC_gen("P-256"), EVP_sha1(), "mx.example", "DNS:mx.example", &t.ca, -1, 30);
	static const uint16_t floors[] = {0, TLS1_2_VERSION};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct peer server = peer_new(true, &weak, TLS1_2_VERSION, TLS1_3_VERSION);
		struct tls_client *client = connect_to(&server, "", floors[i], 1 << 20);
		assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
		assert_int_equal(tls_client_facts(client)->chain, TLS_CHAIN_INVALID);
		tls_client_free(client);
		peer_free(&server);
	}
	cert_free(&weak);
}

static void test_sessions_resume_and_remember_their_proof(void **state)
{
	(void)state;
	struct cert self = cert_make("mx.example", NULL, NULL, -1, 30);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct peer server = peer_new(true, &self, version, version);
		for (int i = 0; i < 3; i++) {
			struct tls_client *client = connect_to(&server, version == TLS1_3_VERSION ? "k3" : "k2", 0, 4096);
			size_t len;
			tls_client_peek(client, &len); /* a 1.3 ticket comes behind the handshake */
			assert_int_equal(tls_client_facts(client)->resumed, i > 0);
			assert_int_equal(tls_client_facts(client)->chain, TLS_CHAIN_SELF_SIGNED);
			assert_true(tls_client_facts(client)->has_certificate);
			uint8_t digest[32];
			X509_digest(self.x509, EVP_sha256(), digest, NULL);
			assert_memory_equal(tls_client_facts(client)->certificate_sha256, digest, 32);
			tls_client_free(client);
		}
		struct tls_client *stranger = connect_to(&server, "another server", 0, 4096);
		assert_false(tls_client_facts(stranger)->resumed);
		tls_client_free(stranger);
		stranger = connect_to(&server, version == TLS1_3_VERSION ? "k3" : "k2", TLS1_2_VERSION, 4096);
		assert_false(tls_client_facts(stranger)->resumed); /* another profile */
		tls_client_free(stranger);
		peer_free(&server);
	}
	cert_free(&self);
}

/* "one" verifies the chain, "two" finds it known. Both are resumed as trusted while it holds, and as nothing after. */
static void no_longer_than(const struct cert *ca, const struct cert *leaf, int version, enum tls_chain afterwards)
{
	char error[256], ca_file[32];
	struct tls_context *before = t.context;
	struct peer server = peer_new(true, leaf, version, version);

	SSL_CTX_set_timeout(server.ctx, 6 * 86400);
	cert_write(ca, ca_file);
	t.context = tls_context_new(&(struct tls_context_config){ca_file, 8, 4}, error, sizeof(error));
	for (int i = 0; i < 6; i++) {
		ahead_s = i < 4 ? 0 : 2 * 86400;
		struct tls_client *client = connect_to(&server, i % 2 ? "two" : "one", 0, 4096);
		size_t len;
		tls_client_peek(client, &len);
		assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
		assert_int_equal(tls_client_facts(client)->resumed, i == 2 || i == 3);
		assert_int_equal(tls_client_facts(client)->chain, i < 4 ? TLS_CHAIN_TRUSTED : afterwards);
		tls_client_free(client);
	}
	ahead_s = 0;
	tls_context_free(t.context);
	t.context = before;
	peer_free(&server);
	unlink(ca_file);
}

static void test_a_session_is_trusted_no_longer_than_its_certificates(void **state)
{
	struct cert ca = cert_make("CA", "CA", NULL, -1, 30), short_ca = cert_make("short CA", "CA", NULL, -1, 1);
	struct cert short_leaf = cert_make("mx.example", "DNS:mx.example", &ca, -1, 1), leaf = cert_make("mx.example", "DNS:mx.example", &short_ca, -1, 30);

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		no_longer_than(&ca, &short_leaf, version, TLS_CHAIN_EXPIRED);
		no_longer_than(&short_ca, &leaf, version, TLS_CHAIN_EXPIRED); /* the root is not sent, and counts */
	}
	for (struct cert **c = (struct cert *[]){&ca, &short_ca, &short_leaf, &leaf, NULL}; *c; c++)
		cert_free(*c);
}

/* One ticket is there, and many sessions begin with it. */
static void test_sessions_at_the_same_time_resume(void **state)
{
	enum { SESSIONS = 12 };
	struct tls_client *clients[SESSIONS];
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct peer server = peer_new(true, &t.good, version, version), many[SESSIONS];
		const char *key = version == TLS1_3_VERSION ? "many3" : "many2";
		size_t len;
		tls_client_free(connect_to(&server, key, 0, 4096)); /* 1.3: its ticket is never read */
		struct tls_client *first = connect_to(&server, key, 0, 4096);
		tls_client_peek(first, &len);
		for (int i = 0; i < SESSIONS; i++) {
			many[i] = (struct peer){.ctx = server.ctx};
			clients[i] = client_new(key, 0);
			peer_begin(&many[i], true);
			tls_client_start(clients[i]);
		}
		for (int i = 0; i < SESSIONS; i++) {
			pump(clients[i], &many[i], 4096);
			assert_int_equal(tls_client_phase(clients[i]), TLS_ESTABLISHED);
			assert_true(tls_client_facts(clients[i])->resumed);
			assert_int_equal(tls_client_facts(clients[i])->chain, TLS_CHAIN_TRUSTED);
			if (i % 2)
				tls_client_peek(clients[i], &len); /* others end before they have read theirs */
			tls_client_free(clients[i]);
			SSL_free(many[i].ssl);
		}
		tls_client_free(first);
		peer_free(&server);
	}
}

/* The server has new keys for its tickets, and another certificate: what was known of it is not taken for its own. */
static void test_a_session_that_is_not_taken_is_replaced(void **state)
{
	struct cert self = cert_make("mx.example", NULL, NULL, -1, 30);
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const char *key = version == TLS1_3_VERSION ? "new3" : "new2";
		struct peer before = peer_new(true, &t.good, version, version), after = peer_new(true, &self, version, version);
		size_t len;
		for (int i = 0; i < 4; i++) {
			struct tls_client *client = connect_to(i < 2 ? &before : &after, key, 0, 4096);
			tls_client_peek(client, &len);
			assert_int_equal(tls_client_facts(client)->resumed, i % 2);
			assert_int_equal(tls_client_facts(client)->chain, i < 2 ? TLS_CHAIN_TRUSTED : TLS_CHAIN_SELF_SIGNED);
			tls_client_free(client);
		}
		peer_free(&before);
		peer_free(&after);
	}
	cert_free(&self);
}

static void test_a_handshake_that_fails_forgets_the_session(void **state)
{
	struct peer server = peer_new(true, &t.good, TLS1_3_VERSION, TLS1_3_VERSION);
	size_t len;
	(void)state;
	struct tls_client *client = connect_to(&server, "fails", 0, 4096);
	tls_client_peek(client, &len);
	tls_client_free(client);
	client = client_new("fails", 0);
	tls_client_start(client);
	tls_client_feed(client, (const uint8_t *)"\x15\x03\x03\x00\x02\x02\x28", 7); /* alert: handshake failure */
	assert_int_equal(tls_client_phase(client), TLS_FAILED);
	tls_client_free(client);
	client = connect_to(&server, "fails", 0, 4096);
	assert_false(tls_client_facts(client)->resumed);
	tls_client_free(client);
	peer_free(&server);
}

static bool is_name(void *context, const char *name)
{
	return !strcmp(name, context);
}

static void test_data_both_ways_and_close(void **state)
{
	enum { TOTAL = 300000 };
	uint8_t *data = malloc(TOTAL), *back = malloc(TOTAL);
	size_t sent = 0, got = 0, len;
	(void)state;
	for (int i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	struct peer server = peer_new(true, &t.good, TLS1_2_VERSION, TLS1_3_VERSION);
	struct tls_client *client = connect_to(&server, "", 0, 4096);
	assert_true(tls_client_any_name(client, is_name, "*.b.example"));
	assert_false(tls_client_any_name(client, is_name, "wrong.example"));
	while (got < TOTAL) {
		sent += tls_client_write(client, data + sent, TOTAL - sent);
		tls_client_pending(client, &len);
		assert_true(len < TLS_PENDING_BYTES_MAX + 20000);
		pump(client, &server, 4096);
		int n;
		while ((n = SSL_read(server.ssl, back + got, (int)(TOTAL - got))) > 0)
			got += (size_t)n;
	}
	assert_memory_equal(data, back, TOTAL);
	SSL_write(server.ssl, data, 5000);
	SSL_shutdown(server.ssl);
	pump(client, &server, 4096);
	for (got = 0; tls_client_phase(client) == TLS_ESTABLISHED; got += len) {
		const uint8_t *plain = tls_client_peek(client, &len);
		assert_memory_equal(plain, data + got, len);
		tls_client_consume(client, len);
	}
	assert_int_equal(got, 5000);
	assert_int_equal(tls_client_phase(client), TLS_CLOSED);
	tls_client_close(client);
	pump(client, &server, 4096);
	assert_int_equal(SSL_read(server.ssl, back, 1), 0);
	assert_true(SSL_get_shutdown(server.ssl) & SSL_RECEIVED_SHUTDOWN);
	tls_client_free(client);
	peer_free(&server);
	free(data);
	free(back);
}

/* Each HelloRequest asks for an alert (RFC 5246, 7.4.1.1); a server that takes none of them must not fill our memory. */
static void test_a_server_that_only_asks_is_not_heard(void **state)
{
	struct peer server = peer_new(true, &t.good, TLS1_2_VERSION, TLS1_2_VERSION);
	struct tls_client *client = connect_to(&server, "", 0, 4096);
	size_t len = 0, fed = 1;
	uint8_t bytes[4096];
	(void)state;
	assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
	for (int i = 0; i < 10000 && fed; i++) {
		SSL_renegotiate(server.ssl);
		SSL_do_handshake(server.ssl);
		int got = BIO_read(server.out, bytes, sizeof(bytes));
		assert_true(got > 0);
		fed = tls_client_feed(client, bytes, (size_t)got);
		tls_client_peek(client, &len);
		assert_int_equal(len, 0);
	}
	assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
	tls_client_pending(client, &len);
	assert_true(len >= TLS_PENDING_BYTES_MAX && len < TLS_PENDING_BYTES_MAX + 100);
	assert_int_equal(fed, 0);
	tls_client_sent(client, len);
	assert_int_equal(tls_client_feed(client, (const uint8_t *)"\x16", 1), 1); /* it goes on when they have left */
	tls_client_free(client);
	peer_free(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_server_that_only_asks_is_not_heard),
		cmocka_unit_test(test_every_version_one_octet_at_a_time), cmocka_unit_test(test_below_the_floor_fails_with_a_reason),
		cmocka_unit_test(test_no_version_above_the_ceiling),
		cmocka_unit_test(test_garbage_fails), cmocka_unit_test(test_chains), cmocka_unit_test(test_a_chain_signed_with_sha1_proves_nothing),
		cmocka_unit_test(test_sessions_resume_and_remember_their_proof),
		cmocka_unit_test(test_a_session_is_trusted_no_longer_than_its_certificates),
		cmocka_unit_test(test_sessions_at_the_same_time_resume), cmocka_unit_test(test_a_session_that_is_not_taken_is_replaced),
		cmocka_unit_test(test_a_handshake_that_fails_forgets_the_session),
		cmocka_unit_test(test_data_both_ways_and_close),
	};
	return cmocka_run_group_tests_name("tls_client", tests, set_up, tear_down);
}
