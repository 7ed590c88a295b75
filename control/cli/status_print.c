/*
 * status_print.c - the status object as a page for a person.
 *
 * One line a part, tables for ports and workers, warnings last, where the eye ends.
 */
#include "status.h"

#include <inttypes.h>
#include <string.h>

#include "link.h"
#include "table.h"

static const char *age_of(uint64_t then_s, uint64_t now_ms, char out[TABLE_AGE_MAX])
{
	return table_age(now_ms / 1000 > then_s ? now_ms / 1000 - then_s : 0, out);
}

static void print_line(FILE *out, const char *name, char *text)
{
	table_clean(text);
	fprintf(out, "%-10s%s\n", name, text);
}

#define LINE_MAX_TEXT 1024

static void print_waxseald(const json_t *status, FILE *out)
{
	const json_t *waxseald = json_object_get(status, "waxseald");
	char age[TABLE_AGE_MAX], text[LINE_MAX_TEXT];
	bool several = link_number(waxseald, "workers") > 1;

	if (json_object_get(waxseald, "error")) {
		snprintf(text, sizeof(text), "down: %s", link_text(waxseald, "error"));
	} else {
		snprintf(text, sizeof(text), "up for %s, version %s, %" PRIu64 " worker%s%s, fail %s, image generation %" PRIu64 "%s",
			 table_age(link_number(waxseald, "uptime_s"), age), link_text(waxseald, "version"), link_number(waxseald, "workers"),
			 several ? "s, " : "", several ? link_text(waxseald, "layout") : "", link_text(waxseald, "fail"), link_number(waxseald, "generation"),
			 *link_text(waxseald, "image_error") ? ", a newer one was refused" : "");
	}
	print_line(out, "waxseald", text);
}

static void print_image(const json_t *status, uint64_t now_ms, FILE *out)
{
	const json_t *image = json_object_get(status, "image");
	char age[TABLE_AGE_MAX], text[LINE_MAX_TEXT];

	if (json_object_get(image, "error"))
		snprintf(text, sizeof(text), "unusable: %s", link_text(image, "error"));
	else
		snprintf(text, sizeof(text), "generation %" PRIu64 ", %s old, %" PRIu64 " bytes: %" PRIu64 " domains, %" PRIu64 " destinations, %" PRIu64
			 " prefixes; %s", link_number(image, "generation"), age_of(link_number(image, "compiled_at"), now_ms, age),
			 link_number(image, "bytes"), link_number(image, "domains"), link_number(image, "destinations"),
			 link_number(image, "prefixes"), link_text(image, "path"));
	print_line(out, "image", text);
}

static void print_agent(const json_t *status, uint64_t now_ms, FILE *out)
{
	const json_t *agent = json_object_get(status, "agent"), *redis = json_object_get(agent, "redis");
	uint64_t heartbeat = link_number(agent, "heartbeat_ms");
	char age[TABLE_AGE_MAX], text[LINE_MAX_TEXT];

	if (json_object_get(agent, "error"))
		snprintf(text, sizeof(text), "not running: %s", link_text(agent, "error"));
	else if (!json_is_true(json_object_get(agent, "running")) || heartbeat + STATUS_HEARTBEAT_MAX_MS < now_ms)
		snprintf(text, sizeof(text), "not running; last heard of %s ago", age_of(heartbeat / 1000, now_ms, age));
	else
		snprintf(text, sizeof(text), "Redis %s for %s; %" PRIu64 " keys, %" PRIu64 " rules in force, %" PRIu64 " refused",
			 link_text(redis, "state"), age_of(link_number(redis, "since"), now_ms, age), link_number(agent, "keys"),
			 link_number(agent, "rules"), link_number(agent, "refused_count"));
	print_line(out, "agent", text);
}

static void print_dns(const json_t *status, FILE *out)
{
	const json_t *dns = json_object_get(json_object_get(status, "agent"), "dns");
	char text[LINE_MAX_TEXT];

	if (!link_true(dns, "enabled"))
		return;
	snprintf(text, sizeof(text), "%" PRIu64 " domains, %" PRIu64 " with servers, %" PRIu64 " failing; %" PRIu64 " addresses in the image",
		 link_number(dns, "domains"), link_number(dns, "resolved"), link_number(dns, "failing"), link_number(dns, "addresses"));
	print_line(out, "dns", text);
}

