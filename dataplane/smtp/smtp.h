/*
 * smtp.h - the SMTP dialogue as seen by somebody in the middle (RFC 5321, 2920, 3030, 3207).
 *
 * Three layers, each usable alone, all pure:
 *  - lines: a framer, a command parser, a reply-line parser, EHLO capabilities;
 *  - the dialogue machine: follows both directions in order while waxseal only watches, says up to
 *    which byte each direction may be forwarded, and when a decision is due;
 *  - the observer mode of the same machine: after a session was let go in clear, it approves
 *    everything and counts the envelope.
 *
 * What it refuses: to approve a byte of a command before its verb is known; to approve a command that
 * could begin a mail transaction or authentication before a decision; plaintext behind STARTTLS.
 * A bare LF ends a line (servers take it so); a bare CR or a NUL inside a command line is SMTP_EVENT_ODD.
 */
#ifndef WAXSEAL_SMTP_H
#define WAXSEAL_SMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../side.h"

#define SMTP_COMMAND_MAX 2048  /* octets with CRLF; RFC 5321 asks for 512, extensions add; AUTH's 12288 are decided by the verb */
#define SMTP_REPLY_LINE_MAX 2048
#define SMTP_REPLY_LINES_MAX 256
#define SMTP_DOMAIN_MAX 256    /* with NUL */
#define SMTP_PIPELINE_MAX 512  /* commands whose replies are outstanding */
#define SMTP_COMMANDS_BEFORE_MAIL_MAX 1000 /* a dialogue that goes nowhere */

/* ---- lines ---- */

enum smtp_verb {
	SMTP_EHLO, SMTP_HELO, SMTP_LHLO, SMTP_STARTTLS, SMTP_AUTH, SMTP_MAIL, SMTP_RCPT, SMTP_DATA, SMTP_BDAT,
	SMTP_RSET, SMTP_NOOP, SMTP_VRFY, SMTP_EXPN, SMTP_HELP, SMTP_QUIT, SMTP_ETRN, SMTP_SEND /* SEND, SOML, SAML */,
	SMTP_BURL, SMTP_TURN /* TURN, ATRN */, SMTP_XCLIENT, SMTP_XFORWARD,
	SMTP_UNKNOWN,
	SMTP_VERBS
};
const char *smtp_verb_name(enum smtp_verb verb);
/* May not go to a server before a decision: it begins a mail transaction, an authentication, or turns the roles. */
bool smtp_verb_decides(enum smtp_verb verb);

struct smtp_command {
	enum smtp_verb verb;
	const char *args; /* behind the verb and its spaces; not terminated; without CRLF */
	size_t args_len;
	bool odd;         /* a bare CR, NUL or 8-bit byte in the line */
};
/* `line` with or without its line end. An empty or unparsable line is SMTP_UNKNOWN. Blanks before the verb are
 * skipped, and what only begins with a deciding verb or STARTTLS ("MAILFROM:<>") counts as that verb: some
 * servers read it so, and none may be talked into a transaction by a spelling. */
void smtp_command_parse(const uint8_t *line, size_t len, struct smtp_command *out);
/* Recipient's (or sender's) domain of "TO:<...>", lower case, no final dot; source routes (RFC 5321,
 * appendix C) and quoted local parts are understood; "[192.0.2.1]" for address literals; "" for <> and
 * <postmaster>. -EINVAL when there is no path at all, or its domain is none: too long, empty behind the @,
 * or with characters (quotes, comments, blanks) that servers read differently. */
int smtp_path_domain(const struct smtp_command *command, char out[SMTP_DOMAIN_MAX]);
/* BDAT size [LAST]: RFC 3030. -EINVAL if malformed. */
int smtp_bdat_parse(const struct smtp_command *command, uint64_t *size, bool *last);

struct smtp_reply_line {
	uint16_t code;    /* 0: not a reply line */
	bool last;        /* "250 " rather than "250-" */
	const char *text; /* not terminated, without CRLF */
	size_t text_len;
};
void smtp_reply_line_parse(const uint8_t *line, size_t len, struct smtp_reply_line *out);

enum smtp_capability {
	SMTP_CAP_STARTTLS = 1 << 0, SMTP_CAP_PIPELINING = 1 << 1, SMTP_CAP_CHUNKING = 1 << 2, SMTP_CAP_SIZE = 1 << 3,
	SMTP_CAP_8BITMIME = 1 << 4, SMTP_CAP_SMTPUTF8 = 1 << 5, SMTP_CAP_DSN = 1 << 6, SMTP_CAP_AUTH = 1 << 7,
	SMTP_CAP_ENHANCED = 1 << 8, SMTP_CAP_BINARYMIME = 1 << 9, SMTP_CAP_REQUIRETLS = 1 << 10, SMTP_CAP_DELIVERBY = 1 << 11,
};
/* Capability of one line of an EHLO reply ("SIZE 1000"), 0 if unknown. */
uint32_t smtp_capability_parse(const char *text, size_t len);

/* Collects one line of at most `max` octets out of pieces of any size. */
struct smtp_framer {
	uint8_t line[SMTP_COMMAND_MAX > SMTP_REPLY_LINE_MAX ? SMTP_COMMAND_MAX : SMTP_REPLY_LINE_MAX];
	uint16_t len;
};
enum smtp_framing { SMTP_LINE_PARTIAL, SMTP_LINE_WHOLE, SMTP_LINE_TOO_LONG };
/* Takes bytes up to and with the line end; *consumed tells how many. After WHOLE the line stands in
 * framer->line (with its end, framer->len octets) until smtp_framer_reset; until then, and after TOO_LONG,
 * it takes nothing more and says the same again. */
