/*
 * probes.c - an array of addresses in order, each with its last posture and when it is due; a slot for each that runs.
 */
#include "probes.h"

#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../discover/records.h"
#include "../policy/must.h"

#define KEY_MAX (CONTROL_PREFIX_MAX + 80)
#define NUMBER_MAX 24
#define WRITES_MAX 100 /* at one tick */

struct running;
struct place {
	uint8_t addr[16];
	char *mx, *base, *domain;
	struct tlsa_set tlsa;
	double due;
	struct probe_posture posture; /* at 0: none */
	unsigned failures;
	uint64_t handed_at; /* time of the posture that the image has */
	bool untold;
	struct running *running;
};

struct running {
	struct probes *probes;
	struct place *place;
	struct probe *probe;
	uint16_t only; /* asked for this version alone; 0: the whole look */
	ev_io io;
	ev_timer timeout;
};

struct probes {
	struct ev_loop *loop;
	const struct control_config *config;
	struct seen *seen;
	void (*changed)(void *context);
	void *context;
	struct prober *prober;
	struct place **places, **next; /* by address; `next` between begin and end */
	size_t count, next_count, next_room, told, cursor;
	struct discovered_probe *found;
	struct probes_counts counts;
};

static uint64_t unix_now(void)
{
	return (uint64_t)time(NULL);
}

/* ---- places ---- */

static void stop(struct running *running)
{
	struct probes *probes = running->probes;

	ev_io_stop(probes->loop, &running->io);
	ev_timer_stop(probes->loop, &running->timeout);
	running->place->running = NULL;
	probes->counts.running--;
	probe_free(running->probe);
	free(running);
}

static void place_free(struct place *place)
{
	if (place->running)
		stop(place->running);
	probe_posture_dispose(&place->posture);
	tlsa_dispose(&place->tlsa);
	free(place->mx);
	free(place->base);
	free(place->domain);
	free(place);
}

static char *copy(const char *text)
{
	return text ? must(strdup(text)) : NULL;
}

static int by_addr(const void *a, const void *b)
{
	const struct place *x = *(struct place *const *)a, *y = *(struct place *const *)b;
	int order = memcmp(x->addr, y->addr, sizeof(x->addr));

	if (!order)
		order = strcmp(x->mx, y->mx);
	return order ? order : strcmp(x->domain, y->domain);
}

void probes_begin(struct probes *probes)
{
	if (probes)
		probes->next_count = probes->counts.left_out = 0;
}

void probes_add(void *memory, const struct discover_server *server)
{
	struct probes *probes = memory;

	if (!probes)
		return;
	if (probes->next_count == probes->next_room) {
		probes->next_room = probes->next_room ? probes->next_room * 2 : 256;
		probes->next = must(realloc(probes->next, probes->next_room * sizeof(struct place *)));
	}
	struct place *place = probes->next[probes->next_count++] = must(calloc(1, sizeof(*place)));
	memcpy(place->addr, server->addr, sizeof(place->addr));
	place->mx = copy(server->mx);
	place->base = copy(server->base);
	place->domain = copy(server->domain);
	tlsa_copy(&place->tlsa, &(struct tlsa_set){.records = (struct discovered_tlsa *)server->records, .count = server->record_count});
}

/* What is known of the address goes over; other TLSA records than those it was judged by ask for another look. */
static void take_over(struct place *to, struct place *from)
{
	bool same = tlsa_equal(&to->tlsa, &from->tlsa) && !strcmp(to->mx, from->mx);

	to->posture = from->posture;
	from->posture = (struct probe_posture){0};
	to->failures = from->failures;
	to->handed_at = from->handed_at;
	to->untold = from->untold;
	if (!same)
		return;
	to->due = from->due;
	to->running = from->running;
	if (to->running)
		to->running->place = to;
	from->running = NULL;
}

