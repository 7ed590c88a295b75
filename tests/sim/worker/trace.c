/*
 * trace.c - the last packets and notes, kept as text, and shown when something is not as it must be.
 *
 * Sequence numbers are shown from the peers' own initial ones.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

enum { LINES = 160, LINE_MAX_BYTES = 200 };
static char lines[LINES][LINE_MAX_BYTES];
static uint64_t written;

static char *next_line(void)
{
	char *line = lines[written++ % LINES];
	*line = 0;
	return line;
}

static void text_of(const struct segment *s, char out[32])
{
	unsigned n = s->len < 24 ? s->len : 24;
	for (unsigned i = 0; i < n; i++)
		out[i] = s->payload[i] >= ' ' && s->payload[i] <= '~' ? (char)s->payload[i] : '.';
	out[n] = 0;
}

void trace_frame(const struct session *session, enum trace_what what, enum side from, const uint8_t *frame, size_t len)
{
	static const char *const names[] = {
		[TRACE_SENT] = "sends", [TRACE_LOST] = "LOST", [TRACE_CORRUPT] = "CORRUPT", [TRACE_TOO_BIG] = "TOO BIG",
		[TRACE_ENTERS] = "enters", [TRACE_FORWARDED] = "forwarded", [TRACE_BUILT] = "built",
		        [TRACE_ARRIVES] = "arrives",
	};
	char *line = next_line(), text[32];
	struct segment s;
	const char *wrong = frame_parse(frame, len, &session->path, from, &s);
	if (wrong) {
		snprintf(line, LINE_MAX_BYTES, "%12" PRIu64 " #%u %s %-9s %zu bytes: %s", sim.now_us, session->index,
		        from == CLIENT ? "C>S" : "S>C", names[what], len, wrong);
	} else {
		text_of(&s, text);
		snprintf(line, LINE_MAX_BYTES, "%12" PRIu64 " #%u %s %-9s %s%s%s%s seq %u ack %u win %u len %u%s %s",
		        sim.now_us, session->index, from == CLIENT ? "C>S" : "S>C",
		         names[what], s.flags & F_SYN ? "S" : "", s.flags & F_FIN ? "F" : "",
		        s.flags & F_RST ? "R" : "", s.flags & F_ACK ? "." : "",
		         s.seq - session->stack[from].iss,
		        s.flags & F_ACK ? s.ack - session->stack[side_other(from)].iss : 0, s.window, s.len,
		        s.sacks ? " sack" : "", text);
		if (s.has_ts)
			snprintf(line + strlen(line), LINE_MAX_BYTES - strlen(line), " ts %u/%u", s.tsval, s.tsecr);
	}
	if (sim.verbose)
		puts(line);
}

void trace_note(const struct session *session, const char *format, ...)
{
	char *line = next_line();
	va_list arguments;
	int n = snprintf(line, LINE_MAX_BYTES, "%12" PRIu64 " #%u        ", sim.now_us, session ? session->index : 0);
	va_start(arguments, format);
	vsnprintf(line + n, (size_t)(LINE_MAX_BYTES - n), format, arguments);
	va_end(arguments);
	if (sim.verbose)
		puts(line);
}

void fail(const struct session *session, const char *format, ...)
{
	va_list arguments;
	if (!sim.verbose)
		for (uint64_t i = written > LINES ? written - LINES : 0; i < written; i++)
			fprintf(stderr, "%s\n", lines[i % LINES]);
	fprintf(stderr, "\n%s: seed %" PRIu64 ": at %" PRIu64 " us", sim.name, sim.seed, sim.now_us);
	if (session) {
		const struct client *c = &session->client;
		const struct server *s = &session->server;
		fprintf(stderr, ", session #%u (IPv%d%s): ", session->index, session->path.family,
		        session->inbound ? ", inbound" : "");
		va_start(arguments, format);
		vfprintf(stderr, format, arguments);
		va_end(arguments);
		fprintf(stderr, "\n  client: %s%s%s%s%s ending %d; messages %d, at %d\n",
		        c->says_helo ? "HELO" : "EHLO", c->starttls ? " STARTTLS" : "", c->pipelines ? " pipelines" : "",
		        c->chunks ? " BDAT" : "", c->stalls ? " stalls" : "", (int)c->ending, session->messages, c->at);
		fprintf(stderr,
		        "  server: tls way %d, certificate %d; client link loss %u, server link loss %u per mille; %s\n", (int)s->tls_way, (int)s->certificate,
		        session->link[CLIENT].loss, session->link[SERVER].loss,
		        session->well_behaved ? "well-behaved" : "peers may misbehave");
		fprintf(stderr, "  event: end %d reason %d \"%s\"; taken %d\n", session->end, session->reason,
		        session->detail, session->taken);
	} else {
		fprintf(stderr, ": ");
		va_start(arguments, format);
		vfprintf(stderr, format, arguments);
		va_end(arguments);
		fprintf(stderr, "\n");
	}
	for (unsigned i = 0; i < sim.policy.lines; i++)
		fprintf(stderr, "  rule: %s\n", sim.policy.text[i]);
	fprintf(stderr, "replay: make %s SEED=%" PRIu64 " N=1   (or %s --seed %" PRIu64 " --runs 1 --verbose)\n",
	        sim.target, sim.seed, sim.program, sim.seed);
	_exit(1);
}