enum smtp_framing smtp_framer_input(struct smtp_framer *framer, const uint8_t *bytes, size_t len, size_t *consumed);
void smtp_framer_reset(struct smtp_framer *framer);

/* ---- the dialogue machine ---- */

enum smtp_state {
	SMTP_STATE_GREETING,  /* nothing but the server's banner is due */
	SMTP_STATE_COMMANDS,  /* commands that decide nothing: EHLO, NOOP, RSET ... */
	SMTP_STATE_STARTTLS,  /* STARTTLS went to the server; its reply is due; no client byte may pass */
	SMTP_STATE_TLS,       /* 220 was seen: from here on the bytes belong to tls/ */
	SMTP_STATE_DECIDE,    /* a MAIL or AUTH is held; quiet; the caller decides */
	SMTP_STATE_OBSERVE,   /* let go in clear: everything is approved, the envelope is followed */
	SMTP_STATE_BROKEN,    /* injection, not SMTP, or past a limit: nothing more is approved */
};

enum smtp_event {
	SMTP_EVENT_NONE,
	SMTP_EVENT_DECIDE,     /* MAIL/AUTH (or another verb that needs TLS) is held and every earlier command has its whole reply */
	SMTP_EVENT_TLS,        /* the last byte of 220 to STARTTLS is approved */
	SMTP_EVENT_INJECTION,  /* plaintext behind STARTTLS (client) or behind its 220 (server): CVE-2011-0411 */
	SMTP_EVENT_NONSMTP,    /* not an SMTP dialogue; also implicit TLS */
	SMTP_EVENT_ODD,        /* a command line that servers read differently: bare CR, NUL, too long */
	SMTP_EVENT_LIMIT,      /* SMTP_COMMANDS_BEFORE_MAIL_MAX, SMTP_PIPELINE_MAX or SMTP_REPLY_LINES_MAX */
	SMTP_EVENT_MAIL,       /* observer: a MAIL was accepted (2xx) */
	SMTP_EVENT_RCPT,       /* observer: a RCPT was accepted; dialogue->rcpt_domain */
	SMTP_EVENT_MESSAGE,    /* observer: a message was accepted (2xx after DATA or BDAT LAST) */
	SMTP_EVENT_LOST,       /* observer: can no longer follow (binary, too long ...); stays silent from here */
};

struct smtp_dialogue {
	enum smtp_state state;
	uint64_t fed[SIDES];      /* bytes of each side given to smtp_dialogue_input and taken */
	uint64_t approved[SIDES]; /* of those, bytes that may be forwarded; never goes back */
	enum smtp_verb held_verb; /* in DECIDE: what is held */
	uint16_t outstanding;     /* commands forwarded whose reply is not complete; an unsolicited reply counts while it comes */
	uint16_t greeting_code;   /* 0: no whole banner yet */
	bool closing;             /* the server has said that it ends the session: 421, 221, or a 4xx/5xx nobody asked for */
	bool ehlo;                /* the last successful hello was EHLO */
	bool hello_done;
	bool starttls_refused;    /* the client's last STARTTLS was answered with no 220 */
	uint32_t capabilities;    /* of the last EHLO reply */
	uint64_t size_max;        /* SIZE's value, 0 if none */
	char client_name[SMTP_DOMAIN_MAX]; /* argument of the last EHLO/HELO, "" if not printable or too long */
	char server_name[SMTP_DOMAIN_MAX]; /* first word of the banner, "" if it is no host name */
	char rcpt_domain[SMTP_DOMAIN_MAX]; /* with SMTP_EVENT_RCPT */
	struct smtp_dialogue_private *private; /* private.h */
};

/* NULL without memory. */
struct smtp_dialogue *smtp_dialogue_new(void);
void smtp_dialogue_free(struct smtp_dialogue *dialogue);

/* In-order bytes of one side, each byte once. Returns how many were taken (fed); fewer than `len`
 * whenever an event is raised, or while the machine cannot go on with that side (client bytes
 * behind STARTTLS or a held MAIL): the caller keeps the rest and offers it again after the next input
 * of the other side. approved[] of either side may have moved. At most one event a call: call again
 * with the rest until neither moves. A call with len 0 asks whether an event has become due. In OBSERVE all
 * is taken and approved at once, but for what stands behind an event. */
size_t smtp_dialogue_input(struct smtp_dialogue *dialogue, enum side side, const uint8_t *bytes, size_t len, enum smtp_event *event);

/* After a decision to let the session go in clear (or at once, for level none): state OBSERVE; the held
 * line is approved, and everything after it. */
void smtp_dialogue_observe(struct smtp_dialogue *dialogue);

/* Has the client begun a command line that is not whole, so that none of its bytes may pass? If it stalls there
 * it may be waiting for their acknowledgment. */
bool smtp_dialogue_partial(const struct smtp_dialogue *dialogue);
/* It does stall. What it has said of the line is approved, and the rest as it comes, if no verb that decides can come
 * of it; false: it may, and nothing has changed. */
bool smtp_dialogue_pass_partial(struct smtp_dialogue *dialogue);

const char *smtp_event_name(enum smtp_event event);
const char *smtp_state_name(enum smtp_state state);

#endif
