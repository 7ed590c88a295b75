/*
 * port.h - the appliance's two ports. The only code that knows ethdev, AF_XDP and libbpf.
 *
 * Enters: port names, fail mode, the policy image's prefixes and pools. Leaves: bursts of mbufs, each
 * with a struct verdict (bpf/verdict.h) in front of its data, and frames sent.
 *
 * Port names: "eth1" is a netdev taken by AF_XDP (the XDP classifier forwards in the kernel what is
 * not SMTP); "0000:03:00.1" is a PCI device owned by DPDK; "vdev:net_tap0,iface=x" and the like are
 * DPDK's virtual devices. The last two run the same classifier by librte_bpf, in user space.
 */
#ifndef WAXSEAL_PORT_H
#define WAXSEAL_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../bpf/verdict.h"
#include "../side.h"

struct rte_mbuf;
struct rte_mempool;

#define PORT_BURST_MAX 128
#define PORT_ERROR_MAX 256

struct port_config {
	const char *name[PORTS];
	bool fail_open;
	const char *bpf_dir;    /* where classify.xdp.o and classify.dpdk.o are */
	uint32_t mbufs;         /* per port; at least 8192 */
	unsigned workers;       /* pool 0 is all of them */
	unsigned lcores;        /* that receive and send, each on queues of its own */
};

struct ports;

/* Adds the EAL arguments (--vdev, -a, --no-pci) that these ports need to argv; returns the new argc, or
 * -errno with `error` naming the port and what is wrong with it (does not exist, is down, is taken ...).
 * Called before rte_eal_init; changes nothing yet. */
int port_eal_args(const struct port_config *config, char **argv, int argc, int argc_max, char *error, size_t error_len);
/* After rte_eal_init: writes the pinned maps and detaches a stale program, configures and starts both ports;
 * promiscuous; checks that every mbuf lies inside the UMEM. */
struct ports *port_open(const struct port_config *config, char *error, size_t error_len);
/* Stops. `keep_attached`: the XDP program stays and goes on forwarding (the fail mode holds for port 25). */
void port_close(struct ports *ports, bool keep_attached);
/* Takes away programs and pins that an earlier process left. For `waxseald --detach`. */
int port_detach(const struct port_config *config, char *error, size_t error_len);

/* Those that receive, port_config.lcores of them, call the next three with their number, from 0. Queue q of a port is that
 * of lcore q % lcores; no lcore waits for another.
 *
 * Receives up to `max` frames; each has its verdict in front of its data. */
unsigned port_receive(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned max);
static inline struct verdict *port_verdict(void *frame) { return (struct verdict *)((uint8_t *)frame - WAXSEAL_VERDICT_BYTES); }
/* Sends; frees what it could not send and returns how many went out. Frames are single-segment. Those that the
 * appliance has built say so by their headers' lengths (mbuf l2_len, l3_len, l4_len): consecutive segments of one stream
 * may then leave as one (train.c), as the same frames. */
unsigned port_send(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count);
/* Sleeps until frames have come to queues of this lcore or `fd` (-1: none) is readable, at most for timeout_us; where a
 * device cannot wake anybody, for at most PORT_NAP_US. True: `fd` is. */
#define PORT_NAP_US 1000 /* what an idle appliance adds to the first packet then */
bool port_wait(struct ports *ports, unsigned lcore, int fd, uint64_t timeout_us);
/* Where frames for that port are to be allocated. Thread-safe. */
struct rte_mempool *port_pool(const struct ports *ports, enum port_side side);

/* Prefix -> {destination, pool} and the pools, from a policy image. Called by the main thread; the
 * classifiers see each entry whole. Returns 0 or -errno with `error`. */
struct port_prefix { uint8_t addr[16]; uint8_t len; bool ipv6; uint32_t destination, pool; };
int port_steer(struct ports *ports, const struct port_prefix *prefixes, size_t count,
               const struct classifier_pool *pools, size_t pool_count, char *error, size_t error_len);

/* Can packets of sealed flows pass in front of user space? Not on ports owned by DPDK. */
bool port_offloads(const struct ports *ports);
/* Hands a flow over; false: the kernel does not take it. Thread-safe, as is the next one. */
bool port_offload(struct ports *ports, const struct classifier_flow *flow, const struct classifier_sealed *begin);
/* What has passed, and for how long nothing did (UINT64_MAX: nothing ever); take_back: it ends. false: the flow has
 * given way to others. */
bool port_offloaded(struct ports *ports, const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us);

struct port_info {
	char name[64];
	char driver[32];
	bool xdp, link_up;
	uint64_t rx_packets, tx_packets, rx_missed, tx_errors;
};
void port_info(struct ports *ports, enum port_side side, struct port_info *out);

#endif
