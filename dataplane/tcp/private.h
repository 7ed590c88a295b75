/*
 * private.h - what the files of tcp/ share: the endpoint, its byte rings and its sets of ranges.
 *
 * Names are RFC 9293's. All sequence arithmetic is modulo 2^32; everything in one endpoint lies within 2^31.
 * `sacked` is the scoreboard of RFC 6675; `lost` holds the bytes that count as lost and have not been sent again yet.
 * `sent` is RFC 8985's list of transmissions in the order of time.
 */
#ifndef WAXSEAL_TCP_PRIVATE_H
#define WAXSEAL_TCP_PRIVATE_H

#include <string.h>

#include "tcp.h"

#define BUG_ON(condition)                                                                                              \
	do {                                                                                                           \
		if (__builtin_expect(!!(condition), 0))                                                                \
			tcp_bug(#condition, __FILE__, __LINE__);                                                       \
	} while (0)
void tcp_bug(const char *what, const char *file, int line) __attribute__((noreturn));

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };

#define MILLISECONDS 1000ull
#define SECONDS (1000 * MILLISECONDS)

/* ---- limits ---- */
enum {
	TCP_RANGES_MAX = 128,       /* holes in one direction; past it, new blocks are not remembered */
	TCP_MSS_MIN = 88,           /* a peer's smaller MSS is a way to make us send headers (CVE-2019-11479) */
	TCP_MSS_DEFAULT = 536,      /* also the floor for ICMP (RFC 5927, 1191) */
	TCP_MSS_MAX = 1460,         /* the ports' buffers take no jumbo frames */
	TCP_WSCALE_MAX = 14,        /* RFC 7323, 2.3 */
	TCP_TRIES_MAX = 15,         /* retransmissions or probes without an answer */
	TCP_BLACKHOLE_TRIES = 5,    /* then the payload shrinks: a path that drops large packets silently (RFC 2923) */
	TCP_DUP_THRESHOLD = 3,      /* RFC 5681, 6675 */
	TCP_CHALLENGES_MAX = 10,    /* challenge ACKs in TCP_CHALLENGE_PERIOD_US (RFC 5961, 7) */
	TCP_KEEPALIVE_PROBES_MAX = 9,
	TCP_RECEIVE_FIRST = 65536,  /* bytes offered before the peer has shown its rate */
	TCP_SENT_MAX = 256,         /* transmissions whose time is known: a full send buffer, and some of it again */
	TCP_SENT_FEW = 8,           /* ... of a dialogue: without memory of their own */
	TCP_REORDER_PERSIST = 16,   /* recoveries for which a wider reordering window stays (RFC 8985, 6.2) */
	TCP_RECENT_MAX = 4,         /* arrivals remembered for the order of SACK blocks (RFC 2018, 4) */
	TCP_OPTION_TS_BYTES = 12,
	TCP_OPTIONS_MAX = 40,
};
#define TCP_RTO_FIRST_US (1 * SECONDS)
#define TCP_RTO_MIN_US (200 * MILLISECONDS)
#define TCP_REORDER_MIN_US (1 * MILLISECONDS) /* the clock of time stamps, and about what a timer here can do */
#define TCP_RTO_MAX_US (60 * SECONDS)
#define TCP_DELAYED_ACK_US (40 * MILLISECONDS)
#define TCP_TIME_WAIT_US (5 * SECONDS)
#define TCP_CHALLENGE_PERIOD_US (5 * SECONDS)
#define TCP_KEEPALIVE_INTERVAL_US (75 * SECONDS)
#define TCP_EMIT_RETRY_US (1 * MILLISECONDS)
#define TCP_PAWS_IDLE_US (24ull * 24 * 3600 * SECONDS) /* RFC 7323, 5.5 */
#define TCP_CWND_MAX (1u << 28)

