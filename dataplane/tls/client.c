/*
 * client.c - TLS towards a server, between byte queues.
 *
 * Enters: the server's ciphertext, plaintext for it. Leaves: ciphertext for it, its plaintext, facts. It
 * completes the handshake that can be had with any certificate, notes the first thing wrong with the chain,
 * and leaves judgement to policy/.
 */
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define FED_BYTES_MAX 65536 /* ciphertext not yet read by OpenSSL */

struct tls_client {
	struct tls_context *context;
	SSL_CTX *profile;
	SSL *ssl;
	struct tls_channel channel;
	enum tls_phase phase;
	struct tls_facts facts;
	struct tls_proof proof;      /* of this handshake, as on_verify saw it */
	struct tls_proof remembered; /* of the session that is offered: a resumed handshake shows no chain */
	uint8_t key[TLS_SERVER_KEY_MAX];
	size_t key_len;
	bool offered, remembering; /* a session of before; a new one */
	char error[160];
	struct tls_queue plain; /* of one record: what the caller has not consumed */
};

static enum tls_chain chain_of(int error)
{
	switch (error) {
	case X509_V_OK: return TLS_CHAIN_TRUSTED;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return TLS_CHAIN_SELF_SIGNED;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED: return TLS_CHAIN_UNTRUSTED;
	case X509_V_ERR_CERT_HAS_EXPIRED: return TLS_CHAIN_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_CHAIN_NOT_YET_VALID;
	default: return TLS_CHAIN_INVALID;
	}
}

/* Notes the first error and goes on: judging is policy's. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_client *client = SSL_get_app_data(ssl);
	int error = X509_STORE_CTX_get_error(store);

	if (!ok && client->proof.chain == TLS_CHAIN_TRUSTED) {
		client->proof.chain = chain_of(error);
		snprintf(client->proof.chain_error, sizeof(client->proof.chain_error), "%s", X509_verify_cert_error_string(error));
	}
	return 1;
}

int tls_client_verify(X509_STORE_CTX *store, void *chains)
{
	struct tls_client *client = SSL_get_app_data(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
	struct tls_proof *proof = &client->proof;
	uint8_t digest[32];
	bool lookup = tls_chains_digest(store, digest);

	proof->has_certificate = tls_fingerprints(X509_STORE_CTX_get0_cert(store), proof->certificate_sha256, proof->key_sha256);
	if (lookup && tls_chains_know(chains, digest, &proof->end_s)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	int result = X509_verify_cert(store);
	if (result == 1 && proof->chain == TLS_CHAIN_TRUSTED) {
		proof->end_s = tls_chain_end_s(store);
		if (lookup)
			tls_chains_note(chains, digest, proof->end_s);
	}
	return result;
}

int tls_client_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *client = SSL_get_app_data(ssl);

	bool first = !client->remembering && !SSL_session_reused(ssl);
	client->remembering = true;
	tls_context_remember(client->context, client->profile, client->key, client->key_len, session, &client->proof, first);
	return 0; /* no reference is kept */
}

static void note_facts(struct tls_client *client)
{
	struct tls_facts *facts = &client->facts;
	X509 *certificate = SSL_get0_peer_certificate(client->ssl);

	facts->version = (uint16_t)SSL_version(client->ssl);
	facts->resumed = SSL_session_reused(client->ssl);
	snprintf(facts->cipher, sizeof(facts->cipher), "%s", SSL_get_cipher_name(client->ssl));
	const char *group = SSL_group_to_name(client->ssl, (int)SSL_get_negotiated_group(client->ssl));
	snprintf(facts->group, sizeof(facts->group), "%s", group ? group : "");
	if (facts->resumed)
		client->proof = client->remembered;
	if (!certificate && client->proof.chain == TLS_CHAIN_TRUSTED)
		client->proof = (struct tls_proof){.chain = TLS_CHAIN_INVALID, .end_s = INT64_MAX, .chain_error = "no certificate"};
	facts->chain = client->proof.chain;
	memcpy(facts->chain_error, client->proof.chain_error, sizeof(facts->chain_error));
	facts->has_certificate = client->proof.has_certificate;
	memcpy(facts->certificate_sha256, client->proof.certificate_sha256, sizeof(facts->certificate_sha256));
	memcpy(facts->key_sha256, client->proof.key_sha256, sizeof(facts->key_sha256));
	if (certificate) /* a resumed session keeps the one that it was begun with */
		X509_NAME_oneline(X509_get_subject_name(certificate), facts->subject, sizeof(facts->subject));
	tls_printable(facts->subject);
}

