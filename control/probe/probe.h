/*
 * probe.h - one look at one mail server: connect, EHLO, STARTTLS, a handshake, QUIT; and what that showed.
 *
 * Enters: an address, the MX name, its TLSA records. Leaves: a posture. Non-blocking: the caller waits for the
 * descriptor and calls probe_step(), and gives up when it likes. It completes every handshake that it can get, judges
 * the chain and the TLSA records beside it, and decides nothing. No mail is sent. The agent's loop and `waxseal probe`
 * share it. What the server says is not kept but for reply codes and names that can be a host's.
 *
 * A look that offers all versions tells which one the server chose, and that it has none above it. Whether it takes one
 * below is a question of its own (target.only): another connection, for whoever has the time.
 */
#ifndef WAXSEAL_PROBE_H
#define WAXSEAL_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/rules.h"

#define PROBE_ERROR_MAX 128
#define PROBE_CIPHER_MAX 64
#define PROBE_NAMES_MAX IMAGE_PROBED_NAMES_MAX
#define PROBE_REPLY_MAX 16384 /* bytes of one reply */

/* What a server said to one version. */
enum probe_answer {
	PROBE_UNTRIED,
	PROBE_TAKEN,
	PROBE_REFUSED, /* by an alert, by hanging up on the ClientHello, or by choosing another one */
	PROBE_ANSWERS
};
#define PROBE_VERSION_FIRST 0x0301 /* TLS 1.0 */
#define PROBE_VERSIONS 4
struct probe_version {
	enum probe_answer answer;
	uint64_t at; /* Unix seconds; 0 with UNTRIED */
};

struct probe_posture {
	uint64_t at;          /* Unix seconds */
	bool reached;         /* it said 220; without that nothing below is known */
	bool starttls;        /* offered */
	uint16_t version;     /* wire version, the best it has; 0: no TLS could be had */
	struct probe_version versions[PROBE_VERSIONS]; /* from TLS 1.0 on */
	char cipher[PROBE_CIPHER_MAX];
	enum policy_chain chain;
	enum policy_dane dane; /* UNSEEN without usable records */
	char **names;          /* of the certificate, lower case */
	size_t name_count;
	bool certificate;      /* the next two are known */
	uint8_t certificate_sha256[32], key_sha256[32];
	uint64_t not_after;    /* Unix seconds */
	char error[PROBE_ERROR_MAX]; /* why there is no more; "" */
};
void probe_posture_dispose(struct probe_posture *posture);
/* Do they say the same of what an image holds, but for when? */
bool probe_posture_equal(const struct probe_posture *a, const struct probe_posture *b);
/* Answers of `from` go before those of `to`, where it has any. Did one of `to` change? */
bool probe_versions_take(struct probe_version to[PROBE_VERSIONS], const struct probe_version from[PROBE_VERSIONS]);
/* The lowest version without an answer since `since_s`; 0: none, or there is no TLS to ask about. */
uint16_t probe_version_due(const struct probe_posture *posture, uint64_t since_s);

struct probe_target {
	uint8_t addr[16]; /* IPv4 as v4-mapped */
	uint16_t port;
	const char *mx, *base;  /* name for SNI; TLSA base domain, NULL: mx */
	const char *domain;     /* the recipients' domain, a name that DANE-TA may have, too; NULL */
	const struct discovered_tlsa *records;
	size_t record_count;
	uint16_t only; /* wire version: no other is offered, and of the posture only `versions` is an answer; 0: all */
};

struct probe;
struct prober; /* what probes share: an SSL_CTX and the trusted certificates */

/* `source`: address to connect from, "" any; `ca_file`: see probe_chain. NULL with `error`. A missing ca_file is an error
 * that is told in prober_warning() and lets every chain be untrusted. */
struct prober *prober_new(const char *ca_file, const char *source, const char *helo, char *error, size_t error_len);
void prober_free(struct prober *prober);
const char *prober_warning(const struct prober *prober); /* "" */

/* NULL without memory; a probe that cannot start has ended already. */
struct probe *probe_new(struct prober *prober, const struct probe_target *target, uint64_t now_s);
void probe_free(struct probe *probe);
int probe_fd(const struct probe *probe); /* -1: it has ended */
bool probe_wants_write(const struct probe *probe);
bool probe_step(struct probe *probe); /* the descriptor is ready; false: it has ended */
void probe_give_up(struct probe *probe, const char *why);
struct probe_posture *probe_result(struct probe *probe); /* of one that has ended; probe_free() disposes of it unless it was moved */

/* Texts of ../policy/findings.h: pairs of name and value, in `out`. Strings live in `texts`. */
#define PROBE_FIELDS 13
#define PROBE_TEXT_MAX 8192
struct probe_field { const char *name; char value[PROBE_TEXT_MAX]; };
size_t probe_fields(const struct probe_posture *posture, const char *mx, struct probe_field out[PROBE_FIELDS]);
/* The inverse, by a look-up of fields; false: it makes no sense. */
bool probe_read(struct probe_posture *posture, const char *(*field)(void *context, const char *name), void *context);

#endif
