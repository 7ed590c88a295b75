/*
 * sessions.c - upgraded sessions a second of one worker and of two, where cryptography is the limit.
 *
 * Load and sink are replayed from memory, so that two CPUs suffice for two workers. One session is played live between
 * TCP endpoints and an OpenSSL server, with random numbers that are drawn from a seed; every frame that goes into the
 * worker is kept. A session with the same random numbers then has the same ClientHello, and takes the same frames for
 * its answers: for the worker each of them is a session of its own, with a full handshake, from a client of its own.
 *
 *   worker_sessions N    N workers at once, each a thread on a CPU of its own; the figure is of all of them
 *   worker_session_cpu N of those, CPU time of a session: what other programs take of the machine is not in it
 *
 * Checked: each session's payload comes out as that of the live one did, octet for octet, TLS records included.
 */
#define OPENSSL_API_COMPAT 10101 /* RAND_METHOD: deprecated, and the short way to numbers from a seed */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <sched.h>

#include "../../unit/policy_lines.h"
#include "../../unit/tls_peer.h"
#include "frames.h"
#include "micro_worker.h"
#include "tcp/tcp.h"

#define WORKERS_MAX 2
#define SESSIONS 300u /* of each worker in a round */
#define STEPS_MAX 256
#define WINDOW_BYTES (1u << 20)
#define CLIENT_ISS 1000u
#define SERVER_ISS 5000u
#define CONTENT_BYTES 4096

/* ---- random numbers from a seed; client and server draw from streams of their own ---- */

static _Thread_local uint64_t drawn[SIDES];
static _Thread_local enum side drawing = CLIENT; /* waxseal is the client of TLS */

static int draw(unsigned char *out, int len)
{
	for (int i = 0; i < len; i++) {
		uint64_t x = (++drawn[drawing] + ((uint64_t)drawing << 60)) * 0x9e3779b97f4a7c15ull;
		x ^= x >> 32;
		out[i] = (unsigned char)(x * 0xd6e8feb86659fd93ull >> 56);
	}
	return 1;
}
static int drawable(void) { return 1; }

/* ---- what is replayed ---- */

struct step { /* one frame, or none: time passes */
	uint64_t after_us;
	enum side from;
	uint16_t len;
	uint8_t frame[1600];
};
static struct step steps[STEPS_MAX];
static unsigned step_count;
static uint64_t right_sum; /* of all payload that came out */

struct lane {
	struct worker *worker;
	struct rte_mempool *pool;
	uint64_t now, sum;
	struct rte_mbuf *out[1024];
	enum side out_to[1024];
	unsigned out_count;
	bool keep; /* what comes out is wanted */
	unsigned index;
	double cpu_us; /* of its last round */
};
static struct lane lanes[WORKERS_MAX];
static _Thread_local struct lane *lane;

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		struct packet p;
		if (packet_parse(&p, rte_pktmbuf_mtod(mbufs[i], uint8_t *), rte_pktmbuf_data_len(mbufs[i])) != PACKET_OK)
			micro_die("a frame of the worker's is not sound");
		for (unsigned at = 0; at < p.payload_len; at++)
			lane->sum = (lane->sum ^ p.frame[p.payload_off + at]) * 0x100000001b3ull;
		if (!lane->keep) {
			rte_pktmbuf_free(mbufs[i]);
			continue;
		}
		lane->out_to[lane->out_count] = port == INSIDE ? CLIENT : SERVER;
		lane->out[lane->out_count++] = mbufs[i];
	}
}

static void put(struct rte_mbuf *mbuf, enum side from)
{
	worker_input(lane->worker, &mbuf, 1, from == CLIENT ? INSIDE : OUTSIDE, lane->now);
	do
		worker_tick(lane->worker, lane->now);
	while (worker_deadline_us(lane->worker) <= lane->now);
}

/* ---- the live session ---- */

static struct {
	struct tcp_endpoint *peer[SIDES];
	struct packet_template template[SIDES];
	struct peer tls;
	bool tls_on;
	char heard[SIDES][8192];
	size_t heard_len[SIDES];
	struct rte_mbuf *in[64];
	enum side in_from[64];
	unsigned in_count;
} live;
static uint32_t live_flow;
static const struct tcp_limits peer_limits = {.send_buffer_bytes_max = 1 << 18, .receive_buffer_bytes_max = 1 << 18, .congestion = "cubic"};

