/*
 * status.h - one JSON object that holds the state of everything, and what to think of it.
 *
 *   {"waxseald": {...or "error"}, "workers": [...], "ports": [...], "image": {...or "error"},
 *    "agent": {... as agent.json, or "error"}, "redis": {"address", "ping_ms" or "error"}}
 * status_judge adds "warnings", each a line that says what is wrong and what to do, and "ok": false if
 * something is down. Judge and print are pure: time comes in as an argument.
 */
#ifndef WAXSEAL_STATUS_H
#define WAXSEAL_STATUS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define STATUS_HEARTBEAT_MAX_MS 5000 /* an older agent.json is of an agent that is gone or stuck */
#define STATUS_REDIS_LAG_MS 3000     /* image may lag this long behind the agent's before it is a warning */
#define STATUS_REFUSED_SHOWN 10
#define STATUS_BUSY_PERMILLE 900

void status_judge(json_t *status, uint64_t now_ms);
void status_print(const json_t *status, uint64_t now_ms, FILE *out);

#endif
