/*
 * fastpath.c - the fast path as it runs in waxseald, one lcore between two ports of DPDK's without a wire: net_null gives
 * frames without end and takes them, and each crosses; net_ring has frames of sealed sessions from another thread.
 *
 *   fastpath BPF_DIR [FLOWS ...]      1000 100000 unless said otherwise
 *
 * Cycles are those that the lcore's thread ran, by the kernel's account (another one may have had its CPU meanwhile), over
 * the frames that left. Drivers, classifier and the loop are in it. Checked: every frame went its way, none was dropped.
 */
#include <dirent.h>
#include <sys/wait.h>

#include <rte_config.h>
#include <rte_eth_ring.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "micro.h"

#include "config.h"
#include "fastpath.h"
#include "frames.h"
#include "steer.h"

#define WINDOW_US 200000
#define RING_FRAMES 2048u
#define ON_THE_WAY 1024u
#define STALLED_US 10000000ull

static const char *const null_ports[PORTS] = {"vdev:net_null0,size=64", "vdev:net_null1,size=64"};
static const char *const ring_ports[PORTS] = {"vdev:net_ring_in", "vdev:net_ring_out"};

static double cycles_per_us;

static void begin(char *const *eal)
{
	micro_eal_with(512, sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "0@0,1@1" : "0@0,1@0", eal);
	cycles_per_us = micro_cycles_per_us();
}

struct running {
	struct ports *ports;
	struct policy_swap *swap;
	struct fastpath *fastpath;
};

static struct config config_of(const char *const name[PORTS], const char *bpf_dir, uint32_t flows)
{
	struct config config = {.workers = 1, .mbufs = 8192, .flows = flows, .prefix_percent = 25, .embryonic_percent = 25, .answered_percent = 25,
	                        .held_segments = 64, .takeovers = 16, .handshakes = 16, .buffer_mb = 16, .cpu_count = 1, .fail_open = true};
	for (int p = 0; p < PORTS; p++)
		snprintf(config.port[p], sizeof(config.port[p]), "%s", name[p]);
	snprintf(config.bpf_dir, sizeof(config.bpf_dir), "%s", bpf_dir);
	snprintf(config.ca_file, sizeof(config.ca_file), "/etc/ssl/certs/ca-certificates.crt"); /* read, and not used */
	return config;
}

static struct running start(const struct config *config)
{
	char error[512] = "";
	struct port_config ports = steer_port_config(config);
	struct running run = {.ports = port_open(&ports, error, sizeof(error))};
	if (run.ports)
		run.swap = policy_swap_new("/nonexistent/policy.image", 1, error, sizeof(error));
	if (run.swap)
		run.fastpath = fastpath_new(config, run.ports, run.swap, 1, error, sizeof(error));
	if (!run.fastpath)
		micro_die(error);
	fastpath_start(run.fastpath);
	return run;
}

static void stop(struct running *run)
{
	fastpath_stop(run->fastpath);
	fastpath_free(run->fastpath);
	policy_swap_free(run->swap);
	port_close(run->ports, false);
}

static void totals(const struct running *run, uint64_t total[STATS_COUNTERS_N])
{
	struct stats *const *stats;
	unsigned n = fastpath_stats(run->fastpath, &stats);
	stats_sum(stats, n, total);
}

