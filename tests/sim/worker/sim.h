/*
 * sim.h - what the files of the session simulator share.
 *
 *   client app ─ channel ─ stack ─ link ─▶ worker (waxseald's own objects) ─▶ link ─ stack ─ channel ─ server app
 *
 * A run is one worker, one policy, and a few sessions, all drawn from one seed. Nothing here uses waxseal's code
 * but worker.h (and control/policy for the rules): frames, TCP and SMTP are written a second time, naively, so
 * that an error on one side does not hide the same error on the other. Time is fake; a run is a function of its
 * seed (OpenSSL's random numbers too).
 *
 *   random.c   numbers from a seed           frame.c    frames, built and read
 *   stack.c    a TCP of an endpoint          link.c     two lossy links, packets under way
 *   channel.c  bytes of an application, TLS  client.c, server.c  SMTP at both ends
 *   policy.c   rules, and what they allow    tap.c      what may leave the worker
 *   scenario.c draws a session               judge.c    what must be true of a session that is over
 *   trace.c    the last packets, on failure    inside.c   what no packet tells
 *   run.c      the worker, its time, the sessions of a run
 *
 * linux_sim.c runs the same against Linux's own TCP: ../linux/ has it in stack.c's place, and a clock that is real.
 */
#ifndef WAXSEAL_TESTS_SIM_H
#define WAXSEAL_TESTS_SIM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "side.h"

struct worker_config;

struct rte_mbuf;
struct rte_mempool;
struct worker;
struct stats_event;

enum { SESSIONS_MAX = 24, SESSIONS_DRAWN_MAX = 4, MESSAGES_MAX = 4, RECIPIENTS_MAX = 3, FRAME_MAX = 2048 };
#define SECOND 1000000ull
#define NEVER UINT64_MAX
#define RUN_TIME_MAX_US (3 * 3600 * SECOND)

/* ---- random.c ---- */

struct rng { uint64_t state; };
void rng_seed(struct rng *rng, uint64_t seed, uint64_t stream);
uint32_t draw(struct rng *rng);
uint32_t below(struct rng *rng, uint32_t n); /* 0 for n 0 */
bool chance(struct rng *rng, unsigned per_mille);
void random_openssl(void); /* from now on OpenSSL draws from the run's seed */
void random_openssl_seed(uint64_t seed);

struct buffer { uint8_t *bytes; size_t len, size; };
void buffer_add(struct buffer *buffer, const void *bytes, size_t len);
void buffer_cut(struct buffer *buffer, size_t len); /* its first bytes go */
void buffer_free(struct buffer *buffer);

/* ---- frame.c ---- */

enum { F_FIN = 1, F_SYN = 2, F_RST = 4, F_PSH = 8, F_ACK = 16 };
struct segment {
	uint32_t seq, ack;
	uint16_t window, len;
	uint8_t flags;
	bool has_mss, has_wscale, sack_ok, has_ts;
	uint16_t mss;
	uint8_t wscale;
	uint32_t tsval, tsecr;
	unsigned sacks;
	struct { uint32_t start, end; } sack[4];
	const uint8_t *payload;
};
struct path { /* who talks to whom; headers as each of them writes them */
	int family;
	uint8_t addr[SIDES][16]; /* IPv4 in the first four */
	uint16_t port[SIDES];
	uint8_t mac[SIDES][6], ttl[SIDES], dscp[SIDES];
	uint16_t id[SIDES];
	uint32_t label[SIDES];
	int vlan; /* 0: none */
};
size_t frame_build(struct path *path, enum side from, const struct segment *segment, uint8_t out[FRAME_MAX]);
size_t frame_l3(const uint8_t *frame); /* offset of the IP header */
size_t frame_headers_len(const struct path *path); /* Ethernet and IP */
/* NULL, or what is wrong with it. */
const char *frame_parse(const uint8_t *frame, size_t len, const struct path *path, enum side from, struct segment *out);
bool frame_looks_like(const uint8_t *frame, const struct path *path, enum side from); /* TTL, DSCP,
        flow label: as that side's own */
