/*
 * agent_sightings.c - session events read from a file: which of them say that a server does TLS, and when it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../control/agent/sightings.h"

static struct control_config config;
static FILE *events;
static unsigned written;

static void event(const char *server, uint64_t at)
{
	char printed[32];
	time_t seconds = (time_t)at;
	struct tm tm;

	strftime(printed, sizeof(printed), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
	fprintf(events, "{\"at\":\"%s.123Z\",\"direction\":\"outbound\",\"server\":\"%s\",\"end\":\"sealed\"}\n", printed, server);
	fflush(events);
	written++;
}

static void on_changed(void *context) { (void)context; }

/* The agent was away, or has lost its memory: what it reads now happened then. */
static void a_session_was_when_it_was(void **state)
{
	uint64_t now = (uint64_t)time(NULL);
	size_t count;

	(void)state;
	event("192.0.2.1", now - 86400);
	event("192.0.2.2", now - FINDINGS_SEEN_TTL_S - 10);
	event("192.0.2.3", now);
	fputs("{\"at\":\"yesterday\",\"direction\":\"outbound\",\"server\":\"192.0.2.4\",\"end\":\"sealed\"}\n", events);
	fflush(events);
	written++;
	struct ev_loop *loop = ev_default_loop(0);
	struct sightings *sightings = sightings_new(loop, &config, on_changed, NULL);
	while (sightings_counts(sightings).events < written)
		ev_run(loop, EVRUN_ONCE);
	const struct discovered_seen *found = seen_found(sightings_seen(sightings), &count);
	assert_int_equal(count, 2);
	assert_int_equal(found[0].at, now - 86400);
	assert_int_equal(found[1].at, now);
	sightings_free(sightings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_session_was_when_it_was)};
	char path[] = "/tmp/sightings-XXXXXX";
	int fd = mkstemp(path);

	events = fd < 0 ? NULL : fdopen(fd, "w");
	if (!events)
		return 1;
	snprintf(config.events, sizeof(config.events), "%s", path);
	snprintf(config.id, sizeof(config.id), "test");
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fclose(events);
	unlink(path);
	return failed;
}
