/*
 * summary.c - sums over the dotted names of a destination's numbers.
 *
 * A session that the client encrypts itself hides its recipients, so the share of clear mail is told in
 * sessions, and recipients only where they could be seen. Refused sessions carried no mail and do not
 * count into the share.
 */
#include "summary.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"
#include "link.h"
#include "table.h"

#define WHY_MAX 512

/* What a person understands by a reason. No default: a new reason has to be put into words. */
static const char *reason_words(enum policy_reason reason)
{
	switch (reason) {
	case REASON_SEALED: return "the client encrypted by itself";
	case REASON_UPGRADED: return "upgraded";
	case REASON_CLEAR_ALLOWED: return "policy allows clear text";
	case REASON_NOT_OFFERED: return "server does not offer STARTTLS";
	case REASON_STARTTLS_REFUSED: return "server offers STARTTLS and refuses it";
	case REASON_HANDSHAKE: return "TLS handshake failed";
	case REASON_VERSION: return "TLS version below the policy's floor";
	case REASON_UNTRUSTED: return "certificate is not trusted";
	case REASON_EXPIRED: return "certificate has expired";
	case REASON_CHAIN_INVALID: return "certificate chain is invalid";
	case REASON_FINGERPRINT: return "certificate and key are not those that are pinned";
	case REASON_TLSA: return "no TLSA record meets the certificate";
	case REASON_DNSSEC: return "TLSA records are bogus, or the DNS does not answer";
	case REASON_DANE_REQUIRED: return "no TLSA records that DNSSEC vouches for";
	case REASON_STS_MX: return "server is not among those of the MTA-STS policy";
	case REASON_STRIPPED: return "TLS was had there before, and no longer";
	case REASON_STS_FETCH: return "MTA-STS policy cannot be fetched";
	case REASON_STS_INVALID: return "MTA-STS policy is invalid";
	case REASON_STS_WEBPKI: return "MTA-STS policy's web server has no valid certificate";
	case REASON_NAME_MISMATCH: return "certificate is for another name";
	case REASON_UNSUPPORTED: return "what the policy asks for cannot be proved";
	case REASON_BLOCKED: return "policy blocks it";
	case REASON_CLEAR_SESSION: return "session had gone on in clear";
	case POLICY_REASONS: break;
	}
	return "?";
}

static bool is_failure(enum policy_reason reason)
{
	return reason != REASON_SEALED && reason != REASON_UPGRADED && reason != REASON_CLEAR_ALLOWED;
}

uint64_t summary_sum(const json_t *destination, const char *prefix, const char *suffix)
{
	size_t before = strlen(prefix), after = strlen(suffix);
	uint64_t sum = 0;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)destination, name, value)
	{
		size_t len = strlen(name);
		if (len >= before + after && !strncmp(name, prefix, before) && !strcmp(name + len - after, suffix) &&
		    json_integer_value(value) > 0)
			sum += (uint64_t)json_integer_value(value);
	}
	return sum;
}

static uint64_t reason_count(const json_t *destination, enum policy_reason reason)
{
	char name[64];

	snprintf(name, sizeof(name), "reasons.%s", policy_reason_name(reason));
	return link_number(destination, name);
}

static const char *const ends[] = {".sealed", ".upgraded", ".clear", ".deferred", ".rejected", ".cut"};
#define ENDS (sizeof(ends) / sizeof(ends[0]))

static uint64_t all_recipients(const json_t *destination)
{
	return link_number(destination, "recipients.upgraded") + link_number(destination, "recipients.clear") +
	       link_number(destination, "recipients.deferred") + link_number(destination, "recipients.rejected");
}

void summary_destinations(const json_t *destinations, FILE *out)
{
	static const char *const headings[] = {"DESTINATION", "SEALED", "UPGRADED", "CLEAR", "DEFERRED", "REJECTED", "CUT",
					       "RECIPIENTS", "MESSAGES", NULL};
	struct table *table = table_new(headings);
	uint64_t total[ENDS] = {0}, recipients = 0, messages = 0;
	const json_t *destination;
	size_t i;

	json_array_foreach(destinations, i, destination)
	{
		table_text(table, link_text(destination, "name"));
		for (size_t e = 0; e < ENDS; e++) {
			uint64_t n = summary_sum(destination, "sessions.", ends[e]);
			total[e] += n;
			table_number_or_blank(table, n);
		}
		table_number_or_blank(table, all_recipients(destination));
		table_number_or_blank(table, link_number(destination, "messages"));
		recipients += all_recipients(destination);
		messages += link_number(destination, "messages");
	}
	if (i > 1) {
		table_text(table, "(all)");
		for (size_t e = 0; e < ENDS; e++)
			table_number_or_blank(table, total[e]);
		table_number_or_blank(table, recipients);
		table_number_or_blank(table, messages);
	}
	table_print(table, out);
	table_free(table);
}

