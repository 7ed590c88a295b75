/*
 * agent.c - joins watch, store and the files: an event marks, a timer compiles, a heartbeat tells.
 *
 * An edit is in the image DEBOUNCE_QUIET_US after the last of a burst and DEBOUNCE_MAX_US after the first
 * at the latest. Until Redis has been read whole nothing is compiled from it. What is in force when Redis
 * cannot be had is the image that is there; from the agent's memory it is made again only if it is missing
 * or broken, or when a rule in it expires.
 */
#include "agent.h"

#include <ev.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../dataplane/policy/policy.h"
#include "../policy/text.h"
#include "memory.h"
#include "metrics.h"
#include "report.h"
#include "saving.h"

#define REFUSED_LOGGED_MAX 20 /* at one compile */
#define AGENT_CLOCK_GRAIN_S 0.02

struct agent_timers {
	ev_timer publish, heartbeat, expiry, dns, save;
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("waxseal-agent: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static uint64_t monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Seconds to a moment, and the little by which time(2) may be behind the clock. */
static double until(uint64_t moment)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	double left = (double)moment - (double)now.tv_sec - (double)now.tv_nsec / 1e9;
	return (left > 0 ? left : 0) + AGENT_CLOCK_GRAIN_S;
}

static void timer_set(struct agent *agent, ev_timer *timer, double seconds)
{
	ev_timer_stop(agent->loop, timer);
	ev_timer_set(timer, seconds, 0);
	ev_timer_start(agent->loop, timer);
}

static uint64_t until_publish(const struct agent *agent)
{
	return debounce_left(&agent->debounce, watch_busy(agent->watch), monotonic_us());
}

static void arm(struct agent *agent)
{
	struct agent_timers *timers = agent->timers;

	if (agent->debounce.waiting)
		timer_set(agent, &timers->publish, (double)until_publish(agent) / 1e6);
}

static void touch(struct agent *agent)
{
	debounce_touch(&agent->debounce, monotonic_us());
	arm(agent);
}

static void finish(struct agent *agent, int exit_code)
{
	agent->exit_code = exit_code;
	ev_break(agent->loop, EVBREAK_ALL);
}

/* ---- what is told ---- */

static void tell(struct agent *agent)
{
	char error[AGENT_ERROR_MAX];

	if (agent->once)
		return;
	if (report_state(agent, error, sizeof(error)) == 0)
		agent->state_failed_at = 0;
	else if (!agent->state_failed_at) {
		say("%s", error);
		agent->state_failed_at = ev_now(agent->loop);
	}
	char *text = agent->metrics ? report_metrics(agent) : NULL;
	if (text)
		metrics_publish(agent->metrics, text);
}

struct logging {
	uint64_t print; /* of all keys and errors */
	size_t left;
};

static void print_refused(void *context, const char *redis_key, const char *error)
{
	struct logging *logging = context;
	const char *texts[] = {redis_key, error};

	for (int t = 0; t < 2; t++)
		for (const char *p = texts[t]; *p; p++)
			logging->print = (logging->print ^ (uint8_t)*p) * 0x100000001b3u; /* FNV-1a */
}

static void log_refused(void *context, const char *redis_key, const char *error)
{
	struct logging *logging = context;
	char key[AGENT_ERROR_MAX], what[AGENT_ERROR_MAX];

	if (!logging->left)
		return;
	logging->left--;
	text_clean(redis_key, key, sizeof(key)); /* a line of somebody's own must not get into the log */
	text_clean(error, what, sizeof(what));
	say("refused key=%s: %s", key, what);
}

/* Each refusal is logged once, not again with every edit of another rule. */
static void log_new_refusals(struct agent *agent)
{
	struct logging logging = {.print = 0xcbf29ce484222325u, .left = REFUSED_LOGGED_MAX};

	store_refused(agent->store, print_refused, &logging);
	if (logging.print == agent->refused_logged)
		return;
	agent->refused_logged = logging.print;
	size_t count = store_refused(agent->store, log_refused, &logging);
	if (count > REFUSED_LOGGED_MAX)
		say("refused and not listed here: %zu keys more", count - REFUSED_LOGGED_MAX);
}

/* ---- the image ---- */

static bool may_compile(const struct agent *agent)
{
	return agent->in_step || (agent->seeded && !(store_refuses_empty(agent->store) && store_pending(agent->store)));
}

enum written { WRITTEN, UNCHANGED, FAILED };

static enum written write_image(struct agent *agent, uint64_t now)
{
	struct agent_image *image = &agent->image;
	uint64_t generation = agent->generation_present ? agent->generation : now, start = monotonic_us();
	size_t len;

