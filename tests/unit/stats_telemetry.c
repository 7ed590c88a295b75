/* stats/telemetry.c: the commands of stats.h, asked over DPDK's own socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <rte_eal.h>

#include "stats/stats.h"

static struct stats *workers[2];
static int line = -1;

static void status(void *context, struct stats_status *out)
{
	(void)context;
	*out = (struct stats_status){.version = "0.1", .inside = "eth0", .outside = "eth\"1", .fail = "open", .generation = 7, .workers = 2, .layout = "pipeline"};
}
static bool worker(void *context, unsigned index, struct stats_worker *out)
{
	(void)context;
	*out = (struct stats_worker){.flows = index + 1, .flows_max = 10, .stalled = index == 1};
	return true;
}
static bool port(void *context, unsigned index, struct stats_port *out)
{
	(void)context;
	*out = (struct stats_port){.name = "eth0", .driver = "net_af_xdp", .xdp = true, .rx_packets = 5};
	return index < 2;
}
#define FLOWS 1000
static bool wide, worker_is_silent;
static unsigned pages;

/* As from a table with every second place free. */
static unsigned flows(void *context, uint64_t cursor, struct stats_flow *out, unsigned max, struct stats_flows_at *at)
{
	unsigned n = 0;
	(void)context;
	pages++;
	*at = (struct stats_flows_at){.next = cursor, .silent = worker_is_silent};
	for (; at->next / 2 < FLOWS && n < max; at->next += 2) {
		struct stats_flow *row = &out[n++];
		*row = (struct stats_flow){.id = at->next / 2, .next = at->next + 2, .client = {[10] = 0xff, 0xff, 10, 77, 1, 1}, .client_port = 40000,
		                           .server = {0xfd, 0x77, [15] = 2}, .server_port = 25, .state = "SEALED", .destination = "*"};
		if (!wide)
			continue;
		memset(row->client, 0xfd, 16);
		memset(row->server, 0xfd, 16);
		memset(row->state, '"', sizeof(row->state) - 1);
		memset(row->phase, 'p', sizeof(row->phase) - 1);
		memset(row->destination, 'd', sizeof(row->destination) - 1);
		memset(row->rule, '\\', sizeof(row->rule) - 1);
		row->age_s = row->bytes[CLIENT] = row->bytes[SERVER] = INT64_MAX;
	}
	if (at->next / 2 == FLOWS)
		at->next = 0;
	return n;
}

