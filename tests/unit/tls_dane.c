/* tls/dane.c: chains of real handshakes against TLSA records, whole and resumed. */
#include "tls_peer.h"

#define RECORDS_MAX 4

static struct { struct cert root, middle, leaf, expired, stranger; char ca_file[32]; struct tls_context *context; } t;
static struct { struct tls_tlsa records[RECORDS_MAX]; uint8_t data[RECORDS_MAX][2048]; size_t count; uint16_t floor; } set;

static int set_up(void **state)
{
	char error[256];

	(void)state;
	t.stranger = cert_make("another CA", "CA", NULL, -1, 30); /* the only one that the context trusts */
	t.root = cert_make("dane root", "CA", NULL, -1, 30);
	t.middle = cert_make("dane middle", "CA", &t.root, -1, 30);
	t.leaf = cert_make("mx.example", "DNS:mx.example,DNS:*.wild.example", &t.middle, -1, 30);
	t.expired = cert_make("mx.example", "DNS:mx.example", &t.middle, -30, -1);
	cert_write(&t.stranger, t.ca_file);
	t.context = tls_context_new(&(struct tls_context_config){t.ca_file, 8, 4}, error, sizeof(error));
	return t.context ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	tls_context_free(t.context);
	for (struct cert *c = &t.root; c <= &t.stranger; c++)
		cert_free(c);
	return unlink(t.ca_file);
}

/* A record for that certificate, as RFC 6698 makes it. */
static void record(const struct cert *cert, uint8_t usage, uint8_t selector, uint8_t matching)
{
	struct tls_tlsa *r = &set.records[set.count];
	uint8_t *der = NULL, *to = set.data[set.count];
	int len = selector ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert->x509), &der) : i2d_X509(cert->x509, &der);
	unsigned digest_len = 0;

	assert_true(len > 0 && set.count < RECORDS_MAX && (size_t)len <= sizeof(set.data[0]));
	if (matching)
		EVP_Digest(der, (size_t)len, to, &digest_len, matching == 1 ? EVP_sha256() : EVP_sha512(), NULL);
	else
		memcpy(to, der, (size_t)len);
	OPENSSL_free(der);
	*r = (struct tls_tlsa){usage, selector, matching, to, matching ? digest_len : (size_t)len};
	set.count++;
}

static void pump(struct tls_client *client, struct peer *server)
{
	uint8_t bytes[4096];

	for (bool moved = true; moved;) {
		size_t len;
		const uint8_t *pending = tls_client_pending(client, &len);

		moved = len > 0;
		if (len)
			BIO_write(server->in, pending, (int)len);
		tls_client_sent(client, len);
		if (!SSL_is_init_finished(server->ssl))
			SSL_do_handshake(server->ssl);
		int got = BIO_read(server->out, bytes, sizeof(bytes));
		if (got > 0) {
			assert_int_equal(tls_client_feed(client, bytes, (size_t)got), got);
			moved = true;
		}
	}
	ERR_clear_error();
}

/* The server shows its leaf, and `with` behind it. */
static struct peer server_new(const struct cert *leaf, const struct cert *with, int version)
{
	struct peer server = peer_new(true, leaf, version, version);

	if (with)
		SSL_CTX_add1_chain_cert(server.ctx, with->x509);
	return server;
}

static struct tls_client *connect_to(struct peer *server, const char *key)
{
	char error[256] = "";
	struct tls_client_params params = {.servername = "mx.example", .floor = set.floor, .ciphers = "", .exclude = "",
					   .server_key = (const uint8_t *)key, .server_key_len = strlen(key)};
	struct tls_client *client = tls_client_new(t.context, &params, error, sizeof(error));
	size_t len;

	assert_non_null(client);
	peer_begin(server, true);
	tls_client_start(client);
	pump(client, server);
	tls_client_peek(client, &len); /* a 1.3 ticket comes behind the handshake */
	assert_int_equal(tls_client_phase(client), TLS_ESTABLISHED);
	return client;
}

