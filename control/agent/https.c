/*
 * https.c - a handle for each fetch; libcurl says which descriptors to watch and when to wake it.
 *
 * An ended fetch is reported from the loop and never from within a call of libcurl's. What a server says is not
 * repeated in errors: they name the step that failed, in libcurl's words or these.
 */
#include "https.h"

#include <curl/curl.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 512
#define RESOLVE_MAX 2048

struct fetch {
	struct https *https;
	uint64_t token;
	CURL *curl; /* NULL: free */
	struct curl_slist *resolve;
	char text[STS_TEXT_MAX];
	size_t len;
	bool too_long;
};

struct socket {
	ev_io io;
	struct https *https;
};

struct https {
	struct ev_loop *loop;
	char *ca_file;
	https_done *done;
	void *context;
	CURLM *multi;
	ev_timer timer;
	struct fetch *fetches[HTTPS_FETCHES_MAX];
};

/* ---- the end of a fetch ---- */

static void fetch_free(struct https *https, struct fetch *fetch)
{
	for (size_t i = 0; i < HTTPS_FETCHES_MAX; i++)
		if (https->fetches[i] == fetch)
			https->fetches[i] = NULL;
	if (fetch->curl) {
		curl_multi_remove_handle(https->multi, fetch->curl);
		curl_easy_cleanup(fetch->curl);
	}
	curl_slist_free_all(fetch->resolve);
	free(fetch);
}

/* "text/plain", and parameters as they like. */
static bool is_plain_text(const char *type)
{
	static const char plain[] = "text/plain";

	return type && !strncasecmp(type, plain, sizeof(plain) - 1) && strchr("; \t", type[sizeof(plain) - 1]);
}

static struct sts_fetched judge(const struct fetch *fetch, CURLcode result, char why[STS_WHY_MAX])
{
	struct sts_fetched fetched = {.error = STS_FETCH_ERROR, .why = why, .text = fetch->text, .len = fetch->len};
	long status = 0;
	char *type = NULL;

	curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(fetch->curl, CURLINFO_CONTENT_TYPE, &type);
	if (fetch->too_long || result == CURLE_FILESIZE_EXCEEDED)
		snprintf(why, STS_WHY_MAX, "the policy is longer than 64 KB");
	else if (result == CURLE_PEER_FAILED_VERIFICATION) {
		long verified = 0;
		curl_easy_getinfo(fetch->curl, CURLINFO_SSL_VERIFYRESULT, &verified);
		fetched.error = STS_WEBPKI_INVALID;
		snprintf(why, STS_WHY_MAX, verified ? "its certificate is not valid (OpenSSL %ld)" : "its certificate has another name", verified);
	} else if (result != CURLE_OK)
		snprintf(why, STS_WHY_MAX, "%s", curl_easy_strerror(result));
	else if (status != 200)
		snprintf(why, STS_WHY_MAX, "HTTP status %ld", status);
	else if (!is_plain_text(type))
		snprintf(why, STS_WHY_MAX, "it is not text/plain");
	else
		fetched.error = STS_OK;
	return fetched;
}

static void reap(struct https *https)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(https->multi, &left))) {
		struct fetch *fetch = NULL;
		char why[STS_WHY_MAX] = "";
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
		struct sts_fetched fetched = judge(fetch, message->data.result, why);
		https->done(https->context, fetch->token, &fetched);
		fetch_free(https, fetch);
	}
}

/* ---- libcurl and the loop ---- */

