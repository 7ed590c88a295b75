/*
 * answers.c - gathers facts of servers, newest first: a session with the same recipient's domain goes before any other
 * session there, a session before a probe, a probe before "STARTTLS was seen". What nobody has seen is assumed, and said so.
 */
#include "answers.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "link.h"
#include "replay.h"

#define VERSION_ASSUMED 0x0304

/* A fact and when it was seen; `own`: with the domain that was asked about. */
struct fact {
	struct event_facts facts;
	uint64_t at_s;
	bool own;
};

struct server {
	uint8_t addr[16];
	char name[64]; /* as it calls itself; else its MX name */
	struct fact offer, upgrade, sealed; /* at_s 0: none */
	bool stripped;
};

struct gathering {
	const struct answers_query *query;
	struct server servers[ANSWERS_SERVERS_MAX];
	size_t count;
	json_t *failures; /* the oldest first */
};

/* ---- which servers ---- */

static struct server *server_at(struct gathering *g, const uint8_t addr[16])
{
	for (size_t i = 0; i < g->count; i++)
		if (!memcmp(g->servers[i].addr, addr, 16))
			return &g->servers[i];
	return NULL;
}

static struct server *add_server(struct gathering *g, const uint8_t addr[16], const char *name)
{
	if (server_at(g, addr) || g->count == ANSWERS_SERVERS_MAX)
		return NULL;
	struct server *server = &g->servers[g->count++];
	memcpy(server->addr, addr, 16);
	snprintf(server->name, sizeof(server->name), "%.63s", name);
	return server;
}

/* "mx1=192.0.2.1,2001:db8::1 mx2=..." */
static void add_discovered(struct gathering *g, const char *text)
{
	char *copy = strdup(text), *outer = NULL, *inner = NULL;
	uint8_t addr[16];

	for (char *host = copy ? strtok_r(copy, " ", &outer) : NULL; host; host = strtok_r(NULL, " ", &outer)) {
		char *equals = strchr(host, '=');
		if (!equals)
			continue;
		*equals = 0;
		for (char *one = strtok_r(equals + 1, ",", &inner); one; one = strtok_r(NULL, ",", &inner))
			if (event_address_parse(one, addr))
				add_server(g, addr, host);
	}
	free(copy);
}

/* ---- sessions ---- */

static bool has_domain(const struct event *event, const char *domain)
{
	for (unsigned i = 0; domain && i < event->rcpt_count; i++)
		if (!strcasecmp(event->rcpt[i].domain, domain))
			return true;
	return false;
}

/* Newer goes before older, but never a stranger's before an own. */
static void take_fact(struct fact *fact, const struct event *event, bool own)
{
	if ((fact->own && !own) || (fact->own == own && fact->at_s > event->at_s))
		return;
	*fact = (struct fact){event->facts, event->at_s, own};
}

static bool refused(const struct event *event, const char *domain)
{
	if (!strcmp(event->end, "deferred") || !strcmp(event->end, "rejected") || !strcmp(event->end, "cut"))
		return true;
	for (unsigned i = 0; i < event->rcpt_count; i++)
		if ((!domain || !strcasecmp(event->rcpt[i].domain, domain)) &&
		    (!strcmp(event->rcpt[i].fate, "deferred") || !strcmp(event->rcpt[i].fate, "rejected")))
			return true;
	return false;
}

static void note_failure(struct gathering *g, const struct event *event)
{
	char client[46], server[46];

	json_array_append_new(g->failures, json_pack("{s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "at", (json_int_t)event->at_s, "flow",
						     (json_int_t)event->flow, "client", event_address(event->client, client), "server",
						     event_address(event->server, server), "server_name", event->server_name, "end", event->end,
						     "reason", event->reason, "rule", event->rule, "detail", event->detail));
	if (json_array_size(g->failures) > ANSWERS_FAILURES_MAX)
		json_array_remove(g->failures, 0);
}

static void take_event(void *context, const struct event *event)
{
	struct gathering *g = context;
	bool own = has_domain(event, g->query->domain), named = own;
	struct server *server;

	if (event->inbound != g->query->inbound)
		return;
	if (own && !g->query->addr)
		add_server(g, event->server, event->server_name);
	server = server_at(g, event->server);
	if (!server)
		return;
	/* A sealed session shows no recipients, and one refused at MAIL has none: they are of the server alone. */
	named |= !event->rcpt_count;
	if (named && refused(event, g->query->domain))
		note_failure(g, event);
	if (event->server_name[0])
		strcpy(server->name, event->server_name);
	server->stripped = event->stripped;
	if (!event->has_facts)
		return;
	if (event->facts.end_to_end) {
		take_fact(&server->sealed, event, own);
		return;
	}
	take_fact(&server->offer, event, own);
	if (event->facts.tls != FACT_TLS_NONE)
		take_fact(&server->upgrade, event, own);
}

/* ---- answers ---- */

