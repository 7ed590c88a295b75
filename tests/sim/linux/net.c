/* net.c - see net.h. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../worker/sim.h"

static int home, place[PORTS], wire[PORTS];
static uint8_t mac[PORTS][6] = {{2, 0x77, 0, 0, 0, 1}, {2, 0x77, 0, 0, 0, 2}};

static void enter(int namespace)
{
	require(NULL, !setns(namespace, CLONE_NEWNET), "setns: %s", strerror(errno));
}

static int own_namespace(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	require(NULL, fd >= 0, "/proc/thread-self/ns/net: %s", strerror(errno));
	return fd;
}

static void write_setting(const char *name, const char *value)
{
	char path[128];
	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	FILE *file = fopen(path, "we");
	require(NULL, file && fputs(value, file) >= 0 && !fclose(file), "%s: cannot be set to %s", path, value);
}

static int make_tap(void)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	strcpy(request.ifr_name, "wire");
	require(NULL, fd >= 0 && !ioctl(fd, TUNSETIFF, &request), "a TAP device: %s", strerror(errno));
	return fd;
}

/* What `ip -batch` is to do in the namespace that the process is in. */
static void configure(enum port_side port)
{
	static const char *const net[PORTS] = {"1", "2"};
	const uint8_t *own = mac[port], *other = mac[port_other(port)];
	const char *here = net[port], *there = net[port_other(port)];
	FILE *ip = popen("ip -batch -", "we");
	require(NULL, ip, "ip: %s", strerror(errno));
	fprintf(ip, "link set lo up\nlink set wire address %02x:%02x:%02x:%02x:%02x:%02x\nlink set wire mtu 1500 up\n", own[0], own[1],
	        own[2], own[3], own[4], own[5]);
	for (int n = 1; n <= NET_ADDRESSES; n++)
		fprintf(ip, "address add 10.77.%s.%d/32 dev wire\naddress add fd77:%s::%x/128 dev wire nodad\n", here, n, here, n);
	fprintf(ip, "route add 10.77.%s.0/24 dev wire\nroute add fd77:%s::/64 dev wire\n", there, there);
	for (int n = 1; n <= NET_ADDRESSES; n++)
		for (int family = 0; family < 2; family++)
			fprintf(ip, family ? "neigh add fd77:%s::%x" : "neigh add 10.77.%s.%d", there, n),
			fprintf(ip, " lladdr %02x:%02x:%02x:%02x:%02x:%02x dev wire nud permanent\n", other[0], other[1], other[2], other[3],
			        other[4], other[5]);
	require(NULL, !pclose(ip), "ip: could not set up a namespace");
}

void net_make(void)
{
	home = own_namespace();
	for (int p = 0; p < PORTS; p++) {
		require(NULL, !unshare(CLONE_NEWNET), "a network namespace: %s; must run as root", strerror(errno));
		place[p] = own_namespace();
		wire[p] = make_tap();
		write_setting("ipv6/conf/wire/accept_ra", "0");
		write_setting("ipv6/conf/wire/router_solicitations", "0");
		write_setting("ipv6/auto_flowlabels", "0"); /* a path's label is one number, of both directions 0 */
		write_setting("ipv4/conf/all/rp_filter", "0"); /* ICMP errors come from routers that are not there */
		write_setting("ipv4/conf/wire/rp_filter", "0");
		write_setting("ipv4/tcp_no_metrics_save", "1"); /* a run knows nothing of the one before */
		configure(p);
		enter(home);
	}
}

void net_tune(enum port_side port, unsigned tcp)
{
	static const struct { unsigned bit; const char *name; } settings[] = {
		{NET_SACK, "ipv4/tcp_sack"}, {NET_TIMESTAMPS, "ipv4/tcp_timestamps"}, {NET_WINDOW_SCALING, "ipv4/tcp_window_scaling"},
		{NET_ECN, "ipv4/tcp_ecn"},
	};
	enter(place[port]);
	for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		write_setting(settings[i].name, tcp & settings[i].bit ? "1" : "0");
	enter(home);
}

const uint8_t *net_mac(enum port_side port) { return mac[port]; }
int net_fd(enum port_side port) { return wire[port]; }

int net_socket(enum port_side port, int family)
{
	enter(place[port]);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	enter(home);
	require(NULL, fd >= 0, "a socket: %s", strerror(errno));
	return fd;
}

size_t net_read(enum port_side port, uint8_t *frame, size_t size)
{
	ssize_t n = read(wire[port], frame, size);
	require(NULL, n >= 0 || errno == EAGAIN, "the wire: %s", strerror(errno));
	return n > 0 ? (size_t)n : 0;
}

void net_write(enum port_side port, const uint8_t *frame, size_t len)
{
	ssize_t n = write(wire[port], frame, len);
	require(NULL, n == (ssize_t)len, "a frame of %zu bytes does not go onto the wire: %s", len, strerror(errno));
}

socklen_t net_address(struct sockaddr_storage *out, int family, const uint8_t *addr, uint16_t port)
{
	struct sockaddr_in *four = (struct sockaddr_in *)out;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
	memset(out, 0, sizeof(*out));
	if (family == 4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, addr, 4);
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	memcpy(&six->sin6_addr, addr, 16);
	return sizeof(*six);
}
