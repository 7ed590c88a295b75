/*
 * resolver.c - one libunbound context, and the questions that are under way in it.
 *
 * A failure to ask is answered from the loop and never from within resolver_ask(): who asks need not expect to be
 * called back on the spot. A context is made anew when the file that names its servers has changed.
 */
#include "resolver.h"

#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unbound.h>

#include "../../dataplane/policy/image.h"

#define CLASS_IN 1
#define SERVERS " ,\t"

struct question {
	struct resolver *resolver;
	uint64_t token;
	int id;        /* libunbound's */
	bool sent, used;
};

struct resolver {
	struct ev_loop *loop;
	const struct control_config *config;
	resolver_answered *answered;
	void *context;
	struct ub_ctx *ub;
	ev_io readable;
	ev_timer look, refuse;
	struct timespec file_changed;
	char error[CONTROL_TEXT_MAX * 2];
	struct question questions[RESOLVER_QUESTIONS_MAX];
	size_t next; /* where to look for a free one */
};

static const int types[] = {[DISCOVER_MX] = 15, [DISCOVER_A] = 1, [DISCOVER_AAAA] = 28, [DISCOVER_TLSA] = 52, [DISCOVER_TXT] = 16};

static void finish(struct question *question, const struct discover_answer *answer)
{
	question->used = false;
	question->resolver->answered(question->resolver->context, question->token, answer);
}

static void fail(struct question *question, const char *why)
{
	finish(question, &(struct discover_answer){.status = DISCOVER_FAILED, .why = why});
}

/* As discover.c writes names; NULL if there is none, or none that fits. */
static const char *lower_name(const char *name, char out[IMAGE_DOMAIN_MAX + 1])
{
	size_t len = name ? strlen(name) : 0;

	while (len && name[len - 1] == '.')
		len--;
	if (!len || len > IMAGE_DOMAIN_MAX)
		return NULL;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
	out[len] = 0;
	return out;
}

static void on_result(void *memory, int error, struct ub_result *result)
{
	struct question *question = memory;
	struct discover_answer answer = {.status = DISCOVER_FAILED, .why = "no answer"};
	char why[64], canonical[IMAGE_DOMAIN_MAX + 1];

	if (!question->used) {
		ub_resolve_free(result);
		return;
	}
	if (error || !result) {
		answer.why = error ? ub_strerror(error) : "no result";
	} else if (result->bogus) {
		answer.why = "DNSSEC validation failed";
		answer.bogus = true;
	} else if (result->havedata) {
		answer.status = DISCOVER_OK;
		answer.ttl = result->ttl > 0 ? (uint32_t)result->ttl : 0;
		answer.secure = result->secure;
		answer.data = (const uint8_t *const *)result->data;
		answer.len = result->len;
		answer.canonical = lower_name(result->canonname, canonical);
		while (result->data[answer.count])
			answer.count++;
	} else if (result->rcode == 0 || (result->rcode == 3 && result->nxdomain)) {
		answer.status = DISCOVER_NONE;
		answer.ttl = result->ttl > 0 ? (uint32_t)result->ttl : 0;
		answer.secure = result->secure;
		answer.why = result->nxdomain ? "NXDOMAIN" : "no such record";
	} else {
		static const char *const names[] = {"", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
		snprintf(why, sizeof(why), "DNS answered rcode %d", result->rcode);
		answer.why = result->rcode > 0 && result->rcode < 6 ? names[result->rcode] : why;
	}
	finish(question, &answer);
	ub_resolve_free(result);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct resolver *resolver = io->data;

	(void)loop;
	(void)events;
	ub_process(resolver->ub);
}

/* ---- set up ---- */

static int set_servers(struct resolver *resolver, struct ub_ctx *ub)
{
	char list[CONTROL_TEXT_MAX], *state = NULL;
	int rc = 0;

	if (resolver->config->dns_servers[0] == '/')
		return ub_ctx_resolvconf(ub, resolver->config->dns_servers);
	snprintf(list, sizeof(list), "%s", resolver->config->dns_servers);
	for (char *server = strtok_r(list, SERVERS, &state); server && rc == 0; server = strtok_r(NULL, SERVERS, &state))
		rc = ub_ctx_set_fwd(ub, server);
	return rc;
}

static struct ub_ctx *make_context(struct resolver *resolver)
{
	static const struct { const char *name, *value; } options[] = {
		{"do-not-query-localhost:", "no"}, /* a resolver on 127.0.0.1 is the usual one */
		{"infra-host-ttl:", RESOLVER_HOST_TTL_S}, {"infra-cache-max-rtt:", RESOLVER_RTT_MAX_MS},
		{"infra-keep-probing:", "yes"}, {"module-config:", "validator iterator"},
		{"use-syslog:", "no"}, {"logfile:", ""},
	};
	const char *anchor = resolver->config->dns_trust_anchor;
	struct ub_ctx *ub = ub_ctx_create();

	if (!ub) {
		snprintf(resolver->error, sizeof(resolver->error), "[dns] libunbound does not start: %s", strerror(errno));
		return NULL;
	}
	ub_ctx_debuglevel(ub, 0);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		ub_ctx_set_option(ub, options[i].name, options[i].value); /* a version without one does without it */
	int rc = set_servers(resolver, ub);
	if (rc != 0)
		snprintf(resolver->error, sizeof(resolver->error), "[dns] servers: %.200s: %s", resolver->config->dns_servers,
			 resolver->config->dns_servers[0] == '/' ? "cannot be read" : ub_strerror(rc));
	if (rc == 0 && *anchor && (rc = ub_ctx_add_ta_file(ub, anchor)) != 0)
		snprintf(resolver->error, sizeof(resolver->error), "[dns] trust_anchor: %.200s: %s", anchor, ub_strerror(rc));
	if (rc == 0 && (rc = ub_ctx_async(ub, 1)) != 0)
		snprintf(resolver->error, sizeof(resolver->error), "[dns] libunbound: %s", ub_strerror(rc));
	if (rc == 0) {
		/* libunbound answers these by itself; whoever has them has them behind [dns] servers. */
		ub_ctx_zone_remove(ub, "test.");
		ub_ctx_zone_remove(ub, "home.arpa.");
		return ub;
	}
	ub_ctx_delete(ub);
	return NULL;
}

static struct timespec changed_at(const char *path)
{
	struct stat now;

	return path[0] == '/' && stat(path, &now) == 0 ? now.st_mtim : (struct timespec){0};
}

static void tear_down(struct resolver *resolver)
{
	if (!resolver->ub)
		return;
	ev_io_stop(resolver->loop, &resolver->readable);
	ub_ctx_delete(resolver->ub); /* none of its questions is called back any more */
	resolver->ub = NULL;
}

static void set_up(struct resolver *resolver)
{
	resolver->file_changed = changed_at(resolver->config->dns_servers);
	resolver->ub = make_context(resolver);
	if (!resolver->ub)
		return;
	resolver->error[0] = 0;
	ev_io_set(&resolver->readable, ub_fd(resolver->ub), EV_READ);
	ev_io_start(resolver->loop, &resolver->readable);
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct resolver *resolver = timer->data;
	struct timespec changed = changed_at(resolver->config->dns_servers);

	(void)loop;
	(void)events;
	if (resolver->ub && changed.tv_sec == resolver->file_changed.tv_sec && changed.tv_nsec == resolver->file_changed.tv_nsec)
		return;
	tear_down(resolver);
	set_up(resolver);
	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++)
		if (resolver->questions[i].used && resolver->questions[i].sent)
			fail(&resolver->questions[i], "the resolver's configuration has changed");
}

