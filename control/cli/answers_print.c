/*
 * answers_print.c - the answers for people: a table of them, what each server is known by, and the last refusals.
 */
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "link.h"
#include "table.h"

static void print_row(struct table *table, const json_t *server, const char *who, const json_t *answer)
{
	char text[128];

	snprintf(text, sizeof(text), "%.60s%s%.60s%s", link_text(server, "server"), *link_text(server, "mx") ? " (" : "", link_text(server, "mx"),
		 *link_text(server, "mx") ? ")" : "");
	table_text(table, text);
	table_text(table, who);
	snprintf(text, sizeof(text), "%s%s%s", link_text(answer, "outcome"), link_true(answer, "assumed") ? " (assumed)" : "",
		 link_true(answer, "observed") && *link_text(answer, "would") ? " (observed)" : "");
	table_text(table, text);
	table_text(table, link_text(answer, "rule"));
	table_text(table, link_text(answer, "reason"));
	if (*link_text(answer, "reply"))
		table_text(table, link_text(answer, "reply"));
	else if (*link_text(answer, "would"))
		snprintf(text, sizeof(text), "(enforced: %.60s...)", link_text(answer, "would")), table_text(table, text);
	else
		table_text(table, strcmp(link_text(answer, "outcome"), "cut") ? "the server's own" : "none: reset");
}

static void print_table(const json_t *answers, FILE *out)
{
	static const char *const headings[] = {"SERVER", "CLIENT", "WOULD BE", "RULE", "REASON", "REPLY", NULL};
	struct table *table = table_new(headings);
	const json_t *server;
	size_t i;

	json_array_foreach(answers, i, server)
	{
		print_row(table, server, "in clear", json_object_get(server, "in_clear"));
		print_row(table, server, "own TLS", json_object_get(server, "own_tls"));
	}
	fputs("\nWhat a client would meet:\n", out);
	table_print(table, out);
	table_free(table);
}

static void print_age(const json_t *server, const char *name, const char *what, uint64_t now_s, FILE *out)
{
	uint64_t at = link_number(server, name);
	char age[TABLE_AGE_MAX];

	if (at)
		fprintf(out, "; %s %s ago", what, table_age(now_s > at ? now_s - at : 0, age));
}

/* "TLSv1=refused@1800000000 TLSv1.1=untried ..." without the times. */
static void print_versions(const char *text, FILE *out)
{
	for (const char *before = ", "; *(text += strspn(text, " ")); text += strcspn(text, " ")) {
		int name = (int)strcspn(text, "= "), answer = (int)strcspn(text + name, "@ ");
		fprintf(out, "%s%.*s%s%.*s", before, name, text, answer ? " " : "", answer ? answer - 1 : 0, text + name + (answer != 0));
	}
}

/* The agent's own words: what the image has of a probe is less. */
static void print_posture(const json_t *posture, uint64_t now_s, FILE *out)
{
	uint64_t at = strtoull(link_text(posture, "time"), NULL, 10), ends = strtoull(link_text(posture, "not_after"), NULL, 10);
	char age[TABLE_AGE_MAX];

	fprintf(out, "; probed %s ago: %s", table_age(now_s > at ? now_s - at : 0, age),
		*link_text(posture, "version") ? link_text(posture, "version") : "no TLS");
	print_versions(link_text(posture, "versions"), out);
	if (*link_text(posture, "chain"))
		fprintf(out, ", certificate %s", link_text(posture, "chain"));
	if (ends)
		fprintf(out, ", ends %s%s", ends > now_s ? "in " : "since ", table_age(ends > now_s ? ends - now_s : now_s - ends, age));
	if (*link_text(posture, "dane"))
		fprintf(out, ", DANE %s", link_text(posture, "dane"));
	if (*link_text(posture, "error"))
		fprintf(out, " (%s)", link_text(posture, "error"));
}

/* What these answers rest upon. */
static void print_grounds(const json_t *server, uint64_t now_s, FILE *out)
{
	const json_t *probe = json_object_get(server, "probe"), *offered = json_object_get(server, "offered");
	const char *percent_of = link_text(json_object_get(server, "in_clear"), "rule");
	uint64_t percent = link_number(json_object_get(server, "in_clear"), "percent");

	fprintf(out, "%s: ", link_text(server, "server"));
	if (json_is_boolean(offered))
		fprintf(out, "STARTTLS %s", json_is_true(offered) ? "offered" : "not offered");
	else
		fputs("nobody has seen what it offers: STARTTLS is assumed", out);
	print_age(server, "session", "last session", now_s, out);
	print_age(server, "starttls_seen", "STARTTLS seen", now_s, out);
	fprintf(out, "; TLSA %s", link_text(server, "tlsa"));
	if (json_object_get(server, "posture"))
		print_posture(json_object_get(server, "posture"), now_s, out);
	else
		print_age(probe, "at", "probed", now_s, out);
	if (probe && !json_object_get(server, "posture"))
		fprintf(out, ": %s, certificate %s", *link_text(probe, "version") ? link_text(probe, "version") : "no TLS", link_text(probe, "chain"));
	if (percent)
		fprintf(out, "; %s is enforced for %u %% of the connections, the others are observed", percent_of, (unsigned)percent);
	fputs(".\n", out);
}

static void print_failures(const json_t *failures, uint64_t now_s, FILE *out)
{
	static const char *const headings[] = {"AGO", "END", "REASON", "RULE", "CLIENT", "SERVER", "DETAIL", NULL};
	struct table *table = table_new(headings);
	char age[TABLE_AGE_MAX];

	for (size_t i = json_array_size(failures); i-- > 0;) {
		const json_t *failure = json_array_get(failures, i);
		uint64_t at = link_number(failure, "at");
		table_text(table, table_age(now_s > at ? now_s - at : 0, age));
		table_text(table, link_text(failure, "end"));
		table_text(table, link_text(failure, "reason"));
		table_text(table, link_text(failure, "rule"));
		table_text(table, link_text(failure, "client"));
		table_text(table, link_text(failure, "server"));
		table_text(table, link_text(failure, "detail"));
	}
	if (table_rows(table)) {
		fputs("\nThe last refusals:\n", out);
		table_print(table, out);
	}
	table_free(table);
}

void answers_print(const json_t *all, uint64_t now_s, FILE *out)
{
	const json_t *answers = json_object_get(all, "answers"), *server;
	size_t i;

	if (json_array_size(answers) == 0) {
		fputs("\nNo server is known: what a client would be told depends on the one it speaks to; give an address.\n", out);
		return;
	}
	print_table(answers, out);
	fputc('\n', out);
	json_array_foreach(answers, i, server)
		print_grounds(server, now_s, out);
	print_failures(json_object_get(all, "failures"), now_s, out);
}
