/*
 * probe.c - waxseal probe: looks at a domain's mail servers now, from here, and shows what there is.
 *
 * Enters: what the agent knows of the domain or else the DNS (known.h), or one address. Leaves: a line for each address, and
 * where servers and TLSA records were taken from. Exit 1 if one of them gives no TLS, or is left out, which is said. All are
 * looked at at once; then each is asked, one version after the other, whether it takes those below the one that it chose, with
 * one connection for each.
 */
#include "../probe/probe.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../probe/tlsa.h"
#include "cli.h"
#include "known.h"
#include "link.h"
#include "table.h"

#define SERVERS_MAX 64
#define RECORDS_MAX 32

struct server {
	char addr[INET6_ADDRSTRLEN], mx[IMAGE_DOMAIN_MAX + 1];
	struct probe *probe; /* that runs; NULL */
	struct probe_posture posture;
};

struct look {
	struct server servers[SERVERS_MAX];
	size_t count, left_out; /* past SERVERS_MAX */
	struct prober *prober;
	const struct control_config *config;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool add(struct look *look, const char *mx, const char *addr)
{
	struct in6_addr any;
	struct server *server = &look->servers[look->count];

	if (strlen(addr) >= sizeof(server->addr) || strlen(mx) >= sizeof(server->mx) ||
	    (inet_pton(AF_INET, addr, &any) != 1 && inet_pton(AF_INET6, addr, &any) != 1))
		return false;
	if (look->count == SERVERS_MAX) {
		look->left_out++;
		return true;
	}
	strcpy(server->addr, addr);
	strcpy(server->mx, mx);
	look->count++;
	return true;
}

/* "mx1=192.0.2.1,2001:db8::1 mx2=..." */
static void add_known(struct look *look, const char *text)
{
	char *copy = strdup(text), *outer = NULL, *inner = NULL;

	for (char *host = copy ? strtok_r(copy, " ", &outer) : NULL; host; host = strtok_r(NULL, " ", &outer)) {
		char *equals = strchr(host, '=');
		if (!equals)
			continue;
		*equals = 0;
		for (char *addr = strtok_r(equals + 1, ",", &inner); addr; addr = strtok_r(NULL, ",", &inner))
			add(look, host, addr);
	}
	free(copy);
}

/* The records of one MX out of "mx1=secure@1800000000,3-1-1-ab01 ..."; their data stand in `rdata`. */
static size_t records_of(const char *text, const char *mx, struct discovered_tlsa records[RECORDS_MAX], uint8_t rdata[RECORDS_MAX][TLSA_RDATA_MAX])
{
	char *copy = strdup(text), *outer = NULL, *inner = NULL;
	size_t count = 0;

	for (char *host = copy ? strtok_r(copy, " ", &outer) : NULL; host; host = strtok_r(NULL, " ", &outer)) {
		char *equals = strchr(host, '=');
		if (!equals || (size_t)(equals - host) != strlen(mx) || memcmp(host, mx, strlen(mx)) != 0)
			continue;
		strtok_r(equals + 1, ",", &inner); /* the state */
		for (char *one; count < RECORDS_MAX && (one = strtok_r(NULL, ",", &inner));) {
			size_t len = tlsa_record_read(one, rdata[count]);
			if (!len)
				continue;
			records[count] = (struct discovered_tlsa){rdata[count][0], rdata[count][1], rdata[count][2], (uint16_t)(len - TLSA_HEAD_BYTES),
								  rdata[count] + TLSA_HEAD_BYTES};
			count++;
		}
	}
	free(copy);
	return count;
}

static void start(struct look *look, struct server *server, const char *domain, const char *tlsa, uint16_t only)
{
	static uint8_t rdata[RECORDS_MAX][TLSA_RDATA_MAX];
	struct discovered_tlsa records[RECORDS_MAX];
	struct probe_target target = {.addr = {[10] = 0xff, [11] = 0xff}, .port = look->config->probe_port, .mx = server->mx, .domain = domain,
				      .records = records, .record_count = records_of(tlsa, server->mx, records, rdata), .only = only};

	if (inet_pton(AF_INET, server->addr, target.addr + 12) != 1)
		inet_pton(AF_INET6, server->addr, target.addr);
	server->probe = probe_new(look->prober, &target, (uint64_t)time(NULL));
}

/* Until all have ended or the time is up. */
static void run(struct look *look)
{
	uint64_t end = now_ms() + (uint64_t)look->config->probe_timeout_s * 1000;

	for (;;) {
		struct pollfd fds[SERVERS_MAX];
		struct server *who[SERVERS_MAX];
		nfds_t open = 0;
		uint64_t now = now_ms();
		for (size_t i = 0; i < look->count; i++) {
			struct probe *probe = look->servers[i].probe;
			if (probe && probe_fd(probe) >= 0 && now >= end)
				probe_give_up(probe, "no answer in time");
			if (!probe || probe_fd(probe) < 0)
				continue;
			fds[open] = (struct pollfd){.fd = probe_fd(probe), .events = probe_wants_write(probe) ? POLLOUT : POLLIN};
			who[open++] = &look->servers[i];
		}
		if (!open)
			return;
		if (poll(fds, open, (int)(end - now)) < 0 && errno != EINTR)
			return;
		for (nfds_t i = 0; i < open; i++)
			if (fds[i].revents)
				probe_step(who[i]->probe);
	}
}

static void look_at_all(struct look *look, const char *domain, const char *tlsa)
{
	for (size_t i = 0; i < look->count; i++)
		start(look, &look->servers[i], domain, tlsa, 0);
	run(look);
	for (size_t i = 0; i < look->count; i++) {
		struct server *server = &look->servers[i];
		if (server->probe) {
			server->posture = *probe_result(server->probe);
			*probe_result(server->probe) = (struct probe_posture){0};
		}
		probe_free(server->probe);
		server->probe = NULL;
	}
}

static void ask_for(struct look *look, unsigned version)
{
	for (size_t i = 0; i < look->count; i++) {
		struct server *server = &look->servers[i];
		if (server->posture.version && server->posture.versions[version].answer == PROBE_UNTRIED)
			start(look, server, NULL, "", (uint16_t)(PROBE_VERSION_FIRST + version));
	}
	run(look);
	for (size_t i = 0; i < look->count; i++) {
		struct server *server = &look->servers[i];
		if (server->probe)
			probe_versions_take(server->posture.versions, probe_result(server->probe)->versions);
		probe_free(server->probe);
		server->probe = NULL;
	}
}

/* ---- what is shown ---- */

static const char *value_of(const struct probe_field fields[PROBE_FIELDS], const char *name)
{
	for (size_t i = 0; i < PROBE_FIELDS; i++)
		if (!strcmp(fields[i].name, name))
			return fields[i].value;
	return "";
}

/* "1.2 1.3": those with that answer, as people call them. */
static void print_versions(const struct probe_posture *posture, enum probe_answer answer, char out[32])
{
	size_t len = 0;

	*out = 0;
	for (unsigned i = 0; posture->version && i < PROBE_VERSIONS; i++)
		if (posture->versions[i].answer == answer)
			len += (size_t)snprintf(out + len, 32 - len, "%s1.%u", len ? " " : "", i);
}

static void print_day(const char *seconds, char out[16])
{
	time_t at = (time_t)strtoull(seconds, NULL, 10);
	struct tm tm;

	*out = 0;
	if (at && gmtime_r(&at, &tm))
		strftime(out, 16, "%Y-%m-%d", &tm);
}

/* Where it all comes from; of an address that the operator named, nothing. */
static void show_sources(const json_t *known, const char *domain)
{
	uint64_t now = (uint64_t)time(NULL), at = strtoull(link_text(known, "time"), NULL, 10);
	const char *secure = link_text(known, "mx_secure");
	char age[TABLE_AGE_MAX];

	if (!known)
		return;
	printf("\nServers of %s: %s, %s ago%s. TLSA records: %s.\n", domain, link_text(known, "servers_from"), table_age(now > at ? now - at : 0, age),
	       !*secure ? "" : !strcmp(secure, "1") ? ", validated by DNSSEC" : ", not validated by DNSSEC", link_text(known, "tlsa_from"));
	known_print_tlsa(known, now, stdout);
	if (*link_text(known, "error"))
		printf("A question to the DNS failed: %s\n", link_text(known, "error"));
}

static int show(struct look *look, const json_t *known, const char *domain, bool json)
{
	static const char *const headings[] = {"ADDRESS", "SERVER", "TLS", "CERTIFICATE", "UNTIL", "DANE", "TAKES", "REFUSES", "NOT TRIED",
					       "NAMES OR WHY NOT", NULL};
	static struct probe_field fields[PROBE_FIELDS];
	struct table *table = table_new(headings);
	json_t *array = json_array();
	int worst = CLI_OK;

	for (size_t i = 0; i < look->count; i++) {
		struct server *server = &look->servers[i];
		const struct probe_posture *posture = &server->posture;
		char day[16], told[PROBE_ANSWERS][32];
		probe_fields(posture, server->mx, fields);
		print_day(value_of(fields, "not_after"), day);
		for (enum probe_answer a = PROBE_UNTRIED; a < PROBE_ANSWERS; a++)
			print_versions(posture, a, told[a]);
		const char *cells[] = {server->addr, server->mx, posture->version ? value_of(fields, "version") : "none", value_of(fields, "chain"), day,
				       value_of(fields, "dane"), told[PROBE_TAKEN], told[PROBE_REFUSED], told[PROBE_UNTRIED],
				       *posture->error ? posture->error : value_of(fields, "names")};
		for (size_t c = 0; c < sizeof(cells) / sizeof(cells[0]); c++)
			table_text(table, cells[c]);
		json_t *object = json_object();
		link_json_set(object, "address", server->addr);
		link_json_set(object, "servers_from", known ? link_text(known, "servers_from") : "the command line");
		link_json_set(object, "tlsa_from", link_text(known, "tlsa_from"));
		for (size_t f = 0; f < PROBE_FIELDS; f++)
			link_json_set(object, fields[f].name, fields[f].value);
		json_array_append_new(array, object);
		if (!posture->version)
			worst = CLI_FAILED;
	}
	if (json) {
		link_print_json(array);
	} else {
		table_print(table, stdout);
		show_sources(known, domain);
		json_decref(array);
	}
	table_free(table);
	return worst;
}

static bool canonical(const char *text, char out[IMAGE_DOMAIN_MAX + 1])
{
	size_t len = strlen(text);

	if (len && text[len - 1] == '.')
		len--;
	if (len > IMAGE_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)text[i]);
	out[len] = 0;
	return policy_domain_valid(out);
}