/* How long the lcore's thread has run. */
static double ran_us(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned long long ran_ns = 0;
	for (const struct dirent *task; tasks && (task = readdir(tasks));) {
		char path[300], name[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(path, "r");
		if (!file)
			continue;
		bool ours = fgets(name, sizeof(name), file) && !strncmp(name, "rte-worker-", 11);
		fclose(file);
		snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", task->d_name);
		if (ours && (file = fopen(path, "r"))) {
			if (fscanf(file, "%llu", &ran_ns) != 1)
				ran_ns = 0;
			fclose(file);
		}
	}
	closedir(tasks);
	if (!ran_ns)
		micro_die("the lcore's thread is not there");
	return (double)ran_ns / 1000;
}

/* One window: the lcore's cycles for each frame that `which` has counted in it. */
static double window(const struct running *run, enum stats_counter which, void (*meanwhile)(uint64_t until))
{
	uint64_t before[STATS_COUNTERS_N], after[STATS_COUNTERS_N];

	totals(run, before);
	double from_us = ran_us();
	meanwhile(__rdtsc() + (uint64_t)(WINDOW_US * cycles_per_us));
	double spent_us = ran_us() - from_us;
	totals(run, after);
	if (after[which] == before[which])
		micro_die("nothing went through");
	for (int c = 0; c < STATS_COUNTERS_N; c++)
		if (!strncmp(stats_counter_name((enum stats_counter)c), "drop_", 5) && after[c])
			micro_die(stats_counter_name((enum stats_counter)c));
	return spent_us * cycles_per_us / (double)(after[which] - before[which]);
}

/* ---- net_null ---- */

static void idle(uint64_t until)
{
	while (__rdtsc() < until)
		usleep(1000);
}

static void forward(const struct config *config)
{
	struct running run = start(config);
	struct micro cost = {.count = 0};
	idle(__rdtsc() + (uint64_t)(WINDOW_US * cycles_per_us));
	for (unsigned round = 0; round < MICRO_ROUNDS; round++)
		micro_note(&cost, window(&run, STAT_forward_packets, idle));
	micro_print(&cost, "fastpath_null_forward", 0, "cycles/packet");
	stop(&run);
}

/* ---- net_ring ---- */

static struct {
	struct rte_ring *to, *from;    /* of the port inside: what it receives; of the one outside: what was sent there */
	uint32_t flows, next, on_the_way;
	uint64_t turned;               /* frames that came out */
	struct rte_mbuf *spare[ON_THE_WAY];
	unsigned spares;
} feed;

/* What came out goes in again, as a frame of the next flow. */
static void turn(void)
{
	struct rte_mbuf *mbufs[FRAMES_BURST];
	unsigned out = rte_ring_sc_dequeue_burst(feed.from, (void **)mbufs, FRAMES_BURST, NULL), in = 0;

	feed.turned += out;
	memcpy(feed.spare + feed.spares, mbufs, out * sizeof(mbufs[0]));
	feed.spares += out;
	for (; in < FRAMES_BURST && feed.spares; in++) {
		mbufs[in] = feed.spare[--feed.spares];
		frame_fill_sealed(mbufs[in], micro_shuffled(feed.next++ % feed.flows, feed.flows));
	}
	if (in && rte_ring_sp_enqueue_bulk(feed.to, (void **)mbufs, in, NULL) != in)
		micro_die("no room in the ring");
}

static void feeding(uint64_t until)
{
	while (__rdtsc() < until)
		turn();
}

static void feed_once(void)
{
	uint64_t wanted = feed.turned + feed.flows, patience = __rdtsc() + (uint64_t)(STALLED_US * cycles_per_us);
	while (feed.turned < wanted)
		if (turn(), __rdtsc() > patience)
			micro_die("frames do not come out");
}

static void sealed(const struct config *config, struct rte_mempool *pool, uint32_t flows)
{
	if (rte_pktmbuf_alloc_bulk(pool, feed.spare, ON_THE_WAY))
		micro_die("no memory for frames");
	feed.spares = ON_THE_WAY;
	feed.flows = flows;
	struct running run = start(config);
	struct micro cost = {.count = 0};
	feed_once(); /* each flow is joined by its first frame */
	for (unsigned round = 0; round < MICRO_ROUNDS; round++)
		micro_note(&cost, window(&run, STAT_tx_packets, feeding));
	micro_print(&cost, "fastpath_ring_sealed", flows, "cycles/packet");
	while (feed.spares < ON_THE_WAY) {
		unsigned out = rte_ring_sc_dequeue_burst(feed.from, (void **)feed.spare + feed.spares, ON_THE_WAY - feed.spares, NULL);
		feed.spares += out;
	}
	stop(&run);
	rte_pktmbuf_free_bulk(feed.spare, ON_THE_WAY);
}

static void without_a_wire(const char *bpf_dir)
{
	char error[PORT_ERROR_MAX] = "", *more[16] = {NULL};
	struct config config = config_of(null_ports, bpf_dir, 1024);
	struct port_config ports = steer_port_config(&config);

	if (port_eal_args(&ports, more, 0, 15, error, sizeof(error)) < 0)
		micro_die(error);
	begin(more);
	forward(&config);
}

static void on_rings(const char *bpf_dir, uint32_t flows)
{
	struct rte_ring *inside[2], *outside[2];
	struct config config = config_of(ring_ports, bpf_dir, flows);

	begin((char *[]){"--no-pci", NULL});
	for (int way = 0; way < 2; way++) {
		inside[way] = rte_ring_create(way ? "in_tx" : "in_rx", RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		outside[way] = rte_ring_create(way ? "out_tx" : "out_rx", RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (!inside[way] || !outside[way])
			micro_die("no memory for rings");
	}
	if (rte_eth_from_rings("in", &inside[0], 1, &inside[1], 1, 0) < 0 || rte_eth_from_rings("out", &outside[0], 1, &outside[1], 1, 0) < 0)
		micro_die("no ports on rings");
	feed.to = inside[0];
	feed.from = outside[1];
	struct rte_mempool *pool = rte_pktmbuf_pool_create("fed", 4095, 256, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
	if (!pool)
		micro_die("no memory for frames");
	sealed(&config, pool, flows);
}

int main(int argc, char **argv)
{
	static const char *usual[] = {"1000", "100000"};
	const char **sizes = argc > 2 ? (const char **)argv + 2 : usual;
	int count = argc > 2 ? argc - 2 : 2, status = 0;

	if (argc < 2)
		micro_die("fastpath BPF_DIR [FLOWS ...]");
	for (int i = -1; i < count && status == 0; i++) { /* EAL and its ports are there once a process */
		pid_t child = fork();
		if (child == 0) {
			if (i < 0)
				without_a_wire(argv[1]);
			else
				on_rings(argv[1], (uint32_t)atoi(sizes[i]));
			return 0;
		}
		if (child < 0 || waitpid(child, &status, 0) != child)
			micro_die("no child");
	}
	return status != 0;
}
