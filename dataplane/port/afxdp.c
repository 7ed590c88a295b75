/*
 * afxdp.c - netdevs taken by AF_XDP.
 *
 * Enters: two netdevs and the compiled XDP classifier. Leaves: pinned maps that hold configuration,
 * prefixes and pools for both ports' programs; ports of DPDK's net_af_xdp, whose driver loads the program
 * and fills xsks_map. The program outlives the process: what is not SMTP goes on crossing when waxseald
 * ends or dies, and the next start replaces it, with the gap between the two as short as the driver lets
 * it be. It refuses ports that somebody else's XDP program, or another waxseald, has.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "private.h"

#define PROGRAM_NAME "waxseal_classify"
#define MBUF_CACHE 256
#define FILES_MAX 4096 /* looked through for sockets: those that were opened first, a process has few */
#define PARKED_SHARE 4 /* at most a quarter of the buffers may lie outside the UMEM */

enum map { MAP_CONFIG, MAP_POOLS, MAP_DEST4, MAP_DEST6, MAP_SEALED, MAPS };
static const char *const map_names[MAPS] = {"waxseal_config", "waxseal_pools", "waxseal_dest4", "waxseal_dest6", "waxseal_sealed"};

/* The ports of this process: port_eal_args comes before there is a struct ports. */
static struct {
	struct bpf_object *object;
	int map[MAPS];
	int claim[PORTS];
	unsigned queues[PORTS];
	int socket[PORTS * PORT_QUEUES_MAX];
	unsigned sockets;
	bool restart; /* an earlier run's program is forwarding */
} self = {.map = {-1, -1, -1, -1, -1}, .claim = {-1, -1}};

static int log_warnings(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* ---- programs ---- */

/* The XDP program on a netdev: 0 none, 1 ours, -EBUSY somebody else's. */
static int attached(const char *name, char *error, size_t error_len)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	if (bpf_xdp_query((int)if_nametoindex(name), 0, &query) || query.attach_mode == XDP_ATTACHED_NONE)
		return 0;
	int fd = bpf_prog_get_fd_by_id(query.prog_id);
	int failed = fd < 0 ? -errno : bpf_obj_get_info_by_fd(fd, &info, &len);
	if (fd >= 0)
		close(fd);
	if (!failed && !strncmp(info.name, PROGRAM_NAME, BPF_OBJ_NAME_LEN - 1))
		return 1;
	return port_fail(EBUSY, error, error_len, "%s: another XDP program (%s, id %u) is on it: ip link set %s xdp off", name,
	                 info.name[0] ? info.name : "no name", query.prog_id, name);
}

static int detach(const char *name, char *error, size_t error_len)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	int index = (int)if_nametoindex(name), failed;

	if (!index || bpf_xdp_query(index, 0, &query) || query.attach_mode == XDP_ATTACHED_NONE)
		return 0;
	failed = bpf_xdp_detach(index, query.attach_mode == XDP_ATTACHED_SKB ? XDP_FLAGS_SKB_MODE
	                               : query.attach_mode == XDP_ATTACHED_HW ? XDP_FLAGS_HW_MODE
	                                                                      : XDP_FLAGS_DRV_MODE, NULL);
	return failed ? port_fail(-failed, error, error_len, "%s: the XDP program does not come off: %s", name, strerror(-failed)) : 0;
}

/* ---- maps ---- */

static int check_bpffs(char *error, size_t error_len)
{
	struct statfs fs;
	if (statfs(WAXSEAL_PIN_DIR, &fs) == 0 && fs.f_type == BPF_FS_MAGIC)
		return 0;
	return port_fail(ENOENT, error, error_len, "%s: no bpffs is mounted there: mount -t bpf bpf %s", WAXSEAL_PIN_DIR, WAXSEAL_PIN_DIR);
}

/* Loads the object for its maps' sake: they are made and pinned here, and the driver's own loading finds them. That
 * the kernel takes the program is known then, too, while the netdevs are as they were. */