static inline bool seq_before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline bool seq_after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }
static inline uint32_t seq_max(uint32_t a, uint32_t b) { return seq_after(a, b) ? a : b; }
static inline uint32_t seq_min(uint32_t a, uint32_t b) { return seq_before(a, b) ? a : b; }
static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* ---- pool.c ---- */
uint8_t *tcp_chunk_take(struct tcp_pool *pool); /* NULL: the pool is exhausted */
void tcp_chunk_give(struct tcp_pool *pool, uint8_t *chunk);
uint32_t tcp_pool_spare(const struct tcp_pool *pool); /* room but for the last eighth, kept for bytes that arrive in order */

/* ---- buffer.c: bytes by sequence number, in chunks; holes are allowed ---- */
struct tcp_ring {
	struct tcp_pool *pool;
	uint8_t **slot;    /* chunk n of the stream lies in slot[n & mask] */
	uint32_t mask;
	uint32_t capacity; /* bytes that may lie between seq and the last */
	uint64_t start;    /* position in the stream of ... */
	uint32_t seq;      /* ... the first byte kept */
};
bool tcp_ring_init(struct tcp_ring *ring, struct tcp_pool *pool, uint32_t capacity, uint32_t seq);
void tcp_ring_dispose(struct tcp_ring *ring);
/* Copies in; returns how many bytes from the first on found a place. `spare`: do not touch the pool's last eighth. */
uint32_t tcp_ring_put(struct tcp_ring *ring, uint32_t seq, const uint8_t *bytes, uint32_t len, bool spare);
void tcp_ring_get(const struct tcp_ring *ring, uint32_t seq, uint8_t *out, uint32_t len);
const uint8_t *tcp_ring_piece(const struct tcp_ring *ring, size_t *len); /* bytes from the first to its chunk's end */
void tcp_ring_drop(struct tcp_ring *ring, uint32_t seq, bool empty);     /* everything before seq; empty: seq's chunk too */

/* ---- ranges.c: a sorted set of disjoint ranges of sequence numbers ---- */
struct tcp_ranges {
	uint32_t total; /* bytes */
	uint32_t count;
	struct tcp_sack at[TCP_RANGES_MAX];
};
bool tcp_ranges_add(struct tcp_ranges *ranges, uint32_t start, uint32_t end); /* false: no place */
void tcp_ranges_drop(struct tcp_ranges *ranges, uint32_t before);
void tcp_ranges_cut(struct tcp_ranges *ranges, uint32_t start, uint32_t end); /* without a place for two halves, the whole stays */
void tcp_ranges_clear(struct tcp_ranges *ranges);
uint32_t tcp_ranges_covered(const struct tcp_ranges *ranges, uint32_t start, uint32_t end); /* bytes of [start, end) */
/* First byte at or after seq outside of all ranges; *until: where the next range begins, at most `end`. */
uint32_t tcp_ranges_gap(const struct tcp_ranges *ranges, uint32_t seq, uint32_t end, uint32_t *until);
const struct tcp_sack *tcp_ranges_find(const struct tcp_ranges *ranges, uint32_t seq); /* NULL: in none */

/* ---- the endpoint ---- */
enum tcp_state { /* RFC 9293, 3.3.2; DEAD: reset, aborted or given up */
	TCP_ESTABLISHED, TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSED, TCP_DEAD,
};
enum tcp_recovery { TCP_OPEN, TCP_RECOVERY, TCP_LOSS }; /* LOSS: after a retransmission timeout */

struct tcp_congestion;

struct tcp_cubic { /* RFC 9438 */
	uint32_t w_max, cwnd_prior;
	uint64_t w_est;     /* Reno-friendly window */
	uint64_t epoch_us;  /* 0: no epoch yet */
	uint64_t k_ms;
};

struct tcp_sent {
	uint64_t at_us;
	uint32_t start;
	uint16_t len;
	bool again, over; /* over: delivered, or lost */
};

struct tcp_endpoint {
	enum tcp_state state;
	enum tcp_recovery recovery;
	struct tcp_pool *pool;
	struct tcp_limits limits;

