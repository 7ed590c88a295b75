/*
 * telemetry.c - the commands that stats.h lists, on DPDK's telemetry socket.
 *
 * They run on rte_telemetry's own thread: they read counters and ask the process's callbacks, and change
 * nothing. DPDK lets a name hold letters, digits, '_' and '/' only, so a destination's
 * "reasons.not-offered" goes out as "reasons/not_offered"; control/ turns it back.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_telemetry.h>

#include "stats.h"

#define SUM_AGE_MAX_S 1
#define ANSWER_BYTES_MAX (16384 - 512) /* of DPDK's 16 KiB, beside names and brackets: what is longer is not sent at all */
#define FLOWS_TAKEN_MAX 1024           /* connections taken from a worker at once, for several answers: it has packets to look after */

static const struct stats_source *source;

static unsigned long index_of(const char *params)
{
	return params && *params ? strtoul(params, NULL, 10) : 0;
}

static size_t clean_text(const char *value, char clean[RTE_TEL_MAX_STRING_LEN])
{
	size_t len = 0;

	for (; len < RTE_TEL_MAX_STRING_LEN - 1 && value[len]; len++)
		clean[len] = value[len] >= 0x20 && value[len] < 0x7f && value[len] != '"' && value[len] != '\\' ? value[len] : '?';
	clean[len] = 0;
	return len;
}

static void add_text(struct rte_tel_data *data, const char *name, const char *value)
{
	char clean[RTE_TEL_MAX_STRING_LEN];

	clean_text(value, clean);
	rte_tel_data_add_dict_string(data, name, clean);
}

static int on_status(const char *command, const char *params, struct rte_tel_data *data)
{
	struct stats_status s;

	(void)command;
	(void)params;
	source->status(source->context, &s);
	rte_tel_data_start_dict(data);
	add_text(data, "version", s.version);
	rte_tel_data_add_dict_u64(data, "uptime_s", s.uptime_s);
	add_text(data, "inside", s.inside);
	add_text(data, "outside", s.outside);
	add_text(data, "fail", s.fail);
	rte_tel_data_add_dict_u64(data, "workers", s.workers);
	add_text(data, "layout", s.layout);
	add_text(data, "image", s.image);
	rte_tel_data_add_dict_u64(data, "generation", s.generation);
	rte_tel_data_add_dict_u64(data, "compiled_at", s.compiled_at);
	add_text(data, "image_error", s.image_error);
	rte_tel_data_add_dict_u64(data, "images_refused", s.images_refused);
	return 0;
}

static int on_worker(const char *command, const char *params, struct rte_tel_data *data)
{
	struct stats_worker w;
	unsigned long index = index_of(params);

	(void)command;
	rte_tel_data_start_dict(data);
	if (index >= source->workers || !source->worker(source->context, (unsigned)index, &w))
		return 0;
	rte_tel_data_add_dict_u64(data, "flows", w.flows);
	rte_tel_data_add_dict_u64(data, "flows_max", w.flows_max);
	rte_tel_data_add_dict_u64(data, "takeovers", w.takeovers);
	rte_tel_data_add_dict_u64(data, "takeovers_max", w.takeovers_max);
	rte_tel_data_add_dict_u64(data, "buffers", w.buffers);
	rte_tel_data_add_dict_u64(data, "buffers_max", w.buffers_max);
	rte_tel_data_add_dict_u64(data, "busy_permille", w.busy_permille);
	rte_tel_data_add_dict_u64(data, "stalled", w.stalled);
	return 0;
}

static int on_port(const char *command, const char *params, struct rte_tel_data *data)
{
	struct stats_port p;
	unsigned long index = index_of(params);

	(void)command;
	rte_tel_data_start_dict(data);
	if (index > UINT32_MAX || !source->port(source->context, (unsigned)index, &p))
		return 0;
	add_text(data, "name", p.name);
	add_text(data, "driver", p.driver);
	rte_tel_data_add_dict_u64(data, "xdp", p.xdp);
	rte_tel_data_add_dict_u64(data, "link_up", p.link_up);
	rte_tel_data_add_dict_u64(data, "rx_packets", p.rx_packets);
	rte_tel_data_add_dict_u64(data, "tx_packets", p.tx_packets);
	rte_tel_data_add_dict_u64(data, "rx_missed", p.rx_missed);
	rte_tel_data_add_dict_u64(data, "tx_errors", p.tx_errors);
	return 0;
}

static int on_counters(const char *command, const char *params, struct rte_tel_data *data)
{
	uint64_t total[STATS_COUNTERS_N];

	(void)command;
	(void)params;
	stats_sum(source->worker_stats, source->workers, total);
	rte_tel_data_start_dict(data);
	for (unsigned c = 0; c < STATS_COUNTERS_N; c++)
		rte_tel_data_add_dict_u64(data, stats_counter_name(c), total[c]);
	return 0;
}

