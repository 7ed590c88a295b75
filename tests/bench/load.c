/*
 * load.c - many SMTP clients in one thread: connect, EHLO, perhaps STARTTLS, MAIL, RCPT, DATA, QUIT.
 *
 * Enters: the options below. Leaves: one line of JSON with what was done, exit 0; a session counts when all
 * of its replies were as they should be and the server has closed after QUIT, and as `failed` otherwise,
 * with the first failure in words. Nothing is written to a log, so that the load's own cost stays small.
 *
 *   load --connect ADDRESS:PORT [--sources ADDRESS/COUNT] [--parallel N] [--seconds T | --sessions K]
 *        [--starttls] [--ca FILE] [--resume] [--size BYTES] [--noop] [--hold]
 *
 *   --noop   no mail: NOOP and its reply over and over, each round trip timed, until the seconds are over
 *   --hold   sessions stay open behind RCPT; "held" on standard output, and they end with standard input
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "wire.h"

#define PARALLEL_MAX 20000
#define TIMES_MAX (1u << 22)  /* round trips or sessions whose time is kept */
#define DRAIN_US 15000000ull  /* for the sessions under way when the time is over */
#define FAILURES_MAX 2000     /* more, and the rest would fail too */
#define HOLD_OPENING_MAX 32   /* so that what is held is counted, not what opening many at once takes */
#define LINE_BYTES 64
#define BLOCK_BYTES 65536
#define SERVERNAME "sink.bench"

enum step { CONNECTING, BANNER, EHLO, STARTTLS, HANDSHAKE, EHLO_TLS, MAIL, RCPT, DATA, CONTENT, QUIT, CLOSING, NOOP, HELD, STEPS };

/* What is sent on entering the step, and the reply that ends it. */
static const struct { const char *name, *command, *reply; enum step next; } steps[STEPS] = {
	[CONNECTING] = {"connect", NULL, NULL, BANNER},
	[BANNER] = {"banner", NULL, "220", EHLO},
	[EHLO] = {"EHLO", "EHLO load.bench\r\n", "250", MAIL},
	[STARTTLS] = {"STARTTLS", "STARTTLS\r\n", "220", HANDSHAKE},
	[HANDSHAKE] = {"TLS handshake", NULL, NULL, EHLO_TLS},
	[EHLO_TLS] = {"EHLO in TLS", "EHLO load.bench\r\n", "250", MAIL},
	[MAIL] = {"MAIL", "MAIL FROM:<load@inside.bench>\r\n", "250", RCPT},
	[RCPT] = {"RCPT", "RCPT TO:<sink@outside.bench>\r\n", "250", DATA},
	[DATA] = {"DATA", "DATA\r\n", "354", CONTENT},
	[CONTENT] = {"end of DATA", NULL, "250", QUIT},
	[QUIT] = {"QUIT", "QUIT\r\n", "221", CLOSING},
	[CLOSING] = {"close", NULL, NULL, CLOSING},
	[NOOP] = {"NOOP", "NOOP\r\n", "250", NOOP},
	[HELD] = {"hold", NULL, NULL, QUIT},
};

struct session {
	int fd;
	SSL *ssl;
	enum step step;
	uint64_t began_us, sent_us;
	const char *out; /* what is still to be sent of a command */
	size_t out_len;
	uint64_t content_at; /* bytes of content, and of its final dot, that were sent */
	char line[512];
	size_t line_len;
	struct session *next_free;
};

static struct {
	struct sockaddr_in to, source;
	unsigned sources, parallel;
	uint64_t sessions, size, seconds_us;
	bool starttls, resume, noop, hold;
	SSL_CTX *ctx;
	SSL_SESSION *ticket;
	int epoll;
	struct session *free;
	char *block, *message; /* message: content and dot in one, where that is short */
	/* results */
	uint64_t begun, done, failed, tls, resumed, bytes, open, held, stuck;
	uint64_t content_us; /* from 354 to the reply, of all messages */
	uint32_t *times;
	uint32_t time_count;
	char error[160];
	uint64_t began_us, last_us, stop_us;
} load;

