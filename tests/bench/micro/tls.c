/*
 * tls.c - the client's part of a TLS handshake, full and resumed: tls/client.c, and beside it a bare loop of OpenSSL
 * over memory BIOs with the same roots, in the same run. Only the client's calls are timed; the server is the same.
 *
 * Checked each time: established, resumed or not as it should be, and the chain trusted.
 */
#include "micro.h"

#include "../../unit/tls_peer.h"

#define HANDSHAKES 60u
#define SERVERNAME "mx.example"

static struct { struct cert ca, cert; char ca_file[32]; struct peer server; double cycles_per_us; } w;
static uint64_t spent;

#define TIMED(call)                               \
	do {                                      \
		uint64_t timed_from = __rdtsc();  \
		call;                             \
		spent += __rdtsc() - timed_from;  \
	} while (0)

static void server_new(bool tickets)
{
	w.server = peer_new(true, &w.cert, TLS1_2_VERSION, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(w.server.ctx, tickets ? 1 : 0);
	if (!tickets)
		SSL_CTX_set_options(w.server.ctx, SSL_OP_NO_TICKET);
}

/* ---- the bare loop ---- */

static SSL_CTX *bare_ctx;
static SSL_SESSION *bare_session;

static int bare_new_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(bare_session);
	bare_session = session;
	return 1;
}

static void move(BIO *from, BIO *to)
{
	uint8_t bytes[16384];
	int n;
	while ((n = BIO_read(from, bytes, sizeof(bytes))) > 0)
		BIO_write(to, bytes, n);
}

static bool bare(bool offer)
{
	SSL *ssl = NULL;
	BIO *in = NULL, *out = NULL;
	uint8_t byte;
	int done = 0;

	peer_begin(&w.server, true);
	TIMED({
		ssl = SSL_new(bare_ctx);
		in = BIO_new(BIO_s_mem());
		out = BIO_new(BIO_s_mem());
		SSL_set_bio(ssl, in, out);
		SSL_set_tlsext_host_name(ssl, SERVERNAME);
		SSL_set_connect_state(ssl);
		if (offer && bare_session)
			SSL_set_session(ssl, bare_session);
		done = SSL_do_handshake(ssl);
	});
	for (unsigned turns = 0; turns < 4; turns++) {
		move(out, w.server.in);
		SSL_do_handshake(w.server.ssl);
		move(w.server.out, in);
		if (done != 1)
			TIMED(done = SSL_do_handshake(ssl));
		else
			TIMED(SSL_read(ssl, &byte, 1)); /* the ticket */
	}
	bool resumed = SSL_session_reused(ssl);
	if (done != 1 || SSL_get_verify_result(ssl) != X509_V_OK)
		micro_die("the bare handshake");
	TIMED({
		SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(ssl);
	});
	ERR_clear_error();
	return resumed;
}

/* ---- waxseal's ---- */

static struct tls_context *context;

static bool ours(bool offer)
{
	static unsigned n;
	char error[256] = "";
	uint8_t key[8] = {0};
	struct tls_client_params params = {.servername = SERVERNAME, .floor = TLS1_2_VERSION, .ciphers = "", .exclude = "", .server_key = key,
	                                   .server_key_len = sizeof(key)};
	struct tls_client *client = NULL;
	size_t len = 0;
	if (!offer) /* another server each time: none is remembered */
		memcpy(key, &(unsigned){++n}, sizeof(unsigned));

	peer_begin(&w.server, true);
	TIMED({
		client = tls_client_new(context, &params, error, sizeof(error));
		if (client)
			tls_client_start(client);
	});
	if (!client)
		micro_die(error);
	for (unsigned turns = 0; turns < 4; turns++) {
		uint8_t bytes[16384];
		const uint8_t *out;
		TIMED(out = tls_client_pending(client, &len));
		BIO_write(w.server.in, out, (int)len);
		TIMED(tls_client_sent(client, len));
		SSL_do_handshake(w.server.ssl);
		int n_back = BIO_read(w.server.out, bytes, sizeof(bytes));
		if (n_back > 0)
			TIMED(tls_client_feed(client, bytes, (size_t)n_back));
		if (tls_client_phase(client) == TLS_ESTABLISHED)
			TIMED(tls_client_peek(client, &len));
	}
	if (tls_client_phase(client) != TLS_ESTABLISHED || tls_client_facts(client)->chain != TLS_CHAIN_TRUSTED)
		micro_die(tls_client_error(client));
	bool resumed = tls_client_facts(client)->resumed;
	TIMED(tls_client_free(client));
	return resumed;
}

static void bench(const char *name, bool (*handshake)(bool), bool resume)
{
	struct micro cost = {.count = 0};
	handshake(resume); /* the first one of all makes a profile, and leaves a ticket */
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		spent = 0;
		for (unsigned i = 0; i < HANDSHAKES; i++)
			if (handshake(resume) != resume)
				micro_die(resume ? "a handshake was not resumed" : "a handshake was resumed");
		micro_note(&cost, (double)spent / HANDSHAKES / w.cycles_per_us);
	}
	micro_print(&cost, name, 0, "us/handshake");
}

int main(void)
{
	char error[256] = "";
	w.cycles_per_us = micro_cycles_per_us();
	w.ca = cert_make("bench CA", "CA", NULL, -1, 30);
	w.cert = cert_make(SERVERNAME, "DNS:" SERVERNAME, &w.ca, -1, 30);
	cert_write(&w.ca, w.ca_file);
	context = tls_context_new(&(struct tls_context_config){.ca_file = w.ca_file, .sessions_max = 8192, .profiles_max = 8}, error, sizeof(error));
	if (!context)
		micro_die(error);
	bare_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_load_verify_file(bare_ctx, w.ca_file);
	unlink(w.ca_file);
	SSL_CTX_set_verify(bare_ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set1_groups_list(bare_ctx, "X25519:P-256");
	SSL_CTX_set_session_cache_mode(bare_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(bare_ctx, bare_new_session);
	server_new(false);
	bench("tls_bare_full", bare, false);
	bench("tls_client_full", ours, false);
	peer_free(&w.server);
	server_new(true);
	bench("tls_bare_resumed", bare, true);
	bench("tls_client_resumed", ours, true);
	return 0;
}
