/*
 * presence.c - the thread that asks waxseald, and the hash.
 *
 * The thread owns the telemetry socket; the loop takes a copy of the last numbers under a lock and never waits.
 */
#include "presence.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../policy/telemetry.h"

#define KEY_MAX (2 * CONTROL_PREFIX_MAX + 80)
#define TEXT_MAX 64
#define FIELDS 15

struct numbers { /* waxseald's */
	bool up;
	char version[TEXT_MAX];
	uint64_t generation, compiled_at, uptime_s, flows, takeovers, busy_permille;
};

struct presence {
	const struct control_config *config;
	char host[TEXT_MAX], key[KEY_MAX];
	uint64_t behind_since, lag_s;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool ending;
	struct numbers numbers; /* under the lock */
};

static uint64_t number(const json_t *object, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(object, name));

	return n > 0 ? (uint64_t)n : 0;
}

static struct numbers ask(const char *file_prefix)
{
	char error[256];
	struct numbers numbers = {0};
	struct telemetry *telemetry = telemetry_open(file_prefix, error, sizeof(error));
	json_t *status = telemetry ? telemetry_ask(telemetry, "/waxseal/status", error, sizeof(error)) : NULL, *worker;
	size_t i;

	if (json_is_object(status)) {
		const char *version = json_string_value(json_object_get(status, "version"));
		json_t *workers = telemetry_ask_all(telemetry, "/waxseal/worker", PRESENCE_WORKERS_MAX, error, sizeof(error));
		numbers.up = true;
		snprintf(numbers.version, sizeof(numbers.version), "%s", version ? version : "");
		numbers.generation = number(status, "generation");
		numbers.compiled_at = number(status, "compiled_at");
		numbers.uptime_s = number(status, "uptime_s");
		json_array_foreach(workers, i, worker)
		{
			numbers.flows += number(worker, "flows");
			numbers.takeovers += number(worker, "takeovers");
			uint64_t busy = number(worker, "busy_permille");
			numbers.busy_permille = busy > numbers.busy_permille ? busy : numbers.busy_permille;
		}
		json_decref(workers);
	}
	json_decref(status);
	telemetry_close(telemetry);
	return numbers;
}

static void *run(void *memory)
{
	struct presence *presence = memory;

	pthread_mutex_lock(&presence->lock);
	while (!presence->ending) {
		struct timespec until;
		pthread_mutex_unlock(&presence->lock);
		struct numbers numbers = ask(presence->config->file_prefix);
		pthread_mutex_lock(&presence->lock);
		presence->numbers = numbers;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1;
		if (!presence->ending)
			pthread_cond_timedwait(&presence->wake, &presence->lock, &until);
	}
	pthread_mutex_unlock(&presence->lock);
	return NULL;
}

struct presence *presence_new(const struct control_config *config)
{
	struct presence *presence = calloc(1, sizeof(*presence));

	if (!presence)
		return NULL;
	presence->config = config;
	if (gethostname(presence->host, sizeof(presence->host) - 1) != 0 || !presence->host[0])
		snprintf(presence->host, sizeof(presence->host), "unnamed");
	snprintf(presence->key, sizeof(presence->key), "%sappliance:%s", config->redis_prefix, config->id[0] ? config->id : presence->host);
	pthread_mutex_init(&presence->lock, NULL);
	pthread_cond_init(&presence->wake, NULL);
	if (pthread_create(&presence->thread, NULL, run, presence) == 0)
		return presence;
	pthread_cond_destroy(&presence->wake);
	pthread_mutex_destroy(&presence->lock);
	free(presence);
	return NULL;
}

void presence_free(struct presence *presence)
{
	if (!presence)
		return;
	pthread_mutex_lock(&presence->lock);
	presence->ending = true;
	pthread_cond_signal(&presence->wake);
	pthread_mutex_unlock(&presence->lock);
	pthread_join(presence->thread, NULL);
	pthread_cond_destroy(&presence->wake);
	pthread_mutex_destroy(&presence->lock);
	free(presence);
}

static void measure_lag(struct presence *presence, const struct numbers *numbers, const struct presence_facts *facts)
{
	bool behind = facts->image_failed || (numbers->up && (numbers->generation != facts->image_generation ||
							      numbers->compiled_at < facts->image_compiled_at));

	if (!behind)
		presence->behind_since = 0;
	else if (!presence->behind_since)
		presence->behind_since = facts->now_s;
	presence->lag_s = behind && facts->now_s > presence->behind_since ? facts->now_s - presence->behind_since : 0;
}

void presence_write(struct presence *presence, struct watch *watch, const struct presence_facts *facts)
{
	char texts[FIELDS][TEXT_MAX];
	const char *set[2 + 2 * FIELDS] = {"HSET", presence->key}, *end[] = {"EXPIRE", presence->key, APPLIANCE_TTL_TEXT};
	int argc = 2, field = 0;

	pthread_mutex_lock(&presence->lock);
	struct numbers numbers = presence->numbers;
	pthread_mutex_unlock(&presence->lock);
	measure_lag(presence, &numbers, facts);
	const struct { const char *name; uint64_t value; } rows[] = {
		{"time", facts->now_s}, {"generation", facts->generation}, {"image_generation", facts->image_generation},
		{"running_generation", numbers.generation}, {"lag_s", presence->lag_s}, {"rules", facts->rules}, {"refused", facts->refused},
		{"flows", numbers.flows}, {"takeovers", numbers.takeovers}, {"busy_permille", numbers.busy_permille},
		{"uptime_s", numbers.uptime_s},
	};
	const struct { const char *name, *value; } words[] = {
		{"version", facts->version}, {"host", presence->host}, {"waxseald", numbers.up ? "up" : "down"},
		{"waxseald_version", numbers.version},
	};
	_Static_assert(sizeof(rows) / sizeof(rows[0]) + sizeof(words) / sizeof(words[0]) == FIELDS, "every field has its text");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++, field++) {
		snprintf(texts[field], TEXT_MAX, "%" PRIu64, rows[i].value);
		set[argc++] = rows[i].name;
		set[argc++] = texts[field];
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		set[argc++] = words[i].name;
		set[argc++] = words[i].value;
	}
	watch_write(watch, argc, set);
	watch_write(watch, sizeof(end) / sizeof(end[0]), end);
}

uint64_t presence_lag_s(const struct presence *presence) { return presence ? presence->lag_s : 0; }
