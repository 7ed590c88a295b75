/*
 * probe.c - the dialogue: a state for each reply that is waited for, one line buffer, OpenSSL over the same socket.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "private.h"

#define COMMAND_MAX 300

enum probe_state { CONNECTING, BANNER, EHLO, STARTTLS, HANDSHAKE, QUIT_TLS, QUIT_CLEAR, ENDED };

struct probe {
	struct prober *prober;
	enum probe_state state;
	int fd;
	SSL *ssl;
	bool wants_write, offered;
	uint16_t only;
	char mx[IMAGE_DOMAIN_MAX + 1];
	char out[COMMAND_MAX];
	size_t out_len, out_sent;
	char in[PROBE_REPLY_MAX];
	size_t in_len;
	struct probe_posture posture;
};

static void enter_state(struct probe *probe, enum probe_state state)
{
	static const unsigned edges[] = {
		[CONNECTING] = 1u << BANNER | 1u << ENDED,
		[BANNER] = 1u << EHLO | 1u << QUIT_CLEAR | 1u << ENDED,
		[EHLO] = 1u << STARTTLS | 1u << QUIT_CLEAR | 1u << ENDED,
		[STARTTLS] = 1u << HANDSHAKE | 1u << QUIT_CLEAR | 1u << ENDED,
		[HANDSHAKE] = 1u << QUIT_TLS | 1u << ENDED,
		[QUIT_TLS] = 1u << ENDED, [QUIT_CLEAR] = 1u << ENDED, [ENDED] = 0,
	};

	if (!(edges[probe->state] & 1u << state)) {
		fprintf(stderr, "waxseal: probe: no way from state %d to %d\n", probe->state, state);
		abort();
	}
	probe->state = state;
}

static void end(struct probe *probe)
{
	if (probe->state == ENDED)
		return;
	enter_state(probe, ENDED);
	if (probe->ssl) {
		SSL_set_quiet_shutdown(probe->ssl, 1);
		SSL_free(probe->ssl);
	}
	probe->ssl = NULL;
	if (probe->fd >= 0)
		close(probe->fd);
	probe->fd = -1;
	ERR_clear_error();
}

__attribute__((format(printf, 2, 3))) static void fail(struct probe *probe, const char *format, ...)
{
	va_list args;

	if (!probe->posture.error[0] && probe->state != QUIT_TLS && probe->state != QUIT_CLEAR) {
		va_start(args, format);
		vsnprintf(probe->posture.error, sizeof(probe->posture.error), format, args);
		va_end(args);
	}
	end(probe);
}

void probe_give_up(struct probe *probe, const char *why)
{
	fail(probe, "%s", why);
}

/* ---- bytes ---- */

/* 1: done, 0: later, -1: it has ended. */
static int send_rest(struct probe *probe)
{
	while (probe->out_sent < probe->out_len) {
		size_t left = probe->out_len - probe->out_sent;
		int n = probe->ssl ? SSL_write(probe->ssl, probe->out + probe->out_sent, (int)left)
				   : (int)send(probe->fd, probe->out + probe->out_sent, left, MSG_NOSIGNAL);
		bool again = probe->ssl ? n <= 0 && SSL_get_error(probe->ssl, n) == SSL_ERROR_WANT_WRITE : n < 0 && (errno == EAGAIN || errno == EINTR);
		if (again) {
			probe->wants_write = true;
			return 0;
		}
		if (n <= 0) {
			fail(probe, "cannot send");
			return -1;
		}
		probe->out_sent += (size_t)n;
	}
	probe->wants_write = false;
	return 1;
}

/* Sent by probe_step(), which knows whether it goes in clear. */
__attribute__((format(printf, 2, 3))) static void command(struct probe *probe, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int len = vsnprintf(probe->out, sizeof(probe->out), format, args);
	va_end(args);
	probe->out_len = len > 0 && (size_t)len < sizeof(probe->out) ? (size_t)len : 0;
	probe->out_sent = 0;
}

