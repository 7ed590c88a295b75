/*
 * tcp.h - one adopted half-connection: a TCP endpoint that begins in ESTABLISHED.
 *
 * Enters: sequence numbers and options that a tracker saw (struct tcp_adoption), then segments and
 * time. Leaves: in-order bytes, segments to send, events. There is no listen, connect or SYN here: it
 * adopts. Pure: no clock, no socket, no DPDK; all times are microseconds of one monotonic clock that
 * the caller passes in. The buffers are copies in chunks of a bounded pool (struct tcp_pool).
 *
 * RFC 9293 (established state, close), 5681 and 9438 (congestion), 6298 (RTO), 2018/6675/2883 (SACK),
 * 3042, 7323 (windows, PAWS), 5961 (challenge ACKs), 5927 (ICMP), 1122 (delayed ACK, keepalive, SWS).
 */
#ifndef WAXSEAL_TCP_H
#define WAXSEAL_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_SACK_MAX 4
#define TCP_CHUNK_BYTES 4096
#define TCP_NEVER UINT64_MAX

/* ---- memory ---- */

struct tcp_pool; /* bounded chunks, shared by the endpoints of one worker; not thread-safe */
struct tcp_pool *tcp_pool_new(uint32_t chunks_max); /* chunks are taken from the heap as needed, and kept */
void tcp_pool_free(struct tcp_pool *pool);
uint32_t tcp_pool_used(const struct tcp_pool *pool); /* chunks in use: 0 when all endpoints are gone */
uint32_t tcp_pool_room(const struct tcp_pool *pool);

/* ---- an endpoint ---- */

struct tcp_sack { uint32_t start, end; };

struct tcp_segment {
	uint32_t seq, ack;
	uint16_t window; /* as on the wire, unscaled */
	uint8_t flags;   /* FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32 */
	bool ts;
	uint32_t tsval, tsecr;
	uint8_t sack_count;
	struct tcp_sack sack[TCP_SACK_MAX];
	const uint8_t *payload; /* input only; for output see tcp_payload */
	uint16_t payload_len;
};

struct tcp_adoption {
	uint32_t snd_una, snd_nxt, rcv_nxt;
	uint32_t rcv_edge;     /* right edge already offered to the peer; never shrunk */
	uint32_t snd_wnd;      /* bytes the peer allows from snd_una on, scaled */
	uint8_t snd_wscale;    /* shift for windows that the peer sends */
	uint8_t rcv_wscale;    /* shift for windows that we send */
	uint16_t mss;          /* largest payload that the peer takes, before options */
	bool sack_ok, ts_ok;
	uint32_t tsval;        /* last TSval relayed in our direction ... */
	uint64_t tsval_at_us;  /* ... and when */
	uint32_t ts_recent;    /* peer's last TSval */
	uint64_t rtt_us;       /* seed for SRTT; 0: unknown */
	const uint8_t *unacked; /* bytes [snd_una, snd_nxt), copied */
};

struct tcp_limits {
	uint32_t send_buffer_bytes_max;
	uint32_t receive_buffer_bytes_max; /* the window offered grows to this */
	uint64_t idle_timeout_us;          /* keepalive: probes begin after this idle time; 0: never */
	bool tail_probes; /* RFC 8985, 7 */
	const char *congestion;            /* "cubic", "newreno" */
};
extern const struct tcp_limits tcp_limits_default; /* 256 KiB, 256 KiB, 2 h, cubic */

enum tcp_event { /* a bit set */
	TCP_EVENT_READABLE = 1 << 0, /* in-order bytes, or the peer's FIN, can be read */
	TCP_EVENT_WRITABLE = 1 << 1, /* acknowledged bytes made room */
	TCP_EVENT_RESET = 1 << 2,    /* a valid RST came in: the endpoint is dead */
	TCP_EVENT_TIMEOUT = 1 << 3,  /* retransmissions or probes ran out: dead, an RST is due */
	TCP_EVENT_CLOSED = 1 << 4,   /* both FINs exchanged and acknowledged, TIME-WAIT over: may be freed */
	TCP_EVENT_CHALLENGE = 1 << 5, /* RFC 5961 challenge: for the counters */
	TCP_EVENT_BAD = 1 << 6,      /* an unacceptable segment was dropped: for the counters */
};

