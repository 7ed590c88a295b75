/*
 * netdev.c - the network interface under a port, by ioctl.
 *
 * Enters: its name. Leaves: fit or not fit and why; offloads that would change a frame switched off, and
 * what was changed, so that it can be put back. A bump in the wire must hand on what it got: a VLAN tag
 * that the NIC has taken off, or segments that it has put together, are not what it got.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "private.h"

#define RSS_KEY_BYTES_MAX 256

static int request(unsigned long number, const char *name, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	int result = ioctl(fd, number, ifr) ? -errno : 0;
	close(fd);
	return result;
}

static int ethtool(const char *name, void *command)
{
	struct ifreq ifr = {.ifr_data = command};
	return request(SIOCETHTOOL, name, &ifr);
}

/* Receive queues that AF_XDP has to serve: a frame on a queue without a socket would cross uninspected. */
static int count_queues(const char *name, unsigned *queues, char *error, size_t error_len)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};

	*queues = 1;
	if (ethtool(name, &channels))
		return 0; /* a driver without channels has one queue */
	if (channels.combined_count) {
		*queues = channels.combined_count;
	} else if (channels.rx_count > 1) {
		channels.cmd = ETHTOOL_SCHANNELS;
		channels.rx_count = 1;
		if (ethtool(name, &channels))
			return port_fail(ENOTSUP, error, error_len, "%s: has several receive queues and keeps them, of which AF_XDP would serve one: ethtool -L %s rx 1",
			                 name, name);
	}
	if (*queues > PORT_QUEUES_MAX)
		return port_fail(ENOTSUP, error, error_len, "%s: has %u queues, %u can be served: ethtool -L %s combined %u", name, *queues,
		                 PORT_QUEUES_MAX, name, PORT_QUEUES_MAX);
	return 0;
}

bool netdev_symmetric(const char *name)
{
	_Alignas(struct ethtool_rxfh) uint8_t area[sizeof(struct ethtool_rxfh) + RSS_KEY_BYTES_MAX] = {0};
	struct ethtool_rxfh *rss = (struct ethtool_rxfh *)area;
	const uint8_t *key = (const uint8_t *)rss->rss_config;

	rss->cmd = ETHTOOL_GRSSH;
	if (ethtool(name, rss) || rss->key_size < 2 || rss->key_size > RSS_KEY_BYTES_MAX) /* asks for the sizes */
		return false;
	rss->indir_size = 0;
	if (ethtool(name, rss))
		return false;
	for (unsigned i = 2; i < rss->key_size; i++)
		if (key[i] != key[i % 2])
			return false;
	return true;
}

/* The appliance has no address of its own; one that the kernel answers on is a mistake, but the operator's. */
static void warn_of_addresses(const char *name)
{
	struct ifaddrs *all, *one;
	if (getifaddrs(&all))
		return;
	for (one = all; one; one = one->ifa_next) {
		if (!one->ifa_addr || strcmp(one->ifa_name, name))
			continue;
		bool odd = one->ifa_addr->sa_family == AF_INET ||
		           (one->ifa_addr->sa_family == AF_INET6 &&
		            !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)(void *)one->ifa_addr)->sin6_addr));
		if (odd) {
			fprintf(stderr, "waxseald: %s has an address, which cannot be reached while the port is waxseal's: ip address flush dev %s\n",
			        name, name);
			break;
		}
	}
	freeifaddrs(all);
}

int netdev_check(const char *name, bool xdp, unsigned *queues, char *error, size_t error_len)
{
	struct ifreq ifr;

	*queues = 1;
	if (!if_nametoindex(name))
		return port_fail(ENODEV, error, error_len, "%s: there is no such network interface here (`ip link` lists them)", name);
	if (request(SIOCGIFFLAGS, name, &ifr))
		return port_fail(ENODEV, error, error_len, "%s: its flags cannot be read: %s", name, strerror(errno));
	if (ifr.ifr_flags & IFF_LOOPBACK)
		return port_fail(EINVAL, error, error_len, "%s: is the loopback interface, not a port", name);
	if (!(ifr.ifr_flags & IFF_UP))
		return port_fail(ENETDOWN, error, error_len, "%s: is down: ip link set %s up", name, name);
	if (!(ifr.ifr_flags & IFF_RUNNING))
		fprintf(stderr, "waxseald: %s has no link yet: is it cabled?\n", name);
	if (request(SIOCGIFMTU, name, &ifr) == 0 && ifr.ifr_mtu > PORT_MTU_MAX)
		return port_fail(EMSGSIZE, error, error_len, "%s: its MTU is %d, at most %d fits a packet buffer: ip link set %s mtu 1500", name,
		                 ifr.ifr_mtu, PORT_MTU_MAX, name);
	warn_of_addresses(name);
	return xdp ? count_queues(name, queues, error, error_len) : 0;
}

