/*
 * known.c - the hash or the memory of one domain, and its table: a line for each address, with its server's name.
 */
#include "known.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "table.h"

static json_t *from_redis(const struct cli *cli, const char *domain)
{
	struct rule_field fields[LINK_FIELDS_MAX];
	char error[CLI_ERROR_MAX];
	redisContext *redis = link_redis(cli, error, sizeof(error));
	redisReply *reply = redis ? link_command(redis, error, sizeof(error), "HGETALL %sdiscovered:%s", cli->config.redis_prefix, domain) : NULL;
	int count = reply ? link_fields(reply, fields, error, sizeof(error)) : 0;
	json_t *known = NULL;

	if (count > 0) {
		known = json_object();
		for (int i = 0; i < count; i++)
			link_json_set(known, fields[i].name, fields[i].value);
		link_json_set(known, "from", "Redis");
	}
	if (reply)
		freeReplyObject(reply);
	if (redis)
		redisFree(redis);
	return known;
}

static void print_family(FILE *out, const json_t *addresses, const char *name, size_t *written)
{
	const json_t *addr;
	size_t i;

	json_array_foreach(addresses, i, addr)
	{
		if (!json_is_string(addr))
			continue;
		if (!*written)
			fprintf(out, "%s%s=", ftell(out) > 0 ? " " : "", name);
		fprintf(out, "%s%s", (*written)++ ? "," : "", json_string_value(addr));
	}
}

json_t *known_from_memory(const json_t *memory, const char *domain)
{
	const json_t *entry = json_object_get(memory, domain), *host;
	char *mx = NULL, *addresses = NULL, number[32];
	size_t mx_len, addresses_len, i;

	if (!json_is_object(entry))
		return NULL;
	FILE *names = open_memstream(&mx, &mx_len), *places = open_memstream(&addresses, &addresses_len);
	json_array_foreach(json_object_get(entry, "mx"), i, host)
	{
		size_t written = 0;
		if (!names || !places)
			break;
		fprintf(names, "%s%s", i ? " " : "", link_text(host, "name"));
		print_family(places, json_object_get(host, "A"), link_text(host, "name"), &written);
		print_family(places, json_object_get(host, "AAAA"), link_text(host, "name"), &written);
	}
	if (names)
		fclose(names);
	if (places)
		fclose(places);
	json_t *known = json_object();
	link_json_set(known, "mx", mx ? mx : "");
	link_json_set(known, "addresses", addresses ? addresses : "");
	link_json_set(known, "error", link_text(entry, "error"));
	snprintf(number, sizeof(number), "%" PRIu64, link_number(entry, "ttl"));
	link_json_set(known, "ttl", number);
	snprintf(number, sizeof(number), "%" PRIu64, link_number(entry, "time"));
	link_json_set(known, "time", number);
	free(mx);
	free(addresses);
	return known;
}

json_t *known_domain(const struct cli *cli, const char *domain)
{
	json_t *known = cli->config.dns_enabled ? from_redis(cli, domain) : NULL, *file;

	if (known || !cli->config.dns_enabled)
		return known;
	file = json_load_file(cli->config.rules, 0, NULL);
	known = known_from_memory(json_object_get(file, "discovered"), domain);
	if (known)
		link_json_set(known, "from", cli->config.rules);
	json_decref(file);
	return known;
}

/* "mx1=192.0.2.1,2001:db8::1 mx2=..." */
static void print_addresses(const char *text, FILE *out)
{
	static const char *const headings[] = {"ADDRESS", "SERVER", NULL};
	struct table *table = table_new(headings);
	char *copy = strdup(text), *outer = NULL, *inner = NULL;

	for (char *host = copy ? strtok_r(copy, " ", &outer) : NULL; host; host = strtok_r(NULL, " ", &outer)) {
		char *equals = strchr(host, '=');
		if (!equals)
			continue;
		*equals = 0;
		for (char *addr = strtok_r(equals + 1, ",", &inner); addr; addr = strtok_r(NULL, ",", &inner)) {
			table_text(table, addr);
			table_text(table, host);
		}
	}
	if (table_rows(table))
		table_print(table, out);
	table_free(table);
	free(copy);
}

void known_print(const json_t *known, const char *domain, uint64_t now_s, FILE *out)
{
	uint64_t time = strtoull(link_text(known, "time"), NULL, 10);
	const char *mx = link_text(known, "mx"), *error = link_text(known, "error");
	char age[TABLE_AGE_MAX];

	if (!known) {
		fprintf(out, "\nThe DNS of %s is not known: no rule names it, or the agent has not asked yet.\n", domain);
		return;
	}
	fprintf(out, "\nMail for %s goes to: %s", domain, !strcmp(mx, ".") ? "nobody, it takes none (MX 0 .)" : *mx ? mx : "no server that is known");
	if (time)
		fprintf(out, "; the DNS said so %s ago", table_age(now_s > time ? now_s - time : 0, age));
	fprintf(out, " (%s).\n", link_text(known, "from"));
	if (*error)
		fprintf(out, "The last question failed, and what was known is kept: %s\n", error);
	print_addresses(link_text(known, "addresses"), out);
}
