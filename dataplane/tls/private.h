/*
 * private.h - what client.c, context.c and names.c share.
 */
#ifndef WAXSEAL_TLS_PRIVATE_H
#define WAXSEAL_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "tls.h"

/* What is remembered of a server beside its OpenSSL session: the proof was made in the full handshake. */
struct tls_proof {
	enum tls_chain chain;
	char chain_error[128];
};

/* The SSL_CTX for that floor and those ciphers, made once. NULL with `error`. */
SSL_CTX *tls_context_profile(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len);
/* A session of that server under that profile, NULL if none; it stays the context's. */
SSL_SESSION *tls_context_session(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, struct tls_proof *proof);
/* Keeps a session; takes the reference. */
void tls_context_remember(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, SSL_SESSION *session,
                          const struct tls_proof *proof);
/* OpenSSL asks for this with each new session: client.c's. */
int tls_client_new_session(SSL *ssl, SSL_SESSION *session);

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
