/*
 * config.c - options of waxseal-agent and waxseal in one table {section, name, reader, field, default}.
 *
 * The file is cut into lines here and parsed by inih: a reader of our own counts the lines, so that an
 * error can name one, refuses lines that inih would silently break in two, and takes the indentation
 * off, which inih would read as a continuation. The first thing wrong ends the reading.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 65535
#define SECONDS_MAX 31536000

struct option;
/* NULL, or what would be right. */
typedef const char *option_reader(struct control_config *config, const struct option *option, const char *value);

struct option {
	const char *section, *name;
	option_reader *read; /* NULL: a section of waxseald's, which judges it */
	size_t offset, size;
	const char *initial;
};

static const char *read_text(struct control_config *config, const struct option *option, const char *value)
{
	if (strlen(value) >= option->size)
		return "a text of at most 255 characters";
	strcpy((char *)config + option->offset, value);
	return NULL;
}

static const char *read_path(struct control_config *config, const struct option *option, const char *value)
{
	return *value ? read_text(config, option, value) : "the path of a file";
}

static const char *read_prefix(struct control_config *config, const struct option *option, const char *value)
{
	for (const char *p = value; *p; p++)
		if (*p <= ' ' || *p == 0x7f)
			return "a prefix of Redis keys without spaces, such as waxseal:";
	if (!*value || strlen(value) >= option->size)
		return "a prefix of Redis keys of 1 to 63 characters, such as waxseal:";
	strcpy((char *)config + option->offset, value);
	return NULL;
}

/* "host:port" or "[v6]:port". */
static bool host_and_port(const char *value, char host[CONTROL_TEXT_MAX], uint16_t *port)
{
	const char *colon = strrchr(value, ':');
	char *end;

	if (!colon || colon == value || strlen(value) >= CONTROL_TEXT_MAX)
		return false;
	unsigned long n = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || n < 1 || n > 65535)
		return false;
	size_t len = (size_t)(colon - value);
	if (value[0] == '[') {
		if (len < 3 || value[len - 1] != ']')
			return false;
		value++;
		len -= 2;
	}
	memcpy(host, value, len);
	host[len] = 0;
	*port = (uint16_t)n;
	return true;
}

bool control_sentinel(const struct control_config *config, unsigned index, char host[CONTROL_TEXT_MAX], uint16_t *port)
{
	char list[CONTROL_TEXT_MAX], *state = NULL;

	snprintf(list, sizeof(list), "%s", config->redis_sentinels);
	for (char *one = strtok_r(list, ", \t", &state); one; one = strtok_r(NULL, ", \t", &state))
		if (index-- == 0)
			return host_and_port(one, host, port);
	return false;
}

/* "mymaster@192.0.2.1:26379,192.0.2.2:26379" */
static bool read_sentinels(struct control_config *config, const char *value)
{
	const char *at = strchr(value, '@');
	char host[CONTROL_TEXT_MAX];
	unsigned good = 0, items = 0;
	uint16_t port;

	if (!at || at == value || (size_t)(at - value) >= sizeof(config->redis_master))
		return false;
	snprintf(config->redis_master, sizeof(config->redis_master), "%.*s", (int)(at - value), value);
	snprintf(config->redis_sentinels, sizeof(config->redis_sentinels), "%s", at + 1);
	while (control_sentinel(config, good, host, &port))
		good++;
	for (const char *p = at + 1; *p; p += strcspn(p, ", \t")) {
		p += strspn(p, ", \t");
		items += *p != 0;
	}
	return good && good == items;
}

static const char *read_redis(struct control_config *config, const struct option *option, const char *value)
{
	static const char right[] = "host:port, [2001:db8::1]:port, unix:/path/to/socket, or sentinel:master@host:port,host:port";

	if (strlen(value) >= option->size)
		return right;
	config->redis_unix[0] = config->redis_master[0] = config->redis_sentinels[0] = 0;
	if (!strncmp(value, "unix:", 5)) {
		if (value[5] != '/')
			return right;
		strcpy(config->redis_unix, value + 5);
	} else if (!strncmp(value, "sentinel:", 9)) {
		if (!read_sentinels(config, value + 9))
			return right;
	} else if (!host_and_port(value, config->redis_host, &config->redis_port)) {
		return right;
	}
	strcpy(config->redis_address, value);
	return NULL;
}

static const char *read_metrics(struct control_config *config, const struct option *option, const char *value)
{
	(void)option;
	config->metrics_port = 0;
	config->metrics_host[0] = 0;
	if (*value && !host_and_port(value, config->metrics_host, &config->metrics_port))
		return "address:port such as 127.0.0.1:9825, or nothing";
	return NULL;
}

static const char *read_number(struct control_config *config, const struct option *option, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n > NUMBER_MAX)
		return "a number from 0 to 65535";
	*(uint32_t *)((char *)config + option->offset) = (uint32_t)n;
	return NULL;
}

