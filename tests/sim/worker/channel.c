/*
 * channel.c - the bytes of an application over its stack, in clear and then in TLS (OpenSSL between memory BIOs).
 *
 * Certificates and keys are made once, from a fixed seed and with fixed dates, so that the sizes of all messages
 * are a function of the seed.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

char ca_file[32];
static struct { X509 *x509; EVP_PKEY *key; } authority;
static SSL_CTX *server_context[CERTIFICATES], *client_context;

static X509 *make(EVP_PKEY *key, const char *name, const char *alternative, bool is_ca, bool self_signed, const char *until)
{
	static long serial = 1;
	X509 *x509 = X509_new();
	X509V3_CTX context;
	X509 *issuer = self_signed ? x509 : authority.x509;
	X509_set_version(x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
	ASN1_TIME_set_string(X509_getm_notBefore(x509), "20200101000000Z");
	ASN1_TIME_set_string(X509_getm_notAfter(x509), until);
	X509_set_pubkey(x509, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(x509, X509_get_subject_name(issuer));
	X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
	int nid = is_ca ? NID_basic_constraints : NID_subject_alt_name;
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, is_ca ? "critical,CA:TRUE" : alternative);
	X509_add_ext(x509, extension, -1);
	X509_EXTENSION_free(extension);
	require(NULL, X509_sign(x509, self_signed ? key : authority.key, EVP_sha256()) > 0, "certificate");
	return x509;
}

void certificates_make(void)
{
	static const struct { const char *name, *alternative, *until; bool self_signed; } rows[CERTIFICATES] = {
		[CERT_GOOD] = {"mx.sim.example", "DNS:mx.sim.example", "20491231000000Z", false},
		[CERT_WRONG_NAME] = {"other.example", "DNS:other.example", "20491231000000Z", false},
		[CERT_SELF_SIGNED] = {"mx.sim.example", "DNS:mx.sim.example", "20491231000000Z", true},
		[CERT_EXPIRED] = {"mx.sim.example", "DNS:mx.sim.example", "20210101000000Z", false},
	};
	authority.key = EVP_EC_gen("P-256");
	authority.x509 = make(authority.key, "sim CA", NULL, true, true, "20491231000000Z");
	strcpy(ca_file, "/tmp/waxseal-sim-XXXXXX");
	FILE *file = fdopen(mkstemp(ca_file), "w");
	require(NULL, file && PEM_write_X509(file, authority.x509), "cannot write %s", ca_file);
	fclose(file);
	for (int i = 0; i < CERTIFICATES; i++) {
		EVP_PKEY *key = EVP_EC_gen("P-256");
		X509 *x509 = make(key, rows[i].name, rows[i].alternative, false, rows[i].self_signed, rows[i].until);
		SSL_CTX *context = server_context[i] = SSL_CTX_new(TLS_server_method());
		SSL_CTX_use_certificate(context, x509);
		SSL_CTX_use_PrivateKey(context, key);
		SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_session_id_context(context, (const unsigned char *)"sim", 3);
		X509_free(x509);
		EVP_PKEY_free(key);
	}
	client_context = SSL_CTX_new(TLS_client_method());
}

void certificates_free(void)
{
	unlink(ca_file);
	for (int i = 0; i < CERTIFICATES; i++)
		SSL_CTX_free(server_context[i]);
	SSL_CTX_free(client_context);
	X509_free(authority.x509);
	EVP_PKEY_free(authority.key);
}

/* ---- TLS ---- */

void channel_begin_tls(struct channel *c, bool server, enum certificate certificate, int min, int max)
{
	c->ssl = SSL_new(server ? server_context[certificate] : client_context);
	SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_min_proto_version(c->ssl, min);
	SSL_set_max_proto_version(c->ssl, max);
	if (server)
		SSL_set_accept_state(c->ssl);
	else
		SSL_set_connect_state(c->ssl);
}

static void judge_tls(struct channel *c, int result)
{
	int error = SSL_get_error(c->ssl, result);
	if (error == SSL_ERROR_ZERO_RETURN) {
		c->tls_closed = true;
	} else if (error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL) {
		c->tls_failed = true;
		trace_note(c->stack->session, "%s: TLS: %s", c->stack->side == CLIENT ? "client" : "server",
		        ERR_error_string(ERR_peek_error(), NULL));
	}
	ERR_clear_error();
}

static void move_tls(struct channel *c)
{
	uint8_t bytes[16384];
	int got = 1;
	if (!c->tls_up && !c->tls_failed) {
		got = SSL_do_handshake(c->ssl);
		if (got == 1) {
			c->tls_up = true;
			c->version = SSL_version(c->ssl);
		} else {
			judge_tls(c, got);
		}
	}
	while (c->tls_up && !c->tls_failed && (got = SSL_read(c->ssl, bytes, sizeof(bytes))) > 0)
		buffer_add(&c->in, bytes, (size_t)got);
	if (c->tls_up && !c->tls_failed && got <= 0)
		judge_tls(c, got);
	while ((got = BIO_read(SSL_get_wbio(c->ssl), bytes, sizeof(bytes))) > 0)
		buffer_add(&c->stack->out, bytes, (size_t)got);
}

/* ---- bytes ---- */

void channel_read(struct channel *c, size_t max)
{
	struct stack *s = c->stack;
	size_t len = s->next - s->read;
	if (len > max)
		len = max;
	if (len && c->ssl)
		BIO_write(SSL_get_rbio(c->ssl), s->in.bytes + s->read, (int)len);
	else if (len)
		buffer_add(&c->in, s->in.bytes + s->read, len);
	s->read += (uint32_t)len;
	if (!c->ssl)
		c->clear_in = s->read;
	else
		move_tls(c);
}

void channel_write(struct channel *c, const void *bytes, size_t len)
{
	if (c->stack->closing || stack_over(c->stack))
		return;
	if (!c->ssl) {
		buffer_add(&c->stack->out, bytes, len);
	} else if (c->tls_up && !c->tls_failed && len) {
		if (SSL_write(c->ssl, bytes, (int)len) <= 0)
			ERR_clear_error();
		move_tls(c);
	}
}

void channel_print(struct channel *c, const char *text) { channel_write(c, text, strlen(text)); }

void channel_close(struct channel *c)
{
	if (c->stack->closing || stack_over(c->stack))
		return;
	if (c->tls_up && !c->tls_failed) {
		SSL_shutdown(c->ssl);
		ERR_clear_error();
		move_tls(c);
	}
	stack_close(c->stack);
}

const char *channel_line(struct channel *c)
{
	static char line[4096];
	const uint8_t *end = c->in.len ? memchr(c->in.bytes, '\n', c->in.len) : NULL;
	if (!end)
		return NULL;
	size_t len = (size_t)(end - c->in.bytes), shown = len < sizeof(line) - 1 ? len : sizeof(line) - 1;
	memcpy(line, c->in.bytes, shown);
	line[shown] = 0;
	if (shown && line[shown - 1] == '\r')
		line[shown - 1] = 0;
	buffer_cut(&c->in, len + 1);
	return line;
}

void channel_free(struct channel *c)
{
	SSL_free(c->ssl);
	ERR_clear_error();
	buffer_free(&c->in);
}
