/*
 * flows.c - the connections in the appliance's tables, page by page over telemetry.
 *
 * The table changes while it is read: a flow may be missed or come twice, so rows are told apart by id.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "link.h"
#include "table.h"

#define FLOWS_MAX (1u << 20)

static json_t *all_flows(struct telemetry *telemetry, char *error, size_t error_len)
{
	json_t *all = json_array(), *seen = json_object();
	char command[64], id[32];

	for (unsigned offset = 0; offset < FLOWS_MAX;) {
		snprintf(command, sizeof(command), "/waxseal/flows,%u", offset);
		json_t *page = link_ask(telemetry, command, error, error_len), *flow;
		size_t i;
		if (!page) {
			json_decref(all);
			all = NULL;
			break;
		}
		json_array_foreach(page, i, flow)
		{
			snprintf(id, sizeof(id), "%" PRIu64, link_number(flow, "id"));
			if (!json_object_get(seen, id))
				json_array_append(all, flow);
			json_object_set_new(seen, id, json_true());
		}
		size_t got = json_array_size(page);
		json_decref(page);
		if (got == 0)
			break;
		offset += (unsigned)got;
	}
	json_decref(seen);
	return all;
}

int flows_run(struct cli *cli)
{
	static const char *const headings[] = {"ID", "CLIENT", "SERVER", "STATE", "PHASE", "AGE", "DESTINATION", "RULE", "SENT", "RECEIVED", NULL};
	char error[CLI_ERROR_MAX], age[TABLE_AGE_MAX];
	json_t *flow;
	size_t i;

	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	struct telemetry *telemetry = telemetry_open(cli->config.file_prefix, error, sizeof(error));
	json_t *flows = telemetry ? all_flows(telemetry, error, sizeof(error)) : NULL;
	telemetry_close(telemetry);
	if (!flows)
		return cli_fail("%s", error);
	if (cli->json) {
		link_print_json(flows);
		return CLI_OK;
	}
	struct table *table = table_new(headings);
	json_array_foreach(flows, i, flow)
	{
		table_number(table, link_number(flow, "id"));
		table_text(table, link_text(flow, "client"));
		table_text(table, link_text(flow, "server"));
		table_text(table, link_text(flow, "state"));
		table_text(table, link_text(flow, "phase"));
		table_text(table, table_age(link_number(flow, "age_s"), age));
		table_text(table, link_text(flow, "destination"));
		table_text(table, link_text(flow, "rule"));
		table_number(table, link_number(flow, "bytes_client"));
		table_number(table, link_number(flow, "bytes_server"));
	}
	if (json_array_size(flows))
		table_print(table, stdout);
	else
		printf("no connections\n");
	table_free(table);
	json_decref(flows);
	return CLI_OK;
}
