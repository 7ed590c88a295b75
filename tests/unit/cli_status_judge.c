/* cli_status_judge.c - what counts as down, what is only a warning, and that a stale heartbeat is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/status.h"

#define NOW 1800000000000ull

static const char healthy[] =
	"{\"waxseald\": {\"version\": \"0.1\", \"uptime_s\": 60, \"generation\": 5, \"compiled_at\": 1799999000, \"image_error\": \"\", \"workers\": 1},"
	" \"workers\": [{\"flows\": 1, \"flows_max\": 100, \"busy_permille\": 20, \"stalled\": \"false\"}],"
	" \"ports\": [{\"name\": \"eth0\", \"link_up\": \"true\"}, {\"name\": \"eth1\", \"link_up\": \"true\"}],"
	" \"image\": {\"path\": \"/i\", \"generation\": 5, \"compiled_at\": 1799999000},"
	" \"agent\": {\"running\": true, \"heartbeat_ms\": 1799999999500, \"refused\": [], \"refused_count\": 0, \"rules\": 3,"
	"             \"redis\": {\"state\": \"live\", \"error\": \"\"}, \"image\": {\"error\": \"\"}},"
	" \"redis\": {\"address\": \"a:1\", \"ping_ms\": 0}}";

/* The healthy object with one part replaced by `value` at `path` (one or two names). */
static json_t *judged(const char *part, const char *name, const char *value)
{
	json_t *status = json_loads(healthy, 0, NULL);

	assert_non_null(status);
	if (part) {
		json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
		assert_non_null(v);
		json_object_set_new(name ? json_object_get(status, part) : status, name ? name : part, v);
	}
	status_judge(status, NOW);
	return status;
}

static void expect(const char *part, const char *name, const char *value, bool ok, const char *warning)
{
	json_t *status = judged(part, name, value), *warnings = json_object_get(status, "warnings");
	const char *first = json_string_value(json_array_get(warnings, 0));

	assert_int_equal(json_array_size(warnings), warning ? 1 : 0);
	if (warning && !strstr(first, warning))
		fail_msg("\"%s\" is not in \"%s\"", warning, first);
	assert_int_equal(json_is_true(json_object_get(status, "ok")), ok);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	status_print(status, NOW, out);
	fclose(out);
	assert_non_null(strstr(text, warning ? warning : "Nothing is wrong."));
	assert_null(strchr(text, '\033'));
	free(text);
	json_decref(status);
}

static void all_well(void **state)
{
	(void)state;
	expect(NULL, NULL, NULL, true, NULL);
}

static void down(void **state)
{
	(void)state;
	expect("waxseald", NULL, "{\"error\": \"no such socket\"}", false, "waxseald is down: no such socket");
	expect("image", NULL, "{\"path\": \"/i\", \"error\": \"/i: checksum\"}", false, "no usable policy image: /i: checksum");
	expect("agent", NULL, "{\"error\": \"/a: No such file\"}", false, "waxseal-agent is not running");
	expect("agent", "running", "false", false, "was stopped");
	expect("agent", "heartbeat_ms", "1799999994000", false, "not been heard of for 6 s");
	expect("agent", "redis", "{\"state\": \"down\", \"error\": \"refused\"}", false, "not in step with Redis (down)");
	expect("redis", NULL, "{\"error\": \"Redis a:1: refused\"}", false, "Redis a:1: refused");
	expect("ports", NULL, "[{\"name\": \"eth0\", \"link_up\": \"false\"}]", false, "port eth0 (inside) has no link");
	expect("workers", NULL, "[{\"stalled\": true}]", false, "worker 0 stands still");
}

static void warnings(void **state)
{
	(void)state;
	expect("agent", "heartbeat_ms", "1799999995001", true, NULL);
	expect("agent", "empty_refused", "true", true, "Redis has no rules, which removes none: the last 3");
	expect("agent", "refused", "[{\"key\": \"waxseal:policy:a\", \"error\": \"level=x\\u001b[2J\"}]", true, "refused, last good form");
	expect("agent", "image", "{\"error\": \"disk full\"}", true, "disk full");
	expect("agent", "expiring", "[{\"key\": \"a.example\", \"expires\": 1799999880, \"over\": true, \"owner\": \"noc\", \"reason\": \"moving\"}]", true,
	       "a.example ended by itself 2 min ago and holds no more (owner: noc; reason: moving)");
	expect("agent", "expiring", "[{\"key\": \"a\", \"expires\": 1800086400, \"over\": false}]", true, NULL);
	expect("agent", "dns", "{\"enabled\": true, \"error\": \"no server\"}", true, "the DNS cannot be asked: no server");
	expect("agent", "dns", "{\"enabled\": true, \"domains\": 4, \"failing\": 4}", true, "the DNS answers for none of 4 domains");
	expect("waxseald", "image_error", "\"bad checksum\"", true, "keeps the one before: bad checksum");
	expect("waxseald", "compiled_at", "1799998000", true, "waxseald runs image generation 5");
	expect("workers", NULL, "[{\"busy_permille\": 950}]", true, "worker 0 is 95 % busy");
	expect("workers", NULL, "[{\"flows\": 9, \"flows_max\": 9}]", true, "flow table is full");
}

static void nothing_at_all(void **state)
{
	json_t *status = json_object();

	(void)state;
	status_judge(status, NOW);
	assert_false(json_is_true(json_object_get(status, "ok")));
	json_decref(status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_well), cmocka_unit_test(down), cmocka_unit_test(warnings),
					   cmocka_unit_test(nothing_at_all)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