/* SSL_get_error() takes any error in the queue for its own. Looking is cheap, clearing is not. */
static void forget_errors(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

/* After an SSL_ function that did not do all of its work. */
static void judge(struct tls_client *client, int result)
{
	switch (SSL_get_error(client->ssl, result)) {
	case SSL_ERROR_NONE:
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		break;
	case SSL_ERROR_ZERO_RETURN:
		client->phase = TLS_CLOSED;
		break;
	default:
		if (client->phase == TLS_HANDSHAKE && client->offered)
			tls_context_forget(client->context, client->profile, client->key, client->key_len);
		client->phase = TLS_FAILED;
		tls_error_text(client->error, sizeof(client->error), "connection closed");
		break;
	}
	forget_errors();
}

static void handshake(struct tls_client *client)
{
	forget_errors();
	int result = SSL_do_handshake(client->ssl);
	if (result != 1) {
		judge(client, result);
		return;
	}
	client->phase = TLS_ESTABLISHED;
	note_facts(client);
}

struct tls_client *tls_client_new(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len)
{
	SSL_CTX *profile = tls_context_profile(context, params, error, error_len);
	struct tls_client *client = profile ? calloc(1, sizeof(*client)) : NULL;

	if (!profile)
		return NULL;
	snprintf(error, error_len, "no memory for a TLS client");
	if (!client || !(client->ssl = SSL_new(profile))) {
		free(client);
		return NULL;
	}
	client->context = context;
	client->profile = profile;
	client->channel.send = params->send;
	client->channel.send_context = params->send_context;
	SSL_set_app_data(client->ssl, client);
	SSL_set_connect_state(client->ssl);
	SSL_set_verify(client->ssl, SSL_VERIFY_PEER, on_verify);
	if (!tls_channel_open(&client->channel, tls_context_method(context), client->ssl) ||
	    (*params->servername && !SSL_set_tlsext_host_name(client->ssl, params->servername))) {
		tls_client_free(client);
		return NULL;
	}
	client->key_len = params->server_key_len < sizeof(client->key) ? params->server_key_len : sizeof(client->key);
	if (client->key_len)
		memcpy(client->key, params->server_key, client->key_len);
	client->proof.chain = TLS_CHAIN_TRUSTED; /* until on_verify sees an error */
	client->proof.end_s = INT64_MAX;
	return client;
}

void tls_client_free(struct tls_client *client)
{
	if (!client)
		return;
	/* Without it OpenSSL takes the session for broken, and it is never resumed. */
	if (client->phase != TLS_FAILED)
		SSL_set_shutdown(client->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	client->channel.send = NULL;
	SSL_free(client->ssl);
	tls_channel_dispose(&client->channel);
	free(client->plain.bytes);
	free(client);
}

enum tls_phase tls_client_phase(const struct tls_client *client)
{
	return client->phase;
}

const struct tls_facts *tls_client_facts(const struct tls_client *client)
{
	return &client->facts;
}

bool tls_client_any_name(const struct tls_client *client, bool (*match)(void *context, const char *name), void *context)
{
	X509 *certificate = SSL_get0_peer_certificate(client->ssl);
	return certificate && tls_names_any(certificate, match, context);
}

enum tls_dane tls_client_dane(const struct tls_client *client, const struct tls_tlsa *records, size_t count, const char *const *names,
                              size_t name_count)
{
	return tls_dane_verify(client->profile, SSL_get0_peer_certificate(client->ssl), SSL_get_peer_cert_chain(client->ssl), records, count, names,
	                       name_count);
}

const char *tls_client_error(const struct tls_client *client)
{
	return client->error;
}

void tls_client_start(struct tls_client *client)
{
	SSL_SESSION *session = tls_context_session(client->context, client->profile, client->key, client->key_len, &client->remembered);

	client->offered = session && SSL_set_session(client->ssl, session);
	SSL_SESSION_free(session); /* the SSL has its own reference */
	handshake(client);
}

size_t tls_client_feed(struct tls_client *client, const uint8_t *ciphertext, size_t len)
{
	size_t room = FED_BYTES_MAX - client->channel.in.len;

	if (client->phase == TLS_FAILED || client->phase == TLS_CLOSED)
		return len; /* nothing reads it any more */
	if (client->channel.out.len >= TLS_PENDING_BYTES_MAX)
		return 0; /* what a server asks for, it has to take: each HelloRequest is an alert of ours */
	if (len > room)
		len = room;
	if (!len || !tls_queue_put(&client->channel.in, ciphertext, len))
		return 0;
	if (client->phase == TLS_HANDSHAKE)
		handshake(client);
	return len;
}

const uint8_t *tls_client_pending(struct tls_client *client, size_t *len)
{
	*len = client->channel.out.len;
	return *len ? client->channel.out.bytes + client->channel.out.at : NULL;
}

void tls_client_sent(struct tls_client *client, size_t len)
{
	struct tls_queue *out = &client->channel.out;
	tls_queue_drop(out, len < out->len ? len : out->len);
}

size_t tls_client_write(struct tls_client *client, const uint8_t *plaintext, size_t len)
{
	size_t total = 0, taken;

	if (client->phase != TLS_ESTABLISHED)
		return 0;
	while (total < len && client->channel.out.len < TLS_PENDING_BYTES_MAX) {
		forget_errors();
		int result = SSL_write_ex(client->ssl, plaintext + total, len - total, &taken);
		if (result != 1) {
			judge(client, result);
			break;
		}
		total += taken;
	}
	return total;
}

/* By way of a buffer that all share: an idle client keeps none. */
static void read_record(struct tls_client *client)
{
	uint8_t *scratch = tls_context_scratch(client->context);
	size_t got;

	forget_errors();
	int result = SSL_read_ex(client->ssl, scratch, TLS_PLAIN_BYTES, &got);
	SSL_free_buffers(client->ssl); /* SSL_MODE_RELEASE_BUFFERS leaves 16 KB behind a ticket; this does nothing amid a record */
	if (result != 1) {
		judge(client, result);
	} else if (!tls_queue_put(&client->plain, scratch, got)) {
		client->phase = TLS_FAILED;
		snprintf(client->error, sizeof(client->error), "no memory");
	}
}

const uint8_t *tls_client_peek(struct tls_client *client, size_t *len)
{
	struct tls_queue *plain = &client->plain;

	if (!plain->len && client->phase == TLS_ESTABLISHED && (client->channel.in.len || SSL_has_pending(client->ssl)))
		read_record(client);
	*len = plain->len;
	return *len ? plain->bytes + plain->at : NULL;
}

void tls_client_consume(struct tls_client *client, size_t len)
{
	tls_queue_drop(&client->plain, len < client->plain.len ? len : client->plain.len);
}

void tls_client_close(struct tls_client *client)
{
	if (client->phase != TLS_ESTABLISHED && client->phase != TLS_CLOSED)
		return;
	SSL_shutdown(client->ssl);
	forget_errors();
}
