/*
 * seen.h - where STARTTLS led to TLS, and when last: by this appliance's sessions and probes, and by all others.
 *
 * Enters: addresses with times. Leaves: the image's part, and rows for Redis: an address is told at most once in
 * SEEN_TELL_S. Invariants: a time only goes forward; what is older than findings.h says is no news and is forgotten;
 * past SEEN_MAX the oldest give way, counted. No I/O, no clock.
 */
#ifndef WAXSEAL_SEEN_H
#define WAXSEAL_SEEN_H

#include <jansson.h>

#include "../policy/findings.h"
#include "../policy/rules.h"

#define SEEN_MAX 131072
#define SEEN_TELL_S 3600u     /* between two tellings of an address */
#define SEEN_FUTURE_S 300u    /* clocks of appliances may differ so much */

enum seen_how { SEEN_PROBE, SEEN_SESSION, SEEN_TOLD }; /* TOLD: by Redis or the memory */

struct seen_row {
	uint8_t addr[16];
	uint64_t at;
	enum seen_how how;
};

struct seen_counts {
	size_t addresses;
	uint64_t evicted, ignored;
};

struct seen;

struct seen *seen_new(void);
void seen_free(struct seen *seen);
/* True: the image does not have it, or an old time. An address that no server can have is ignored. */
bool seen_note(struct seen *seen, const uint8_t addr[16], uint64_t at, enum seen_how how, uint64_t now_s);
void seen_expire(struct seen *seen, uint64_t now_s);
/* Good until the next call of any other function. */
const struct discovered_seen *seen_found(struct seen *seen, size_t *count);
bool seen_next_untold(struct seen *seen, struct seen_row *row);
/* Redis is read whole between these: what it did not have (SEEN_TOLD) is told again. */
void seen_read_begin(struct seen *seen);
void seen_read_end(struct seen *seen);
struct seen_counts seen_counts(const struct seen *seen);

json_t *seen_remember(const struct seen *seen); /* {"192.0.2.1": time} */
void seen_recall(struct seen *seen, const json_t *memory, uint64_t now_s);

/* "192.0.2.1" or "2001:db8::1", and back; false: none that a mail server may have. */
bool address_read(const char *text, uint8_t addr[16]);
void address_print(const uint8_t addr[16], char out[48]);

#endif
