/*
 * run.c - one run: a worker, a policy and sessions out of a seed; everything that is due at an instant; the end.
 *
 * Enters: a seed, and the time in sim.now_us, which whoever drives the run sets: worker_sim.c jumps from event to
 * event, linux_sim.c follows a clock. After a run nothing of it may be left: no packet buffer, no chunk, no flow,
 * no session, no SSL object (the last under ASan).
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_random.h>

#include "policy/policy.h"
#include "worker.h"
#include "sim.h"

struct sim sim;
struct totals totals;
enum { FRAMES = 4095 };

static uint64_t tick_us, worker_due_us;
static struct stats *stats;
static struct policy_image *image;

static uint64_t unix_time_us(void *context)
{
	(void)context;
	return 1700000000 * SECOND + sim.now_us;
}

static void tick(void)
{
	worker_tick(sim.worker, sim.now_us);
	tap_flushed();
	tick_us = NEVER;
	worker_due_us = worker_deadline_us(sim.worker);
}

void worker_gets(struct rte_mbuf *mbuf, enum port_side from)
{
	if (kernel_takes(mbuf, from))
		return;
	worker_input(sim.worker, &mbuf, 1, from, sim.now_us);
	/* The fast path ticks after a burst, which may hold more than this frame. */
	if (chance(&sim.rng, 700))
		tick();
	else if (tick_us == NEVER)
		tick_us = sim.now_us + below(&sim.rng, 500);
}

/* ---- a run ---- */

static struct worker *new_worker(void)
{
	struct worker_config config = worker_config_default;
	char error[256];
	config.socket = SOCKET_ID_ANY;
	config.flows = flow_limits_default;
	config.flows.flows_max = 256; /* its shares are not what is tried here */
	config.flows.dialogue_timeout_us = 660 * SECOND;
	config.flows.sealed_timeout_us = 450 * SECOND;
	config.tcp = tcp_limits_default;
	if (chance(&sim.rng, 500)) {
		config.tcp.send_buffer_bytes_max = 16384 + below(&sim.rng, 100000);
		config.tcp.receive_buffer_bytes_max = 16384 + below(&sim.rng, 100000);
		config.tcp.congestion = chance(&sim.rng, 500) ? "newreno" : "cubic";
	}
	config.chunks_max = 4096;
	config.unknown_grace_us = 0; /* it has run for long: what is joined in the middle and speaks clear text is cut */
	if (sim.short_of_room) {
		config.takeovers_max = below(&sim.rng, 2);
		config.handshakes_max = 1;
		config.handshakes_waiting_max = below(&sim.rng, 2);
		config.flows.held_segments_max = 2 + below(&sim.rng, 20);
	}
	config.failure_memory_us = sim.policy.remembers_failures ? 3600 * SECOND : SECOND;
	config.tls = (struct tls_context_config){ca_file, 16, 8};
	config.stats = stats;
	config.pool[INSIDE] = config.pool[OUTSIDE] = sim.pool;
	config.transmit = tap_transmit;
	config.event = judge_event;
	config.unix_time_us = unix_time_us;
	kernel_begin(&config);
	struct worker *worker = worker_new(&config, sim.now_us, error, sizeof(error));
	require(NULL, worker, "worker_new: %s", error);
	return worker;
}

static bool session_over(const struct session *session)
{
	const struct stack *client = &session->stack[CLIENT], *server = &session->stack[SERVER];
	return session->started && stack_over(client) && (session->client.over || !stack_unread(client)) &&
	       (stack_over(server) || server->state == STACK_LISTEN);
}

static void earlier(uint64_t *next, uint64_t at) { *next = at < *next ? at : *next; }

uint64_t run_next_us(void)
{
	uint64_t next = worker_due_us;
	earlier(&next, tick_us);
	earlier(&next, link_next_us());
	for (unsigned i = 0; i < sim.sessions; i++) {
		struct session *s = &sim.session[i];
		if (!s->started) {
			earlier(&next, s->start_us);
			continue;
		}
		for (int side = 0; side < SIDES; side++)
			earlier(&next, stack_deadline(&s->stack[side]));
		earlier(&next, s->client.wake_us);
		earlier(&next, s->server.wake_us);
	}
	return next;
}

static void session_moves(struct session *s)
{
	if (!s->started) {
		if (s->start_us <= sim.now_us)
			client_start(s);
		return;
	}
	for (int side = 0; side < SIDES; side++)
		if (stack_deadline(&s->stack[side]) <= sim.now_us)
			stack_timer(&s->stack[side]);
	if (s->client.wake_us <= sim.now_us)
		client_run(s);
	if (s->server.wake_us <= sim.now_us)
		server_run(s);
}

bool run_step(void)
{
	struct stats_worker load;
	bool over = link_next_us() == NEVER;
	while (link_next_us() <= sim.now_us)
		link_deliver();
	for (unsigned i = 0; i < sim.sessions; i++) {
		session_moves(&sim.session[i]);
		over &= session_over(&sim.session[i]);
	}
	if (worker_due_us <= sim.now_us || tick_us <= sim.now_us)
		tick();
	if (!over)
		return true;
	worker_load(sim.worker, &load);
	return load.flows > 0;
}