static json_t *answer_json(const struct policy_image *image, const struct replay_answer *answer)
{
	char title[POLICY_TITLE_MAX];
	json_t *object = json_object();

	link_json_set(object, "outcome", replay_fate_name(answer->fate));
	link_json_set(object, "rule", policy_rule_title(image, answer->rule, title));
	link_json_set(object, "level", policy_level_name((enum policy_level)answer->rule->level));
	link_json_set(object, "reason", policy_reason_name(answer->decision.reason));
	link_json_set(object, "reply", answer->reply);
	json_object_set_new(object, "assumed", json_boolean(answer->assumed));
	json_object_set_new(object, "observed", json_boolean(answer->decision.observed));
	if (answer->decision.observed && *answer->would)
		link_json_set(object, "would", answer->would);
	if (answer->rule->percent < 100 && answer->rule->mode == MODE_ENFORCE)
		json_object_set_new(object, "percent", json_integer(answer->rule->percent));
	if (policy_result_type(answer->decision.reason))
		link_json_set(object, "result_type", policy_result_type(answer->decision.reason));
	return object;
}

static json_t *in_clear(const struct policy_image *image, struct replay_session *session)
{
	struct replay replay;

	replay_session(image, session, &replay);
	return answer_json(image, replay.rcpt_count ? &replay.rcpt[0] : &replay.mail);
}

static json_t *by_itself(const struct policy_image *image, struct replay_session *session, const struct event_facts *sealed)
{
	struct replay replay;

	session->sealed = sealed;
	replay_session(image, session, &replay);
	session->sealed = NULL;
	return answer_json(image, &replay.mail);
}

static void set_posture(json_t *object, const struct policy_image *image, const uint8_t addr[16])
{
	const struct image_probed *probed = policy_probed_at(image, addr);
	const struct image_seen *seen = policy_seen_at(image, addr);

	if (probed) {
		json_t *names = json_array();
		for (uint32_t i = 0; i < probed->name_count; i++)
			json_array_append_new(names, json_string(policy_probed_name(image, probed, i)));
		json_object_set_new(object, "probe", json_pack("{s:I, s:s, s:s, s:o}", "at", (json_int_t)probed->at, "version",
							       probed->version ? event_version(probed->version) : "", "chain",
							       policy_chain_name((enum policy_chain)probed->chain), "names", names));
	}
	if (seen)
		json_object_set_new(object, "starttls_seen", json_integer((json_int_t)seen->at));
}

static json_t *tlsa_name(enum policy_tlsa tlsa)
{
	switch (tlsa) {
	case TLSA_UNKNOWN: return json_string("unknown");
	case TLSA_NONE: return json_string("none");
	case TLSA_SECURE: return json_string("secure");
	case TLSA_UNUSABLE: return json_string("unusable");
	case TLSA_FAILED: return json_string("failed");
	}
	return json_null();
}

static json_t *answer_of(const struct policy_image *image, const struct gathering *g, const struct server *server)
{
	static const uint8_t anybody[16] = {0};
	const struct answers_query *query = g->query;
	const struct image_probed *probed = policy_probed_at(image, server->addr);
	struct event_facts sealed = {.offered = true, .end_to_end = true, .tls = FACT_TLS_UP, .version = VERSION_ASSUMED};
	struct policy_server known = query->inbound ? (struct policy_server){.mx = NULL} : policy_server_of(image, server->addr, query->domain);
	bool offer_known = server->offer.at_s || (probed && probed->version);
	struct replay_session session = {
		.client = query->client ? query->client : anybody, .server = server->addr, .inbound = query->inbound,
		.offered = server->offer.at_s ? server->offer.facts.offered : true, .stripped = server->stripped, .at_s = (uint64_t)time(NULL),
		.server_name = server->name, .upgrade = server->upgrade.at_s ? &server->upgrade.facts : NULL,
		.domains = {query->domain}, .domain_count = query->domain != NULL,
	};
	json_t *object = json_object();
	char address[46];

	if (server->sealed.at_s)
		sealed = server->sealed.facts;
	link_json_set(object, "server", event_address(server->addr, address));
	link_json_set(object, "server_name", server->name);
	link_json_set(object, "mx", known.mx ? known.mx : "");
	json_object_set_new(object, "tlsa", tlsa_name(known.tlsa));
	set_posture(object, image, server->addr);
	if (server->offer.at_s)
		json_object_set_new(object, "session", json_integer((json_int_t)server->offer.at_s));
	json_object_set_new(object, "offered", offer_known ? json_boolean(session.offered) : json_string("assumed"));
	json_object_set_new(object, "in_clear", in_clear(image, &session));
	json_object_set_new(object, "own_tls", by_itself(image, &session, &sealed));
	return object;
}

json_t *answers_of(const struct policy_image *image, const struct answers_query *query)
{
	struct gathering *g = calloc(1, sizeof(*g));
	json_t *out = json_object(), *answers = json_array();

	if (!g)
		abort();
	g->query = query;
	g->failures = json_array();
	if (query->addr)
		add_server(g, query->addr, "");
	else
		add_discovered(g, link_text(query->known, "addresses"));
	query->source->tail_bytes = ANSWERS_TAIL_BYTES;
	if (query->source->count)
		events_each(query->source, take_event, g);
	for (size_t i = 0; i < g->count; i++)
		json_array_append_new(answers, answer_of(image, g, &g->servers[i]));
	json_object_set_new(out, "answers", answers);
	json_object_set_new(out, "failures", g->failures);
	free(g);
	return out;
}
