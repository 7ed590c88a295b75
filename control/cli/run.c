/*
 * run.c - finds the command, takes out the options that all of them share, and runs it.
 *
 * --config, --json and --help may stand anywhere; all else is the command's. The configuration is read
 * before the command runs; without --config a missing default file means the defaults.
 */
#include "cli.h"

#include "../policy/rules.h"
#include "../policy/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cli_command commands[] = {
	{"policy", "set",
	 "KEY attribute=value ...\n"
	 "Sets the named attributes of a rule and leaves its others as they are; attribute= takes one away.\n"
	 "The whole rule is checked first, and nothing is written if it is wrong. KEY is example.org, .example.org\n"
	 "(everything below it), * (everything else), provider:NAME or inbound:*. A level may stand without level=.\n"
	 "  waxseal policy set example.org level=verify match=mx.example.org:.example.org",
	 policy_set},
	{"policy", "show", "KEY\nShows one rule with all its attributes as Redis has it.", policy_show},
	{"policy", "list", "\nLists all rules in Redis, and what is wrong with those that are refused.", policy_list},
	{"policy", "rm", "KEY\nDeletes a rule.", policy_rm},
	{"policy", "compile",
	 "FILE [-o IMAGE]\n"
	 "Makes a policy image of a text file of rules, without Redis. IMAGE is by default the one of the\n"
	 "configuration. A bad line is named, and nothing is written.",
	 policy_compile},
	{"policy", "check",
	 "FILE | --rule \"KEY attribute=value ...\"\n"
	 "Says what is wrong with a file of rules, or with one rule; prints the rule as it is understood.",
	 policy_check},
	{"", "counters",
	 "[--watch] [DESTINATION]\n"
	 "Sessions, recipients and TLS failures by destination, and how much mail still travels in clear, to whom and\n"
	 "why. With DESTINATION everything that is counted for it. --watch shows them again every two seconds.",
	 counters_run},
	{"", "explain",
	 "RECIPIENT | ADDRESS | RECIPIENT ADDRESS\n"
	 "Which rule of the image in force holds for mail to this recipient (or domain), for this server's address, or for\n"
	 "both, what lost to it and why, and what the DNS says of the domain's mail servers.\n"
	 "  waxseal explain user@example.org 203.0.113.7",
	 explain_run},
	{"", "fleet",
	 "\nAll appliances that use this Redis: what they run, how far they are behind, their load. Exit 1 if one is down.",
	 fleet_run},
	{"", "flows", "\nConnections that are in the appliance now.", flows_run},
	{"", "status",
	 "\nThe appliance's ports, workers and image, the agent, Redis, and what is wrong. Exit 1 if something is down.",
	 status_run},
};
#define CLI_MESSAGE_MAX 4096
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

