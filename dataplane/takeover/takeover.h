/*
 * takeover.h - a session in waxseal's own hands: two TCP endpoints, TLS to the server, SMTP between.
 *
 * Enters: the tracker's numbers, the dialogue so far, the rule; then packets of both peers and time.
 * Leaves: segments to both peers through takeover_env.emit; counters; one outcome. After adoption no
 * packet of either endpoint is forwarded, and no byte of the mail is altered but for SMTP's own
 * dialogue: STARTTLS, REQUIRETLS and AUTH-after-TLS are hidden, refused commands are answered here.
 * decide_next_io() runs after every event and alone decides what is read or written next.
 *
 * Inside: takeover.c (life and end), pump.c (what is read and written next), commands.c and replies.c (the
 * SMTP relay), content.c (DATA, BDAT), upgrade.c (STARTTLS, TLS, EHLO), choose.c (what the policy says),
 * pipeline.c (replies that are due), memory.c (servers where TLS failed).
 */
#ifndef WAXSEAL_TAKEOVER_H
#define WAXSEAL_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "../packet/packet.h"
#include "../policy/policy.h"
#include "../side.h"
#include "../stats/stats.h"
#include "../tcp/tcp.h"
#include "../tls/tls.h"

struct takeover;
struct takeover_memory;

/* What the worker lends to all its takeovers. */
struct takeover_env {
	struct tcp_pool *pool;
	const struct tcp_limits *tcp_limits;
	struct tls_context *tls;
	struct takeover_memory *memory;
	struct stats *stats;
	uint64_t reply_timeout_us;     /* waiting for the server's reply to a command: RFC 5321, 4.5.3.2: 5 minutes */
	uint64_t data_reply_timeout_us; /* ... to the end of DATA: 10 minutes */
	uint64_t idle_timeout_us;      /* client silent between commands: 5 minutes */
	uint64_t tls_timeout_us;       /* handshake with the server */
	/* The image in force now; valid until the current call into takeover/ returns. */
	const struct policy_image *(*image)(void *context);
	/* Sends one segment to peer `to` of the session that was given `session_context`; false: no frame. */
	bool (*emit)(void *context, void *session_context, enum side to, struct tcp_endpoint *endpoint, const struct tcp_segment *segment);
	uint64_t (*unix_time_us)(void *context);
	void *context;
};

/* Bits of `capabilities` beside enum smtp_capability: the client said HELO, so the server has not been asked; and its own
 * STARTTLS was answered with no 220. */
#define TAKEOVER_CAP_UNKNOWN (1u << 31)
#define TAKEOVER_CAP_REFUSED (1u << 30)

/* What is to be done with a session in clear that is about to send mail; a session taken over asks at each MAIL. */
/* TLS was had at this server before. Servers inside are nobody's to remember. */
bool takeover_had_tls(const struct policy_image *image, const struct policy_parties *parties);
/* ... and STARTTLS is not offered, or was refused to the client. */
bool takeover_stripped(const struct policy_image *image, const struct policy_parties *parties, uint32_t capabilities);

struct takeover_choice {
	enum {
		TAKEOVER_CHOOSE_PASS,    /* in clear, with the policy's leave */
		TAKEOVER_CHOOSE_UPGRADE,
		TAKEOVER_CHOOSE_REFUSE,
		TAKEOVER_CHOOSE_RELAY,   /* nothing to do yet, but a recipient's domain may ask for TLS */
	} action;
	struct policy_decision decision; /* by the destination's rule and the client's, if it stays in clear */
	const struct image_rule *rule;   /* whose decision that is; of `image` */
	bool stripped;                   /* TLS was had before, and now it is not offered, or was refused to the client, and not asked for again */
	bool remembered;                 /* PASS or RELAY for a server whose TLS failed lately */
};
struct takeover_choice takeover_choose(const struct policy_image *image, const struct policy_parties *parties, uint32_t capabilities,
                                       const struct takeover_memory *memory, uint64_t now_us);

struct takeover_params {
	struct tcp_adoption end[SIDES];  /* end[CLIENT] faces the client and plays the server */
	uint8_t client_addr[16], server_addr[16];
	uint16_t server_port;
	uint32_t flow_hash;
	bool inbound;
	/* the dialogue so far */
	bool ehlo;                       /* the client's last hello was EHLO */
	uint32_t capabilities;           /* enum smtp_capability, of the server's plaintext EHLO reply; TAKEOVER_CAP_UNKNOWN, _REFUSED */
	char client_name[256], server_name[256];
	bool stripped;                   /* the worker has counted that */
	void *session_context;           /* for env.emit */
};

/* NULL without memory (then nothing has been sent and the flow is as before). */
struct takeover *takeover_new(struct takeover_env *env, const struct takeover_params *params, uint64_t now_us);
void takeover_free(struct takeover *takeover);

/* A packet of peer `from`: validated headers and checksum. The held client segments are the first input. What follows
 * of it waits for takeover_turn(), so that a burst is answered once and fills TLS records; an answer that must stand
 * for one packet alone (a duplicate ACK) goes out here. */
void takeover_input(struct takeover *takeover, enum side from, const struct packet *packet, uint64_t now_us);
void takeover_turn(struct takeover *takeover, uint64_t now_us); /* after a burst */
void takeover_tick(struct takeover *takeover, uint64_t now_us);
/* An ICMP error says that the path to peer `side` takes `mtu` octets of IP; `seq` is of the packet it quotes. */
void takeover_too_big(struct takeover *takeover, enum side side, uint32_t seq, uint16_t mtu, uint64_t now_us);
uint64_t takeover_deadline_us(const struct takeover *takeover);
/* The appliance stops: 421 to the client if a reply can be given, RST to both. */
void takeover_stop(struct takeover *takeover, uint64_t now_us);
/* Both ends are dead, or closed and acknowledged: free it. What TIME-WAIT is there for, flow/ does: it answers for a
 * connection that is over, and lets no segment of it pass. */
bool takeover_done(const struct takeover *takeover);

struct takeover_outcome {
	enum stats_end end;            /* UPGRADED, CLEAR, DEFERRED, REJECTED, CUT, NOTHING */
	enum policy_reason reason;     /* of the last refusal, or of the allowance */
	char rule[64];                 /* name of the rule that decided */
	uint16_t tls_version;
	char cipher[64];
	bool resumed, stripped;
	uint32_t messages, recipients;
	struct { char domain[64]; uint8_t fate; } rcpt[STATS_EVENT_RECIPIENTS_MAX];
	uint64_t bytes[SIDES];         /* payload of each side */
	struct stats_facts facts;      /* of the server, by what this session saw last */
	char detail[128];              /* "certificate name mx.wrong.example", TLS error text ... */
};
void takeover_outcome(const struct takeover *takeover, struct takeover_outcome *out);

/* STARTTLS, the EHLO that asks for it, or the handshake is under way towards the server. */
bool takeover_begins_tls(const struct takeover *takeover);
/* One-word phase for `waxseal flows`: "starttls", "handshake", "relay", "refused", "closing". */
const char *takeover_phase(const struct takeover *takeover);

/* ---- servers where TLS failed lately (level may): a bounded table with expiry ---- */

#define TAKEOVER_MEMORY_MAX 4096
struct takeover_memory *takeover_memory_new(uint32_t entries_max, uint64_t lifetime_us);
void takeover_memory_free(struct takeover_memory *memory);
void takeover_memory_note(struct takeover_memory *memory, const uint8_t server[16], uint64_t now_us);
bool takeover_memory_holds(const struct takeover_memory *memory, const uint8_t server[16], uint64_t now_us);

#endif
