/*
 * report.c - struct agent as JSON and as Prometheus text.
 *
 * Both say the same from the same fields; a name that stands here is an interface: `waxseal status` and
 * dashboards read it.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../policy/text.h"

#define REPORT_KEY_MAX 1100 /* watch.c takes keys of 1,024 bytes */

static json_t *integer(uint64_t n) { return json_integer((json_int_t)n); }

struct listing {
	json_t *array;
};

static void list_refused(void *context, const char *redis_key, const char *error)
{
	struct listing *listing = context;

	if (json_array_size(listing->array) == REPORT_REFUSED_MAX)
		return;
	char key[REPORT_KEY_MAX], what[REPORT_KEY_MAX];
	text_clean(redis_key, key, sizeof(key)); /* anybody's bytes; jansson takes nothing but UTF-8 */
	text_clean(error, what, sizeof(what));
	json_t *entry = json_object();
	json_object_set_new(entry, "key", json_string(key));
	json_object_set_new(entry, "error", json_string(what));
	json_array_append_new(listing->array, entry);
}

/* Rules that have ended by themselves, or will soon, and whose they are. */
static json_t *expiring(const struct ruleset *rules, uint64_t now)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	json_t *array = json_array();
	const struct rule *rule;

	for (size_t i = 0; json_array_size(array) < REPORT_EXPIRING_MAX && (rule = ruleset_at(rules, i)); i++) {
		uint64_t expires = rule_expires(rule);
		if (!expires || expires > now + REPORT_EXPIRING_S)
			continue;
		json_t *entry = json_pack("{s:s, s:o, s:b}", "key", rule_key(rule), "expires", integer(expires), "over", expires <= now);
		size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX);
		for (size_t f = 0; f < count; f++)
			if (!strcmp(fields[f].name, "owner") || !strcmp(fields[f].name, "reason"))
				json_object_set_new(entry, fields[f].name, json_string(fields[f].value));
		json_array_append_new(array, entry);
	}
	return array;
}

static json_t *state_json(const struct agent *agent)
{
	const struct watch_counts *counts = watch_counts(agent->watch);
	struct listing listing = {.array = json_array()};
	size_t refused = store_refused(agent->store, list_refused, &listing);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_t *redis = json_pack("{s:s, s:s, s:o, s:s}", "address", agent->config.redis_address, "state",
				  watch_state_name(watch_state(agent->watch)), "since", integer(agent->state_since), "error",
				  watch_error(agent->watch));
	json_t *image = json_pack("{s:s, s:o, s:o, s:o, s:o, s:f, s:s}", "path", agent->config.image, "generation",
				  integer(agent->image.generation), "compiled_at", integer(agent->image.compiled_at), "bytes",
				  integer(agent->image.bytes), "rules", integer(agent->image.rules), "compile_ms",
				  agent->image.compile_ms, "error", agent->image.error);
	json_t *numbers = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "images", integer(agent->counts.images),
				    "compile_errors", integer(agent->counts.compile_errors), "write_errors",
				    integer(agent->counts.write_errors), "connects", integer(counts->connects), "failures",
				    integer(counts->failures), "invalidations", integer(counts->invalidations), "syncs",
				    integer(counts->syncs), "fetches", integer(counts->fetches));
	json_t *state = json_pack("{s:s, s:i, s:b, s:o, s:o, s:o, s:b, s:o, s:o, s:b, s:o, s:o}", "version", AGENT_VERSION,
				  "pid", (int)getpid(), "running", agent->running, "started_at", integer(agent->started_at),
				  "heartbeat_ms", integer((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000),
				  "generation", integer(agent->generation), "generation_present", agent->generation_present,
				  "keys", integer(store_keys(agent->store)), "rules",
				  integer(ruleset_count(store_rules(agent->store))), "empty_refused",
				  store_refuses_empty(agent->store), "refused", listing.array, "refused_count", integer(refused));
	json_object_set_new(state, "expiring", expiring(store_rules(agent->store), (uint64_t)now.tv_sec));
	json_object_set_new(state, "redis", redis);
	json_object_set_new(state, "image", image);
	json_object_set_new(state, "counts", numbers);
	json_object_set_new(redis, "write_error", json_string(watch_write_error(agent->watch)));
	json_object_set_new(state, "dns", domains_report(agent->domains));
	return state;
}

