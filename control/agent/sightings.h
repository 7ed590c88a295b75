/*
 * sightings.h - where STARTTLS was seen, within the agent: session events and probes in, Redis in and out.
 *
 * Enters: waxseald's file of events ([events] file), waxseal:seen:<address> of all appliances. Leaves: seen.h's table,
 * and this appliance's part of it in Redis. A stream of new addresses asks for a new image once in SIGHTINGS_IMAGE_S.
 */
#ifndef WAXSEAL_SIGHTINGS_H
#define WAXSEAL_SIGHTINGS_H

#include <jansson.h>

#include "seen.h"
#include "watch.h"

#define SIGHTINGS_TICK_S 1.0
#define SIGHTINGS_IMAGE_S 10.0
#define SIGHTINGS_READ_S 300.0  /* Redis is read again */
#define SIGHTINGS_WRITES_MAX 500 /* at one tick */

struct ev_loop;
struct sightings;

struct sightings_counts {
	uint64_t events, sightings, skipped_bytes; /* lines read, of them with TLS, bytes left out */
};

struct sightings *sightings_new(struct ev_loop *loop, const struct control_config *config, void (*changed)(void *context), void *context);
void sightings_free(struct sightings *sightings);
struct seen *sightings_seen(struct sightings *sightings);
void sightings_watch(struct sightings *sightings, struct watch *watch); /* from now on, and read it soon */
struct sightings_counts sightings_counts(const struct sightings *sightings);
json_t *sightings_remember(const struct sightings *sightings); /* {"seen": {...}, "inode": n, "offset": n} */
void sightings_recall(struct sightings *sightings, const json_t *memory);

#endif
