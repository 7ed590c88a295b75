/*
 * run_dpdk.c - the classifier for librte_bpf, run over frames by port/'s own loader. See runner.h.
 *
 * No root, no hugepages, no device: EAL with --no-huge. Each frame lies at the end of what it may read:
 * what stands behind it is filled with bytes that would make another verdict.
 */
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>

#include "runner.h"

int main(int argc, char **argv)
{
	static char prefix[32], *eal[] = {"run_dpdk", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "-m", "512",
	                                  "--log-level=*:error", "--lcores=0@0", "--file-prefix", prefix};
	static struct runner runner;
	uint8_t frame[RUNNER_FRAME_MAX];
	enum port_side side;
	char error[PORT_ERROR_MAX] = "";
	int len;

	if (argc < 2)
		runner_die("run_dpdk BPF_DIR [options] < frames");
	runner_options(&runner, argc, argv);
	snprintf(prefix, sizeof(prefix), "run_dpdk_%d", (int)getpid());
	if (rte_eal_init(sizeof(eal) / sizeof(eal[0]), eal) < 0)
		runner_die(rte_strerror(rte_errno));
	struct program *program = program_new(argv[1], runner.workers, runner.seed, error, sizeof(error));
	if (!program || program_steer(program, runner.prefixes, runner.prefix_count, runner.pools, runner.pool_count, error, sizeof(error)))
		runner_die(error);
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!pool)
		runner_die(rte_strerror(rte_errno));
	while ((len = runner_next(frame, &side)) >= 0) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
		memset(rte_pktmbuf_mtod(mbuf, void *), 25, rte_pktmbuf_tailroom(mbuf));
		memcpy(rte_pktmbuf_append(mbuf, (uint16_t)len), frame, (size_t)len);
		program_classify(program, 0, side, &mbuf, 1);
		runner_print(port_verdict(rte_pktmbuf_mtod(mbuf, void *)));
		rte_pktmbuf_free(mbuf);
	}
	program_free(program);
	rte_eal_cleanup();
	return 0;
}