/* 1: something came, 0: later, -1: it has ended. */
static int receive(struct probe *probe)
{
	size_t room = sizeof(probe->in) - probe->in_len;

	if (!room) {
		fail(probe, "a reply longer than %d bytes", PROBE_REPLY_MAX);
		return -1;
	}
	ssize_t n = probe->ssl ? SSL_read(probe->ssl, probe->in + probe->in_len, (int)room) : recv(probe->fd, probe->in + probe->in_len, room, 0);
	if (n > 0) {
		probe->in_len += (size_t)n;
		return 1;
	}
	bool again = probe->ssl ? SSL_get_error(probe->ssl, (int)n) == SSL_ERROR_WANT_READ : n < 0 && (errno == EAGAIN || errno == EINTR);
	if (!again)
		fail(probe, n == 0 && !probe->ssl ? "the server hung up" : "the connection broke");
	return again ? 0 : -1;
}

/* A keyword of the EHLO reply, on a line of its own. */
static bool line_offers(const char *line, size_t len)
{
	static const char word[] = "STARTTLS";
	size_t n = sizeof(word) - 1;

	return len >= 4 + n && !strncasecmp(line + 4, word, n) && (len == 4 + n || line[4 + n] == ' ');
}

/* The code of a whole reply, 0: not all of it is there, -1: it is none. Takes it out of the buffer. */
static int take_reply(struct probe *probe)
{
	size_t at = 0;

	probe->offered = false;
	for (char *newline; (newline = memchr(probe->in + at, '\n', probe->in_len - at)); ) {
		const char *line = probe->in + at;
		size_t len = (size_t)(newline - line);
		at += len + 1;
		if (len && line[len - 1] == '\r')
			len--;
		if (len < 3 || strspn(line, "0123456789") < 3 || (len > 3 && line[3] != '-' && line[3] != ' '))
			return -1;
		probe->offered |= line_offers(line, len);
		if (len > 3 && line[3] == '-')
			continue;
		int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
		memmove(probe->in, probe->in + at, probe->in_len - at);
		probe->in_len -= at;
		return code;
	}
	return 0;
}

/* ---- the dialogue ---- */

static void quit(struct probe *probe, enum probe_state state)
{
	enter_state(probe, state);
	command(probe, "QUIT\r\n");
}

static void take_code(struct probe *probe, int code)
{
	switch (probe->state) {
	case BANNER:
		if (code != 220) {
			fail(probe, "the server's greeting is %d", code);
			return;
		}
		probe->posture.reached = true;
		enter_state(probe, EHLO);
		command(probe, "EHLO %s\r\n", probe->prober->helo);
		return;
	case EHLO:
		probe->posture.starttls = code == 250 && probe->offered;
		if (!probe->posture.starttls) {
			snprintf(probe->posture.error, sizeof(probe->posture.error), code == 250 ? "STARTTLS is not offered" : "EHLO is answered %d", code);
			quit(probe, QUIT_CLEAR);
			return;
		}
		enter_state(probe, STARTTLS);
		command(probe, "STARTTLS\r\n");
		return;
	case STARTTLS:
		if (code != 220) {
			snprintf(probe->posture.error, sizeof(probe->posture.error), "STARTTLS is answered %d", code);
			quit(probe, QUIT_CLEAR);
			return;
		}
		if (probe->in_len) { /* CVE-2011-0411, the other way round */
			fail(probe, "plaintext behind the 220 to STARTTLS");
			return;
		}
		enter_state(probe, HANDSHAKE);
		SSL_set_fd(probe->ssl, probe->fd);
		return;
	case QUIT_TLS:
	case QUIT_CLEAR:
		end(probe);
		return;
	case CONNECTING:
	case HANDSHAKE:
	case ENDED:
		break;
	}
}

