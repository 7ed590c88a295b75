/*
 * opensmtpd_key.c - lets Debian 12's OpenSMTPD 6.8 serve TLS: preloaded into it, in the lab only.
 *
 * Its TLS process has no private key: it hangs a name on the certificate's RSA object and signs through a method of its
 * own. With OpenSSL 3 that object is only a copy beside the real key, so every handshake fails (OpenSMTPD issues 1171 and
 * 1239, "missing private key"). Enters: the key as OpenSMTPD gives it to OpenSSL. Leaves: the same key made of the copy
 * that has the name and the method. RSA only.
 */
#define _GNU_SOURCE
#define OPENSSL_SUPPRESS_DEPRECATED
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>

int SSL_CTX_use_PrivateKey(SSL_CTX *ctx, EVP_PKEY *key)
{
	int (*real)(SSL_CTX *, EVP_PKEY *) = (int (*)(SSL_CTX *, EVP_PKEY *))dlsym(RTLD_NEXT, "SSL_CTX_use_PrivateKey");
	RSA *rsa = EVP_PKEY_get1_RSA(key);
	EVP_PKEY *named = rsa ? EVP_PKEY_new() : NULL;
	if (!named || !EVP_PKEY_assign_RSA(named, rsa))
		return real(ctx, key);
	int rc = real(ctx, named);
	EVP_PKEY_free(named);
	return rc;
}