static int load_maps(const char *path, char *error, size_t error_len)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	libbpf_set_print(log_warnings);
	self.object = bpf_object__open_file(path, NULL);
	if (!self.object)
		return port_fail(errno, error, error_len, "%s: %s; is [dataplane] bpf_dir right?", path, strerror(errno));
	int failed = bpf_object__load(self.object);
	if (failed)
		return port_fail(-failed, error, error_len,
		                 "%s: the kernel does not take it: %s; if the maps of another version are pinned, waxseald --detach removes them",
		                 path, strerror(-failed));
	for (int m = 0; m < MAPS; m++) {
		self.map[m] = bpf_object__find_map_fd_by_name(self.object, map_names[m]);
		if (self.map[m] < 0)
			return port_fail(EINVAL, error, error_len, "%s: has no map %s: it is not this version's", path, map_names[m]);
	}
	return 0;
}

/* What an earlier process changed on this netdev, and has not put back. */
static uint32_t changed_before(int fd, enum port_side side, const char *name)
{
	struct classifier_config before;
	uint32_t key = side;
	if (bpf_map_lookup_elem(fd, &key, &before) || before.ifindex_self != if_nametoindex(name))
		return 0;
	return before.changed;
}

static int write_config(const struct port_config *config, char *error, size_t error_len)
{
	struct classifier_config entry[PORTS];
	uint32_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return port_fail(errno, error, error_len, "getrandom: %s", strerror(errno));
	for (uint32_t p = 0; p < PORTS; p++) {
		entry[p] = (struct classifier_config){
			.ifindex_self = if_nametoindex(config->name[p]),
			.ifindex_peer = if_nametoindex(config->name[port_other(p)]),
			.fail_open = config->fail_open,
			.hash_seed = seed,
			.changed = changed_before(self.map[MAP_CONFIG], p, config->name[p]),
		};
		int failed = netdev_prepare(config->name[p], true, &entry[p].changed, error, error_len);
		/* Written even if the second port fails: what was changed is to be found by --detach. */
		if (bpf_map_update_elem(self.map[MAP_CONFIG], &p, &entry[p], BPF_ANY))
			return port_fail(errno, error, error_len, "map %s: %s", map_names[MAP_CONFIG], strerror(errno));
		if (failed)
			return failed;
	}
	return 0;
}

static int check(const struct port_config *config, unsigned queues[PORTS], char *error, size_t error_len)
{
	char path[512];
	int failed = check_bpffs(error, error_len);

	for (int p = 0; p < PORTS && !failed; p++) {
		char more[64];
		snprintf(more, sizeof(more), "ethtool -L %.20s combined %u", config->name[p], config->lcores);
		failed = netdev_check(config->name[p], true, &self.queues[p], error, error_len);
		if (!failed)
			failed = port_check_queues(config->name[p], more, self.queues[p], config->lcores, error, error_len);
		if (!failed && config->lcores > 1 && !netdev_symmetric(config->name[p]))
			fprintf(stderr, "waxseald: %s: its RSS is not known to be symmetric: if it gives the two directions of a connection to two lcores, "
			                "one of them crosses to the other, and crossed_packets counts it: ethtool -X %s hkey 6d:5a:6d:5a:... "
			                "(as long as `ethtool -x` shows)\n", config->name[p], config->name[p]);
	}
	for (int p = 0; p < PORTS && !failed; p++) {
		failed = attached(config->name[p], error, error_len);
		self.restart = self.restart || failed == 1;
		failed = failed < 0 ? failed : 0;
	}
	for (int p = 0; p < PORTS && !failed; p++) {
		self.claim[p] = netdev_claim(config->name[p], error, error_len);
		failed = self.claim[p] < 0 ? self.claim[p] : 0;
	}
	if (failed)
		return failed;
	memcpy(queues, self.queues, sizeof(self.queues));
	snprintf(path, sizeof(path), "%s/%s", config->bpf_dir, PORT_XDP_OBJECT);
	failed = load_maps(path, error, error_len);
	return failed ? failed : write_config(config, error, error_len);
}

/* ---- the sockets' memory ---- */

/* The driver takes the pool for one area that begins with its first chunk, and gives that area to the kernel. An
 * object outside is lost as soon as it is used: it is taken out of the pool for good. */