static void note_time(uint64_t us)
{
	if (load.time_count < TIMES_MAX)
		load.times[load.time_count++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* ---- bytes ---- */

/* >0: moved; 0: nothing more for now; -1: broken, -2: the peer has closed. */
static ssize_t result_of(struct session *s, ssize_t result)
{
	if (!s->ssl)
		return result > 0 ? result : result == 0 ? -2 : errno == EAGAIN ? 0 : -1;
	if (result > 0)
		return result;
	switch (SSL_get_error(s->ssl, (int)result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -2;
	default:
		return s->step == CLOSING ? -2 : -1;
	}
}

static ssize_t put(struct session *s, const char *bytes, size_t len)
{
	return result_of(s, s->ssl ? SSL_write(s->ssl, bytes, (int)len) : send(s->fd, bytes, len, MSG_NOSIGNAL));
}

static ssize_t get(struct session *s, char *bytes, size_t len)
{
	return result_of(s, s->ssl ? SSL_read(s->ssl, bytes, (int)len) : recv(s->fd, bytes, len, 0));
}

/* ---- sessions ---- */

static bool more_wanted(uint64_t now)
{
	if (load.failed > FAILURES_MAX)
		return false;
	if (load.hold)
		return load.begun < load.sessions && load.open - load.held < HOLD_OPENING_MAX;
	return load.sessions ? load.begun < load.sessions : now < load.stop_us;
}

static void end_session(struct session *s)
{
	if (s->ssl) {
		SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or its ticket is thrown away */
		SSL_free(s->ssl);
	}
	close(s->fd);
	load.open--;
	s->next_free = load.free;
	load.free = s;
}

static void fail(struct session *s, const char *what)
{
	if (!load.failed++) {
		unsigned long code = ERR_peek_error();
		snprintf(load.error, sizeof(load.error), "%s: %.60s%s%.60s", steps[s->step].name, what, code ? ": " : "",
		         code ? ERR_reason_error_string(code) : "");
	}
	ERR_clear_error();
	struct linger reset = {1, 0};
	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	end_session(s);
}

static void begin(uint64_t now)
{
	struct session *s = load.free;
	struct sockaddr_in from = load.source;
	int one = 1;

	load.free = s->next_free;
	memset(s, 0, sizeof(*s));
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		wire_die("socket");
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (load.sources) {
		from.sin_addr.s_addr = htonl(ntohl(from.sin_addr.s_addr) + (uint32_t)(load.begun % load.sources));
		setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(s->fd, (struct sockaddr *)&from, sizeof(from)))
			wire_die("bind");
	}
	s->began_us = now;
	load.begun++;
	load.open++;
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
	if (connect(s->fd, (struct sockaddr *)&load.to, sizeof(load.to)) && errno != EINPROGRESS)
		fail(s, strerror(errno));
	else if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, s->fd, &event))
		wire_die("epoll_ctl");
}

static void start_tls(struct session *s)
{
	s->ssl = SSL_new(load.ctx);
	SSL_set_fd(s->ssl, s->fd);
	SSL_set_tlsext_host_name(s->ssl, SERVERNAME);
	if (load.resume && load.ticket) { /* a copy: OpenSSL makes a session of TLS 1.3 useless once it was resumed */
		SSL_SESSION *copy = SSL_SESSION_dup(load.ticket);
		SSL_set_session(s->ssl, copy);
		SSL_SESSION_free(copy);
	}
	SSL_set_connect_state(s->ssl);
}

static void enter(struct session *s, enum step step)
{
	uint64_t now = wire_now_us();
	s->step = step;
	s->sent_us = now;
	if (steps[step].command) {
		s->out = steps[step].command;
		s->out_len = strlen(s->out);
	}
	if (step == HANDSHAKE)
		start_tls(s);
	if (step == CONTENT)
		s->content_at = 0;
	if (step == HELD)
		load.held++;
}

static void replied(struct session *s)
{
	enum step next = steps[s->step].next;
	uint64_t now = wire_now_us();

	if (s->step == EHLO && load.starttls)
		next = STARTTLS;
	else if ((s->step == EHLO || s->step == EHLO_TLS) && load.noop)
		next = NOOP;
	if (s->step == NOOP) {
		note_time(now - s->sent_us);
		if (now >= load.stop_us)
			next = QUIT;
	}
	if (s->step == RCPT && load.hold)
		next = HELD;
	if (s->step == CONTENT) {
		load.bytes += load.size;
		load.content_us += now - s->sent_us;
	}
	enter(s, next);
}

/* A whole line of a reply; false: it is not what should come. */
static bool line_in(struct session *s)
{
	const char *wanted = steps[s->step].reply;
	if (!wanted || s->line_len < 4 || memcmp(s->line, wanted, 3))
		return false;
	if (s->step == CONTENT && s->content_at < load.size + 3)
		return false; /* a reply before the end */
	if (s->line[3] != '-')
		replied(s);
	return true;
}

