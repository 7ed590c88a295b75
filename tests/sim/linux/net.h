/*
 * net.h - two network namespaces, each with a TAP device in place of a wire: inside and outside.
 *
 * Both have the same addresses but for the third number, 10.77.1.n and 10.77.2.n (fd77:1::n, fd77:2::n), and know
 * each other's MAC address for ever: nothing but mail crosses. They end with the process. Needs root.
 */
#ifndef WAXSEAL_TESTS_SIM_LINUX_NET_H
#define WAXSEAL_TESTS_SIM_LINUX_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "side.h"

enum { NET_ADDRESSES = 250 };
enum net_tcp { NET_SACK = 1, NET_TIMESTAMPS = 2, NET_WINDOW_SCALING = 4, NET_ECN = 8 };

void net_make(void);
void net_tune(enum port_side port, unsigned tcp); /* bits of net_tcp, for the connections to come */
const uint8_t *net_mac(enum port_side port);
/* A socket of that namespace, not blocking. */
int net_socket(enum port_side port, int family);
/* A frame off the wire, its length; 0: none waits. */
size_t net_read(enum port_side port, uint8_t *frame, size_t size);
void net_write(enum port_side port, const uint8_t *frame, size_t len);
int net_fd(enum port_side port); /* of the wire, to wait at */
/* The address as bind() and connect() want it; `addr` as in a packet, 4 or 16 octets. */
socklen_t net_address(struct sockaddr_storage *out, int family, const uint8_t *addr, uint16_t port);

#endif
