/*
 * replay.h - one session under an image: what waxseal would do, for which rule, and what the client would be told.
 *
 * Enters: who with whom, what the server offered, what TLS with it came to. Leaves: an answer for MAIL and one for each
 * recipient. Decides nothing: rules are looked up, facts judged and replies written by dataplane/policy/, in the order in
 * which dataplane/takeover/ asks.
 */
#ifndef WAXSEAL_REPLAY_H
#define WAXSEAL_REPLAY_H

#include "events.h"

enum replay_fate { REPLAY_CLEAR, REPLAY_UPGRADED, REPLAY_SEALED, REPLAY_DEFERRED, REPLAY_REJECTED, REPLAY_CUT, REPLAY_FATES };
const char *replay_fate_name(enum replay_fate fate);

struct replay_session {
	const uint8_t *client, *server;
	bool inbound, offered, stripped;
	uint32_t flow_hash;
	uint64_t at_s;                      /* a pin may have ended */
	const char *server_name;            /* as the server calls itself; "" */
	const struct event_facts *sealed;   /* the client's own TLS; NULL: it spoke in clear */
	const struct event_facts *upgrade;  /* what TLS by waxseal came to with that server; NULL: a probe does, or nobody */
	const char *domains[EVENT_RECIPIENTS_MAX];
	unsigned domain_count;
};

struct replay_answer {
	enum replay_fate fate;
	const struct image_rule *rule;   /* that decided */
	struct policy_decision decision; /* its own, carried out or only counted */
	bool assumed;                    /* it rests on TLS that nobody has seen: taken for one that meets every rule */
	char reply[POLICY_REPLY_MAX];    /* what the client would be told, without CRLF; "" */
	char would[POLICY_REPLY_MAX];    /* ... were the rule enforced; "" */
};

struct replay {
	struct replay_answer mail;
	struct replay_answer rcpt[EVENT_RECIPIENTS_MAX]; /* beside each domain; not of a refused MAIL, nor of a sealed session */
	unsigned rcpt_count;
};
void replay_session(const struct policy_image *image, const struct replay_session *session, struct replay *out);

#endif