int report_state(const struct agent *agent, char *error, size_t error_len)
{
	char temporary[CONTROL_TEXT_MAX + 8];
	json_t *state = state_json(agent);
	char *text = json_dumps(state, JSON_INDENT(1));
	int rc = -ENOMEM, fd = -1;

	json_decref(state);
	snprintf(temporary, sizeof(temporary), "%s.tmp", agent->config.state);
	if (text)
		fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (text && fd < 0)
		rc = -errno;
	if (fd >= 0) {
		size_t len = strlen(text);
		ssize_t n = write(fd, text, len);
		rc = n == (ssize_t)len ? 0 : n < 0 ? -errno : -ENOSPC;
		close(fd);
		if (rc == 0 && rename(temporary, agent->config.state) != 0)
			rc = -errno;
		if (rc != 0)
			unlink(temporary);
	}
	free(text);
	if (rc != 0)
		snprintf(error, error_len, "[agent] state: %s: %s; its folder must exist and be writable", agent->config.state, strerror(-rc));
	return rc;
}

char *report_metrics(const struct agent *agent)
{
	const struct watch_counts *watch = watch_counts(agent->watch);
	const struct discover_counts dns = domains_counts(agent->domains);
	const struct { const char *name, *type, *help; double value; } rows[] = {
		{"redis_up", "gauge", "1 while the agent is in step with Redis", watch_state(agent->watch) == WATCH_LIVE},
		{"redis_connects_total", "counter", "attempts to connect to Redis", (double)watch->connects},
		{"redis_failures_total", "counter", "connections to Redis that failed or were lost", (double)watch->failures},
		{"redis_invalidations_total", "counter", "invalidation messages taken", (double)watch->invalidations},
		{"redis_syncs_total", "counter", "complete readings of all rules", (double)watch->syncs},
		{"redis_fetches_total", "counter", "rules fetched", (double)watch->fetches},
		{"rule_keys", "gauge", "keys of rules in Redis", (double)store_keys(agent->store)},
		{"rules", "gauge", "rules in force", (double)ruleset_count(store_rules(agent->store))},
		{"rules_refused", "gauge", "keys that are refused: not in force as Redis has them", (double)store_refused(agent->store, NULL, NULL)},
		{"empty_refused", "gauge", "1 while Redis is empty and the last rules are kept in force", store_refuses_empty(agent->store)},
		{"generation", "gauge", "waxseal:generation in Redis", (double)agent->generation},
		{"image_generation", "gauge", "generation of the last image written", (double)agent->image.generation},
		{"image_compiled_seconds", "gauge", "Unix time of the last image written", (double)agent->image.compiled_at},
		{"image_bytes", "gauge", "size of the last image written", (double)agent->image.bytes},
		{"compile_seconds", "gauge", "time that the last compile took", agent->image.compile_ms / 1000},
		{"images_total", "counter", "images written", (double)agent->counts.images},
		{"compile_errors_total", "counter", "compiles that failed", (double)agent->counts.compile_errors},
		{"redis_writes_total", "counter", "findings and heartbeats sent to Redis", (double)watch->writes},
		{"redis_writes_refused_total", "counter", "of these, refused by Redis", (double)watch->writes_refused},
		{"dns_domains", "gauge", "domains whose MX are looked after", (double)dns.domains},
		{"dns_domains_failing", "gauge", "of these, without an answer the last time", (double)dns.failing},
		{"dns_questions_total", "counter", "questions to the DNS", (double)dns.questions},
		{"dns_failures_total", "counter", "questions that the DNS could not answer", (double)dns.failures},
		{"dns_timeouts_total", "counter", "of these, without any answer in time", (double)dns.timeouts},
		{"dns_records_ignored_total", "counter", "records that name no mail server, or past a limit", (double)dns.ignored},
		{"write_errors_total", "counter", "images that could not be written", (double)agent->counts.write_errors},
	};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		fprintf(out, "# HELP waxseal_agent_%s %s\n# TYPE waxseal_agent_%s %s\nwaxseal_agent_%s %.17g\n", rows[i].name,
			rows[i].help, rows[i].name, rows[i].type, rows[i].name, rows[i].value);
	fclose(out);
	return text;
}