static enum tls_dane judged(const struct tls_client *client, const char *base, const char *nexthop)
{
	const char *names[] = {base, nexthop};

	return tls_client_dane(client, set.records, set.count, names, nexthop ? 2 : 1);
}

/* One handshake, the records that have been put down, these names. */
static void is(const struct cert *leaf, const struct cert *with, const char *base, const char *nexthop, enum tls_dane expected)
{
	struct peer server = server_new(leaf, with, TLS1_3_VERSION);
	struct tls_client *client = connect_to(&server, "");
	enum tls_dane found = judged(client, base, nexthop);

	if (found != expected)
		fail_msg("%u %u %u and %zu more, %s: %d, expected %d", set.records[0].usage, set.records[0].selector, set.records[0].matching,
			 set.count - 1, base, found, expected);
	tls_client_free(client);
	peer_free(&server);
	set.count = 0;
}

static void every_form_of_dane_ee_and_dane_ta(void **state)
{
	(void)state;
	for (uint8_t selector = 0; selector < 2; selector++)
		for (uint8_t matching = 0; matching < 3; matching++) {
			record(&t.leaf, 3, selector, matching);
			is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_MATCHED);
			record(&t.middle, 2, selector, matching);
			is(&t.leaf, &t.middle, "mx.example", NULL, TLS_DANE_MATCHED);
			record(&t.middle, 3, selector, matching); /* of another certificate */
			is(&t.leaf, &t.middle, "mx.example", NULL, TLS_DANE_NO_MATCH);
			record(&t.stranger, 2, selector, matching);
			is(&t.leaf, &t.middle, "mx.example", NULL, TLS_DANE_NO_MATCH);
		}
	record(&t.middle, 2, 0, 0); /* the record brings the trust anchor, which the server need not show */
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_MATCHED);
}

static void dane_ee_asks_for_no_name_and_no_date(void **state)
{
	(void)state;
	record(&t.expired, 3, 1, 1);
	is(&t.expired, NULL, "other.example", NULL, TLS_DANE_MATCHED);
	record(&t.leaf, 3, 0, 1);
	is(&t.leaf, NULL, "other.example", NULL, TLS_DANE_MATCHED);
}

static void dane_ta_asks_for_both(void **state)
{
	(void)state;
	record(&t.middle, 2, 1, 1);
	is(&t.leaf, &t.middle, "other.example", NULL, TLS_DANE_NAME_MISMATCH);
	record(&t.middle, 2, 1, 1);
	is(&t.leaf, &t.middle, "other.example", "mx.example", TLS_DANE_MATCHED); /* the next-hop domain will do */
	record(&t.middle, 2, 1, 1);
	is(&t.leaf, &t.middle, "a.wild.example", NULL, TLS_DANE_MATCHED);
	record(&t.middle, 2, 1, 1);
	is(&t.leaf, &t.middle, "a.b.wild.example", NULL, TLS_DANE_NAME_MISMATCH);
	record(&t.middle, 2, 1, 1);
	is(&t.expired, &t.middle, "mx.example", NULL, TLS_DANE_EXPIRED);
	record(&t.root, 2, 1, 1); /* the digest's certificate is not among those shown */
	is(&t.leaf, &t.middle, "mx.example", NULL, TLS_DANE_NO_MATCH);
}

/* Whoever signs for the trust anchor must be as hard to forge as the handshake. So it is also where the session was begun
 * by a rule that takes any TLS (floor 0). */
