/*
 * trial.c - rows in the order in which they are first met; printed with refusals first, then by sessions.
 */
#include "trial.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "link.h"
#include "table.h"

#define WAS_MAX 9 /* ways in which a session ends, and one for what is none of them */

static const char *const ends[WAS_MAX] = {"sealed", "upgraded", "clear", "deferred", "rejected", "cut", "unknown", "nothing", "other"};

struct example {
	uint64_t at_s, flow;
	char client[46], server[46], server_name[64], domain[64], was[16], reply[POLICY_REPLY_MAX];
};

struct row {
	char rule[POLICY_TITLE_MAX];
	enum policy_level level;
	enum replay_fate fate;
	enum policy_action action; /* what the rule says, also where it is only counted */
	enum policy_reason reason;
	bool observed, assumed;
	uint64_t sessions, recipients, was[WAS_MAX];
	struct example examples[TRIAL_EXAMPLES_MAX];
	unsigned example_count;
	uint64_t last_event; /* so that a session counts once a row */
};

struct trial {
	struct row *rows;
	size_t count;
	json_t *index; /* what a row is known by -> place */
	uint64_t replayed, unseen, refused, refused_before, newly_refused, upgraded, cut;
};

struct trial *trial_new(void)
{
	struct trial *trial = calloc(1, sizeof(*trial));

	if (!trial)
		abort();
	trial->rows = calloc(TRIAL_ROWS_MAX, sizeof(*trial->rows));
	trial->index = json_object();
	if (!trial->rows || !trial->index)
		abort();
	return trial;
}

void trial_free(struct trial *trial)
{
	free(trial->rows);
	json_decref(trial->index);
	free(trial);
}

void trial_unseen(struct trial *trial)
{
	trial->unseen++;
}

static unsigned end_index(const char *end)
{
	unsigned i = 0;

	while (i + 1 < WAS_MAX && strcmp(end, ends[i]))
		i++;
	return i;
}

static struct row *row_of(struct trial *trial, const struct policy_image *image, const struct replay_answer *answer)
{
	char title[POLICY_TITLE_MAX], key[POLICY_TITLE_MAX + 64];
	const char *rule = policy_rule_title(image, answer->rule, title);

	snprintf(key, sizeof(key), "%d %d %d %d %d %s", (int)answer->fate, (int)answer->decision.action, (int)answer->decision.reason,
		 answer->decision.observed, answer->assumed, rule);
	const json_t *place = json_object_get(trial->index, key);
	if (place)
		return &trial->rows[json_integer_value(place)];
	size_t at = trial->count < TRIAL_ROWS_MAX ? trial->count++ : TRIAL_ROWS_MAX - 1;
	struct row *row = &trial->rows[at];
	if (row->sessions) { /* no more room: the last row is everybody's */
		strcpy(row->rule, "(other)");
		return row;
	}
	json_object_set_new_nocheck(trial->index, key, json_integer((json_int_t)at));
	snprintf(row->rule, sizeof(row->rule), "%s", rule);
	row->level = (enum policy_level)answer->rule->level;
	row->fate = answer->fate;
	row->action = answer->decision.action;
	row->reason = answer->decision.reason;
	row->observed = answer->decision.observed;
	row->assumed = answer->assumed;
	return row;
}

static void add_answer(struct trial *trial, const struct policy_image *image, const struct event *event, const struct replay_answer *answer,
		       const char *domain, uint64_t recipients)
{
	struct row *row = row_of(trial, image, answer);

	row->recipients += recipients;
	if (row->last_event == trial->replayed)
		return;
	row->last_event = trial->replayed;
	row->sessions++;
	row->was[end_index(event->end)]++;
	if (row->example_count == TRIAL_EXAMPLES_MAX)
		return;
	struct example *example = &row->examples[row->example_count++];
	example->at_s = event->at_s;
	example->flow = event->flow;
	event_address(event->client, example->client);
	event_address(event->server, example->server);
	snprintf(example->server_name, sizeof(example->server_name), "%.63s", event->server_name);
	snprintf(example->domain, sizeof(example->domain), "%s", domain);
	strcpy(example->was, event->end);
	strcpy(example->reply, answer->fate == REPLAY_CUT ? "" : answer->would);
}

