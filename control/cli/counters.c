/*
 * counters.c - waxseal counters: asks waxseald, prints what summary.c makes of it.
 *
 * --json gives the numbers as waxseald names them: {"counters": {...}, "destinations": [...]}.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "link.h"
#include "summary.h"
#include "table.h"

#define DESTINATIONS_MAX 65536
#define WATCH_INTERVAL_S 2

static json_t *only(json_t *destinations, const char *name)
{
	json_t *kept = json_array(), *destination;
	size_t i;

	json_array_foreach(destinations, i, destination)
	{
		if (!strcmp(link_text(destination, "name"), name))
			json_array_append(kept, destination);
	}
	json_decref(destinations);
	return kept;
}

/* What was dropped, refused or odd in the appliance as a whole. */
static void print_odd(const json_t *counters)
{
	static const char *const headings[] = {"DROPPED OR ODD", "COUNT", NULL};
	static const char *const odd[] = {"flows_refused", "takeover_no_memory", "takeover_impossible", "tls_memory_hits", "injections",
					  "stripped", "nonsmtp", "rewritten_segments", "events_lost"};
	struct table *table = table_new(headings);
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)counters, name, value)
	{
		bool shown = !strncmp(name, "drop_", 5);
		for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
			shown |= !strcmp(name, odd[i]);
		if (!shown || json_integer_value(value) <= 0)
			continue;
		table_text(table, name);
		table_number(table, (uint64_t)json_integer_value(value));
	}
	if (table_rows(table)) {
		putchar('\n');
		table_print(table, stdout);
	}
	table_free(table);
}

static int once(struct cli *cli, const char *name)
{
	char error[CLI_ERROR_MAX];
	json_t *counters = NULL, *destinations = NULL;
	struct telemetry *telemetry = telemetry_open(cli->config.file_prefix, error, sizeof(error));
	int rc = CLI_OK;

	if (telemetry)
		counters = link_ask(telemetry, "/waxseal/counters", error, sizeof(error));
	if (counters)
		destinations = telemetry_ask_all(telemetry, "/waxseal/destination", DESTINATIONS_MAX, error, sizeof(error));
	telemetry_close(telemetry);
	if (!destinations) {
		json_decref(counters);
		return cli_fail("%s", error);
	}
	if (name)
		destinations = only(destinations, name);
	if (name && json_array_size(destinations) == 0) {
		rc = cli_fail("%s: nothing counted under this name; waxseal counters lists the names", name);
	} else if (cli->json) {
		link_print_json(json_pack("{s:O, s:O}", "counters", counters, "destinations", destinations));
	} else if (name) {
		summary_one(json_array_get(destinations, 0), stdout);
		summary_failures(destinations, stdout);
		summary_clear(destinations, stdout);
	} else {
		summary_destinations(destinations, stdout);
		summary_failures(destinations, stdout);
		print_odd(counters);
		summary_clear(destinations, stdout);
	}
	json_decref(counters);
	json_decref(destinations);
	return rc;
}

int counters_run(struct cli *cli)
{
	const char *name = NULL;
	bool watch = false;

	for (int i = 0; i < cli->argc; i++) {
		if (!strcmp(cli->argv[i], "--watch"))
			watch = true;
		else if (name || cli->argv[i][0] == '-')
			return cli_usage(cli, "%s: not expected", cli->argv[i]);
		else
			name = cli->argv[i];
	}
	for (;;) {
		/* Home and clear, not a colour; and nothing of it into a file or a pipe. */
		if (watch && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		int rc = once(cli, name);
		if (!watch)
			return rc;
		if (fflush(stdout) != 0)
			return CLI_OK; /* the reader has gone */
		sleep(WATCH_INTERVAL_S);
		if (!isatty(STDOUT_FILENO) && !cli->json)
			putchar('\n');
	}
}
