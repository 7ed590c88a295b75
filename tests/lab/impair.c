/*
 * impair.c - a bad wire: joins two interfaces of this namespace, and treats what crosses as its options say.
 *
 * Enters: frames of either interface (packet sockets), a seed. Leaves: the same frames at the other one, later, in
 * another order, twice or not at all; on SIGTERM one line of JSON that says what became of all of them. A frame's
 * fate is drawn in the order of arrival, from a generator of its direction: the same seed gives the n-th frame of a
 * direction the same fate, whatever stands in the middle. The queue is bounded: past it a frame is lost, and counted.
 *
 *   impair [--loss %] [--reorder %] [--duplicate %] [--delay US] [--jitter US] [--queue FRAMES] [--seed N] A B
 *
 * Jitter alone keeps the order; a reordered frame is later than those behind it by REORDER_US at most.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 2048
#define QUEUE_MAX 65536
#define QUEUE_DEFAULT 8192
#define SOCKET_BYTES (16 << 20)
#define REORDER_US 4000 /* some frames' time at the rates of a lossy path */
#define READ_MAX 64     /* frames of one side before the queue is looked at again */

struct frame {
	uint64_t due_us, number; /* equal times leave in the order of arrival */
	unsigned to;
	uint16_t len;
	uint8_t bytes[FRAME_MAX];
};

struct direction {
	uint64_t random, last_due_us;
	uint64_t in, out, lost, reordered, duplicated, overflow, oversize, refused, unseen;
};

static struct {
	double loss, reorder, duplicate; /* shares of 1 */
	uint64_t delay_us, jitter_us, seed;
	unsigned queue_max;
	const char *name[2];
	int fd[2];
	struct direction from[2];
	struct frame **heap, **spare;
	unsigned count, spares;
	uint64_t numbers;
} self = {.queue_max = QUEUE_DEFAULT};

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "impair: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* splitmix64, as a share of 1. */
static double draw(struct direction *direction)
{
	uint64_t z = direction->random += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (double)((z ^ z >> 31) >> 11) / (double)(1ull << 53);
}

/* ---- the queue: a heap by time ---- */

static bool before(const struct frame *a, const struct frame *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->number < b->number;
}

