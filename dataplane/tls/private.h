/*
 * private.h - what the files of TLS to the server share.
 */
#ifndef WAXSEAL_TLS_PRIVATE_H
#define WAXSEAL_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "tls.h"

/* What is remembered of a server beside its OpenSSL session: the proof was made in the full handshake. */
struct tls_proof {
	enum tls_chain chain;
	int64_t end_s; /* of a trusted chain: when its first certificate expires; else INT64_MAX */
	char chain_error[128];
	bool has_certificate;
	uint8_t certificate_sha256[32], key_sha256[32];
};

/* ---- channel.c ---- */

struct tls_queue {
	uint8_t *bytes; /* NULL while empty */
	size_t at, len, size;
};
bool tls_queue_put(struct tls_queue *queue, const void *bytes, size_t len); /* false: no memory */
void tls_queue_drop(struct tls_queue *queue, size_t len);                   /* from the front; len <= queue->len */

struct tls_channel {
	struct tls_queue in, out;
	size_t (*send)(void *context, const uint8_t *bytes, size_t len); /* NULL: all waits in `out` */
	void *send_context;
};
BIO_METHOD *tls_channel_method(void); /* for all channels of a context; the caller frees it after them */
bool tls_channel_open(struct tls_channel *channel, const BIO_METHOD *method, SSL *ssl); /* before the SSL's end: dispose after it */
void tls_channel_dispose(struct tls_channel *channel);

/* ---- chains.c ---- */

struct tls_chains; /* trusted lately */
struct tls_chains *tls_chains_new(void);
void tls_chains_free(struct tls_chains *chains);
bool tls_chains_digest(X509_STORE_CTX *store, uint8_t out[32]); /* before it is verified; false: not to be looked up or noted */
/* When the first certificate of the verified chain expires, in seconds of 1970. */
int64_t tls_chain_end_s(X509_STORE_CTX *store);
bool tls_chains_know(struct tls_chains *chains, const uint8_t digest[32], int64_t *end_s);
void tls_chains_note(struct tls_chains *chains, const uint8_t digest[32], int64_t end_s); /* verified, without any error */
int64_t tls_now_s(void); /* by OpenSSL's clock, as certificates are judged */

/* ---- library.c ---- */

struct tls_library;
struct tls_library *tls_library_new(void); /* NULL: no memory, or OpenSSL's default provider is not there */
void tls_library_free(struct tls_library *library); /* after all that was made with it */
OSSL_LIB_CTX *tls_library_context(const struct tls_library *library);

/* ---- context.c ---- */

/* OpenSSL's level 1 for what proves who a server is: no key below 80 bits (RSA of 1024), no signature with SHA-1. TLS before
 * 1.2 is spoken at level 0 only, and a session that one rule begins so is another's to judge. */
#define TLS_AUTH_LEVEL 1
const BIO_METHOD *tls_context_method(const struct tls_context *context);
/* TLS_PLAIN_BYTES for the content of one record, until the next call into tls/. */
uint8_t *tls_context_scratch(struct tls_context *context);
#define TLS_PLAIN_BYTES 16384
/* The SSL_CTX for that floor and those ciphers, made once. NULL with `error`. */
SSL_CTX *tls_context_profile(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len);
/* A session of that server under that profile, the caller's to free; NULL if none, or none whose chain holds still. */
SSL_SESSION *tls_context_session(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, struct tls_proof *proof);
/* Keeps a copy of a session. `first`: of a full handshake's first ticket: the earlier ones are out of date. */
void tls_context_remember(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, const SSL_SESSION *session,
                          const struct tls_proof *proof, bool first);
/* The server did not get on with a session of its own. */
void tls_context_forget(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len);
/* OpenSSL asks for these with each new session, and for each chain; client.c's. `chains`: struct tls_chains. */
int tls_client_new_session(SSL *ssl, SSL_SESSION *session);
int tls_client_verify(X509_STORE_CTX *store, void *chains);

/* dane.c: names[0] is the TLSA base domain; a chain may be NULL. The profile is one of tls_context_profile()'s. */
enum tls_dane tls_dane_verify(SSL_CTX *profile, X509 *leaf, STACK_OF(X509) *chain, const struct tls_tlsa *records, size_t count,
                              const char *const *names, size_t name_count);

bool tls_names_any(X509 *certificate, bool (*match)(void *context, const char *name), void *context);
/* SHA-256 of the whole certificate and of its SubjectPublicKeyInfo, both as DER; false if it cannot be had. */
bool tls_fingerprints(X509 *certificate, uint8_t whole[32], uint8_t key[32]);
void tls_printable(char *text);
/* The first error in OpenSSL's queue, as one line; empties the queue. */
void tls_error_text(char *out, size_t out_len, const char *otherwise);

#define TLS_SERVER_KEY_MAX 300

#endif
