/*
 * cli.h - the frame of waxseal's subcommands.
 *
 * Enters: arguments. Leaves: tables for people, JSON for programs (--json), an exit code: 0 ok, 1 something
 * is wrong, 2 wrong usage. Each error is one line on standard error: what, where, what would be right.
 * The commands stand in one const table (run.c); each has its own usage text.
 */
#ifndef WAXSEAL_CLI_H
#define WAXSEAL_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy/config.h"

#define CLI_VERSION "0.1"
#define CLI_ERROR_MAX 512

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command;
struct cli {
	struct control_config config;
	bool json;
	const char *author; /* --author, or NULL */
	const struct cli_command *command;
	int argc; /* arguments behind the command's name, without the options that all commands share */
	char **argv;
};

struct cli_command {
	const char *group, *name; /* "policy", "set"; a group of "" is a command of its own */
	const char *usage;        /* first line the arguments, the rest the explanation */
	int (*run)(struct cli *cli);
};

int cli_run(int argc, char **argv);

__attribute__((format(printf, 1, 2))) int cli_fail(const char *format, ...);                      /* CLI_FAILED */
__attribute__((format(printf, 2, 3))) int cli_usage(const struct cli *cli, const char *format, ...); /* CLI_USAGE */

/* Takes an option out of the arguments: "--dry-run"; "--events FILE" or "--events=FILE" with its value, NULL where it is
 * missing. False if it does not stand there (any more). */
bool cli_flag(struct cli *cli, const char *name);
bool cli_value(struct cli *cli, const char *name, const char **value);

int policy_set(struct cli *cli);     /* policy_write.c */
int policy_rm(struct cli *cli);
int policy_show(struct cli *cli);    /* policy_show.c */
int policy_list(struct cli *cli);
int policy_compile(struct cli *cli); /* policy_text.c */
int policy_check(struct cli *cli);
/* The image of a file of rules, which the caller frees; NULL having said why. `found`: a file of findings (rules.h), NULL:
 * none. `enforce`: as if every rule were enforced in whole. */
void *cli_compile(const char *path, const char *found, bool enforce, uint64_t now, size_t *len, size_t *rules);
int policy_log(struct cli *cli);     /* policy_history.c */
int policy_diff(struct cli *cli);
int policy_rollback(struct cli *cli);
int policy_import(struct cli *cli);  /* policy_import.c */
int policy_export(struct cli *cli);
int policy_suggest(struct cli *cli); /* policy_suggest.c */
int policy_try(struct cli *cli);     /* policy_try.c */
int counters_run(struct cli *cli);
int explain_run(struct cli *cli);
int fleet_run(struct cli *cli);
int flows_run(struct cli *cli);
int probe_run(struct cli *cli);
int status_run(struct cli *cli);

#endif
