/*
 * tls.h - TLS seen in passing (hello.c), and TLS towards the server (client.c).
 *
 * The watch reads the ClientHello and the ServerHello of a session that a client encrypts itself
 * (RFC 8446, 5246), says up to which byte each direction may pass, and when it is truly encrypted.
 * It approves nothing that is not a TLS record, and no ServerHello below the floor.
 *
 * The client completes the handshake it can get, records facts, and decides nothing. It owns no
 * socket: ciphertext in, ciphertext out, plaintext in, plaintext out. tls/ is the only user of OpenSSL.
 */
#ifndef WAXSEAL_TLS_H
#define WAXSEAL_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../side.h"

/* ---- watch ---- */

#define TLS_RECORD_HANDSHAKE 22   /* the first octet of a connection that is TLS from its beginning */
#define TLS_HELLO_BYTES_MAX 65536  /* a ClientHello or ServerHello longer than this is refused */
#define TLS_SERVERNAME_MAX 256     /* with NUL */

enum tls_watch_event {
	TLS_WATCH_MORE,         /* nothing to say yet */
	TLS_WATCH_SEALED,       /* encrypted records have been seen both ways: the watch is over */
	TLS_WATCH_BELOW_FLOOR,  /* the ServerHello's version is below the floor */
	TLS_WATCH_NOT_TLS,      /* no valid record or hello where one was due: plaintext, or garbage */
	TLS_WATCH_ALERT,        /* a fatal alert: the handshake failed between the endpoints; pass it on */
};

struct tls_watch {
	uint64_t fed[SIDES], approved[SIDES]; /* as in smtp_dialogue */
	uint16_t floor;    /* wire version, 0: any TLS; SSLv3 and below are never accepted */
	uint16_t version;  /* negotiated, from the ServerHello and its supported_versions */
	uint16_t cipher;   /* IANA number */
	uint16_t group;    /* IANA number, 0 if not visible */
	bool resumed;      /* as far as visible */
	char servername[TLS_SERVERNAME_MAX]; /* SNI, "" if none; printable ASCII only */
	struct tls_watch_private *private;
};
struct tls_watch *tls_watch_new(uint16_t floor);
void tls_watch_free(struct tls_watch *watch);
/* In-order bytes after the 220, each once. Takes all it can; fewer only with an event that ends the watch. */
size_t tls_watch_input(struct tls_watch *watch, enum side side, const uint8_t *bytes, size_t len, enum tls_watch_event *event);

/* Could these bytes, the first of a segment in the middle of a connection, be TLS? For flows joined mid-way. */
enum tls_guess { TLS_GUESS_YES, TLS_GUESS_UNKNOWN, TLS_GUESS_CLEAR };
enum tls_guess tls_guess(const uint8_t *bytes, size_t len);

/* ---- client ---- */

struct tls_context; /* one per worker: stores, SSL_CTXs by profile, sessions by server */

struct tls_context_config {
	const char *ca_file;          /* PEM; NULL: the system's default */
	uint32_t sessions_max;        /* remembered for resumption */
	uint32_t profiles_max;        /* distinct {floor, ceiling, ciphers, exclude} */
};
/* NULL with `error` naming the file and what is wrong with it. */
struct tls_context *tls_context_new(const struct tls_context_config *config, char *error, size_t error_len);
void tls_context_free(struct tls_context *context);

struct tls_client_params {
	const char *servername;  /* SNI; "" : none */
	uint16_t floor;          /* lowest version to offer; 0: TLS 1.0 */
	uint16_t ceiling;        /* highest; 0: the newest */
	const char *ciphers;     /* OpenSSL form; "" : default */
	const char *exclude;     /* "" : none */
	const uint8_t *server_key; /* what a session is remembered by: address, port, servername */
	size_t server_key_len;
	/* Takes ciphertext for the server, returns how much; the rest is pending. NULL: all is. Not called after tls_client_free. */
	size_t (*send)(void *context, const uint8_t *bytes, size_t len);
	void *send_context;
};

enum tls_chain { TLS_CHAIN_UNSEEN, TLS_CHAIN_TRUSTED, TLS_CHAIN_UNTRUSTED, TLS_CHAIN_SELF_SIGNED, TLS_CHAIN_EXPIRED, TLS_CHAIN_NOT_YET_VALID, TLS_CHAIN_INVALID };

enum tls_phase { TLS_HANDSHAKE, TLS_ESTABLISHED, TLS_CLOSED /* close_notify received */, TLS_FAILED };

struct tls_facts { /* whole once the phase is TLS_ESTABLISHED */
	uint16_t version;
	char cipher[64];
	char group[32];
	bool resumed;
	enum tls_chain chain;    /* remembered with the session when resumed */
	char chain_error[128];   /* OpenSSL's text of the first error, "" */
	char subject[256];       /* of the server's certificate, printable; for replies and events */
	bool has_certificate;
	uint8_t certificate_sha256[32], key_sha256[32]; /* of the leaf, and of its SubjectPublicKeyInfo, as DER; also when resumed */
};

struct tls_client;
/* NULL for lack of memory or an impossible profile (bad cipher string), with `error`. */
struct tls_client *tls_client_new(struct tls_context *context, const struct tls_client_params *params, char *error, size_t error_len);
void tls_client_free(struct tls_client *client); /* marks the SSL shut down first: its session stays usable */

enum tls_phase tls_client_phase(const struct tls_client *client);
const struct tls_facts *tls_client_facts(const struct tls_client *client);
/* Calls `match(name)` for each DNS subjectAltName (CN only where there is none, RFC 6125); true at the first that matches. */
bool tls_client_any_name(const struct tls_client *client, bool (*match)(void *context, const char *name), void *context);
/* DANE: the server's chain, also of a resumed session, against TLSA records (RFC 7672, section 3): dane.c. */
enum tls_dane { TLS_DANE_UNSEEN, TLS_DANE_MATCHED, TLS_DANE_NO_MATCH, TLS_DANE_NAME_MISMATCH, TLS_DANE_EXPIRED, TLS_DANE_INVALID };
struct tls_tlsa { uint8_t usage, selector, matching; const uint8_t *data; size_t len; };
/* `names`: at least one, the TLSA base domain first; DANE-TA takes any of them. */
enum tls_dane tls_client_dane(const struct tls_client *client, const struct tls_tlsa *records, size_t count, const char *const *names,
                              size_t name_count);
const char *tls_client_error(const struct tls_client *client); /* why FAILED: one line, printable */

void tls_client_start(struct tls_client *client); /* the ClientHello becomes available */
size_t tls_client_feed(struct tls_client *client, const uint8_t *ciphertext, size_t len); /* from the server; returns what was taken */
const uint8_t *tls_client_pending(struct tls_client *client, size_t *len); /* ciphertext for the server that nobody has taken */
void tls_client_sent(struct tls_client *client, size_t len);
size_t tls_client_write(struct tls_client *client, const uint8_t *plaintext, size_t len);  /* taken; 0 while pending is past its limit */
const uint8_t *tls_client_peek(struct tls_client *client, size_t *len);    /* plaintext of the server */
void tls_client_consume(struct tls_client *client, size_t len);
void tls_client_close(struct tls_client *client); /* close_notify becomes pending */

#define TLS_PENDING_BYTES_MAX 65536 /* ciphertext held for the server before tls_client_write and tls_client_feed refuse more */

const char *tls_version_name(uint16_t version); /* "TLSv1.3" */

#endif