/* "group.part.name": zeros are left out, a busy appliance has few kinds of each. */
static void add_number(struct rte_tel_data *data, const char *group, const char *part, const char *name, uint64_t value)
{
	char full[RTE_TEL_MAX_STRING_LEN];

	if (!value)
		return;
	snprintf(full, sizeof(full), "%s/%s%s%s", group, part, *part ? "/" : "", name);
	for (char *p = full; *p; p++)
		*p = *p == '.' ? '/' : *p == '-' ? '_' : *p;
	rte_tel_data_add_dict_u64(data, full, value);
}

static void add_destination(struct rte_tel_data *data, const struct stats_destination *d)
{
	static const char *const directions[STATS_DIRECTIONS] = {"outbound", "inbound"};
	static const char *const actions[POLICY_ACTIONS] = {"allow", "defer", "reject"};

	add_text(data, "name", d->name);
	for (unsigned way = 0; way < STATS_DIRECTIONS; way++)
		for (unsigned e = 0; e < STATS_ENDS; e++)
			add_number(data, "sessions", directions[way], stats_end_name(e), d->sessions[way][e]);
	for (unsigned r = 0; r < STATS_RECIPIENTS; r++)
		add_number(data, "recipients", "", stats_recipient_name(r), d->recipients[r]);
	for (unsigned a = 0; a < POLICY_ACTIONS; a++)
		add_number(data, "would", "", actions[a], d->would[a]);
	for (unsigned r = 0; r < POLICY_REASONS; r++)
		add_number(data, "reasons", "", policy_reason_name(r), d->reasons[r]);
	for (unsigned v = 0; v < STATS_VERSIONS; v++)
		add_number(data, "versions", "", stats_version_name(v), d->versions[v]);
	rte_tel_data_add_dict_u64(data, "resumed", d->resumed);
	rte_tel_data_add_dict_u64(data, "messages", d->messages);
	rte_tel_data_add_dict_u64(data, "bytes", d->bytes);
}

/* Whoever reads all destinations asks once for each: one sum serves them, for a second at most. */
static struct {
	pthread_mutex_t lock; /* each client of the socket has a thread */
	struct stats_destination *all;
	unsigned count;
	struct timespec at;
} sum = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void sum_renew(bool first)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!first && sum.all && now.tv_sec - sum.at.tv_sec <= SUM_AGE_MAX_S)
		return;
	free(sum.all);
	sum.all = stats_sum_destinations(source->worker_stats, source->workers, &sum.count);
	sum.at = now;
}

static int on_destination(const char *command, const char *params, struct rte_tel_data *data)
{
	unsigned long index = index_of(params);

	(void)command;
	rte_tel_data_start_dict(data);
	pthread_mutex_lock(&sum.lock);
	sum_renew(index == 0);
	if (sum.all && index < sum.count)
		add_destination(data, &sum.all[index]);
	pthread_mutex_unlock(&sum.lock);
	return 0;
}

/* ---- connections, by columns: a dictionary for each would spend most of an answer on names ---- */

enum text_column { CLIENT_AT, SERVER_AT, STATE, PHASE, DESTINATION, RULE, TEXT_COLUMNS };
enum number_column { ID, AGE, BYTES_CLIENT, BYTES_SERVER, NUMBER_COLUMNS };
static const char *const text_names[TEXT_COLUMNS] = {
	[CLIENT_AT] = "client", [SERVER_AT] = "server", [STATE] = "state", [PHASE] = "phase", [DESTINATION] = "destination", [RULE] = "rule",
};
static const char *const number_names[NUMBER_COLUMNS] = {[ID] = "id", [AGE] = "age_s", [BYTES_CLIENT] = "bytes_client", [BYTES_SERVER] = "bytes_server"};

struct columns {
	struct rte_tel_data *text[TEXT_COLUMNS], *number[NUMBER_COLUMNS];
	size_t bytes; /* of JSON, so far */
};

static void columns_free(struct columns *columns)
{
	for (unsigned c = 0; c < TEXT_COLUMNS; c++)
		rte_tel_data_free(columns->text[c]);
	for (unsigned c = 0; c < NUMBER_COLUMNS; c++)
		rte_tel_data_free(columns->number[c]);
}

static bool columns_new(struct columns *columns)
{
	bool good = true;

	*columns = (struct columns){.bytes = 0};
	for (unsigned c = 0; c < TEXT_COLUMNS; c++)
		good &= (columns->text[c] = rte_tel_data_alloc()) && rte_tel_data_start_array(columns->text[c], RTE_TEL_STRING_VAL) == 0;
	for (unsigned c = 0; c < NUMBER_COLUMNS; c++)
		good &= (columns->number[c] = rte_tel_data_alloc()) && rte_tel_data_start_array(columns->number[c], RTE_TEL_U64_VAL) == 0;
	if (!good)
		columns_free(columns);
	return good;
}