static void act(struct https *https, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(https->multi, fd, events, &running);
	reap(https);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	act(((struct socket *)io->data)->https, io->fd, (events & EV_READ ? CURL_CSELECT_IN : 0) | (events & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long ms, void *context)
{
	struct https *https = context;

	(void)multi;
	ev_timer_stop(https->loop, &https->timer);
	if (ms >= 0) {
		ev_timer_set(&https->timer, (double)ms / 1000, 0);
		ev_timer_start(https->loop, &https->timer);
	}
	return 0;
}

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *context, void *memory)
{
	struct https *https = context;
	struct socket *socket = memory;

	(void)curl;
	if (socket)
		ev_io_stop(https->loop, &socket->io);
	if (what == CURL_POLL_REMOVE) {
		free(socket);
		return 0;
	}
	if (!socket) {
		socket = calloc(1, sizeof(*socket));
		if (!socket)
			return -1;
		socket->https = https;
		ev_init(&socket->io, on_io);
		socket->io.data = socket;
		curl_multi_assign(https->multi, fd, socket);
	}
	ev_io_set(&socket->io, fd, (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
	ev_io_start(https->loop, &socket->io);
	return 0;
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
	struct fetch *fetch = context;

	size *= count;
	if (size > sizeof(fetch->text) - fetch->len) {
		fetch->too_long = true;
		return 0;
	}
	memcpy(fetch->text + fetch->len, data, size);
	fetch->len += size;
	return size;
}

struct https *https_new(struct ev_loop *loop, const char *ca_file, https_done *done, void *context)
{
	struct https *https = calloc(1, sizeof(*https));

	if (!https)
		return NULL;
	*https = (struct https){.loop = loop, .ca_file = strdup(ca_file), .done = done, .context = context};
	if (!https->ca_file || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(https->multi = curl_multi_init())) {
		free(https->ca_file);
		free(https);
		return NULL;
	}
	ev_timer_init(&https->timer, on_timer, 0, 0);
	https->timer.data = https;
	curl_multi_setopt(https->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(https->multi, CURLMOPT_SOCKETDATA, https);
	curl_multi_setopt(https->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(https->multi, CURLMOPT_TIMERDATA, https);
	curl_multi_setopt(https->multi, CURLMOPT_MAXCONNECTS, 1L);
	return https;
}

void https_free(struct https *https)
{
	if (!https)
		return;
	for (size_t i = 0; i < HTTPS_FETCHES_MAX; i++)
		if (https->fetches[i])
			fetch_free(https, https->fetches[i]);
	curl_multi_cleanup(https->multi);
	ev_timer_stop(https->loop, &https->timer);
	curl_global_cleanup();
	free(https->ca_file);
	free(https);
}

/* ---- fetches ---- */

static void set_options(struct fetch *fetch, const char *url)
{
	CURL *curl = fetch->curl;

	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_RESOLVE, fetch->resolve);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(curl, CURLOPT_CAINFO, fetch->https->ca_file);
	curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(curl, CURLOPT_MAXFILESIZE, (long)STS_TEXT_MAX);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)HTTPS_TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "waxseal-agent");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, fetch);
}

bool https_get(struct https *https, const char *host, const char *addresses, const char *path, uint64_t token)
{
	char url[URL_MAX], resolve[RESOLVE_MAX];
	size_t slot = 0;

	while (slot < HTTPS_FETCHES_MAX && https->fetches[slot])
		slot++;
	struct fetch *fetch = slot < HTTPS_FETCHES_MAX ? calloc(1, sizeof(*fetch)) : NULL;
	if (!fetch)
		return false;
	fetch->https = https;
	fetch->token = token;
	fetch->curl = curl_easy_init();
	snprintf(resolve, sizeof(resolve), "%s:443:%s", host, addresses);
	fetch->resolve = curl_slist_append(NULL, resolve);
	snprintf(url, sizeof(url), "https://%s%s", host, path);
	https->fetches[slot] = fetch;
	if (fetch->curl && fetch->resolve) {
		set_options(fetch, url);
		if (curl_multi_add_handle(https->multi, fetch->curl) == CURLM_OK)
			return true;
	}
	fetch_free(https, fetch);
	return false;
}

void https_forget(struct https *https, uint64_t token)
{
	for (size_t i = 0; i < HTTPS_FETCHES_MAX; i++)
		if (https->fetches[i] && https->fetches[i]->token == token)
			fetch_free(https, https->fetches[i]);
}
