/*
 * sink.c - an SMTP server in one thread that throws mail away and counts what it was given.
 *
 * Enters: sessions, in clear, with STARTTLS, or in TLS from the first byte on. Leaves: for each line on standard
 * input one line of JSON with all counters since the last line "reset", so that whoever benches can check that
 * every session was what it claims: how many mails came inside TLS and how many in clear, bytes of content,
 * handshakes and how many of them were resumed, sessions that did not end with QUIT. The sink closes first, so
 * that TIME_WAIT is here and the client's ports are free at once.
 *
 *   sink --cert FILE --key FILE --listen ADDRESS:PORT ... --listen-tls ADDRESS:PORT ... [--no-resume] [--tls12]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "wire.h"

#define LISTENERS_MAX 16
#define LINE_MAX_BYTES 1024
#define OUT_BYTES 2048
#define READ_BYTES 65536
#define BACKLOG 4096

enum phase { HANDSHAKE, COMMANDS, CONTENT, CLOSING };

struct connection {
	int fd;
	SSL *ssl;
	enum phase phase;
	bool close_after; /* once what is to be sent has gone */
	bool tls_after;
	unsigned matched; /* characters of end_of_data */
	uint64_t content;
	size_t line_len, out_at, out_len;
	char line[LINE_MAX_BYTES], out[OUT_BYTES];
};

static struct listener { int fd; bool tls; } listeners[LISTENERS_MAX];
static unsigned listener_count;
static SSL_CTX *ctx;
static int epoll_fd;
static uint64_t open_count;

#define COUNTERS(X) X(accepted) X(sessions) X(tls) X(resumed) X(tls13) X(mails_tls) X(mails_clear) X(bytes) X(broken) X(injected) X(unknown)
static struct {
#define X(name) uint64_t name;
	COUNTERS(X)
#undef X
} count;

static const char end_of_data[] = "\r\n.\r\n";

/* ---- bytes ---- */

static void finish(struct connection *c, bool broken)
{
	count.broken += broken;
	if (c->ssl) {
		if (c->phase != HANDSHAKE && !broken)
			SSL_shutdown(c->ssl);
		ERR_clear_error();
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(c->ssl);
	}
	close(c->fd);
	free(c);
	open_count--;
}

