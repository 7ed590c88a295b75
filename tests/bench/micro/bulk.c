/*
 * bulk.c - one long message, in process and without loss: between two TCP endpoints, and through a whole worker that
 * upgrades it to TLS. In both the cost is for each segment that carries data.
 *
 *   tcp_bulk              sender and receiver together, with the copies into and out of frames
 *   worker_upgraded_bulk  worker_input and worker_tick alone: client's segments in, TLS records for the server out,
 *                         and the acknowledgments of both. The peers (TCP endpoints, OpenSSL at the server) are not timed
 *
 * Checked: every octet arrives, the server's in TLS; the worker's frames hold right checksums.
 */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include "../../unit/policy_lines.h"
#include "../../unit/tls_peer.h"
#include "frames.h"
#include "micro_worker.h"
#include "tcp/tcp.h"

#define ROUND_BYTES (8u << 20)
#define WINDOW_BYTES (1u << 20) /* what frame_make's window means, scaled by its SYN's option */
#define QUEUE_MAX 4096u
#define CLIENT_ISS 1000u
#define SERVER_ISS 5000u

static const struct tcp_limits peer_limits = {.send_buffer_bytes_max = 1 << 20, .receive_buffer_bytes_max = 2 << 20, .congestion = "cubic"};
static uint64_t now = 1000000, spent, segments;
static uint8_t content[1 << 16];

static struct tcp_adoption numbers(uint32_t snd, uint32_t rcv)
{
	return (struct tcp_adoption){.snd_una = snd, .snd_nxt = snd, .rcv_nxt = rcv, .rcv_edge = rcv + WINDOW_BYTES, .snd_wnd = 8192, .snd_wscale = 7,
	                             .rcv_wscale = 7, .mss = 1460, .sack_ok = true, .rtt_us = 100, .unacked = (const uint8_t *)""};
}

/* ---- two endpoints ---- */

static struct { struct tcp_segment segment; uint8_t payload[1460]; } link_queue[QUEUE_MAX];
static unsigned linked;

static bool link_emit(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	(void)context;
	if (linked == FRAMES_BURST)
		return false;
	link_queue[linked].segment = *segment;
	tcp_payload(endpoint, segment, link_queue[linked].payload);
	link_queue[linked].segment.payload = link_queue[linked].payload;
	segments += segment->payload_len > 0;
	linked++;
	return true;
}

static void link_deliver(struct tcp_endpoint *to)
{
	for (unsigned i = 0; i < linked; i++)
		tcp_input(to, &link_queue[i].segment, now);
	linked = 0;
}

static size_t drain(struct tcp_endpoint *end)
{
	size_t total = 0, len;
	while (tcp_peek(end, &len), len) {
		tcp_consume(end, len);
		total += len;
	}
	return total;
}

static void endpoints(void)
{
	struct micro cost = {.count = 0};
	struct tcp_pool *pool = tcp_pool_new(4096);
	struct tcp_adoption a = numbers(CLIENT_ISS, SERVER_ISS), b = numbers(SERVER_ISS, CLIENT_ISS);
	struct tcp_endpoint *from = tcp_adopt(pool, &a, &peer_limits, now), *to = tcp_adopt(pool, &b, &peer_limits, now);
	if (!from || !to)
		micro_die("no memory for endpoints");
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		size_t written = 0, read = 0;
		segments = 0;
		uint64_t began = __rdtsc();
		while (read < ROUND_BYTES) {
			size_t want = ROUND_BYTES - written;
			written += tcp_write(from, content, want < sizeof(content) ? want : sizeof(content));
			now += 10;
			tcp_output(from, now, link_emit, NULL);
			if (!linked)
				tcp_tick(to, now += 50000); /* the last segment's delayed ACK */
			link_deliver(to);
			read += drain(to);
			tcp_output(to, now, link_emit, NULL);
			link_deliver(from);
		}
		micro_note(&cost, (double)(__rdtsc() - began) / (double)segments);
		if (read != ROUND_BYTES)
			micro_die("octets were lost between two endpoints");
	}
	micro_print(&cost, "tcp_bulk", 0, "cycles/packet");
	tcp_free(from);
	tcp_free(to);
	tcp_pool_free(pool);
}

/* ---- through a worker ---- */

static struct {
	struct worker *worker;
	struct rte_mempool *pool;
	struct tcp_endpoint *peer[SIDES];
	struct packet_template template[SIDES]; /* of the frames of that side */
	struct peer tls;
	bool tls_on;
	struct rte_mbuf *in[QUEUE_MAX], *out[QUEUE_MAX];
	enum side in_from[QUEUE_MAX], out_to[QUEUE_MAX];
	unsigned in_count, out_count;
	char heard[SIDES][512];
	size_t heard_len[SIDES];
	uint64_t heard_total;
} w;

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		w.out_to[w.out_count] = port == INSIDE ? CLIENT : SERVER;
		w.out[w.out_count++] = mbufs[i];
	}
}

