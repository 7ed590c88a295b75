/*
 * mtasts.c - the questions of sts.c, asked: TXT, the policy host's addresses, HTTPS, and what Redis has already.
 *
 * The host's addresses come from the agent's own resolver and are handed to libcurl. One fetch has the token of its
 * domain's round; the two questions for addresses have the same, with a bit for each family.
 */
#include "mtasts.h"

#include <arpa/inet.h>
#include <ev.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "https.h"

#define TOKEN_A (1ull << 62)
#define TOKEN_AAAA (1ull << 61)
#define POLICY_PATH "/.well-known/mta-sts.txt"
#define ADDRESSES_MAX 8 /* of each family */
#define KEY_MAX (CONTROL_PREFIX_MAX + 300)
#define NUMBER_MAX 24
#define WRITES_MAX 200 /* at one tick */

struct lookup { /* of a policy host */
	uint64_t token; /* 0: free */
	char host[IMAGE_DOMAIN_MAX + 16];
	unsigned open;
	bool failed;
	char addresses[2 * ADDRESSES_MAX * (INET6_ADDRSTRLEN + 1)];
};

struct mtasts {
	const struct control_config *config;
	struct resolver *resolver;
	struct https *https;
	struct sts *sts;
	struct watch *watch; /* NULL: not yet */
	void (*changed)(void *context);
	void *context;
	struct lookup lookups[STS_BUSY_MAX];
};

/* ---- what sts.c asks ---- */

static bool on_ask(void *context, const char *name, uint64_t token)
{
	return resolver_ask(((struct mtasts *)context)->resolver, name, DISCOVER_TXT, token);
}

static void on_copy(void *context, uint64_t token, const redisReply *reply)
{
	struct mtasts *mtasts = context;
	const char *texts[5];

	for (size_t i = 0; reply && i < 5; i++) {
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 5 || reply->element[i]->type != REDIS_REPLY_STRING)
			reply = NULL;
		else
			texts[i] = reply->element[i]->str;
	}
	struct sts_copy copy = {0};
	if (reply)
		copy = (struct sts_copy){texts[0], texts[1], texts[2], texts[3], texts[4]};
	sts_shared(mtasts->sts, token, reply ? &copy : NULL, resolver_time());
}

static bool on_look(void *context, const char *domain, uint64_t token)
{
	struct mtasts *mtasts = context;
	char key[KEY_MAX];

	snprintf(key, sizeof(key), "%sdiscovered:%s", mtasts->config->redis_prefix, domain);
	const char *get[] = {"HMGET", key, "sts_id", "sts_mode", "sts_mx", "sts_max_age", "sts_time"};
	return mtasts->watch && watch_ask(mtasts->watch, sizeof(get) / sizeof(get[0]), get, on_copy, mtasts, token);
}

static bool on_fetch(void *context, const char *domain, uint64_t token)
{
	struct mtasts *mtasts = context;
	struct lookup *lookup = NULL;

	for (size_t i = 0; i < STS_BUSY_MAX && !lookup; i++)
		lookup = mtasts->lookups[i].token ? NULL : &mtasts->lookups[i];
	if (!lookup)
		return false;
	*lookup = (struct lookup){.token = token};
	snprintf(lookup->host, sizeof(lookup->host), "mta-sts.%s", domain);
	lookup->open += resolver_ask(mtasts->resolver, lookup->host, DISCOVER_A, token | TOKEN_A);
	lookup->open += resolver_ask(mtasts->resolver, lookup->host, DISCOVER_AAAA, token | TOKEN_AAAA);
	if (!lookup->open)
		lookup->token = 0;
	return lookup->open > 0;
}

static void on_forget(void *context, uint64_t token)
{
	struct mtasts *mtasts = context;

	resolver_forget(mtasts->resolver, token);
	resolver_forget(mtasts->resolver, token | TOKEN_A);
	resolver_forget(mtasts->resolver, token | TOKEN_AAAA);
	https_forget(mtasts->https, token);
	for (size_t i = 0; i < STS_BUSY_MAX; i++)
		if (mtasts->lookups[i].token == token)
			mtasts->lookups[i].token = 0;
}

static void on_changed(void *context)
{
	struct mtasts *mtasts = context;

	mtasts->changed(mtasts->context);
}

static void on_fetched(void *context, uint64_t token, const struct sts_fetched *fetched)
{
	sts_fetched(((struct mtasts *)context)->sts, token, fetched, resolver_time());
}

/* ---- the policy host ---- */

static void add_addresses(struct lookup *lookup, const struct discover_answer *answer, bool ipv6)
{
	size_t len = strlen(lookup->addresses);
	char text[INET6_ADDRSTRLEN];

	for (size_t i = 0; i < answer->count && i < ADDRESSES_MAX; i++)
		if (answer->len[i] == (ipv6 ? 16 : 4) && inet_ntop(ipv6 ? AF_INET6 : AF_INET, answer->data[i], text, sizeof(text)))
			len += (size_t)snprintf(lookup->addresses + len, sizeof(lookup->addresses) - len, ipv6 ? "%s[%s]" : "%s%s", len ? "," : "", text);
}

