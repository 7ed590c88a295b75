/*
 * stack.c - the TCP of an endpoint is Linux's: sockets behind TAP devices, under the names of worker/stack.c.
 *
 * Enters: what an application writes; frames at the end of a link, which go onto the wire. Leaves: what the socket
 * gives, at most READ_AHEAD_MAX beyond what the application has taken, so that one that reads slowly closes its
 * window. What the kernel sends is read off the wire by linux_sim.c.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "linux.h"
#include "net.h"

enum { READ_AHEAD_MAX = 4096, DRAIN_EVERY_US = 10000, USER_TIMEOUT_MS = 60000 };

static void stack_end(struct stack *s, enum stack_state state)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->state = state;
	s->timer_us = NEVER;
}

static void died(struct stack *s, int error)
{
	trace_note(s->session, "%s: %s", s->side == CLIENT ? "client" : "server", strerror(error));
	s->reset = error != ETIMEDOUT;
	s->gave_up = error == ETIMEDOUT;
	stack_end(s, STACK_CLOSED);
}

static bool would_block(void) { return errno == EAGAIN || errno == EINPROGRESS || errno == EALREADY; }

static void wake(struct stack *s)
{
	struct session *session = s->session;
	uint64_t *at = s->side == CLIENT ? &session->client.wake_us : &session->server.wake_us;
	uint32_t lazy = s->side == CLIENT ? session->client.lazy_us : session->server.lazy_us;
	if (*at > sim.now_us + lazy)
		*at = sim.now_us + below(&session->rng, lazy);
}

static void set_up(struct stack *s)
{
	int nodelay = !s->nagle, timeout = USER_TIMEOUT_MS;
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

void stack_congestion(int fd, uint32_t drawn)
{
	static const char *const names[] = {"cubic", "reno", "bbr"};
	const char *name = names[drawn % 3];
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)); /* a kernel may lack it: then its default */
}

/* ---- moving bytes ---- */

static void write_out(struct stack *s)
{
	while (s->state == STACK_OPEN && s->nxt < s->out.len) {
		size_t len = s->out.len - s->nxt;
		bool piecewise = s->nxt < s->segment_max_until && len > s->segment_max;
		if (piecewise)
			len = s->segment_max;
		ssize_t n = send(s->fd, s->out.bytes + s->nxt, len, MSG_NOSIGNAL);
		if (n < 0) {
			if (!would_block())
				died(s, errno);
			return;
		}
		s->nxt += (uint32_t)n;
	}
	if (s->state == STACK_OPEN && s->closing && !s->fin_sent) {
		shutdown(s->fd, SHUT_WR);
		s->fin_sent = true;
	}
}

static void read_in(struct stack *s)
{
	while (s->state == STACK_OPEN && !s->fin_known && s->next - s->read < READ_AHEAD_MAX) {
		uint8_t bytes[READ_AHEAD_MAX];
		ssize_t n = recv(s->fd, bytes, READ_AHEAD_MAX - (s->next - s->read), 0);
		if (n < 0) {
			if (!would_block()) {
				died(s, errno);
				wake(s);
			}
			return;
		}
		if (n == 0) {
			s->fin_known = true;
			s->fin_at = s->next;
		}
		buffer_add(&s->in, bytes, (size_t)n);
		s->next += (uint32_t)n;
		wake(s);
	}
}

/* Both ends are said and acknowledged, or the peer has reset: the kernel's part is over. */
static void drained(struct stack *s)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	int unacknowledged;
	if (s->state != STACK_OPEN || !s->fin_known || !s->fin_sent)
		return;
	s->timer_us = sim.now_us + DRAIN_EVERY_US;
	if (!ioctl(s->fd, SIOCOUTQ, &unacknowledged) && !unacknowledged)
		stack_end(s, STACK_CLOSED);
	else if (!getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) && info.tcpi_state == TCP_CLOSE)
		died(s, ECONNRESET);
}

static void connected(struct stack *s)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int), peer_len = sizeof(peer);
	int error = 0;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		died(s, error);
		wake(s);
	} else if (!getpeername(s->fd, (struct sockaddr *)&peer, &peer_len)) {
		s->state = STACK_OPEN;
		s->synced = true;
	}
}

void stack_broken(struct stack *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (s->state != STACK_OPEN || !s->fin_known || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) || !error)
		return; /* what can be read is read first, and then says so itself */
	died(s, error);
	wake(s);
}

void stack_move(struct stack *s)
{
	if (s->state == STACK_SYN_SENT)
		connected(s);
	write_out(s);
	read_in(s);
	drained(s);
}

void stack_output(struct stack *s)
{
	write_out(s);
	drained(s);
}

/* ---- opening and ending ---- */

void stack_connect(struct stack *s)
{
	const struct path *path = &s->session->path;
	struct sockaddr_storage address;
	int on = 1, room = (int)s->receive_buffer, mss = s->mtu_mss;

	s->fd = net_socket(stack_port(s), path->family == 4 ? AF_INET : AF_INET6);
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	setsockopt(s->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
	set_up(s);
	stack_congestion(s->fd, draw(&s->session->rng));
	socklen_t len = net_address(&address, path->family, path->addr[CLIENT], path->port[CLIENT]);
	require(s->session, !bind(s->fd, (struct sockaddr *)&address, len), "bind: %s", strerror(errno));
	len = net_address(&address, path->family, path->addr[SERVER], path->port[SERVER]);
	s->state = STACK_SYN_SENT;
	if (connect(s->fd, (struct sockaddr *)&address, len) && !would_block())
		died(s, errno);
}

void stack_accepted(struct stack *s, int fd)
{
	s->fd = fd;
	s->state = STACK_OPEN;
	s->synced = true;
	set_up(s);
	wake(s);
}

void stack_close(struct stack *s)
{
	s->closing = true;
	if (s->state == STACK_SYN_SENT || s->state == STACK_LISTEN)
		stack_end(s, STACK_CLOSED);
	write_out(s);
}

void stack_abort(struct stack *s)
{
	struct linger now = {.l_onoff = 1};
	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (!stack_over(s))
		stack_end(s, STACK_CLOSED);
}

void stack_vanish(struct stack *s) /* as when a cable is cut */
{
	s->session->link[s->side].loss = 1000;
	stack_abort(s);
	s->state = STACK_VANISHED;
}

void stack_free(struct stack *s)
{
	if (s->fd >= 0)
		close(s->fd);
	buffer_free(&s->out);
	buffer_free(&s->in);
}

/* ---- what the links and the run ask ---- */

void stack_frame(struct stack *s, const uint8_t *frame, size_t len, bool own, bool damaged, bool icmp)
{
	(void)own, (void)damaged;
	if (!icmp)
		trace_frame(s->session, TRACE_ARRIVES, side_other(s->side), frame, len);
	net_write(stack_port(s), frame, len);
}

uint64_t stack_deadline(const struct stack *s) { return s->timer_us; }
void stack_timer(struct stack *s) { stack_move(s); }
