/*
 * run.c - finds the command, takes out the options that all of them share, and runs it.
 *
 * --config, --author, --json and --help may stand anywhere; all else is the command's. The configuration is read
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
	{"policy", "suggest",
	 "[--events FILE]... [--sessions N] [--days N] [--offered]\n"
	 "Recipients' domains, and destinations, that were spoken to in TLS in at least N recorded sessions (20) over at least N\n"
	 "days (7), and offered it in all others. --offered counts those, too: on an appliance that only observes, no client in\n"
	 "clear is upgraded. Prints rules in mode observe with the figures behind each, ready for policy import and policy try.\n"
	 "A client's own TLS shows no recipients: it counts for its destination.",
	 policy_suggest},
	{"policy", "try",
	 "FILE [--events FILE]... [--enforce] [--discovered FOUND]\n"
	 "Replays recorded sessions against the rules of FILE: what would have been refused, upgraded, cut, for which rule and\n"
	 "why, with examples and what their clients would have been told. --enforce takes mode and percent away from all rules.\n"
	 "FOUND as for policy compile: without it, no server is known as any domain's.",
	 policy_try},
	{"policy", "compile",
	 "FILE [-o IMAGE] [--discovered FOUND]\n"
	 "Makes a policy image of a text file of rules, without Redis. IMAGE is by default the one of the\n"
	 "configuration. A bad line is named, and nothing is written. FOUND is a JSON file of what an agent\n"
	 "would have found: MX, TLSA, MTA-STS, probes, where STARTTLS was seen.",
	 policy_compile},
	{"policy", "check",
	 "FILE | --rule \"KEY attribute=value ...\"\n"
	 "Says what is wrong with a file of rules, or with one rule; prints the rule as it is understood.",
	 policy_check},
	{"policy", "import",
	 "FILE [--dry-run] [--partial]\n"
	 "Takes the text of a Postfix table for smtp_tls_policy_maps (before postmap) as rules, in one generation. Attributes of\n"
	 "waxseal's own may stand in its lines. Rules of the same key are replaced, others stay. A line that no rule can say is\n"
	 "named, and nothing is written; --partial writes the others. --dry-run shows what would change. FILE may be - .",
	 policy_import},
	{"policy", "export",
	 "\nAll rules in Redis as a Postfix table, on standard output. What Postfix cannot say stands in comments that\n"
	 "policy import reads back.",
	 policy_export},
	{"policy", "log",
	 "[-n COUNT]\n"
	 "The last generations: every write of this command, with its time and author, and how many rules it changed.\n"
	 "--json has the rules before and after. The newest 1,000 are kept.",
	 policy_log},
	{"policy", "diff",
	 "[A [B]]\n"
	 "What makes B of A: - is A's, + is B's. Each is the number of a generation, now (what Redis has), or a file of\n"
	 "rules. B is by default now. Without A: what was changed since the last generation without this command.",
	 policy_diff},
	{"policy", "rollback",
	 "GENERATION [--dry-run] [--force]\n"
	 "Makes all rules that the generations since have changed as they were after GENERATION; a generation itself. Rules that\n"
	 "redis-cli has changed since are named, and nothing is written then but with --force.",
	 policy_rollback},
	{"", "counters",
	 "[--watch] [DESTINATION]\n"
	 "Sessions, recipients and TLS failures by destination, and how much mail still travels in clear, to whom and\n"
	 "why. With DESTINATION everything that is counted for it. --watch shows them again every two seconds.",
	 counters_run},
	{"", "explain",
	 "RECIPIENT | ADDRESS | RECIPIENT ADDRESS [--client ADDRESS] [--inbound] [--events FILE]...\n"
	 "Which rule of the image in force holds for mail to this recipient (or domain), for this server's address, or for\n"
	 "both, what lost to it and why; what DNS, MTA-STS, probes and the last sessions say of the servers; what a client\n"
	 "would be told, in clear and with TLS of its own; and the last refusals. --client asks as that client, --inbound for\n"
	 "a session from outside.\n"
	 "  waxseal explain user@example.org 203.0.113.7 --client 10.1.2.3",
	 explain_run},
	{"", "fleet",
	 "\nAll appliances that use this Redis: what they run, how far they are behind, their load. Exit 1 if one is down.",
	 fleet_run},
	{"", "flows", "\nConnections that are in the appliance now.", flows_run},
	{"", "probe",
	 "DOMAIN | NAME ADDRESS\n"
	 "Connects to the domain's mail servers now, from here, does STARTTLS, and shows version, certificate and TLSA result, and\n"
	 "which TLS versions they take. Servers and TLSA records are those that the agent knows, else the DNS is asked now; or one\n"
	 "server's NAME and ADDRESS. Exit 1 if one of them gives no TLS.",
	 probe_run},
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

bool cli_flag(struct cli *cli, const char *name)
{
	for (int i = 0; i < cli->argc; i++) {
		if (strcmp(cli->argv[i], name))
			continue;
		memmove(&cli->argv[i], &cli->argv[i + 1], (size_t)(cli->argc - i - 1) * sizeof(*cli->argv));
		cli->argc--;
		return true;
	}
	return false;
}

bool cli_value(struct cli *cli, const char *name, const char **value)
{
	size_t len = strlen(name);

	for (int i = 0; i < cli->argc; i++) {
		if (strncmp(cli->argv[i], name, len) || (cli->argv[i][len] && cli->argv[i][len] != '='))
			continue;
		bool apart = !cli->argv[i][len];
		int taken = apart && i + 1 < cli->argc ? 2 : 1;
		*value = !apart ? cli->argv[i] + len + 1 : taken == 2 ? cli->argv[i + 1] : NULL;
		memmove(&cli->argv[i], &cli->argv[i + taken], (size_t)(cli->argc - i - taken) * sizeof(*cli->argv));
		cli->argc -= taken;
		return true;
	}
	return false;
}

/* The options of all commands. 0: it is none; 1: taken, with `*skip` arguments behind it; -1: its value is missing. */
static int shared_option(struct cli *cli, char **arg, bool last, const char **path, bool *help, int *skip)
{
	static const char *const with_value[] = {"--config", "--author"};
	const char **values[] = {path, &cli->author};

	for (size_t i = 0; i < sizeof(with_value) / sizeof(with_value[0]); i++) {
		size_t len = strlen(with_value[i]);
		if (strncmp(*arg, with_value[i], len) || ((*arg)[len] && (*arg)[len] != '='))
			continue;
		*skip = (*arg)[len] ? 0 : 1;
		if (*skip && last) {
			fprintf(stderr, "waxseal: %s: %s is missing\n", with_value[i], i ? "a name" : "the name of a file");
			return -1;
		}
		*values[i] = *skip ? arg[1] : *arg + len + 1;
		return 1;
	}
	*skip = 0;
	if (!strcmp(*arg, "--json"))
		cli->json = true;
	else if (!strcmp(*arg, "--help") || !strcmp(*arg, "-h"))
		*help = true;
	else
		return 0;
	return 1;
}

static int run_command(struct cli *cli, const char *path)
{
	char error[CLI_ERROR_MAX];

	control_config_default(&cli->config);
	if (!path && access(CONTROL_CONFIG_DEFAULT, F_OK) == 0)
		path = CONTROL_CONFIG_DEFAULT;
	if (path && control_config_read(&cli->config, path, error, sizeof(error)) != 0)
		return cli_fail("%s", error);
	return cli->command->run(cli);
}

int cli_run(int argc, char **argv)
{
	struct cli cli = {0};
	const char *path = NULL;
	bool help = false, options = true;
	int rest = 0, used = 0, skip, rc = CLI_USAGE;

	char **args = calloc((size_t)argc + 1, sizeof(*args));
	if (!args)
		return cli_fail("no memory");
	for (int i = 1; i < argc; i++) {
		int shared = options ? shared_option(&cli, &argv[i], i + 1 == argc, &path, &help, &skip) : 0;
		if (shared < 0) {
			free(args);
			return CLI_USAGE;
		} else if (shared) {
			i += skip;
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
		rc = run_command(&cli, path);
	}
	free(args);
	if (fflush(stdout) != 0 && rc == CLI_OK)
		rc = cli_fail("standard output: %s", strerror(errno));
	return rc;
}
