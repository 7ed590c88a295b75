/*
 * inside.c - looks into the worker: has the flow of a client's port been taken over?
 *
 * Apart from the other files, because a session is one thing there and another one here.
 */
#include "../../../dataplane/worker_private.h"
#include "inside.h"

enum inside_flow inside_flow(const struct worker *worker, uint16_t client_port)
{
	for (uint32_t i = 0; i < flow_places(worker->flows); i++) {
		const struct flow *flow = flow_at(worker->flows, i);
		if (flow && flow->key.client_port == client_port)
			return flow->taken ? INSIDE_TAKEN : INSIDE_WATCHED;
	}
	return INSIDE_NO_FLOW;
}
