/*
 * names.c - what a certificate says of itself, what it is pinned by, and names of protocol versions.
 *
 * A name with a NUL or an unprintable octet in it is not shown to the matcher: "good.example\0.evil.example"
 * is no name of good.example's (CVE-2009-2408).
 */
#include <openssl/x509v3.h>
#include <string.h>

#include "private.h"

#define NAME_MAX_BYTES 255

static bool as_text(const ASN1_STRING *string, char out[NAME_MAX_BYTES + 1])
{
	int len = ASN1_STRING_length(string);
	const unsigned char *bytes = ASN1_STRING_get0_data(string);

	if (len <= 0 || len > NAME_MAX_BYTES)
		return false;
	for (int i = 0; i < len; i++)
		if (bytes[i] <= 0x20 || bytes[i] >= 0x7f)
			return false;
	memcpy(out, bytes, (size_t)len);
	out[len] = 0;
	return true;
}

bool tls_names_any(X509 *certificate, bool (*match)(void *context, const char *name), void *context)
{
	char name[NAME_MAX_BYTES + 1];
	bool matched = false, has_dns = false;
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !matched; i++) {
		const GENERAL_NAME *one = sk_GENERAL_NAME_value(names, i);
		if (one->type != GEN_DNS)
			continue;
		has_dns = true;
		matched = as_text(one->d.dNSName, name) && match(context, name);
	}
	GENERAL_NAMES_free(names);
	if (has_dns)
		return matched;
	X509_NAME *subject = X509_get_subject_name(certificate);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	return at >= 0 && as_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), name) && match(context, name);
}

bool tls_fingerprints(X509 *certificate, uint8_t whole[32], uint8_t key[32])
{
	unsigned char *der = NULL;
	unsigned len = 0;
	/* X509_pubkey_digest() would leave the algorithm out: not what openssl(1), Postfix and RFC 7469 call a key's pin. */
	int key_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
	bool done = key_len > 0 && EVP_Digest(der, (size_t)key_len, key, &len, EVP_sha256(), NULL) && len == 32 &&
	            X509_digest(certificate, EVP_sha256(), whole, &len) && len == 32;

	OPENSSL_free(der);
	return done;
}

void tls_printable(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text >= 0x7f)
			*text = '?';
}

const char *tls_version_name(uint16_t version)
{
	switch (version) {
	case 0x0300: return "SSLv3";
	case 0x0301: return "TLSv1";
	case 0x0302: return "TLSv1.1";
	case 0x0303: return "TLSv1.2";
	case 0x0304: return "TLSv1.3";
	default: return "unknown";
	}
}
