/*
 * main.c - waxseal, the operator's command. Everything is in run.c, where tests can reach it.
 *
 * A reader of its output that goes away (`waxseal flows | head`) is no error worth a message, and a
 * server that goes away must not kill it.
 */
#include <signal.h>

#include "cli.h"

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	return cli_run(argc, argv);
}