/* The client's port of a frame with port 25 at one end; 0: none. */
uint16_t frame_client_port(const uint8_t *frame, size_t len, bool *from_client);
/* An ICMP error from a router: `frame` was too big for `mtu`. */
size_t frame_too_big(const uint8_t *frame, size_t len, uint16_t mtu, uint8_t out[FRAME_MAX]);
/* Is it one, and for which of the path's sides? Returns the MTU, 0 if it is none. */
uint16_t frame_is_too_big(const uint8_t *frame, size_t len, uint16_t *client_port, bool *to_client);

/* ---- stack.c ---- */

enum stack_state { STACK_IDLE, STACK_LISTEN, STACK_SYN_SENT, STACK_SYN_RCVD, STACK_OPEN, STACK_CLOSED, STACK_VANISHED };
struct session;

struct stack {
	struct session *session;
	enum side side;
	enum stack_state state;
	/* how it is */
	bool offers_mss, offers_wscale, offers_sack, offers_ts, nagle, delays_acks;
	uint8_t own_scale;
	uint16_t mtu_mss;          /* what it says in its SYN, and never sends more */
	uint16_t segment_max;      /* bytes in a segment at most ... */
	uint32_t segment_max_until; /* ... up to this offset of its stream */
	uint32_t receive_buffer, flight_max;
	uint64_t rto_min_us, rto_max_us;
	/* numbers; streams are offsets from 0 */
	uint32_t iss, irs, ts_offset, ts_recent;
	bool synced, wscale_on, sack_on, ts_on, closing, wants_fin_only;
	uint8_t peer_scale;
	uint16_t peer_mss;
	struct buffer out;
	uint32_t una, nxt, max, allowed, flight;
	bool fin_sent;
	unsigned duplicates, retries;
	uint64_t rto_us, timer_us, ack_us, linger_us;
	bool ack_now, syn_due;
	struct buffer in;          /* bytes at their offsets, whole or not */
	uint8_t *have;             /* which of them are there */
	size_t have_size;
	uint32_t next, read, edge, last_ack;
	bool fin_known;
	uint32_t fin_at;
	int fd;                    /* linux/stack.c: its socket, -1 without */
	bool reset, gave_up;       /* how it ended, if it did */
};
void stack_connect(struct stack *stack);
/* A frame at the end of its link: the peer's or `own`, waxseal's; perhaps damaged; or an ICMP error. */
void stack_frame(struct stack *stack, const uint8_t *frame, size_t len, bool own, bool damaged, bool icmp);
void stack_timer(struct stack *stack);
uint64_t stack_deadline(const struct stack *stack);
void stack_output(struct stack *stack);
void stack_close(struct stack *stack); /* FIN behind what is written */
void stack_abort(struct stack *stack);
void stack_vanish(struct stack *stack);
void stack_free(struct stack *stack);
static inline bool stack_eof(const struct stack *s) { return s->fin_known && s->next == s->fin_at && s->read == s->next; }
/* Closed in order, and its application has not read all. */
static inline bool stack_unread(const struct stack *s) { return s->state == STACK_CLOSED && !s->reset && !s->gave_up && s->next > s->read; }
static inline bool stack_over(const struct stack *s) { return s->state >= STACK_CLOSED; }

/* ---- channel.c ---- */

enum certificate { CERT_GOOD, CERT_WRONG_NAME, CERT_SELF_SIGNED, CERT_EXPIRED, CERTIFICATES };
extern char ca_file[32];
void certificates_make(void);
void certificates_free(void);

struct channel {
	struct stack *stack;
	SSL *ssl;
	bool tls_up, tls_failed, tls_closed;
	int version;
	struct buffer in;       /* plaintext that came and was not taken */
	uint32_t clear_in;      /* bytes of the stack's stream that came before TLS */
};
void channel_begin_tls(struct channel *channel, bool server, enum certificate certificate, int min, int max);
void channel_read(struct channel *channel, size_t max); /* at most `max` bytes off the stack */
void channel_write(struct channel *channel, const void *bytes, size_t len);
void channel_print(struct channel *channel, const char *text);
void channel_close(struct channel *channel);
void channel_free(struct channel *channel);
/* The next whole line, without its end, NULL if there is none. Valid until the next call. */
const char *channel_line(struct channel *channel);

/* ---- client.c ---- */

