/* tls/names.c: which names of a certificate are shown to the matcher. */
#include "tls_peer.h"

#include "tls/private.h"

static unsigned count;
static char last[300];
static bool collect(void *context, const char *name)
{
	count++;
	snprintf(last, sizeof(last), "%s", name);
	return context && !strcmp(context, name);
}

static void shown(const char *cn, const char *names, unsigned expected)
{
	struct cert c = cert_make(cn, names, NULL, -1, 1);
	count = 0;
	assert_false(tls_names_any(c.x509, collect, NULL));
	assert_int_equal(count, expected);
	cert_free(&c);
}

static void test_names(void **state)
{
	(void)state;
	shown("cn.example", "DNS:a.example,DNS:b.example", 2);
	assert_string_equal(last, "b.example");
	shown("cn.example", NULL, 1);
	assert_string_equal(last, "cn.example");
	shown("cn.example", "email:a@b.example", 1); /* RFC 6125, 6.4.4: CN where there is no DNS name */
	shown("two words", NULL, 0);
	struct cert c = cert_make("x", "DNS:a.example,DNS:b.example", NULL, -1, 1);
	count = 0;
	assert_true(tls_names_any(c.x509, collect, "a.example"));
	assert_int_equal(count, 1);
	cert_free(&c);
}

static void test_nul_in_a_name(void **state)
{
	struct cert c = {X509_new(), NULL};
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();
	(void)state;
	ASN1_STRING_set(text, "good.example\0.evil.example", 26);
	GENERAL_NAME_set0_value(name, GEN_DNS, text);
	sk_GENERAL_NAME_push(names, name);
	X509_add1_ext_i2d(c.x509, NID_subject_alt_name, names, 0, 0);
	count = 0;
	assert_false(tls_names_any(c.x509, collect, "good.example"));
	assert_int_equal(count, 0);
	GENERAL_NAMES_free(names);
	X509_free(c.x509);
}

static void test_versions(void **state)
{
	(void)state;
	assert_string_equal(tls_version_name(0x0304), "TLSv1.3");
	assert_string_equal(tls_version_name(0x0301), "TLSv1");
	assert_string_equal(tls_version_name(7), "unknown");
}

/* As `openssl x509 -fingerprint -sha256` and `openssl pkey -pubin -outform DER | sha256sum` have them. */
static void test_fingerprints(void **state)
{
	struct cert c = cert_make("x", NULL, NULL, -1, 1), same_key = c;
	uint8_t whole[32], key[32], expected[32], whole2[32], key2[32];
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(c.key, &der);

	(void)state;
	assert_true(tls_fingerprints(c.x509, whole, key));
	EVP_Digest(der, (size_t)len, expected, NULL, EVP_sha256(), NULL);
	assert_memory_equal(key, expected, 32);
	OPENSSL_free(der);
	der = NULL;
	len = i2d_X509(c.x509, &der);
	EVP_Digest(der, (size_t)len, expected, NULL, EVP_sha256(), NULL);
	assert_memory_equal(whole, expected, 32);
	OPENSSL_free(der);
	/* renewed with the same key */
	same_key.x509 = X509_dup(c.x509);
	ASN1_INTEGER_set(X509_get_serialNumber(same_key.x509), 4711);
	assert_true(X509_sign(same_key.x509, c.key, EVP_sha256()) > 0);
	assert_true(tls_fingerprints(same_key.x509, whole2, key2));
	assert_memory_equal(key, key2, 32);
	assert_memory_not_equal(whole, whole2, 32);
	X509_free(same_key.x509);
	cert_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_nul_in_a_name), cmocka_unit_test(test_versions),
	                                   cmocka_unit_test(test_fingerprints)};
	return cmocka_run_group_tests_name("tls_names", tests, NULL, NULL);
}
