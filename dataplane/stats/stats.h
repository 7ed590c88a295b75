/*
 * stats.h - counters, events, telemetry.
 *
 * Counters belong to one worker, are written by it alone, only grow, and are summed on read. A
 * destination's counters are kept by name (a provider, a domain rule, "*"), so that they outlive a
 * policy image. Each session ends in one event, put on a ring by the worker and written as one JSON
 * line by the main thread. Nothing here holds message content.
 */
#ifndef WAXSEAL_STATS_H
#define WAXSEAL_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/policy.h"
#include "../side.h"

#define STATS_DESTINATIONS_MAX 4096 /* names; past it "(other)" */
#define STATS_NAME_MAX 256
#define STATS_VERSIONS 5            /* TLS 1.0 1.1 1.2 1.3, other */

/* name, help */
#define STATS_COUNTERS(X) \
	X(rx_packets, "SMTP packets that entered user space") \
	X(rx_bytes, "... their bytes") \
	X(tx_packets, "packets sent by the worker: forwarded or its own") \
	X(tx_bytes, "... their bytes") \
	X(taken_packets, "packets of sessions taken over, and ICMP about them: for waxseal, not passed") \
	X(taken_unacceptable, "... of them segments that their connection does not accept") \
	X(built_packets, "packets of waxseal's own, in tx_packets") \
	X(forward_packets, "packets passed that are not SMTP (ports owned by DPDK; the kernel's are not seen)") \
	X(crossed_packets, "packets received by another lcore than their connection's, and handed to that one (run-to-completion)") \
	X(kernel_flows, "sealed flows handed to the kernel") \
	X(kernel_packets, "packets that passed there, counted when the flow comes back") \
	X(kernel_bytes, "... their payload bytes") \
	X(kernel_stale, "names of sealed flows that were still there when a connection of that name began; should be 0") \
	X(kernel_evicted, "sealed flows that gave way there to others: what passed since is not counted") \
	X(flows_opened, "connections whose SYN was seen") \
	X(flows_joined, "connections joined in the middle") \
	X(flows_closed, "flows removed") \
	X(flows_refused, "SYNs without a place in the table") \
	X(flows_refused_prefix, "SYNs refused: their prefix of clients has its share of the table") \
	X(flows_evicted, "unfinished handshakes that gave way to newer ones") \
	X(flows_evicted_answered, "... of them such as the server had answered") \
	X(flows_aged, "flows removed for being idle") \
	X(held_segments, "segments held for order or approval") \
	X(rewritten_segments, "retransmissions sent on as their first copy") \
	X(split_segments, "segments split: their head leaves, the rest waits") \
	X(syn_cleaned, "SYNs whose data, Fast Open or MPTCP was taken out") \
	X(takeovers, "sessions adopted") \
	X(takeover_no_memory, "sessions that could not be adopted for lack of room") \
	X(takeover_impossible, "sessions that could not be adopted: MD5, AO, or joined in the middle") \
	X(handshakes_waited, "sessions that waited to begin their handshake: others were at theirs") \
	X(handshakes_refused, "sessions not upgraded because too many waited") \
	X(tls_handshakes, "TLS handshakes completed towards servers") \
	X(tls_resumed, "... of them resumed") \
	X(tls_failed, "TLS handshakes towards servers that failed") \
	X(tls_memory_hits, "sessions let through in clear because TLS failed there before (level may)") \
	X(challenge_acks, "RFC 5961 challenge ACKs sent") \
	X(injections, "sessions cut for plaintext behind STARTTLS") \
	X(stripped, "sessions with servers where TLS was had before, and now is not offered or refused") \
	X(nonsmtp, "port-25 connections that are not SMTP") \
	X(drop_checksum, "dropped: bad checksum") \
	X(drop_malformed, "dropped: malformed headers") \
	X(drop_fragment, "dropped: IP fragment of port 25") \
	X(drop_unparsed, "dropped: extension headers past the limit") \
	X(drop_window, "dropped: outside the window") \
	X(drop_reset, "dropped: RST out of the window") \
	X(drop_timestamp, "dropped: time stamp older than the receiver takes (PAWS)") \
	X(drop_held_limit, "dropped: past the limit of held segments") \
	X(drop_state, "dropped: not acceptable in the flow's state") \
	X(drop_forgotten, "dropped: a SYN-ACK whose SYN may have given way to newer ones; the SYN, sent again, opens the flow") \
	X(drop_duplicate, "dropped: a copy of a segment that is held") \
	X(drop_merged, "dropped: its bytes have gone into the held segment before it") \
	X(drop_held, "dropped: held by a flow that was cut or closed") \
	X(drop_cut, "dropped: flow was cut") \
	X(drop_no_mbuf, "not sent for lack of a packet buffer: waxseal's own, or the head of a split segment") \
	X(drop_ring, "dropped: the ring to its worker was full") \
	X(unsent_ring, "in tx_packets, but not sent: the ring to the port was full") \
	X(unsent_port, "in tx_packets or forward_packets, but not sent: transmit queue full, or no buffer of that port") \
	X(events_lost, "session events lost: ring full")