static bool read_replies(struct session *s, bool *moved)
{
	char bytes[4096];
	ssize_t got = get(s, bytes, sizeof(bytes));
	if (got == 0)
		return true;
	*moved = true;
	if (got == -2 && s->step == CLOSING) {
		if (s->ssl && !(SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN))
			SSL_set_shutdown(s->ssl, SSL_RECEIVED_SHUTDOWN);
		load.done++;
		load.last_us = wire_now_us();
		if (!load.noop)
			note_time(load.last_us - s->began_us);
		end_session(s);
		return false;
	}
	if (got < 0) {
		fail(s, got == -2 ? "closed by the server" : strerror(errno));
		return false;
	}
	for (ssize_t i = 0; i < got; i++) {
		if (s->line_len < sizeof(s->line))
			s->line[s->line_len++] = bytes[i];
		if (bytes[i] != '\n')
			continue;
		if (!line_in(s)) {
			s->line[s->line_len < 50 ? s->line_len - 1 : 50] = '\0';
			fail(s, s->line);
			return false;
		}
		s->line_len = 0;
		if (s->step == HANDSHAKE && i + 1 < got) {
			fail(s, "bytes behind 220");
			return false;
		}
	}
	return true;
}

static bool write_content(struct session *s, bool *moved)
{
	const uint64_t whole = load.size + 3;
	while (s->content_at < whole) {
		const char *from;
		size_t len;
		if (load.message) {
			from = load.message + s->content_at;
			len = whole - s->content_at;
		} else if (s->content_at < load.size) {
			uint64_t at = s->content_at % BLOCK_BYTES, left = load.size - s->content_at;
			from = load.block + at;
			len = left < BLOCK_BYTES - at ? left : BLOCK_BYTES - at;
		} else {
			from = ".\r\n" + (s->content_at - load.size);
			len = whole - s->content_at;
		}
		ssize_t sent = put(s, from, len);
		if (sent == 0)
			return true;
		if (sent < 0) {
			fail(s, strerror(errno));
			return false;
		}
		s->content_at += (uint64_t)sent;
		*moved = true;
	}
	return true;
}

static bool connected(struct session *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	struct sockaddr_in peer;
	socklen_t peer_len = sizeof(peer);
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		fail(s, strerror(error));
		return false;
	}
	if (getpeername(s->fd, (struct sockaddr *)&peer, &peer_len))
		return true; /* not yet */
	enter(s, BANNER);
	return true;
}

static bool shake_hands(struct session *s, bool *moved)
{
	int result = SSL_do_handshake(s->ssl);
	if (result == 1) {
		load.tls++;
		load.resumed += (uint64_t)SSL_session_reused(s->ssl);
		*moved = true;
		enter(s, EHLO_TLS);
		return true;
	}
	if (result_of(s, result) == 0)
		return true;
	fail(s, "failed");
	return false;
}

/* Does all that can be done now. The session may be gone afterwards. */
static void drive(struct session *s)
{
	bool moved = true;
	if (s->step == CONNECTING && !connected(s))
		return;
	while (moved && s->step != CONNECTING) {
		moved = false;
		if (s->step == HANDSHAKE) {
			if (!shake_hands(s, &moved))
				return;
			continue;
		}
		if (s->out_len) {
			ssize_t sent = put(s, s->out, s->out_len);
			if (sent < 0) {
				fail(s, strerror(errno));
				return;
			}
			s->out += sent;
			s->out_len -= (size_t)sent;
			moved = sent > 0;
		}
		if (s->step == CONTENT && !s->out_len && !write_content(s, &moved))
			return;
		if (!read_replies(s, &moved))
			return;
	}
}

/* ---- the run ---- */

static void release_held(struct session *all)
{
	for (unsigned i = 0; i < load.parallel; i++)
		if (all[i].step == HELD) {
			enter(&all[i], QUIT);
			drive(&all[i]);
		}
}

static bool standard_input_ended(void)
{
	char byte;
	return read(0, &byte, 1) == 0;
}

