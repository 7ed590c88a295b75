/*
 * port.c - see port.h. What AF_XDP ports and ports owned by DPDK do alike; the rest is in struct port_ops.
 *
 * Enters: bursts from and to the two devices. Invariant: what port_send is given is either sent or freed,
 * and a frame that a device cannot send as it lies is copied into a buffer of that device's pool.
 */
#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "private.h"

#define DESCRIPTORS 2048
#define NAP_MIN_US 20
#define RSS_KEY_MAX 64
#define RSS_KEY_USUAL 40 /* of a driver that does not say */
#define TRAIN_MIN 3 /* segments: fewer cost less one by one */
#define SEND_TRIES 3 /* a driver may take part of a burst, and the rest when it has been woken */

static const struct port_ops *ops_of(const struct port_config *config)
{
	return port_kind(config->name[INSIDE]) == PORT_NETDEV ? &port_ops_afxdp : &port_ops_owned;
}

int port_eal_args(const struct port_config *config, char **argv, int argc, int argc_max, char *error, size_t error_len)
{
	static char no_pci[] = "--no-pci", object[512];
	unsigned queues[PORTS] = {1, 1};
	int failed = port_check_names(config->name, error, error_len);

	if (!failed)
		failed = ops_of(config)->check(config, queues, error, error_len);
	if (failed)
		return failed;
	snprintf(object, sizeof(object), "%s/%s", config->bpf_dir, PORT_XDP_OBJECT);
	if (port_kind(config->name[INSIDE]) != PORT_PCI && argc < argc_max)
		argv[argc++] = no_pci;
	for (int p = 0; p < PORTS && argc >= 0; p++)
		argc = port_eal_device(config->name[p], p, queues[p], object, argv, argc, argc_max);
	return argc >= 0 ? argc : port_fail(E2BIG, error, error_len, "inside = %.80s, outside = %.80s: too long for DPDK's arguments",
	                                    config->name[INSIDE], config->name[OUTSIDE]);
}

int port_check_queues(const char *name, const char *more, unsigned queues, unsigned lcores, char *error, size_t error_len)
{
	if (queues >= lcores)
		return 0;
	return port_fail(ENOTSUP, error, error_len, "%.80s: has %u queue%s, and layout = run-to-completion with workers = %u needs %u: %s, or layout = pipeline",
	                 name, queues, queues == 1 ? "" : "s", lcores, lcores, more);
}

/* A Toeplitz hash is the same for both directions of a connection if its key repeats after 16 bits. What a device does
 * not spread so costs frames their way from lcore to lcore, and nothing else. */
static int configure(struct port *port, unsigned lcores)
{
	static uint8_t key[RSS_KEY_MAX];
	struct rte_eth_conf plain = {.rxmode = {.mq_mode = RTE_ETH_MQ_RX_NONE}}, symmetric = {.rxmode = {.mq_mode = RTE_ETH_MQ_RX_RSS}};
	struct rte_eth_rss_conf *rss = &symmetric.rx_adv_conf.rss_conf;
	struct rte_eth_dev_info info;
	int failed = rte_eth_dev_info_get(port->id, &info);

	if (failed)
		return failed;
	if (lcores > 1) { /* else there is nothing to spread */
		for (unsigned i = 0; i < RSS_KEY_MAX; i++)
			key[i] = i % 2 ? 0x5a : 0x6d;
		*rss = (struct rte_eth_rss_conf){.rss_key = key, .rss_key_len = info.hash_key_size ? info.hash_key_size : RSS_KEY_USUAL,
		                                 .rss_hf = (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP) & info.flow_type_rss_offloads};
		port->symmetric = rss->rss_hf && rss->rss_key_len <= RSS_KEY_MAX &&
		                  !rte_eth_dev_configure(port->id, (uint16_t)port->queues, (uint16_t)port->queues, &symmetric);
		if (port->symmetric)
			return 0;
	}
	return rte_eth_dev_configure(port->id, (uint16_t)port->queues, (uint16_t)port->queues, &plain);
}

int port_start(struct ports *ports, struct port *port, char *error, size_t error_len)
{
	uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
	const char *what = "found by DPDK";
	int failed = rte_eth_dev_get_port_by_name(port->device, &port->id);

	if (!failed) {
		what = "configured";
		failed = configure(port, ports->lcores);
	}
	if (!failed)
		failed = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx);
	for (uint16_t q = 0; q < port->queues && !failed; q++) {
		what = "given queues";
		failed = rte_eth_rx_queue_setup(port->id, q, rx, SOCKET_ID_ANY, NULL, port->pool);
		if (!failed)
			failed = rte_eth_tx_queue_setup(port->id, q, tx, SOCKET_ID_ANY, NULL);
		port->socket[q] = !failed && ports->ops->socket ? ports->ops->socket() : -1;
	}
	if (!failed) {
		what = "started";
		failed = rte_eth_dev_start(port->id);
	}
	if (failed)
		return port_fail(-failed, error, error_len, "%s: cannot be %s: %s", port->name, what, rte_strerror(-failed));
	port->started = true;
	/* A bump sees frames for other MACs. A TAP without that right is promiscuous by nature. */
	failed = rte_eth_promiscuous_enable(port->id);
	if (failed && failed != -ENOTSUP)
		return port_fail(-failed, error, error_len, "%s: does not become promiscuous: %s", port->name, rte_strerror(-failed));
	return 0;
}

