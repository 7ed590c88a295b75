/*
 * private.h - what the files of port/ share.
 *
 *   name.c     what kind of port a name means, and the EAL arguments for it
 *   netdev.c   a network interface: is it fit, what must be switched off on it
 *   afxdp.c    netdevs taken by AF_XDP: program, maps, sockets' memory
 *   program.c  the classifier in librte_bpf, and its look-up tables
 *   owned.c    devices owned by DPDK: receive, classify
 *   steer.c    the difference between two lists of prefixes
 *   port.c     port.h, by way of struct port_ops
 */
#ifndef WAXSEAL_PORT_PRIVATE_H
#define WAXSEAL_PORT_PRIVATE_H

#include <net/if.h>
#include <poll.h>

#include "port.h"

#define PORT_QUEUES_MAX 16
#define PORT_MTU_MAX 1700 /* with two tags, the largest frame that fits a buffer beside AF_XDP's own headroom */
#define PORT_DEVICE_MAX 64
#define PORT_XDP_OBJECT "classify.xdp.o"
#define PORT_DPDK_OBJECT "classify.dpdk.o"

enum port_kind { PORT_NETDEV, PORT_PCI, PORT_VDEV };

/* Says what is wrong and returns -code. */
int port_fail(int code, char *error, size_t error_len, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- name.c ---- */

enum port_kind port_kind(const char *name);
/* 0, or -EINVAL: a name that cannot be, two of different kinds, or the same twice. */
int port_check_names(const char *const name[PORTS], char *error, size_t error_len);
/* DPDK's name of the device, and the netdev under it ("" if none is named). */
void port_device(const char *name, enum port_side side, char device[PORT_DEVICE_MAX], char netdev[IFNAMSIZ]);
/* Appends to argv; `queues` and `program` are for netdevs. The new argc, or -E2BIG. */
int port_eal_device(const char *name, enum port_side side, unsigned queues, const char *program, char **argv, int argc, int argc_max);

/* ---- netdev.c ---- */

enum netdev_change {
	NETDEV_RXVLAN = 1 << 0, NETDEV_LRO = 1 << 1, NETDEV_GRO = 1 << 2, NETDEV_PROMISCUOUS = 1 << 3,
};
/* Exists, is up, has an MTU that fits; warns on stderr of what is odd. `xdp`: receive queues are counted too. */
int netdev_check(const char *name, bool xdp, unsigned *queues, char *error, size_t error_len);
/* Takes the netdev for this process; -EBUSY if another waxseald in this network namespace has it. Ends with the process. */
int netdev_claim(const char *name, char *error, size_t error_len);
/* Switches off what would change frames; *changed gathers enum netdev_change. */
int netdev_prepare(const char *name, bool xdp, uint32_t *changed, char *error, size_t error_len);
/* Its RSS gives both directions of a connection to one queue; false: it does not, or does not say. */
bool netdev_symmetric(const char *name);
void netdev_restore(const char *name, uint32_t changed);
bool netdev_running(const char *name);

/* ---- steer.c ---- */

/* Sorts by family, address (host bits cleared), length, and drops doubles (the higher destination stays). Returns the new count. */
size_t steer_normalise(struct port_prefix *prefixes, size_t count);
struct steer_sink {
	int (*add)(void *context, const struct port_prefix *prefix); /* or change */
	int (*del)(void *context, const struct port_prefix *prefix);
	void *context;
};
/* Calls for what differs between two normalised lists: all additions and changes, then all deletions, so that a
 * prefix that moves to another length is never without an answer. Stops at the first error. */
int steer_diff(const struct port_prefix *old, size_t old_count, const struct port_prefix *new, size_t new_count, const struct steer_sink *sink);

/* ---- program.c ---- */

struct program;
struct program *program_new(const char *bpf_dir, unsigned workers, uint32_t hash_seed, char *error, size_t error_len);
void program_free(struct program *program);
/* Writes the verdict in front of each frame; one thread an `lcore`. Frames that it cannot look at have no magic. */
void program_classify(struct program *program, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count);
int program_steer(struct program *program, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools,
                  size_t pool_count, char *error, size_t error_len);

/* ---- train.c ---- */

/* A packet socket that sends on a netdev; -errno. */
int train_open(const char *netdev);
/* How many of the frames, from the first on, are consecutive segments of one stream: at least 1. Frames whose mbuf has no
 * l4_len are none. */
unsigned train_length(struct rte_mbuf *const *mbufs, unsigned count);
/* Those, as one packet that is cut on its way out. They stay the caller's; false: not sent (errno). */
bool train_send(int fd, struct rte_mbuf *const *mbufs, unsigned count);

/* ---- port.c, afxdp.c, owned.c ---- */

struct port {
	char name[PORT_DEVICE_MAX];
	char device[PORT_DEVICE_MAX];
	char netdev[IFNAMSIZ];
	uint16_t id; /* DPDK's */
	unsigned queues;
	int socket[PORT_QUEUES_MAX]; /* under each queue, readable when frames have come; -1: there is none */
	int train; /* socket for trains of segments; -1: none */
	bool symmetric; /* RSS has been set, to give both directions of a connection to one queue */
	bool started;
	struct rte_mempool *pool;
};

/* What an lcore that receives has to itself. */
struct port_lcore {
	unsigned queues[PORTS], next[PORTS]; /* how many of each port's are its own; which of them is the first to be asked now */
	struct pollfd socket[1 + PORTS * PORT_QUEUES_MAX]; /* port_wait's: the caller's, then those of its queues */
	unsigned sockets;
	uint64_t nap_us; /* the next one, where nobody wakes */
	uint64_t in_trains[PORTS]; /* frames that the device has not sent; others read it */
} __attribute__((aligned(64)));

struct ports {
	const struct port_ops *ops;
	struct port port[PORTS];
	struct program *program; /* owned.c */
	unsigned lcores;
	struct port_lcore lcore[WAXSEAL_WORKERS_MAX];
	struct port_prefix *prefixes; /* in force, normalised */
	size_t prefix_count;
};

struct port_ops {
	int (*check)(const struct port_config *config, unsigned queues[PORTS], char *error, size_t error_len);
	/* On failure all is closed again. */
	int (*open)(struct ports *ports, const struct port_config *config, char *error, size_t error_len);
	void (*close)(struct ports *ports, bool keep_attached);
	void (*classify)(struct ports *ports, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count); /* NULL: done already */
	int (*steer)(struct ports *ports, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools,
	             size_t pool_count, char *error, size_t error_len);
	int (*socket)(void); /* under the queue that was set up last; -1: none that is new. NULL: nobody wakes */
	/* As port.h has them; NULL: no packet passes outside of user space. */
	bool (*offload)(const struct classifier_flow *flow, const struct classifier_sealed *begin);
	bool (*offloaded)(const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us);
	bool copy_foreign; /* only mbufs of the port's own pool can be sent */
};
extern const struct port_ops port_ops_afxdp, port_ops_owned;

/* Configures port->queues queues and starts: what both kinds do alike. */
int port_start(struct ports *ports, struct port *port, char *error, size_t error_len);
/* -ENOTSUP, with what to do about it, if each lcore that receives cannot have a queue of its own. */
int port_check_queues(const char *name, const char *more, unsigned queues, unsigned lcores, char *error, size_t error_len);
int afxdp_detach(const struct port_config *config, char *error, size_t error_len);

#endif
