/*
 * linux_sim.c - the sessions of worker_sim.c, with Linux's own TCP at both ends: --seed S --runs N [--verbose].
 *
 *   sockets ─ Linux ─ TAP ─ link ─▶ worker (waxseald's own objects) ─▶ link ─ TAP ─ Linux ─ sockets
 *
 * Applications, links with their impairments, policy and judges are those of worker_sim.c; a stack is a socket in a
 * namespace (linux/). What is drawn from the seed is the same each time, but the kernel's timing is its own: a
 * replay meets the same mails, peers and rules, not the same packets. Time is real while anything is under way, so
 * sessions run beside each other and what lasts for minutes is left to worker_sim.c; once all sockets are closed, the
 * worker's clock leaps from timer to timer until its flows have aged.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "linux/linux.h"
#include "linux/net.h"

enum { FRESH_RUNS = 3, POLL_MAX = 2 * SESSIONS_MAX + 2 * PORTS + PORTS, FAMILIES = 2 };
#define RUN_REAL_MAX_US (120 * SECOND)
#define PAUSE_MAX_US (3 * SECOND)
#define ABORT_MIN_US (25 * SECOND)
#define ABORT_MAX_US (80 * SECOND)
#define ABORT_SERVER_US (10 * SECOND)

static int listener[PORTS][FAMILIES];
static uint64_t leapt_us; /* what the worker's clock is ahead */
static unsigned run_index;

static uint64_t clock_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec / 1000 + leapt_us;
}

/* ---- what is drawn otherwise ---- */

