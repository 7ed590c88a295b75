/*
 * domains.c - joins discover.c (what to ask and what to think of it) and resolver.c (who asks) to the agent's loop.
 *
 * A tick ten times a second starts what is due and tells Redis what is new. While Redis is away what is new waits
 * in its flag, and it is all told again when Redis is back, because it may be another one.
 */
#include "domains.h"

#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../discover/resolver.h"
#include "../policy/must.h"
#include "mtasts.h"
#include "probes.h"
#include "sightings.h"

#define NUMBER_MAX 24
#define KEY_MAX (CONTROL_PREFIX_MAX + 300)

struct domains {
	struct ev_loop *loop;
	const struct control_config *config;
	const struct domains_ops *ops;
	void *context;
	struct resolver *resolver;
	struct discover *discover;
	struct mtasts *mtasts; /* NULL: none */
	struct probes *probes; /* NULL: none */
	struct sightings *sightings;
	const char **probed; /* domains whose servers are looked at; names of `rules` */
	size_t probed_count;
	bool servers_changed;
	uint64_t retarget_us; /* not sooner */
	uint64_t refused;     /* writes, when it was last all told */
	double told_at, retry_s;
	struct watch *watch; /* to tell; NULL: not yet */
	struct discovered discovered;
	ev_timer tick, save;
};

struct wanted {
	const char *name;
	unsigned needs;
};

struct names {
	struct wanted *items;
	size_t count, room;
};

static bool on_ask(void *context, const char *name, enum discover_type type, uint64_t token)
{
	return resolver_ask(((struct domains *)context)->resolver, name, type, token);
}

static void on_forget(void *context, uint64_t token)
{
	resolver_forget(((struct domains *)context)->resolver, token);
}

static void on_changed(void *context)
{
	struct domains *domains = context;

	domains->servers_changed = true;
	domains->ops->changed(domains->context);
}

static void on_finding(void *context)
{
	struct domains *domains = context;

	domains->ops->changed(domains->context);
}

static void on_answered(void *context, uint64_t token, const struct discover_answer *answer)
{
	struct domains *domains = context;

	if (token & STS_TOKEN)
		mtasts_answered(domains->mtasts, token, answer, resolver_time());
	else
		discover_answered(domains->discover, token, answer, resolver_time());
}

/* ---- Redis ---- */

static void tell_one(struct domains *domains, const struct discover_row *row)
{
	char key[KEY_MAX], ttl[NUMBER_MAX], time[NUMBER_MAX], expire[NUMBER_MAX];

	snprintf(key, sizeof(key), "%sdiscovered:%s", domains->config->redis_prefix, row->domain);
	snprintf(ttl, sizeof(ttl), "%" PRIu32, row->ttl);
	snprintf(time, sizeof(time), "%" PRIu64, row->time);
	snprintf(expire, sizeof(expire), "%" PRIu32, domains->config->dns_keep_s);
	const char *set[] = {"HSET", key, "mx", row->mx ? row->mx : "", "addresses", row->addresses ? row->addresses : "",
			     "ttl", ttl, "time", time, "error", row->error, "secure", row->secure ? "1" : "0",
			     "mx_secure", row->mx_secure ? "1" : "0", "tlsa", row->tlsa ? row->tlsa : ""};
	const char *end[] = {"EXPIRE", key, expire};
	watch_write(domains->watch, sizeof(set) / sizeof(set[0]), set);
	watch_write(domains->watch, sizeof(end) / sizeof(end[0]), end); /* whose rule is gone is forgotten with time */
}

static void tell(struct domains *domains)
{
	struct discover_row row;

	if (!domains->watch || watch_state(domains->watch) != WATCH_LIVE)
		return;
	for (size_t i = 0; i < DOMAINS_WRITES_MAX && discover_next_untold(domains->discover, &row); i++) {
		tell_one(domains, &row);
		free(row.mx);
		free(row.addresses);
		free(row.tlsa);
	}
	probes_tell(domains->probes, domains->watch);
}

void domains_tell(struct domains *domains, struct watch *watch)
{
	if (!domains)
		return;
	domains->watch = watch;
	domains->refused = watch_counts(watch)->writes_refused;
	domains->told_at = ev_now(domains->loop);
	domains->retry_s = DOMAINS_RETRY_S;
	discover_tell_again(domains->discover);
	mtasts_watch(domains->mtasts, watch);
	probes_tell_again(domains->probes);
	sightings_watch(domains->sightings, watch);
}

/* ---- time ---- */

/* Whose servers are looked at: after a change of rules or addresses. Of many servers not with each answer of the DNS. */
static void retarget(struct domains *domains)
{
	uint64_t start = resolver_time().us;

	if (!domains->servers_changed || !domains->probes || start < domains->retarget_us)
		return;
	domains->servers_changed = false;
	probes_begin(domains->probes);
	discover_servers(domains->discover, (const char *const *)domains->probed, domains->probed_count, probes_add, domains->probes);
	probes_end(domains->probes);
	uint64_t end = resolver_time().us;
	domains->retarget_us = end + DOMAINS_RETARGET_SHARE * (end - start);
}

