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
#define FLOWS_ANSWER_MAX 16 /* an answer is at most 16 KiB */

static const struct stats_source *source;

static unsigned long index_of(const char *params)
{
	return params && *params ? strtoul(params, NULL, 10) : 0;
}

static void add_text(struct rte_tel_data *data, const char *name, const char *value)
{
	char clean[RTE_TEL_MAX_STRING_LEN];
	size_t len = 0;

	for (; len < sizeof(clean) - 1 && value[len]; len++)
		clean[len] = value[len] >= 0x20 && value[len] < 0x7f && value[len] != '"' && value[len] != '\\' ? value[len] : '?';
	clean[len] = 0;
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

static void add_endpoint(struct rte_tel_data *data, const char *name, const uint8_t address[16], uint16_t port)
{
	char printed[STATS_ADDRESS_MAX], full[STATS_ADDRESS_MAX + 16];

	snprintf(full, sizeof(full), policy_addr_is_ipv4(address) ? "%s:%u" : "[%s]:%u", stats_address_text(address, printed), port);
	rte_tel_data_add_dict_string(data, name, full);
}

static int on_flows(const char *command, const char *params, struct rte_tel_data *data)
{
	struct stats_flow flows[FLOWS_ANSWER_MAX];
	unsigned long offset = index_of(params);
	char name[16];

	(void)command;
	rte_tel_data_start_dict(data); /* DPDK's arrays hold no dictionaries: "0", "1" ... */
	unsigned count = source->flows(source->context, (unsigned)(offset < UINT32_MAX ? offset : UINT32_MAX), flows, FLOWS_ANSWER_MAX);
	for (unsigned i = 0; i < count; i++) {
		const struct stats_flow *f = &flows[i];
		struct rte_tel_data *one = rte_tel_data_alloc();
		if (!one)
			return 0;
		rte_tel_data_start_dict(one);
		rte_tel_data_add_dict_u64(one, "id", f->id);
		add_endpoint(one, "client", f->client, f->client_port);
		add_endpoint(one, "server", f->server, f->server_port);
		add_text(one, "state", f->state);
		add_text(one, "phase", f->phase);
		rte_tel_data_add_dict_u64(one, "age_s", f->age_s);
		add_text(one, "destination", f->destination);
		add_text(one, "rule", f->rule);
		rte_tel_data_add_dict_u64(one, "bytes_client", f->bytes[CLIENT]);
		rte_tel_data_add_dict_u64(one, "bytes_server", f->bytes[SERVER]);
		snprintf(name, sizeof(name), "%u", i);
		if (rte_tel_data_add_dict_container(data, name, one, 0)) {
			rte_tel_data_free(one);
			return 0;
		}
	}
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
		{"/waxseal/flows", on_flows, "connections, 16 at a time. Parameter: how many to skip"},
	};
	source = from;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int result = rte_telemetry_register_cmd(commands[i].name, commands[i].answer, commands[i].help);
		if (result)
			return result;
	}
	return 0;
}
