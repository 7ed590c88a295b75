/*
 * saving.c - see saving.h. The child of a program with threads does nothing but write its file and end.
 */
#include "saving.h"

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "memory.h"

#define SAVING_NICE 19 /* an edit that comes meanwhile goes first */

struct saving {
	ev_child child;
	bool running;
};

static int write_memory(struct agent *agent, char error[AGENT_ERROR_MAX])
{
	return memory_write(agent->config.rules, store_rules(agent->store), agent->image.generation, domains_remember(agent->domains), error,
			    AGENT_ERROR_MAX);
}

static void tell(const char *why)
{
	fprintf(stderr, "waxseal-agent: [agent] rules: %s; a restart will have forgotten them\n", why);
}

static void wait_for_child(struct agent *agent)
{
	struct saving *saving = agent->saving;

	if (!saving || !saving->running)
		return;
	ev_child_stop(agent->loop, &saving->child);
	waitpid(saving->child.pid, NULL, 0);
	saving->running = false;
}

void saving_now(struct agent *agent)
{
	char error[AGENT_ERROR_MAX];

	wait_for_child(agent);
	if (write_memory(agent, error) != 0)
		tell(error);
}

static void on_saved(struct ev_loop *loop, ev_child *child, int events)
{
	struct saving *saving = child->data;

	(void)events;
	ev_child_stop(loop, child);
	saving->running = false;
	if (child->rstatus != 0)
		tell("not written");
}

bool saving_beside(struct agent *agent)
{
	char error[AGENT_ERROR_MAX];

	if (!agent->saving)
		agent->saving = calloc(1, sizeof(*agent->saving));
	if (agent->saving && agent->saving->running)
		return false;
	pid_t pid = agent->saving ? fork() : -1;
	if (pid == 0) {
		setpriority(PRIO_PROCESS, 0, SAVING_NICE);
		_exit(write_memory(agent, error) != 0);
	}
	if (pid < 0) {
		saving_now(agent);
		return true;
	}
	ev_child_init(&agent->saving->child, on_saved, pid, 0);
	agent->saving->child.data = agent->saving;
	agent->saving->running = true;
	ev_child_start(agent->loop, &agent->saving->child);
	return true;
}

void saving_free(struct agent *agent)
{
	wait_for_child(agent);
	free(agent->saving);
	agent->saving = NULL;
}