static int park(struct rte_mempool *pool, const char *name, char *error, size_t error_len)
{
	const struct rte_mempool_memhdr *first = STAILQ_FIRST(&pool->mem_list);
	uintptr_t begin = (uintptr_t)first->addr;
	uintptr_t end = begin + (uintptr_t)pool->populated_size * (pool->header_size + pool->elt_size + pool->trailer_size);
	unsigned count = pool->populated_size, inside = 0;
	void **objects = calloc(count, sizeof(*objects));

	if (!objects || rte_mempool_generic_get(pool, objects, count, NULL)) {
		free(objects);
		return port_fail(ENOMEM, error, error_len, "%s: its packet buffers cannot be looked through", name);
	}
	for (unsigned i = 0; i < count; i++)
		if ((uintptr_t)objects[i] >= begin && (uintptr_t)objects[i] + pool->elt_size <= end)
			objects[inside++] = objects[i];
	rte_mempool_generic_put(pool, objects, inside, NULL);
	free(objects);
	if (inside < count - count / PARKED_SHARE)
		return port_fail(ENOMEM, error, error_len, "%s: only %u of %u packet buffers lie in one piece of memory: reserve more hugepages, or reboot",
		                 name, inside, count);
	return 0;
}

static int make_pool(struct port *port, enum port_side side, uint32_t mbufs, char *error, size_t error_len)
{
	char name[32];
	unsigned count = mbufs * port->queues;
	struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = RTE_MBUF_DEFAULT_BUF_SIZE};

	snprintf(name, sizeof(name), "frames%d", (int)side);
	/* Not rte_pktmbuf_pool_create: its objects never cross a page, which spreads them over more memory than the
	 * driver reckons with. */
	port->pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE, MBUF_CACHE, sizeof(private),
	                                      SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (!port->pool)
		goto no_memory;
	rte_pktmbuf_pool_init(port->pool, &private);
	if (rte_mempool_populate_default(port->pool) != (int)count)
		goto no_memory;
	rte_mempool_obj_iter(port->pool, rte_pktmbuf_init, NULL);
	return park(port->pool, port->name, error, error_len);
no_memory:
	return port_fail(ENOMEM, error, error_len, "%s: no memory for %u packet buffers: raise [dataplane] memory_mb", port->name, count);
}

/* ---- steering ---- */

static int update(const struct port_prefix *prefix, bool add)
{
	struct classifier_destination value = {prefix->destination, prefix->pool};
	struct classifier_key4 key4 = {.prefix_len = prefix->len};
	struct classifier_key6 key6 = {.prefix_len = prefix->len};
	int fd = self.map[prefix->ipv6 ? MAP_DEST6 : MAP_DEST4];
	const void *key = prefix->ipv6 ? (const void *)&key6 : &key4;

	memcpy(key4.addr, prefix->addr, sizeof(key4.addr));
	memcpy(key6.addr, prefix->addr, sizeof(key6.addr));
	if (add)
		return bpf_map_update_elem(fd, key, &value, BPF_ANY) ? -errno : 0;
	return bpf_map_delete_elem(fd, key) && errno != ENOENT ? -errno : 0;
}

static int add_prefix(void *context, const struct port_prefix *prefix)
{
	(void)context;
	return update(prefix, true);
}

static int delete_prefix(void *context, const struct port_prefix *prefix)
{
	(void)context;
	return update(prefix, false);
}

/* Appends a trie's entries. false: no memory. */
static bool read_trie(enum map map, struct port_prefix **prefixes, size_t *count)
{
	struct { uint32_t prefix_len; uint8_t addr[16]; } key, next;
	struct classifier_destination value;

	for (const void *at = NULL; bpf_map_get_next_key(self.map[map], at, &next) == 0; at = &key) {
		struct port_prefix *grown = *prefixes;
		key = next;
		if (*count >= 2 * WAXSEAL_PREFIXES_MAX)
			break;
		if ((*count & (*count - 1)) == 0) /* grows at each power of two */
			grown = realloc(*prefixes, (*count ? 2 * *count : 1) * sizeof(**prefixes));
		if (!grown)
			return false;
		*prefixes = grown;
		if (bpf_map_lookup_elem(self.map[map], &key, &value))
			continue;
		grown[*count] = (struct port_prefix){.len = (uint8_t)key.prefix_len, .ipv6 = map == MAP_DEST6, .destination = value.destination, .pool = value.pool};
		memcpy(grown[*count].addr, key.addr, map == MAP_DEST6 ? 16 : 4);
		++*count;
	}
	return true;
}

