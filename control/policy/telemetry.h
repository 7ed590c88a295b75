/*
 * telemetry.h - asks waxseald over DPDK's telemetry socket (dataplane/stats/stats.h lists the commands).
 *
 * Enters: a command such as "/waxseal/worker,0". Leaves: the value under the command's name,
 * with the names that stats.h lists. Blocking, with a time limit on each step, so that a waxseald that hangs
 * costs its caller a second and no more.
 */
#ifndef WAXSEAL_TELEMETRY_H
#define WAXSEAL_TELEMETRY_H

#include <jansson.h>
#include <stddef.h>

#define TELEMETRY_TIMEOUT_MS 1000
#define TELEMETRY_ANSWER_MAX (1u << 20)

struct telemetry;

/* /var/run/dpdk/<file_prefix>/dpdk_telemetry.v2; a file_prefix with a '/' is the socket's own path.
 * NULL with `error`, one line. */
struct telemetry *telemetry_open(const char *file_prefix, char *error, size_t error_len);
void telemetry_close(struct telemetry *telemetry);
/* The answer's value, null where waxseald does not know the command; the caller owns it. NULL with `error`. */
json_t *telemetry_ask(struct telemetry *telemetry, const char *command, char *error, size_t error_len);
/* An array of the answers to "command,0" and up to the first that is empty. */
json_t *telemetry_ask_all(struct telemetry *telemetry, const char *command, unsigned max, char *error, size_t error_len);

#endif