void probes_end(struct probes *probes)
{
	size_t kept = 0, old = 0;

	if (!probes)
		return;
	if (probes->next_count)
		qsort(probes->next, probes->next_count, sizeof(*probes->next), by_addr);
	for (size_t i = 0; i < probes->next_count; i++) {
		struct place *place = probes->next[i];
		bool again = kept && !memcmp(probes->next[kept - 1]->addr, place->addr, sizeof(place->addr));
		if (again || kept == PROBES_MAX) {
			probes->counts.left_out += !again;
			place_free(place);
			continue;
		}
		probes->next[kept++] = place;
		while (old < probes->count && memcmp(probes->places[old]->addr, place->addr, sizeof(place->addr)) < 0)
			place_free(probes->places[old++]);
		if (old < probes->count && !memcmp(probes->places[old]->addr, place->addr, sizeof(place->addr))) {
			take_over(place, probes->places[old]);
			place_free(probes->places[old++]);
		}
	}
	while (old < probes->count)
		place_free(probes->places[old++]);
	free(probes->places);
	probes->places = probes->next;
	probes->count = kept;
	probes->next = NULL;
	probes->next_count = probes->next_room = 0;
	probes->told = 0;
}

/* ---- one look ---- */

/* Not all at the same moment again: up to a tenth sooner, by address. */
static double jitter(const struct place *place, double seconds)
{
	unsigned n = (unsigned)place->addr[15] * 251 + (unsigned)place->addr[14] * 7;

	return seconds * (1 - (n % 100) / 1000.0);
}

static void take_posture(struct probes *probes, struct place *place, struct probe_posture *posture)
{
	bool keeps = !posture->reached && place->posture.reached && place->posture.at + FINDINGS_POSTURE_TTL_S > posture->at;
	bool differs = !keeps && (!place->posture.at || !probe_posture_equal(&place->posture, posture));

	probes->counts.reached += posture->reached;
	probes->counts.failed += !posture->reached;
	place->failures = posture->reached ? 0 : place->failures + 1;
	place->untold = true;
	if (posture->version) /* a server that offers STARTTLS and never goes through with it loses nothing by not offering it */
		seen_note(probes->seen, place->addr, posture->at, SEEN_PROBE, posture->at);
	if (keeps) {
		memcpy(place->posture.error, posture->error, sizeof(posture->error));
		return;
	}
	if (posture->version) { /* what older questions have found stays, where this look says nothing else */
		struct probe_version known[PROBE_VERSIONS];
		memcpy(known, place->posture.versions, sizeof(known));
		probe_versions_take(known, posture->versions);
		memcpy(posture->versions, known, sizeof(known));
	}
	probe_posture_dispose(&place->posture);
	place->posture = *posture;
	*posture = (struct probe_posture){0};
	if (differs || place->posture.at > place->handed_at + PROBES_RENEW_S)
		probes->changed(probes->context);
}

static void start(struct probes *probes, struct place *place, uint16_t only);

/* The version to ask for behind a look; 0: none. */
static uint16_t version_due(const struct probes *probes, const struct place *place)
{
	if (!probes->config->probe_versions || place->failures)
		return 0;
	return probe_version_due(&place->posture, unix_now() - PROBES_VERSION_RENEW_S);
}

static void finish(struct running *running)
{
	struct probes *probes = running->probes;
	struct place *place = running->place;
	double interval = probes->config->probe_interval_s;

	if (running->only) {
		place->untold |= probe_versions_take(place->posture.versions, probe_result(running->probe)->versions);
		stop(running);
		return;
	}
	take_posture(probes, place, probe_result(running->probe));
	if (place->failures && interval > PROBES_RETRY_S)
		interval = PROBES_RETRY_S * place->failures < interval ? PROBES_RETRY_S * place->failures : interval;
	place->due = ev_now(probes->loop) + jitter(place, interval);
	stop(running);
	uint16_t only = version_due(probes, place);
	if (only)
		start(probes, place, only);
}

