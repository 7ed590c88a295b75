/*
 * queues.c - LD_PRELOAD for waxseald: devices whose queues are otherwise than the kernel's here.
 *
 *   WAXSEAL_SPRAY=1      net_af_packet's queues get frames in turn, whatever connection they are of: RSS at its worst
 *   WAXSEAL_COMBINED=n   a netdev says that it has n combined channels, as a NIC does. A veth's are separate ones, and DPDK's
 *                        AF_XDP driver takes it for a device with one queue; beneath, its queues work as a NIC's do
 */
#define _GNU_SOURCE
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODE_SHIFT 16
#define MODE_MASK (0xffu << MODE_SHIFT)

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	unsigned fanout;
	if (level == SOL_PACKET && name == PACKET_FANOUT && len == sizeof(fanout) && getenv("WAXSEAL_SPRAY")) {
		fanout = (*(const unsigned *)value & ~MODE_MASK) | PACKET_FANOUT_LB << MODE_SHIFT;
		value = &fanout;
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list more;
	va_start(more, request);
	void *argument = va_arg(more, void *);
	va_end(more);
	const char *combined = getenv("WAXSEAL_COMBINED");
	if (request == SIOCETHTOOL && combined) {
		struct ethtool_channels *channels = (void *)((struct ifreq *)argument)->ifr_data;
		if (channels->cmd == ETHTOOL_GCHANNELS) {
			*channels = (struct ethtool_channels){.cmd = ETHTOOL_GCHANNELS};
			channels->max_combined = channels->combined_count = (unsigned)atoi(combined);
			return 0;
		}
	}
	return (int)syscall(SYS_ioctl, fd, request, argument);
}