struct tcp_endpoint;

/* NULL without memory for the unacknowledged bytes. The limits are copied. */
struct tcp_endpoint *tcp_adopt(struct tcp_pool *pool, const struct tcp_adoption *adoption, const struct tcp_limits *limits, uint64_t now_us);
void tcp_free(struct tcp_endpoint *endpoint);

unsigned tcp_input(struct tcp_endpoint *endpoint, const struct tcp_segment *segment, uint64_t now_us); /* enum tcp_event bits */
/* An ACK is due that must not be joined with that of the next segment: the peer counts duplicates (RFC 5681, 3.2). */
bool tcp_answer_at_once(const struct tcp_endpoint *endpoint);
uint64_t tcp_deadline_us(const struct tcp_endpoint *endpoint); /* when tcp_tick wants to be called; TCP_NEVER */
unsigned tcp_tick(struct tcp_endpoint *endpoint, uint64_t now_us);
/* ICMP: the path takes no more than `mtu_payload` bytes of payload; `seq` of the quoted packet must be in flight (RFC 5927). */
bool tcp_too_big(struct tcp_endpoint *endpoint, uint32_t seq, uint16_t mtu_payload);

/* Reading: the bytes stay until consumed; consuming opens the window. */
const uint8_t *tcp_peek(const struct tcp_endpoint *endpoint, size_t *len); /* first contiguous piece */
size_t tcp_copy(const struct tcp_endpoint *endpoint, uint8_t *out, size_t len_max); /* the first ones, over all pieces; how many */
size_t tcp_readable(const struct tcp_endpoint *endpoint);                  /* all in-order bytes */
void tcp_consume(struct tcp_endpoint *endpoint, size_t len);
bool tcp_eof(const struct tcp_endpoint *endpoint); /* FIN received and every byte consumed */

/* Writing: copies; returns how much was taken (<= tcp_write_room). */
size_t tcp_write_room(const struct tcp_endpoint *endpoint);
size_t tcp_write(struct tcp_endpoint *endpoint, const uint8_t *bytes, size_t len);
size_t tcp_unsent(const struct tcp_endpoint *endpoint);  /* written, not yet sent */
size_t tcp_unacked(const struct tcp_endpoint *endpoint); /* written, not yet acknowledged */
void tcp_shutdown(struct tcp_endpoint *endpoint); /* FIN behind the bytes written so far */
void tcp_abort(struct tcp_endpoint *endpoint);    /* the next tcp_output sends one RST; then dead */

/* Sends what is due: data, ACKs, window updates, probes, FIN, RST. `emit` returns false when it has no
 * frame; tcp_output stops then, and the segment is due again. */
typedef bool (*tcp_emit)(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment);
void tcp_output(struct tcp_endpoint *endpoint, uint64_t now_us, tcp_emit emit, void *context);
/* Copies the payload of a segment that emit was given to `out` (segment->payload_len bytes). */
void tcp_payload(const struct tcp_endpoint *endpoint, const struct tcp_segment *segment, uint8_t *out);

struct tcp_info { /* for flows, traces, tests */
	uint32_t snd_una, snd_nxt, rcv_nxt, rcv_edge, snd_wnd, cwnd, ssthresh;
	uint64_t srtt_us, rto_us, retransmits, segments_in, segments_out;
	bool fin_sent, fin_acked, fin_received, dead;
	bool waits; /* in TIME-WAIT, with nothing to send */
};
void tcp_info(const struct tcp_endpoint *endpoint, struct tcp_info *out);

#endif
