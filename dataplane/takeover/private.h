/*
 * private.h - a session in waxseal's hands, as its files share it.
 *
 *   client ──tcp──▶ commands.c, content.c ──▶ (tls) ──tcp──▶ server
 *          ◀──tcp── replies.c             ◀── (tls) ◀──tcp──
 *
 * Invariants: a reply goes to the client for each of its commands, in their order; what waxseal asked on its
 * own account is never shown; nothing of a mail is written to the server in clear unless policy allowed it.
 */
#ifndef WAXSEAL_TAKEOVER_PRIVATE_H
#define WAXSEAL_TAKEOVER_PRIVATE_H

#include <string.h>

#include "../smtp/smtp.h"
#include "takeover.h"

#define TAKEOVER_ROOM_MIN 4096        /* octets that must fit before a line is taken: the longest line, and a reply */
#define TAKEOVER_CHUNK_MAX 16384      /* content handed on at once: one TLS record */
#define TAKEOVER_RECORD_MAX (TAKEOVER_CHUNK_MAX + 512) /* ... and what TLS adds: RFC 5246 allows more, nobody uses it */
#define TAKEOVER_CLOSING_US 30000000  /* from our last word to a reset */
#define TAKEOVER_FLUSH_US 5000000     /* bytes accepted before a reset may still be delivered for that long */

enum upstream {
	UPSTREAM_CLEAR,     /* the server, in clear */
	UPSTREAM_PROBE,     /* our EHLO is on its way: the client said HELO */
	UPSTREAM_STARTTLS,  /* our STARTTLS is */
	UPSTREAM_HANDSHAKE,
	UPSTREAM_HELLO,     /* our EHLO inside TLS is */
	UPSTREAM_TLS,
	UPSTREAM_GONE,      /* no server any more: commands are answered here */
	UPSTREAMS
};

enum client_mode {
	CLIENT_COMMANDS,
	CLIENT_WAIT,    /* behind DATA or AUTH: the reply says what comes */
	CLIENT_DATA,    /* content up to CRLF.CRLF */
	CLIENT_CHUNK,   /* BDAT: `chunk_left` octets */
	CLIENT_AUTH,    /* one line that is no command */
	CLIENT_SKIP,    /* the rest of a line that was too long */
	CLIENT_OVER,    /* our last word is said: what comes is dropped */
};

enum transaction { MAIL_NONE, MAIL_DEFERRED /* answered by us, the server has not seen it */, MAIL_SENT };

/* A command whose reply is due. */
struct pending {
	enum smtp_verb verb;
	bool own;       /* ours: the client does not see the reply */
	bool quiet_ok;  /* a deferred MAIL: the client has had its 250; a refusal answers the RCPT that waits */
	bool content;   /* the end of DATA or a last BDAT: 2xx is a message */
	bool clear;     /* sent in clear */
	struct stats_destination *named; /* counters of the recipient's rule, NULL if it has none */
	char domain[64];
};

struct pipeline { /* a ring on the heap */
	struct pending *entries;
	unsigned first, count, places;
};

struct takeover {
	struct takeover_env *env;
	struct takeover_params params;
	struct tcp_endpoint *end[SIDES];
	struct tls_client *tls;
	enum upstream upstream;
	enum client_mode mode;
	uint64_t now_us, activity_us, closing_us /* when to reset what is left; TCP_NEVER */;
	bool fed;                /* a packet's bytes or news wait for decide_next_io() */
	bool over[SIDES];        /* that endpoint is dead or closed */
	bool eof[SIDES];         /* its FIN has been passed on */
	bool shut_server;        /* FIN to the server once TLS has said all */
	bool abort_after[SIDES]; /* RST to that peer once its bytes are delivered */
	bool quit;               /* the client's QUIT has been answered */
	bool tls_closed, server_shut; /* close_notify is pending; FIN is */

	/* dialogue */
	struct smtp_framer client_line, server_line;
	struct pipeline pipeline;
	bool held;               /* client_line holds a command that cannot be dealt with yet */
	char local[POLICY_REPLY_MAX + 64];
	size_t local_len;        /* our own reply, waiting for those before it; 0: none */
	uint32_t capabilities;   /* of the server as it is spoken to now */
	uint32_t promised;       /* of the EHLO reply that the client saw in clear */
	char client_name[SMTP_DOMAIN_MAX];
	enum transaction transaction;
	char deferred[SMTP_COMMAND_MAX];
	size_t deferred_len;
	bool deferred_refused;   /* the server refused it: its reply has answered the RCPT */
	unsigned end_match;      /* octets of CRLF.CRLF seen */
	uint64_t chunk_left;
	bool chunk_drop;         /* nobody takes the chunk */
	size_t behind;           /* octets of the server behind the line that is dealt with, in clear */
	/* a reply in the middle */
	uint16_t reply_code;
	unsigned reply_lines;
	char hello_line[SMTP_REPLY_LINE_MAX]; /* of a filtered EHLO reply: a line that may be its last */
	size_t hello_line_len;
	uint32_t hello_capabilities;

