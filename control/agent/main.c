/*
 * main.c - waxseal-agent's arguments, signals and exit codes.
 *
 * 0: ended by SIGTERM or SIGINT, or --once has written the image. 1: configuration or start failed, with
 * one line on standard error; --once could not compile. 2: wrong arguments.
 */
#include <ev.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

static const char usage[] =
	"usage: waxseal-agent [--config FILE] [--once]\n"
	"Keeps the policy image in step with the rules in Redis.\n"
	"  --config FILE  default " CONTROL_CONFIG_DEFAULT "\n"
	"  --once         compile what Redis holds now, and end: 0 if the image was written, 1 if not\n"
	"  --version, --help\n";

static void on_signal(struct ev_loop *loop, ev_signal *signal, int events)
{
	(void)signal;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"once", no_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'}, {0},
	};
	static struct agent agent;
	const char *path = CONTROL_CONFIG_DEFAULT;
	char error[AGENT_ERROR_MAX];
	ev_signal term, interrupt;

	for (int o; (o = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
		switch (o) {
		case 'c': path = optarg; break;
		case 'o': agent.once = true; break;
		case 'h': fputs(usage, stdout); return 0;
		case 'v': puts("waxseal-agent " AGENT_VERSION); return 0;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "waxseal-agent: %s: not expected\n%s", argv[optind], usage);
		return 2;
	}
	if (control_config_read(&agent.config, path, error, sizeof(error)) != 0) {
		fprintf(stderr, "waxseal-agent: %s\n", error);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	if (agent_start(&agent, error, sizeof(error)) != 0) {
		fprintf(stderr, "waxseal-agent: %s\n", error);
		agent.running = false;
		agent_stop(&agent);
		return 1;
	}
	ev_signal_init(&term, on_signal, SIGTERM);
	ev_signal_init(&interrupt, on_signal, SIGINT);
	ev_signal_start(agent.loop, &term);
	ev_signal_start(agent.loop, &interrupt);
	ev_run(agent.loop, 0);
	int exit_code = agent.exit_code;
	agent_stop(&agent);
	return exit_code;
}