static int read_tries(struct ports *ports, char *error, size_t error_len)
{
	free(ports->prefixes);
	ports->prefixes = NULL;
	ports->prefix_count = 0;
	if (!read_trie(MAP_DEST4, &ports->prefixes, &ports->prefix_count) || !read_trie(MAP_DEST6, &ports->prefixes, &ports->prefix_count))
		return port_fail(ENOMEM, error, error_len, "no memory for the %zu prefixes of the run before", ports->prefix_count);
	ports->prefix_count = steer_normalise(ports->prefixes, ports->prefix_count);
	return 0;
}

static int steer(struct ports *ports, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools, size_t pool_count,
                 char *error, size_t error_len)
{
	static const struct steer_sink sink = {add_prefix, delete_prefix, NULL};
	char unheard[PORT_ERROR_MAX];

	/* Pools first: a prefix must not name one that is not there yet. Unused ones are as the default. */
	for (uint32_t i = 0; i < WAXSEAL_POOLS_MAX; i++)
		if (bpf_map_update_elem(self.map[MAP_POOLS], &i, &pools[i < pool_count ? i : 0], BPF_ANY))
			return port_fail(errno, error, error_len, "map %s: %s", map_names[MAP_POOLS], strerror(errno));
	int failed = steer_diff(ports->prefixes, ports->prefix_count, prefixes, count, &sink);
	if (!failed)
		return 0;
	read_tries(ports, unheard, sizeof(unheard)); /* some entries have changed: the next difference is to what is there */
	return port_fail(-failed, error, error_len, "prefixes of the policy: the kernel's tries do not take them: %s (at most %u of a family)",
	                 strerror(-failed), WAXSEAL_PREFIXES_MAX);
}

/* ---- sealed flows ---- */

static bool offload(const struct classifier_flow *flow, const struct classifier_sealed *begin)
{
	return bpf_map_update_elem(self.map[MAP_SEALED], flow, begin, BPF_ANY) == 0;
}

static bool offloaded(const struct classifier_flow *flow, bool take_back, struct classifier_sealed *seen, uint64_t *idle_us)
{
	int fd = self.map[MAP_SEALED];
	struct timespec now;
	uint64_t last = 0;

	if (take_back ? bpf_map_lookup_and_delete_elem(fd, flow, seen) : bpf_map_lookup_elem(fd, flow, seen))
		return false;
	for (int side = 0; side < 2; side++)
		last = seen->from[side].seen_ns > last ? seen->from[side].seen_ns : last;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* the program's clock */
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	*idle_us = !last ? UINT64_MAX : now_ns > last ? (now_ns - last) / 1000 : 0;
	return true;
}

/* What an earlier process handed over and did not live to take back. Its packets come up, and flow/ joins what they belong to. */
static void take_all_back(void)
{
	struct classifier_flow flow;
	while (bpf_map_get_next_key(self.map[MAP_SEALED], NULL, &flow) == 0)
		if (bpf_map_delete_elem(self.map[MAP_SEALED], &flow) && errno != ENOENT)
			break;
}

/* ---- waiting ---- */

static bool is_new(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);
	for (unsigned i = 0; i < self.sockets; i++)
		if (self.socket[i] == fd)
			return false;
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP;
}

/* The driver has no interrupts and keeps its sockets to itself, but they are files of this process like others: each
 * queue that is set up makes one. */
static int new_socket(void)
{
	struct rlimit limit = {0};
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; fd < (int)(limit.rlim_cur < FILES_MAX ? limit.rlim_cur : FILES_MAX) && self.sockets < PORTS * PORT_QUEUES_MAX; fd++)
		if (is_new(fd))
			return self.socket[self.sockets++] = fd;
	return -1;
}

/* ---- life ---- */

static void unload(void)
{
	bpf_object__close(self.object);
	self.object = NULL;
	for (int p = 0; p < PORTS; p++) {
		if (self.claim[p] >= 0)
			close(self.claim[p]);
		self.claim[p] = -1;
	}
}

