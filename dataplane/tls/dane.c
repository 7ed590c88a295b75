/*
 * dane.c - does the chain that a server showed meet these TLSA records?
 *
 * Enters: a chain as it came (also of a resumed session, which keeps the one that it was begun with), records, the names
 * that the server may go by. Leaves: a fact. It is asked after the handshake, and again for the records of each
 * recipient's domain: one session serves many. OpenSSL's own DANE does the work (SSL_dane_tlsa_add, X509_verify_cert),
 * over an SSL that never speaks.
 * Of DANE-EE (RFC 7672, section 3.1.1) neither names nor dates count, nor who has signed; of DANE-TA (3.1.2) all do.
 * It takes no record of another usage (3.1.3) and none that OpenSSL cannot use.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "private.h"

#define DANE_TA 2 /* RFC 7218 */
#define DANE_EE 3

static enum tls_dane dane_of(int error)
{
	switch (error) {
	case X509_V_OK: return TLS_DANE_MATCHED;
	case X509_V_ERR_DANE_NO_MATCH: return TLS_DANE_NO_MATCH;
	case X509_V_ERR_HOSTNAME_MISMATCH: return TLS_DANE_NAME_MISMATCH;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_DANE_EXPIRED;
	default: return TLS_DANE_INVALID;
	}
}

/* False: none of them can be used. */
static bool add_records(SSL *ssl, const struct tls_tlsa *records, size_t count)
{
	bool any = false;

	for (size_t i = 0; i < count; i++)
		if (records[i].usage == DANE_TA || records[i].usage == DANE_EE)
			any |= SSL_dane_tlsa_add(ssl, records[i].usage, records[i].selector, records[i].matching, records[i].data, records[i].len) > 0;
	return any;
}

static bool set_names(X509_VERIFY_PARAM *param, const char *const *names, size_t count)
{
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	for (size_t i = 0; i < count; i++)
		if (!X509_VERIFY_PARAM_add1_host(param, names[i], 0))
			return false;
	return true;
}

static enum tls_dane verify(SSL *ssl, X509_STORE *roots, X509 *leaf, STACK_OF(X509) *chain, const char *const *names, size_t name_count)
{
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	enum tls_dane result = TLS_DANE_INVALID;

	if (store && X509_STORE_CTX_init(store, roots, leaf, chain)) {
		X509_STORE_CTX_set0_dane(store, SSL_get0_dane(ssl));
		X509_STORE_CTX_set_default(store, "ssl_server");
		X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store), TLS_AUTH_LEVEL);
		if (set_names(X509_STORE_CTX_get0_param(store), names, name_count))
			result = dane_of(X509_verify_cert(store) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(store));
	}
	X509_STORE_CTX_free(store);
	return result;
}

enum tls_dane tls_dane_verify(SSL_CTX *profile, X509 *leaf, STACK_OF(X509) *chain, const struct tls_tlsa *records, size_t count,
                              const char *const *names, size_t name_count)
{
	SSL *ssl = leaf && name_count ? SSL_new(profile) : NULL;
	enum tls_dane result = TLS_DANE_INVALID;

	ERR_clear_error();
	if (ssl && SSL_dane_enable(ssl, names[0]) > 0) {
		SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
		result = TLS_DANE_NO_MATCH;
		if (add_records(ssl, records, count))
			result = verify(ssl, SSL_CTX_get_cert_store(profile), leaf, chain, names, name_count);
	}
	SSL_free(ssl);
	ERR_clear_error();
	return result;
}
