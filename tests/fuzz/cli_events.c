/*
 * cli_events.c - fuzzing of recorded events: any bytes, line by line, and each event replayed under rules of every kind.
 *
 * All text of an event is printable. A replay answers MAIL, and each recipient unless MAIL was refused; a refusal has a
 * reply, and the reply is one line.
 */
#include <stdlib.h>
#include <string.h>

#include "../../control/cli/events.h"
#include "../../control/cli/replay.h"
#include "../../control/policy/rules.h"
#include "../../control/policy/text.h"

#define NOW 1800000000u

static struct policy_image *image;

static void make_image(void)
{
	static const char *const lines[] = {
		"* may", "a.example verify match=nexthop:hostname on_fail=reject", ".example encrypt", "b.example dane", "c.example dane-only",
		"d.example fingerprint fingerprints=key:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"provider:lab level=secure match=.lab.example nets=192.0.2.0/24", "client:10.1.0.0/16 encrypt", "client:10.2.0.0/16 none",
		"inbound:* encrypt", "e.example block mode=observe",
	};
	struct ruleset *set = ruleset_new();
	char error[RULES_ERROR_MAX];
	size_t len;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		ruleset_put(set, rule_parse_line(lines[i], error, sizeof(error)));
	void *bytes = ruleset_compile(set, 1, NOW, &len, error, sizeof(error));
	image = bytes ? policy_image_parse(bytes, len, error, sizeof(error)) : NULL;
	if (!image)
		abort();
	free(bytes);
	ruleset_free(set);
}

static void check_answer(const struct replay_answer *answer)
{
	bool refused = answer->fate == REPLAY_DEFERRED || answer->fate == REPLAY_REJECTED;

	if (!answer->rule || !text_printable(answer->would) || !text_printable(answer->reply) || refused != (answer->reply[0] != 0))
		abort();
}

static void replay_event(const struct event *event)
{
	struct replay replay;
	struct replay_session session = {
		.client = event->client, .server = event->server, .inbound = event->inbound, .stripped = event->stripped,
		.offered = event->facts.offered, .flow_hash = event->flow_hash, .at_s = event->at_s, .server_name = event->server_name,
		.sealed = event->facts.end_to_end ? &event->facts : NULL, .upgrade = &event->facts, .domain_count = event->rcpt_count,
	};

	for (unsigned i = 0; i < event->rcpt_count; i++)
		session.domains[i] = event->rcpt[i].domain;
	replay_session(image, &session, &replay);
	check_answer(&replay.mail);
	if (replay.rcpt_count && replay.rcpt_count != event->rcpt_count)
		abort();
	for (unsigned i = 0; i < replay.rcpt_count; i++)
		check_answer(&replay.rcpt[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct event event;

	if (!image)
		make_image();
	while (size) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end ? (size_t)(end - data) : size;
		if (event_parse((const char *)data, len, &event)) {
			if (!text_printable(event.server_name) || !text_printable(event.destination) || !text_printable(event.detail) || !event.at_s)
				abort();
			replay_event(&event);
		}
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	return 0;
}