void summary_failures(const json_t *destinations, FILE *out)
{
	static const char *const headings[] = {"TLS FAILURES", "COUNT", "REASON", "WHAT IT MEANS", NULL};
	struct table *table = table_new(headings);
	const json_t *destination;
	size_t i;

	json_array_foreach(destinations, i, destination)
	{
		for (enum policy_reason r = 0; r < POLICY_REASONS; r++) {
			uint64_t n = is_failure(r) ? reason_count(destination, r) : 0;
			if (!n)
				continue;
			table_text(table, link_text(destination, "name"));
			table_number(table, n);
			table_text(table, policy_reason_name(r));
			table_text(table, reason_words(r));
		}
	}
	if (table_rows(table)) {
		fputc('\n', out);
		table_print(table, out);
	}
	table_free(table);
}

/* "server does not offer STARTTLS (12), policy allows clear text (3)" */
static void why(const json_t *destination, char text[WHY_MAX])
{
	size_t at = 0;

	text[0] = 0;
	for (enum policy_reason r = 0; r < POLICY_REASONS && at < WHY_MAX; r++) {
		uint64_t n = is_failure(r) || r == REASON_CLEAR_ALLOWED ? reason_count(destination, r) : 0;
		if (n)
			at += (size_t)snprintf(text + at, WHY_MAX - at, "%s%s (%" PRIu64 ")", at ? ", " : "", reason_words(r), n);
	}
	uint64_t would = link_number(destination, "would.defer") + link_number(destination, "would.reject");
	if (would && at < WHY_MAX)
		snprintf(text + at, WHY_MAX - at, "%smode observe let %" PRIu64 " pass", at ? "; " : "", would);
}

void summary_clear(const json_t *destinations, FILE *out)
{
	static const char *const headings[] = {"IN CLEAR TO", "SESSIONS", "RECIPIENTS", "WHY", NULL};
	struct table *table = table_new(headings);
	uint64_t clear = 0, carried = 0, recipients = 0;
	const json_t *destination;
	char text[WHY_MAX];
	size_t i;

	json_array_foreach(destinations, i, destination)
	{
		uint64_t here = summary_sum(destination, "sessions.", ".clear"), whom = link_number(destination, "recipients.clear");
		clear += here;
		recipients += whom;
		carried += here + summary_sum(destination, "sessions.", ".sealed") + summary_sum(destination, "sessions.", ".upgraded");
		if (!here && !whom)
			continue;
		why(destination, text);
		table_text(table, link_text(destination, "name"));
		table_number(table, here);
		table_number(table, whom);
		table_text(table, text);
	}
	fputc('\n', out);
	if (!carried) {
		fprintf(out, "No mail has passed yet.\n");
	} else if (!clear && !recipients) {
		fprintf(out, "No mail travels unencrypted: all of %" PRIu64 " sessions were encrypted.\n", carried);
	} else {
		fprintf(out, "Still unencrypted: %" PRIu64 " of %" PRIu64 " sessions that carried mail (%.1f %%), %" PRIu64 " recipients.\n",
			clear, carried, 100.0 * (double)clear / (double)carried, recipients);
		table_print(table, out);
	}
	table_free(table);
}

void summary_one(const json_t *destination, FILE *out)
{
	static const char *const headings[] = {"COUNTER", "COUNT", NULL};
	struct table *table = table_new(headings);
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)destination, name, value)
	{
		if (json_integer_value(value) > 0) {
			table_text(table, name);
			table_number(table, (uint64_t)json_integer_value(value));
		}
	}
	fprintf(out, "%s\n", link_text(destination, "name"));
	if (table_rows(table))
		table_print(table, out);
	else
		fprintf(out, "nothing counted yet\n");
	table_free(table);
}
