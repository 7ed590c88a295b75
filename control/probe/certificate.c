/*
 * certificate.c - a server's certificate, judged twice: its chain against the trusted ones, and against the TLSA records.
 *
 * OpenSSL's own DANE does the second while it shakes hands (RFC 7671, 7672: DANE-TA(2) and DANE-EE(3) alone; for EE neither
 * names nor dates count); the first is a verification of its own afterwards, so that one never stands in for the other.
 * The handshake itself takes any version and cipher: a floor is the policy's business. What proves the server may not be so weak.
 */
#include "private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { USAGE_DANE_TA = 2, USAGE_DANE_EE = 3 };
enum { AUTH_LEVEL = 1 }; /* OpenSSL's, of keys and signatures that prove something, as in dataplane/tls: no RSA below 1024, no SHA-1 */

static bool set_source(struct prober *prober, const char *source)
{
	if (!*source)
		return true;
	if (inet_pton(AF_INET, source, &prober->source4.sin_addr) == 1)
		prober->source4.sin_family = AF_INET;
	else if (inet_pton(AF_INET6, source, &prober->source6.sin6_addr) == 1)
		prober->source6.sin6_family = AF_INET6;
	return prober->source4.sin_family || prober->source6.sin6_family;
}

struct prober *prober_new(const char *ca_file, const char *source, const char *helo, char *error, size_t error_len)
{
	struct prober *prober = calloc(1, sizeof(*prober));

