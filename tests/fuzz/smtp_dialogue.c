/*
 * smtp_dialogue.c - any bytes of both sides, in any segments: what the machine may never do.
 *
 * Input: segments {one byte: bit 0 = server, bit 1 = let go before it, the other bits = length; the bytes}.
 * Two machines get the same segments, one of them byte by byte. After every segment both must agree on
 * events and approvals, and: approved <= fed <= offered; nothing goes back; before the banner, behind a verb
 * that decides, and behind STARTTLS no client byte is approved; an approved client byte belongs to a whole
 * line; what was let go passes entirely.
 */
#include <stdint.h>
#include <string.h>

#include "must.h"
#include "smtp/smtp.h"

enum { STREAM_MAX = 1 << 16, EVENTS_MAX = 1 << 14 };

struct run {
	struct smtp_dialogue *dialogue;
	uint64_t approved[SIDES];
	uint8_t events[EVENTS_MAX];
	size_t events_count;
};
static uint8_t stream[SIDES][STREAM_MAX];
static size_t offered[SIDES];

static void invariants(struct run *run)
{
	const struct smtp_dialogue *d = run->dialogue;
	for (int s = 0; s < SIDES; s++) {
		MUST(d->approved[s] <= d->fed[s] && d->fed[s] <= offered[s]);
		MUST(d->approved[s] >= run->approved[s]);
		run->approved[s] = d->approved[s];
	}
	MUST(strnlen(d->client_name, SMTP_DOMAIN_MAX) < SMTP_DOMAIN_MAX);
	MUST(strnlen(d->server_name, SMTP_DOMAIN_MAX) < SMTP_DOMAIN_MAX);
	MUST(strnlen(d->rcpt_domain, SMTP_DOMAIN_MAX) < SMTP_DOMAIN_MAX);
	if (d->state == SMTP_STATE_OBSERVE) {
		MUST(d->approved[CLIENT] == d->fed[CLIENT] && d->approved[SERVER] == d->fed[SERVER]);
		return;
	}
	uint64_t client = d->approved[CLIENT];
	if (d->state == SMTP_STATE_GREETING)
		MUST(client == 0);
	if (client)
		MUST(stream[CLIENT][client - 1] == '\n');
	/* No approved line decides, and nothing stands behind STARTTLS but after a reply that was not 220. */
	for (uint64_t at = 0; at < client;) {
		const uint8_t *end = memchr(stream[CLIENT] + at, '\n', client - at);
		struct smtp_command command;
		smtp_command_parse(stream[CLIENT] + at, (size_t)(end - (stream[CLIENT] + at)) + 1, &command);
		MUST(!smtp_verb_decides(command.verb));
		at = (uint64_t)(end - stream[CLIENT]) + 1;
		if (d->state == SMTP_STATE_TLS && at == client)
			MUST(command.verb == SMTP_STARTTLS);
	}
	if (d->state == SMTP_STATE_DECIDE)
		MUST(smtp_verb_decides(d->held_verb) && d->fed[CLIENT] > client);
	if (d->state == SMTP_STATE_TLS)
		MUST(d->fed[CLIENT] == client && d->fed[SERVER] == d->approved[SERVER]);
}

static bool offer(struct run *run, enum side side, size_t upto)
{
	bool moved = false;
	for (;;) {
		enum smtp_event event;
		size_t from = (size_t)run->dialogue->fed[side];
		uint8_t *copy = malloc(upto - from + 1); /* of its own size: reading past it is found */
		memcpy(copy, stream[side] + from, upto - from);
		size_t n = smtp_dialogue_input(run->dialogue, side, copy, upto - from, &event);
		free(copy);
		MUST(n <= upto - from && run->dialogue->fed[side] == from + n);
		if (event != SMTP_EVENT_NONE) {
			MUST(run->events_count < EVENTS_MAX);
			run->events[run->events_count++] = (uint8_t)event;
		}
		if (!n && event == SMTP_EVENT_NONE)
			break;
		moved = true;
	}
	if (run->dialogue->state == SMTP_STATE_OBSERVE)
		MUST(run->dialogue->fed[side] == upto);
	return moved;
}

static void settle(struct run *run, enum side side)
{
	bool moved;
	do {
		moved = offer(run, side, offered[side]);
		moved |= offer(run, side_other(side), offered[side_other(side)]);
	} while (moved);
	invariants(run);
}

static void segment(struct run *run, enum side side, size_t from, bool single)
{
	for (size_t at = from + 1; single && at < offered[side]; at++)
		offer(run, side, at);
	settle(run, side);
}

/* 220 to STARTTLS with bytes behind it: together they are an injection, one by one the bytes behind belong to tls/. */
static bool segments_decided(const struct run *whole, const struct run *single)
{
	return whole->events_count && whole->events[whole->events_count - 1] == SMTP_EVENT_INJECTION && single->events_count &&
	       single->events[single->events_count - 1] == SMTP_EVENT_TLS;
}

static void agree(const struct run *whole, const struct run *single)
{
	const struct smtp_dialogue *a = whole->dialogue, *b = single->dialogue;
	MUST(whole->events_count == single->events_count && !memcmp(whole->events, single->events, whole->events_count));
	MUST(a->state == b->state && a->outstanding == b->outstanding && a->capabilities == b->capabilities);
	MUST(a->approved[CLIENT] == b->approved[CLIENT] && a->approved[SERVER] == b->approved[SERVER]);
	MUST(a->fed[CLIENT] == b->fed[CLIENT] && a->fed[SERVER] == b->fed[SERVER]);
	MUST(!strcmp(a->client_name, b->client_name) && !strcmp(a->server_name, b->server_name) && !strcmp(a->rcpt_domain, b->rcpt_domain));
	MUST(smtp_dialogue_partial(a) == smtp_dialogue_partial(b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct run whole, single;
	struct run *runs[2] = {&whole, &single};

	offered[CLIENT] = offered[SERVER] = 0;
	for (int i = 0; i < 2; i++) {
		memset(runs[i], 0, sizeof(*runs[i]));
		runs[i]->dialogue = smtp_dialogue_new();
		if (!runs[i]->dialogue)
			abort();
	}
	for (size_t at = 0; at < len;) {
		enum side side = data[at] & 1 ? SERVER : CLIENT;
		bool let_go = data[at] & 2;
		size_t n = data[at] >> 2;
		at++;
		if (n > len - at)
			n = len - at;
		if (offered[side] + n > STREAM_MAX)
			break;
		if (let_go)
			for (int i = 0; i < 2; i++) {
				smtp_dialogue_observe(runs[i]->dialogue);
				settle(runs[i], CLIENT);
			}
		memcpy(stream[side] + offered[side], data + at, n);
		at += n;
		size_t from = offered[side];
		offered[side] += n;
		segment(&whole, side, from, false);
		segment(&single, side, from, true);
		if (segments_decided(&whole, &single))
			break;
		agree(&whole, &single);
	}
	for (int i = 0; i < 2; i++)
		smtp_dialogue_free(runs[i]->dialogue);
	return 0;
}
