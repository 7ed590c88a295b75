/*
 * wire.h - what load.c and sink.c share: an address, a clock, limits, and a way to give up.
 */
#ifndef WAXSEAL_BENCH_WIRE_H
#define WAXSEAL_BENCH_WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static inline void wire_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "wrong");
	exit(2);
}

static inline uint64_t wire_now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* "10.77.2.1:25"; without a port it is 0. */
static inline struct sockaddr_in wire_address(const char *text)
{
	struct sockaddr_in out = {.sin_family = AF_INET};
	char copy[64];
	snprintf(copy, sizeof(copy), "%s", text);
	char *colon = strchr(copy, ':');
	if (colon) {
		*colon = '\0';
		out.sin_port = htons((uint16_t)atoi(colon + 1));
	}
	if (inet_pton(AF_INET, copy, &out.sin_addr) != 1)
		wire_die(text);
	return out;
}

static inline void wire_raise_limits(void)
{
	struct rlimit files = {65536, 65536};
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
}

#endif