static json_t *ask(const char *command)
{
	static char text[65536];
	char name[64];
	assert_true(send(line, command, strlen(command), 0) > 0);
	ssize_t len = recv(line, text, sizeof(text) - 1, 0);
	assert_true(len > 0);
	json_t *frame = json_loadb(text, (size_t)len, 0, NULL);
	assert_non_null(frame);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(command, ","), command);
	json_t *value = json_incref(json_object_get(frame, name));
	json_decref(frame);
	return value;
}
static json_int_t number(json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static int set_up(void **state)
{
	static struct stats_source source = {.workers = 2, .worker_stats = workers, .status = status, .worker = worker, .port = port, .flows = flows};
	char prefix[64], hello[1024];
	(void)state;
	snprintf(prefix, sizeof(prefix), "--file-prefix=waxseal-unit-%d", getpid());
	char *argv[] = {"unit", "--no-huge", "--no-pci", "-m", "64", prefix, "--log-level=*:error"};
	workers[0] = stats_new();
	workers[1] = stats_new();
	if (rte_eal_init(7, argv) < 0 || stats_telemetry_register(&source))
		return -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/dpdk_telemetry.v2", rte_eal_get_runtime_dir());
	line = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	return connect(line, (struct sockaddr *)&address, sizeof(address)) || recv(line, hello, sizeof(hello), 0) <= 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(line);
	stats_free(workers[0]);
	stats_free(workers[1]);
	return rte_eal_cleanup();
}

static void test_status_workers_ports(void **state)
{
	(void)state;
	json_t *s = ask("/waxseal/status");
	assert_string_equal(json_string_value(json_object_get(s, "inside")), "eth0");
	assert_string_equal(json_string_value(json_object_get(s, "outside")), "eth?1"); /* valid JSON whatever a name holds */
	assert_int_equal(number(s, "generation"), 7);
	assert_string_equal(json_string_value(json_object_get(s, "layout")), "pipeline");
	json_decref(s);
	s = ask("/waxseal/worker,1");
	assert_int_equal(number(s, "flows"), 2);
	assert_int_equal(number(s, "stalled"), 1);
	json_decref(s);
	s = ask("/waxseal/worker,2");
	assert_int_equal(json_object_size(s), 0);
	json_decref(s);
	s = ask("/waxseal/port,1");
	assert_int_equal(number(s, "rx_packets"), 5);
	json_decref(s);
}

static void test_counters_are_sums(void **state)
{
	(void)state;
	stats_add(workers[0], STAT_rx_packets, 3);
	stats_add(workers[1], STAT_rx_packets, 4);
	json_t *all = ask("/waxseal/counters");
	assert_int_equal(json_object_size(all), STATS_COUNTERS_N);
	assert_int_equal(number(all, "rx_packets"), 7);
	json_decref(all);
}

static void test_destinations_fit_an_answer(void **state)
{
	(void)state;
	struct stats_destination *d = stats_destination(workers[0], "full");
	memset((char *)d + sizeof(d->name), 0x11, sizeof(*d) - sizeof(d->name)); /* every number there can be, and large */
	json_t *one = ask("/waxseal/destination,0");
	assert_string_equal(json_string_value(json_object_get(one, "name")), "full");
	size_t numbers = (sizeof(*d) - sizeof(d->name)) / sizeof(uint64_t);
	assert_int_equal(json_object_size(one), numbers + 1);
	assert_int_equal(number(one, "sessions/outbound/sealed"), 0x1111111111111111);
	assert_int_equal(number(one, "reasons/not_offered"), 0x1111111111111111);
	assert_int_equal(number(one, "versions/TLSv1/3"), 0x1111111111111111);
	json_decref(one);
	one = ask("/waxseal/destination,1");
	assert_int_equal(json_object_size(one), 0);
	json_decref(one);
}

static const char *text_in(json_t *page, const char *column, size_t row)
{
	return json_string_value(json_array_get(json_object_get(page, column), row));
}

/* Each flow once and none left out, however much of an answer a row takes. */
static size_t all_pages(size_t *first_page)
{
	char command[64];
	json_int_t cursor = 0;
	size_t rows = 0;

	pages = 0;
	do {
		snprintf(command, sizeof(command), "/waxseal/flows,%lld", (long long)cursor);
		json_t *page = ask(command);
		size_t here = json_array_size(json_object_get(page, "id"));
		for (size_t i = 0; i < here; i++)
			assert_int_equal(json_integer_value(json_array_get(json_object_get(page, "id"), i)), rows + i);
		static const char *const columns[] = {"client", "server", "state", "phase", "age_s", "destination", "rule", "bytes_client", "bytes_server"};
		for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++)
			assert_int_equal(json_array_size(json_object_get(page, columns[c])), here);
		if (!cursor)
			*first_page = here;
		rows += here;
		assert_true(here || !number(page, "next"));
		assert_true(!number(page, "next") || number(page, "next") > cursor);
		cursor = number(page, "next");
		json_decref(page);
	} while (cursor);
	return rows;
}

static void test_flows_in_pages(void **state)
{
	size_t narrow_page, wide_page;
	(void)state;
	json_t *page = ask("/waxseal/flows,0");
	assert_string_equal(text_in(page, "client", 0), "10.77.1.1:40000");
	assert_string_equal(text_in(page, "server", 0), "[fd77::2]:25");
	assert_int_equal(number(page, "silent"), 0);
	json_decref(page);
	assert_int_equal(all_pages(&narrow_page), FLOWS);
	wide = true;
	assert_int_equal(all_pages(&wide_page), FLOWS);
	assert_true(wide_page >= 25 && narrow_page >= 100);
	assert_int_equal(pages, 1); /* the table is asked once for many answers */
	page = ask("/waxseal/flows,0");
	json_t *other = ask("/waxseal/flows,1000"); /* somebody else's cursor */
	assert_int_equal(json_integer_value(json_array_get(json_object_get(other, "id"), 0)), 500);
	json_decref(other);
	char command[64];
	snprintf(command, sizeof(command), "/waxseal/flows,%lld", (long long)number(page, "next"));
	other = ask(command);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(other, "id"), 0)), number(page, "next") / 2);
	json_decref(other);
	json_decref(page);
	page = ask("/waxseal/flows,0");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(page, "bytes_server"), 0)), INT64_MAX);
	assert_string_equal(text_in(page, "state", 0), "???????????????");
	json_decref(page);
	wide = false;
	page = ask("/waxseal/flows,2000");
	assert_int_equal(json_array_size(json_object_get(page, "id")), 0);
	json_decref(page);
	worker_is_silent = true;
	page = ask("/waxseal/flows,0");
	assert_int_equal(number(page, "silent"), 1);
	json_decref(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_workers_ports), cmocka_unit_test(test_counters_are_sums),
		cmocka_unit_test(test_destinations_fit_an_answer), cmocka_unit_test(test_flows_in_pages),
	};
	return cmocka_run_group_tests_name("stats_telemetry", tests, set_up, tear_down);
}
