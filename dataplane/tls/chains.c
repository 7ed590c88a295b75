/*
 * chains.c - chains of certificates that were found trusted a moment ago: the next session to that server does
 * without the signatures of its issuers (70 us each). That the server has the leaf's key is proven each time.
 *
 * The verdict depends on the chain as sent, the security level, the roots and the time, and on nothing else: no CRL
 * and no OCSP is asked, names are not part of it. So what is kept is a digest over the level and each certificate
 * whole, in a context whose roots do not change; only for a chain without any error; and it holds from then on until
 * the first certificate of the verified chain expires, its root included, or for CHAIN_LIFE_S. A chain whose place in
 * the table is taken replaces the one that was there.
 */
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define CHAINS_MAX 1024
#define CHAIN_LIFE_S 600
#define CHAIN_CERTIFICATES_MAX 16 /* a longer one is verified each time */

struct tls_chains {
	struct chain {
		uint8_t digest[32];
		ASN1_TIME *from, *until; /* NULL: no chain */
	} at[CHAINS_MAX];
};

struct tls_chains *tls_chains_new(void)
{
	return calloc(1, sizeof(struct tls_chains));
}

static void drop(struct chain *chain)
{
	ASN1_TIME_free(chain->from);
	ASN1_TIME_free(chain->until);
	*chain = (struct chain){.from = NULL};
}

void tls_chains_free(struct tls_chains *chains)
{
	for (size_t i = 0; chains && i < CHAINS_MAX; i++)
		drop(&chains->at[i]);
	free(chains);
}

bool tls_chains_digest(X509_STORE_CTX *store, uint8_t out[32])
{
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store); /* the leaf is the first */
	int count = sk_X509_num(sent);
	uint8_t sums[1 + CHAIN_CERTIFICATES_MAX][32] = {{0}};
	unsigned len;

	if (count < 1 || count > CHAIN_CERTIFICATES_MAX || sk_X509_value(sent, 0) != X509_STORE_CTX_get0_cert(store))
		return false;
	sums[0][0] = (uint8_t)X509_VERIFY_PARAM_get_auth_level(X509_STORE_CTX_get0_param(store));
	for (int i = 0; i < count; i++)
		if (!X509_digest(sk_X509_value(sent, i), EVP_sha256(), sums[1 + i], &len) || len != sizeof(sums[0]))
			return false;
	return EVP_Digest(sums, (size_t)(1 + count) * sizeof(sums[0]), out, &len, EVP_sha256(), NULL) && len == sizeof(sums[0]);
}

static struct chain *place(struct tls_chains *chains, const uint8_t digest[32])
{
	return &chains->at[(digest[0] | digest[1] << 8) % CHAINS_MAX];
}

bool tls_chains_know(struct tls_chains *chains, const uint8_t digest[32])
{
	struct chain *chain = place(chains, digest);

	if (!chain->until || memcmp(chain->digest, digest, sizeof(chain->digest)))
		return false;
	if (X509_cmp_current_time(chain->from) <= 0 && X509_cmp_current_time(chain->until) > 0)
		return true;
	drop(chain);
	return false;
}

void tls_chains_note(struct tls_chains *chains, const uint8_t digest[32], X509_STORE_CTX *store)
{
	STACK_OF(X509) *verified = X509_STORE_CTX_get0_chain(store);
	struct chain *chain = place(chains, digest);
	ASN1_TIME *life = X509_gmtime_adj(NULL, CHAIN_LIFE_S);
	const ASN1_TIME *first = life;

	drop(chain);
	for (int i = 0; first && i < sk_X509_num(verified); i++) {
		const ASN1_TIME *end = X509_get0_notAfter(sk_X509_value(verified, i));
		int order = ASN1_TIME_compare(end, first);
		first = order == -2 ? NULL : order < 0 ? end : first;
	}
	if (first && sk_X509_num(verified) > 0) {
		memcpy(chain->digest, digest, sizeof(chain->digest));
		chain->from = X509_gmtime_adj(NULL, 0);
		chain->until = ASN1_STRING_dup(first);
		if (!chain->from || !chain->until)
			drop(chain);
	}
	ASN1_TIME_free(life);
}
