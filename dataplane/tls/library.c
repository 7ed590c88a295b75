/*
 * library.c - OpenSSL's algorithms as a TLS client wants them: the default provider, with fewer decoders.
 *
 * OpenSSL 3.0 goes through all decoders of its library context for each certificate that a server shows, to find out
 * how to read its public key; that was a fifth of a full handshake. Of the default provider's some eighty decoders, the
 * few that read public keys as they stand in certificates are let through, and all its other algorithms as they are.
 * A context of its own for each worker also means locks of its own: two workers do not wait for each other.
 *
 * A provider's functions want the context of the provider that they come from. So the default provider is loaded into
 * a library context (`whole`), and handed on under another name in a second one (`lean`), which is what is used.
 */
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define DECODERS_MAX 32

struct tls_library {
	OSSL_LIB_CTX *whole, *lean;
	OSSL_PROVIDER *whole_provider, *lean_provider;
};

static _Thread_local const struct tls_library *opening; /* whose provider is being loaded */
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static OSSL_PROVIDER *model; /* the default provider, for what is the same in every context */
static OSSL_ALGORITHM decoders[DECODERS_MAX + 1];

static void find_decoders(void)
{
	int no_cache;
	size_t count = 0;

	model = OSSL_PROVIDER_load(NULL, "default");
	const OSSL_ALGORITHM *all = model ? OSSL_PROVIDER_query_operation(model, OSSL_OP_DECODER, &no_cache) : NULL;
	for (; all && all->algorithm_names && count < DECODERS_MAX; all++)
		if (strstr(all->property_definition, "input=der") && strstr(all->property_definition, "structure=SubjectPublicKeyInfo"))
			decoders[count++] = *all;
}

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
	(void)provider;
	if (operation != OSSL_OP_DECODER)
		return OSSL_PROVIDER_query_operation(model, operation, no_cache);
	*no_cache = 0;
	return decoders;
}

static int capabilities(void *provider, const char *capability, OSSL_CALLBACK *callback, void *argument)
{
	(void)provider;
	return OSSL_PROVIDER_get_capabilities(model, capability, callback, argument);
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **functions, void **context)
{
	static const OSSL_DISPATCH ours[] = {
		{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
		{OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities}, /* the groups of TLS */
		{0, NULL},
	};
	(void)handle, (void)core;
	*functions = ours;
	*context = OSSL_PROVIDER_get0_provider_ctx(opening->whole_provider);
	return 1;
}

struct tls_library *tls_library_new(void)
{
	struct tls_library *library = calloc(1, sizeof(*library));

	if (!library || !CRYPTO_THREAD_run_once(&once, find_decoders) || !model || !decoders[0].algorithm_names)
		goto out;
	library->whole = OSSL_LIB_CTX_new();
	library->lean = OSSL_LIB_CTX_new();
	library->whole_provider = library->whole ? OSSL_PROVIDER_load(library->whole, "default") : NULL;
	if (!library->whole_provider || !library->lean || !OSSL_PROVIDER_add_builtin(library->lean, "lean", provider_init))
		goto out;
	opening = library;
	library->lean_provider = OSSL_PROVIDER_load(library->lean, "lean");
	opening = NULL;
	if (library->lean_provider)
		return library;
out:
	tls_library_free(library);
	return NULL;
}

void tls_library_free(struct tls_library *library)
{
	if (!library)
		return;
	OSSL_PROVIDER_unload(library->lean_provider);
	OSSL_LIB_CTX_free(library->lean);
	OSSL_PROVIDER_unload(library->whole_provider);
	OSSL_LIB_CTX_free(library->whole);
	free(library);
}

OSSL_LIB_CTX *tls_library_context(const struct tls_library *library)
{
	return library->lean;
}
