/*
 * events.h - the sessions that waxseald has recorded, read back: dataplane/stats/event.c writes them, one line of JSON each.
 *
 * Enters: files that may have been written over by anybody, and text that peers chose. Leaves: one struct a line, each text
 * of it clean, bounded and printable; lines that are no event are counted. Reading a line is pure.
 */
#ifndef WAXSEAL_EVENTS_H
#define WAXSEAL_EVENTS_H

#include "../../dataplane/policy/policy.h"
#include "cli.h"

#define EVENT_LINE_MAX 16384
#define EVENT_RECIPIENTS_MAX 8
#define EVENT_NAMES_MAX 16
#define EVENT_TEXT_MAX 256
#define EVENTS_FILES_MAX 64

/* Of the server, as the session saw it last. */
struct event_facts {
	bool offered, end_to_end;
	enum policy_tls tls;
	enum policy_chain chain;
	uint16_t version;
	bool has_certificate, names_cut; /* names_cut: the certificate has more than these */
	uint8_t certificate_sha256[32], key_sha256[32];
	char names[EVENT_NAMES_MAX][64];
	unsigned name_count;
	char mismatched[64]; /* the rule by which none of its names matched, also of those that are cut; "" */
};

struct event {
	uint64_t at_s;
	uint64_t flow;
	bool inbound, stripped;
	uint8_t client[16], server[16]; /* IPv4 as v4-mapped */
	uint32_t flow_hash;
	char end[16], reason[32], destination[64], rule[64], server_name[64], detail[160];
	uint32_t messages, recipients;
	struct { char domain[64]; char fate[16]; } rcpt[EVENT_RECIPIENTS_MAX];
	unsigned rcpt_count;
	bool has_facts;
	struct event_facts facts;
};

/* False if it is none: no JSON, no time, no addresses. */
bool event_parse(const char *line, size_t len, struct event *out);
const char *event_address(const uint8_t address[16], char out[46]); /* "10.77.1.1"; returns `out` */
bool event_address_parse(const char *text, uint8_t out[16]);
const char *event_version(uint16_t version); /* "TLSv1.2"; "?" */

struct events_source {
	const char *paths[EVENTS_FILES_MAX];
	size_t count;
	uint64_t tail_bytes; /* of each file only the last so many; 0: all */
	uint64_t read, bad;  /* events; lines that are none */
};
/* Takes --events FILE, as often as it stands there, out of the arguments; without it the configuration's. CLI_OK or CLI_USAGE. */
int events_take(struct cli *cli, struct events_source *source);
/* Calls `each` for every event, file by file. CLI_OK, or CLI_FAILED having said which file could not be read. */
int events_each(struct events_source *source, void (*each)(void *context, const struct event *event), void *context);

#endif