int cli_fail(const char *format, ...)
{
	char text[CLI_MESSAGE_MAX], clean[CLI_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text_clean(text, clean, sizeof(clean)); /* keys and values of anybody's stand in it */
	fprintf(stderr, "waxseal: %s\n", clean);
	return CLI_FAILED;
}

static void print_name(FILE *out, const struct cli_command *command)
{
	fprintf(out, "waxseal %s%s%s", command->group, *command->group ? " " : "", command->name);
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("waxseal: ", stderr);
	vfprintf(stderr, format, args);
	fputs("; usage: ", stderr);
	va_end(args);
	print_name(stderr, cli->command);
	fprintf(stderr, " %.*s\n", (int)strcspn(cli->command->usage, "\n"), cli->command->usage);
	return CLI_USAGE;
}

static void print_attributes(void)
{
	const struct rule_attribute *attribute;

	puts("Attributes:");
	for (size_t i = 0; (attribute = rule_attribute(i)); i++)
		printf("  %-13s%s\n               %s\n", attribute->name, attribute->help, attribute->values);
}

static void print_help(const struct cli_command *command)
{
	size_t first = strcspn(command->usage, "\n");

	fputs("usage: ", stdout);
	print_name(stdout, command);
	printf("%s%.*s [--json] [--config FILE]\n%s\n", first ? " " : "", (int)first, command->usage, command->usage + first + 1);
	if (command->run == policy_set)
		print_attributes();
}

static void print_commands(FILE *out, const char *group)
{
	fprintf(out, "usage: waxseal COMMAND ... [--json] [--config FILE]\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		if (group && strcmp(commands[i].group, group))
			continue;
		fputs("  ", out);
		print_name(out, &commands[i]);
		size_t first = strcspn(commands[i].usage, "\n");
		fprintf(out, "%s%.*s\n", first ? " " : "", (int)first, commands[i].usage);
	}
	fprintf(out, "  waxseal COMMAND --help explains one. The default configuration is %s.\n", CONTROL_CONFIG_DEFAULT);
}

/* NULL if there is none; `used` arguments name it. */
static const struct cli_command *find(int argc, char **argv, int *used)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct cli_command *c = &commands[i];
		bool grouped = *c->group;
		if (argc < 1 + grouped || (grouped && strcmp(c->group, argv[0])) || strcmp(c->name, argv[grouped]))
			continue;
		*used = 1 + grouped;
		return c;
	}
	return NULL;
}

static int no_command(int argc, char **argv, bool help)
{
	const char *group = argc > 0 && !strcmp(argv[0], "policy") ? argv[0] : NULL;

	if (help && (argc == 0 || (group && argc == 1))) {
		print_commands(stdout, group);
		return CLI_OK;
	}
	if (argc == 0)
		fputs("waxseal: a command is missing\n", stderr);
	else if (group && argc == 1)
		fputs("waxseal: policy: what about it?\n", stderr);
	else
		fprintf(stderr, "waxseal: %s%s%s: no such command\n", argv[0], group ? " " : "", group ? argv[1] : "");
	print_commands(stderr, group);
	return CLI_USAGE;
}

int cli_run(int argc, char **argv)
{
	struct cli cli = {0};
	const char *path = NULL;
	char error[CLI_ERROR_MAX];
	bool help = false, options = true;
	int rest = 0, used = 0, rc;

	char **args = calloc((size_t)argc + 1, sizeof(*args));
	if (!args)
		return cli_fail("no memory");
	for (int i = 1; i < argc; i++) {
		if (options && !strcmp(argv[i], "--config")) {
			if (++i == argc) {
				fputs("waxseal: --config: the name of a file is missing\n", stderr);
				free(args);
				return CLI_USAGE;
			}
			path = argv[i];
		} else if (options && !strncmp(argv[i], "--config=", 9)) {
			path = argv[i] + 9;
		} else if (options && !strcmp(argv[i], "--json")) {
			cli.json = true;
		} else if (options && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
			help = true;
		} else if (options && !strcmp(argv[i], "--version")) {
			puts("waxseal " CLI_VERSION);
			free(args);
			return CLI_OK;
		} else if (options && !strcmp(argv[i], "--")) {
			options = false;
		} else {
			args[rest++] = argv[i];
		}
	}
	cli.command = find(rest, args, &used);
	cli.argc = rest - used;
	cli.argv = args + used;
	if (!cli.command) {
		rc = no_command(rest, args, help);
	} else if (help) {
		print_help(cli.command);
		rc = CLI_OK;
	} else {
		control_config_default(&cli.config);
		if (!path && access(CONTROL_CONFIG_DEFAULT, F_OK) == 0)
			path = CONTROL_CONFIG_DEFAULT;
		if (path && control_config_read(&cli.config, path, error, sizeof(error)) != 0)
			rc = cli_fail("%s", error);
		else
			rc = cli.command->run(&cli);
	}
	free(args);
	if (fflush(stdout) != 0 && rc == CLI_OK)
		rc = cli_fail("standard output: %s", strerror(errno));
	return rc;
}
