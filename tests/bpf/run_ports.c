/*
 * run_ports.c - two real ports, opened by port/ and joined: what main.c and fastpath.c do, without workers.
 *
 *   run_ports INSIDE OUTSIDE BPF_DIR [--fail open|closed] [--end keep|take] [--print no] [--train N] [--mbufs N] [--lcores N] [--prefix ...] [--pool ...]
 *   run_ports --detach INSIDE OUTSIDE BPF_DIR
 *
 * Leaves: "ready", then one line for each frame that came in: the side, and its verdict as runner.h has it.
 * Fragments and what cannot be parsed are dropped, the rest is sent by the other port; `train`: frames of port 25 as
 * many at a time, and as if they had been built here. SIGTERM ends it:
 * `keep` leaves the XDP program attached. With an error: one line on standard error, exit 1.
 */
#include <signal.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#include "runner.h"

static volatile sig_atomic_t ended;
static bool printing = true; /* a pipe that nobody empties would stop it */

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static unsigned train; /* 0: each frame as it comes */
static struct { struct rte_mbuf *mbufs[PORT_BURST_MAX]; unsigned count; } gathered[PORTS];

/* Keeps it until there are enough to be sent together. */
static void gather(struct ports *ports, unsigned lcore, enum port_side to, struct rte_mbuf *mbuf)
{
	const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mbuf, uint8_t *));

	mbuf->l2_len = verdict->l3_off & 0x7f;
	mbuf->l3_len = (uint64_t)(verdict->l4_off - verdict->l3_off) & 0x1ff;
	mbuf->l4_len = (uint64_t)(rte_pktmbuf_mtod(mbuf, uint8_t *)[verdict->l4_off + 12] >> 4) * 4 & 0xff;
	gathered[to].mbufs[gathered[to].count++] = mbuf;
	if (gathered[to].count < train)
		return;
	if (port_send(ports, lcore, to, gathered[to].mbufs, train) != train)
		fprintf(stderr, "not all were sent\n");
	gathered[to].count = 0;
}

static unsigned join(struct ports *ports, unsigned lcore, enum port_side side)
{
	struct rte_mbuf *mbufs[PORT_BURST_MAX];
	unsigned count = port_receive(ports, lcore, side, mbufs, PORT_BURST_MAX), passing = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct verdict *verdict = port_verdict(rte_pktmbuf_mtod(mbufs[i], uint8_t *));
		if (printing) {
			printf("%d ", (int)side);
			runner_print(verdict);
		}
		if (verdict->magic != WAXSEAL_VERDICT_MAGIC || verdict->action == VERDICT_FRAGMENT || verdict->action == VERDICT_UNPARSED)
			rte_pktmbuf_free(mbufs[i]);
		else if (train && verdict->action == VERDICT_SMTP)
			gather(ports, lcore, port_other(side), mbufs[i]);
		else
			mbufs[passing++] = mbufs[i];
	}
	if (passing && port_send(ports, lcore, port_other(side), mbufs, passing) != passing)
		fprintf(stderr, "not all were sent\n");
	if (count)
		fflush(stdout);
	return count;
}

static int fail(const char *error)
{
	fprintf(stderr, "%s\n", error);
	return 1;
}

int main(int argc, char **argv)
{
	static char prefix[32], *eal[32] = {"run_ports", "-m", "384", "--log-level=*:warning", "--lcores=0@0", "--no-telemetry", "--huge-unlink",
	                                    "--file-prefix", prefix};
	static struct runner runner;
	struct port_config config = {.fail_open = true, .mbufs = 8192, .lcores = 1};
	char error[PORT_ERROR_MAX] = "";
	bool detach = argc == 5 && !strcmp(argv[1], "--detach"), keep = false;

	if (argc < 4)
		return fail("run_ports INSIDE OUTSIDE BPF_DIR");
	config.name[INSIDE] = argv[1 + detach];
	config.name[OUTSIDE] = argv[2 + detach];
	config.bpf_dir = argv[3 + detach];
	if (detach)
		return port_detach(&config, error, sizeof(error)) ? fail(error) : 0;
	runner_options(&runner, argc, argv);
	config.workers = runner.workers;
	for (int i = 4; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--fail"))
			config.fail_open = !strcmp(argv[i + 1], "open");
		if (!strcmp(argv[i], "--lcores"))
			config.lcores = (unsigned)atoi(argv[i + 1]);
		if (!strcmp(argv[i], "--mbufs"))
			config.mbufs = (uint32_t)atoi(argv[i + 1]);
		if (!strcmp(argv[i], "--print"))
			printing = strcmp(argv[i + 1], "no");
		if (!strcmp(argv[i], "--train"))
			train = (unsigned)atoi(argv[i + 1]) % PORT_BURST_MAX;
		if (!strcmp(argv[i], "--end"))
			keep = !strcmp(argv[i + 1], "keep");
	}
	snprintf(prefix, sizeof(prefix), "run_ports_%d", (int)getpid());
	int eal_argc = port_eal_args(&config, eal, 9, 32, error, sizeof(error));
	if (eal_argc < 0)
		return fail(error);
	if (rte_eal_init(eal_argc, eal) < 0)
		return fail(rte_strerror(rte_errno));
	struct ports *ports = port_open(&config, error, sizeof(error));
	if (!ports)
		return fail(error);
	if (port_steer(ports, runner.prefixes, runner.prefix_count, runner.pools, runner.pool_count, error, sizeof(error)))
		return fail(error);
	signal(SIGTERM, on_signal);
	for (int p = 0; p < PORTS; p++) {
		struct port_info info;
		port_info(ports, p, &info);
		printf("%s %s %s %s\n", info.name, info.driver, info.xdp ? "xdp" : "owned", info.link_up ? "up" : "down");
	}
	printf("ready\n");
	fflush(stdout);
	while (!ended) {
		unsigned work = 0;
		for (unsigned i = 0; i < config.lcores; i++) /* all of them in one thread */
			work += join(ports, i, INSIDE) + join(ports, i, OUTSIDE);
		if (!work)
			usleep(50);
	}
	port_close(ports, keep);
	return 0;
}
