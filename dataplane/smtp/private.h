/*
 * private.h - what the files of smtp/ share.
 *
 *   line.c      one line out of pieces
 *   command.c   the table of verbs, command lines, paths, BDAT
 *   reply.c     reply lines, capabilities
 *   pipeline.c  commands whose replies are outstanding, first in first out
 *   exchange.c  commands said and replies received, in watch and observe alike: names, hello, capabilities
 *   dialogue.c  the machine while it watches: what may pass
 *   observe.c   the machine after it let go: what was mailed
 */
#ifndef WAXSEAL_SMTP_PRIVATE_H
#define WAXSEAL_SMTP_PRIVATE_H

#include <stdio.h>
#include <stdlib.h>

#include "smtp.h"

#define SMTP_VERB_LEN_MAX 8                /* letters of the longest verb known */
#define SMTP_PIPELINE_DOMAIN_BYTES 16384   /* recipients' domains of outstanding RCPTs */

#define BUG_ON(condition)                                                                                              \
	do {                                                                                                           \
		if (__builtin_expect(!!(condition), 0)) {                                                              \
			fprintf(stderr, "BUG %s:%d: %s\n", __FILE__, __LINE__, #condition);                            \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- command.c ---- */

/* A bare CR or a NUL: servers read such a line differently. */
bool smtp_line_ambiguous(const uint8_t *line, size_t len);
static inline bool smtp_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f'; }
/* The verb of a word, whole or as far as it is known: SMTP_UNKNOWN for one that may still become a verb. */
enum smtp_verb smtp_verb_of(const uint8_t *word, size_t len);
/* Can a word that begins so be a verb that decides? One that can be STARTTLS is taken for that. */
bool smtp_verb_may_decide(const uint8_t *word, size_t len);
/* "... LAST" of BURL (RFC 4468) as of BDAT. */
bool smtp_args_end_with_last(const struct smtp_command *command);

/* What the client's stream is after a command that was let go. */
enum smtp_after {
	SMTP_AFTER_LINES,   /* further commands, pipelined or not */
	SMTP_AFTER_REPLY,   /* nothing before the reply, and what then comes depends on it */
	SMTP_AFTER_CHUNK,   /* octets counted by the command */
};
enum smtp_after smtp_verb_after(enum smtp_verb verb);

/* ---- reply.c ---- */

/* The number of "SIZE n", 0 if there is none. */
uint64_t smtp_size_parse(const char *text, size_t len);

/* ---- pipeline.c ---- */

#define SMTP_PIPELINE_CONTENT SMTP_VERBS /* not a verb: the end of DATA's content, which has a reply of its own */

struct smtp_pending {
	uint8_t verb;       /* enum smtp_verb or SMTP_PIPELINE_CONTENT */
	bool last;          /* BDAT or BURL with LAST */
	uint8_t domain_len; /* its domain is the first in the queue of domains */
};
struct smtp_pipeline {
	struct smtp_pending pending[SMTP_PIPELINE_MAX];
	uint16_t first, count;
	uint8_t *domains;   /* ring of SMTP_PIPELINE_DOMAIN_BYTES, made when the observer begins; NULL: not kept */
	uint16_t domain_first, domain_count;
};
/* Makes room for domains; false without memory. */
bool smtp_pipeline_keep_domains(struct smtp_pipeline *pipeline);
void smtp_pipeline_dispose(struct smtp_pipeline *pipeline);
/* False: full. `domain` may be "". */
bool smtp_pipeline_push(struct smtp_pipeline *pipeline, unsigned verb, bool last, const char *domain);
/* NULL: nothing is outstanding. */
const struct smtp_pending *smtp_pipeline_front(const struct smtp_pipeline *pipeline);
/* False: nothing was outstanding. */
bool smtp_pipeline_pop(struct smtp_pipeline *pipeline, struct smtp_pending *out, char domain[SMTP_DOMAIN_MAX]);

/* ---- exchange.c ---- */

enum smtp_reply_kind { SMTP_REPLY_GREETING, SMTP_REPLY_COMMAND, SMTP_REPLY_UNSOLICITED };

struct smtp_reply { /* the reply that is coming in */
	struct smtp_framer framer;
	uint16_t code;  /* of its first line */
	uint16_t lines; /* whole lines so far */
	enum smtp_reply_kind kind;
	uint32_t capabilities;
	uint64_t size_max;
};

enum smtp_answer {
	SMTP_ANSWER_MORE,        /* the reply has further lines */
	SMTP_ANSWER_GREETING,    /* the banner is whole */
	SMTP_ANSWER_COMMAND,     /* the reply to the first outstanding command is whole */
	SMTP_ANSWER_UNSOLICITED, /* a whole reply that nobody asked for */
	SMTP_ANSWER_BAD,         /* no reply line, or its code is not that of the lines before */
	SMTP_ANSWER_LIMIT,       /* SMTP_REPLY_LINES_MAX */
};
struct smtp_answered { struct smtp_pending pending; uint16_t code; char domain[SMTP_DOMAIN_MAX]; };

/* A whole command goes to the server. False: SMTP_PIPELINE_MAX. */
bool smtp_exchange_said(struct smtp_dialogue *dialogue, const struct smtp_command *command, bool last, const char *domain);
/* A byte of the server comes: if it is the first of a reply, says to what. */
void smtp_exchange_reply_begins(struct smtp_dialogue *dialogue);
/* A whole line stands in the reply's framer: takes it out. *answered is set with ANSWER_COMMAND. */
enum smtp_answer smtp_exchange_reply_line(struct smtp_dialogue *dialogue, struct smtp_answered *answered);

/* ---- observe.c ---- */

enum smtp_observing {
	SMTP_OBSERVE_LINES,   /* commands */
	SMTP_OBSERVE_REPLY,   /* behind DATA, AUTH, STARTTLS, TURN: the reply says what comes */
	SMTP_OBSERVE_CONTENT, /* DATA, up to CRLF . CRLF */
	SMTP_OBSERVE_CHUNK,   /* octets of a BDAT */
	SMTP_OBSERVE_AUTH,    /* one line of an authentication, of any length */
	SMTP_OBSERVE_LOST,    /* cannot be followed any more */
};
/* How much of CRLF . CRLF stands behind us. */
enum smtp_content_end { SMTP_END_TEXT, SMTP_END_CR, SMTP_END_CRLF, SMTP_END_DOT, SMTP_END_DOT_CR };

struct smtp_observer {
	enum smtp_observing mode;
	enum smtp_content_end content_end;
	uint64_t chunk_left;
	bool lost_due; /* could not even begin: says so with the next input */
};
void smtp_observe_begin(struct smtp_dialogue *dialogue, bool followable);
size_t smtp_observe_input(struct smtp_dialogue *dialogue, enum side side, const uint8_t *bytes, size_t len, enum smtp_event *event);

/* ---- the machine ---- */

struct smtp_dialogue_private {
	struct smtp_framer command;
	uint16_t verb_at; /* where the verb of the line in `command` begins */
	bool verb_over;   /* the verb is known, and decides nothing */
	bool held;        /* it decides: the rest of the line waits */
	bool line_passes; /* it stalled, and cannot decide: its bytes pass as they come */
	bool lmtp;        /* LHLO was accepted: a reply for each recipient */
	uint16_t commands;
	struct smtp_reply reply;
	struct smtp_pipeline pipeline;
	struct smtp_observer observer;
};

#endif