/* What could not be sent is refused here. */
static void on_refuse(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct resolver *resolver = timer->data;

	(void)loop;
	(void)events;
	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++)
		if (resolver->questions[i].used && !resolver->questions[i].sent)
			fail(&resolver->questions[i], *resolver->error ? resolver->error : "the question cannot be asked");
}

struct resolver *resolver_new(struct ev_loop *loop, const struct control_config *config, resolver_answered *answered, void *context)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (!resolver)
		return NULL;
	resolver->loop = loop;
	resolver->config = config;
	resolver->answered = answered;
	resolver->context = context;
	ev_io_init(&resolver->readable, on_readable, -1, EV_READ);
	ev_timer_init(&resolver->look, on_look, RESOLVER_SETUP_S, RESOLVER_SETUP_S);
	ev_timer_init(&resolver->refuse, on_refuse, 0, 0);
	resolver->readable.data = resolver->look.data = resolver->refuse.data = resolver;
	ev_timer_start(loop, &resolver->look);
	set_up(resolver);
	return resolver;
}

void resolver_free(struct resolver *resolver)
{
	if (!resolver)
		return;
	ev_timer_stop(resolver->loop, &resolver->look);
	ev_timer_stop(resolver->loop, &resolver->refuse);
	tear_down(resolver);
	free(resolver);
}

/* ---- questions ---- */

bool resolver_ask(struct resolver *resolver, const char *name, enum discover_type type, uint64_t token)
{
	struct question *question = NULL;

	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX && !question; i++) {
		struct question *at = &resolver->questions[resolver->next++ % RESOLVER_QUESTIONS_MAX];
		question = at->used ? NULL : at;
	}
	if (!question)
		return false;
	*question = (struct question){.resolver = resolver, .token = token, .used = true};
	question->sent = resolver->ub && ub_resolve_async(resolver->ub, name, types[type], CLASS_IN, question, on_result, &question->id) == 0;
	if (!question->sent && !ev_is_active(&resolver->refuse)) {
		ev_timer_set(&resolver->refuse, 0, 0);
		ev_timer_start(resolver->loop, &resolver->refuse);
	}
	return true;
}

void resolver_forget(struct resolver *resolver, uint64_t token)
{
	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++) {
		struct question *question = &resolver->questions[i];
		if (!question->used || question->token != token)
			continue;
		if (question->sent && resolver->ub)
			ub_cancel(resolver->ub, question->id);
		question->used = false;
	}
}

struct discover_time resolver_time(void)
{
	struct timespec steady, wall;

	clock_gettime(CLOCK_MONOTONIC, &steady);
	clock_gettime(CLOCK_REALTIME, &wall);
	return (struct discover_time){(uint64_t)steady.tv_sec * 1000000 + (uint64_t)steady.tv_nsec / 1000, (uint64_t)wall.tv_sec};
}

const char *resolver_error(const struct resolver *resolver) { return resolver->error; }