static void push(struct frame *frame)
{
	unsigned at = self.count++;
	while (at && before(frame, self.heap[(at - 1) / 2])) {
		self.heap[at] = self.heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	self.heap[at] = frame;
}

static struct frame *pop(void)
{
	struct frame *first = self.heap[0], *last = self.heap[--self.count];
	unsigned at = 0, child;
	while ((child = 2 * at + 1) < self.count) {
		if (child + 1 < self.count && before(self.heap[child + 1], self.heap[child]))
			child++;
		if (!before(self.heap[child], last))
			break;
		self.heap[at] = self.heap[child];
		at = child;
	}
	self.heap[at] = last;
	return first;
}

static void queue(struct direction *direction, unsigned to, const uint8_t *bytes, size_t len, uint64_t due_us)
{
	if (!self.spares) {
		direction->overflow++;
		return;
	}
	struct frame *frame = self.spare[--self.spares];
	frame->due_us = due_us;
	frame->number = self.numbers++;
	frame->to = to;
	frame->len = (uint16_t)len;
	memcpy(frame->bytes, bytes, len);
	push(frame);
}

/* ---- frames ---- */

static void arrived(unsigned side, const uint8_t *bytes, size_t len)
{
	struct direction *direction = &self.from[side];
	/* Always all five: a frame's fate must not hang on which options are set. */
	bool lost = draw(direction) < self.loss, twice = draw(direction) < self.duplicate, late = draw(direction) < self.reorder;
	uint64_t due_us = now_us() + self.delay_us + (uint64_t)(draw(direction) * (double)self.jitter_us);
	uint64_t extra_us = 1 + (uint64_t)(draw(direction) * REORDER_US);

	direction->in++;
	if (lost) {
		direction->lost++;
		return;
	}
	if (due_us < direction->last_due_us)
		due_us = direction->last_due_us;
	if (late) {
		direction->reordered++;
		due_us += extra_us;
	} else {
		direction->last_due_us = due_us;
	}
	queue(direction, !side, bytes, len, due_us);
	if (twice) {
		direction->duplicated++;
		queue(direction, !side, bytes, len, due_us + extra_us);
	}
}

static void read_side(unsigned side)
{
	uint8_t bytes[FRAME_MAX + 1];
	for (unsigned n = 0; n < READ_MAX; n++) {
		ssize_t len = recv(self.fd[side], bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC);
		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (len < 0)
			die(self.name[side]);
		if (len > FRAME_MAX) /* somebody coalesces in spite of all: this is to be seen */
			self.from[side].oversize++;
		else
			arrived(side, bytes, (size_t)len);
	}
}

static void send_due(void)
{
	uint64_t now = now_us();
	while (self.count && self.heap[0]->due_us <= now) {
		struct frame *frame = pop();
		struct direction *direction = &self.from[!frame->to];
		if (send(self.fd[frame->to], frame->bytes, frame->len, 0) == frame->len)
			direction->out++;
		else
			direction->refused++;
		self.spare[self.spares++] = frame;
	}
}

/* ---- life ---- */

static void open_side(unsigned side)
{
	int bytes = SOCKET_BYTES, on = 1;
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(self.name[side])};

	self.fd[side] = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (self.fd[side] < 0 || !address.sll_ifindex || setsockopt(self.fd[side], SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(self.fd[side], SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) ||
	    setsockopt(self.fd[side], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) ||
	    bind(self.fd[side], (struct sockaddr *)&address, sizeof(address)))
		die(self.name[side]);
}

static void say(void)
{
	printf("{\"seed\": %llu, \"queued\": %u", (unsigned long long)self.seed, self.count);
	for (unsigned side = 0; side < 2; side++) {
		struct direction *d = &self.from[side];
		struct tpacket_stats seen = {0};
		socklen_t len = sizeof(seen);
		getsockopt(self.fd[side], SOL_PACKET, PACKET_STATISTICS, &seen, &len);
		d->unseen = seen.tp_drops;
		printf(", \"%s\": {\"in\": %llu, \"out\": %llu, \"lost\": %llu, \"reordered\": %llu, \"duplicated\": %llu, \"overflow\": %llu, "
		       "\"oversize\": %llu, \"refused\": %llu, \"unseen\": %llu}", self.name[side], (unsigned long long)d->in,
		       (unsigned long long)d->out, (unsigned long long)d->lost, (unsigned long long)d->reordered, (unsigned long long)d->duplicated,
		       (unsigned long long)d->overflow, (unsigned long long)d->oversize, (unsigned long long)d->refused, (unsigned long long)d->unseen);
	}
	printf("}\n");
	fflush(stdout);
}

static double share(const char *percent)
{
	char *end;
	double value = strtod(percent, &end);
	if (*end || end == percent || value < 0 || value > 100) {
		fprintf(stderr, "impair: %s: not a number from 0 to 100\n", percent);
		exit(1);
	}
	return value / 100;
}

static void options(int argc, char **argv)
{
	static const struct option known[] = {
		{"loss", 1, NULL, 'l'},   {"reorder", 1, NULL, 'r'}, {"duplicate", 1, NULL, '2'}, {"delay", 1, NULL, 'd'},
		{"jitter", 1, NULL, 'j'}, {"queue", 1, NULL, 'q'},   {"seed", 1, NULL, 's'},      {NULL, 0, NULL, 0}};
	int option;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'l': self.loss = share(optarg); break;
		case 'r': self.reorder = share(optarg); break;
		case '2': self.duplicate = share(optarg); break;
		case 'd': self.delay_us = strtoull(optarg, NULL, 10); break;
		case 'j': self.jitter_us = strtoull(optarg, NULL, 10); break;
		case 'q': self.queue_max = (unsigned)strtoul(optarg, NULL, 10); break;
		case 's': self.seed = strtoull(optarg, NULL, 10); break;
		default: exit(1);
		}
	}
	if (argc - optind != 2 || !self.queue_max || self.queue_max > QUEUE_MAX) {
		fprintf(stderr, "usage: impair [options] INTERFACE INTERFACE; a queue has 1 to %d frames\n", QUEUE_MAX);
		exit(1);
	}
	self.name[0] = argv[optind];
	self.name[1] = argv[optind + 1];
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigset_t ends, none;

	options(argc, argv);
	sigemptyset(&none);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL); /* they come while it waits, and then only */
	prctl(PR_SET_TIMERSLACK, 1000ul);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	self.heap = calloc(self.queue_max, sizeof(*self.heap));
	self.spare = calloc(self.queue_max, sizeof(*self.spare));
	struct frame *frames = calloc(self.queue_max, sizeof(*frames));
	if (!self.heap || !self.spare || !frames)
		die("queue");
	while (self.spares < self.queue_max) {
		self.spare[self.spares] = &frames[self.spares];
		self.spares++;
	}
	for (unsigned side = 0; side < 2; side++) {
		self.from[side].random = self.seed * 2 + side;
		open_side(side);
	}
	fprintf(stderr, "ready\n");
	while (!ended) {
		struct pollfd polled[2] = {{.fd = self.fd[0], .events = POLLIN}, {.fd = self.fd[1], .events = POLLIN}};
		uint64_t now = now_us(), wait = self.count && self.heap[0]->due_us > now ? self.heap[0]->due_us - now : 0;
		struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000), .tv_nsec = (long)(wait % 1000000 * 1000)};
		if (ppoll(polled, 2, self.count ? &timeout : NULL, &none) < 0 && errno != EINTR)
			die("poll");
		for (unsigned side = 0; side < 2; side++)
			if (polled[side].revents & POLLIN)
				read_side(side);
		send_due();
	}
	say();
	return 0;
}