/* What Redis refused (a replica, a full memory) is not lost: it is told again later. */
static void tell_again(struct domains *domains)
{
	double now = ev_now(domains->loop);

	if (!domains->watch || watch_counts(domains->watch)->writes_refused == domains->refused || now - domains->told_at < domains->retry_s)
		return;
	double retry_s = domains->retry_s * 2;
	domains_tell(domains, domains->watch);
	domains->retry_s = retry_s < DOMAINS_RETRY_MAX_S ? retry_s : DOMAINS_RETRY_MAX_S;
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct domains *domains = timer->data;

	(void)loop;
	(void)events;
	tell_again(domains);
	discover_tick(domains->discover, resolver_time());
	mtasts_tick(domains->mtasts, resolver_time());
	retarget(domains);
	probes_tick(domains->probes);
	tell(domains);
	mtasts_tell(domains->mtasts);
}

static void on_save(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct domains *domains = timer->data;

	(void)loop;
	(void)events;
	domains->ops->save(domains->context);
}

struct domains *domains_new(struct ev_loop *loop, const struct control_config *config, const struct domains_ops *ops, void *context)
{
	static const struct discover_ops discover_ops = {.ask = on_ask, .forget = on_forget, .changed = on_changed};
	struct domains *domains = config->dns_enabled ? calloc(1, sizeof(*domains)) : NULL;

	char error[CONTROL_TEXT_MAX] = "";

	if (!domains)
		return NULL;
	domains->loop = loop;
	domains->config = config;
	domains->ops = ops;
	domains->context = context;
	domains->discover = discover_new(config, &discover_ops, domains);
	domains->resolver = resolver_new(loop, config, on_answered, domains);
	if (!domains->discover || !domains->resolver) {
		discover_free(domains->discover);
		resolver_free(domains->resolver);
		free(domains);
		return NULL;
	}
	domains->mtasts = mtasts_new(loop, config, domains->resolver, on_finding, domains);
	domains->sightings = sightings_new(loop, config, on_finding, domains);
	if (domains->sightings)
		domains->probes = probes_new(loop, config, sightings_seen(domains->sightings), on_finding, domains, error, sizeof(error));
	if (*error)
		fprintf(stderr, "waxseal-agent: no probes: %s\n", error);
	else if (*probes_warning(domains->probes))
		fprintf(stderr, "waxseal-agent: %s\n", probes_warning(domains->probes));
	ev_timer_init(&domains->tick, on_tick, DOMAINS_TICK_S, DOMAINS_TICK_S);
	ev_timer_init(&domains->save, on_save, DOMAINS_SAVE_S, DOMAINS_SAVE_S);
	domains->tick.data = domains->save.data = domains;
	ev_timer_start(loop, &domains->tick);
	ev_timer_start(loop, &domains->save);
	return domains;
}

static void forget_probed(struct domains *domains)
{
	for (size_t i = 0; i < domains->probed_count; i++)
		free((char *)domains->probed[i]);
	free(domains->probed);
	domains->probed = NULL;
	domains->probed_count = 0;
}

void domains_free(struct domains *domains)
{
	if (!domains)
		return;
	ev_timer_stop(domains->loop, &domains->tick);
	ev_timer_stop(domains->loop, &domains->save);
	forget_probed(domains);
	probes_free(domains->probes);
	sightings_free(domains->sightings);
	mtasts_free(domains->mtasts);
	discover_free(domains->discover); /* forgets its questions, of the resolver */
	resolver_free(domains->resolver);
	free(domains);
}

/* ---- rules and the compiler ---- */

static void add_name(void *context, const char *domain, unsigned needs)
{
	struct names *names = context;

	if (names->count == names->room) {
		size_t room = names->room ? names->room * 2 : 256;
		struct wanted *items = realloc(names->items, room * sizeof(*items));
		if (!items)
			return; /* this one goes by "*" */
		names->items = items;
		names->room = room;
	}
	names->items[names->count++] = (struct wanted){domain, needs};
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct wanted *)a)->name, ((const struct wanted *)b)->name);
}

/* The names of those that need it, ascending; the caller frees. */
static const char **needing(const struct names *names, unsigned need, size_t *count)
{
	const char **out = must(calloc(names->count + 1, sizeof(*out)));

	*count = 0;
	for (size_t i = 0; i < names->count; i++)
		if (!need || names->items[i].needs & need)
			out[(*count)++] = names->items[i].name;
	return out;
}

