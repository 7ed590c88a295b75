/*
 * policy_suggest.c - policy suggest: who has always done TLS, with the figures behind it, as rules to observe.
 *
 * Enters: recorded sessions, whose texts peers have chosen: a name counts only if it is a domain, and all else stands in
 * comments. Leaves: lines for policy import. Sessions from outside say nothing of other people's servers and are left out.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../policy/rules.h"
#include "cli.h"
#include "events.h"
#include "link.h"

#define SUBJECTS_MAX 200000 /* names told apart; past it, new ones are counted and left out */
#define SESSIONS_MIN 20
#define DAYS_MIN 7
#define MATCHES_MAX 8
#define DAY_S 86400u
#define DATE_MAX 16

struct subject {
	char name[72];
	uint64_t sessions, tls, offered, plain, failed; /* sessions is the sum of the others */
	uint64_t first_s, last_s;
	uint64_t versions[4], trusted, untrusted, unseen;
	char matches[MATCHES_MAX][64]; /* the first name of each certificate */
	unsigned match_count;
	bool destination, more_matches;
};

struct suggesting {
	struct subject *subjects;
	size_t count, room, left_out, demanded;
	json_t *index; /* name -> place */
	uint64_t unseen; /* sessions that tell nothing */
	uint64_t sessions_min, days_min;
	bool offered_counts; /* --offered */
	struct policy_image *image; /* rules that are there already; NULL: not known */
};

/* ---- counting ---- */

static struct subject *subject_of(struct suggesting *s, const char *name, bool destination)
{
	char key[80];

	snprintf(key, sizeof(key), "%s%s", destination ? "destination " : "", name);
	const json_t *place = json_object_get(s->index, key);
	if (place)
		return &s->subjects[json_integer_value(place)];
	if (s->count == SUBJECTS_MAX) {
		s->left_out++;
		return NULL;
	}
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 256;
		struct subject *bigger = realloc(s->subjects, room * sizeof(*bigger));
		if (!bigger) {
			s->left_out++;
			return NULL;
		}
		s->subjects = bigger;
		s->room = room;
	}
	struct subject *made = &s->subjects[s->count];
	*made = (struct subject){.destination = destination};
	snprintf(made->name, sizeof(made->name), "%s", name);
	json_object_set_new(s->index, key, json_integer((json_int_t)s->count++));
	return made;
}

static void count_certificate(struct subject *subject, const struct event_facts *facts)
{
	if (facts->version >= 0x0301 && facts->version <= 0x0304)
		subject->versions[facts->version - 0x0301]++;
	if (facts->end_to_end || facts->chain == CHAIN_UNSEEN) {
		subject->unseen++;
		return;
	}
	*(facts->chain == CHAIN_TRUSTED ? &subject->trusted : &subject->untrusted) += 1;
	if (!facts->name_count)
		return;
	for (unsigned i = 0; i < subject->match_count; i++)
		if (!strcmp(subject->matches[i], facts->names[0]))
			return;
	if (subject->match_count == MATCHES_MAX)
		subject->more_matches = true;
	else
		strcpy(subject->matches[subject->match_count++], facts->names[0]);
}

static void count_session(struct subject *subject, const struct event *event)
{
	const struct event_facts *facts = &event->facts;

	if (!subject)
		return;
	subject->sessions++;
	switch (facts->tls) {
	case FACT_TLS_UP:
		subject->tls++;
		count_certificate(subject, facts);
		break;
	case FACT_TLS_REFUSED:
	case FACT_TLS_FAILED:
		subject->failed++;
		break;
	case FACT_TLS_NONE:
		*(facts->offered ? &subject->offered : &subject->plain) += 1;
		break;
	}
	if (!subject->first_s || event->at_s < subject->first_s)
		subject->first_s = event->at_s;
	if (event->at_s > subject->last_s)
		subject->last_s = event->at_s;
}

static bool is_domain(const char *name)
{
	return strlen(name) < 63 && strchr(name, '.') && policy_domain_valid(name); /* 63: perhaps cut short */
}

