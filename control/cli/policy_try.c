/*
 * policy_try.c - policy try: recorded sessions against other rules, and what would have become of them.
 *
 * Enters: a file of rules, events. Leaves: a row for each rule, outcome and reason, with what these sessions were, and
 * examples of those refused. What TLS with a server comes to is taken from the session itself, else from the last session
 * in the events that was upgraded there; where there is none either, the answer says that it is assumed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "events.h"
#include "link.h"
#include "replay.h"
#include "table.h"
#include "trial.h"

#define SERVERS_MAX 200000 /* whose TLS is remembered */

struct trying {
	struct policy_image *image;
	struct trial *trial;
	json_t *servers; /* address -> place in `known` */
	struct event_facts *known;
	size_t known_count, known_room;
};

/* ---- what TLS came to, by server ---- */

static void learn(void *context, const struct event *event)
{
	struct trying *t = context;
	char address[46];

	if (!event->has_facts || event->facts.end_to_end || event->facts.tls == FACT_TLS_NONE)
		return;
	const json_t *place = json_object_get(t->servers, event_address(event->server, address));
	if (place) {
		t->known[json_integer_value(place)] = event->facts;
		return;
	}
	if (t->known_count == SERVERS_MAX)
		return;
	if (t->known_count == t->known_room) {
		size_t room = t->known_room ? 2 * t->known_room : 256;
		struct event_facts *bigger = realloc(t->known, room * sizeof(*bigger));
		if (!bigger)
			return;
		t->known = bigger;
		t->known_room = room;
	}
	t->known[t->known_count] = event->facts;
	json_object_set_new(t->servers, address, json_integer((json_int_t)t->known_count++));
}

static void replay_event(void *context, const struct event *event)
{
	struct trying *t = context;
	char address[46];
	struct replay replay;
	struct replay_session session = {
		.client = event->client, .server = event->server, .inbound = event->inbound, .stripped = event->stripped,
		.offered = event->facts.offered, .flow_hash = event->flow_hash, .at_s = event->at_s, .server_name = event->server_name,
		.domain_count = event->rcpt_count,
	};

	if (!event->has_facts) {
		trial_unseen(t->trial);
		return;
	}
	const json_t *place = json_object_get(t->servers, event_address(event->server, address));
	if (event->facts.end_to_end)
		session.sealed = &event->facts;
	else if (event->facts.tls != FACT_TLS_NONE)
		session.upgrade = &event->facts;
	else if (place)
		session.upgrade = &t->known[json_integer_value(place)];
	for (unsigned i = 0; i < event->rcpt_count; i++)
		session.domains[i] = event->rcpt[i].domain;
	replay_session(t->image, &session, &replay);
	trial_add(t->trial, t->image, event, &replay);
}

/* ---- the command ---- */

int policy_try(struct cli *cli)
{
	struct trying t = {0};
	struct events_source source = {0};
	const char *found = NULL;
	char error[CLI_ERROR_MAX];
	size_t len, rules;
	bool enforce = cli_flag(cli, "--enforce");
	int rc = events_take(cli, &source);

	if (rc != CLI_OK)
		return rc;
	if (cli_value(cli, "--discovered", &found) && !found)
		return cli_usage(cli, "--discovered: the name of a file of findings is missing");
	if (cli->argc != 1 || cli->argv[0][0] == '-')
		return cli_usage(cli, "one file of rules is wanted");
	for (size_t i = 0; i < source.count; i++)
		if (!strcmp(source.paths[i], "-"))
			return cli_usage(cli, "--events: - cannot be read twice; the name of a file would be right");
	void *bytes = cli_compile(cli->argv[0], found, enforce, (uint64_t)time(NULL), &len, &rules);
	if (!bytes)
		return CLI_FAILED;
	t.image = policy_image_parse(bytes, len, error, sizeof(error));
	free(bytes);
	if (!t.image)
		return cli_fail("%s: %s", cli->argv[0], error);
	t.servers = json_object();
	t.trial = trial_new();
	rc = events_each(&source, learn, &t);
	source.read = source.bad = 0;
	if (rc == CLI_OK)
		rc = events_each(&source, replay_event, &t);
	if (rc == CLI_OK && cli->json)
		link_print_json(trial_json(t.trial, source.read, source.bad));
	else if (rc == CLI_OK)
		trial_print(t.trial, source.read, source.bad, stdout);
	trial_free(t.trial);
	policy_image_close(t.image);
	json_decref(t.servers);
	free(t.known);
	return rc;
}
