/*
 * context.c - what one worker's TLS clients share: trusted roots, an SSL_CTX for each profile, sessions by server.
 *
 * An SSL_CTX is made once for each {floor, ceiling, ciphers, exclude}, never for a connection: OpenSSL 3 fetches
 * algorithms and takes locks when one is made. Sessions are bounded, and the oldest goes first.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/lhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "private.h"

#define PROFILE_TEXT_MAX 512
#define TICKETS_MAX 4 /* for one server */
#define GROUPS "X25519:P-256:X448:P-521:P-384" /* X25519 alone fails TLS 1.2 with P-256 certificates */

struct profile {
	SSL_CTX *ctx;
	uint16_t floor, ceiling;
	char ciphers[PROFILE_TEXT_MAX], exclude[PROFILE_TEXT_MAX];
	TAILQ_ENTRY(profile) list;
};

typedef struct remembered { /* typedef: lhash.h makes its functions' names of it */
	const SSL_CTX *profile;
	size_t key_len;
	uint8_t key[TLS_SERVER_KEY_MAX];
	unsigned count;
	struct { SSL_SESSION *session; struct tls_proof proof; } ticket[TICKETS_MAX]; /* the newest is the last */
	TAILQ_ENTRY(remembered) age;
} remembered;
DEFINE_LHASH_OF(remembered);

struct tls_context {
	struct tls_library *library;
	X509_STORE *roots;
	BIO_METHOD *method;
	uint8_t *scratch;
	struct tls_chains *chains;
	uint32_t sessions_max, profiles_max, profile_count;
	TAILQ_HEAD(, profile) profiles;
	LHASH_OF(remembered) *sessions;
	TAILQ_HEAD(, remembered) oldest;
};

void tls_error_text(char *out, size_t out_len, const char *otherwise)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	snprintf(out, out_len, "%s", reason ? reason : otherwise);
	tls_printable(out);
	ERR_clear_error();
}

/* ---- sessions ---- */

static unsigned long hash(const struct remembered *entry)
{
	unsigned long sum = (unsigned long)(uintptr_t)entry->profile;
	for (size_t i = 0; i < entry->key_len; i++)
		sum = (sum ^ entry->key[i]) * 1099511628211ul; /* FNV-1a; keys are not a peer's to choose but for few bytes */
	return sum;
}

static int compare(const struct remembered *a, const struct remembered *b)
{
	return a->profile != b->profile || a->key_len != b->key_len || memcmp(a->key, b->key, a->key_len);
}

static struct remembered *find(struct tls_context *context, const SSL_CTX *profile, const uint8_t *key, size_t key_len)
{
	struct remembered wanted = {.profile = profile, .key_len = key_len};

	if (key_len > sizeof(wanted.key))
		return NULL;
	memcpy(wanted.key, key, key_len);
	return lh_remembered_retrieve(context->sessions, &wanted);
}

static void drop_tickets(struct remembered *entry, unsigned oldest)
{
	for (unsigned i = 0; i < oldest; i++)
		SSL_SESSION_free(entry->ticket[i].session);
	entry->count -= oldest;
	memmove(&entry->ticket[0], &entry->ticket[oldest], entry->count * sizeof(entry->ticket[0]));
}

static void forget(struct tls_context *context, struct remembered *entry)
{
	lh_remembered_delete(context->sessions, entry);
	TAILQ_REMOVE(&context->oldest, entry, age);
	drop_tickets(entry, entry->count);
	free(entry);
}

void tls_context_forget(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len)
{
	struct remembered *entry = find(context, profile, key, key_len);

	if (entry)
		forget(context, entry);
}

/*
 * The newest, and each once (RFC 8446, C.4), but for the last one: sessions that begin at the same time resume too.
 * Of that one a copy is offered: OpenSSL marks what a TLS 1.3 session has been resumed with as not to be resumed.
 */
SSL_SESSION *tls_context_session(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, struct tls_proof *proof)
{
	struct remembered *entry = find(context, profile, key, key_len);

	if (entry && entry->ticket[entry->count - 1].proof.end_s <= tls_now_s()) { /* to be proven anew */
		forget(context, entry);
		entry = NULL;
	}
	if (!entry)
		return NULL;
	*proof = entry->ticket[entry->count - 1].proof;
	if (entry->count == 1)
		return SSL_SESSION_dup(entry->ticket[0].session);
	return entry->ticket[--entry->count].session;
}

