/*
 * private.h - what the files of control/probe share: the prober, and what is done with OpenSSL.
 */
#ifndef WAXSEAL_PROBE_PRIVATE_H
#define WAXSEAL_PROBE_PRIVATE_H

#include <netinet/in.h>
#include <openssl/ssl.h>

#include "probe.h"

struct prober {
	SSL_CTX *ctx;
	X509_STORE *trusted;
	struct sockaddr_in source4;  /* family 0: any */
	struct sockaddr_in6 source6;
	char helo[IMAGE_DOMAIN_MAX + 1];
	char warning[PROBE_ERROR_MAX * 2];
};

/* certificate.c: ready for the handshake, with SNI and TLSA records; NULL without memory. */
SSL *new_ssl(struct prober *prober, const struct probe_target *target);
/* After it: version, cipher, and what the certificate is worth. */
void inspect(struct prober *prober, SSL *ssl, struct probe_posture *posture);
/* versions.c: a handshake that came to an end, well or not, as an answer about versions; `only` as in the target. */
void versions_after_success(struct probe_posture *posture, uint16_t version, uint16_t only);
void versions_after_failure(struct probe_posture *posture, uint16_t only, int ssl_error, unsigned long error, int number);

#endif