static int no_servers(const json_t *known, const char *domain)
{
	if (*link_text(known, "error"))
		return cli_fail("%s: its mail servers are not known: %s", domain, link_text(known, "error"));
	if (!strcmp(link_text(known, "mx"), "."))
		return cli_fail("%s: it takes no mail (MX 0 .)", domain);
	return cli_fail("%s: the DNS has no address of a mail server of it", domain);
}

int probe_run(struct cli *cli)
{
	static struct look look;
	char error[CLI_ERROR_MAX], host[IMAGE_DOMAIN_MAX + 1] = "", domain[IMAGE_DOMAIN_MAX + 1];
	json_t *known = NULL;

	if (cli->argc < 1 || cli->argc > 2)
		return cli_usage(cli, "a DOMAIN is needed, and perhaps an ADDRESS");
	if (!canonical(cli->argv[0], domain))
		return cli_usage(cli, "%s: not a domain", cli->argv[0]);
	if (cli->argc == 1) {
		known = known_or_found(cli, domain);
		add_known(&look, link_text(known, "addresses"));
	} else if (!add(&look, domain, cli->argv[1])) {
		return cli_usage(cli, "%s: not an address", cli->argv[1]);
	}
	if (!look.count) {
		int failed = no_servers(known, domain);
		json_decref(known);
		return failed;
	}
	if (gethostname(host, sizeof(host) - 1) != 0 || !policy_domain_valid(host))
		snprintf(host, sizeof(host), "waxseal.invalid");
	signal(SIGPIPE, SIG_IGN); /* a server may hang up within TLS */
	look.config = &cli->config;
	look.prober = prober_new(cli->config.ca_file, cli->config.probe_source, host, error, sizeof(error));
	if (!look.prober) {
		json_decref(known);
		return cli_fail("%s", error);
	}
	if (*prober_warning(look.prober))
		cli_fail("%s", prober_warning(look.prober));
	look_at_all(&look, domain, link_text(known, "tlsa"));
	for (unsigned version = 0; version < PROBE_VERSIONS; version++)
		ask_for(&look, version);
	int code = show(&look, known, domain, cli->json);
	if (look.left_out)
		code = cli_fail("%s: %zu of its %zu addresses are not looked at (%d at most); waxseal probe %s ADDRESS looks at one", domain,
				look.left_out, look.count + look.left_out, SERVERS_MAX, domain);
	for (size_t i = 0; i < look.count; i++)
		probe_posture_dispose(&look.servers[i].posture);
	prober_free(look.prober);
	json_decref(known);
	return code;
}