enum stats_counter {
#define X(name, help) STAT_##name,
	STATS_COUNTERS(X)
#undef X
	STATS_COUNTERS_N
};

/* How a session ended. */
enum stats_end { END_SEALED, END_UPGRADED, END_CLEAR, END_DEFERRED, END_REJECTED, END_CUT, END_UNKNOWN, END_NOTHING /* no mail, no TLS */, STATS_ENDS };
enum stats_direction { OUTBOUND, INBOUND, STATS_DIRECTIONS };
/* What became of a recipient. */
enum stats_recipient { RCPT_UPGRADED, RCPT_CLEAR, RCPT_DEFERRED, RCPT_REJECTED, RCPT_WOULD_DEFER, RCPT_WOULD_REJECT, STATS_RECIPIENTS };

struct stats_destination {
	char name[STATS_NAME_MAX];
	uint64_t sessions[STATS_DIRECTIONS][STATS_ENDS];
	uint64_t recipients[STATS_RECIPIENTS];
	uint64_t would[POLICY_ACTIONS];      /* decisions in observe mode */
	uint64_t reasons[POLICY_REASONS];    /* decisions by reason */
	uint64_t versions[STATS_VERSIONS];   /* of sealed and upgraded sessions */
	uint64_t resumed;
	uint64_t messages;
	uint64_t bytes;                      /* payload bytes of both sides */
};

struct stats; /* one worker's */
struct stats *stats_new(void);
void stats_free(struct stats *stats);
void stats_add(struct stats *stats, enum stats_counter counter, uint64_t n);
static inline void stats_inc(struct stats *stats, enum stats_counter counter) { stats_add(stats, counter, 1); }
uint64_t stats_get(const struct stats *stats, enum stats_counter counter);
/* The destination's counters, made at first use; "(other)" past STATS_DESTINATIONS_MAX. Never NULL. */
struct stats_destination *stats_destination(struct stats *stats, const char *name);

const char *stats_counter_name(enum stats_counter counter);
const char *stats_counter_help(enum stats_counter counter);
const char *stats_end_name(enum stats_end end);
const char *stats_recipient_name(enum stats_recipient recipient);
unsigned stats_version_index(uint16_t version);
uint16_t stats_version_wire(unsigned index); /* the way back; 0 for "other" */
const char *stats_version_name(unsigned index);
/* "10.77.1.1", "fd77::1"; returns `out`. */
#define STATS_ADDRESS_MAX 46 /* with NUL */
const char *stats_address_text(const uint8_t address[16], char out[STATS_ADDRESS_MAX]);

/* Sums workers: `total` gets STATS_COUNTERS_N values; destinations are merged by name into a new array
 * of *count (caller frees). Safe while the workers run: each value is one atomic load. */
void stats_sum(struct stats *const *workers, unsigned n, uint64_t total[STATS_COUNTERS_N]);
struct stats_destination *stats_sum_destinations(struct stats *const *workers, unsigned n, unsigned *count);

/* ---- events ---- */

#define STATS_EVENT_RECIPIENTS_MAX 8 /* domains told apart in one event; the rest is only counted */
#define STATS_EVENT_NAMES_MAX 16     /* names of a certificate; `names_cut` if it has more, or longer ones */

/* What policy_decide() had to go by, so that `waxseal policy try` and `explain` can ask it again. */
struct stats_facts {
	bool known;       /* the server's EHLO reply, or TLS, was seen */
	bool offered, end_to_end;
	uint8_t tls, chain; /* enum policy_tls, enum policy_chain */
	uint16_t version;   /* on the wire */
	bool has_certificate, names_cut;
	uint8_t certificate_sha256[32], key_sha256[32];
	char names[STATS_EVENT_NAMES_MAX][64]; /* the certificate's DNS names */
};