static void share_queues(struct ports *ports)
{
	bool all = ports->ops->socket && ports->ops->socket() < 0; /* else not each is known by its queue */

	for (unsigned i = 0; i < ports->lcores; i++) {
		struct port_lcore *own = &ports->lcore[i];
		bool wakes = all;
		own->nap_us = NAP_MIN_US;
		for (int p = 0; p < PORTS; p++) {
			const struct port *port = &ports->port[p];
			for (unsigned q = i; q < port->queues; q += ports->lcores) {
				own->queues[p]++;
				own->socket[1 + own->sockets++] = (struct pollfd){.fd = port->socket[q], .events = POLLIN};
				wakes = wakes && port->socket[q] >= 0;
			}
		}
		if (!wakes)
			own->sockets = 0;
	}
}

struct ports *port_open(const struct port_config *config, char *error, size_t error_len)
{
	struct ports *ports = calloc(1, sizeof(*ports));
	if (!ports) {
		port_fail(ENOMEM, error, error_len, "no memory for the ports");
		return NULL;
	}
	ports->ops = ops_of(config);
	ports->lcores = config->lcores;
	for (int p = 0; p < PORTS; p++) {
		ports->port[p].train = -1;
		snprintf(ports->port[p].name, sizeof(ports->port[p].name), "%s", config->name[p]);
		port_device(config->name[p], p, ports->port[p].device, ports->port[p].netdev);
	}
	if (ports->ops->open(ports, config, error, error_len) == 0) {
		share_queues(ports);
		return ports;
	}
	free(ports->prefixes);
	free(ports);
	return NULL;
}

void port_close(struct ports *ports, bool keep_attached)
{
	if (!ports)
		return;
	ports->ops->close(ports, keep_attached);
	free(ports->prefixes);
	free(ports);
}

int port_detach(const struct port_config *config, char *error, size_t error_len)
{
	int failed = port_check_names(config->name, error, error_len);
	if (failed || port_kind(config->name[INSIDE]) != PORT_NETDEV)
		return failed;
	return afxdp_detach(config, error, error_len);
}

/* ---- sealed flows ---- */

bool port_offloads(const struct ports *ports) { return ports->ops->offload; }

bool port_offload(struct ports *ports, const struct classifier_flow *flow, const struct classifier_sealed *begin)
{
	return ports->ops->offload(flow, begin);
}

bool port_offloaded(struct ports *ports, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	return ports->ops->offloaded(flow, take_back, seen, idle_us);
}

/* ---- frames ---- */

unsigned port_receive(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned max)
{
	struct port_lcore *own = &ports->lcore[lcore];
	uint16_t id = ports->port[side].id;
	unsigned queues = own->queues[side], count = 0;

	/* Each call begins with another queue, so that a full one does not starve the others. */
	for (unsigned i = 0; i < queues && count < max; i++) {
		unsigned queue = lcore + ports->lcores * ((own->next[side] + i) % queues);
		count += rte_eth_rx_burst(id, (uint16_t)queue, mbufs + count, (uint16_t)(max - count));
	}
	own->next[side] = (own->next[side] + 1) % queues;
	if (count)
		own->nap_us = NAP_MIN_US;
	if (ports->ops->classify)
		ports->ops->classify(ports, lcore, side, mbufs, count);
	return count;
}

bool port_wait(struct ports *ports, unsigned lcore, int fd, uint64_t timeout_us)
{
	struct port_lcore *own = &ports->lcore[lcore];
	if (!own->sockets) { /* nobody wakes: the longer nothing comes, the longer the next nap */
		timeout_us = own->nap_us < timeout_us ? own->nap_us : timeout_us;
		own->nap_us = own->nap_us * 2 > PORT_NAP_US ? PORT_NAP_US : own->nap_us * 2;
	}
	struct timespec timeout = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000) * 1000};
	own->socket[0] = (struct pollfd){.fd = fd, .events = POLLIN};
	return ppoll(own->socket, 1 + own->sockets, &timeout, NULL) > 0 && own->socket[0].revents;
}

/* The frame in one buffer of the port's pool. Takes `mbuf`; NULL if there is no buffer or it does not fit. */
static struct rte_mbuf *own_copy(struct port *port, struct rte_mbuf *mbuf)
{
	uint32_t len = rte_pktmbuf_pkt_len(mbuf);
	struct rte_mbuf *copy = rte_pktmbuf_alloc(port->pool);
	char *to = copy && len <= UINT16_MAX ? rte_pktmbuf_append(copy, (uint16_t)len) : NULL;

	if (to) {
		const void *from = rte_pktmbuf_read(mbuf, 0, len, to);
		if (from != to)
			memcpy(to, from, len);
	} else {
		rte_pktmbuf_free(copy);
		copy = NULL;
	}
	rte_pktmbuf_free(mbuf);
	return copy;
}