static bool shake(struct probe *probe)
{
	int n = SSL_connect(probe->ssl), why = SSL_get_error(probe->ssl, n);

	probe->wants_write = n <= 0 && why == SSL_ERROR_WANT_WRITE;
	if (n == 1) {
		inspect(probe->prober, probe->ssl, &probe->posture);
		versions_after_success(&probe->posture, probe->posture.version, probe->only);
		quit(probe, QUIT_TLS);
		return true;
	}
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return false;
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	versions_after_failure(&probe->posture, probe->only, why, ERR_peek_error(), errno);
	fail(probe, "the TLS handshake failed: %s", reason ? reason : "the connection broke");
	return false;
}

static bool connected(struct probe *probe)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error) {
		fail(probe, "cannot connect: %s", strerror(error ? error : errno));
		return false;
	}
	probe->wants_write = false;
	enter_state(probe, BANNER);
	return true;
}

bool probe_step(struct probe *probe)
{
	SSL *clear = NULL;
	bool on = true;

	ERR_clear_error();
	while (on && probe->state != ENDED) {
		if (probe->state == CONNECTING) {
			on = connected(probe);
			continue;
		}
		if (probe->state == HANDSHAKE) {
			on = shake(probe);
			continue;
		}
		/* Until the handshake the SSL is there, but the bytes are the socket's. */
		if (probe->state != QUIT_TLS) {
			clear = probe->ssl;
			probe->ssl = NULL;
		}
		int code = 0;
		on = send_rest(probe) > 0;
		if (on && (code = take_reply(probe)) == 0)
			on = receive(probe) > 0;
		if (clear && probe->state != ENDED)
			probe->ssl = clear;
		else
			SSL_free(clear);
		clear = NULL;
		if (on && code < 0)
			fail(probe, "a reply that is none of SMTP's");
		else if (on && code > 0)
			take_code(probe, code);
	}
	return probe->state != ENDED;
}

/* ---- start and end ---- */

static int open_socket(const struct probe *probe, const struct probe_target *target)
{
	bool ipv4 = policy_addr_is_ipv4(target->addr);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(target->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(target->port)};
	const struct prober *prober = probe->prober;
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;

	memcpy(&in.sin_addr, target->addr + 12, 4);
	memcpy(&in6.sin6_addr, target->addr, 16);
	if (fd >= 0 && ipv4 && prober->source4.sin_family)
		rc = bind(fd, (const struct sockaddr *)&prober->source4, sizeof(prober->source4));
	if (fd >= 0 && !ipv4 && prober->source6.sin6_family)
		rc = bind(fd, (const struct sockaddr *)&prober->source6, sizeof(prober->source6));
	if (fd >= 0 && rc == 0)
		rc = connect(fd, ipv4 ? (const struct sockaddr *)&in : (const struct sockaddr *)&in6, ipv4 ? sizeof(in) : sizeof(in6));
	if (fd >= 0 && rc != 0 && errno != EINPROGRESS) {
		rc = errno;
		close(fd);
		errno = rc;
		return -1;
	}
	return fd;
}

struct probe *probe_new(struct prober *prober, const struct probe_target *target, uint64_t now_s)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	if (!probe)
		return NULL;
	probe->prober = prober;
	probe->posture.at = now_s;
	probe->only = target->only;
	probe->wants_write = true;
	snprintf(probe->mx, sizeof(probe->mx), "%s", target->mx);
	probe->ssl = new_ssl(prober, target);
	probe->fd = -1;
	if (!probe->ssl)
		fail(probe, "OpenSSL does not start");
	else if ((probe->fd = open_socket(probe, target)) < 0)
		fail(probe, "cannot connect: %s", strerror(errno));
	return probe;
}

void probe_free(struct probe *probe)
{
	if (!probe)
		return;
	end(probe);
	probe_posture_dispose(&probe->posture);
	free(probe);
}

int probe_fd(const struct probe *probe) { return probe->fd; }
bool probe_wants_write(const struct probe *probe) { return probe->wants_write; }
struct probe_posture *probe_result(struct probe *probe) { return &probe->posture; }