	/* sending */
	struct tcp_ring out;
	uint32_t snd_una, snd_nxt, snd_end; /* snd_end: behind the last byte written */
	uint32_t snd_edge, snd_wl1, snd_wl2, max_snd_wnd;
	uint8_t snd_wscale, rcv_wscale;
	bool sack_ok, ts_ok, fin_queued, fin_sent, fin_acked;
	uint16_t mss;
	struct tcp_ranges sacked, lost;
	uint32_t recover;
	uint32_t dup_acks, acked_last;
	uint32_t dup_bytes; /* dup_bytes: without SACK, bytes that duplicate ACKs say have arrived */
	bool retransmit_first, rescued, cwnd_limited;
	struct tcp_sent sent_few[TCP_SENT_FEW], *sent_chunk; /* a ring: the few, or of TCP_SENT_MAX in a chunk while there are more */
	unsigned sent_first, sent_count;
	uint64_t rack_us, rack_rtt_us, rack_at_us; /* of the delivered segment that was sent last: when, its round trip; and the timer */
	uint32_t rack_end, fack, dsack_round;
	bool reordering;
	uint64_t tail_at_us, progress_us; /* the tail's probe, RFC 8985, 7; when snd_una last moved */
	uint32_t tail_end, tail_ts;
	bool tail_due, tail_out, tail_again;
	uint16_t reorder_steps, reorder_persist;

	/* congestion control */
	const struct tcp_congestion *congestion;
	uint32_t cwnd, ssthresh, cwnd_bytes; /* cwnd_bytes: acknowledged since the last increase */
	struct tcp_cubic cubic;
	struct { /* what a recovery changed, until its first ACK says whether there was a loss (RFC 4015) */
		bool possible, retransmitted;
		uint32_t cwnd, ssthresh, ts;
		struct tcp_cubic cubic;
	} undo;
	uint64_t sent_us; /* last data */

	/* round trip */
	uint64_t srtt_us, rttvar_us, rto_us, min_rtt_us;
	unsigned backoff, tries;
	bool timing;
	uint32_t timed_seq;
	uint64_t timed_us;

	/* timestamps */
	uint32_t tsval, ts_recent, last_ack_sent;
	uint32_t loss_ts; /* our clock at the last retransmission timeout */
	uint64_t tsval_at_us, ts_recent_at_us;

	/* receiving */
	struct tcp_ring in;
	uint32_t rcv_nxt, rcv_edge;
	struct tcp_ranges held;   /* arrived beyond a hole */
	uint32_t recent[TCP_RECENT_MAX];
	unsigned recent_count;
	bool dsack_due;
	struct tcp_sack dsack;
	bool fin_known, fin_received;
	uint32_t fin_seq;
	uint32_t window_target, rate_bytes;
	uint64_t rate_at_us;

	/* what tcp_output owes */
	bool ack_now, rst_due, probe_due, keepalive_due;
	uint32_t rst_seq;
	unsigned ack_pending; /* segments since the last ACK */

	/* deadlines; TCP_NEVER: off */
	uint64_t rtx_at_us, delayed_ack_at_us, keepalive_at_us, time_wait_at_us, retry_at_us;
	unsigned keepalive_probes;
	uint64_t challenge_at_us;
	unsigned challenges;

	uint64_t retransmits, segments_in, segments_out;
};

static inline uint32_t tcp_flight(const struct tcp_endpoint *ep) { return ep->snd_nxt - ep->snd_una; }
static inline bool tcp_fin_unsent(const struct tcp_endpoint *ep) { return ep->fin_queued && !ep->fin_sent; }
static inline bool tcp_over(const struct tcp_endpoint *ep) { return ep->state == TCP_CLOSED || ep->state == TCP_DEAD; }
static inline bool tcp_window_zero(const struct tcp_endpoint *ep) { return !seq_after(ep->snd_edge, ep->snd_una); }
/* Largest payload without SACK blocks. */
static inline uint32_t tcp_payload_max(const struct tcp_endpoint *ep)
{
	return ep->mss - (ep->ts_ok ? TCP_OPTION_TS_BYTES : 0);
}

/* endpoint.c */
void tcp_enter_state(struct tcp_endpoint *ep, enum tcp_state state);
void tcp_die(struct tcp_endpoint *ep); /* DEAD; what has arrived can still be read */