enum fate { FATE_UNSENT, FATE_SENT, FATE_ACCEPTED, FATE_REFUSED };
struct message {
	char sender[64], recipient[RECIPIENTS_MAX][64];
	int recipients;
	struct buffer content;
	enum fate fate;         /* as the client knows it */
	bool mail_ok, accepted[RECIPIENTS_MAX];
	unsigned delivered;     /* times that it came into the mailbox */
	bool taken[RECIPIENTS_MAX]; /* the server's mailbox has it for this one */
	bool in_clear;          /* came in clear */
};

enum ending { LEAVE_QUIT_WAIT, LEAVE_QUIT_FIN, LEAVE_FIN, LEAVE_ABORT, LEAVINGS };
enum expecting { EXPECT_GREETING, EXPECT_HELLO, EXPECT_STARTTLS, EXPECT_MAIL, EXPECT_RCPT, EXPECT_DATA, EXPECT_CONTENT,
        EXPECT_CHUNK, EXPECT_OTHER, EXPECT_QUIT };
struct expected { uint8_t what, message, recipient; };

struct client {
	struct channel channel;
	/* how it is */
	bool says_helo, starttls, starttls_or_quit, pipelines, chunks, lower_case, stalls, chatters, half_closes,
	        eager /* next MAIL with the dot */;
	enum ending ending;
	int tls_max;
	uint32_t reads_max, lazy_us;
	uint64_t pause_at_us, pause_us, vanish_at_us, abort_at_us;
	/* where it is */
	struct expected queue[64];
	unsigned first, count;
	bool server_pipelines, server_chunks, server_starttls, hello_said, over, quit_sent, failed, tls_done, tls_asked;
	bool hello_to_waxseal;  /* said when the session had been taken over */
	int at;                 /* message */
	bool sent_envelope, chattered;
	unsigned chunks_sent;
	size_t content_at;
	struct buffer later;    /* rest of a line that it stalls in */
	uint64_t later_at_us, wake_us;
	char refusal[256];      /* first 4xx or 5xx to MAIL or RCPT */
	unsigned policy_refusals;
	uint64_t patience_us;   /* when it gives up */
};
void client_start(struct session *session);
void client_run(struct session *session);

/* ---- server.c ---- */

enum tls_way { TLS_WAY_NONE, TLS_WAY_GOOD, TLS_WAY_454, TLS_WAY_GARBAGE, TLS_WAY_CLOSE, TLS_WAY_NO_CIPHER,
        TLS_WAY_STALL, TLS_WAYS };
struct server {
	struct channel channel;
	/* how it is */
	enum tls_way tls_way;
	enum certificate certificate;
	int tls_min, tls_max;
	bool pipelining, chunking, refuses_ehlo, hides_in_tls, many_lines;
	unsigned greeting, refuse, close, late; /* greeting code; per mille of replies */
	uint32_t reads_max, lazy_us;
	uint64_t pause_at_us, pause_us, vanish_at_us, abort_at_us;
	/* where it is */
	enum { SERVER_COMMANDS, SERVER_DATA, SERVER_CHUNK, SERVER_DEAF } state;
	bool greeted, over, tls_on, tls_seen, mail_seen_in_clear, closing;
	int mail;               /* message under way, -1: none; -2: sender unknown */
	bool accepted[RECIPIENTS_MAX];
	int recipients;
	struct buffer content;
	uint64_t chunk_left;
	bool chunk_last, chunk_bad;
	struct buffer later;    /* a reply that takes its time */
	uint64_t later_at_us, wake_us, patience_us;
};
void server_run(struct session *session);

/* ---- a session ---- */

struct impairment { unsigned loss, duplicate, corrupt, reorder; uint32_t delay_us, jitter_us; uint16_t mtu,
        mtu_later; uint64_t mtu_at_us; };

struct session {
	unsigned index;
	bool inbound, started, over;
	uint64_t start_us;
	struct rng rng, link_rng;
	struct path path;
	struct impairment link[SIDES]; /* between that side and the worker */
	struct client client;
	struct server server;
	struct stack stack[SIDES];
	struct message message[MESSAGES_MAX];
	int messages;
	bool well_behaved;      /* nothing but the network may go wrong */
	/* tap.c, for frames towards each side */
	struct { bool own, edge_seen, tsval_seen; uint32_t edge, tsval, offered; } tap[SIDES];
	bool taken;             /* has been seen taken over, after a flush */
	bool turned_away;       /* not taken over, but for a last word of waxseal's */
	bool closed_seen;       /* its event has come */
	int end, reason;        /* of the event */
	char detail[128];
};

