/* tls/chains.c: what is known of a chain, and for how long. */
#include "tls_peer.h"

#include "tls/private.h"

static int always(int ok, X509_STORE_CTX *store)
{
	(void)ok, (void)store;
	return 1;
}

struct scene { X509_STORE *roots; X509_STORE_CTX *store; STACK_OF(X509) *sent; uint8_t digest[32]; };

/* `more`: sent behind the leaf, or NULL. */
static struct scene scene(const struct cert *root, const struct cert *leaf, const struct cert *more, int level)
{
	struct scene s = {.roots = X509_STORE_new(), .store = X509_STORE_CTX_new(), .sent = sk_X509_new_null()};
	X509_STORE_add_cert(s.roots, root->x509);
	sk_X509_push(s.sent, leaf->x509);
	if (more)
		sk_X509_push(s.sent, more->x509);
	X509_STORE_CTX_init(s.store, s.roots, leaf->x509, s.sent);
	X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(s.store), level);
	X509_STORE_CTX_set_verify_cb(s.store, always);
	assert_true(tls_chains_digest(s.store, s.digest));
	assert_int_equal(X509_verify_cert(s.store), 1);
	return s;
}

static void scene_end(struct scene *s)
{
	X509_STORE_CTX_free(s->store);
	X509_STORE_free(s->roots);
	sk_X509_free(s->sent);
}

static bool known(struct tls_chains *chains, const struct cert *root, const struct cert *leaf, const struct cert *more, int level)
{
	struct scene s = scene(root, leaf, more, level);
	int64_t end_s = 0;
	bool result = tls_chains_know(chains, s.digest, &end_s);
	assert_int_equal(end_s, result ? tls_chain_end_s(s.store) : 0);
	scene_end(&s);
	return result;
}

static void note(struct tls_chains *chains, const struct cert *root, const struct cert *leaf, const struct cert *more, int level)
{
	struct scene s = scene(root, leaf, more, level);
	tls_chains_note(chains, s.digest, tls_chain_end_s(s.store));
	scene_end(&s);
}

static void test_only_the_very_same_chain_is_known(void **state)
{
	struct tls_chains *chains = tls_chains_new();
	struct cert ca = cert_make("CA", "CA", NULL, -1, 30), a = cert_make("a", "DNS:a", &ca, -1, 30), b = cert_make("a", "DNS:a", &ca, -1, 30);
	(void)state;
	assert_false(known(chains, &ca, &a, NULL, 1));
	note(chains, &ca, &a, NULL, 1);
	assert_true(known(chains, &ca, &a, NULL, 1));
	assert_true(known(chains, &ca, &a, NULL, 1));
	assert_false(known(chains, &ca, &b, NULL, 1));  /* another serial number and key, all else alike */
	assert_false(known(chains, &ca, &a, &ca, 1));   /* sent with its issuer */
	assert_false(known(chains, &ca, &a, NULL, 2));  /* asked more strictly */
	tls_chains_free(chains);
	cert_free(&ca);
	cert_free(&a);
	cert_free(&b);
}

static void test_no_longer_than_each_certificate_is_valid(void **state)
{
	struct tls_chains *chains = tls_chains_new();
	struct cert ca = cert_make("CA", "CA", NULL, -30, 30), old_ca = cert_make("CA", "CA", NULL, -30, -1),
	            old = cert_make("a", "DNS:a", &ca, -30, -1), of_old = cert_make("a", "DNS:a", &old_ca, -30, 30);
	(void)state;
	note(chains, &ca, &old, NULL, 1); /* as if it had been trusted before its end */
	assert_false(known(chains, &ca, &old, NULL, 1));
	note(chains, &old_ca, &of_old, NULL, 1); /* the root is not sent, and counts */
	assert_false(known(chains, &old_ca, &of_old, NULL, 1));
	tls_chains_free(chains);
	cert_free(&ca);
	cert_free(&old_ca);
	cert_free(&old);
	cert_free(&of_old);
}

static void test_a_chain_ends_with_its_first_certificate(void **state)
{
	struct cert ca = cert_make("CA", "CA", NULL, -1, 3), middle = cert_make("middle", "CA", &ca, -1, 2), leaf = cert_make("a", "DNS:a", &middle, -1, 4);
	struct scene s = scene(&ca, &leaf, &middle, 1);
	(void)state;
	int64_t left_s = tls_chain_end_s(s.store) - tls_now_s();
	assert_true(left_s <= 2 * 86400 && left_s > 86400);
	scene_end(&s);
	cert_free(&ca);
	cert_free(&middle);
	cert_free(&leaf);
}

static void test_a_chain_too_long_is_not_looked_up(void **state)
{
	struct cert ca = cert_make("CA", "CA", NULL, -1, 30), leaf = cert_make("a", "DNS:a", &ca, -1, 30);
	struct scene s = scene(&ca, &leaf, NULL, 1);
	(void)state;
	for (int i = 0; i < 15; i++)
		sk_X509_push(s.sent, ca.x509);
	assert_true(tls_chains_digest(s.store, s.digest));
	sk_X509_push(s.sent, ca.x509);
	assert_false(tls_chains_digest(s.store, s.digest));
	scene_end(&s);
	cert_free(&ca);
	cert_free(&leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_the_very_same_chain_is_known), cmocka_unit_test(test_no_longer_than_each_certificate_is_valid),
		cmocka_unit_test(test_a_chain_ends_with_its_first_certificate), cmocka_unit_test(test_a_chain_too_long_is_not_looked_up),
	};
	return cmocka_run_group_tests_name("tls_chains", tests, NULL, NULL);
}