void domains_want(struct domains *domains, const struct ruleset *rules)
{
	struct names names = {0};
	size_t kept = 0, count;

	if (!domains)
		return;
	ruleset_domains(rules, add_name, &names);
	if (names.count)
		qsort(names.items, names.count, sizeof(*names.items), by_name);
	for (size_t i = 0; i < names.count; i++)
		if (!kept || strcmp(names.items[kept - 1].name, names.items[i].name))
			names.items[kept++] = names.items[i];
		else
			names.items[kept - 1].needs |= names.items[i].needs;
	names.count = kept;
	const char **all = needing(&names, 0, &count);
	discover_want(domains->discover, all, count, resolver_time());
	const char **sts = needing(&names, NEED_STS, &count);
	mtasts_want(domains->mtasts, sts, count, resolver_time());
	forget_probed(domains);
	domains->probed = needing(&names, NEED_PROBE, &domains->probed_count);
	for (size_t i = 0; i < domains->probed_count; i++) /* the rules' own texts go when they change */
		domains->probed[i] = must(strdup(domains->probed[i]));
	domains->servers_changed = true;
	free(all);
	free(sts);
	free(names.items);
}

struct discovered *domains_discovered(struct domains *domains)
{
	if (!domains)
		return NULL;
	domains->discovered.claims = discover_claims(domains->discover, &domains->discovered.count);
	domains->discovered.hosts = discover_hosts(domains->discover, &domains->discovered.host_count);
	if (domains->mtasts)
		domains->discovered.sts = sts_found(mtasts_sts(domains->mtasts), &domains->discovered.sts_count);
	domains->discovered.probes = probes_found(domains->probes, &domains->discovered.probe_count);
	if (domains->sightings)
		domains->discovered.seen = seen_found(sightings_seen(domains->sightings), &domains->discovered.seen_count);
	return &domains->discovered;
}

json_t *domains_remember(const struct domains *domains)
{
	json_t *findings = json_object();

	if (!domains)
		return findings;
	json_object_set_new(findings, "discovered", discover_remember(domains->discover));
	if (domains->mtasts)
		json_object_set_new(findings, "sts", sts_remember(mtasts_sts(domains->mtasts)));
	json_object_set_new(findings, "posture", probes_remember(domains->probes));
	if (domains->sightings)
		json_object_set_new(findings, "sightings", sightings_remember(domains->sightings));
	return findings;
}

void domains_recall(struct domains *domains, const json_t *findings)
{
	if (!domains)
		return;
	discover_recall(domains->discover, json_object_get(findings, "discovered"), resolver_time());
	if (domains->mtasts)
		sts_recall(mtasts_sts(domains->mtasts), json_object_get(findings, "sts"), resolver_time());
	probes_recall(domains->probes, json_object_get(findings, "posture"), resolver_time().unix_s);
	if (domains->sightings)
		sightings_recall(domains->sightings, json_object_get(findings, "sightings"));
}

struct discover_counts domains_counts(const struct domains *domains)
{
	return domains ? discover_counts(domains->discover) : (struct discover_counts){0};
}

json_t *domains_report(const struct domains *domains)
{
	if (!domains)
		return json_pack("{s:b}", "enabled", 0);
	struct discover_counts c = discover_counts(domains->discover);
	const struct discovered *d = &domains->discovered;
	json_t *report = json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "enabled", 1, "error",
			 resolver_error(domains->resolver), "domains", (json_int_t)c.domains, "resolved", (json_int_t)c.resolved,
			 "failing", (json_int_t)c.failing, "busy", (json_int_t)c.busy, "questions", (json_int_t)c.questions,
			 "failures", (json_int_t)c.failures, "timeouts", (json_int_t)c.timeouts, "ignored", (json_int_t)c.ignored,
			 "addresses", (json_int_t)d->prefixes, "left_out", (json_int_t)(d->left_out + c.left_out), "ties",
			 (json_int_t)d->ties, "tie", d->tie);
	if (domains->mtasts) {
		struct sts_counts s = sts_counts(mtasts_sts(domains->mtasts));
		json_object_set_new(report, "sts", json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "domains", (json_int_t)s.domains, "policies",
							     (json_int_t)s.policies, "failing", (json_int_t)s.failing, "fetches", (json_int_t)s.fetches,
							     "failures", (json_int_t)s.failures, "shared", (json_int_t)s.shared));
	}
	struct probes_counts p = probes_counts(domains->probes);
	json_object_set_new(report, "probes", json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "enabled", domains->probes != NULL, "addresses",
							(json_int_t)p.addresses, "known", (json_int_t)p.known, "started", (json_int_t)p.started, "reached",
							(json_int_t)p.reached, "failed", (json_int_t)p.failed, "left_out", (json_int_t)p.left_out, "versions_asked",
							(json_int_t)p.versions_asked));
	if (domains->sightings) {
		struct seen_counts s = seen_counts(sightings_seen(domains->sightings));
		struct sightings_counts e = sightings_counts(domains->sightings);
		json_object_set_new(report, "seen", json_pack("{s:I, s:I, s:I, s:I, s:I}", "addresses", (json_int_t)s.addresses, "evicted",
							      (json_int_t)s.evicted, "events", (json_int_t)e.events, "sightings",
							      (json_int_t)e.sightings, "skipped_bytes", (json_int_t)e.skipped_bytes));
	}
	json_object_set_new(report, "refused", json_integer((json_int_t)d->refused));
	json_object_set_new(report, "refusal", json_string(d->refusal));
	return report;
}