static void lower(char *text)
{
	for (; *text; text++)
		*text = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
}

static void count(void *context, const struct event *event)
{
	struct suggesting *s = context;
	char name[64];

	if (event->inbound)
		return;
	if (!event->has_facts) {
		s->unseen++;
		return;
	}
	for (unsigned i = 0; i < event->rcpt_count; i++) {
		bool again = false;
		strcpy(name, event->rcpt[i].domain);
		lower(name);
		for (unsigned j = 0; j < i && !again; j++) /* the same domain with another fate */
			again = !strcasecmp(event->rcpt[j].domain, name);
		if (!again && is_domain(name))
			count_session(subject_of(s, name, false), event);
	}
	if (event->destination[0] && strcmp(event->destination, "*") && strcmp(event->destination, "(other)"))
		count_session(subject_of(s, event->destination, true), event);
}

/* ---- who qualifies ---- */

static bool demanded_already(const struct suggesting *s, const struct subject *subject)
{
	const struct image_rule *rule = s->image && !subject->destination ? policy_domain_rule(s->image, subject->name) : NULL;

	return rule && rule->mode == MODE_ENFORCE && rule->level > LEVEL_MAY;
}

static bool qualifies(struct suggesting *s, const struct subject *subject)
{
	uint64_t proven = subject->tls + (s->offered_counts ? subject->offered : 0);

	if (subject->plain || subject->failed || proven < s->sessions_min || subject->last_s - subject->first_s < s->days_min * DAY_S)
		return false;
	if (!demanded_already(s, subject))
		return true;
	s->demanded++;
	return false;
}