	if (prober) {
		prober->ctx = SSL_CTX_new(TLS_client_method());
		prober->trusted = X509_STORE_new();
	}
	if (!prober || !prober->ctx || !prober->trusted || !set_source(prober, source)) {
		snprintf(error, error_len, prober && prober->trusted ? "[probe] source = %.60s: not an address" : "no memory", source);
		prober_free(prober);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(prober->ctx, TLS1_VERSION);
	SSL_CTX_set_cipher_list(prober->ctx, "DEFAULT:@SECLEVEL=0");
	X509_VERIFY_PARAM_set_auth_level(SSL_CTX_get0_param(prober->ctx), AUTH_LEVEL);
	SSL_CTX_set_verify(prober->ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(prober->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_clear_mode(prober->ctx, SSL_MODE_AUTO_RETRY); /* a server that sends tickets without end must not hold the loop */
	SSL_CTX_dane_enable(prober->ctx);
	SSL_CTX_dane_set_flags(prober->ctx, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	snprintf(prober->helo, sizeof(prober->helo), "%s", helo);
	if (X509_STORE_load_file(prober->trusted, ca_file) != 1)
		snprintf(prober->warning, sizeof(prober->warning), "[tls] ca_file = %.100s: cannot be read; no chain is trusted", ca_file);
	return prober;
}

void prober_free(struct prober *prober)
{
	if (!prober)
		return;
	SSL_CTX_free(prober->ctx);
	X509_STORE_free(prober->trusted);
	free(prober);
}

const char *prober_warning(const struct prober *prober) { return prober->warning; }

SSL *new_ssl(struct prober *prober, const struct probe_target *target)
{
	SSL *ssl = SSL_new(prober->ctx);
	int usable = 0;

	if (!ssl)
		return NULL;
	if (target->only) {
		SSL_set_min_proto_version(ssl, target->only);
		SSL_set_max_proto_version(ssl, target->only);
	}
	if (*target->mx)
		SSL_set_tlsext_host_name(ssl, target->mx);
	if (!target->record_count || SSL_dane_enable(ssl, target->base ? target->base : target->mx) <= 0)
		return ssl;
	for (size_t i = 0; i < target->record_count; i++) {
		const struct discovered_tlsa *record = &target->records[i];
		if (record->usage == USAGE_DANE_TA || record->usage == USAGE_DANE_EE)
			usable += SSL_dane_tlsa_add(ssl, record->usage, record->selector, record->matching, record->data, record->len) > 0;
	}
	SSL_add1_host(ssl, target->mx); /* RFC 7672, section 3.2.2 */
	if (target->domain)
		SSL_add1_host(ssl, target->domain);
	SSL_set_app_data(ssl, usable ? ssl : NULL); /* anything: there are some */
	return ssl;
}

static enum policy_chain chain_of(int error)
{
	switch (error) {
	case X509_V_OK:
		return CHAIN_TRUSTED;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		return CHAIN_SELF_SIGNED;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return CHAIN_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return CHAIN_NOT_YET_VALID;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED:
		return CHAIN_UNTRUSTED;
	default:
		return CHAIN_INVALID;
	}
}

static enum policy_chain verify(struct prober *prober, SSL *ssl, X509 *leaf)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	enum policy_chain chain = CHAIN_INVALID;

	if (ctx && X509_STORE_CTX_init(ctx, prober->trusted, leaf, SSL_get_peer_cert_chain(ssl)) == 1) {
		X509_STORE_CTX_set_default(ctx, "ssl_server");
		X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(ctx), AUTH_LEVEL);
		chain = X509_verify_cert(ctx) == 1 ? CHAIN_TRUSTED : chain_of(X509_STORE_CTX_get_error(ctx));
	}
	X509_STORE_CTX_free(ctx);
	return chain;
}

static enum policy_dane dane_of(SSL *ssl)
{
	long result = SSL_get_verify_result(ssl);

	if (!SSL_get_app_data(ssl))
		return DANE_UNSEEN;
	if (result == X509_V_OK)
		return SSL_get0_dane_authority(ssl, NULL, NULL) >= 0 ? DANE_MATCHED : DANE_NO_MATCH;
	switch (result) {
	case X509_V_ERR_DANE_NO_MATCH:
		return DANE_NO_MATCH;
	case X509_V_ERR_HOSTNAME_MISMATCH:
		return DANE_NAME_MISMATCH;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return DANE_EXPIRED;
	default:
		return chain_of((int)result) == CHAIN_UNTRUSTED || chain_of((int)result) == CHAIN_SELF_SIGNED ? DANE_NO_MATCH : DANE_INVALID;
	}
}

/* ---- names ---- */

static void add_name(struct probe_posture *posture, const unsigned char *text, int len)
{
	char name[IMAGE_DOMAIN_MAX + 3];

	if (len <= 0 || (size_t)len >= sizeof(name) || posture->name_count == PROBE_NAMES_MAX)
		return;
	for (int i = 0; i < len; i++)
		name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
	name[len] = 0;
	const char *host = !strncmp(name, "*.", 2) ? name + 2 : name;
	if (strlen(name) != (size_t)len || !*host || !policy_domain_valid(host))
		return;
	if (!posture->names)
		posture->names = calloc(PROBE_NAMES_MAX, sizeof(*posture->names));
	if (posture->names && (posture->names[posture->name_count] = strdup(name)))
		posture->name_count++;
}

/* RFC 6125, section 6.4.4: the common name only where no name of DNS stands beside it. */
static void take_names(X509 *leaf, struct probe_posture *posture)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	bool some = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_DNS)
			continue;
		some = true;
		add_name(posture, ASN1_STRING_get0_data(name->d.dNSName), ASN1_STRING_length(name->d.dNSName));
	}
	GENERAL_NAMES_free(names);
	int at = some ? -1 : X509_NAME_get_index_by_NID(X509_get_subject_name(leaf), NID_commonName, -1);
	if (at >= 0) {
		const ASN1_STRING *common = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(X509_get_subject_name(leaf), at));
		add_name(posture, ASN1_STRING_get0_data(common), ASN1_STRING_length(common));
	}
}

static uint64_t seconds_of(const ASN1_TIME *time)
{
	struct tm tm;

	if (!time || ASN1_TIME_to_tm(time, &tm) != 1)
		return 0;
	time_t seconds = timegm(&tm);
	return seconds > 0 ? (uint64_t)seconds : 0;
}

void inspect(struct prober *prober, SSL *ssl, struct probe_posture *posture)
{
	X509 *leaf = SSL_get1_peer_certificate(ssl);
	unsigned char *key = NULL;

	posture->version = (uint16_t)SSL_version(ssl);
	snprintf(posture->cipher, sizeof(posture->cipher), "%s", SSL_get_cipher_name(ssl));
	if (!leaf)
		return;
	posture->chain = verify(prober, ssl, leaf);
	posture->dane = dane_of(ssl);
	posture->not_after = seconds_of(X509_get0_notAfter(leaf));
	int key_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &key);
	posture->certificate = key_len > 0 && X509_digest(leaf, EVP_sha256(), posture->certificate_sha256, NULL) == 1 &&
			       EVP_Digest(key, (size_t)key_len, posture->key_sha256, NULL, EVP_sha256(), NULL) == 1;
	OPENSSL_free(key);
	take_names(leaf, posture);
	X509_free(leaf);
}
