/*
 * inside.h - what the simulator asks of the worker that no packet tells.
 */
#ifndef WAXSEAL_TESTS_SIM_INSIDE_H
#define WAXSEAL_TESTS_SIM_INSIDE_H

#include <stdint.h>

struct worker;
enum inside_flow { INSIDE_NO_FLOW, INSIDE_WATCHED, INSIDE_TAKEN };
enum inside_flow inside_flow(const struct worker *worker, uint16_t client_port);

#endif
