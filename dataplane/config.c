/*
 * config.c - waxseald's options, in one table {section, name, type, limits, default}.
 *
 * The file is parsed by inih; the table says what is legal. The first thing wrong ends the reading with
 * one line that names file and line, and what would be right. Lines are cut here: inih alone would take an
 * indented option for more of the one before it, and break a long line in two.
 */
#include "config.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TEXT, NUMBER, FAIL_MODE, LAYOUT, CPUS, OTHER_PROGRAM };

struct option {
	const char *section, *name;
	enum type type;
	size_t offset;
	uint32_t min, max;
	const char *initial;
};

#define AT(field) offsetof(struct config, field)
static const struct option options[] = {
	{"ports", "inside", TEXT, AT(port[INSIDE]), 1, 0, ""},
	{"ports", "outside", TEXT, AT(port[OUTSIDE]), 1, 0, ""},
	{"ports", "fail", FAIL_MODE, AT(fail_open), 0, 0, "open"},
	{"dataplane", "workers", NUMBER, AT(workers), 1, 16, "1"},
	{"dataplane", "layout", LAYOUT, AT(run_to_completion), 0, 0, "pipeline"},
	{"dataplane", "cpus", CPUS, AT(cpus), 0, 0, "0"},
	{"dataplane", "mbufs", NUMBER, AT(mbufs), 8192, 1u << 22, "8192"},
	{"dataplane", "memory_mb", NUMBER, AT(memory_mb), 64, 1u << 20, "256"},
	{"dataplane", "file_prefix", TEXT, AT(file_prefix), 1, 0, "waxseal"},
	{"dataplane", "bpf_dir", TEXT, AT(bpf_dir), 1, 0, "/usr/lib/waxseal"},
	{"policy", "image", TEXT, AT(image), 1, 0, "/var/lib/waxseal/policy.image"},
	{"tls", "ca_file", TEXT, AT(ca_file), 1, 0, "/etc/ssl/certs/ca-certificates.crt"},
	{"tls", "failure_memory_s", NUMBER, AT(failure_memory_s), 0, 604800, "3600"},
	{"limits", "flows", NUMBER, AT(flows), 64, 1u << 26, "65536"},
	{"limits", "prefix_percent", NUMBER, AT(prefix_percent), 1, 100, "25"},
	{"limits", "embryonic_percent", NUMBER, AT(embryonic_percent), 1, 100, "25"},
	{"limits", "answered_percent", NUMBER, AT(answered_percent), 1, 100, "50"},
	{"limits", "held_segments", NUMBER, AT(held_segments), 4, 1024, "64"},
	{"limits", "takeovers", NUMBER, AT(takeovers), 1, 1u << 24, "4096"},
	{"limits", "handshakes", NUMBER, AT(handshakes), 1, 1u << 20, "512"},
	{"limits", "buffer_mb", NUMBER, AT(buffer_mb), 1, 1u << 20, "256"},
	{"events", "file", TEXT, AT(events), 0, 0, ""},
	{"redis", "", OTHER_PROGRAM, 0, 0, 0, ""},
	{"agent", "", OTHER_PROGRAM, 0, 0, 0, ""},
	{"dns", "", OTHER_PROGRAM, 0, 0, 0, ""},
	{"probe", "", OTHER_PROGRAM, 0, 0, 0, ""},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

#define LINE_LENGTH_MAX 198 /* inih's own limit, less the end of the line */

struct reading {
	struct config *config;
	FILE *file;
	unsigned line;
	char text[512];
	bool failed;
};

/* "1", "1,2,3" */
static const char *cpus(struct config *config, const char *value)
{
	config->cpu_count = 0;
	for (const char *p = value; *p;) {
		char *end;
		unsigned long cpu = strtoul(p, &end, 10);
		if (end == p || cpu >= 1024 || (*end && *end != ',') || config->cpu_count == CONFIG_CPUS_MAX)
			return "a list of CPU numbers such as 1 or 1,2,3";
		config->cpus[config->cpu_count++] = (unsigned)cpu;
		p = *end ? end + 1 : end;
	}
	return config->cpu_count ? NULL : "a list of CPU numbers such as 1 or 1,2,3";
}

/* NULL, or what would be right. */
static const char *set(struct config *config, const struct option *option, const char *value, char right[128])
{
	void *field = (char *)config + option->offset;
	switch (option->type) {
	case TEXT:
		if (strlen(value) >= CONFIG_TEXT_MAX || strlen(value) < option->min)
			return "a text of 1 to 255 characters";
		strcpy(field, value);
		return NULL;
	case NUMBER: {
		char *end;
		errno = 0;
		unsigned long long n = strtoull(value, &end, 10);
		if (errno || end == value || *end || *value == '-' || n < option->min || n > option->max) {
			snprintf(right, 128, "a number from %u to %u", option->min, option->max);
			return right;
		}
		*(uint32_t *)field = (uint32_t)n;
		return NULL;
	}
	case FAIL_MODE:
		if (strcmp(value, "open") && strcmp(value, "closed"))
			return "open or closed";
		*(bool *)field = !strcmp(value, "open");
		return NULL;
	case LAYOUT:
		if (strcmp(value, "pipeline") && strcmp(value, "run-to-completion"))
			return "pipeline or run-to-completion";
		*(bool *)field = !strcmp(value, "run-to-completion");
		return NULL;
	case CPUS:
		return cpus(config, value);
	case OTHER_PROGRAM:
		return NULL;
	}
	return NULL;
}

static int fail(struct reading *reading, const char *text)
{
	if (!reading->failed)
		snprintf(reading->text, sizeof(reading->text), "%s", text);
	reading->failed = true;
	return 0;
}

/* inih's fgets: one line a call without its indentation, NULL at the end or after an error. */
static char *next_line(char *out, int size, void *stream)
{
	struct reading *reading = stream;
	char line[LINE_LENGTH_MAX + 2];

	if (reading->failed || !fgets(line, sizeof(line), reading->file))
		return NULL;
	reading->line++;
	size_t len = strcspn(line, "\r\n");
	if (len == sizeof(line) - 1 && !feof(reading->file)) {
		fail(reading, "line is longer than 198 characters");
		return NULL;
	}
	line[len] = '\0';
	snprintf(out, (size_t)size, "%s\n", line + strspn(line, " \t"));
	return out;
}

static int one(void *context, const char *section, const char *name, const char *value)
{
	struct reading *reading = context;
	char text[512], right[128];
	bool known_section = false;

	for (size_t i = 0; i < OPTIONS; i++) {
		if (strcmp(options[i].section, section))
			continue;
		known_section = true;
		if (options[i].type != OTHER_PROGRAM && strcmp(options[i].name, name))
			continue;
		const char *wanted = set(reading->config, &options[i], value, right);
		if (!wanted)
			return 1;
		snprintf(text, sizeof(text), "[%s] %s = %.100s: not %s", section, name, value, wanted);
		return fail(reading, text);
	}
	snprintf(text, sizeof(text), known_section ? "[%.60s] %.60s: no such option" : "[%.60s]: no such section", section, name);
	size_t at = strlen(text);
	at += (size_t)snprintf(text + at, sizeof(text) - at, "; %s", known_section ? "there are" : "sections are ports dataplane policy tls limits events redis agent");
	for (size_t i = 0; known_section && i < OPTIONS && at < sizeof(text); i++)
		if (!strcmp(options[i].section, section))
			at += (size_t)snprintf(text + at, sizeof(text) - at, " %s", options[i].name);
	return fail(reading, text);
}

/* What no single line shows. */
static int check_whole(const struct config *config, const char *path, char *error, size_t error_len)
{
	for (int p = 0; p < PORTS; p++) {
		if (!config->port[p][0]) {
			snprintf(error, error_len, "%s: [ports] %s: is missing; a netdev such as eth1, or a PCI address", path,
			         p == INSIDE ? "inside" : "outside");
			return -1;
		}
	}
	if (config->workers > 1 && config->cpu_count < config_lcores(config)) {
		snprintf(error, error_len, "%s: [dataplane] cpus: %u workers%s need %u CPUs, listed are %u", path, config->workers,
		         config_pipeline(config) ? " and I/O" : "", config_lcores(config), config->cpu_count);
		return -1;
	}
	return 0;
}

int config_read(struct config *config, const char *path, char *error, size_t error_len)
{
	struct reading reading = {.config = config};
	char right[128];

	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < OPTIONS; i++)
		if (*options[i].initial)
			set(config, &options[i], options[i].initial, right);
	reading.file = fopen(path, "re");
	if (!reading.file) {
		snprintf(error, error_len, "%s: %s", path, strerror(errno));
		return -1;
	}
	int line = ini_parse_stream(next_line, &reading, one, &reading);
	bool unreadable = ferror(reading.file);
	fclose(reading.file);
	if (reading.failed) {
		snprintf(error, error_len, "%s:%u: %s", path, reading.line, reading.text);
		return -1;
	}
	if (unreadable) {
		snprintf(error, error_len, "%s: cannot be read; a regular file is wanted", path);
		return -1;
	}
	if (line != 0) {
		snprintf(error, error_len, "%s:%d: not an option: write name = value below a [section]", path, line);
		return -1;
	}
	return check_whole(config, path, error, error_len);
}