/* ---- link.c ---- */

enum origin { ORIGIN_PEER, ORIGIN_WAXSEAL, ORIGIN_DAMAGED /* a peer's, and bad already */ };
void link_send(struct session *session, enum side side, bool towards_worker, const uint8_t *frame, size_t len,
        enum origin origin);
uint64_t link_next_us(void);
void link_deliver(void); /* the first packet under way */
void link_drop_all(void);

/* ---- policy.c ---- */

struct policy_image;
struct rule_drawn { const char *level; bool enforced; unsigned percent; bool reject, overload_passes; const char *floor; };
struct policy_drawn {
	struct rule_drawn destination, inbound, domain;
	bool has_domain_rule;
	char text[4][256];
	unsigned lines;
	bool remembers_failures;
};
struct policy_image *policy_draw(struct rng *rng, struct policy_drawn *out);
const struct rule_drawn *policy_of(const struct session *session);
/* May a MAIL go to the server in clear in this session? */
bool policy_clear_allowed(const struct session *session);
bool policy_recipient_clear_allowed(const struct session *session, const char *recipient);

/* ---- tap.c ---- */

void tap_transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count);
void tap_flushed(void); /* everything due has left */

/* ---- scenario.c ---- */

void scenario_draw(struct session *session, unsigned index);

/* ---- kernel.c ---- */

void kernel_begin(struct worker_config *config);
bool kernel_takes(struct rte_mbuf *mbuf, enum port_side from); /* true: the frame is gone */
void kernel_end(void); /* behind worker_free */

/* ---- judge.c ---- */

void judge_event(void *context, const struct stats_event *event);
void judge_session(struct session *session);
void judge_delivered(struct session *session, bool in_clear); /* the server has taken server.content */

/* ---- trace.c ---- */

enum trace_what { TRACE_SENT, TRACE_LOST, TRACE_CORRUPT, TRACE_TOO_BIG, TRACE_ENTERS, TRACE_FORWARDED, TRACE_BUILT,
        TRACE_ARRIVES };
void trace_frame(const struct session *session, enum trace_what what, enum side from, const uint8_t *frame, size_t len);
void trace_note(const struct session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fail(const struct session *session, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#define require(session, condition, ...) do { if (!(condition)) fail(session, __VA_ARGS__); } while (0)

/* ---- the run ---- */

struct sim {
	uint64_t seed, now_us;
	bool verbose;
	const char *program, *name, *target; /* of the Makefile */
	void (*setting)(void), (*adapt)(struct session *session); /* changes what was drawn; NULL */
	struct rng rng;
	struct worker *worker;
	struct rte_mempool *pool;
	struct policy_drawn policy;
	struct session session[SESSIONS_MAX];
	unsigned sessions;
	bool short_of_room;     /* the worker has less room for takeovers than sessions may want */
	bool offloads;          /* sealed flows pass in the kernel */
	bool stopped;           /* the appliance stops in the middle */
	uint32_t flow_hash;
	unsigned sent_through;
};
extern struct sim sim;
struct totals {
	uint64_t sessions, messages, delivered, frames, lost, built, ends[16], well_behaved, upgraded_mails,
	        clear_mails, sealed_mails, passed_in_kernel;
};
extern struct totals totals;

/* ---- run.c ---- */

void sim_begin(const char *name, const char *target, int argc, char **argv, uint64_t *seed, uint64_t *runs);
void sim_end(void);
uint64_t sim_fresh_seed(void); /* says which */
void sim_report(uint64_t first, uint64_t runs); /* and forgets the totals */
void run_begin(uint64_t seed);
uint64_t run_next_us(void);
bool run_step(void); /* all that is due at sim.now_us; false: everything is over */
void run_end(void);
void worker_gets(struct rte_mbuf *mbuf, enum port_side from);

#endif