static void watch_io(struct running *running)
{
	struct probes *probes = running->probes;

	ev_io_stop(probes->loop, &running->io);
	ev_io_set(&running->io, probe_fd(running->probe), probe_wants_write(running->probe) ? EV_WRITE : EV_READ);
	ev_io_start(probes->loop, &running->io);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct running *running = io->data;

	(void)events;
	/* The descriptor is closed by the last step. */
	ev_io_stop(loop, io);
	if (probe_step(running->probe))
		watch_io(running);
	else
		finish(running);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct running *running = timer->data;

	(void)events;
	ev_io_stop(loop, &running->io);
	probe_give_up(running->probe, "no answer in time");
	finish(running);
}

static void start(struct probes *probes, struct place *place, uint16_t only)
{
	struct running *running = must(calloc(1, sizeof(*running)));
	struct probe_target target = {.port = probes->config->probe_port, .mx = place->mx, .base = place->base, .domain = place->domain,
				      .records = place->tlsa.records, .record_count = place->tlsa.count, .only = only};

	memcpy(target.addr, place->addr, sizeof(target.addr));
	running->probes = probes;
	running->place = place;
	running->only = only;
	running->probe = must(probe_new(probes->prober, &target, unix_now()));
	place->running = running;
	probes->counts.started += !only;
	probes->counts.versions_asked += only != 0;
	probes->counts.running++;
	ev_init(&running->io, on_io);
	ev_timer_init(&running->timeout, on_timeout, probes->config->probe_timeout_s, 0);
	running->io.data = running->timeout.data = running;
	ev_timer_start(probes->loop, &running->timeout);
	if (probe_fd(running->probe) < 0)
		finish(running);
	else
		watch_io(running);
}

void probes_tick(struct probes *probes)
{
	size_t most = probes ? probes->config->probe_concurrent : 0;

	most = most > PROBES_CONCURRENT_MAX ? PROBES_CONCURRENT_MAX : most;
	for (size_t i = 0; probes && i < probes->count && probes->counts.running < most; i++) {
		struct place *place = probes->places[probes->cursor++ % probes->count];
		if (!place->running && place->due <= ev_now(probes->loop))
			start(probes, place, 0);
	}
}

/* ---- what is known ---- */

const struct discovered_probe *probes_found(struct probes *probes, size_t *count)
{
	*count = 0;
	if (!probes)
		return NULL;
	free(probes->found);
	probes->found = must(calloc(probes->count + 1, sizeof(*probes->found)));
	for (size_t i = 0; i < probes->count; i++) {
		struct place *place = probes->places[i];
		const struct probe_posture *posture = &place->posture;
		if (!posture->at || !posture->reached)
			continue;
		struct discovered_probe *to = &probes->found[(*count)++];
		*to = (struct discovered_probe){.at = posture->at, .version = posture->version, .chain = posture->chain, .dane = posture->dane,
						.names = (const char *const *)posture->names, .name_count = posture->name_count};
		memcpy(to->addr, place->addr, sizeof(to->addr));
		memcpy(to->certificate_sha256, posture->certificate_sha256, sizeof(to->certificate_sha256));
		memcpy(to->key_sha256, posture->key_sha256, sizeof(to->key_sha256));
		place->handed_at = posture->at;
	}
	return probes->found;
}

static void tell_one(struct probes *probes, struct watch *watch, const struct place *place)
{
	static struct probe_field fields[PROBE_FIELDS];
	char key[KEY_MAX], addr[48], expire[NUMBER_MAX];
	const char *set[2 + 2 * PROBE_FIELDS] = {"HSET", key}, *end[] = {"EXPIRE", key, expire};
	int argc = 2;

	address_print(place->addr, addr);
	snprintf(key, sizeof(key), "%sposture:%s", probes->config->redis_prefix, addr);
	snprintf(expire, sizeof(expire), "%u", FINDINGS_POSTURE_TTL_S);
	for (size_t i = 0, n = probe_fields(&place->posture, place->mx, fields); i < n; i++) {
		set[argc++] = fields[i].name;
		set[argc++] = fields[i].value;
	}
	watch_write(watch, argc, set);
	watch_write(watch, 3, end);
}

