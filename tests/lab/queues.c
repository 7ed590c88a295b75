/*
 * queues.c - LD_PRELOAD for waxseald: devices whose queues are otherwise than the kernel's here.
 *
 *   WAXSEAL_SPRAY=1      net_af_packet's queues get frames in turn, whatever connection they are of: RSS at its worst
 *   WAXSEAL_COMBINED=n   a netdev says that it has n combined channels, as a NIC does. A veth's are separate ones, and DPDK's
 *                        AF_XDP driver takes it for a device with one queue; beneath, its queues work as a NIC's do
 *   WAXSEAL_KEY=text     what its RSS key consists of, repeated to 40 octets
 */
#define _GNU_SOURCE
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEY_BYTES 40
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

static int answer(void *command, const char *combined, const char *key)
{
	if (combined && *(const uint32_t *)command == ETHTOOL_GCHANNELS) {
		struct ethtool_channels *channels = command;
		*channels = (struct ethtool_channels){.cmd = ETHTOOL_GCHANNELS};
		channels->max_combined = channels->combined_count = (unsigned)atoi(combined);
		return 0;
	}
	if (key && *(const uint32_t *)command == ETHTOOL_GRSSH) {
		struct ethtool_rxfh *rss = command;
		for (unsigned i = 0; i < rss->key_size; i++)
			((char *)rss->rss_config)[i] = key[i % strlen(key)];
		rss->key_size = KEY_BYTES;
		return 0;
	}
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list more;
	va_start(more, request);
	void *argument = va_arg(more, void *);
	va_end(more);
	if (request == SIOCETHTOOL && answer(((struct ifreq *)argument)->ifr_data, getenv("WAXSEAL_COMBINED"), getenv("WAXSEAL_KEY")) == 0)
		return 0;
	return (int)syscall(SYS_ioctl, fd, request, argument);
}