static struct remembered *remembered_new(struct tls_context *context, const SSL_CTX *profile, const uint8_t *key, size_t key_len)
{
	struct remembered *entry = key_len <= TLS_SERVER_KEY_MAX && context->sessions_max ? calloc(1, sizeof(*entry)) : NULL;

	if (!entry)
		return NULL;
	if (lh_remembered_num_items(context->sessions) >= context->sessions_max)
		forget(context, TAILQ_FIRST(&context->oldest));
	entry->profile = profile;
	entry->key_len = key_len;
	memcpy(entry->key, key, key_len);
	lh_remembered_insert(context->sessions, entry);
	TAILQ_INSERT_TAIL(&context->oldest, entry, age);
	return entry;
}

void tls_context_remember(struct tls_context *context, SSL_CTX *profile, const uint8_t *key, size_t key_len, const SSL_SESSION *session,
                          const struct tls_proof *proof, bool first)
{
	struct remembered *entry = find(context, profile, key, key_len);
	/* A copy: that of the connection is spoilt by whatever becomes of it. */
	SSL_SESSION *copy = SSL_SESSION_is_resumable(session) ? SSL_SESSION_dup(session) : NULL;

	if (copy && !entry)
		entry = remembered_new(context, profile, key, key_len);
	if (!copy || !entry) {
		SSL_SESSION_free(copy);
		return;
	}
	if (first)
		drop_tickets(entry, entry->count);
	else if (entry->count == TICKETS_MAX)
		drop_tickets(entry, 1);
	entry->ticket[entry->count].session = copy;
	entry->ticket[entry->count++].proof = *proof;
	TAILQ_REMOVE(&context->oldest, entry, age);
	TAILQ_INSERT_TAIL(&context->oldest, entry, age);
}

/* ---- profiles ---- */

/* "DEFAULT:!RC4:!3DES" out of a base list and what is to be left out, which may stand in any separators. */
static bool cipher_list(char out[2 * PROFILE_TEXT_MAX], const char *ciphers, const char *exclude)
{
	char words[PROFILE_TEXT_MAX], *rest = words, *word;
	size_t at = (size_t)snprintf(out, 2 * PROFILE_TEXT_MAX, "%s", *ciphers ? ciphers : "DEFAULT:!aNULL");

	snprintf(words, sizeof(words), "%s", exclude);
	while ((word = strsep(&rest, ":, \t")) && at < 2 * PROFILE_TEXT_MAX)
		if (*word)
			at += (size_t)snprintf(out + at, 2 * PROFILE_TEXT_MAX - at, ":!%s", word);
	return at < 2 * PROFILE_TEXT_MAX;
}