static unsigned send_each(const struct ports *ports, struct port *port, unsigned lcore, struct rte_mbuf **mbufs, unsigned count)
{
	unsigned ready = 0, sent = 0;

	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = mbufs[i];
		/* AF_XDP sends from the port's own UMEM only. A frame that came in by the other port lies in that
		 * port's, so what is passed on is copied here once: 1,500 bytes, about 100 ns. The driver would copy
		 * too, but not a chain of segments. */
		if (mbuf->nb_segs != 1 || (ports->ops->copy_foreign && mbuf->pool != port->pool))
			mbuf = own_copy(port, mbuf);
		if (mbuf)
			mbufs[ready++] = mbuf;
	}
	for (int tries = 0; tries < SEND_TRIES && sent < ready; tries++)
		sent += rte_eth_tx_burst(port->id, (uint16_t)lcore, mbufs + sent, (uint16_t)(ready - sent));
	rte_pktmbuf_free_bulk(mbufs + sent, ready - sent);
	return sent;
}

static unsigned send_train(struct ports *ports, struct port *port, unsigned lcore, struct rte_mbuf **mbufs, unsigned count)
{
	uint64_t *sent = &ports->lcore[lcore].in_trains[port - ports->port];

	if (!train_send(port->train, mbufs, count))
		return send_each(ports, port, lcore, mbufs, count);
	rte_pktmbuf_free_bulk(mbufs, count);
	__atomic_store_n(sent, *sent + count, __ATOMIC_RELAXED);
	return count;
}

unsigned port_send(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count)
{
	struct port *port = &ports->port[side];
	unsigned sent = 0, begin = 0, length;

	for (unsigned at = 0; port->train >= 0 && at < count; at += length) {
		length = train_length(mbufs + at, count - at);
		if (length < TRAIN_MIN)
			continue;
		sent += send_each(ports, port, lcore, mbufs + begin, at - begin);
		sent += send_train(ports, port, lcore, mbufs + at, length);
		begin = at + length;
	}
	return sent + send_each(ports, port, lcore, mbufs + begin, count - begin);
}

struct rte_mempool *port_pool(const struct ports *ports, enum port_side side)
{
	return ports->port[side].pool;
}

/* ---- steering ---- */

int port_steer(struct ports *ports, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools, size_t pool_count,
               char *error, size_t error_len)
{
	if (!pool_count || pool_count > WAXSEAL_POOLS_MAX)
		return port_fail(EINVAL, error, error_len, "%zu pools of workers: 1 to %u can be", pool_count, WAXSEAL_POOLS_MAX);
	for (size_t i = 0; i < pool_count; i++)
		if (!pools[i].count || pools[i].count > WAXSEAL_WORKERS_MAX)
			return port_fail(EINVAL, error, error_len, "pool %zu has %u workers: 1 to %u can be", i, pools[i].count, WAXSEAL_WORKERS_MAX);
	for (size_t i = 0; i < count; i++)
		if (prefixes[i].pool >= pool_count || prefixes[i].len > (prefixes[i].ipv6 ? 128 : 32))
			return port_fail(EINVAL, error, error_len, "prefix %zu names pool %u of %zu, length %u", i, prefixes[i].pool, pool_count, prefixes[i].len);

	struct port_prefix *sorted = calloc(count + 1, sizeof(*sorted));
	if (!sorted)
		return port_fail(ENOMEM, error, error_len, "no memory for %zu prefixes", count);
	if (count)
		memcpy(sorted, prefixes, count * sizeof(*sorted));
	count = steer_normalise(sorted, count);
	int failed = ports->ops->steer(ports, sorted, count, pools, pool_count, error, error_len);
	if (failed) {
		free(sorted);
		return failed;
	}
	free(ports->prefixes);
	ports->prefixes = sorted;
	ports->prefix_count = count;
	return 0;
}

/* ---- for telemetry ---- */

void port_info(struct ports *ports, enum port_side side, struct port_info *out)
{
	struct port *port = &ports->port[side];
	struct rte_eth_dev_info info;
	struct rte_eth_stats stats;
	struct rte_eth_link link;

	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "%s", port->name);
	out->xdp = ports->ops == &port_ops_afxdp;
	if (rte_eth_dev_info_get(port->id, &info) == 0)
		snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name);
	/* The drivers over a netdev do not follow its link. */
	if (port->netdev[0])
		out->link_up = netdev_running(port->netdev);
	else
		out->link_up = rte_eth_link_get_nowait(port->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
	if (rte_eth_stats_get(port->id, &stats))
		return;
	out->rx_packets = stats.ipackets;
	out->tx_packets = stats.opackets;
	for (unsigned i = 0; i < ports->lcores; i++)
		out->tx_packets += __atomic_load_n(&ports->lcore[i].in_trains[side], __ATOMIC_RELAXED);
	out->rx_missed = stats.imissed;
	out->tx_errors = stats.oerrors;
}