static const char *read_flag(struct control_config *config, const struct option *option, const char *value)
{
	bool yes = !strcmp(value, "yes");

	if (!yes && strcmp(value, "no") != 0)
		return "yes or no";
	*(bool *)((char *)config + option->offset) = yes;
	return NULL;
}

static const char *read_seconds(struct control_config *config, const struct option *option, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n < 1 || n > SECONDS_MAX)
		return "a number of seconds from 1 to 31536000";
	*(uint32_t *)((char *)config + option->offset) = (uint32_t)n;
	return NULL;
}

static const char *read_source(struct control_config *config, const struct option *option, const char *value)
{
	struct in6_addr addr;

	if (strlen(value) >= option->size || (*value && inet_pton(AF_INET, value, &addr) != 1 && inet_pton(AF_INET6, value, &addr) != 1))
		return "an address such as 192.0.2.1, or nothing";
	strcpy((char *)config + option->offset, value);
	return NULL;
}

static const char *read_port(struct control_config *config, const struct option *option, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n < 1 || n > 65535)
		return "a port from 1 to 65535";
	*(uint16_t *)((char *)config + option->offset) = (uint16_t)n;
	return NULL;
}

/* "192.0.2.53, 2001:db8::53, 127.0.0.1@5353", or a file. */
static const char *read_servers(struct control_config *config, const struct option *option, const char *value)
{
	static const char right[] = "addresses such as 192.0.2.53 or 127.0.0.1@5353, or the path of a resolv.conf";
	char list[CONTROL_TEXT_MAX], *state = NULL;
	struct in6_addr addr;

	if (!*value || strlen(value) >= option->size)
		return right;
	snprintf(list, sizeof(list), "%s", value);
	for (char *one = *value == '/' ? NULL : strtok_r(list, ", \t", &state); one; one = strtok_r(NULL, ", \t", &state)) {
		size_t len = strcspn(one, "@");
		char *end = "";
		unsigned long port = one[len] ? strtoul(one + len + 1, &end, 10) : 53;
		if (one[len] && (one[len + 1] < '0' || one[len + 1] > '9'))
			return right;
		one[len] = 0;
		if (*end || port < 1 || port > 65535 || (inet_pton(AF_INET, one, &addr) != 1 && inet_pton(AF_INET6, one, &addr) != 1))
			return right;
	}
	strcpy((char *)config + option->offset, value);
	return NULL;
}

static const char *read_id(struct control_config *config, const struct option *option, const char *value)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	if (strspn(value, allowed) != strlen(value) || strlen(value) >= option->size)
		return "a name of at most 63 letters, digits, '.', '-' and '_'";
	strcpy((char *)config + option->offset, value);
	return NULL;
}

static const char *read_file_prefix(struct control_config *config, const struct option *option, const char *value)
{
	if (!*value || strchr(value, '/') || strlen(value) >= option->size)
		return "a name without '/'";
	strcpy((char *)config + option->offset, value);
	return NULL;
}