static void dane_ta_asks_for_strong_keys_and_signatures(void **state)
{
	struct cert weak_key = cert_make_of(EVP_RSA_gen(512), EVP_sha256(), "weak middle", "CA", &t.root, -1, 30);
	struct cert below = cert_make("mx.example", "DNS:mx.example", &weak_key, -1, 30);
	struct cert sha1 = cert_make_of(EVP_EC_gen("P-256"), EVP_sha1(), "mx.example", "DNS:mx.example", &t.middle, -1, 30);
	struct cert anchor = cert_make_of(EVP_EC_gen("P-256"), EVP_sha1(), "dane middle", "CA", &t.root, -1, 30);
	struct cert under = cert_make("mx.example", "DNS:mx.example", &anchor, -1, 30);

	(void)state;
	for (set.floor = 0; set.floor <= TLS1_2_VERSION; set.floor += TLS1_2_VERSION) {
		record(&weak_key, 2, 1, 1);
		is(&below, &weak_key, "mx.example", NULL, TLS_DANE_INVALID);
		record(&t.middle, 2, 1, 1);
		is(&sha1, &t.middle, "mx.example", NULL, TLS_DANE_INVALID);
		record(&t.middle, 2, 0, 0); /* and where the record brings the anchor */
		is(&sha1, NULL, "mx.example", NULL, TLS_DANE_INVALID);
		record(&anchor, 2, 0, 1); /* its own signature vouches for nothing: the record does */
		is(&under, &anchor, "mx.example", NULL, TLS_DANE_MATCHED);
		record(&sha1, 3, 1, 1); /* nor does the signature of an end entity that is pinned */
		is(&sha1, NULL, "mx.example", NULL, TLS_DANE_MATCHED);
	}
	set.floor = 0;
	cert_free(&weak_key);
	cert_free(&below);
	cert_free(&sha1);
	cert_free(&anchor);
	cert_free(&under);
}

static void one_of_several_is_enough(void **state)
{
	(void)state;
	record(&t.stranger, 3, 1, 1); /* a rollover: the old key's record, and the new one's */
	record(&t.leaf, 3, 1, 1);
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_MATCHED);
}

static void unusable_records_prove_nothing(void **state)
{
	(void)state;
	record(&t.leaf, 1, 1, 1); /* PKIX-EE */
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_NO_MATCH);
	record(&t.stranger, 0, 1, 1);
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_NO_MATCH);
	record(&t.leaf, 3, 1, 1);
	set.records[0].len = 31;
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_NO_MATCH);
	is(&t.leaf, NULL, "mx.example", NULL, TLS_DANE_NO_MATCH); /* an empty set */
}

/* The records of several recipients' rules, in one session, whole or resumed: each is asked anew. */
static void several_sets_in_one_session_and_in_a_resumed_one(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct peer server = server_new(&t.leaf, &t.middle, version);
		for (int i = 0; i < 2; i++) {
			struct tls_client *client = connect_to(&server, version == TLS1_2_VERSION ? "k2" : "k3");

			assert_int_equal(tls_client_facts(client)->resumed, i);
			assert_int_equal(tls_client_facts(client)->chain, TLS_CHAIN_UNTRUSTED);
			set.count = 0;
			record(&t.leaf, 3, 1, 1);
			assert_int_equal(judged(client, "mx.example", NULL), TLS_DANE_MATCHED);
			set.count = 0;
			record(&t.stranger, 3, 1, 1);
			assert_int_equal(judged(client, "mx.example", NULL), TLS_DANE_NO_MATCH);
			set.count = 0;
			record(&t.middle, 2, 0, 1); /* the whole chain is known again, not the leaf alone */
			assert_int_equal(judged(client, "mx.example", NULL), TLS_DANE_MATCHED);
			assert_int_equal(judged(client, "other.example", NULL), TLS_DANE_NAME_MISMATCH);
			tls_client_free(client);
		}
		peer_free(&server);
	}
	set.count = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_of_dane_ee_and_dane_ta), cmocka_unit_test(dane_ee_asks_for_no_name_and_no_date),
		cmocka_unit_test(dane_ta_asks_for_both), cmocka_unit_test(dane_ta_asks_for_strong_keys_and_signatures), cmocka_unit_test(one_of_several_is_enough),
		cmocka_unit_test(unusable_records_prove_nothing), cmocka_unit_test(several_sets_in_one_session_and_in_a_resumed_one),
	};
	return cmocka_run_group_tests_name("tls_dane", tests, set_up, tear_down);
}
