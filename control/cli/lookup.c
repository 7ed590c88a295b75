/*
 * lookup.c - a loop with one domain to discover, which ends when its round does.
 */
#include "lookup.h"

#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../discover/discover.h"
#include "../discover/resolver.h"
#include "link.h"

#define TICK_S 0.1

struct lookup {
	struct ev_loop *loop;
	struct resolver *resolver;
	struct discover *discover;
	ev_timer tick;
	json_t *found;
};

static bool on_ask(void *context, const char *name, enum discover_type type, uint64_t token)
{
	return resolver_ask(((struct lookup *)context)->resolver, name, type, token);
}

static void on_forget(void *context, uint64_t token)
{
	resolver_forget(((struct lookup *)context)->resolver, token);
}

static void on_changed(void *context)
{
	(void)context;
}

/* What is to be told of a domain is told at the end of its round. */
static void end_if_found(struct lookup *lookup)
{
	struct discover_row row;
	char number[24];

	if (lookup->found || !discover_next_untold(lookup->discover, &row))
		return;
	lookup->found = json_object();
	link_json_set(lookup->found, "mx", row.mx ? row.mx : "");
	link_json_set(lookup->found, "addresses", row.addresses ? row.addresses : "");
	link_json_set(lookup->found, "tlsa", row.tlsa ? row.tlsa : "");
	link_json_set(lookup->found, "error", row.error);
	snprintf(number, sizeof(number), "%" PRIu64, row.time);
	link_json_set(lookup->found, "time", number);
	link_json_set(lookup->found, "mx_secure", row.mx_secure ? "1" : "0");
	free(row.mx);
	free(row.addresses);
	free(row.tlsa);
	ev_break(lookup->loop, EVBREAK_ALL);
}

static void on_answered(void *context, uint64_t token, const struct discover_answer *answer)
{
	struct lookup *lookup = context;

	discover_answered(lookup->discover, token, answer, resolver_time());
	end_if_found(lookup);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct lookup *lookup = timer->data;

	(void)loop;
	(void)events;
	discover_tick(lookup->discover, resolver_time());
	end_if_found(lookup);
}

json_t *lookup_domain(const struct control_config *config, const char *domain)
{
	static const struct discover_ops ops = {.ask = on_ask, .forget = on_forget, .changed = on_changed};
	struct lookup lookup = {.loop = ev_loop_new(EVFLAG_AUTO)};

	if (!lookup.loop)
		return NULL;
	lookup.resolver = resolver_new(lookup.loop, config, on_answered, &lookup);
	lookup.discover = discover_new(config, &ops, &lookup);
	if (lookup.resolver && lookup.discover) {
		ev_timer_init(&lookup.tick, on_tick, TICK_S, TICK_S);
		lookup.tick.data = &lookup;
		ev_timer_start(lookup.loop, &lookup.tick);
		discover_want(lookup.discover, &domain, 1, resolver_time());
		ev_run(lookup.loop, 0);
		ev_timer_stop(lookup.loop, &lookup.tick);
	}
	discover_free(lookup.discover);
	resolver_free(lookup.resolver);
	ev_loop_destroy(lookup.loop);
	return lookup.found;
}