static void run(struct session *all)
{
	struct epoll_event events[256];
	bool told = false, released = false;

	load.began_us = load.last_us = wire_now_us();
	load.stop_us = load.seconds_us ? load.began_us + load.seconds_us : UINT64_MAX;
	for (;;) {
		uint64_t now = wire_now_us();
		while (load.free && more_wanted(now))
			begin(now);
		if (!load.open)
			return;
		if (load.hold && !told && load.held == load.open && load.begun == load.sessions) {
			printf("held %llu\n", (unsigned long long)load.held);
			fflush(stdout);
			fcntl(0, F_SETFL, O_NONBLOCK);
			told = true;
		}
		if (told && !released && standard_input_ended()) {
			released = true;
			load.stop_us = now;
			release_held(all);
		}
		if (load.stop_us != UINT64_MAX && now > load.stop_us + DRAIN_US) {
			load.stuck = load.open;
			for (unsigned i = 0; !load.failed && i < load.parallel; i++)
				if (all[i].fd && all[i].step != CLOSING)
					snprintf(load.error, sizeof(load.error), "stuck in %s", steps[all[i].step].name);
			return;
		}
		int count = epoll_wait(load.epoll, events, 256, 20);
		for (int i = 0; i < count; i++)
			drive(events[i].data.ptr);
	}
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static uint32_t percentile(unsigned permille)
{
	return load.time_count ? load.times[(uint64_t)(load.time_count - 1) * permille / 1000] : 0;
}

static void report(void)
{
	double seconds = (double)(load.last_us - load.began_us) / 1e6;
	qsort(load.times, load.time_count, sizeof(*load.times), ascending);
	for (char *p = load.error; *p; p++)
		*p = *p < ' ' || *p > '~' || *p == '"' || *p == '\\' ? ' ' : *p;
	printf("{\"sessions\": %llu, \"failed\": %llu, \"stuck\": %llu, \"tls\": %llu, \"resumed\": %llu, \"bytes\": %llu, "
	       "\"seconds\": %.6f, \"rate\": %.2f, \"content_seconds\": %.6f, \"times\": %u, \"p50_us\": %u, \"p99_us\": %u, \"error\": \"%s\"}\n",
	       (unsigned long long)load.done, (unsigned long long)load.failed, (unsigned long long)load.stuck, (unsigned long long)load.tls,
	       (unsigned long long)load.resumed, (unsigned long long)load.bytes, seconds, seconds > 0 ? (double)load.done / seconds : 0,
	       (double)load.content_us / 1e6, load.time_count, percentile(500), percentile(990), load.error);
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(load.ticket);
	load.ticket = session;
	return 1;
}

static void make_context(const char *ca)
{
	load.ctx = SSL_CTX_new(TLS_client_method());
	if (!load.ctx)
		wire_die("SSL_CTX_new");
	SSL_CTX_set_mode(load.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(load.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(load.ctx, keep_ticket);
	if (ca) {
		if (!SSL_CTX_load_verify_locations(load.ctx, ca, NULL))
			wire_die(ca);
		SSL_CTX_set_verify(load.ctx, SSL_VERIFY_PEER, NULL);
	}
}

static void make_content(void)
{
	load.size = (load.size + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	load.block = malloc(BLOCK_BYTES);
	for (size_t i = 0; i < BLOCK_BYTES; i++)
		load.block[i] = i % LINE_BYTES == LINE_BYTES - 2 ? '\r' : i % LINE_BYTES == LINE_BYTES - 1 ? '\n' : (char)('a' + i % 23);
	if (load.size > BLOCK_BYTES)
		return;
	load.message = malloc(load.size + 4);
	memcpy(load.message, load.block, load.size);
	memcpy(load.message + load.size, ".\r\n", 4);
}

static void options(int argc, char **argv)
{
	static const struct option known[] = {
		{"connect", 1, NULL, 'c'}, {"sources", 1, NULL, 'f'}, {"parallel", 1, NULL, 'p'}, {"seconds", 1, NULL, 't'}, {"sessions", 1, NULL, 'k'},
		{"starttls", 0, NULL, 's'}, {"ca", 1, NULL, 'a'}, {"resume", 0, NULL, 'r'}, {"size", 1, NULL, 'b'}, {"noop", 0, NULL, 'n'},
		{"hold", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
	const char *ca = NULL;
	char *slash;
	int option;

	load.parallel = 1;
	load.size = 4096;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'c': load.to = wire_address(optarg); break;
		case 'f':
			slash = strchr(optarg, '/');
			load.sources = slash ? (unsigned)atoi(slash + 1) : 1;
			load.source = wire_address(strtok(optarg, "/"));
			break;
		case 'p': load.parallel = (unsigned)atoi(optarg); break;
		case 't': load.seconds_us = (uint64_t)(atof(optarg) * 1e6); break;
		case 'k': load.sessions = strtoull(optarg, NULL, 10); break;
		case 's': load.starttls = true; break;
		case 'a': ca = optarg; break;
		case 'r': load.resume = true; break;
		case 'b': load.size = strtoull(optarg, NULL, 10); break;
		case 'n': load.noop = true; break;
		case 'h': load.hold = true; break;
		default: exit(2);
		}
	}
	if (!load.to.sin_port || optind < argc || !load.parallel || load.parallel > PARALLEL_MAX || (!load.sessions && !load.seconds_us))
		wire_die("usage: the head of load.c lists the options");
	if (load.hold)
		load.parallel = (unsigned)load.sessions;
	make_context(ca);
	make_content();
}

int main(int argc, char **argv)
{
	options(argc, argv);
	struct session *all = calloc(load.parallel, sizeof(*all));
	load.times = malloc(TIMES_MAX * sizeof(*load.times));
	load.epoll = epoll_create1(0);
	if (!all || !load.times || load.epoll < 0)
		wire_die("no memory");
	wire_raise_limits();
	for (unsigned i = load.parallel; i--;) {
		all[i].next_free = load.free;
		load.free = &all[i];
	}
	run(all);
	report();
	return 0;
}