static void keep_and_put(struct rte_mbuf *mbuf, enum side from, uint64_t after_us)
{
	if (step_count == STEPS_MAX)
		micro_die("the session is too long");
	struct step *step = &steps[step_count++];
	*step = (struct step){.after_us = after_us, .from = from, .len = rte_pktmbuf_data_len(mbuf)};
	memcpy(step->frame, rte_pktmbuf_mtod(mbuf, void *), step->len);
	lane->now += after_us;
	put(mbuf, from);
}

static bool peer_emit(void *context, struct tcp_endpoint *endpoint, const struct tcp_segment *segment)
{
	enum side from = *(enum side *)context;
	struct packet_tcp tcp = {.seq = segment->seq, .ack = segment->ack, .flags = segment->flags, .window = segment->window};
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(lane->pool);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	tcp_payload(endpoint, segment, frame + packet_build_headers_len(&live.template[from], &tcp));
	rte_pktmbuf_append(mbuf, (uint16_t)packet_build(&live.template[from], &tcp, segment->payload_len, frame, rte_pktmbuf_tailroom(mbuf)));
	frame_verdict(frame, live_flow, from);
	live.in_from[live.in_count] = from;
	live.in[live.in_count++] = mbuf;
	return live.in_count < 64;
}

static void server_tls(void)
{
	uint8_t bytes[16384];
	int got;
	drawing = SERVER;
	while ((got = SSL_read(live.tls.ssl, bytes, sizeof(bytes))) > 0) {
		memcpy(live.heard[SERVER] + live.heard_len[SERVER], bytes, (size_t)got);
		live.heard_len[SERVER] += (size_t)got;
	}
	ERR_clear_error();
	while ((got = BIO_read(live.tls.out, bytes, sizeof(bytes))) > 0)
		tcp_write(live.peer[SERVER], bytes, (size_t)got);
	drawing = CLIENT;
}

static void read_all(void)
{
	const uint8_t *piece;
	size_t len;
	for (int side = 0; side < SIDES; side++) {
		while (piece = tcp_peek(live.peer[side], &len), len) {
			if (side == SERVER && live.tls_on) {
				BIO_write(live.tls.in, piece, (int)len);
			} else {
				memcpy(live.heard[side] + live.heard_len[side], piece, len);
				live.heard_len[side] += len;
			}
			tcp_consume(live.peer[side], len);
		}
	}
	if (live.tls_on)
		server_tls();
}

static bool move(void)
{
	for (unsigned i = 0; i < lane->out_count; i++) {
		struct packet p;
		packet_parse(&p, rte_pktmbuf_mtod(lane->out[i], uint8_t *), rte_pktmbuf_data_len(lane->out[i]));
		struct tcp_segment segment = {.seq = p.seq, .ack = p.ack, .window = p.window, .flags = p.flags,
		                              .payload = p.frame + p.payload_off, .payload_len = p.payload_len};
		if (live.peer[lane->out_to[i]])
			tcp_input(live.peer[lane->out_to[i]], &segment, lane->now);
		rte_pktmbuf_free(lane->out[i]);
	}
	lane->out_count = 0;
	if (!live.peer[CLIENT])
		return false;
	read_all();
	live.in_count = 0;
	for (enum side side = CLIENT; side <= SERVER; side++)
		tcp_output(live.peer[side], lane->now, peer_emit, &side);
	for (unsigned i = 0; i < live.in_count; i++)
		keep_and_put(live.in[i], live.in_from[i], 10);
	return live.in_count || lane->out_count;
}

static void says(enum side side, const char *text, enum side other, const char *heard)
{
	live.heard_len[other] = 0;
	if (side == SERVER && live.tls_on)
		SSL_write(live.tls.ssl, text, (int)strlen(text));
	else
		tcp_write(live.peer[side], (const uint8_t *)text, strlen(text));
	while (move())
		;
	if (live.heard_len[other] < strlen(heard) || memcmp(live.heard[other], heard, strlen(heard)))
		micro_die(heard);
}

static void by_hand(enum side from, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(lane->pool);
	struct packet packet;
	frame_fill(mbuf, &(struct frame_spec){.flow = live_flow, .from = from, .flags = flags, .seq = seq, .ack = ack, .syn_options = flags & PACKET_SYN});
	packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf));
	packet_template_from(&live.template[from], &packet);
	keep_and_put(mbuf, from, 10);
	move();
}

