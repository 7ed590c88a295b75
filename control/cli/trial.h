/*
 * trial.h - what sessions would have come to, added up by rule, outcome and reason.
 *
 * Enters: an event and its replay. Leaves: rows with how many sessions and recipients, what they were when they happened,
 * and the first few of each as examples. Pure.
 */
#ifndef WAXSEAL_TRIAL_H
#define WAXSEAL_TRIAL_H

#include <jansson.h>
#include <stdio.h>

#include "replay.h"

#define TRIAL_ROWS_MAX 4096 /* past it all go to one row "(other)" */
#define TRIAL_EXAMPLES_MAX 3

struct trial;
struct trial *trial_new(void); /* aborts without memory, as the whole of it does */
void trial_free(struct trial *trial);
void trial_add(struct trial *trial, const struct policy_image *image, const struct event *event, const struct replay *replay);
void trial_unseen(struct trial *trial); /* a session that tells too little */

void trial_print(const struct trial *trial, uint64_t read, uint64_t bad, FILE *out);
json_t *trial_json(const struct trial *trial, uint64_t read, uint64_t bad); /* the caller owns it */

#endif
