/*
 * appliance.c - waxseald's counters, from its telemetry socket, as Prometheus text.
 *
 * Enters: answers to the commands that dataplane/stats/stats.h lists. Dotted names of a destination's
 * numbers become labels: "sessions.outbound.sealed" is waxseal_sessions_total{direction="outbound",
 * end="sealed"}. All samples of one metric stand together, as the format wants it, so the answers are
 * kept until all metrics are written. What is not a number or not expected is left out.
 */
#include "metrics.h"

#include <jansson.h>
#include <string.h>

#include "../policy/telemetry.h"

#define PORTS_MAX 2
#define WORKERS_MAX 16

static void label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++)
		if (*value == '\\' || *value == '"')
			fprintf(out, "\\%c", *value);
		else if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(*value, out);
	fputc('"', out);
}

static void counters(FILE *out, json_t *values)
{
	const char *name;
	json_t *value;

	json_object_foreach(values, name, value)
	{
		if (json_is_integer(value))
			fprintf(out, "# TYPE waxseal_%s_total counter\nwaxseal_%s_total %" JSON_INTEGER_FORMAT "\n", name, name,
				json_integer_value(value));
	}
}

/* One metric of every destination: the fields below `prefix`, whose rest is up to two labels. */
static void destination_metric(FILE *out, json_t *destinations, const char *metric, const char *help, const char *prefix,
			       const char *first, const char *second)
{
	json_t *destination, *value;
	const char *field;
	size_t i, len = strlen(prefix);

	fprintf(out, "# HELP waxseal_%s_total %s\n# TYPE waxseal_%s_total counter\n", metric, help, metric);
	json_array_foreach(destinations, i, destination)
	{
		const char *name = json_string_value(json_object_get(destination, "name"));
		json_object_foreach(destination, field, value)
		{
			char left[64];
			if (!name || !json_is_integer(value) || strncmp(field, prefix, len) || (!first && field[len]))
				continue;
			const char *rest = field + len, *dot = second ? strchr(rest, '.') : NULL;
			if (second && !dot)
				continue;
			snprintf(left, sizeof(left), "%.*s", dot ? (int)(dot - rest) : 63, rest);
			fprintf(out, "waxseal_%s_total{", metric);
			label(out, "destination", name);
			if (first) {
				fputc(',', out);
				label(out, first, left);
			}
			if (second) {
				fputc(',', out);
				label(out, second, dot + 1);
			}
			fprintf(out, "} %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
		}
	}
}

/* One number of each worker or port. */
static void gauge(FILE *out, json_t *rows, const char *metric, const char *field, const char *by)
{
	json_t *row;
	size_t i;

	fprintf(out, "# TYPE waxseal_%s gauge\n", metric);
	json_array_foreach(rows, i, row)
	{
		json_t *value = json_object_get(row, field);
		if (json_is_integer(value))
			fprintf(out, "waxseal_%s{%s=\"%zu\"} %" JSON_INTEGER_FORMAT "\n", metric, by, i, json_integer_value(value));
		else if (value) /* booleans come as such or as text, depending on DPDK's version */
			fprintf(out, "waxseal_%s{%s=\"%zu\"} %d\n", metric, by, i,
				json_is_true(value) || (json_is_string(value) && !strcmp(json_string_value(value), "true")));
	}
}

void metrics_appliance(FILE *out, const char *file_prefix)
{
	char error[256];
	struct telemetry *telemetry = telemetry_open(file_prefix, error, sizeof(error));
	json_t *status = telemetry ? telemetry_ask(telemetry, "/waxseal/status", error, sizeof(error)) : NULL;

	fprintf(out, "# HELP waxseal_up 1 if waxseald answers\n# TYPE waxseal_up gauge\nwaxseal_up %d\n", json_is_object(status));
	if (!json_is_object(status)) {
		json_decref(status);
		telemetry_close(telemetry);
		return;
	}
	fprintf(out, "# TYPE waxseal_image_generation gauge\nwaxseal_image_generation %" JSON_INTEGER_FORMAT "\n",
		json_integer_value(json_object_get(status, "generation")));
	fprintf(out, "# TYPE waxseal_images_refused_total counter\nwaxseal_images_refused_total %" JSON_INTEGER_FORMAT "\n",
		json_integer_value(json_object_get(status, "images_refused")));
	json_decref(status);

	json_t *total = telemetry_ask(telemetry, "/waxseal/counters", error, sizeof(error));
	counters(out, total);
	json_decref(total);

	json_t *workers = telemetry_ask_all(telemetry, "/waxseal/worker", WORKERS_MAX, error, sizeof(error));
	json_t *ports = telemetry_ask_all(telemetry, "/waxseal/port", PORTS_MAX, error, sizeof(error));
	gauge(out, workers, "worker_flows", "flows", "worker");
	gauge(out, workers, "worker_takeovers", "takeovers", "worker");
	gauge(out, workers, "worker_buffers", "buffers", "worker");
	gauge(out, workers, "worker_busy_permille", "busy_permille", "worker");
	gauge(out, workers, "worker_stalled", "stalled", "worker");
	gauge(out, ports, "port_link_up", "link_up", "port");
	gauge(out, ports, "port_rx_missed", "rx_missed", "port");
	gauge(out, ports, "port_tx_errors", "tx_errors", "port");
	json_decref(workers);
	json_decref(ports);

	json_t *destinations = telemetry_ask_all(telemetry, "/waxseal/destination", METRICS_DESTINATIONS_MAX, error, sizeof(error));
	telemetry_close(telemetry);
	destination_metric(out, destinations, "sessions", "sessions by how they ended", "sessions.", "direction", "end");
	destination_metric(out, destinations, "recipients", "recipients by what became of them", "recipients.", "fate", NULL);
	destination_metric(out, destinations, "would", "decisions in observe mode", "would.", "action", NULL);
	destination_metric(out, destinations, "decisions", "decisions by reason", "reasons.", "reason", NULL);
	destination_metric(out, destinations, "tls_versions", "sealed and upgraded sessions by TLS version", "versions.", "version", NULL);
	destination_metric(out, destinations, "messages", "messages passed", "messages", NULL, NULL);
	destination_metric(out, destinations, "bytes", "payload bytes of both sides", "bytes", NULL, NULL);
	json_decref(destinations);
}
