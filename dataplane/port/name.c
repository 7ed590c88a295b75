/*
 * name.c - what a port's name means.
 *
 * Enters: "eth1", "0000:03:00.1" or "vdev:net_tap0,iface=x". Leaves: the kind, DPDK's name of the device,
 * the netdev under it, the EAL arguments that make it. Both ports are of one kind: frames that are not
 * SMTP cross either in the kernel or in DPDK. It looks at text only; whether the thing exists is netdev.c's.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

#define VDEV "vdev:"
#define ARGUMENT_MAX 640

static const char *const sides[PORTS] = {"inside", "outside"};
static const char *const kinds[] = {
	[PORT_NETDEV] = "a netdev, taken by AF_XDP", [PORT_PCI] = "a PCI device, owned by DPDK", [PORT_VDEV] = "a virtual device of DPDK's",
};

int port_fail(int code, char *error, size_t error_len, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(error, error_len, format, args);
	va_end(args);
	return -code;
}

/* 0000:03:00.1 or 03:00.1 */
static bool is_pci(const char *name)
{
	unsigned domain, bus, device, function;
	int end = 0;
	if (sscanf(name, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) == 4 && !name[end])
		return true;
	end = 0;
	return sscanf(name, "%2x:%2x.%1x%n", &bus, &device, &function, &end) == 3 && !name[end];
}

enum port_kind port_kind(const char *name)
{
	if (!strncmp(name, VDEV, strlen(VDEV)))
		return PORT_VDEV;
	return is_pci(name) ? PORT_PCI : PORT_NETDEV;
}

static int check_name(const char *name, enum port_side side, char *error, size_t error_len)
{
	switch (port_kind(name)) {
	case PORT_PCI:
		return 0;
	case PORT_VDEV:
		name += strlen(VDEV);
		if (strncmp(name, "net_", 4) || strcspn(name, ",") >= PORT_DEVICE_MAX || strlen(name) >= ARGUMENT_MAX)
			return port_fail(EINVAL, error, error_len, "%s = vdev:%.100s: a virtual device of DPDK's is meant, such as vdev:net_tap0,iface=x",
			                 sides[side], name);
		return 0;
	case PORT_NETDEV:
		break;
	}
	size_t len = strlen(name);
	bool sound = len > 0 && len < IFNAMSIZ && strcmp(name, ".") && strcmp(name, "..");
	for (size_t i = 0; i < len; i++)
		sound = sound && isgraph((unsigned char)name[i]) && !strchr("/:,", name[i]);
	if (sound)
		return 0;
	return port_fail(EINVAL, error, error_len, "%s = %.100s: neither a netdev's name, nor a PCI address such as 0000:03:00.1, nor vdev:net_...",
	                 sides[side], name);
}

void port_device(const char *name, enum port_side side, char device[PORT_DEVICE_MAX], char netdev[IFNAMSIZ])
{
	const char *iface;
	size_t len;

	netdev[0] = '\0';
	switch (port_kind(name)) {
	case PORT_NETDEV:
		snprintf(device, PORT_DEVICE_MAX, "net_af_xdp%d", (int)side);
		snprintf(netdev, IFNAMSIZ, "%s", name);
		return;
	case PORT_PCI: /* with the domain: that is how DPDK names it */
		snprintf(device, PORT_DEVICE_MAX, "%s%.32s", strlen(name) < strlen("0000:00:00.0") ? "0000:" : "", name);
		return;
	case PORT_VDEV:
		name += strlen(VDEV);
		snprintf(device, PORT_DEVICE_MAX, "%.*s", (int)strcspn(name, ","), name);
		iface = strstr(name, ",iface=");
		/* Only net_af_packet sits on a netdev that is there before it; a TAP is made with the device. */
		if (!iface || strncmp(name, "net_af_packet", strlen("net_af_packet")))
			return;
		iface += strlen(",iface=");
		len = strcspn(iface, ",");
		if (len < IFNAMSIZ) {
			memcpy(netdev, iface, len);
			netdev[len] = '\0';
		}
		return;
	}
}

int port_check_names(const char *const name[PORTS], char *error, size_t error_len)
{
	char device[PORTS][PORT_DEVICE_MAX], netdev[PORTS][IFNAMSIZ];

	for (int p = 0; p < PORTS; p++) {
		int failed = check_name(name[p], p, error, error_len);
		if (failed)
			return failed;
		port_device(name[p], p, device[p], netdev[p]);
	}
	if (port_kind(name[INSIDE]) != port_kind(name[OUTSIDE]))
		return port_fail(EINVAL, error, error_len, "inside = %.60s is %s, outside = %.60s is %s: both ports must be of one kind",
		                 name[INSIDE], kinds[port_kind(name[INSIDE])], name[OUTSIDE], kinds[port_kind(name[OUTSIDE])]);
	if (!strcmp(device[INSIDE], device[OUTSIDE]) || (netdev[INSIDE][0] && !strcmp(netdev[INSIDE], netdev[OUTSIDE])))
		return port_fail(EINVAL, error, error_len, "inside = %.80s and outside = %.80s are one device; the appliance needs two", name[INSIDE], name[OUTSIDE]);
	return 0;
}

int port_eal_device(const char *name, enum port_side side, unsigned queues, const char *program, char **argv, int argc, int argc_max)
{
	static char vdev[] = "--vdev", allow[] = "-a", argument[PORTS][ARGUMENT_MAX];
	size_t len = 0;

	if (argc + 2 > argc_max)
		return -E2BIG;
	switch (port_kind(name)) {
	case PORT_NETDEV: /* busy_budget=0: no system call for each empty poll */
		len = (size_t)snprintf(argument[side], ARGUMENT_MAX, "net_af_xdp%d,iface=%s,start_queue=0,queue_count=%u,busy_budget=0,xdp_prog=%s",
		                       (int)side, name, queues, program);
		break;
	case PORT_PCI:
		len = (size_t)snprintf(argument[side], ARGUMENT_MAX, "%s", name);
		break;
	case PORT_VDEV:
		len = (size_t)snprintf(argument[side], ARGUMENT_MAX, "%s", name + strlen(VDEV));
		break;
	}
	if (len >= ARGUMENT_MAX)
		return -E2BIG;
	argv[argc++] = port_kind(name) == PORT_PCI ? allow : vdev;
	argv[argc++] = argument[side];
	return argc;
}