static int by_sessions(const void *a, const void *b)
{
	const struct subject *x = a, *y = b;

	if (x->destination != y->destination)
		return x->destination ? 1 : -1;
	if (x->sessions != y->sessions)
		return x->sessions < y->sessions ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* ---- telling ---- */

static const char *date(uint64_t seconds, char out[DATE_MAX])
{
	time_t when = (time_t)seconds;
	struct tm tm;

	out[0] = 0;
	if (gmtime_r(&when, &tm))
		strftime(out, DATE_MAX, "%Y-%m-%d", &tm);
	return out;
}

static void print_figures(const struct subject *x)
{
	char first[DATE_MAX], last[DATE_MAX];

	printf("%" PRIu64 " sessions from %s to %s: %" PRIu64 " in TLS", x->sessions, date(x->first_s, first), date(x->last_s, last), x->tls);
	for (int i = 3, listed = 0; i >= 0; i--)
		if (x->versions[i])
			printf("%s%s %" PRIu64, listed++ ? ", " : " (", event_version((uint16_t)(0x0301 + i)), x->versions[i]);
	if (x->versions[0] | x->versions[1] | x->versions[2] | x->versions[3])
		putchar(')');
	printf(", %" PRIu64 " in clear though offered; certificates: %" PRIu64 " trusted, %" PRIu64 " not, %" PRIu64 " not seen\n", x->offered,
	       x->trusted, x->untrusted, x->unseen);
}

/* The names under which the certificates would have held: each is checked to be one. */
static void print_verify(const struct subject *x)
{
	if (!x->trusted || x->untrusted || x->unseen || !x->match_count || x->more_matches)
		return;
	for (unsigned i = 0; i < x->match_count; i++)
		if (!policy_pattern_valid(x->matches[i]) || policy_pattern_is_keyword(x->matches[i]))
			return;
	printf("#   what was seen would have held, too: level=verify match=");
	for (unsigned i = 0; i < x->match_count; i++)
		printf("%s%s", i ? ":" : "", x->matches[i]);
	putchar('\n');
}

static void print_subject(const struct subject *x)
{
	char first[DATE_MAX], last[DATE_MAX];

	printf("\n# %s%s: ", x->destination ? "destination " : "", x->name);
	print_figures(x);
	print_verify(x);
	if (!x->destination)
		printf("%s level=encrypt mode=observe reason=\"%" PRIu64 " of %" PRIu64 " sessions in TLS, the others could: %s to %s\"\n", x->name,
		       x->tls, x->sessions, date(x->first_s, first), date(x->last_s, last));
	else
		printf("#   its rule has more than a level: waxseal policy set KEY level=encrypt mode=observe\n");
}

static json_t *subject_json(const struct subject *x)
{
	json_t *object = json_object(), *versions = json_object(), *matches = json_array();
	const struct { const char *name; uint64_t value; } numbers[] = {
		{"sessions", x->sessions}, {"tls", x->tls}, {"offered", x->offered}, {"first", x->first_s}, {"last", x->last_s},
		{"trusted", x->trusted}, {"untrusted", x->untrusted}, {"unseen", x->unseen},
	};

	link_json_set(object, x->destination ? "destination" : "domain", x->name);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_object_set_new(object, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	for (int i = 0; i < 4; i++)
		if (x->versions[i])
			json_object_set_new(versions, event_version((uint16_t)(0x0301 + i)), json_integer((json_int_t)x->versions[i]));
	for (unsigned i = 0; i < x->match_count; i++)
		json_array_append_new(matches, json_string(x->matches[i]));
	json_object_set_new(object, "versions", versions);
	json_object_set_new(object, "certificate_names", matches);
	return object;
}

static void tell(struct suggesting *s, const struct events_source *source, bool json)
{
	json_t *array = json_array();
	size_t told = 0;

	if (s->count)
		qsort(s->subjects, s->count, sizeof(*s->subjects), by_sessions);
	if (!json)
		printf("# Of %" PRIu64 " recorded sessions: who %s at least %" PRIu64 " times over %" PRIu64 " days, and never could not.\n",
		       source->read, s->offered_counts ? "was spoken to in TLS, or offered it," : "was spoken to in TLS", s->sessions_min, s->days_min);
	for (size_t i = 0; i < s->count; i++) {
		if (!qualifies(s, &s->subjects[i]))
			continue;
		told++;
		if (json)
			json_array_append_new(array, subject_json(&s->subjects[i]));
		else
			print_subject(&s->subjects[i]);
	}
	if (json) {
		link_print_json(json_pack("{s:I, s:I, s:I, s:O}", "sessions", (json_int_t)source->read, "bad_lines", (json_int_t)source->bad, "already",
					  (json_int_t)s->demanded, "suggested", array));
	} else {
		printf("\n# %zu of %zu; %zu more have a rule already", told, s->count, s->demanded);
		printf("; %" PRIu64 " sessions tell nothing, %" PRIu64 " lines are no events", s->unseen, source->bad);
		if (s->left_out)
			printf("; more than %d names: some were left out", SUBJECTS_MAX);
		printf(".\n");
	}
	json_decref(array);
}

/* ---- the command ---- */

static bool read_minimum(struct cli *cli, const char *name, uint64_t *out)
{
	const char *value = NULL;
	char *end = "";

	if (!cli_value(cli, name, &value))
		return true;
	if (!value || *value < '0' || *value > '9')
		return false;
	*out = strtoull(value, &end, 10);
	return !*end && *out <= 1000000;
}

int policy_suggest(struct cli *cli)
{
	struct suggesting s = {.sessions_min = SESSIONS_MIN, .days_min = DAYS_MIN};
	struct events_source source = {0};
	char error[CLI_ERROR_MAX];
	int rc = events_take(cli, &source);

	s.offered_counts = cli_flag(cli, "--offered");
	if (rc != CLI_OK)
		return rc;
	if (!read_minimum(cli, "--sessions", &s.sessions_min) || !read_minimum(cli, "--days", &s.days_min))
		return cli_usage(cli, "--sessions and --days: a whole number");
	if (cli->argc != 0)
		return cli_usage(cli, "%s: not expected", cli->argv[0]);
	s.index = json_object();
	s.image = policy_image_open(cli->config.image, error, sizeof(error)); /* without one all are told */
	rc = events_each(&source, count, &s);
	if (rc == CLI_OK)
		tell(&s, &source, cli->json);
	if (s.image)
		policy_image_close(s.image);
	json_decref(s.index);
	free(s.subjects);
	return rc;
}