int netdev_claim(const char *name, char *error, size_t error_len)
{
	/* An abstract name belongs to the network namespace, as netdevs do, and goes when the process does. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int len = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "waxseal/port/%s", name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return port_fail(errno, error, error_len, "%s: no socket to claim it with: %s", name, strerror(errno));
	if (bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0)
		return fd;
	close(fd);
	return port_fail(EBUSY, error, error_len, "%s: is taken by another waxseald that runs: stop it first", name);
}

static const struct feature {
	enum netdev_change change;
	const char *name, *why;
	uint32_t get, set;
	uint32_t mask; /* 0: the answer is the flag itself */
} features[] = {
	{NETDEV_RXVLAN, "rxvlan", "VLAN tags would be taken off frames", ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, ETH_FLAG_RXVLAN},
	{NETDEV_LRO, "lro", "segments would be put together", ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, ETH_FLAG_LRO},
	{NETDEV_GRO, "gro", "segments would be put together", ETHTOOL_GGRO, ETHTOOL_SGRO, 0},
};
#define FEATURES (sizeof(features) / sizeof(features[0]))

/* true: it can be read, and is on. */
static bool is_on(const char *name, const struct feature *feature, uint32_t *value)
{
	struct ethtool_value command = {.cmd = feature->get};
	if (ethtool(name, &command))
		return false;
	*value = command.data;
	return feature->mask ? command.data & feature->mask : command.data;
}

static void switch_feature(const char *name, const struct feature *feature, bool on)
{
	uint32_t value = 0;
	bool now = is_on(name, feature, &value);
	struct ethtool_value command = {.cmd = feature->set};
	if (now == on)
		return;
	command.data = feature->mask ? (on ? value | feature->mask : value & ~feature->mask) : on;
	ethtool(name, &command); /* whether it took is seen by reading it again */
}

int netdev_prepare(const char *name, bool xdp, uint32_t *changed, char *error, size_t error_len)
{
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	/* Under XDP a veth has no GRO in front of the program; the flag keeps NAPI going there, without which
	 * frames redirected to it are lost. */
	bool keep_gro = xdp && ethtool(name, &driver) == 0 && !strcmp(driver.driver, "veth");
	struct ifreq ifr;
	uint32_t value;

	if (request(SIOCGIFFLAGS, name, &ifr) == 0 && !(ifr.ifr_flags & IFF_PROMISC))
		*changed |= NETDEV_PROMISCUOUS; /* the driver switches it on */
	for (size_t i = 0; i < FEATURES; i++) {
		const struct feature *feature = &features[i];
		if (!is_on(name, feature, &value) || (feature->change == NETDEV_GRO && keep_gro))
			continue;
		switch_feature(name, feature, false);
		if (is_on(name, feature, &value))
			return port_fail(ENOTSUP, error, error_len, "%s: %s cannot be switched off, and with it %s", name, feature->name, feature->why);
		*changed |= feature->change;
	}
	return 0;
}

void netdev_restore(const char *name, uint32_t changed)
{
	struct ifreq ifr;
	for (size_t i = 0; i < FEATURES; i++)
		if (changed & features[i].change)
			switch_feature(name, &features[i], true);
	if (changed & NETDEV_PROMISCUOUS && request(SIOCGIFFLAGS, name, &ifr) == 0) {
		ifr.ifr_flags &= ~IFF_PROMISC;
		request(SIOCSIFFLAGS, name, &ifr);
	}
}

bool netdev_running(const char *name)
{
	struct ifreq ifr;
	return request(SIOCGIFFLAGS, name, &ifr) == 0 && ifr.ifr_flags & IFF_UP && ifr.ifr_flags & IFF_RUNNING;
}