static bool peer_emit(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	enum side from = *(enum side *)context;
	struct packet_tcp tcp = {.seq = segment->seq, .ack = segment->ack, .flags = segment->flags, .window = segment->window, .sack_count = segment->sack_count};
	struct rte_mbuf *mbuf = w.in_count < FRAMES_BURST ? rte_pktmbuf_alloc(w.pool) : NULL;

	if (!mbuf)
		return false;
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	memcpy(tcp.sack, segment->sack, sizeof(tcp.sack));
	tcp_payload(endpoint, segment, frame + packet_build_headers_len(&w.template[from], &tcp));
	rte_pktmbuf_append(mbuf, (uint16_t)packet_build(&w.template[from], &tcp, segment->payload_len, frame, rte_pktmbuf_tailroom(mbuf)));
	frame_verdict(frame, 0, from);
	segments += from == CLIENT && segment->payload_len;
	w.in_from[w.in_count] = from;
	w.in[w.in_count++] = mbuf;
	return true;
}

static void hear(enum side side, const void *bytes, size_t len)
{
	size_t room = sizeof(w.heard[side]) - 1 - w.heard_len[side], kept = len < room ? len : room;
	memcpy(w.heard[side] + w.heard_len[side], bytes, kept);
	w.heard_len[side] += kept;
	w.heard[side][w.heard_len[side]] = 0;
	if (side == SERVER)
		w.heard_total += len;
}

static void peer_reads(enum side side)
{
	uint8_t bytes[16384];
	const uint8_t *piece;
	size_t len;
	int got;

	while (piece = tcp_peek(w.peer[side], &len), len) {
		if (side == SERVER && w.tls_on)
			BIO_write(w.tls.in, piece, (int)len);
		else
			hear(side, piece, len);
		tcp_consume(w.peer[side], len);
	}
	if (side != SERVER || !w.tls_on)
		return;
	while ((got = SSL_read(w.tls.ssl, bytes, sizeof(bytes))) > 0)
		hear(SERVER, bytes, (size_t)got);
	ERR_clear_error();
	while ((got = BIO_read(w.tls.out, bytes, sizeof(bytes))) > 0)
		if (tcp_write(w.peer[SERVER], bytes, (size_t)got) != (size_t)got)
			micro_die("the server has no room");
}

/* What came in goes to the worker, what it sends goes to the peers; false: nothing moved. */
static bool turn(void)
{
	bool moved = w.in_count > 0;
	uint64_t began = __rdtsc();

	now += 10;
	for (unsigned i = 0, n; i < w.in_count; i += n) { /* each port's burst */
		for (n = 1; i + n < w.in_count && w.in_from[i + n] == w.in_from[i]; n++)
			;
		worker_input(w.worker, w.in + i, n, w.in_from[i] == CLIENT ? INSIDE : OUTSIDE, now);
	}
	worker_tick(w.worker, now);
	spent += __rdtsc() - began;
	w.in_count = 0;
	for (unsigned i = 0; i < w.out_count; i++) {
		struct packet p;
		if (packet_parse(&p, rte_pktmbuf_mtod(w.out[i], uint8_t *), rte_pktmbuf_data_len(w.out[i])) != PACKET_OK || !packet_checksums_ok(&p))
			micro_die("a frame of the worker's is not sound");
		struct tcp_segment segment = {.seq = p.seq, .ack = p.ack, .window = p.window, .flags = p.flags, .sack_count = p.sack_count,
		                              .payload = p.frame + p.payload_off, .payload_len = p.payload_len};
		memcpy(segment.sack, p.sack, sizeof(segment.sack));
		if (w.peer[w.out_to[i]])
			tcp_input(w.peer[w.out_to[i]], &segment, now);
		rte_pktmbuf_free(w.out[i]);
	}
	moved |= w.out_count > 0;
	w.out_count = 0;
	for (enum side side = CLIENT; side <= SERVER && w.peer[side]; side++) {
		peer_reads(side);
		tcp_output(w.peer[side], now, peer_emit, &side);
	}
	return moved || w.in_count;
}

static void settle(void)
{
	while (turn())
		;
	for (unsigned i = 0; i < 2; i++) { /* delayed ACKs */
		now += 50000;
		for (int side = 0; side < SIDES; side++)
			tcp_tick(w.peer[side], now);
		while (turn())
			;
	}
}

static void says(enum side side, const char *text, enum side other, const char *heard)
{
	size_t len = strlen(text);
	w.heard_len[other] = w.heard[other][0] = 0;
	if (side == SERVER && w.tls_on)
		SSL_write(w.tls.ssl, text, (int)len);
	else if (tcp_write(w.peer[side], (const uint8_t *)text, len) != len)
		micro_die("no room for a line");
	settle();
	if (strcmp(w.heard[other], heard))
		micro_die(w.heard[other]);
}