/* Exceptions that will end within a week. */
static void print_ending(const json_t *status, uint64_t now_ms, FILE *out)
{
	char age[TABLE_AGE_MAX], text[LINE_MAX_TEXT];
	const json_t *rule;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(status, "agent"), "expiring"), i, rule)
	{
		uint64_t expires = link_number(rule, "expires"), now_s = now_ms / 1000;
		if (link_true(rule, "over"))
			continue;
		snprintf(text, sizeof(text), "%s in %s (owner: %s; reason: %s)", link_text(rule, "key"),
			 table_age(expires > now_s ? expires - now_s : 0, age), link_text(rule, "owner"), link_text(rule, "reason"));
		print_line(out, "ends", text);
	}
}

static void print_redis(const json_t *status, FILE *out)
{
	const json_t *redis = json_object_get(status, "redis");
	char text[LINE_MAX_TEXT];

	if (json_object_get(redis, "error"))
		snprintf(text, sizeof(text), "down: %s", link_text(redis, "error"));
	else
		snprintf(text, sizeof(text), "%s answers in %" PRIu64 " ms", link_text(redis, "address"), link_number(redis, "ping_ms"));
	print_line(out, "redis", text);
}

static void print_ports(const json_t *status, FILE *out)
{
	static const char *const headings[] = {"PORT", "NAME", "DRIVER", "LINK", "RX PACKETS", "TX PACKETS", "RX MISSED", "TX ERRORS", NULL};
	struct table *table = table_new(headings);
	const json_t *port;
	size_t i;

	json_array_foreach(json_object_get(status, "ports"), i, port)
	{
		table_text(table, i == 0 ? "inside" : "outside");
		table_text(table, link_text(port, "name"));
		table_text(table, link_text(port, "driver"));
		table_text(table, link_true(port, "link_up") ? "up" : "down");
		table_number(table, link_number(port, "rx_packets"));
		table_number(table, link_number(port, "tx_packets"));
		table_number(table, link_number(port, "rx_missed"));
		table_number(table, link_number(port, "tx_errors"));
	}
	if (table_rows(table)) {
		fputc('\n', out);
		table_print(table, out);
	}
	table_free(table);
}

static void share(struct table *table, const json_t *row, const char *used, const char *max)
{
	char text[64];

	snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64, link_number(row, used), link_number(row, max));
	table_text(table, text);
}

static void print_workers(const json_t *status, FILE *out)
{
	static const char *const headings[] = {"WORKER", "FLOWS", "TAKEN OVER", "BUFFERS", "BUSY %", "STATE", NULL};
	struct table *table = table_new(headings);
	const json_t *worker;
	size_t i;

	json_array_foreach(json_object_get(status, "workers"), i, worker)
	{
		table_number(table, i);
		share(table, worker, "flows", "flows_max");
		share(table, worker, "takeovers", "takeovers_max");
		share(table, worker, "buffers", "buffers_max");
		table_number(table, link_number(worker, "busy_permille") / 10);
		table_text(table, link_true(worker, "stalled") ? "stands still" : "runs");
	}
	if (table_rows(table)) {
		fputc('\n', out);
		table_print(table, out);
	}
	table_free(table);
}

void status_print(const json_t *status, uint64_t now_ms, FILE *out)
{
	const json_t *warning;
	size_t i;

	print_waxseald(status, out);
	print_image(status, now_ms, out);
	print_agent(status, now_ms, out);
	print_dns(status, out);
	print_redis(status, out);
	print_ending(status, now_ms, out);
	print_ports(status, out);
	print_workers(status, out);
	json_array_foreach(json_object_get(status, "warnings"), i, warning)
	{
		char text[LINE_MAX_TEXT];
		snprintf(text, sizeof(text), "%s", json_string_value(warning));
		table_clean(text);
		fprintf(out, "%s! %s\n", i == 0 ? "\n" : "", text);
	}
	if (i == 0)
		fprintf(out, "\nNothing is wrong.\n");
}
