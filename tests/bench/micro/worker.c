/*
 * worker.c - a whole worker on frames from memory: sealed flows, the same with the classifier before it, and the
 * opening of a session in DIALOGUE. Frames are made outside of what is timed. Checked: every frame comes out.
 *
 *   worker BPF_DIR [N ...]      flows; 1000 100000 1000000 unless said otherwise
 */
#include <rte_config.h>
#include <rte_lcore.h>

#include "micro.h"

#include "frames.h"
#include "port/private.h"
#include "micro_worker.h"

#define PACKETS 250000u
#define DIALOGUES 2048u

static struct rte_mbuf *sent[FRAMES_BURST * 4];
static unsigned sent_count;
static uint64_t now = 1000000;

static void transmit(void *context, enum port_side port, struct rte_mbuf **mbufs, unsigned count)
{
	(void)context, (void)port;
	memcpy(sent + sent_count, mbufs, count * sizeof(*mbufs));
	sent_count += count;
}

enum what { FILL, WORKER, CLASSIFIER_AND_WORKER };

static void sealed(struct worker *worker, struct program *program, uint32_t n, struct rte_mbuf **mbufs, enum what what)
{
	static uint32_t at;
	struct micro cost = {.count = 0};
	uint32_t count = what == FILL ? n : PACKETS;
	for (unsigned round = 0; round < (what == FILL ? 1 : MICRO_ROUNDS); round++) {
		uint64_t spent = 0;
		for (uint32_t done = 0; done < count; done += FRAMES_BURST) {
			for (unsigned i = 0; i < FRAMES_BURST; i++)
				frame_fill_sealed(mbufs[i], micro_shuffled(at++ % n, n));
			if (what != CLASSIFIER_AND_WORKER)
				program_classify(program, 0, INSIDE, mbufs, FRAMES_BURST); /* its hash is the flow's name */
			sent_count = 0;
			now++;
			uint64_t from = __rdtsc();
			if (what == CLASSIFIER_AND_WORKER)
				program_classify(program, 0, INSIDE, mbufs, FRAMES_BURST);
			worker_input(worker, mbufs, FRAMES_BURST, INSIDE, now);
			worker_tick(worker, now);
			spent += __rdtsc() - from;
			if (sent_count != FRAMES_BURST)
				micro_die("a frame of a sealed flow did not pass");
			memcpy(mbufs, sent, sizeof(mbufs[0]) * FRAMES_BURST);
		}
		micro_note(&cost, (double)spent / count);
	}
	if (what != FILL)
		micro_print(&cost, what == WORKER ? "worker_sealed" : "classifier_and_worker_sealed", n, "cycles/packet");
}

/* SYN, SYN-ACK, ACK, banner, EHLO and its reply; then a RST closes it. */
static void dialogue(struct worker *worker, struct rte_mbuf *mbuf)
{
	static const char banner[] = "220 mx.example ESMTP\r\n", ehlo[] = "EHLO client.example\r\n",
			  reply[] = "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 SIZE 0\r\n";
	const uint32_t c = 1000, s = 5000, b = sizeof(banner) - 1, e = sizeof(ehlo) - 1, r = sizeof(reply) - 1;
	const uint8_t push = PACKET_ACK | PACKET_PSH;
	const struct frame_spec script[] = {
		{.from = CLIENT, .flags = PACKET_SYN, .seq = c, .syn_options = true},
		{.from = SERVER, .flags = PACKET_SYN | PACKET_ACK, .seq = s, .ack = c + 1, .syn_options = true},
		{.from = CLIENT, .flags = PACKET_ACK, .seq = c + 1, .ack = s + 1},
		{.from = SERVER, .flags = push, .seq = s + 1, .ack = c + 1, .payload = banner, .payload_len = (uint16_t)b},
		{.from = CLIENT, .flags = push, .seq = c + 1, .ack = s + 1 + b, .payload = ehlo, .payload_len = (uint16_t)e},
		{.from = SERVER, .flags = push, .seq = s + 1 + b, .ack = c + 1 + e, .payload = reply, .payload_len = (uint16_t)r},
		{.from = CLIENT, .flags = PACKET_ACK, .seq = c + 1 + e, .ack = s + 1 + b + r},
		{.from = CLIENT, .flags = PACKET_RST | PACKET_ACK, .seq = c + 1 + e, .ack = s + 1 + b + r},
	};
	const unsigned steps = sizeof(script) / sizeof(script[0]);
	struct micro session = {.count = 0}, packet = {.count = 0};
	uint32_t flow = 0;
	for (unsigned round = 0; round < MICRO_ROUNDS; round++) {
		uint64_t opening = 0, talking = 0;
		for (uint32_t done = 0; done < DIALOGUES; done++, flow++) {
			for (unsigned step = 0; step < steps; step++) {
				struct frame_spec spec = script[step];
				spec.flow = flow;
				frame_fill(mbuf, &spec);
				sent_count = 0;
				now += 10;
				uint64_t from = __rdtsc();
				worker_input(worker, &mbuf, 1, spec.from == CLIENT ? INSIDE : OUTSIDE, now);
				worker_tick(worker, now);
				uint64_t spent = __rdtsc() - from;
				*(step >= 3 && step < steps - 1 ? &talking : &opening) += spent;
				if (sent_count != 1)
					micro_die("a frame of the dialogue did not pass");
				mbuf = sent[0];
			}
			if (done % 256 == 255) /* those that are over make room: the sweep is the table's own bench */
				for (unsigned i = 0; i < 2 * FLOW_SWEEP_ROUND_US / FLOW_SWEEP_US; i++)
					worker_tick(worker, now += FLOW_SWEEP_US);
		}
		micro_note(&packet, (double)talking / DIALOGUES / 4);
		micro_note(&session, (double)(opening + talking) / DIALOGUES);
	}
	micro_print(&packet, "worker_dialogue", 0, "cycles/packet");
	micro_print(&session, "worker_dialogue_session", 0, "cycles/session");
	rte_pktmbuf_free(mbuf);
}

int main(int argc, char **argv)
{
	static const char *usual[] = {"1000", "100000", "1000000"};
	const char **sizes = argc > 2 ? (const char **)argv + 2 : usual;
	unsigned count = argc > 2 ? (unsigned)argc - 2 : 3;
	struct rte_mbuf *mbufs[FRAMES_BURST];
	char error[PORT_ERROR_MAX] = "";

	if (argc < 2)
		micro_die("worker BPF_DIR [N ...]");
	micro_eal(512);
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
	struct program *program = program_new(argv[1], 1, 1, error, sizeof(error));
	if (!pool || !program || rte_pktmbuf_alloc_bulk(pool, mbufs, FRAMES_BURST))
		micro_die(*error ? error : "no memory for frames");
	for (unsigned i = 0; i < count; i++) {
		uint32_t n = (uint32_t)atoi(sizes[i]);
		struct stats *stats = stats_new();
		struct worker *worker = micro_worker(n, pool, stats, transmit, now);
		sealed(worker, program, n, mbufs, FILL);
		struct stats_worker load;
		worker_load(worker, &load);
		if (load.flows != n)
			micro_die("not all flows are there");
		sealed(worker, program, n, mbufs, WORKER);
		sealed(worker, program, n, mbufs, CLASSIFIER_AND_WORKER);
		worker_free(worker, now);
		stats_free(stats);
	}
	struct worker *worker = micro_worker(4096, pool, stats_new(), transmit, now);
	dialogue(worker, mbufs[0]);
	worker_free(worker, now);
	return 0;
}