static void take_address(struct mtasts *mtasts, struct lookup *lookup, uint64_t token, const struct discover_answer *answer)
{
	struct sts_fetched fetched = {.error = STS_FETCH_ERROR};
	uint64_t round = lookup->token;

	lookup->failed |= answer->status == DISCOVER_FAILED;
	if (answer->status == DISCOVER_OK)
		add_addresses(lookup, answer, token & TOKEN_AAAA);
	if (--lookup->open)
		return;
	lookup->token = 0;
	fetched.why = !*lookup->addresses ? lookup->failed ? "the addresses of its policy host cannot be had" : "its policy host has no address" : NULL;
	if (!fetched.why && !https_get(mtasts->https, lookup->host, lookup->addresses, POLICY_PATH, round))
		fetched.why = "cannot be fetched now";
	if (fetched.why)
		sts_fetched(mtasts->sts, round, &fetched, resolver_time());
}

void mtasts_answered(struct mtasts *mtasts, uint64_t token, const struct discover_answer *answer, struct discover_time now)
{
	if (!mtasts)
		return;
	if (!(token & (TOKEN_A | TOKEN_AAAA))) {
		sts_answered(mtasts->sts, token, answer, now);
		return;
	}
	for (size_t i = 0; i < STS_BUSY_MAX; i++)
		if (mtasts->lookups[i].token && mtasts->lookups[i].token == (token & ~(TOKEN_A | TOKEN_AAAA))) {
			take_address(mtasts, &mtasts->lookups[i], token, answer);
			return;
		}
}

/* ---- Redis ---- */

static void tell_one(struct mtasts *mtasts, const struct sts_row *row)
{
	char key[KEY_MAX], max_age[NUMBER_MAX], time[NUMBER_MAX], checked[NUMBER_MAX], expire[NUMBER_MAX];

	snprintf(key, sizeof(key), "%sdiscovered:%s", mtasts->config->redis_prefix, row->domain);
	snprintf(max_age, sizeof(max_age), "%" PRIu32, row->max_age);
	snprintf(time, sizeof(time), "%" PRIu64, row->time);
	snprintf(checked, sizeof(checked), "%" PRIu64, row->checked);
	snprintf(expire, sizeof(expire), "%" PRIu32, mtasts->config->dns_keep_s);
	/* Whoever has no policy leaves that of others, which says itself for how long it holds. */
	const char *set[] = {"HSET", key, "sts", row->state, "sts_error", row->why, "sts_checked", checked, "sts_id", row->id, "sts_mode", row->mode,
			     "sts_mx", row->mx, "sts_max_age", max_age, "sts_time", time};
	const char *end[] = {"EXPIRE", key, expire};
	watch_write(mtasts->watch, *row->id ? sizeof(set) / sizeof(set[0]) : 8, set);
	watch_write(mtasts->watch, sizeof(end) / sizeof(end[0]), end);
}

void mtasts_tell(struct mtasts *mtasts)
{
	struct sts_row row;

	if (!mtasts || !mtasts->watch || watch_state(mtasts->watch) != WATCH_LIVE)
		return;
	for (size_t i = 0; i < WRITES_MAX && sts_next_untold(mtasts->sts, &row); i++) {
		tell_one(mtasts, &row);
		free(row.mx);
	}
}

void mtasts_watch(struct mtasts *mtasts, struct watch *watch)
{
	if (!mtasts)
		return;
	mtasts->watch = watch;
	sts_tell_again(mtasts->sts);
}

/* ---- the agent ---- */

struct mtasts *mtasts_new(struct ev_loop *loop, const struct control_config *config, struct resolver *resolver,
			  void (*changed)(void *context), void *context)
{
	static const struct sts_ops ops = {.ask = on_ask, .look = on_look, .fetch = on_fetch, .forget = on_forget, .changed = on_changed};
	struct mtasts *mtasts = config->dns_mta_sts ? calloc(1, sizeof(*mtasts)) : NULL;

	if (!mtasts)
		return NULL;
	mtasts->config = config;
	mtasts->resolver = resolver;
	mtasts->changed = changed;
	mtasts->context = context;
	mtasts->https = https_new(loop, config->ca_file, on_fetched, mtasts);
	mtasts->sts = sts_new(config, &ops, mtasts);
	if (mtasts->https && mtasts->sts)
		return mtasts;
	sts_free(mtasts->sts);
	https_free(mtasts->https);
	free(mtasts);
	return NULL;
}

void mtasts_free(struct mtasts *mtasts)
{
	if (!mtasts)
		return;
	sts_free(mtasts->sts); /* forgets what is under way, of the others */
	https_free(mtasts->https);
	free(mtasts);
}

struct sts *mtasts_sts(struct mtasts *mtasts) { return mtasts ? mtasts->sts : NULL; }

void mtasts_want(struct mtasts *mtasts, const char *const *domains, size_t count, struct discover_time now)
{
	if (mtasts)
		sts_want(mtasts->sts, domains, count, now);
}

void mtasts_tick(struct mtasts *mtasts, struct discover_time now)
{
	if (mtasts)
		sts_tick(mtasts->sts, now);
}