static struct tcp_adoption numbers(uint32_t snd, uint32_t rcv)
{
	return (struct tcp_adoption){.snd_una = snd, .snd_nxt = snd, .rcv_nxt = rcv, .rcv_edge = rcv + WINDOW_BYTES, .snd_wnd = 8192, .snd_wscale = 7,
	                             .rcv_wscale = 7, .mss = 1460, .sack_ok = false, .rtt_us = 100, .unacked = (const uint8_t *)""};
}

/* Both ends of the session of that number are gone. */
static void resets(void)
{
	for (int side = 0; side < SIDES; side++) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(lane->pool);
		const struct step *last = NULL;
		struct packet packet;
		for (unsigned i = 0; i < step_count; i++)
			last = steps[i].from == (enum side)side ? &steps[i] : last;
		memcpy(rte_pktmbuf_append(mbuf, last->len), last->frame, last->len);
		packet_parse(&packet, rte_pktmbuf_mtod(mbuf, uint8_t *), last->len);
		packet_make_reset(&packet, packet.seq + packet_seq_len(&packet), packet.ack);
		mbuf->data_len = packet.frame_len;
		mbuf->pkt_len = packet.frame_len;
		keep_and_put(mbuf, side, 10);
	}
	move();
}

static void play_live(struct cert *cert, struct tcp_pool *pool)
{
	static char content[CONTENT_BYTES + 8];
	struct tcp_adoption client = numbers(CLIENT_ISS + 1, SERVER_ISS + 1), server = numbers(SERVER_ISS + 1, CLIENT_ISS + 1);
	memset(&live, 0, sizeof(live));
	memset(drawn, 0, sizeof(drawn));
	lane->sum = 0;
	step_count = 0;
	drawing = SERVER;
	live.tls = peer_new(true, cert, TLS1_2_VERSION, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(live.tls.ctx, 0);
	peer_begin(&live.tls, true);
	drawing = CLIENT;
	by_hand(CLIENT, PACKET_SYN, CLIENT_ISS, 0);
	by_hand(SERVER, PACKET_SYN | PACKET_ACK, SERVER_ISS, CLIENT_ISS + 1);
	by_hand(CLIENT, PACKET_ACK, CLIENT_ISS + 1, SERVER_ISS + 1);
	live.peer[CLIENT] = tcp_adopt(pool, &client, &peer_limits, lane->now);
	live.peer[SERVER] = tcp_adopt(pool, &server, &peer_limits, lane->now);
	says(SERVER, "220 mx.example ESMTP\r\n", CLIENT, "220 ");
	says(CLIENT, "EHLO client.example\r\n", SERVER, "EHLO ");
	says(SERVER, "250-mx.example\r\n250 STARTTLS\r\n", CLIENT, "250-");
	says(CLIENT, "MAIL FROM:<a@inside.example>\r\n", SERVER, "STARTTLS\r\n");
	live.heard_len[SERVER] = 0;
	tcp_write(live.peer[SERVER], (const uint8_t *)"220 go\r\n", 8);
	live.tls_on = true;
	while (move())
		;
	if (memcmp(live.heard[SERVER], "EHLO client.example\r\n", 21))
		micro_die("no EHLO inside TLS");
	says(SERVER, "250 mx.example\r\n", SERVER, "MAIL FROM:");
	says(SERVER, "250 ok\r\n", CLIENT, "250 ok");
	says(CLIENT, "RCPT TO:<b@outside.example>\r\n", SERVER, "RCPT TO:");
	says(SERVER, "250 ok\r\n", CLIENT, "250 ok");
	says(CLIENT, "DATA\r\n", SERVER, "DATA\r\n");
	says(SERVER, "354 go on\r\n", CLIENT, "354 ");
	memset(content, 'x', CONTENT_BYTES);
	memcpy(content + CONTENT_BYTES, "\r\n.\r\n", 6);
	says(CLIENT, content, SERVER, content);
	says(SERVER, "250 taken\r\n", CLIENT, "250 taken");
	says(CLIENT, "QUIT\r\n", SERVER, "QUIT\r\n");
	says(SERVER, "221 bye\r\n", CLIENT, "221 ");
	resets();
	right_sum = lane->sum;
	for (int side = 0; side < SIDES; side++)
		tcp_free(live.peer[side]);
	peer_free(&live.tls);
}

/* ---- replay ---- */

static void rewrite(struct rte_mbuf *mbuf, const struct step *step, uint32_t flow)
{
	struct packet packet;
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	uint32_t client = frame_client(flow);
	memcpy(rte_pktmbuf_append(mbuf, step->len), step->frame, step->len);
	memcpy(frame + (step->from == CLIENT ? 26 : 30), &client, 4);
	packet_parse(&packet, frame, step->len);
	packet_update_checksums(&packet);
	frame_verdict(frame, flow, step->from);
}

static bool replay(uint32_t flow)
{
	memset(drawn, 0, sizeof(drawn));
	lane->sum = 0;
	for (unsigned i = 0; i < step_count; i++) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(lane->pool);
		if (!mbuf)
			micro_die("no packet buffers");
		rewrite(mbuf, &steps[i], flow);
		lane->now += steps[i].after_us;
		put(mbuf, steps[i].from);
	}
	return lane->sum == right_sum;
}