static void remove_pins(void)
{
	char path[128];
	for (int m = 0; m < MAPS; m++) {
		snprintf(path, sizeof(path), "%s/%s", WAXSEAL_PIN_DIR, map_names[m]);
		unlink(path);
	}
}

static void close_ports(struct ports *ports, bool keep_attached)
{
	char unheard[PORT_ERROR_MAX];

	for (int p = 0; p < PORTS; p++) {
		struct port *port = &ports->port[p];
		if (port->train >= 0)
			close(port->train);
		if (port->started)
			rte_eth_dev_stop(port->id);
		/* Closing would take the program off. The sockets go with the process, and leave xsks_map then. */
		if (keep_attached)
			continue;
		if (port->started)
			rte_eth_dev_close(port->id);
		detach(port->netdev, unheard, sizeof(unheard)); /* a start that failed half-way has left it */
		netdev_restore(port->netdev, changed_before(self.map[MAP_CONFIG], p, port->netdev));
	}
	if (!keep_attached)
		remove_pins();
	unload();
}

static int open_port(struct ports *ports, enum port_side side, uint32_t mbufs, char *error, size_t error_len)
{
	struct port *port = &ports->port[side];
	port->queues = self.queues[side];
	int failed = make_pool(port, side, mbufs, error, error_len);
	/* The driver does not replace a program, so the stale one goes now, as late as can be. */
	if (!failed)
		failed = detach(port->netdev, error, error_len);
	if (!failed)
		failed = port_start(ports, port, error, error_len);
	if (failed)
		return failed;
	port->train = train_open(port->netdev);
	if (port->train < 0)
		fprintf(stderr, "waxseald: %s: no socket for trains of segments, each goes its own way: %s\n", port->name, strerror(-port->train));
	return 0;
}

/* A restart that fails leaves the network as the run before it did: what is not SMTP crosses. */
static void attach_again(const struct port *port)
{
	char unheard[PORT_ERROR_MAX];
	struct bpf_program *program = bpf_object__find_program_by_name(self.object, PROGRAM_NAME);
	if (program && attached(port->netdev, unheard, sizeof(unheard)) == 0)
		bpf_xdp_attach((int)if_nametoindex(port->netdev), bpf_program__fd(program), XDP_FLAGS_UPDATE_IF_NOEXIST, NULL);
}

static int open_ports(struct ports *ports, const struct port_config *config, char *error, size_t error_len)
{
	int failed = read_tries(ports, error, error_len);
	take_all_back();
	for (int p = 0; p < PORTS && !failed; p++)
		failed = open_port(ports, p, config->mbufs, error, error_len);
	if (!failed)
		return 0;
	for (int p = 0; p < PORTS && self.restart; p++)
		attach_again(&ports->port[p]);
	close_ports(ports, self.restart);
	return failed;
}

int afxdp_detach(const struct port_config *config, char *error, size_t error_len)
{
	char path[128];
	int failed = 0;

	for (int p = 0; p < PORTS && !failed; p++) {
		if (!if_nametoindex(config->name[p]))
			continue; /* gone, and its program with it */
		self.claim[p] = netdev_claim(config->name[p], error, error_len);
		failed = self.claim[p] < 0 ? self.claim[p] : attached(config->name[p], error, error_len);
		failed = failed < 0 ? failed : 0;
	}
	snprintf(path, sizeof(path), "%s/%s", WAXSEAL_PIN_DIR, map_names[MAP_CONFIG]);
	int config_fd = bpf_obj_get(path);
	for (int p = 0; p < PORTS && !failed; p++) {
		failed = detach(config->name[p], error, error_len);
		if (!failed && config_fd >= 0)
			netdev_restore(config->name[p], changed_before(config_fd, p, config->name[p]));
	}
	if (config_fd >= 0)
		close(config_fd);
	if (!failed)
		remove_pins();
	unload();
	return failed;
}

const struct port_ops port_ops_afxdp = {
	.check = check, .open = open_ports, .close = close_ports, .steer = steer, .offload = offload, .offloaded = offloaded, .socket = new_socket,
	.copy_foreign = true,
};
