/*
 * known.c - the hash or the memory of one domain, and its table: a line for each address, with its server's name.
 */
#include "known.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "lookup.h"
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

#define DNS_NOW "DNS now"

static void take(json_t *known, const json_t *found, const char *name)
{
	link_json_set(known, name, link_text(found, name));
}

json_t *known_or_found(const struct cli *cli, const char *domain)
{
	json_t *known = known_domain(cli, domain), *found;
	const char *from = link_text(known, "from"), *tlsa = link_text(known, "tlsa");
	bool has_servers = *link_text(known, "addresses"), has_tlsa = has_servers && *tlsa && !strstr(tlsa, "=unasked@");

	if (!known)
		known = json_object();
	link_json_set(known, "servers_from", has_servers ? from : DNS_NOW);
	link_json_set(known, "tlsa_from", has_tlsa ? from : DNS_NOW);
	if (has_tlsa)
		return known;
	found = lookup_domain(&cli->config, domain);
	for (const char *const *name = (const char *const[]){"mx", "addresses", "time", "mx_secure", NULL}; !has_servers && *name; name++)
		take(known, found, *name);
	take(known, found, "tlsa");
	take(known, found, "error");
	json_decref(found);
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

static void print_age(const char *before, const char *text, uint64_t now_s, FILE *out)
{
	uint64_t at = strtoull(text, NULL, 10);
	char age[TABLE_AGE_MAX];

	if (at)
		fprintf(out, "%s%s ago", before, table_age(now_s > at ? now_s - at : 0, age));
}

/* The policy in force, and how the last look went: either may be without the other (RFC 8461, section 3.3). */
static void print_sts(const json_t *known, uint64_t now_s, FILE *out)
{
	const char *look = link_text(known, "sts"), *mode = link_text(known, "sts_mode"), *error = link_text(known, "sts_error");

	if (!*look && !*mode)
		return;
	fprintf(out, "MTA-STS: %s", *mode ? mode : "no policy");
	if (*mode)
		fprintf(out, ", servers %s, id %s", link_text(known, "sts_mx"), link_text(known, "sts_id"));
	if (*mode)
		print_age(", fetched ", link_text(known, "sts_time"), now_s, out);
	fprintf(out, "; last look: %s%s%s", *look ? look : "not yet", *error ? ": " : "", error);
	print_age(", ", link_text(known, "sts_checked"), now_s, out);
	fputs(".\n", out);
}

/* "mx1.a.example=STATE@TIME[,U-S-M-HEX]... ..." */
void known_print_tlsa(const json_t *known, uint64_t now_s, FILE *out)
{
	char *copy = strdup(link_text(known, "tlsa")), *outer = NULL;

	for (char *host = copy ? strtok_r(copy, " ", &outer) : NULL; host; host = strtok_r(NULL, " ", &outer)) {
		char *state = strchr(host, '='), *at = state ? strchr(state, '@') : NULL, *records = at ? strchr(at, ',') : NULL;
		if (!state)
			continue;
		*state++ = 0;
		if (at)
			*at++ = 0;
		if (records)
			*records++ = 0;
		fprintf(out, "TLSA of %s: %s", host, state);
		print_age(", ", at ? at : "", now_s, out);
		if (records)
			fprintf(out, ": %.160s", records);
		fputs(".\n", out);
	}
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
	known_print_tlsa(known, now_s, out);
	print_sts(known, now_s, out);
}