/* As in load.c: >0 moved, 0 not now, -1 over. */
static ssize_t moved(struct connection *c, ssize_t result)
{
	if (result > 0)
		return result;
	if (!c->ssl)
		return result < 0 && errno == EAGAIN ? 0 : -1;
	int error = SSL_get_error(c->ssl, (int)result);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void say(struct connection *c, const char *text)
{
	size_t len = strlen(text);
	if (c->out_len + len > sizeof(c->out))
		return; /* a client that sends commands and reads no reply loses them */
	memcpy(c->out + c->out_len, text, len);
	c->out_len += len;
}

static void start_tls(struct connection *c)
{
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_accept_state(c->ssl);
	c->phase = HANDSHAKE;
	c->tls_after = false;
}

/* ---- SMTP ---- */

static bool is(const char *line, const char *verb)
{
	return strncasecmp(line, verb, strlen(verb)) == 0;
}

static void command(struct connection *c)
{
	const char *line = c->line;
	if (is(line, "EHLO")) {
		say(c, c->ssl ? "250-sink.bench\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n"
		              : "250-sink.bench\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 SIZE 0\r\n");
	} else if (is(line, "STARTTLS") && !c->ssl) {
		say(c, "220 2.0.0 go ahead\r\n");
		c->tls_after = true;
	} else if (is(line, "DATA")) {
		say(c, "354 go on\r\n");
		c->phase = CONTENT;
		c->matched = 2; /* the line of DATA ended with CRLF */
		c->content = 0;
	} else if (is(line, "QUIT")) {
		say(c, "221 2.0.0 bye\r\n");
		count.sessions++;
		c->close_after = true;
		c->phase = CLOSING;
	} else {
		if (!is(line, "MAIL") && !is(line, "RCPT") && !is(line, "NOOP") && !is(line, "RSET") && !is(line, "HELO"))
			count.unknown++;
		say(c, "250 2.0.0 ok\r\n");
	}
}

/* Bytes of content; returns how many belonged to it. */
static size_t content(struct connection *c, const char *bytes, size_t len)
{
	const char *p = bytes, *end = bytes + len;
	while (p < end) {
		if (!c->matched) {
			p = memchr(p, '\r', (size_t)(end - p));
			if (!p)
				break;
			c->matched = 1;
			p++;
			continue;
		}
		char byte = *p++;
		if (byte != end_of_data[c->matched]) {
			c->matched = byte == '\r';
		} else if (++c->matched == 5) {
			c->content += (uint64_t)(p - bytes) - 3; /* without the dot's line */
			count.bytes += c->content;
			*(c->ssl ? &count.mails_tls : &count.mails_clear) += 1;
			c->phase = COMMANDS;
			say(c, "250 2.0.0 taken\r\n");
			return (size_t)(p - bytes);
		}
	}
	c->content += len;
	return len;
}

static void input(struct connection *c, const char *bytes, size_t len)
{
	while (len && !c->close_after) {
		if (c->phase == CONTENT) {
			size_t used = content(c, bytes, len);
			bytes += used;
			len -= used;
			continue;
		}
		if (c->tls_after) {
			count.injected++;
			c->close_after = true;
			return;
		}
		if (c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = *bytes;
		if (*bytes == '\n') {
			c->line[c->line_len] = '\0';
			c->line_len = 0;
			command(c);
		}
		bytes++;
		len--;
	}
}

/* ---- connections ---- */

/* 1: all has gone, 0: not yet, -1: broken. */
static int flush(struct connection *c)
{
	while (c->out_at < c->out_len) {
		const char *from = c->out + c->out_at;
		size_t len = c->out_len - c->out_at;
		ssize_t sent = moved(c, c->ssl ? SSL_write(c->ssl, from, (int)len) : send(c->fd, from, len, MSG_NOSIGNAL));
		if (sent <= 0)
			return (int)sent;
		c->out_at += (size_t)sent;
	}
	c->out_at = c->out_len = 0;
	return 1;
}

/* 1: done, 0: not yet, -1: broken. */
static int shake_hands(struct connection *c)
{
	int result = SSL_do_handshake(c->ssl);
	if (result != 1)
		return (int)moved(c, result);
	count.tls++;
	count.resumed += (uint64_t)SSL_session_reused(c->ssl);
	count.tls13 += SSL_version(c->ssl) == TLS1_3_VERSION;
	c->phase = COMMANDS;
	return 1;
}

static void drive(struct connection *c)
{
	static char bytes[READ_BYTES];
	for (;;) {
		int sent = flush(c);
		if (sent < 0 || (sent && c->close_after)) {
			finish(c, sent < 0 || c->phase != CLOSING);
			return;
		}
		if (!sent)
			return;
		if (c->tls_after)
			start_tls(c);
		if (c->phase == HANDSHAKE) {
			int done = shake_hands(c);
			if (done < 0)
				finish(c, true);
			if (done <= 0)
				return;
			continue;
		}
		ssize_t got = moved(c, c->ssl ? SSL_read(c->ssl, bytes, sizeof(bytes)) : recv(c->fd, bytes, sizeof(bytes), 0));
		if (got < 0)
			finish(c, true);
		if (got <= 0)
			return;
		input(c, bytes, (size_t)got);
	}
}

static void take_connections(const struct listener *listener)
{
	int fd, one = 1;
	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct connection *c = calloc(1, sizeof(*c));
		if (!c)
			wire_die("calloc");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->fd = fd;
		c->phase = COMMANDS;
		count.accepted++;
		open_count++;
		struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
			wire_die("epoll_ctl");
		if (listener->tls)
			start_tls(c); /* writing the banner shakes hands */
		memcpy(c->out, "220 sink.bench ESMTP\r\n", 22);
		c->out_len = 22;
		drive(c);
	}
}

static void answer(void)
{
	char line[64];
	if (!fgets(line, sizeof(line), stdin))
		exit(0);
	printf("{\"open\": %llu", (unsigned long long)open_count);
#define X(name) printf(", \"" #name "\": %llu", (unsigned long long)count.name);
	COUNTERS(X)
#undef X
	printf("}\n");
	fflush(stdout);
	if (!strcmp(line, "reset\n"))
		memset(&count, 0, sizeof(count));
}

static void listen_at(const char *text, bool tls)
{
	struct sockaddr_in address = wire_address(text);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (listener_count == LISTENERS_MAX)
		wire_die("too many --listen");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG))
		wire_die(text);
	listeners[listener_count++] = (struct listener){fd, tls};
}

static void make_context(const char *cert, const char *key, bool resume, bool tls12)
{
	ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx || !cert || !key || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		wire_die("--cert and --key");
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"sink", 4);
	if (tls12)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	if (!resume) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(ctx, 0);
	} else {
		SSL_CTX_set_num_tickets(ctx, 1);
	}
}

static void serve(void)
{
	struct epoll_event events[256];
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);
		for (int i = 0; i < n; i++) {
			void *who = events[i].data.ptr;
			if (!who)
				answer();
			else if ((struct listener *)who >= listeners && (struct listener *)who < listeners + LISTENERS_MAX)
				take_connections(who);
			else
				drive(who);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option known[] = {{"cert", 1, NULL, 'c'}, {"key", 1, NULL, 'k'}, {"listen", 1, NULL, 'l'}, {"listen-tls", 1, NULL, 't'},
	                                      {"no-resume", 0, NULL, 'n'}, {"tls12", 0, NULL, '2'}, {NULL, 0, NULL, 0}};
	const char *cert = NULL, *key = NULL;
	bool resume = true, tls12 = false;
	int option;

	wire_raise_limits();
	setvbuf(stdin, NULL, _IONBF, 0); /* epoll is asked again for the next line */
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'c': cert = optarg; break;
		case 'k': key = optarg; break;
		case 'l': listen_at(optarg, false); break;
		case 't': listen_at(optarg, true); break;
		case 'n': resume = false; break;
		case '2': tls12 = true; break;
		default: exit(2);
		}
	}
	if (!listener_count || optind < argc)
		wire_die("usage: the head of sink.c lists the options");
	make_context(cert, key, resume, tls12);
	epoll_fd = epoll_create1(0);
	for (unsigned i = 0; i < listener_count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listeners[i]};
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listeners[i].fd, &event);
	}
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event))
		wire_die("standard input must be a pipe");
	printf("ready\n");
	fflush(stdout);
	serve();
}