	struct discovered *discovered = domains_discovered(agent->domains);
	void *bytes = store_compile(agent->store, discovered, generation, now, agent->force, &len, image->error, sizeof(image->error));
	if (!bytes && !image->error[0])
		return UNCHANGED;
	image->compile_ms = (double)(monotonic_us() - start) / 1000;
	if (!bytes) {
		agent->counts.compile_errors++;
		say("compile failed, the last image stays: %s", image->error);
		return FAILED;
	}
	agent->force = true; /* until it is on the disk */
	int rc = image_write(agent->config.image, bytes, len, image->error, sizeof(image->error));
	free(bytes);
	if (rc != 0) {
		agent->counts.write_errors++;
		say("image not written, the last one stays: %s", image->error);
		return FAILED;
	}
	agent->force = false;
	image->error[0] = 0;
	image->generation = generation;
	image->compiled_at = now;
	image->bytes = len;
	image->rules = ruleset_count(store_rules(agent->store));
	agent->counts.images++;
	agent->seeded = true;
	return WRITTEN;
}

static void save(struct agent *agent)
{
	struct agent_timers *timers = agent->timers;

	ev_timer_stop(agent->loop, &timers->save);
	if (agent->publish_s < AGENT_QUICK_S)
		saving_now(agent);
	else if (!saving_beside(agent))
		timer_set(agent, &timers->save, AGENT_SAVE_S);
}

static void log_tie(struct agent *agent)
{
	const struct discovered *discovered = domains_discovered(agent->domains);

	if (discovered && discovered->ties != agent->ties_logged && discovered->ties)
		say("dns: %zu addresses in two providers: %s", discovered->ties, discovered->tie);
	agent->ties_logged = discovered ? discovered->ties : 0;
}

static void publish(struct agent *agent)
{
	struct agent_timers *timers = agent->timers;
	uint64_t now = (uint64_t)time(NULL);

	debounce_clear(&agent->debounce);
	ev_timer_stop(agent->loop, &timers->publish);
	ev_timer_stop(agent->loop, &timers->dns);
	if (!may_compile(agent))
		return;
	bool rules_changed = store_pending(agent->store);
	uint64_t start = monotonic_us();
	enum written written = write_image(agent, now);
	if (written == WRITTEN) {
		say("image generation=%" PRIu64 " rules=%" PRIu64 " bytes=%" PRIu64 " compile_ms=%.1f", agent->image.generation,
		    agent->image.rules, agent->image.bytes, agent->image.compile_ms);
		if (agent->publish_s < AGENT_QUICK_S || (rules_changed && agent->image.rules < AGENT_MANY_RULES))
			save(agent);
		else if (!ev_is_active(&timers->save)) /* many rules make a long file, and the next edit must not wait for it */
			timer_set(agent, &timers->save, AGENT_SAVE_S);
		if (rules_changed)
			domains_want(agent->domains, store_rules(agent->store));
		log_tie(agent);
	} else if (written == FAILED) {
		timer_set(agent, &timers->publish, AGENT_RETRY_S);
	}
	log_new_refusals(agent);
	uint64_t expiry = store_next_expiry(agent->store, now);
	if (expiry)
		timer_set(agent, &timers->expiry, until(expiry));
	else
		ev_timer_stop(agent->loop, &timers->expiry);
	tell(agent);
	ev_now_update(agent->loop);
	agent->published_at = ev_now(agent->loop);
	agent->publish_s = (double)(monotonic_us() - start) / 1e6;
	if (agent->once)
		finish(agent, written == FAILED);
}

/* ---- the DNS ---- */

/* Answers come in bursts after a start or an outage of the DNS: many rules make a compile long, and it must not be
 * all that the agent does. */
static void on_addresses(void *context)
{
	struct agent *agent = context;
	struct agent_timers *timers = agent->timers;

	agent->force = true;
	if (ev_is_active(&timers->dns) || !may_compile(agent) || agent->once)
		return;
	double pause = agent->published_at + AGENT_DNS_SHARE * agent->publish_s - ev_now(agent->loop);
	double quiet = DEBOUNCE_MAX_US / 1e6;
	timer_set(agent, &timers->dns, pause > quiet ? pause : quiet);
}

static void on_save(void *context)
{
	struct agent *agent = context;

	if (agent->seeded)
		save(agent);
}

static void tell_presence(struct agent *agent)
{
	double now = ev_now(agent->loop);

	if (!agent->presence || now - agent->presence_at < APPLIANCE_WRITE_S || watch_state(agent->watch) != WATCH_LIVE)
		return;
	agent->presence_at = now;
	struct presence_facts facts = {
		.version = AGENT_VERSION, .generation = agent->generation, .image_generation = agent->image.generation,
		.image_compiled_at = agent->image.compiled_at, .image_failed = agent->image.error[0] != 0,
		.rules = ruleset_count(store_rules(agent->store)), .refused = store_refused(agent->store, NULL, NULL),
		.now_s = (uint64_t)time(NULL),
	};
	presence_write(agent->presence, agent->watch, &facts);
}

/* ---- events of the watch ---- */

static bool on_wants(void *context, const char *redis_key)
{
	struct agent *agent = context;

	return store_wants(agent->store, redis_key);
}

/* A rule was seen. While an empty Redis is refused, that is the sign to believe Redis again, all of it. */
static void changed(struct agent *agent)
{
	if (agent->in_step)
		touch(agent);
	else if (store_refuses_empty(agent->store) && !watch_syncing(agent->watch))
		watch_resync(agent->watch);
}

static void on_hash(void *context, const char *redis_key, const struct rule_field *fields, size_t count)
{
	struct agent *agent = context;

	store_hash(agent->store, redis_key, fields, count);
	changed(agent);
}

static void on_wrong(void *context, const char *redis_key, const char *why)
{
	struct agent *agent = context;

	store_wrong(agent->store, redis_key, why);
	changed(agent);
}

static void on_gone(void *context, const char *redis_key)
{
	struct agent *agent = context;

	store_gone(agent->store, redis_key);
	changed(agent);
}

static void on_flushed(void *context)
{
	struct agent *agent = context;

	say("redis flushed: the rules in force stay until it is read again");
	store_flushed(agent->store);
	agent->in_step = false;
}

static void on_generation(void *context, bool present, uint64_t generation)
{
	struct agent *agent = context;
	bool new = present != agent->generation_present || generation != agent->generation;

	agent->generation_present = present;
	agent->generation = generation;
	if (new && present) {
		agent->force = true;
		changed(agent);
	}
	arm(agent); /* rules that were read before need not wait for it any more */
}

static void on_sync_begin(void *context)
{
	struct agent *agent = context;

	store_sync_begin(agent->store);
}

static void on_sync_end(void *context)
{
	struct agent *agent = context;
	bool was_empty = store_refuses_empty(agent->store);

	agent->in_step = store_sync_end(agent->store, agent->generation_present);
	if (!agent->in_step) {
		if (!was_empty)
			say("redis is empty, which removes nothing: the last rules stay in force until a rule or %sgeneration is there",
			    agent->config.redis_prefix);
		tell(agent);
		if (agent->once)
			finish(agent, 1);
		return;
	}
	agent->force |= agent->counts.images == 0;
	if (agent->force || store_pending(agent->store))
		publish(agent);
}

static void on_state(void *context)
{
	struct agent *agent = context;
	enum watch_state state = watch_state(agent->watch);

	agent->state_since = (uint64_t)time(NULL);
	if (state == WATCH_LIVE) {
		say("redis live address=%s keys=%zu", agent->config.redis_address, store_keys(agent->store));
		domains_tell(agent->domains, agent->watch);
		agent->presence_at = 0;
		agent->outage = false;
	} else if (state == WATCH_PAUSED) {
		if (!agent->outage) /* the attempts that follow say nothing new */
			say("redis down, the last rules stay in force: %s", watch_error(agent->watch));
		agent->outage = true;
		agent->in_step = false;
		if (agent->once)
			finish(agent, 1);
	}
	tell(agent);
}

/* ---- start and end ---- */

static void on_publish(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct agent *agent = timer->data;
	uint64_t left = until_publish(agent);

	(void)loop;
	(void)events;
	if (left && left != UINT64_MAX)
		arm(agent);
	else
		publish(agent);
}

/* Not amid a transaction of which some rules have been read. */
static void publish_when_read(struct agent *agent)
{
	if (watch_busy(agent->watch))
		touch(agent);
	else
		publish(agent);
}

static void on_expiry(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct agent *agent = timer->data;

	(void)loop;
	(void)events;
	agent->force = true;
	publish_when_read(agent);
}

static void on_dns(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	publish_when_read(timer->data);
}

static void on_save_due(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	save(timer->data);
}

static void on_heartbeat(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	tell_presence(timer->data);
	tell(timer->data);
}

/* Is there more in the image than what a fresh appliance starts with? */
static bool image_has_rules(const struct policy_image *image)
{
	const struct image_header *header = policy_image_header(image);
	const struct image_rule *fallback = policy_rule(image, header->default_rule);

	return header->domains.count > 0 || header->destinations.count > 1 || header->prefix4.count > 0 ||
	       header->prefix6.count > 0 || fallback->level != LEVEL_MAY || fallback->mode != MODE_OBSERVE;
}

/* What is in force from a former run. */
static void recall(struct agent *agent)
{
	char error[AGENT_ERROR_MAX], image_error[AGENT_ERROR_MAX];
	uint64_t generation = 0;
	json_t *findings = NULL;
	struct ruleset *rules = memory_read(agent->config.rules, &generation, &findings, error, sizeof(error));

	if (*error)
		say("%s", error);
	if (rules)
		agent->seeded = store_seed(agent->store, rules);
	domains_recall(agent->domains, findings);
	json_decref(findings);
	if (agent->seeded)
		domains_want(agent->domains, store_rules(agent->store));
	struct policy_image *image = policy_image_open(agent->config.image, image_error, sizeof(image_error));
	if (image) {
		const struct image_header *header = policy_image_header(image);
		agent->image.generation = header->generation;
		agent->image.compiled_at = header->compiled_at;
		agent->image.bytes = header->total_bytes;
		agent->image.rules = ruleset_count(store_rules(agent->store));
		if (!agent->seeded && image_has_rules(image))
			store_seed_foreign(agent->store);
		policy_image_close(image);
	}
	if (agent->seeded && !agent->once) {
		agent->generation = generation;
		agent->generation_present = generation != 0;
		if (!image) {
			say("no usable image (%s): made again from %s", image_error, agent->config.rules);
			agent->force = true;
			publish(agent);
		} else {
			uint64_t expiry = store_next_expiry(agent->store, agent->image.compiled_at);
			struct agent_timers *timers = agent->timers;
			if (expiry)
				timer_set(agent, &timers->expiry, until(expiry));
		}
		agent->generation_present = false;
	}
}

int agent_start(struct agent *agent, char *error, size_t error_len)
{
	static const struct watch_ops ops = {
		.wants = on_wants, .hash = on_hash, .wrong = on_wrong, .gone = on_gone, .flushed = on_flushed,
		.generation = on_generation, .sync_begin = on_sync_begin, .sync_end = on_sync_end, .state = on_state,
	};
	static const struct domains_ops domains_ops = {.changed = on_addresses, .save = on_save};
	struct agent_timers *timers = calloc(1, sizeof(*timers));

	agent->timers = timers;
	agent->store = store_new(agent->config.redis_prefix);
	agent->loop = ev_default_loop(EVFLAG_AUTO);
	agent->watch = agent->loop && timers ? watch_new(agent->loop, &agent->config, &ops, agent) : NULL;
	if (!agent->watch) {
		snprintf(error, error_len, "no memory");
		return -1;
	}
	ev_timer_init(&timers->publish, on_publish, 0, 0);
	ev_timer_init(&timers->expiry, on_expiry, 0, 0);
	ev_timer_init(&timers->dns, on_dns, 0, 0);
	ev_timer_init(&timers->save, on_save_due, 0, 0);
	ev_timer_init(&timers->heartbeat, on_heartbeat, AGENT_HEARTBEAT_S, AGENT_HEARTBEAT_S);
	timers->publish.data = timers->expiry.data = timers->heartbeat.data = timers->dns.data = timers->save.data = agent;
	agent->started_at = agent->state_since = (uint64_t)time(NULL);
	agent->running = true;
	if (agent->config.metrics_port && !agent->once) {
		agent->metrics = metrics_start(agent->config.metrics_host, agent->config.metrics_port, agent->config.file_prefix, error, error_len);
		if (!agent->metrics)
			return -1;
	}
	agent->domains = domains_new(agent->loop, &agent->config, &domains_ops, agent);
	recall(agent);
	if (!agent->once) {
		agent->presence = presence_new(&agent->config);
		/* A folder that is not there is found now, not at the first heartbeat. */
		if (report_state(agent, error, error_len) != 0)
			return -1;
		ev_timer_start(agent->loop, &timers->heartbeat);
	}
	return 0;
}

void agent_stop(struct agent *agent)
{
	struct agent_timers *timers = agent->timers;

	if (agent->watch && agent->running) {
		ev_timer_stop(agent->loop, &timers->publish);
		ev_timer_stop(agent->loop, &timers->heartbeat);
		ev_timer_stop(agent->loop, &timers->expiry);
		ev_timer_stop(agent->loop, &timers->dns);
		agent->running = false;
		tell(agent);
		if ((agent->domains || ev_is_active(&timers->save)) && agent->seeded && !agent->once)
			saving_now(agent);
	}
	saving_free(agent);
	presence_free(agent->presence);
	metrics_stop(agent->metrics);
	watch_free(agent->watch); /* whoever waits for an answer is told that none will come */
	domains_free(agent->domains);
	store_free(agent->store);
	free(timers);
}
