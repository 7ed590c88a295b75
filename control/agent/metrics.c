/*
 * metrics.c - the HTTP side of /metrics (libmicrohttpd).
 *
 * Takes GET and HEAD of /metrics and answers anything else with one line. Bound to the address that the
 * configuration names and no other; no request body is read; idle clients are cut after ten seconds.
 */
#include "metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct metrics {
	struct MHD_Daemon *daemon;
	pthread_mutex_t lock;
	char *agent_text;
	char file_prefix[256];
};

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, char *text, size_t len,
			       enum MHD_ResponseMemoryMode mode, const char *type)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);

	if (!response) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	enum MHD_Result rc = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_len, void **request)
{
	static char elsewhere[] = "waxseal-agent: there is only /metrics here\n", only_get[] = "waxseal-agent: GET /metrics\n";
	struct metrics *metrics = context;
	char *text = NULL;
	size_t len;

	(void)version;
	(void)upload;
	(void)request;
	*upload_len = 0;
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, only_get, strlen(only_get), MHD_RESPMEM_PERSISTENT, "text/plain");
	if (strcmp(url, "/metrics"))
		return respond(connection, MHD_HTTP_NOT_FOUND, elsewhere, strlen(elsewhere), MHD_RESPMEM_PERSISTENT, "text/plain");
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return MHD_NO;
	pthread_mutex_lock(&metrics->lock);
	if (metrics->agent_text)
		fputs(metrics->agent_text, out);
	pthread_mutex_unlock(&metrics->lock);
	metrics_appliance(out, metrics->file_prefix);
	fclose(out);
	return respond(connection, MHD_HTTP_OK, text, len, MHD_RESPMEM_MUST_FREE, "text/plain; version=0.0.4; charset=utf-8");
}

/* Bound here and not by libmicrohttpd, so that an address in use can be named in the error. */
static int listen_on(const char *host, uint16_t port, char *error, size_t error_len)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
	char service[8];
	int one = 1, fd = -1;

	snprintf(service, sizeof(service), "%u", port);
	int rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0) {
		snprintf(error, error_len, "[agent] metrics: %s: %s", host, gai_strerror(rc));
		return -1;
	}
	fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, METRICS_CLIENTS_MAX) != 0) {
		snprintf(error, error_len, "[agent] metrics: %s port %u: %s; choose a free address:port, or leave it empty", host,
			 port, strerror(errno));
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

struct metrics *metrics_start(const char *host, uint16_t port, const char *file_prefix, char *error, size_t error_len)
{
	int fd = listen_on(host, port, error, error_len);

	if (fd < 0)
		return NULL;
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	if (metrics) {
		pthread_mutex_init(&metrics->lock, NULL);
		snprintf(metrics->file_prefix, sizeof(metrics->file_prefix), "%s", file_prefix);
		metrics->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, port, NULL, NULL, on_request, metrics,
						   MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, METRICS_CLIENTS_MAX,
						   MHD_OPTION_CONNECTION_TIMEOUT, METRICS_IDLE_S, MHD_OPTION_END);
	}
	if (!metrics || !metrics->daemon) {
		snprintf(error, error_len, "[agent] metrics: the HTTP server does not start: %s", strerror(errno));
		free(metrics);
		close(fd);
		return NULL;
	}
	return metrics;
}

void metrics_publish(struct metrics *metrics, char *text)
{
	pthread_mutex_lock(&metrics->lock);
	char *old = metrics->agent_text;
	metrics->agent_text = text;
	pthread_mutex_unlock(&metrics->lock);
	free(old);
}

void metrics_stop(struct metrics *metrics)
{
	if (!metrics)
		return;
	MHD_stop_daemon(metrics->daemon);
	pthread_mutex_destroy(&metrics->lock);
	free(metrics->agent_text);
	free(metrics);
}
