/* tls/context.c: roots, profiles and their limit, errors that name what is wrong. */
#include "tls_peer.h"

static void test_missing_and_bad_roots(void **state)
{
	char error[256];
	(void)state;
	assert_null(tls_context_new(&(struct tls_context_config){"/nonexistent/ca.pem", 8, 4}, error, sizeof(error)));
	assert_non_null(strstr(error, "/nonexistent/ca.pem"));
	assert_null(tls_context_new(&(struct tls_context_config){"/etc/hostname", 8, 4}, error, sizeof(error)));
	assert_non_null(strstr(error, "/etc/hostname"));
}

static void test_profiles(void **state)
{
	char error[256], path[32];
	struct cert ca = cert_make("CA", "CA", NULL, -1, 30);
	(void)state;
	cert_write(&ca, path);
	struct tls_context *context = tls_context_new(&(struct tls_context_config){path, 8, 2}, error, sizeof(error));
	struct tls_client_params params = {.servername = "", .ciphers = "", .exclude = "", .server_key = (const uint8_t *)""};
	struct tls_client *a = tls_client_new(context, &params, error, sizeof(error));
	struct tls_client *b = tls_client_new(context, &params, error, sizeof(error));
	params.exclude = "SHA1, MD5 3DES";
	struct tls_client *c = tls_client_new(context, &params, error, sizeof(error));
	assert_true(a && b && c);
	params.floor = 0x0303;
	assert_null(tls_client_new(context, &params, error, sizeof(error)));
	assert_non_null(strstr(error, "more than 2 TLS profiles"));
	tls_client_free(a);
	tls_client_free(b);
	tls_client_free(c);
	tls_context_free(context);
	context = tls_context_new(&(struct tls_context_config){path, 8, 2}, error, sizeof(error));
	params.ciphers = "NO-SUCH-CIPHER";
	assert_null(tls_client_new(context, &params, error, sizeof(error)));
	assert_non_null(strstr(error, "NO-SUCH-CIPHER"));
	tls_context_free(context);
	unlink(path);
	cert_free(&ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_missing_and_bad_roots), cmocka_unit_test(test_profiles)};
	return cmocka_run_group_tests_name("tls_context", tests, NULL, NULL);
}
