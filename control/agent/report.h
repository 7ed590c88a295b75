/*
 * report.h - the agent about itself: agent.json for `waxseal status`, and its part of /metrics.
 *
 * Written whole to a temporary name and renamed, so that a reader never sees half of it; not synced to
 * the disk, because it is written every second and worth nothing after a crash.
 */
#ifndef WAXSEAL_REPORT_H
#define WAXSEAL_REPORT_H

#include "agent.h"

#define REPORT_REFUSED_MAX 100 /* rules named; the rest is counted */
#define REPORT_EXPIRING_MAX 50
#define REPORT_EXPIRING_S 604800u /* a rule that ends within a week is told */

int report_state(const struct agent *agent, char *error, size_t error_len);
char *report_metrics(const struct agent *agent); /* Prometheus text; the caller frees it; NULL without memory */

#endif