#define FIELD(name) offsetof(struct control_config, name), sizeof(((struct control_config *)0)->name)
static const struct option options[] = {
	{"ports", "", NULL, 0, 0, ""},
	{"dataplane", "file_prefix", read_file_prefix, FIELD(file_prefix), "waxseal"},
	{"dataplane", "", NULL, 0, 0, ""},
	{"policy", "image", read_path, FIELD(image), "/var/lib/waxseal/policy.image"},
	{"policy", "", NULL, 0, 0, ""},
	{"tls", "ca_file", read_text, FIELD(ca_file), "/etc/ssl/certs/ca-certificates.crt"},
	{"tls", "", NULL, 0, 0, ""},
	{"limits", "", NULL, 0, 0, ""},
	{"events", "file", read_text, FIELD(events), ""},
	{"events", "", NULL, 0, 0, ""},
	{"redis", "address", read_redis, FIELD(redis_address), "127.0.0.1:6379"},
	{"redis", "user", read_text, FIELD(redis_user), ""},
	{"redis", "password", read_text, FIELD(redis_password), ""},
	{"redis", "database", read_number, FIELD(redis_database), "0"},
	{"redis", "prefix", read_prefix, FIELD(redis_prefix), "waxseal:"},
	{"redis", "history_mb", read_number, FIELD(history_mb), "256"},
	{"agent", "metrics", read_metrics, FIELD(metrics_host), "127.0.0.1:9825"},
	{"agent", "state", read_path, FIELD(state), "/var/lib/waxseal/agent.json"},
	{"agent", "rules", read_path, FIELD(rules), "/var/lib/waxseal/agent-rules.json"},
	{"agent", "id", read_id, FIELD(id), ""},
	{"dns", "enabled", read_flag, FIELD(dns_enabled), "yes"},
	{"dns", "servers", read_servers, FIELD(dns_servers), "/etc/resolv.conf"},
	{"dns", "trust_anchor", read_text, FIELD(dns_trust_anchor), ""},
	{"dns", "ttl_min_s", read_seconds, FIELD(dns_ttl_min_s), "60"},
	{"dns", "keep_s", read_seconds, FIELD(dns_keep_s), "604800"},
	{"dns", "timeout_s", read_seconds, FIELD(dns_timeout_s), "10"},
	{"dns", "mta_sts", read_flag, FIELD(dns_mta_sts), "yes"},
	{"probe", "enabled", read_flag, FIELD(probe_enabled), "yes"},
	{"probe", "interval_s", read_seconds, FIELD(probe_interval_s), "3600"},
	{"probe", "versions", read_flag, FIELD(probe_versions), "yes"},
	{"probe", "timeout_s", read_seconds, FIELD(probe_timeout_s), "30"},
	{"probe", "concurrent", read_seconds, FIELD(probe_concurrent), "8"},
	{"probe", "source", read_source, FIELD(probe_source), ""},
	{"probe", "port", read_port, FIELD(probe_port), "25"},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

struct reading {
	struct control_config *config;
	FILE *file;
	const char *path;
	unsigned line;
	bool failed;
	char *error;
	size_t error_len;
};

static int fail(struct reading *reading, const char *text)
{
	if (!reading->failed)
		snprintf(reading->error, reading->error_len, "%s:%u: %s", reading->path, reading->line, text);
	reading->failed = true;
	return 0;
}

/* inih's fgets: one line a call, NULL at the end or after an error. */
static char *next_line(char *out, int size, void *stream)
{
	struct reading *reading = stream;
	char line[CONTROL_LINE_MAX + 2];

	if (reading->failed || !fgets(line, sizeof(line), reading->file))
		return NULL;
	reading->line++;
	size_t len = strcspn(line, "\r\n");
	if (len == sizeof(line) - 1 && !feof(reading->file)) {
		fail(reading, "line is longer than 198 characters");
		return NULL;
	}
	line[len] = 0;
	char *text = line + strspn(line, " \t");
	if (*text && *text != ';' && *text != '#' && *text != '[' && !strpbrk(text, "=:")) {
		fail(reading, "not an option: write name = value below a [section]");
		return NULL;
	}
	snprintf(out, (size_t)size, "%s\n", text);
	return out;
}

static int unknown(struct reading *reading, const char *section, const char *name)
{
	char text[CONTROL_TEXT_MAX * 2];
	bool known_section = false;

	for (size_t i = 0; i < OPTIONS; i++)
		known_section |= !strcmp(options[i].section, section);
	int at = known_section ? snprintf(text, sizeof(text), "[%.60s] %.60s: no such option; there are", section, name)
			       : snprintf(text, sizeof(text), "[%.60s]: no such section; there are", section);
	const char *last = "";
	for (size_t i = 0; i < OPTIONS && at > 0 && (size_t)at < sizeof(text); i++) {
		if (known_section ? strcmp(options[i].section, section) : !strcmp(options[i].section, last))
			continue;
		at += snprintf(text + at, sizeof(text) - (size_t)at, " %s", known_section ? options[i].name : options[i].section);
		last = options[i].section;
	}
	return fail(reading, text);
}

static int one_option(void *user, const char *section, const char *name, const char *value)
{
	struct reading *reading = user;
	char text[CONTROL_TEXT_MAX * 2];

	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *option = &options[i];
		if (strcmp(option->section, section))
			continue;
		if (!option->read)
			return 1;
		if (strcmp(option->name, name))
			continue;
		const char *right = option->read(reading->config, option, value);
		if (!right)
			return 1;
		/* A password is never repeated, not even a wrong one. */
		snprintf(text, sizeof(text), "[%s] %s = %.100s: not %s", section, name,
			 strcmp(name, "password") ? value : "...", right);
		return fail(reading, text);
	}
	return unknown(reading, section, name);
}

void control_config_default(struct control_config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < OPTIONS; i++)
		if (options[i].read)
			options[i].read(config, &options[i], options[i].initial);
}

int control_config_read(struct control_config *config, const char *path, char *error, size_t error_len)
{
	struct reading reading = {.config = config, .path = path, .error = error, .error_len = error_len};

	control_config_default(config);
	reading.file = fopen(path, "re");
	if (!reading.file) {
		snprintf(error, error_len, "%s: %s; --config FILE names another one", path, strerror(errno));
		return -1;
	}
	int line = ini_parse_stream(next_line, &reading, one_option, &reading);
	if (!reading.failed && ferror(reading.file)) {
		snprintf(error, error_len, "%s: cannot be read; a regular file is wanted", path);
		reading.failed = true;
	} else if (!reading.failed && line != 0) {
		reading.line = line > 0 ? (unsigned)line : reading.line;
		fail(&reading, "not an option: write name = value below a [section]");
	}
	fclose(reading.file);
	if (!reading.failed && config->redis_user[0] && !config->redis_password[0]) {
		snprintf(error, error_len, "%s: [redis] user: needs a password too", path);
		reading.failed = true;
	}
	return reading.failed ? -1 : 0;
}