static void by_hand(enum side from, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(w.pool);
	struct packet packet;

	frame_fill(mbuf, &(struct frame_spec){.from = from, .flags = flags, .seq = seq, .ack = ack, .syn_options = flags & PACKET_SYN});
	packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf));
	packet_template_from(&w.template[from], &packet);
	w.in_from[w.in_count] = from;
	w.in[w.in_count++] = mbuf;
	turn();
}

static void upgraded_session(struct tcp_pool *pool)
{
	struct tcp_adoption client = numbers(CLIENT_ISS + 1, SERVER_ISS + 1), server = numbers(SERVER_ISS + 1, CLIENT_ISS + 1);

	by_hand(CLIENT, PACKET_SYN, CLIENT_ISS, 0);
	by_hand(SERVER, PACKET_SYN | PACKET_ACK, SERVER_ISS, CLIENT_ISS + 1);
	by_hand(CLIENT, PACKET_ACK, CLIENT_ISS + 1, SERVER_ISS + 1);
	w.peer[CLIENT] = tcp_adopt(pool, &client, &peer_limits, now);
	w.peer[SERVER] = tcp_adopt(pool, &server, &peer_limits, now);
	says(SERVER, "220 mx.example ESMTP\r\n", CLIENT, "220 mx.example ESMTP\r\n");
	says(CLIENT, "EHLO client.example\r\n", SERVER, "EHLO client.example\r\n");
	says(SERVER, "250-mx.example\r\n250 STARTTLS\r\n", CLIENT, "250-mx.example\r\n250 STARTTLS\r\n");
	says(CLIENT, "MAIL FROM:<a@inside.example>\r\n", SERVER, "STARTTLS\r\n");
	w.heard_len[SERVER] = w.heard[SERVER][0] = 0;
	tcp_write(w.peer[SERVER], (const uint8_t *)"220 go\r\n", 8);
	w.tls_on = true;
	settle();
	if (strcmp(w.heard[SERVER], "EHLO client.example\r\n"))
		micro_die("no EHLO inside TLS");
	says(SERVER, "250 mx.example\r\n", SERVER, "MAIL FROM:<a@inside.example>\r\n");
	says(SERVER, "250 ok\r\n", CLIENT, "250 ok\r\n");
	says(CLIENT, "RCPT TO:<b@outside.example>\r\n", SERVER, "RCPT TO:<b@outside.example>\r\n");
	says(SERVER, "250 ok\r\n", CLIENT, "250 ok\r\n");
	says(CLIENT, "DATA\r\n", SERVER, "DATA\r\n");
	says(SERVER, "354 go on\r\n", CLIENT, "354 go on\r\n");
}

static void upgraded(void)
{
	struct cert cert = cert_make("mx.example", "DNS:mx.example", NULL, -1, 30);
	struct policy_image *image = image_of_lines((const char *const[]){"* level=encrypt", NULL});
	struct tcp_pool *pool = tcp_pool_new(4096);
	struct stats *stats = stats_new();
	struct micro cost = {.count = 0};

	w.worker = micro_worker(1024, w.pool, stats, transmit, now);
	worker_set_image(w.worker, image);
	w.tls = peer_new(true, &cert, TLS1_2_VERSION, TLS1_3_VERSION);
	peer_begin(&w.tls, true);
	upgraded_session(pool);
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t before = w.heard_total;
		size_t written = 0;
		segments = spent = 0;
		while (w.heard_total - before < ROUND_BYTES) {
			size_t want = ROUND_BYTES - written;
			written += tcp_write(w.peer[CLIENT], content, want < sizeof(content) ? want : sizeof(content));
			if (!turn())
				settle();
		}
		micro_note(&cost, (double)spent / (double)segments);
		settle();
		if (w.heard_total - before != ROUND_BYTES)
			micro_die("octets were lost or made on the way through the worker");
	}
	micro_print(&cost, "worker_upgraded_bulk", 0, "cycles/packet");
	says(CLIENT, "\r\n.\r\n", SERVER, "\r\n.\r\n");
	says(SERVER, "250 taken\r\n", CLIENT, "250 taken\r\n");
	for (int side = 0; side < SIDES; side++)
		tcp_free(w.peer[side]);
	w.peer[CLIENT] = NULL;
	worker_free(w.worker, now);
	stats_free(stats);
	tcp_pool_free(pool);
	peer_free(&w.tls);
	policy_image_close(image);
	cert_free(&cert);
}

int main(void)
{
	memset(content, 'x', sizeof(content));
	for (size_t i = 62; i < sizeof(content); i += 64)
		memcpy(content + i, "\r\n", 2);
	endpoints();
	micro_eal(256);
	w.pool = rte_pktmbuf_pool_create("frames", 4095, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
	if (!w.pool)
		micro_die("no memory for frames");
	upgraded();
	return 0;
}
