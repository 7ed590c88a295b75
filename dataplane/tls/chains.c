/*
 * chains.c - chains of certificates that were found trusted a moment ago: the next session to that server does
 * without the signatures of its issuers (70 us each). That the server has the leaf's key is proven each time.
 *
 * The verdict depends on the chain as sent, the security level, the roots and the time, and on nothing else: no CRL
 * and no OCSP is asked, names are not part of it. So what is kept is a digest over the level and each certificate
 * whole, in a context whose roots do not change; only for a chain without any error; and it holds from then on until
 * the first certificate of the verified chain expires, its root included, or for CHAIN_LIFE_S. Sessions begun with the
 * chain are resumed as trusted no longer than that first certificate is valid (context.c). A chain whose place in the
 * table is taken replaces the one that was there.
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
		int64_t from_s, end_s; /* both 0: no chain */
	} at[CHAINS_MAX];
};

struct tls_chains *tls_chains_new(void)
{
	return calloc(1, sizeof(struct tls_chains));
}

void tls_chains_free(struct tls_chains *chains)
{
	free(chains);
}

/* Of 1970; NULL: now. INT64_MIN for what is no time. */
static int64_t seconds_of(const ASN1_TIME *at)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days, seconds;
	bool known = epoch && ASN1_TIME_diff(&days, &seconds, epoch, at);

	ASN1_TIME_free(epoch);
	return known ? days * (int64_t)86400 + seconds : INT64_MIN;
}

int64_t tls_now_s(void)
{
	int64_t seconds = seconds_of(NULL);
	return seconds == INT64_MIN ? INT64_MAX : seconds; /* without memory, past every end */
}

int64_t tls_chain_end_s(X509_STORE_CTX *store)
{
	STACK_OF(X509) *verified = X509_STORE_CTX_get0_chain(store);
	int64_t first = INT64_MAX;

	for (int i = 0; i < sk_X509_num(verified); i++) {
		int64_t end = seconds_of(X509_get0_notAfter(sk_X509_value(verified, i)));
		first = end < first ? end : first;
	}
	return sk_X509_num(verified) > 0 ? first : INT64_MIN;
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

bool tls_chains_know(struct tls_chains *chains, const uint8_t digest[32], int64_t *end_s)
{
	struct chain *chain = place(chains, digest);

	if (!chain->end_s || memcmp(chain->digest, digest, sizeof(chain->digest)))
		return false;
	int64_t now_s = tls_now_s();
	if (chain->from_s <= now_s && now_s < chain->end_s && now_s < chain->from_s + CHAIN_LIFE_S) {
		*end_s = chain->end_s;
		return true;
	}
	*chain = (struct chain){.end_s = 0};
	return false;
}

void tls_chains_note(struct tls_chains *chains, const uint8_t digest[32], int64_t end_s)
{
	struct chain *chain = place(chains, digest);

	memcpy(chain->digest, digest, sizeof(chain->digest));
	chain->from_s = tls_now_s();
	chain->end_s = end_s;
}