/* receive.c */
unsigned tcp_receive(struct tcp_endpoint *ep, uint32_t seq, const uint8_t *bytes, uint32_t len, uint64_t now_us);
unsigned tcp_receive_fin(struct tcp_endpoint *ep, uint32_t fin_seq, uint64_t now_us);
unsigned tcp_receive_advance_fin(struct tcp_endpoint *ep, uint64_t now_us);
uint32_t tcp_offered_edge(const struct tcp_endpoint *ep); /* what the next segment would offer, before rounding */
bool tcp_window_update_due(const struct tcp_endpoint *ep);
uint8_t tcp_sack_blocks(const struct tcp_endpoint *ep, struct tcp_sack blocks[TCP_SACK_MAX]);
void tcp_note_duplicate(struct tcp_endpoint *ep, uint32_t start, uint32_t end);

/* ack.c: false: the ACK is outside of what RFC 5961, 5 accepts. */
bool tcp_acknowledged(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us, unsigned *events);

/* sack.c */
bool tcp_scoreboard(struct tcp_endpoint *ep, const struct tcp_segment *segment, uint64_t now_us); /* true: new information */
uint32_t tcp_pipe(const struct tcp_endpoint *ep);
bool tcp_lose(struct tcp_endpoint *ep, uint32_t start, uint32_t end); /* its unSACKed bytes are lost; false: no place to note it */
void tcp_recovery_acked(struct tcp_endpoint *ep, uint32_t acked, uint32_t tsecr);
void tcp_recovery_duplicate(struct tcp_endpoint *ep); /* without SACK */
void tcp_recovery_begin(struct tcp_endpoint *ep);     /* something is lost */
void tcp_recovery_timeout(struct tcp_endpoint *ep);
void tcp_mark_lost(struct tcp_endpoint *ep); /* everything in flight goes out again, without a congestion event */

/* rack.c */
void tcp_sent_note(struct tcp_endpoint *ep, uint32_t start, uint32_t len, bool again, uint64_t now_us);
void tcp_sent_forget(struct tcp_endpoint *ep);
void tcp_rack_delivered(struct tcp_endpoint *ep, uint32_t tsecr, uint64_t now_us);
void tcp_rack_expired(struct tcp_endpoint *ep, uint64_t now_us); /* what is lost by now; sets rack_at_us, the next time to look */
void tcp_rack_duplicate(struct tcp_endpoint *ep);               /* a DSACK: something was sent again in vain */
void tcp_tail_restart(struct tcp_endpoint *ep);                 /* after sending */
void tcp_tail_acked(struct tcp_endpoint *ep, uint32_t tsecr);   /* snd_una has moved */
void tcp_rack_recovered(struct tcp_endpoint *ep);

/* congestion.c */
struct tcp_congestion {
	const char *name;
	void (*init)(struct tcp_endpoint *ep);
	void (*avoid)(struct tcp_endpoint *ep, uint32_t acked, uint64_t now_us); /* congestion avoidance: grow */
	uint32_t (*reduce)(struct tcp_endpoint *ep, uint32_t flight);            /* a loss: the new ssthresh */
	void (*timeout)(struct tcp_endpoint *ep);                               /* forget the epoch */
};
const struct tcp_congestion *tcp_congestion_find(const char *name); /* unknown: the default */
uint32_t tcp_initial_window(const struct tcp_endpoint *ep);
void tcp_congestion_acked(struct tcp_endpoint *ep, uint32_t acked, uint32_t flight, uint64_t now_us);
void tcp_congestion_idle(struct tcp_endpoint *ep, uint64_t now_us); /* restart after idle, RFC 5681, 4.1 */

/* timer.c */
uint64_t tcp_rto(const struct tcp_endpoint *ep);
void tcp_rtt_seed(struct tcp_endpoint *ep, uint64_t rtt_us);
void tcp_rtt_sample(struct tcp_endpoint *ep, uint64_t rtt_us);
void tcp_rtx_restart(struct tcp_endpoint *ep, uint64_t now_us); /* on with bytes in flight, off without */
void tcp_keepalive_restart(struct tcp_endpoint *ep, uint64_t now_us);
uint32_t tcp_ts_now(const struct tcp_endpoint *ep, uint64_t now_us);

#endif