static SSL_CTX *make_profile(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len)
{
	char list[2 * PROFILE_TEXT_MAX], text[128];
	SSL_CTX *ctx = SSL_CTX_new_ex(tls_library_context(context->library), NULL, TLS_client_method());

	if (!ctx) {
		snprintf(error, error_len, "no memory for a TLS profile");
		return NULL;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, tls_client_new_session);
	SSL_CTX_set1_cert_store(ctx, context->roots);
	SSL_CTX_set_cert_verify_callback(ctx, tls_client_verify, context->chains);
	/* OpenSSL 3 has TLS 1.0 and 1.1 below security level 1 only. What is too weak a rule says by its floor; of certificates, nobody. */
	SSL_CTX_set_security_level(ctx, params->floor < TLS1_2_VERSION ? 0 : 1);
	X509_VERIFY_PARAM_set_auth_level(SSL_CTX_get0_param(ctx), TLS_AUTH_LEVEL);
	if (SSL_CTX_dane_enable(ctx) <= 0 ||
	    !SSL_CTX_set_min_proto_version(ctx, params->floor ? params->floor : TLS1_VERSION) ||
	    !SSL_CTX_set_max_proto_version(ctx, params->ceiling) || !SSL_CTX_set1_groups_list(ctx, GROUPS) ||
	    !cipher_list(list, params->ciphers, params->exclude) || !SSL_CTX_set_cipher_list(ctx, list)) {
		tls_error_text(text, sizeof(text), "too long");
		snprintf(error, error_len, "TLS profile: floor %s, ciphers \"%.80s\", exclude \"%.80s\": %s",
		         params->floor ? tls_version_name(params->floor) : "any", params->ciphers, params->exclude, text);
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

SSL_CTX *tls_context_profile(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len)
{
	struct profile *profile;

	TAILQ_FOREACH (profile, &context->profiles, list)
		if (profile->floor == params->floor && profile->ceiling == params->ceiling && !strcmp(profile->ciphers, params->ciphers) &&
		    !strcmp(profile->exclude, params->exclude))
			return profile->ctx;
	if (context->profile_count >= context->profiles_max) {
		snprintf(error, error_len, "more than %u TLS profiles (floor, ceiling, ciphers, exclude) are in use", context->profiles_max);
		return NULL;
	}
	if (strlen(params->ciphers) >= PROFILE_TEXT_MAX || strlen(params->exclude) >= PROFILE_TEXT_MAX) {
		snprintf(error, error_len, "TLS profile: a list of ciphers longer than %d", PROFILE_TEXT_MAX - 1);
		return NULL;
	}
	SSL_CTX *ctx = make_profile(context, params, error, error_len);
	if (!ctx)
		return NULL;
	profile = calloc(1, sizeof(*profile));
	if (!profile) {
		SSL_CTX_free(ctx);
		snprintf(error, error_len, "no memory for a TLS profile");
		return NULL;
	}
	profile->ctx = ctx;
	profile->floor = params->floor;
	profile->ceiling = params->ceiling;
	strcpy(profile->ciphers, params->ciphers);
	strcpy(profile->exclude, params->exclude);
	TAILQ_INSERT_TAIL(&context->profiles, profile, list);
	context->profile_count++;
	return ctx;
}

/* ---- the context ---- */

const BIO_METHOD *tls_context_method(const struct tls_context *context)
{
	return context->method;
}

uint8_t *tls_context_scratch(struct tls_context *context)
{
	return context->scratch;
}

static bool load_roots(struct tls_context *context, const char *path, char *error, size_t error_len)
{
	char text[128];

	context->roots = X509_STORE_new();
	OSSL_LIB_CTX *library = tls_library_context(context->library);
	if (context->roots && (path ? X509_STORE_load_file_ex(context->roots, path, library, NULL)
	                            : X509_STORE_set_default_paths_ex(context->roots, library, NULL)))
		return true;
	tls_error_text(text, sizeof(text), "unreadable");
	snprintf(error, error_len, "%s: %s; a PEM file of trusted roots is needed", path ? path : "system's roots", text);
	return false;
}

struct tls_context *tls_context_new(const struct tls_context_config *config, char *error, size_t error_len)
{
	struct tls_context *context = calloc(1, sizeof(*context));

	if (!context) {
		snprintf(error, error_len, "no memory for TLS");
		return NULL;
	}
	TAILQ_INIT(&context->profiles);
	TAILQ_INIT(&context->oldest);
	context->sessions_max = config->sessions_max;
	context->profiles_max = config->profiles_max;
	context->sessions = lh_remembered_new(hash, compare);
	context->method = tls_channel_method();
	context->scratch = malloc(TLS_PLAIN_BYTES);
	snprintf(error, error_len, "no memory for TLS");
	context->chains = tls_chains_new();
	context->library = tls_library_new();
	if (!context->library || !context->sessions || !context->method || !context->scratch || !context->chains ||
	    !load_roots(context, config->ca_file, error, error_len)) {
		tls_context_free(context);
		return NULL;
	}
	return context;
}

void tls_context_free(struct tls_context *context)
{
	if (!context)
		return;
	while (!TAILQ_EMPTY(&context->oldest))
		forget(context, TAILQ_FIRST(&context->oldest));
	lh_remembered_free(context->sessions);
	while (!TAILQ_EMPTY(&context->profiles)) {
		struct profile *profile = TAILQ_FIRST(&context->profiles);
		TAILQ_REMOVE(&context->profiles, profile, list);
		SSL_CTX_free(profile->ctx);
		free(profile);
	}
	X509_STORE_free(context->roots);
	BIO_meth_free(context->method);
	free(context->scratch);
	tls_chains_free(context->chains);
	tls_library_free(context->library);
	free(context);
}
