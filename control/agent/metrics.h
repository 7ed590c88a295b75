/*
 * metrics.h - GET /metrics: the agent's numbers and waxseald's, in Prometheus' text form.
 *
 * The HTTP server has a thread of its own, because asking waxseald may block; it shares nothing with the
 * agent but a text that metrics_publish replaces.
 */
#ifndef WAXSEAL_METRICS_H
#define WAXSEAL_METRICS_H

#include <stdint.h>
#include <stdio.h>

#define METRICS_CLIENTS_MAX 16
#define METRICS_IDLE_S 10
#define METRICS_DESTINATIONS_MAX 8192 /* asked of waxseald at one scrape */

struct metrics;

/* NULL with `error`. `file_prefix` names waxseald (policy/telemetry.h). */
struct metrics *metrics_start(const char *host, uint16_t port, const char *file_prefix, char *error, size_t error_len);
void metrics_publish(struct metrics *metrics, char *text); /* takes the text */
void metrics_stop(struct metrics *metrics);

/* waxseald's part; exposed for the tests. Writes "waxseal_up 0" and nothing else if it cannot be asked. */
void metrics_appliance(FILE *out, const char *file_prefix);

#endif