static void check_nothing_is_left(bool freed)
{
	struct stats_worker load;
	if (!freed) {
		worker_load(sim.worker, &load);
		require(NULL, !load.flows && !load.takeovers && !load.buffers,
		        "left: %u flows, %u takeovers, %u chunks", load.flows, load.takeovers, load.buffers);
	}
	require(NULL, rte_mempool_avail_count(sim.pool) == FRAMES, "packet buffers leak: %u",
	        FRAMES - rte_mempool_avail_count(sim.pool));
}

void run_begin(uint64_t seed)
{
	memset(&sim.session, 0, sizeof(sim.session));
	sim.seed = seed;
	sim.sent_through = 0;
	rng_seed(&sim.rng, seed, 0);
	random_openssl_seed(seed);
	rte_srand(seed);
	stats = stats_new();
	sim.flow_hash = draw(&sim.rng);
	image = policy_draw(&sim.rng, &sim.policy);
	sim.short_of_room = chance(&sim.rng, 60);
	sim.stopped = chance(&sim.rng, 40);
	sim.sessions = chance(&sim.rng, 600) ? 1 : 2 + below(&sim.rng, SESSIONS_DRAWN_MAX - 1);
	if (sim.setting)
		sim.setting();
	for (unsigned i = 0; i < sim.sessions; i++) {
		scenario_draw(&sim.session[i], i);
		if (sim.adapt)
			sim.adapt(&sim.session[i]);
	}
	sim.worker = new_worker();
	worker_set_image(sim.worker, image);
	tick_us = NEVER;
	worker_due_us = worker_deadline_us(sim.worker);
}

void run_end(void)
{
	if (!sim.stopped)
		check_nothing_is_left(false);
	worker_free(sim.worker, sim.now_us);
	kernel_end();
	sim.worker = NULL;
	check_nothing_is_left(true);
	for (unsigned i = 0; i < sim.sessions; i++) {
		struct session *s = &sim.session[i];
		judge_session(s);
		channel_free(&s->client.channel);
		channel_free(&s->server.channel);
		stack_free(&s->stack[CLIENT]);
		stack_free(&s->stack[SERVER]);
		buffer_free(&s->client.later);
		buffer_free(&s->server.later);
		buffer_free(&s->server.content);
		for (int m = 0; m < s->messages; m++)
			buffer_free(&s->message[m].content);
	}
	totals.sessions += sim.sessions;
	link_drop_all();
	policy_image_close(image);
	stats_free(stats);
}

/* ---- the program ---- */

/* A BUG_ON in waxseal's code: the same report as for a finding of ours. */
static void aborted(int signal_number)
{
	(void)signal_number;
	fail(NULL, "the worker aborts");
}

static bool options(int argc, char **argv, uint64_t *seed, uint64_t *runs)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			*seed = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--runs") && i + 1 < argc)
			*runs = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--verbose"))
			sim.verbose = true;
		else
			return false;
	}
	return true;
}

void sim_begin(const char *name, const char *target, int argc, char **argv, uint64_t *seed, uint64_t *runs)
{
	static char *eal[] = {"sim", "--no-huge", "--no-pci", "-m", "64", "--no-telemetry", "--no-shconf",
	        "--log-level=*:error", "-l", "0"};
	if (!options(argc, argv, seed, runs)) {
		fprintf(stderr, "usage: %s [--seed S] [--runs N] [--verbose]\n", argv[0]);
		exit(2);
	}
	sim.program = argv[0];
	sim.name = name;
	sim.target = target;
	signal(SIGABRT, aborted);
	random_openssl();
	certificates_make();
	require(NULL, rte_eal_init(sizeof(eal) / sizeof(eal[0]), eal) >= 0, "EAL");
	sim.pool = rte_pktmbuf_pool_create("frames", FRAMES, 0, 0, 2176, SOCKET_ID_ANY);
	require(NULL, sim.pool, "no memory for frames");
	setvbuf(stdout, NULL, _IOLBF, 0);
}

uint64_t sim_fresh_seed(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t seed = (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec % 1000003;
	printf("%s: fresh seeds from %" PRIu64 "\n", sim.name, seed);
	return seed;
}

void sim_report(uint64_t first, uint64_t runs)
{
	printf("%s: %" PRIu64 " runs from seed %" PRIu64 ": %" PRIu64 " sessions (%" PRIu64 " with one right outcome),", sim.name, runs, first,
	       totals.sessions, totals.well_behaved);
	printf(" %" PRIu64 " messages, delivered %" PRIu64 " clear, %" PRIu64 " upgraded, %" PRIu64 " sealed;", totals.messages,
	       totals.clear_mails, totals.upgraded_mails, totals.sealed_mails);
	printf(" %" PRIu64 " frames, %" PRIu64 " lost, %" PRIu64 " built by waxseal, %" PRIu64 " passed in the kernel;", totals.frames, totals.lost, totals.built,
	       totals.passed_in_kernel);
	for (unsigned i = 0; i < STATS_ENDS; i++)
		printf(" %s %" PRIu64, stats_end_name((enum stats_end)i), totals.ends[i]);
	printf("\n");
	memset(&totals, 0, sizeof(totals));
}

void sim_end(void)
{
	certificates_free();
	rte_mempool_free(sim.pool);
	rte_eal_cleanup();
}
