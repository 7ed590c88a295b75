/*
 * pipeline.c - the commands whose replies are due, in order (RFC 2920): a ring that grows up to SMTP_PIPELINE_MAX.
 */
#include <stdlib.h>

#include "private.h"

#define PLACES_FIRST 8

static bool grow(struct pipeline *pipeline)
{
	unsigned places = pipeline->places ? pipeline->places * 2 : PLACES_FIRST;
	struct pending *entries = places <= SMTP_PIPELINE_MAX ? calloc(places, sizeof(*entries)) : NULL;

	if (!entries)
		return false;
	for (unsigned i = 0; i < pipeline->count; i++)
		entries[i] = pipeline->entries[(pipeline->first + i) % pipeline->places];
	free(pipeline->entries);
	*pipeline = (struct pipeline){entries, 0, pipeline->count, places};
	return true;
}

bool pipeline_push(struct pipeline *pipeline, const struct pending *entry)
{
	if (pipeline->count == pipeline->places && !grow(pipeline))
		return false;
	pipeline->entries[(pipeline->first + pipeline->count++) % pipeline->places] = *entry;
	return true;
}

struct pending *pipeline_head(const struct pipeline *pipeline)
{
	return pipeline->count ? &pipeline->entries[pipeline->first] : NULL;
}

void pipeline_pop(struct pipeline *pipeline)
{
	pipeline->first = (pipeline->first + 1) % pipeline->places;
	pipeline->count--;
}

void pipeline_dispose(struct pipeline *pipeline)
{
	free(pipeline->entries);
	*pipeline = (struct pipeline){0};
}
