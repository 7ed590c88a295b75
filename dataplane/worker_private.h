/*
 * worker_private.h - what the worker's files share.
 *
 *   worker.c           frames in, frames out, timers
 *   worker_watch.c     flow_ops: bytes to smtp/ and tls/, and what their events mean
 *   worker_act.c       carries out what an event asked for: decide, seal, cut, let go
 *   worker_admit.c     who may begin a handshake now, and who waits
 *   worker_takeover.c  adoption, and the segments of taken-over sessions
 *   worker_report.c    counters and the event of a session that ends
 */
#ifndef WAXSEAL_WORKER_PRIVATE_H
#define WAXSEAL_WORKER_PRIVATE_H

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "smtp/smtp.h"
#include "worker.h"

#define WORKER_TX_MAX 128  /* frames collected for one burst */
#define WORKER_TURNS_MAX 4 /* taken-over sessions that move between two bursts: each may be a handshake's worth of CPU */

/* What an event in the byte stream asked for; carried out when the packet has been dealt with, so that
 * everything approved has left by then. */
enum session_due {
	DUE_NOTHING,
	DUE_DECIDE, /* MAIL or AUTH is held, the dialogue is quiet */
	DUE_SEAL,   /* encrypted both ways */
	DUE_CUT,    /* injection, below the floor, no TLS after 220 */
	DUE_BLOCK,  /* level block: take over as soon as the greeting is through */
	DUE_PASS,   /* not SMTP, or past following: the rule's `nonsmtp` */
};

/* What a session needs while it is watched, followed in clear, or taken over; a sealed one has none. */
struct session {
	TAILQ_ENTRY(session) turn;   /* in worker->fed while `fed` */
	TAILQ_ENTRY(session) wait;   /* in worker->waiting while `waiting` */
	RB_ENTRY(session) node; /* in worker->timers while deadline_us is set */
	uint64_t deadline_us;   /* TCP_NEVER: none */
	struct flow *flow;
	struct smtp_dialogue *smtp;
	struct tls_watch *tls;
	struct takeover *takeover;
	uint64_t tls_base[SIDES]; /* stream offsets at which TLS begins */
	struct packet_template template[SIDES];
	enum session_due due;
	bool fed; /* taken over, and had packets in this burst */
	bool waiting, admitted, handshaking; /* worker_admit.c */
	bool blocked, stripped;
	uint8_t opening;          /* first octet of what the client said before a greeting; 0: nothing odd */
	struct {                  /* no SMTP to see, and clear text would not be allowed: passes until a line speaks SMTP */
		bool on, word_over;
		uint8_t word_len;
		uint8_t word[8];  /* the client's line so far */
		uint64_t approved[SIDES];
	} doubt;
	enum stats_end end;
	enum policy_reason reason;
	char rule[64], server_name[64], detail[128];
	uint32_t messages, recipients;
	struct { char domain[64]; uint8_t fate; } rcpt[STATS_EVENT_RECIPIENTS_MAX];
};

RB_HEAD(session_tree, session);

struct worker {
	struct worker_config config;
	struct flow_table *flows;
	struct tcp_pool *pool;
	struct tls_context *tls;
	struct takeover_memory *memory;
	struct takeover_env env;
	struct stats *stats;
	const struct policy_image *image;
	struct session *due; /* a session whose bytes asked for something in this packet */
	struct session_tree timers;
	TAILQ_HEAD(, session) fed;       /* taken over: their turn comes at the end of the burst */
	TAILQ_HEAD(, session) waiting;   /* to begin their handshakes */
	uint64_t now_us, started_us;
	uint32_t takeovers, handshakes, waiting_count;
	struct rte_mbuf *tx[PORTS][WORKER_TX_MAX];
	unsigned tx_count[PORTS];
	uint64_t tx_bytes[PORTS];
};

/* worker.c */
void worker_tx(struct worker *worker, enum port_side port, struct rte_mbuf *mbuf);
/* A frame of our own in two steps: room for its payload at *payload, which the caller fills, then headers and sending.
 * NULL, counted, without a buffer or where it does not fit into one (an MSS of jumbo frames). */
struct rte_mbuf *worker_frame(struct worker *worker, enum port_side port, const struct packet_template *tmpl, const struct packet_tcp *tcp,
                              uint16_t payload_len, uint8_t **payload);
void worker_frame_tx(struct worker *worker, enum port_side port, struct rte_mbuf *mbuf, struct packet_template *tmpl,
                     const struct packet_tcp *tcp, uint16_t payload_len);
void session_set_deadline(struct worker *worker, struct session *session, uint64_t deadline_us);
static inline bool flow_inbound(const struct flow *flow) { return flow->client_port_side == OUTSIDE; }
static inline enum port_side flow_port(const struct flow *flow, enum side side)
{
	return side == CLIENT ? flow->client_port_side : port_other(flow->client_port_side);
}

/* worker_watch.c */
extern const struct flow_ops worker_flow_ops;
struct policy_parties worker_parties(const struct flow *flow);
struct policy_rules worker_rules(const struct worker *worker, const struct flow *flow);
bool worker_overload_passes(const struct worker *worker, const struct flow *flow); /* no room, or no way, to take it over */
void session_watch_tls(struct worker *worker, struct session *session);
void session_doubt(struct session *session);

/* worker_act.c */
uint32_t worker_capabilities(const struct smtp_dialogue *smtp); /* as takeover_choose wants them */
void session_act(struct worker *worker, struct session *session);
void session_stalled(struct worker *worker, struct session *session);
/* May it go on in clear, whoever its recipients will be? For sessions that cannot be followed, or not adopted. */
bool worker_clear_allowed(const struct worker *worker, const struct flow *flow);
void session_let_go(struct worker *worker, struct session *session);
void session_cut(struct worker *worker, struct session *session, enum policy_reason reason, const char *detail);
/* The headers of both sides; false before any packet was seen. */
bool worker_templates(const struct flow *flow, struct packet_template out[SIDES]);
/* No endpoint of ours answers for the server: one segment with a reply and FIN to the client, RST to the server. */
void session_turn_away(struct worker *worker, struct session *session, const char *reply, const char *detail);
void worker_gone(void *context, const struct flow *flow, enum side from, const struct packet *packet);
void worker_reset_both(struct worker *worker, const struct flow *flow, struct packet_template template[SIDES]);

/* worker_admit.c */
enum admission { ADMIT_NOW, ADMIT_LATER /* it is asked for again */, ADMIT_NEVER /* too many wait */ };
enum admission worker_admits(struct worker *worker, struct session *session);
void worker_admit_next(struct worker *worker);
void session_handshaking(struct worker *worker, struct session *session, bool now);
void session_leaves(struct worker *worker, struct session *session); /* it ends */

/* worker_takeover.c */
void session_not_adopted(struct worker *worker, struct session *session, enum stats_counter why);
void session_adopt(struct worker *worker, struct session *session);
void session_takeover_moved(struct worker *worker, struct session *session);
void session_fed(struct worker *worker, struct session *session, bool fed);
void worker_turns(struct worker *worker); /* of those that were fed, WORKER_TURNS_MAX at most */
void worker_takeover_env(struct worker *worker);
void worker_taken(void *context, struct flow *flow, enum side from, struct rte_mbuf *mbuf, const struct packet *packet);

/* worker_report.c */
void session_free(struct worker *worker, struct session *session);
void worker_closed(void *context, struct flow *flow);
void session_observed(struct worker *worker, struct session *session, enum smtp_event event);
void session_would(struct worker *worker, struct session *session, const struct image_rule *rule, struct policy_decision decision);

#endif
