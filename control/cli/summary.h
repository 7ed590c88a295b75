/*
 * summary.h - the counters as answers: by destination, failures by reason, and what still goes in clear.
 *
 * Enters: the array of waxseald's destinations (dataplane/stats/stats.h). Leaves: text for people. Pure.
 */
#ifndef WAXSEAL_SUMMARY_H
#define WAXSEAL_SUMMARY_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Sum of the numbers whose names are `prefix` and anything and `suffix`: "sessions." ".sealed" is both directions. */
uint64_t summary_sum(const json_t *destination, const char *prefix, const char *suffix);

void summary_destinations(const json_t *destinations, FILE *out); /* a line each, and their total */
void summary_failures(const json_t *destinations, FILE *out);     /* nothing if there are none */
void summary_clear(const json_t *destinations, FILE *out);        /* the closing block */
void summary_one(const json_t *destination, FILE *out);           /* everything that is counted for it */

#endif
