/*
 * owned.c - ports that DPDK owns: PCI devices, and virtual ones.
 *
 * Enters: names. Leaves: started ports whose frames program.c classifies in user space. Nothing is bridged
 * while waxseald is not running. Under a net_af_packet lies a netdev, which is treated as an AF_XDP one:
 * what would change frames is switched off, and put back at the end. That driver has the kernel reassemble
 * IPv4 fragments, whatever one asks for: it is for trying out, not for a network that carries any.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "private.h"

#define MBUF_CACHE 256

static uint32_t changed[PORTS]; /* port_eal_args comes before there is a struct ports */

static int check(const struct port_config *config, unsigned queues[PORTS], char *error, size_t error_len)
{
	for (int p = 0; p < PORTS; p++) {
		char device[PORT_DEVICE_MAX], netdev[IFNAMSIZ];
		queues[p] = 1;
		port_device(config->name[p], p, device, netdev);
		int failed = netdev[0] ? netdev_check(netdev, false, &queues[p], error, error_len) : 0;
		if (!failed && netdev[0])
			failed = netdev_claim(netdev, error, error_len);
		if (failed < 0)
			return failed;
	}
	for (int p = 0; p < PORTS; p++) {
		char device[PORT_DEVICE_MAX], netdev[IFNAMSIZ];
		port_device(config->name[p], p, device, netdev);
		if (netdev[0]) {
			int failed = netdev_prepare(netdev, false, &changed[p], error, error_len);
			if (failed)
				return failed;
		}
	}
	return 0;
}

static void close_ports(struct ports *ports, bool keep_attached)
{
	(void)keep_attached; /* nothing of theirs outlives the process */
	for (int p = 0; p < PORTS; p++) {
		struct port *port = &ports->port[p];
		if (port->started) {
			rte_eth_dev_stop(port->id);
			rte_eth_dev_close(port->id);
		}
		if (port->netdev[0])
			netdev_restore(port->netdev, changed[p]);
	}
	program_free(ports->program);
}

/* A queue for each lcore; all there are where the kernel spreads frames over them, asked or not. */
static int count_queues(const struct ports *ports, struct port *port, char *error, size_t error_len)
{
	struct rte_eth_dev_info info;
	int failed = rte_eth_dev_get_port_by_name(port->device, &port->id);

	if (!failed)
		failed = rte_eth_dev_info_get(port->id, &info);
	if (failed)
		return port_fail(-failed, error, error_len, "%s: not found by DPDK: %s", port->name, rte_strerror(-failed));
	unsigned most = info.max_rx_queues < info.max_tx_queues ? info.max_rx_queues : info.max_tx_queues;
	port->queues = port->netdev[0] ? most : ports->lcores;
	if (port->queues > PORT_QUEUES_MAX)
		return port_fail(ENOTSUP, error, error_len, "%s: has %u queues, %u can be served", port->name, most, PORT_QUEUES_MAX);
	return port_check_queues(port->name, port->netdev[0] ? "say so by qpairs=" : "the device has no more", most, ports->lcores, error, error_len);
}

static int open_port(struct ports *ports, enum port_side side, uint32_t mbufs, char *error, size_t error_len)
{
	struct port *port = &ports->port[side];
	int failed = count_queues(ports, port, error, error_len);
	if (failed)
		return failed;
	mbufs *= port->queues;
	port->pool = rte_pktmbuf_pool_create(side == INSIDE ? "frames0" : "frames1", mbufs, MBUF_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!port->pool)
		return port_fail(ENOMEM, error, error_len, "%s: no memory for %u packet buffers: raise [dataplane] memory_mb", port->name, mbufs);
	failed = port_start(ports, port, error, error_len);
	if (!failed && ports->lcores > 1 && !port->symmetric)
		fprintf(stderr, "waxseald: %s: its RSS cannot be set from here: if it gives the two directions of a connection to two lcores, "
		                "one of them crosses to the other, and crossed_packets counts it\n", port->name);
	return failed;
}

static int open_ports(struct ports *ports, const struct port_config *config, char *error, size_t error_len)
{
	uint32_t seed;
	int failed = 0;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		failed = port_fail(errno, error, error_len, "getrandom: %s", strerror(errno));
	else if (!(ports->program = program_new(config->bpf_dir, config->workers, seed, error, error_len)))
		failed = -EINVAL;
	for (int p = 0; p < PORTS && !failed; p++)
		failed = open_port(ports, p, config->mbufs, error, error_len);
	if (failed)
		close_ports(ports, false);
	return failed;
}

static void classify(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count)
{
	program_classify(ports->program, lcore, side, mbufs, count);
}

static int steer(struct ports *ports, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools, size_t pool_count,
                 char *error, size_t error_len)
{
	return program_steer(ports->program, prefixes, count, pools, pool_count, error, error_len);
}

const struct port_ops port_ops_owned = {
	.check = check, .open = open_ports, .close = close_ports, .classify = classify, .steer = steer,
};