static void setting(void)
{
	sim.stopped = false;
	sim.sessions = SESSIONS_MAX;
	for (int p = 0; p < PORTS; p++) {
		unsigned tcp = (chance(&sim.rng, 800) ? NET_SACK : 0) | (chance(&sim.rng, 700) ? NET_TIMESTAMPS : 0) |
		               (chance(&sim.rng, 800) ? NET_WINDOW_SCALING : 0) | (chance(&sim.rng, 300) ? NET_ECN : 0);
		int room = chance(&sim.rng, 500) ? 200000 : 3000 + (int)below(&sim.rng, 60000), mss = 536 + (int)below(&sim.rng, 925);
		net_tune(p, tcp);
		for (int f = 0; f < FAMILIES; f++) { /* a server's socket is as its listener */
			setsockopt(listener[p][f], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
			setsockopt(listener[p][f], IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
			stack_congestion(listener[p][f], draw(&sim.rng));
		}
	}
}

static void at_most(uint64_t *value, uint64_t most) { *value = *value < most ? *value : most; }

static void adapt(struct session *session)
{
	struct path *path = &session->path;
	for (int s = 0; s < SIDES; s++) {
		struct stack *stack = &session->stack[s];
		struct impairment *link = &session->link[s];
		path->ttl[s] = 64;
		path->dscp[s] = 0;
		path->label[s] = 0;
		path->addr[s][path->family == 4 ? 3 : 15] = (uint8_t)(1 + run_index % NET_ADDRESSES); /* no port in TIME-WAIT is met */
		memcpy(path->mac[s], net_mac(stack_port(stack)), 6);
		stack->fd = -1;
		stack->timer_us = NEVER;
		link->loss = link->loss < 50 ? link->loss : 50;
	}
	path->vlan = 0;
	session->start_us = sim.now_us + below(&session->rng, 2 * SECOND);
	struct client *c = &session->client;
	struct server *s = &session->server;
	c->wake_us = s->wake_us = session->start_us;
	at_most(&c->pause_us, PAUSE_MAX_US);
	at_most(&s->pause_us, PAUSE_MAX_US);
	c->lazy_us = c->lazy_us < 20000 ? c->lazy_us : 20000;
	s->lazy_us = s->lazy_us < 20000 ? s->lazy_us : 20000;
	/* Who is cut, or whose peer is, and never hears of it, would wait for all of its patience. */
	uint64_t end_us = session->start_us + (session->well_behaved && (!c->starttls || s->tls_way == TLS_WAY_GOOD) ? ABORT_MAX_US : ABORT_MIN_US);
	at_most(&c->abort_at_us, end_us);
	at_most(&s->abort_at_us, end_us + ABORT_SERVER_US);
	c->vanish_at_us = s->vanish_at_us = NEVER; /* a kernel notices after a quarter of an hour */
	if (s->tls_way == TLS_WAY_STALL)
		s->tls_way = TLS_WAY_GARBAGE;
}

/* ---- from the kernel ---- */

/* The numbers that tap.c and trace.c know a stack by, when a SYN tells them. */
static void learn(struct session *session, enum side from, const struct segment *s)
{
	struct stack *own = &session->stack[from], *other = &session->stack[side_other(from)];
	if (!(s->flags & F_SYN))
		return;
	own->iss = s->seq;
	own->offers_wscale = s->has_wscale;
	own->own_scale = s->wscale;
	if (s->flags & F_ACK)
		own->wscale_on = other->wscale_on = own->offers_wscale && other->offers_wscale;
}

static void read_wire(enum port_side port)
{
	uint8_t frame[FRAME_MAX];
	struct segment segment;
	bool from_client;
	size_t len;
	while ((len = net_read(port, frame, sizeof(frame)))) {
		unsigned type = (unsigned)frame[12] << 8 | frame[13];
		if (len < 54 || (type != 0x0800 && type != 0x86dd) || frame[type == 0x0800 ? 23 : 20] != IPPROTO_TCP)
			continue;
		unsigned index = frame_client_port(frame, len, &from_client) - 40000u;
		if (index >= sim.sessions)
			continue;
		struct session *session = &sim.session[index];
		enum side from = from_client ? CLIENT : SERVER;
		if (stack_port(&session->stack[from]) != port || frame_parse(frame, len, &session->path, from, &segment))
			continue; /* of a session of an earlier run */
		learn(session, from, &segment);
		link_send(session, from, true, frame, len, ORIGIN_PEER);
	}
}

static void accept_all(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int taken;
	while ((taken = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		unsigned index = ntohs(((struct sockaddr_in *)&peer)->sin_port) - 40000u; /* it stands at one place in both families */
		struct stack *stack = index < sim.sessions ? &sim.session[index].stack[SERVER] : NULL;
		if (stack && stack->state == STACK_LISTEN)
			stack_accepted(stack, taken);
		else
			close(taken);
	}
}

static void listen_everywhere(void)
{
	static const uint8_t any[16];
	for (int p = 0; p < PORTS; p++) {
		for (int f = 0; f < FAMILIES; f++) {
			struct sockaddr_storage address;
			int family = f ? AF_INET6 : AF_INET, on = 1;
			int fd = listener[p][f] = net_socket(p, family);
			if (f)
				setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
			socklen_t len = net_address(&address, f ? 6 : 4, any, 25);
			require(NULL, !bind(fd, (struct sockaddr *)&address, len) && !listen(fd, SESSIONS_MAX), "listen: %s", strerror(errno));
		}
	}
}

/* ---- a run ---- */

/* Waits until `until_us` or until the kernel has something, and takes it. */
static void wait_and_take(uint64_t until_us)
{
	struct pollfd fds[POLL_MAX];
	struct stack *stacks[POLL_MAX];
	unsigned n = 0;
	for (int p = 0; p < PORTS; p++) {
		fds[n++] = (struct pollfd){.fd = net_fd(p), .events = POLLIN};
		for (int f = 0; f < FAMILIES; f++)
			fds[n++] = (struct pollfd){.fd = listener[p][f], .events = POLLIN};
	}
	unsigned first = n;
	for (unsigned i = 0; i < sim.sessions; i++) {
		for (int s = 0; s < SIDES; s++) {
			struct stack *stack = &sim.session[i].stack[s];
			bool writes = stack->state == STACK_SYN_SENT || stack->nxt < stack->out.len, reads = stack->next - stack->read < 4096 && !stack->fin_known;
			stacks[n] = stack;
			fds[n++] = (struct pollfd){.fd = stack->fd, .events = (short)((writes ? POLLOUT : 0) | (reads ? POLLIN : 0))};
		}
	}
	uint64_t now = clock_us(), left = until_us > now ? until_us - now : 0;
	struct timespec most = {.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND) * 1000};
	require(NULL, ppoll(fds, n, left > SECOND ? &(struct timespec){.tv_sec = 1} : &most, NULL) >= 0, "poll: %s", strerror(errno));
	sim.now_us = clock_us();
	for (int p = 0; p < PORTS; p++) {
		read_wire(p);
		for (int f = 0; f < FAMILIES; f++)
			accept_all(listener[p][f]);
	}
	for (unsigned i = first; i < n; i++) {
		if (fds[i].revents & (POLLERR | POLLHUP))
			stack_broken(stacks[i]);
		if (fds[i].revents)
			stack_move(stacks[i]);
	}
}

/* The first one whose sockets are not closed. */
static const struct session *one_open(void)
{
	for (unsigned i = 0; i < sim.sessions; i++) {
		const struct session *s = &sim.session[i];
		bool server = stack_over(&s->stack[SERVER]) || s->stack[SERVER].state == STACK_LISTEN;
		if (!s->started || !stack_over(&s->stack[CLIENT]) || !server || !s->client.over)
			return s;
	}
	return NULL;
}

static void check_time(const struct session *s, uint64_t limit_us)
{
	const struct stack *c = &s->stack[CLIENT], *r = &s->stack[SERVER];
	require(s, clock_us() < limit_us, "does not end: client state %d, written %u of %zu, read %u of %u; server %d, %u of %zu, %u of %u",
	        (int)c->state, c->nxt, c->out.len, c->read, c->next, (int)r->state, r->nxt, r->out.len, r->read, r->next);
}

static void run(uint64_t seed)
{
	sim.now_us = clock_us();
	run_begin(seed);
	uint64_t limit_us = sim.now_us + RUN_REAL_MAX_US;
	do {
		uint64_t next = run_next_us(), now = clock_us();
		const struct session *open = one_open();
		if (open)
			check_time(open, limit_us);
		else if (link_next_us() == NEVER && next > now)
			leapt_us += next - now;
		wait_and_take(next);
	} while (run_step());
	run_end();
	run_index++;
}

int main(int argc, char **argv)
{
	uint64_t seed = 0, runs = 0;
	sim_begin("linux_sim", "sim-linux", argc, argv, &seed, &runs);
	sim.setting = setting;
	sim.adapt = adapt;
	net_make();
	listen_everywhere();
	if (!seed) {
		seed = sim_fresh_seed();
		runs = runs ? runs : FRESH_RUNS;
	}
	for (uint64_t i = 0; i < (runs ? runs : 1); i++)
		run(seed + i);
	sim_report(seed, runs ? runs : 1);
	sim_end();
	return 0;
}
