/*
 * flows.c - the connections in the appliance's tables, page by page over telemetry, printed as they come.
 *
 * The table changes while it is read: what comes or goes meanwhile may be missed; what is there all the while stands once.
 * A page is columns of the same length (dataplane/stats/stats.h); one that is not so ends the listing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "link.h"
#include "table.h"

#define FLOWS_MAX (1u << 25)     /* rows; no appliance has as many */
#define FLUSH_ROWS 4096          /* of the table, for whose widths the first so many speak */

enum { ID, CLIENT, SERVER, STATE, PHASE, AGE, DESTINATION, RULE, SENT, RECEIVED, COLUMNS };
static const struct { const char *name, *heading; bool number; } columns[COLUMNS] = {
	[ID] = {"id", "ID", true}, [CLIENT] = {"client", "CLIENT", false}, [SERVER] = {"server", "SERVER", false}, [STATE] = {"state", "STATE", false},
	[PHASE] = {"phase", "PHASE", false}, [AGE] = {"age_s", "AGE", true}, [DESTINATION] = {"destination", "DESTINATION", false},
	[RULE] = {"rule", "RULE", false}, [SENT] = {"bytes_client", "SENT", true}, [RECEIVED] = {"bytes_server", "RECEIVED", true},
};

struct listing {
	bool json, silent;
	struct table *table;
	size_t rows;
};

static void print_json(struct listing *listing, const json_t *const column[COLUMNS], size_t row)
{
	json_t *flow = json_object();

	for (int c = 0; c < COLUMNS; c++)
		json_object_set(flow, columns[c].name, json_array_get(column[c], row));
	fputs(listing->rows ? ",\n " : "[\n ", stdout);
	json_dumpf(flow, stdout, JSON_COMPACT);
	json_decref(flow);
}

static void add_row(struct listing *listing, const json_t *const column[COLUMNS], size_t row)
{
	char age[TABLE_AGE_MAX];

	for (int c = 0; c < COLUMNS; c++) {
		const json_t *value = json_array_get(column[c], row);
		if (c == AGE)
			table_text(listing->table, table_age((uint64_t)json_integer_value(value), age));
		else if (columns[c].number)
			table_number(listing->table, (uint64_t)json_integer_value(value));
		else
			table_text(listing->table, json_string_value(value));
	}
	if (table_rows(listing->table) == FLUSH_ROWS)
		table_flush(listing->table, stdout);
}

/* False: it is none. `next` becomes 0 behind the last one. */
static bool take_page(struct listing *listing, const json_t *page, uint64_t *next)
{
	const json_t *column[COLUMNS];
	size_t rows = json_array_size(json_object_get(page, columns[0].name));
	uint64_t from = *next;

	*next = link_number(page, "next");
	listing->silent |= link_number(page, "silent") != 0;
	for (int c = 0; c < COLUMNS; c++) {
		column[c] = json_object_get(page, columns[c].name);
		if (!json_is_array(column[c]) || json_array_size(column[c]) != rows)
			return false;
	}
	for (size_t i = 0; i < rows; i++, listing->rows++) {
		if (listing->json)
			print_json(listing, column, i);
		else
			add_row(listing, column, i);
	}
	return (!*next || *next > from) && listing->rows < FLOWS_MAX;
}

static int list(struct listing *listing, struct telemetry *telemetry)
{
	char command[64], error[CLI_ERROR_MAX];
	uint64_t next = 0;

	do {
		snprintf(command, sizeof(command), "/waxseal/flows,%" PRIu64, next);
		json_t *page = link_ask(telemetry, command, error, sizeof(error));
		if (!page)
			return cli_fail("%s", error);
		bool good = take_page(listing, page, &next);
		json_decref(page);
		if (!good)
			return cli_fail("waxseald's answer to %s is no page of connections; is it of another version than this command?", command);
	} while (next);
	return CLI_OK;
}

int flows_run(struct cli *cli)
{
	const char *headings[COLUMNS + 1] = {NULL};
	struct listing listing = {.json = cli->json};
	char error[CLI_ERROR_MAX];

	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	for (int c = 0; c < COLUMNS; c++)
		headings[c] = columns[c].heading;
	struct telemetry *telemetry = telemetry_open(cli->config.file_prefix, error, sizeof(error));
	if (!telemetry)
		return cli_fail("%s", error);
	listing.table = table_new(headings);
	int code = list(&listing, telemetry);
	telemetry_close(telemetry);
	if (listing.json)
		puts(listing.rows ? "\n]" : "[]");
	else if (table_rows(listing.table))
		table_flush(listing.table, stdout);
	else if (!listing.rows && code == CLI_OK)
		puts("no connections");
	if (listing.silent)
		code = cli_fail("a worker does not answer: its connections are not in this list");
	table_free(listing.table);
	return code;
}
