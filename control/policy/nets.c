/*
 * nets.c - networks in CIDR notation.
 *
 * Enters: "203.0.113.0/24", "2001:db8::/32", or a single address. Leaves: address and length. Refuses: bits
 * set past the length (saying which network was probably meant), v4-mapped IPv6, lengths that do not exist.
 */
#include "private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

void net_print(const struct net *net, char out[NET_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN] = "?";

	inet_ntop(net->ipv6 ? AF_INET6 : AF_INET, net->addr, addr, sizeof(addr));
	snprintf(out, NET_TEXT_MAX, "%s/%u", addr, net->len);
}

static int parse_len(const char *text, unsigned max, uint8_t *out, struct why *why)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long len = strtoul(text, NULL, 10);

	if (digits == 0 || digits > 3 || text[digits] != '\0' || len > max)
		return why_set(why, "/%.20s: the length is a number from 0 to %u", text, max);
	*out = (uint8_t)len;
	return 0;
}

/* Clears the bits past the length; true if there were any. */
static bool clear_host_bits(struct net *net)
{
	unsigned bytes = net->ipv6 ? 16 : 4;
	bool any = false;

	for (unsigned i = 0; i < bytes; i++) {
		unsigned kept = net->len >= 8 * (i + 1) ? 8 : net->len > 8 * i ? net->len - 8 * i : 0;
		uint8_t mask = (uint8_t)(0xff00u >> kept);

		any |= (net->addr[i] & ~mask & 0xff) != 0;
		net->addr[i] &= mask;
	}
	return any;
}

int net_parse(const char *text, struct net *out, struct why *why)
{
	char addr[INET6_ADDRSTRLEN + 1], meant[NET_TEXT_MAX];
	size_t len = strcspn(text, "/");
	struct net net = {.len = 0};
	int err;

	if (len >= sizeof(addr))
		return why_set(why, "not a network; write ADDRESS/LENGTH, such as 203.0.113.0/24 or 2001:db8::/32");
	memcpy(addr, text, len);
	addr[len] = '\0';
	net.ipv6 = strchr(addr, ':') != NULL;
	if (inet_pton(net.ipv6 ? AF_INET6 : AF_INET, addr, net.addr) != 1)
		return why_set(why, "not a network; write ADDRESS/LENGTH, such as 203.0.113.0/24 or 2001:db8::/32");
	if (net.ipv6 && policy_addr_is_ipv4(net.addr))
		return why_set(why, "a v4-mapped address; write it as IPv4");
	net.len = net.ipv6 ? 128 : 32;
	if (text[len] == '/') {
		err = parse_len(text + len + 1, net.len, &net.len, why);
		if (err)
			return err;
	}
	if (clear_host_bits(&net)) {
		net_print(&net, meant);
		return why_set(why, "bits are set past the length; %s would be right", meant);
	}
	*out = net;
	return 0;
}
