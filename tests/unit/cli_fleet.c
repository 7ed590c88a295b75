/* cli_fleet.c - what is said of appliances from hashes that anybody may have written; and of a domain from the agent's memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/fleet.h"
#include "../../control/cli/known.h"

static json_t *hash(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, 0, &error);

	if (!value)
		fail_msg("%s: %s", text, error.text);
	return value;
}

static char *printed(const json_t *fleet)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fleet_print(fleet, out);
	fclose(out);
	return text;
}

static const char *state(const json_t *fleet, size_t i)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(fleet, "appliances"), i), "state"));
}

static void states(void **unused)
{
	json_t *fleet = fleet_judge(hash("[{\"id\":\"d\",\"silent_s\":11,\"waxseald\":\"up\"},{\"id\":\"a\",\"silent_s\":10,\"waxseald\":\"up\","
					 "\"lag_s\":\"10\"},{\"id\":\"b\",\"silent_s\":0,\"waxseald\":\"up\",\"lag_s\":\"11\"},"
					 "{\"id\":\"c\",\"silent_s\":0,\"waxseald\":\"down\"},{\"id\":\"e\",\"silent_s\":0}]"));

	(void)unused;
	assert_string_equal(state(fleet, 0), "up");
	assert_string_equal(state(fleet, 1), "behind");
	assert_string_equal(state(fleet, 2), "down");
	assert_string_equal(state(fleet, 3), "silent");
	assert_string_equal(state(fleet, 4), "down");
	assert_false(json_is_true(json_object_get(fleet, "ok")));
	json_decref(fleet);
	fleet = fleet_judge(hash("[{\"id\":\"b\",\"silent_s\":0,\"waxseald\":\"up\",\"lag_s\":\"11\"}]"));
	assert_true(json_is_true(json_object_get(fleet, "ok"))); /* behind, but at work */
	json_decref(fleet);
}

static void what_anybody_writes(void **unused)
{
	json_t *fleet = fleet_judge(hash("[{\"id\":\"x\\u001b[2J\",\"silent_s\":5,\"waxseald\":\"up\",\"flows\":\"-1\",\"rules\":\"many\","
					 "\"generation\":\"99999999999999999999999\",\"version\":7}]"));
	char *text = printed(fleet);

	(void)unused;
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "5 s ago"));
	free(text);
	json_decref(fleet);
	fleet = fleet_judge(json_array());
	text = printed(fleet);
	assert_non_null(strstr(text, "No appliance"));
	assert_false(json_is_true(json_object_get(fleet, "ok")));
	free(text);
	json_decref(fleet);
}

static void more_than_are_shown(void **unused)
{
	json_t *hashes = json_array();
	char id[16];

	(void)unused;
	for (int i = 0; i < FLEET_MAX + 1; i++) {
		snprintf(id, sizeof(id), "a%05d", i);
		json_array_append_new(hashes, json_pack("{s:s, s:i, s:s}", "id", id, "silent_s", 0, "waxseald", "up"));
	}
	json_t *fleet = fleet_judge(hashes);
	char *text = printed(fleet);
	assert_int_equal(json_array_size(json_object_get(fleet, "appliances")), FLEET_MAX);
	assert_non_null(strstr(text, "... and 1 more."));
	free(text);
	json_decref(fleet);
}

static void from_the_memory(void **unused)
{
	json_t *memory = hash("{\"a.test\": {\"time\": 100, \"ttl\": 60, \"error\": \"a.test: SERVFAIL\", \"mx\": ["
			      "{\"name\": \"mx1.a.test\", \"A\": [\"10.0.0.1\", 7], \"AAAA\": [\"fd77::1\"]}, {\"name\": \"mx2.a.test\"},"
			      "{\"name\": \"mx3.a.test\", \"A\": [\"10.0.0.3\"]}]}, \"b.test\": 7}");
	json_t *known = known_from_memory(memory, "a.test");
	char *text;
	size_t len;

	(void)unused;
	assert_null(known_from_memory(memory, "b.test"));
	assert_null(known_from_memory(memory, "c.test"));
	assert_null(known_from_memory(NULL, "a.test"));
	assert_string_equal(json_string_value(json_object_get(known, "mx")), "mx1.a.test mx2.a.test mx3.a.test");
	assert_string_equal(json_string_value(json_object_get(known, "addresses")), "mx1.a.test=10.0.0.1,fd77::1 mx3.a.test=10.0.0.3");
	FILE *out = open_memstream(&text, &len);
	known_print(known, "a.test", 220, out);
	known_print(NULL, "c.test", 220, out);
	fclose(out);
	assert_non_null(strstr(text, "goes to: mx1.a.test mx2.a.test mx3.a.test; the DNS said so 2 min ago"));
	assert_non_null(strstr(text, "a.test: SERVFAIL"));
	assert_non_null(strstr(text, "The DNS of c.test is not known"));
	free(text);
	json_decref(known);
	json_decref(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states), cmocka_unit_test(what_anybody_writes), cmocka_unit_test(more_than_are_shown),
		cmocka_unit_test(from_the_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