static size_t endpoint_text(const uint8_t address[16], uint16_t port, char out[RTE_TEL_MAX_STRING_LEN])
{
	char printed[STATS_ADDRESS_MAX];

	return (size_t)snprintf(out, RTE_TEL_MAX_STRING_LEN, policy_addr_is_ipv4(address) ? "%s:%u" : "[%s]:%u", stats_address_text(address, printed), port);
}

static size_t digits(uint64_t n)
{
	size_t count = 1;

	for (; n >= 10; n /= 10)
		count++;
	return count;
}

/* False: it does not fit any more. */
static bool add_row(struct columns *columns, const struct stats_flow *f)
{
	char text[TEXT_COLUMNS][RTE_TEL_MAX_STRING_LEN];
	const uint64_t numbers[NUMBER_COLUMNS] = {f->id, f->age_s, f->bytes[CLIENT], f->bytes[SERVER]};
	size_t bytes = endpoint_text(f->client, f->client_port, text[CLIENT_AT]) + endpoint_text(f->server, f->server_port, text[SERVER_AT]);

	bytes += clean_text(f->state, text[STATE]) + clean_text(f->phase, text[PHASE]);
	bytes += clean_text(f->destination, text[DESTINATION]) + clean_text(f->rule, text[RULE]);
	bytes += 3 * TEXT_COLUMNS; /* quotes and commas */
	for (unsigned c = 0; c < NUMBER_COLUMNS; c++)
		bytes += digits(numbers[c]) + 1;
	if (columns->bytes + bytes > ANSWER_BYTES_MAX)
		return false;
	columns->bytes += bytes;
	for (unsigned c = 0; c < TEXT_COLUMNS; c++)
		rte_tel_data_add_array_string(columns->text[c], text[c]);
	for (unsigned c = 0; c < NUMBER_COLUMNS; c++)
		rte_tel_data_add_array_u64(columns->number[c], numbers[c]);
	return true;
}

/* What was taken and is not given out yet: the answer to `cursor` begins with it, if that is what is asked for next. */
static struct {
	pthread_mutex_t lock;
	struct stats_flow rows[FLOWS_TAKEN_MAX];
	struct stats_flows_at at;
	unsigned count, given;
	uint64_t cursor;
	struct timespec when;
} taken = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void take_flows(uint64_t cursor)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (cursor && cursor == taken.cursor && taken.given < taken.count && now.tv_sec - taken.when.tv_sec <= SUM_AGE_MAX_S)
		return;
	taken.count = source->flows(source->context, cursor, taken.rows, FLOWS_TAKEN_MAX, &taken.at);
	taken.given = 0;
	taken.when = now;
}

static int on_flows(const char *command, const char *params, struct rte_tel_data *data)
{
	struct columns columns;

	(void)command;
	rte_tel_data_start_dict(data);
	if (!columns_new(&columns))
		return 0;
	pthread_mutex_lock(&taken.lock);
	take_flows(params ? strtoull(params, NULL, 10) : 0);
	while (taken.given < taken.count && add_row(&columns, &taken.rows[taken.given]))
		taken.given++;
	taken.cursor = taken.given < taken.count ? taken.rows[taken.given - 1].next : taken.at.next;
	rte_tel_data_add_dict_u64(data, "next", taken.cursor);
	rte_tel_data_add_dict_u64(data, "silent", taken.at.silent);
	pthread_mutex_unlock(&taken.lock);
	for (unsigned c = 0; c < NUMBER_COLUMNS; c++) /* they belong to `data` now */
		rte_tel_data_add_dict_container(data, number_names[c], columns.number[c], 0);
	for (unsigned c = 0; c < TEXT_COLUMNS; c++)
		rte_tel_data_add_dict_container(data, text_names[c], columns.text[c], 0);
	return 0;
}

int stats_telemetry_register(const struct stats_source *from)
{
	static const struct { const char *name; telemetry_cb answer; const char *help; } commands[] = {
		{"/waxseal/status", on_status, "version, ports, policy image"},
		{"/waxseal/worker", on_worker, "load of one worker. Parameter: its number"},
		{"/waxseal/port", on_port, "counters of one port. Parameter: 0 inside, 1 outside"},
		{"/waxseal/counters", on_counters, "all counters, summed over workers"},
		{"/waxseal/destination", on_destination, "one destination's counters. Parameter: its number"},
		{"/waxseal/flows", on_flows, "connections, as many as fit. Parameter: 0, then \"next\" of the answer before"},
	};
	source = from;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int result = rte_telemetry_register_cmd(commands[i].name, commands[i].answer, commands[i].help);
		if (result)
			return result;
	}
	return 0;
}