static bool is_refusal(enum replay_fate fate)
{
	return fate == REPLAY_DEFERRED || fate == REPLAY_REJECTED || fate == REPLAY_CUT;
}

void trial_add(struct trial *trial, const struct policy_image *image, const struct event *event, const struct replay *replay)
{
	bool refused = is_refusal(replay->mail.fate), upgraded = !replay->rcpt_count && replay->mail.fate == REPLAY_UPGRADED;
	bool before = !strcmp(event->end, "deferred") || !strcmp(event->end, "rejected") || !strcmp(event->end, "cut");

	trial->replayed++;
	for (unsigned i = 0; i < replay->rcpt_count; i++) {
		add_answer(trial, image, event, &replay->rcpt[i], event->rcpt[i].domain, 1);
		refused |= is_refusal(replay->rcpt[i].fate);
		upgraded |= replay->rcpt[i].fate == REPLAY_UPGRADED;
	}
	if (!replay->rcpt_count)
		add_answer(trial, image, event, &replay->mail, "", event->recipients);
	trial->refused += refused;
	trial->cut += replay->mail.fate == REPLAY_CUT;
	trial->upgraded += upgraded && strcmp(event->end, "upgraded") != 0;
	trial->refused_before += before;
	trial->newly_refused += refused && !before;
}

/* ---- telling ---- */

static int by_weight(const void *a, const void *b)
{
	const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;

	if (is_refusal(x->fate) != is_refusal(y->fate))
		return is_refusal(x->fate) ? -1 : 1;
	if (x->sessions != y->sessions)
		return x->sessions < y->sessions ? 1 : -1;
	return strcmp(x->rule, y->rule);
}

static const struct row **sorted(const struct trial *trial)
{
	const struct row **rows = calloc(trial->count + 1, sizeof(*rows));

	if (!rows)
		abort();
	for (size_t i = 0; i < trial->count; i++)
		rows[i] = &trial->rows[i];
	qsort(rows, trial->count, sizeof(*rows), by_weight);
	return rows;
}

static void print_was(const struct row *row, char *out, size_t len)
{
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < WAS_MAX; i++)
		if (row->was[i] && n < len)
			n += (size_t)snprintf(out + n, len - n, "%s%s %" PRIu64, n ? ", " : "", ends[i], row->was[i]);
}

/* "deferred"; "clear (observed: deferred)"; "upgraded (assumed)" */
static void print_fate(const struct row *row, char *out, size_t len)
{
	const char *would = row->action == POLICY_REJECT ? "rejected" : "deferred";

	if (row->observed && row->action != POLICY_ALLOW)
		snprintf(out, len, "%s (observed: %s%s)", replay_fate_name(row->fate), would, row->assumed ? ", assumed" : "");
	else
		snprintf(out, len, "%s%s", replay_fate_name(row->fate), row->assumed ? " (assumed)" : "");
}

static void print_rows(const struct row *const *rows, size_t count, FILE *out)
{
	static const char *const headings[] = {"RULE", "LEVEL", "WOULD BE", "REASON", "SESSIONS", "RECIPIENTS", "WAS", NULL};
	struct table *table = table_new(headings);
	char text[256];

	for (size_t i = 0; i < count; i++) {
		table_text(table, rows[i]->rule);
		table_text(table, policy_level_name(rows[i]->level));
		print_fate(rows[i], text, sizeof(text));
		table_text(table, text);
		table_text(table, policy_reason_name(rows[i]->reason));
		table_number(table, rows[i]->sessions);
		table_number(table, rows[i]->recipients);
		print_was(rows[i], text, sizeof(text));
		table_text(table, text);
	}
	table_print(table, out);
	table_free(table);
}

