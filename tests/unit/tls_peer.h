/*
 * tls_peer.h - certificates made on the spot, and an OpenSSL peer between memory BIOs.
 */
#ifndef TEST_TLS_PEER_H
#define TEST_TLS_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tls/tls.h"

struct cert { X509 *x509; EVP_PKEY *key; };

static inline void cert_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	X509_add_ext(x509, extension, -1);
	X509_EXTENSION_free(extension);
}

/* `issuer` NULL: self-signed. `names`: "DNS:a,DNS:b", NULL: none; "CA": a root. `days`: validity from now, may be negative. */
static inline struct cert cert_make_of(EVP_PKEY *key, const EVP_MD *digest, const char *cn, const char *names, const struct cert *issuer,
                                       long from_days, long to_days)
{
	struct cert c = {X509_new(), key};
	static long serial = 1;
	X509_set_version(c.x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x509), serial++);
	X509_gmtime_adj(X509_getm_notBefore(c.x509), from_days * 86400);
	X509_gmtime_adj(X509_getm_notAfter(c.x509), to_days * 86400);
	X509_set_pubkey(c.x509, c.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x509), "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(c.x509, X509_get_subject_name(issuer ? issuer->x509 : c.x509));
	if (names && !strcmp(names, "CA"))
		cert_extension(c.x509, issuer ? issuer->x509 : c.x509, NID_basic_constraints, "critical,CA:TRUE");
	else if (names)
		cert_extension(c.x509, issuer ? issuer->x509 : c.x509, NID_subject_alt_name, names);
	assert_true(X509_sign(c.x509, issuer ? issuer->key : c.key, digest) > 0);
	return c;
}
static inline struct cert cert_make(const char *cn, const char *names, const struct cert *issuer, long from_days, long to_days)
{
	return cert_make_of(EVP_EC_gen("P-256"), EVP_sha256(), cn, names, issuer, from_days, to_days);
}

static inline void cert_free(struct cert *c)
{
	X509_free(c->x509);
	EVP_PKEY_free(c->key);
}

static inline void cert_write(const struct cert *c, char path[32])
{
	strcpy(path, "/tmp/waxseal-ca-XXXXXX");
	FILE *file = fdopen(mkstemp(path), "w");
	PEM_write_X509(file, c->x509);
	fclose(file);
}

struct peer { SSL_CTX *ctx; SSL *ssl; BIO *in, *out; };

static inline struct peer peer_new(bool server, const struct cert *cert, int min, int max)
{
	struct peer p = {.ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())};
	SSL_CTX_set_security_level(p.ctx, 0);
	SSL_CTX_set_min_proto_version(p.ctx, min);
	SSL_CTX_set_max_proto_version(p.ctx, max);
	SSL_CTX_set_session_id_context(p.ctx, (const unsigned char *)"t", 1);
	if (cert) {
		SSL_CTX_use_certificate(p.ctx, cert->x509);
		SSL_CTX_use_PrivateKey(p.ctx, cert->key);
	}
	return p;
}

static inline void peer_begin(struct peer *p, bool server)
{
	SSL_free(p->ssl);
	p->ssl = SSL_new(p->ctx);
	p->in = BIO_new(BIO_s_mem());
	p->out = BIO_new(BIO_s_mem());
	SSL_set_bio(p->ssl, p->in, p->out);
	if (server)
		SSL_set_accept_state(p->ssl);
	else
		SSL_set_connect_state(p->ssl);
}

static inline void peer_free(struct peer *p)
{
	SSL_free(p->ssl);
	SSL_CTX_free(p->ctx);
}

#endif