static pthread_barrier_t together;
static uint32_t round_number;

static double thread_cpu_us(void)
{
	struct timespec used;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

static void *run(void *context)
{
	cpu_set_t cpu;
	lane = context;
	CPU_ZERO(&cpu);
	CPU_SET(lane->index, &cpu);
	pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu);
	pthread_barrier_wait(&together);
	lane->cpu_us = thread_cpu_us();
	for (uint32_t i = 0; i < SESSIONS; i++)
		if (!replay(2 * WORKERS_MAX + i + SESSIONS * (lane->index + WORKERS_MAX * round_number)))
			micro_die("a session did not come out as the live one");
	lane->cpu_us = thread_cpu_us() - lane->cpu_us;
	return NULL;
}

static void round_of(unsigned workers, struct micro *rate, struct micro *cpu)
{
	double cpu_us = 0;
	pthread_t threads[WORKERS_MAX];
	struct timespec from, to;
	pthread_barrier_init(&together, NULL, workers + 1);
	for (unsigned i = 0; i < workers; i++)
		pthread_create(&threads[i], NULL, run, &lanes[i]);
	clock_gettime(CLOCK_MONOTONIC, &from);
	pthread_barrier_wait(&together);
	for (unsigned i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < workers; i++)
		cpu_us += lanes[i].cpu_us;
	clock_gettime(CLOCK_MONOTONIC, &to);
	pthread_barrier_destroy(&together);
	round_number++;
	micro_note(rate, workers * SESSIONS / ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9));
	micro_note(cpu, cpu_us / (workers * SESSIONS));
}

int main(void)
{
	static const RAND_METHOD method = {.bytes = draw, .pseudorand = draw, .status = drawable};
	struct micro rate[WORKERS_MAX + 1] = {0}, cpu[WORKERS_MAX + 1] = {0};
	struct cert cert = cert_make("mx.example", "DNS:mx.example", NULL, -1, 30);
	struct policy_image *image = image_of_lines((const char *const[]){"* level=encrypt", NULL});

	micro_eal(512);
	RAND_set_rand_method(&method);
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof(name), "frames%u", i);
		lanes[i].index = i;
		lanes[i].now = 1000000;
		lanes[i].pool = rte_pktmbuf_pool_create(name, 4095, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
		lane = &lanes[i];
		lanes[i].worker = micro_worker(16384, lanes[i].pool, stats_new(), transmit, lanes[i].now);
		worker_set_image(lanes[i].worker, image);
	}
	struct tcp_pool *pool = tcp_pool_new(1024);
	for (unsigned i = 0; i < 2 * WORKERS_MAX; i++) { /* a worker's first one makes what later ones share, and draws numbers for it */
		lane = &lanes[i / 2];
		lane->keep = true;
		live_flow = i;
		play_live(&cert, pool);
		lane->keep = false;
	}
	for (unsigned round = 0; round < MICRO_ROUNDS; round++)
		for (unsigned workers = 1; workers <= WORKERS_MAX; workers++)
			round_of(workers, &rate[workers], &cpu[workers]);
	for (unsigned workers = 1; workers <= WORKERS_MAX; workers++)
		micro_print(&rate[workers], "worker_sessions", workers, "sessions/s");
	for (unsigned workers = 1; workers <= WORKERS_MAX; workers++)
		micro_print(&cpu[workers], "worker_session_cpu", workers, "us/session");
	return 0;
}