struct stats_event {
	uint64_t at_us;           /* Unix time */
	uint64_t duration_us;
	uint64_t flow_id;
	uint8_t client[16], server[16];
	uint16_t client_port;
	uint8_t direction, end, reason, tls_version_index;
	bool stripped;            /* TLS was had at this server before, and now STARTTLS was not offered, or refused */
	uint32_t flow_hash;       /* places the flow for `percent` */
	struct stats_facts facts;
	char destination[64], rule[64], server_name[64], cipher[48], detail[128];
	uint32_t messages, recipients;
	struct { char domain[64]; uint8_t fate; } rcpt[STATS_EVENT_RECIPIENTS_MAX];
	uint64_t bytes[2];
};
/* One line of JSON with its newline; returns its length, 0 if it does not fit. Every string is escaped. */
size_t stats_event_json(const struct stats_event *event, char *out, size_t out_len);

/* ---- telemetry: commands on DPDK's telemetry socket, answers in JSON ----
 *
 *   /waxseal/status          {"version","uptime_s","inside","outside","fail","workers","layout","image","generation","compiled_at","image_error","images_refused"}
 *   /waxseal/worker,<n>      {"flows","flows_max","takeovers","takeovers_max","buffers","buffers_max","busy_permille","stalled"}; {} past the last
 *   /waxseal/port,<n>        {"name","driver","xdp","link_up","rx_packets","tx_packets","rx_missed","tx_errors"}; 0 inside, 1 outside
 *   /waxseal/counters        {"rx_packets": n, ...}: every name of STATS_COUNTERS
 *   /waxseal/destination,<n> {"name", "sessions.outbound.sealed": n, ..., "recipients.upgraded": n, "would.defer": n,
 *                             "reasons.not-offered": n, "versions.TLSv1.3": n, "resumed", "messages", "bytes"}; {} past the last
 *                             A name with dots goes out as "reasons/not_offered": DPDK takes no '.' and no '-'. Zeros are left out.
 *                             0 takes the sum anew; the others are of that sum, while it is no older than a second.
 *   /waxseal/flows,<cursor>  {"next","silent","id":[...],"client":[...],"server","state","phase","age_s","destination","rule","bytes_client","bytes_server"}:
 *                             columns, for as many connections as an answer holds. 0 begins; go on with "next" until that is 0. A
 *                             connection that is there all the while comes once. silent: a worker did not answer, and is left out.
 */
struct stats_status {
	char version[32], inside[64], outside[64], fail[16], layout[24], image[256], image_error[256];
	uint64_t uptime_s, generation, compiled_at, images_refused;
	unsigned workers;
};
struct stats_worker {
	uint32_t flows, flows_max, takeovers, takeovers_max, buffers, buffers_max, busy_permille;
	bool stalled; /* its loop has not turned for a second */
};
struct stats_port {
	char name[64], driver[32];
	bool xdp, link_up;
	uint64_t rx_packets, tx_packets, rx_missed, tx_errors;
};
struct stats_flow {
	uint64_t next; /* cursor behind it */
	uint64_t id, age_s, bytes[2];
	uint8_t client[16], server[16];
	uint16_t client_port, server_port;
	char state[16], phase[16], destination[64], rule[64];
};

struct stats_flows_at {
	uint64_t next; /* cursor behind all that was looked at; 0: that was the end */
	bool silent;   /* a worker did not answer: its connections are left out */
};

struct stats_source { /* callbacks run on the telemetry thread; lives as long as the process */
	unsigned workers;
	struct stats *const *worker_stats;
	void (*status)(void *context, struct stats_status *out);
	bool (*worker)(void *context, unsigned index, struct stats_worker *out);
	bool (*port)(void *context, unsigned index, struct stats_port *out);
	/* The next connections from the cursor on; fewer than `max`, or none, are no end. */
	unsigned (*flows)(void *context, uint64_t cursor, struct stats_flow *out, unsigned max, struct stats_flows_at *at);
	void *context;
};
/* Registers the commands; 0 or -errno. After rte_eal_init. */
int stats_telemetry_register(const struct stats_source *source);

#endif