	/* facts and outcome */
	struct policy_facts facts;
	struct stats_destination *destination;
	struct takeover_outcome outcome;
	enum policy_reason allowed_reason; /* of the last MAIL that went to the server */
	bool refused, carried, remembered;
};

/* pipeline.c */
bool pipeline_push(struct pipeline *pipeline, const struct pending *entry); /* false: SMTP_PIPELINE_MAX, or no memory */
struct pending *pipeline_head(const struct pipeline *pipeline);             /* NULL: nothing is due */
void pipeline_pop(struct pipeline *pipeline);
void pipeline_dispose(struct pipeline *pipeline);

/* choose.c */
struct policy_parties session_parties(const struct takeover *takeover);
struct policy_rules session_rules(const struct takeover *takeover); /* the destination's, and the client's minimum */
const struct image_rule *recipient_rule(const struct takeover *takeover, const char *domain); /* NULL: none of its own */
/* By the facts there are; `nexthop` is the recipient's domain or NULL. */
struct policy_verdict decide_rule(const struct takeover *takeover, const struct image_rule *rule, const char *nexthop);
/* That one or the client's minimum: the stricter. */
struct policy_verdict with_minimum(const struct takeover *takeover, struct policy_verdict verdict, const char *nexthop);
/* Of a recipient without a rule: the destination's and the client's, where they have waited for its domain. */
struct policy_verdict names_of_recipient(const struct takeover *takeover, const char *domain);
bool tls_maybe_offered(const struct takeover *takeover); /* offered, or nobody has asked: the client said HELO */
bool recipient_wants_upgrade(const struct takeover *takeover, const struct image_rule *rule, const char *domain);
const char *choose_servername(const struct takeover *takeover, const struct image_rule *rule, const char *nexthop);
/* What to offer for the sake of `rule` and of the client's minimum; without server_key. */
struct tls_choice { struct tls_client_params params; char exclude[1024]; };
void choose_tls(const struct takeover *takeover, const struct image_rule *rule, const char *nexthop, struct tls_choice *out);
void note_stripped(struct takeover *takeover); /* once a session: TLS was had at this server, and is not offered or refused now */
void note_refusal(struct takeover *takeover, struct policy_verdict verdict);
void note_allowed(struct takeover *takeover, struct policy_verdict verdict);
/* What MTA-STS has to say beside `rule`: a policy that could not be had, or is in testing. The counters of a domain in testing. */
struct stats_destination *note_sts(struct takeover *takeover, const struct image_rule *rule, const char *domain);
void note_recipient(struct takeover *takeover, const char *domain, enum stats_recipient fate, struct stats_destination *named);

/* commands.c: takes octets of the client; at most one command a call. Returns what was taken. */
size_t commands_input(struct takeover *takeover, const uint8_t *bytes, size_t len);
bool commands_retry(struct takeover *takeover); /* a held command once more; true if it is dealt with */
void local_reply(struct takeover *takeover, const char *reply); /* in its turn */
bool local_flush(struct takeover *takeover);    /* true if a reply went out */
bool forward(struct takeover *takeover, const void *line, size_t len, const struct pending *entry);

/* content.c */
size_t content_input(struct takeover *takeover, const uint8_t *bytes, size_t len, size_t room);
/* Octets of `bytes` up to and with CRLF.CRLF; `len` if the end is not among them. */
size_t content_scan(unsigned *match, const uint8_t *bytes, size_t len, bool *ended);

/* replies.c: takes octets of the server, at most one line a call. */
size_t replies_input(struct takeover *takeover, const uint8_t *bytes, size_t len);

/* upgrade.c */
void upgrade_probe(struct takeover *takeover);    /* EHLO in clear */
void upgrade_begin(struct takeover *takeover);    /* STARTTLS */
void upgrade_replied(struct takeover *takeover, enum smtp_verb verb, uint16_t code); /* to what we asked */
void upgrade_progress(struct takeover *takeover); /* TLS has taken octets */
void upgrade_failed(struct takeover *takeover, const char *why);

/* pump.c */
void decide_next_io(struct takeover *takeover);
bool write_client(struct takeover *takeover, const void *bytes, size_t len);
bool write_server(struct takeover *takeover, const void *bytes, size_t len);
void last_word(struct takeover *takeover, const char *reply); /* says it, and closes towards the client */
void close_within(struct takeover *takeover, uint64_t time_us); /* what is left then is reset */
void server_lost(struct takeover *takeover, const char *why);
void server_gone(struct takeover *takeover, const char *why); /* the bare fact: nothing is said to the client */
const char *server_text(const struct takeover *takeover);     /* its name, for replies */
void cut_out_of_step(struct takeover *takeover, const char *why);

static inline bool upstream_in_transition(const struct takeover *t)
{
	return t->upstream == UPSTREAM_PROBE || t->upstream == UPSTREAM_STARTTLS || t->upstream == UPSTREAM_HANDSHAKE || t->upstream == UPSTREAM_HELLO;
}

/* takeover.c: the single setter of `upstream`. */
void enter_upstream(struct takeover *takeover, enum upstream upstream);
void set_detail(struct takeover *takeover, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
