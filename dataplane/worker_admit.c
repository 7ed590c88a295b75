/*
 * worker_admit.c - how many sessions of a worker may be on their way to TLS at once.
 *
 * Enters: a session that is to be upgraded. Leaves: it may begin now, or waits, its command held, until another has
 * done its handshake or failed; first come, first served. Past the limit of those that wait, the rule's `overload`
 * holds. What sealed flows and sessions in progress cost is not delayed by how many want to begin.
 */
#include "worker_private.h"

static bool room(const struct worker *worker)
{
	return worker->handshakes < worker->config.handshakes_max;
}

enum admission worker_admits(struct worker *worker, struct session *session)
{
	if (session->admitted || (room(worker) && !worker->waiting_count)) {
		session->admitted = false;
		return ADMIT_NOW;
	}
	if (session->waiting)
		return ADMIT_LATER;
	if (worker->waiting_count >= worker->config.handshakes_waiting_max)
		return ADMIT_NEVER;
	session->waiting = true;
	TAILQ_INSERT_TAIL(&worker->waiting, session, wait);
	worker->waiting_count++;
	stats_inc(worker->stats, STAT_handshakes_waited);
	return ADMIT_LATER;
}

static void leave(struct worker *worker, struct session *session)
{
	if (!session->waiting)
		return;
	session->waiting = false;
	TAILQ_REMOVE(&worker->waiting, session, wait);
	worker->waiting_count--;
}

void worker_admit_next(struct worker *worker)
{
	struct session *session;
	while (room(worker) && (session = TAILQ_FIRST(&worker->waiting))) {
		leave(worker, session);
		if (session->flow->state != FLOW_DIALOGUE)
			continue;
		session->admitted = true;
		session->due = DUE_DECIDE; /* again: the policy may be another one by now */
		session_act(worker, session);
	}
}

void session_handshaking(struct worker *worker, struct session *session, bool now)
{
	if (session->handshaking != now)
		worker->handshakes += now ? 1 : -1;
	session->handshaking = now;
}

void session_leaves(struct worker *worker, struct session *session)
{
	leave(worker, session);
	session_handshaking(worker, session, false);
}