void probes_tell(struct probes *probes, struct watch *watch)
{
	size_t left = WRITES_MAX;

	for (; probes && left && probes->told < probes->count; probes->told++) {
		struct place *place = probes->places[probes->told];
		if (!place->untold)
			continue;
		place->untold = false;
		tell_one(probes, watch, place);
		left--;
	}
	if (probes && probes->told >= probes->count)
		probes->told = 0;
}

void probes_tell_again(struct probes *probes)
{
	for (size_t i = 0; probes && i < probes->count; i++)
		probes->places[i]->untold |= probes->places[i]->posture.at != 0;
}

json_t *probes_remember(const struct probes *probes)
{
	static struct probe_field fields[PROBE_FIELDS];
	json_t *root = json_object();

	for (size_t i = 0; probes && i < probes->count; i++) {
		const struct place *place = probes->places[i];
		char addr[48];
		if (!place->posture.at)
			continue;
		json_t *object = json_object();
		for (size_t f = 0, n = probe_fields(&place->posture, place->mx, fields); f < n; f++)
			json_object_set_new(object, fields[f].name, json_string(fields[f].value));
		address_print(place->addr, addr);
		json_object_set_new(root, addr, object);
	}
	return root;
}

static const char *member(void *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

/* They are looked at again soon, and hold until then. */
void probes_recall(struct probes *probes, const json_t *memory, uint64_t now_s)
{
	struct discover_server server = {.domain = ""};
	const char *text;
	json_t *object;

	if (!probes || probes->count)
		return;
	probes_begin(probes);
	json_object_foreach((json_t *)memory, text, object)
	{
		struct probe_posture posture = {0};
		server.mx = member(object, "mx");
		if (!address_read(text, server.addr) || !probe_read(&posture, member, object) || posture.at > now_s ||
		    posture.at + FINDINGS_POSTURE_TTL_S <= now_s || !policy_domain_valid(server.mx)) {
			probe_posture_dispose(&posture);
			continue;
		}
		for (size_t v = 0; v < PROBE_VERSIONS; v++)
			if (posture.versions[v].at > now_s) /* it would never be asked for again */
				posture.versions[v] = (struct probe_version){PROBE_UNTRIED, 0};
		probes_add(probes, &server);
		probes->next[probes->next_count - 1]->posture = posture;
	}
	probes_end(probes);
}

struct probes_counts probes_counts(const struct probes *probes)
{
	struct probes_counts counts = probes ? probes->counts : (struct probes_counts){0};

	counts.addresses = probes ? probes->count : 0;
	for (size_t i = 0; probes && i < probes->count; i++)
		counts.known += probes->places[i]->posture.reached;
	return counts;
}

const char *probes_warning(const struct probes *probes) { return probes ? prober_warning(probes->prober) : ""; }

/* ---- start and end ---- */

struct probes *probes_new(struct ev_loop *loop, const struct control_config *config, struct seen *seen, void (*changed)(void *context),
			  void *context, char *error, size_t error_len)
{
	char host[IMAGE_DOMAIN_MAX + 1] = "";
	struct probes *probes = config->probe_enabled ? calloc(1, sizeof(*probes)) : NULL;

	*error = 0;
	if (!probes)
		return NULL;
	if (gethostname(host, sizeof(host) - 1) != 0 || !policy_domain_valid(host))
		snprintf(host, sizeof(host), "waxseal.invalid");
	*probes = (struct probes){.loop = loop, .config = config, .seen = seen, .changed = changed, .context = context};
	probes->prober = prober_new(config->ca_file, config->probe_source, host, error, error_len);
	if (probes->prober)
		return probes;
	free(probes);
	return NULL;
}

void probes_free(struct probes *probes)
{
	if (!probes)
		return;
	for (size_t i = 0; i < probes->count; i++)
		place_free(probes->places[i]);
	free(probes->places);
	free(probes->found);
	prober_free(probes->prober);
	free(probes);
}
