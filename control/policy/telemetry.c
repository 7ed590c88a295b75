/*
 * telemetry.c - one SOCK_SEQPACKET connection to rte_telemetry.
 *
 * The server speaks first (an information object), then answers each command with one packet. A packet
 * is one message, so nothing is framed here; its length is asked for before it is taken. What waxseald
 * sends is text for a JSON parser, and is bounded, terminated and otherwise not looked at.
 */
#include "telemetry.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct telemetry {
	int fd;
	char *answer;
	size_t answer_max;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static int take_answer(struct telemetry *telemetry, char *error, size_t error_len)
{
	ssize_t len = recv(telemetry->fd, NULL, 0, MSG_PEEK | MSG_TRUNC);

	if (len > 0 && (size_t)len > TELEMETRY_ANSWER_MAX) {
		snprintf(error, error_len, "%s: an answer of %zd bytes, more than a mebibyte", telemetry->path, len);
		return -EMSGSIZE;
	}
	if (len > 0 && (size_t)len >= telemetry->answer_max) {
		char *bigger = realloc(telemetry->answer, (size_t)len + 1);
		if (!bigger) {
			snprintf(error, error_len, "%s: no memory for its answer", telemetry->path);
			return -ENOMEM;
		}
		telemetry->answer = bigger;
		telemetry->answer_max = (size_t)len + 1;
	}
	if (len > 0)
		len = recv(telemetry->fd, telemetry->answer, telemetry->answer_max - 1, 0);
	if (len > 0) {
		telemetry->answer[len] = 0;
		return 0;
	}
	if (len == 0)
		snprintf(error, error_len, "%s: waxseald closed the connection", telemetry->path);
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		snprintf(error, error_len, "%s: waxseald does not answer within %u ms", telemetry->path, TELEMETRY_TIMEOUT_MS);
	else
		snprintf(error, error_len, "%s: %s", telemetry->path, strerror(errno));
	return -EIO;
}

struct telemetry *telemetry_open(const char *file_prefix, char *error, size_t error_len)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = TELEMETRY_TIMEOUT_MS / 1000, .tv_usec = TELEMETRY_TIMEOUT_MS % 1000 * 1000};
	int len = snprintf(address.sun_path, sizeof(address.sun_path),
			   strchr(file_prefix, '/') ? "%s" : "/var/run/dpdk/%s/dpdk_telemetry.v2", file_prefix);

	if (len < 0 || (size_t)len >= sizeof(address.sun_path)) {
		snprintf(error, error_len, "[dataplane] file_prefix: too long for the path of a socket");
		return NULL;
	}
	struct telemetry *telemetry = calloc(1, sizeof(*telemetry));
	if (!telemetry) {
		snprintf(error, error_len, "no memory");
		return NULL;
	}
	memcpy(telemetry->path, address.sun_path, sizeof(telemetry->path));
	telemetry->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (telemetry->fd < 0) {
		snprintf(error, error_len, "socket: %s", strerror(errno));
		goto fail;
	}
	setsockopt(telemetry->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(telemetry->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(telemetry->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		snprintf(error, error_len, "%s: %s%s", address.sun_path, strerror(errno),
			 errno == ENOENT || errno == ECONNREFUSED ? "; waxseald is not running"
			 : errno == EACCES                        ? "; try as root"
								  : "");
		goto fail;
	}
	if (take_answer(telemetry, error, error_len) < 0)
		goto fail;
	return telemetry;
fail:
	telemetry_close(telemetry);
	return NULL;
}

void telemetry_close(struct telemetry *telemetry)
{
	if (!telemetry)
		return;
	if (telemetry->fd >= 0)
		close(telemetry->fd);
	free(telemetry->answer);
	free(telemetry);
}

/* DPDK lets a name hold letters, digits, '_' and '/' only: waxseald writes "sessions/outbound/sealed" and
 * "reasons/not_offered" for "sessions.outbound.sealed" and "reasons.not-offered"; and a list as {"0": ..., "1": ...}. */
static json_t *with_names(json_t *object)
{
	const char *name;
	json_t *value, *renamed;
	char text[128];

	if (json_object_get(object, "0")) { /* DPDK's arrays hold no dictionaries */
		renamed = json_array();
		for (unsigned i = 0; snprintf(text, sizeof(text), "%u", i), (value = json_object_get(object, text)); i++)
			json_array_append(renamed, value);
		return renamed;
	}
	if (!json_is_object(object) || !(renamed = json_object()))
		return json_incref(object);
	json_object_foreach(object, name, value) {
		bool path = strchr(name, '/') != NULL;
		snprintf(text, sizeof(text), "%s", name);
		for (char *p = text; path && *p; p++)
			*p = *p == '/' ? '.' : *p == '_' ? '-' : *p;
		json_object_set(renamed, text, value);
	}
	return renamed;
}

json_t *telemetry_ask(struct telemetry *telemetry, const char *command, char *error, size_t error_len)
{
	char name[64];

	if (send(telemetry->fd, command, strlen(command), MSG_NOSIGNAL) < 0) {
		snprintf(error, error_len, "%s: %s", telemetry->path, strerror(errno));
		return NULL;
	}
	if (take_answer(telemetry, error, error_len) < 0)
		return NULL;
	json_t *frame = json_loads(telemetry->answer, 0, NULL);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(command, ","), command);
	json_t *value = with_names(json_object_get(frame, name));
	json_decref(frame);
	if (!value)
		snprintf(error, error_len, "waxseald's answer to %s is not its JSON; is it of another version than this command?", name);
	return value;
}

json_t *telemetry_ask_all(struct telemetry *telemetry, const char *command, unsigned max, char *error, size_t error_len)
{
	json_t *all = json_array();
	char text[64];

	for (unsigned i = 0; i < max; i++) {
		snprintf(text, sizeof(text), "%s,%u", command, i);
		json_t *one = telemetry_ask(telemetry, text, error, error_len);
		if (!one) {
			json_decref(all);
			return NULL;
		}
		if (!json_object_size(one)) {
			json_decref(one);
			break;
		}
		json_array_append_new(all, one);
	}
	return all;
}
