/*
 * dialogue.c - runs one golden transcript: SMTP dialogue in, events and approvals out.
 *
 * Enters (stdin): lines "C: text" and "S: text", each one segment of that side with CRLF behind it; "C+ text"
 * does the same, and the next line of that side comes in the same segment; "\r \n \t \0 \xNN \\" are bytes, and
 * "\c" at the end leaves the CRLF away. "observe" calls smtp_dialogue_observe, "facts" prints what was learnt.
 * '#' begins a comment. Leaves (stdout): the same lines, each segment followed by lines with " = ": events in
 * their order, bytes that may pass now, bytes that wait, and the state if it changed.
 *
 * With --single every segment is offered one byte at a time; the output must be the same.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/smtp.h"

enum { STREAM_MAX = 1 << 20, TEXT_MAX = 1 << 16 };

struct runner {
	struct smtp_dialogue *dialogue;
	uint8_t stream[SIDES][STREAM_MAX]; /* all bytes of a side */
	size_t queued[SIDES];              /* of them, collected from the transcript */
	size_t offered[SIDES];             /* of them, segments that have arrived */
	uint64_t shown[SIDES];
	size_t waiting_shown[SIDES];
	enum smtp_state state_shown;
	bool single;
};
static struct runner runner;
static const char *const side_names[SIDES] = {"client", "server"};

static void print_bytes(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\r')
			printf("\\r");
		else if (bytes[i] == '\n')
			printf("\\n");
		else if (bytes[i] == '\\')
			printf("\\\\");
		else if (bytes[i] < ' ' || bytes[i] > '~')
			printf("\\x%02x", bytes[i]);
		else
			putchar(bytes[i]);
	}
}

static void print_event(enum smtp_event event)
{
	const struct smtp_dialogue *d = runner.dialogue;
	if (event == SMTP_EVENT_NONE)
		return;
	printf(" = event %s", smtp_event_name(event));
	if (event == SMTP_EVENT_DECIDE)
		printf(" held=%s", smtp_verb_name(d->held_verb));
	if (event == SMTP_EVENT_RCPT)
		printf(" domain=%s", d->rcpt_domain);
	printf("\n");
}

/* Offers a side what it has not taken, as a caller does that keeps the rest. True: something moved. */
static bool offer(enum side side, size_t upto)
{
	struct smtp_dialogue *d = runner.dialogue;
	bool moved = false;
	for (;;) {
		enum smtp_event event;
		size_t from = (size_t)d->fed[side];
		size_t n = smtp_dialogue_input(d, side, runner.stream[side] + from, upto - from, &event);
		print_event(event);
		if (!n && event == SMTP_EVENT_NONE)
			return moved;
		moved = true;
	}
}

static void report(void)
{
	const struct smtp_dialogue *d = runner.dialogue;
	for (int s = 0; s < SIDES; s++) {
		if (d->approved[s] < runner.shown[s] || d->approved[s] > d->fed[s] || d->fed[s] > runner.offered[s]) {
			printf(" = BROKEN INVARIANT of the %s\n", side_names[s]);
			exit(1);
		}
		if (d->approved[s] > runner.shown[s]) {
			printf(" = %s passes \"", side_names[s]);
			print_bytes(runner.stream[s] + runner.shown[s], (size_t)(d->approved[s] - runner.shown[s]));
			printf("\"\n");
			runner.shown[s] = d->approved[s];
		}
		size_t waiting = runner.offered[s] - (size_t)d->approved[s];
		if (waiting && waiting != runner.waiting_shown[s])
			printf(" = %s waits %zu\n", side_names[s], waiting);
		runner.waiting_shown[s] = waiting;
	}
	if (d->state != runner.state_shown)
		printf(" = state %s\n", smtp_state_name(d->state));
	runner.state_shown = d->state;
}

static void settle(enum side side, size_t upto)
{
	bool moved = offer(side, upto);
	while (moved) {
		moved = offer(side_other(side), runner.offered[side_other(side)]);
		moved |= offer(side, upto);
	}
}

static void segment(enum side side)
{
	for (size_t at = runner.offered[side] + 1; runner.single && at < runner.queued[side]; at++) {
		runner.offered[side] = at;
		offer(side, at);
	}
	runner.offered[side] = runner.queued[side];
	settle(side, runner.offered[side]);
	report();
}

static void put(enum side side, unsigned char byte)
{
	if (runner.queued[side] == STREAM_MAX) {
		fprintf(stderr, "transcript too long\n");
		exit(2);
	}
	runner.stream[side][runner.queued[side]++] = byte;
}

static void text(enum side side, const char *p)
{
	for (; *p; p++) {
		unsigned byte;
		if (*p != '\\') {
			put(side, (unsigned char)*p);
			continue;
		}
		switch (*++p) {
		case 'r': put(side, '\r'); break;
		case 'n': put(side, '\n'); break;
		case 't': put(side, '\t'); break;
		case '0': put(side, 0); break;
		case '\\': put(side, '\\'); break;
		case 'c': return;
		case 'x':
			if (sscanf(p + 1, "%2x", &byte) == 1) {
				put(side, (unsigned char)byte);
				p += 2;
				break;
			}
			/* fall through */
		default:
			fprintf(stderr, "bad escape\n");
			exit(2);
		}
	}
	put(side, '\r');
	put(side, '\n');
}

static void facts(void)
{
	const struct smtp_dialogue *d = runner.dialogue;
	printf(" = greeting=%u hello=%d ehlo=%d capabilities=%#x size=%llu outstanding=%u closing=%d partial=%d\n", d->greeting_code,
	       d->hello_done, d->ehlo, d->capabilities, (unsigned long long)d->size_max, d->outstanding, d->closing,
	       smtp_dialogue_partial(d));
	printf(" = client_name=%s server_name=%s\n", d->client_name, d->server_name);
}

static void run_line(const char *line)
{
	enum side side = line[0] == 'C' ? CLIENT : SERVER;
	bool more = line[0] && line[1] == '+';

	printf("%s\n", line);
	if (!line[0] || line[0] == '#')
		return;
	if (strcmp(line, "observe") == 0) {
		smtp_dialogue_observe(runner.dialogue);
		settle(CLIENT, runner.offered[CLIENT]);
		settle(SERVER, runner.offered[SERVER]);
		report();
	} else if (strcmp(line, "facts") == 0) {
		facts();
	} else if ((line[0] == 'C' || line[0] == 'S') && (more || line[1] == ':')) {
		text(side, line + (line[2] == ' ' ? 3 : 2));
		if (!more)
			segment(side);
	} else {
		fprintf(stderr, "cannot read: %s\n", line);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static char line[TEXT_MAX];

	runner.single = argc > 1 && strcmp(argv[1], "--single") == 0;
	runner.dialogue = smtp_dialogue_new();
	if (!runner.dialogue)
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		run_line(line);
	}
	smtp_dialogue_free(runner.dialogue);
	return 0;
}