static void print_examples(const struct row *row, FILE *out)
{
	for (unsigned i = 0; i < row->example_count; i++) {
		const struct example *x = &row->examples[i];
		time_t when = (time_t)x->at_s;
		char at[32] = "";
		struct tm tm;
		if (gmtime_r(&when, &tm))
			strftime(at, sizeof(at), "%Y-%m-%d %H:%M:%SZ", &tm);
		fprintf(out, "  %s flow %" PRIu64 " %s -> %s%s%s%s%s, was %s: %s\n", at, x->flow, x->client, x->server, *x->server_name ? " " : "",
			x->server_name, *x->domain ? " for " : "", x->domain, x->was,
			*x->reply ? x->reply : "reset, a session in TLS takes no reply");
	}
}

void trial_print(const struct trial *trial, uint64_t read, uint64_t bad, FILE *out)
{
	const struct row **rows = sorted(trial);
	bool headed = false;

	print_rows(rows, trial->count, out);
	for (size_t i = 0; i < trial->count; i++) {
		if (rows[i]->action == POLICY_ALLOW)
			continue;
		if (!headed)
			fputs("\nExamples, and what the client would be told:\n", out);
		headed = true;
		print_examples(rows[i], out);
	}
	fprintf(out, "\n%" PRIu64 " sessions replayed of %" PRIu64 " (%" PRIu64 " tell too little; %" PRIu64 " lines are no events).\n",
		trial->replayed, read, trial->unseen, bad);
	fprintf(out, "Refused: %" PRIu64 ", of them %" PRIu64 " cut; %" PRIu64 " were refused when they happened, %" PRIu64 " would be so newly.\n",
		trial->refused, trial->cut, trial->refused_before, trial->newly_refused);
	fprintf(out, "Upgraded that were not: %" PRIu64 ".\n", trial->upgraded);
	free(rows);
}

static json_t *number(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *examples_json(const struct row *row)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < row->example_count; i++) {
		const struct example *x = &row->examples[i];
		json_t *object = json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:s}", "at", number(x->at_s), "flow", number(x->flow), "client", x->client,
					   "server", x->server, "domain", x->domain, "was", x->was, "reply", x->reply);
		json_array_append_new(array, object);
	}
	return array;
}

json_t *trial_json(const struct trial *trial, uint64_t read, uint64_t bad)
{
	const struct row **rows = sorted(trial);
	json_t *array = json_array();

	for (size_t i = 0; i < trial->count; i++) {
		const struct row *row = rows[i];
		json_t *object = json_object(), *was = json_object();
		link_json_set(object, "rule", row->rule);
		link_json_set(object, "level", policy_level_name(row->level));
		link_json_set(object, "would_be", replay_fate_name(row->fate));
		link_json_set(object, "decision", row->action == POLICY_ALLOW ? "allow" : row->action == POLICY_REJECT ? "reject" : "defer");
		link_json_set(object, "reason", policy_reason_name(row->reason));
		json_object_set_new(object, "observed", json_boolean(row->observed));
		json_object_set_new(object, "assumed", json_boolean(row->assumed));
		json_object_set_new(object, "sessions", number(row->sessions));
		json_object_set_new(object, "recipients", number(row->recipients));
		for (unsigned w = 0; w < WAS_MAX; w++)
			if (row->was[w])
				json_object_set_new(was, ends[w], number(row->was[w]));
		json_object_set_new(object, "was", was);
		json_object_set_new(object, "examples", examples_json(row));
		json_array_append_new(array, object);
	}
	free(rows);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "events", number(read), "bad_lines", number(bad), "replayed",
			 number(trial->replayed), "unseen", number(trial->unseen), "refused", number(trial->refused), "cut", number(trial->cut),
			 "newly_refused", number(trial->newly_refused), "upgraded", number(trial->upgraded), "rows", array);
}
