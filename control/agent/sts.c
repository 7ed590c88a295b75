/*
 * sts.c - a round for each domain: the TXT record; if its id is not the one of the policy at hand, or that is due for
 * another look, what Redis has; if that is no better, HTTPS. Then wait.
 */
#include "sts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"
#include "../policy/must.h"

enum sts_state { STS_WAITING, STS_ASKING, STS_LOOKING, STS_FETCHING };
static const char *const error_names[] = {
	[STS_OK] = "ok", [STS_FETCH_ERROR] = "sts-policy-fetch-error", [STS_POLICY_INVALID] = "sts-policy-invalid",
	[STS_WEBPKI_INVALID] = "sts-webpki-invalid",
};

struct domain {
	char *name;
	enum sts_state state;
	uint64_t token, due_us, entered_us, checked;
	uint32_t ttl;
	unsigned failures;
	/* The policy at hand: none with an id of "". */
	char id[STS_ID_MAX + 1];
	struct sts_policy policy;
	uint64_t fetched_at;
	/* The last look: */
	const char *found; /* "none", "unknown", or one of error_names */
	enum policy_sts_error error;
	char why[STS_WHY_MAX], next_id[STS_ID_MAX + 1];
	bool untold;
};

struct sts {
	const struct control_config *config;
	const struct sts_ops *ops;
	void *context;
	struct domain **domains;
	size_t count, cursor, busy, told;
	uint64_t earliest_us, serial;
	bool ticking, stale;
	struct discovered_sts *rows;
	size_t row_count;
	struct domain *open[STS_BUSY_MAX];
	struct sts_counts counts;
};

struct sts *sts_new(const struct control_config *config, const struct sts_ops *ops, void *context)
{
	struct sts *sts = calloc(1, sizeof(*sts));

	if (sts) {
		sts->config = config;
		sts->ops = ops;
		sts->context = context;
	}
	return sts;
}

static void enter_state(struct sts *sts, struct domain *domain, enum sts_state state, struct discover_time now)
{
	static const unsigned edges[] = {
		[STS_WAITING] = 1u << STS_ASKING,
		[STS_ASKING] = 1u << STS_WAITING | 1u << STS_LOOKING | 1u << STS_FETCHING,
		[STS_LOOKING] = 1u << STS_WAITING | 1u << STS_FETCHING,
		[STS_FETCHING] = 1u << STS_WAITING,
	};

	if (!(edges[domain->state] & 1u << state)) {
		fprintf(stderr, "waxseal-agent: MTA-STS: no way from state %d to %d\n", domain->state, state);
		abort();
	}
	domain->state = state;
	domain->token = STS_TOKEN | ++sts->serial;
	domain->entered_us = now.us;
}

static void leave(struct sts *sts, struct domain *domain)
{
	for (size_t i = 0; i < STS_BUSY_MAX; i++)
		if (sts->open[i] == domain) {
			sts->open[i] = NULL;
			sts->busy--;
		}
}

static void domain_free(struct sts *sts, struct domain *domain)
{
	if (domain->state != STS_WAITING) {
		sts->ops->forget(sts->context, domain->token);
		leave(sts, domain);
	}
	sts_policy_dispose(&domain->policy);
	free(domain->name);
	free(domain);
}

void sts_free(struct sts *sts)
{
	if (!sts)
		return;
	for (size_t i = 0; i < sts->count; i++)
		domain_free(sts, sts->domains[i]);
	free(sts->domains);
	free(sts->rows);
	free(sts);
}

static struct domain *domain_new(const char *name, struct discover_time now)
{
	struct domain *domain = must(calloc(1, sizeof(*domain)));

	domain->name = must(strdup(name));
	domain->due_us = now.us;
	domain->found = "";
	return domain;
}

static void changed(struct sts *sts)
{
	sts->stale = true;
	sts->ops->changed(sts->context);
}

void sts_want(struct sts *sts, const char *const *domains, size_t count, struct discover_time now)
{
	bool lost = false;

	count = count > STS_DOMAINS_MAX ? STS_DOMAINS_MAX : count;
	struct domain **wanted = must(calloc(count + 1, sizeof(*wanted)));
	for (size_t i = 0, old = 0; i < count || old < sts->count;) {
		int order = i == count ? 1 : old == sts->count ? -1 : strcmp(domains[i], sts->domains[old]->name);
		if (order > 0) {
			lost |= sts->domains[old]->id[0] != 0;
			domain_free(sts, sts->domains[old++]);
			continue;
		}
		wanted[i] = order == 0 ? sts->domains[old++] : domain_new(domains[i], now);
		i++;
	}
	free(sts->domains);
	sts->domains = wanted;
	sts->count = count;
	sts->earliest_us = 0;
	sts->stale = true;
	if (lost)
		changed(sts);
	sts_tick(sts, now);
}

/* ---- the policy at hand ---- */

static bool holds(const struct domain *domain, uint64_t now_s)
{
	return domain->id[0] && now_s < domain->fetched_at + domain->policy.max_age;
}

static bool fresh(uint32_t max_age, uint64_t fetched_at, uint64_t now_s)
{
	uint32_t refresh = max_age / 2 < STS_REFRESH_MAX_S ? max_age / 2 : STS_REFRESH_MAX_S;

	return now_s < fetched_at + refresh;
}

static void drop(struct sts *sts, struct domain *domain)
{
	sts_policy_dispose(&domain->policy);
	domain->id[0] = 0;
	domain->fetched_at = 0;
	domain->untold = true;
	changed(sts);
}

/* Takes the policy. */
static void adopt(struct sts *sts, struct domain *domain, const char *id, struct sts_policy *policy, uint64_t fetched_at)
{
	bool same = domain->id[0] && domain->policy.mode == policy->mode && sts_policy_equal(&domain->policy, policy);

	sts_policy_dispose(&domain->policy);
	domain->policy = *policy;
	*policy = (struct sts_policy){0};
	snprintf(domain->id, sizeof(domain->id), "%s", id);
	domain->fetched_at = fetched_at;
	sts->stale = true;
	if (!same)
		changed(sts);
}

/* ---- the end of a round ---- */

static uint32_t clamp(uint32_t n, uint32_t least, uint32_t most)
{
	return n > most ? most : n < least ? least : n;
}

static uint32_t wait_of(const struct sts *sts, struct domain *domain, bool failed, uint64_t now_s)
{
	uint32_t ttl_min = sts->config->dns_ttl_min_s, wait = clamp(domain->ttl, ttl_min, STS_CHECK_MAX_S);

	if (failed) {
		wait = clamp(ttl_min * STS_RETRY_FACTOR, 1, STS_RETRY_MAX_S);
		for (unsigned i = 0; i < domain->failures && wait < STS_RETRY_MAX_S; i++)
			wait *= 2;
		wait = clamp(wait, 1, STS_RETRY_MAX_S);
		domain->failures++;
	} else {
		domain->failures = 0;
	}
	/* The moment at which it is due for another look is not slept through, nor the one at which it ends. */
	if (domain->id[0]) {
		uint32_t half = domain->policy.max_age / 2;
		uint64_t refresh = domain->fetched_at + (half < STS_REFRESH_MAX_S ? half : STS_REFRESH_MAX_S);
		if (!failed && refresh > now_s && refresh - now_s < wait)
			wait = clamp((uint32_t)(refresh - now_s), 1, STS_CHECK_MAX_S);
	}
	return wait;
}

static void end_round(struct sts *sts, struct domain *domain, const char *found, enum policy_sts_error error, const char *why, struct discover_time now)
{
	bool differs = domain->error != error;

	domain->found = found;
	domain->error = error;
	snprintf(domain->why, sizeof(domain->why), "%s", why);
	domain->checked = now.unix_s;
	domain->untold = true;
	enter_state(sts, domain, STS_WAITING, now);
	leave(sts, domain);
	bool failed = error != STS_OK || !strcmp(found, "unknown");
	sts->counts.failures += failed;
	domain->due_us = now.us + (uint64_t)wait_of(sts, domain, failed, now.unix_s) * 1000000;
	if (domain->due_us < sts->earliest_us)
		sts->earliest_us = domain->due_us;
	if (domain->id[0] && !holds(domain, now.unix_s))
		drop(sts, domain);
	else if (differs)
		changed(sts);
}

static void fails(struct sts *sts, struct domain *domain, enum policy_sts_error error, const char *why, struct discover_time now)
{
	end_round(sts, domain, error_names[error], error, why, now);
}

static void fetch(struct sts *sts, struct domain *domain, struct discover_time now)
{
	enter_state(sts, domain, STS_FETCHING, now);
	sts->counts.fetches++;
	if (!sts->ops->fetch(sts->context, domain->name, domain->token))
		fails(sts, domain, STS_FETCH_ERROR, "cannot be fetched now", now);
}

static struct domain *find(struct sts *sts, uint64_t token, enum sts_state state)
{
	for (size_t i = 0; i < STS_BUSY_MAX; i++)
		if (sts->open[i] && sts->open[i]->token == token && sts->open[i]->state == state)
			return sts->open[i];
	return NULL;
}

/* ---- answers ---- */

/* RFC 8461, section 3.1: exactly one record that is ours, and it must be valid. NULL, or why not. */
static const char *id_of(const struct discover_answer *answer, char id[STS_ID_MAX + 1])
{
	char text[STS_WHY_MAX * 4];
	size_t ours = 0;
	bool valid = false;

	for (size_t i = 0; i < answer->count; i++) {
		size_t len = 0;
		bool fits = true;
		for (int at = 0; at < answer->len[i]; at += 1 + answer->data[i][at]) {
			size_t n = answer->data[i][at];
			if (at + 1 + (int)n > answer->len[i] || len + n > sizeof(text)) {
				fits = false;
				break;
			}
			memcpy(text + len, answer->data[i] + at + 1, n);
			len += n;
		}
		if (!sts_record_is_ours(text, len))
			continue;
		ours++;
		valid = fits && sts_record_parse(text, len, id);
	}
	return ours > 1 ? "several records v=STSv1" : ours && !valid ? "its record v=STSv1 is not valid" : ours ? NULL : "no record v=STSv1";
}

void sts_answered(struct sts *sts, uint64_t token, const struct discover_answer *answer, struct discover_time now)
{
	struct domain *domain = find(sts, token, STS_ASKING);
	const char *why = answer->why;

	if (!domain)
		return;
	if (answer->status == DISCOVER_FAILED) {
		end_round(sts, domain, "unknown", STS_OK, why, now);
		return;
	}
	domain->ttl = answer->ttl;
	if (answer->status == DISCOVER_OK)
		why = id_of(answer, domain->next_id);
	if (why) { /* what was fetched earlier holds until it ends */
		end_round(sts, domain, "none", STS_OK, why, now);
		return;
	}
	if (!strcmp(domain->next_id, domain->id) && fresh(domain->policy.max_age, domain->fetched_at, now.unix_s)) {
		end_round(sts, domain, error_names[STS_OK], STS_OK, "", now);
		return;
	}
	enter_state(sts, domain, STS_LOOKING, now);
	if (!sts->ops->look(sts->context, domain->name, domain->token))
		fetch(sts, domain, now);
}

/* Nothing in Redis is believed that this parser would not have taken from the domain itself. */
static bool copy_read(const struct sts_copy *copy, struct sts_policy *policy, uint64_t *time)
{
	char *end;
	unsigned long max_age = strtoul(copy->max_age, &end, 10);

	*policy = (struct sts_policy){0};
	if (!*copy->max_age || *end || max_age > STS_MAX_AGE_MAX || !sts_id_valid(copy->id) || !sts_mode_parse(copy->mode, strlen(copy->mode), &policy->mode))
		return false;
	policy->max_age = (uint32_t)max_age;
	*time = strtoull(copy->time, &end, 10);
	if (*copy->time && !*end && sts_mx_parse(copy->mx, policy))
		return true;
	sts_policy_dispose(policy);
	return false;
}

void sts_shared(struct sts *sts, uint64_t token, const struct sts_copy *copy, struct discover_time now)
{
	struct domain *domain = find(sts, token, STS_LOOKING);
	struct sts_policy policy;
	uint64_t time;

	if (!domain)
		return;
	if (copy && copy_read(copy, &policy, &time)) {
		bool good = !strcmp(copy->id, domain->next_id) && time <= now.unix_s && fresh(policy.max_age, time, now.unix_s);
		if (good) {
			sts->counts.shared++;
			adopt(sts, domain, copy->id, &policy, time);
			end_round(sts, domain, error_names[STS_OK], STS_OK, "", now);
			return;
		}
		sts_policy_dispose(&policy);
	}
	fetch(sts, domain, now);
}

void sts_fetched(struct sts *sts, uint64_t token, const struct sts_fetched *fetched, struct discover_time now)
{
	struct domain *domain = find(sts, token, STS_FETCHING);
	struct sts_policy policy;

	if (!domain)
		return;
	if (fetched->error != STS_OK) {
		fails(sts, domain, fetched->error, fetched->why, now);
		return;
	}
	const char *why = sts_policy_parse(fetched->text, fetched->len, &policy);
	if (why) {
		fails(sts, domain, STS_POLICY_INVALID, why, now);
		return;
	}
	adopt(sts, domain, domain->next_id, &policy, now.unix_s);
	end_round(sts, domain, error_names[STS_OK], STS_OK, "", now);
}

/* ---- time ---- */

static void start_round(struct sts *sts, struct domain *domain, struct discover_time now)
{
	char name[IMAGE_DOMAIN_MAX + 16];

	for (size_t i = 0; i < STS_BUSY_MAX; i++)
		if (!sts->open[i]) {
			sts->open[i] = domain;
			sts->busy++;
			break;
		}
	domain->ttl = 0;
	enter_state(sts, domain, STS_ASKING, now);
	snprintf(name, sizeof(name), "_mta-sts.%s", domain->name);
	if (!sts->ops->ask(sts->context, name, domain->token))
		end_round(sts, domain, "unknown", STS_OK, "cannot be asked now", now);
}

/* Whoever was asked and says nothing must not hold one of the few places for ever. */
static void time_out(struct sts *sts, struct discover_time now)
{
	const uint64_t limits_s[] = {[STS_WAITING] = UINT32_MAX, [STS_ASKING] = sts->config->dns_timeout_s, [STS_LOOKING] = STS_LOOK_S,
				     [STS_FETCHING] = sts->config->dns_timeout_s + STS_FETCH_S};

	for (size_t i = 0; i < STS_BUSY_MAX; i++) {
		struct domain *domain = sts->open[i];
		if (!domain || now.us - domain->entered_us < limits_s[domain->state] * 1000000)
			continue;
		sts->ops->forget(sts->context, domain->token);
		if (domain->state == STS_ASKING)
			end_round(sts, domain, "unknown", STS_OK, "no answer in time", now);
		else if (domain->state == STS_LOOKING)
			fetch(sts, domain, now);
		else
			fails(sts, domain, STS_FETCH_ERROR, "no policy in time", now);
	}
}

void sts_tick(struct sts *sts, struct discover_time now)
{
	uint64_t earliest = UINT64_MAX;
	size_t i = 0;

	if (sts->ticking)
		return;
	sts->ticking = true;
	if (sts->busy)
		time_out(sts, now);
	for (; now.us >= sts->earliest_us && i < sts->count && sts->busy < STS_BUSY_MAX; i++) {
		struct domain *domain = sts->domains[sts->cursor++ % sts->count];
		if (domain->id[0] && !holds(domain, now.unix_s))
			drop(sts, domain);
		if (domain->state == STS_WAITING && domain->due_us <= now.us)
			start_round(sts, domain, now);
		uint64_t next = domain->state == STS_WAITING ? domain->due_us : UINT64_MAX;
		if (domain->id[0]) { /* it ends on time, also in the middle of a round */
			uint64_t ends_us = now.us + (domain->fetched_at + domain->policy.max_age - now.unix_s) * 1000000;
			next = ends_us < next ? ends_us : next;
		}
		earliest = next < earliest ? next : earliest;
	}
	if (i && i == sts->count)
		sts->earliest_us = earliest;
	sts->ticking = false;
}

/* ---- what is known ---- */

const struct discovered_sts *sts_found(struct sts *sts, size_t *count)
{
	*count = sts->row_count;
	if (!sts->stale)
		return sts->rows;
	free(sts->rows);
	sts->rows = must(calloc(sts->count + 1, sizeof(*sts->rows)));
	sts->row_count = 0;
	for (size_t i = 0; i < sts->count; i++) {
		const struct domain *domain = sts->domains[i];
		if (domain->id[0] || domain->error != STS_OK)
			sts->rows[sts->row_count++] = (struct discovered_sts){.domain = domain->name, .mode = domain->policy.mode, .error = domain->error,
									      .mx = (const char *const *)domain->policy.mx,
									      .mx_count = domain->policy.mx_count};
	}
	sts->stale = false;
	*count = sts->row_count;
	return sts->rows;
}

struct sts_counts sts_counts(const struct sts *sts)
{
	struct sts_counts counts = sts->counts;

	counts.domains = sts->count;
	counts.busy = sts->busy;
	for (size_t i = 0; i < sts->count; i++) {
		counts.policies += sts->domains[i]->id[0] != 0;
		counts.failing += sts->domains[i]->failures > 0;
	}
	return counts;
}

json_t *sts_remember(const struct sts *sts)
{
	json_t *root = json_object();

	for (size_t i = 0; i < sts->count; i++) {
		const struct domain *domain = sts->domains[i];
		if (!domain->id[0])
			continue;
		char *mx = sts_mx_print(&domain->policy), max_age[16], time[24];
		snprintf(max_age, sizeof(max_age), "%" PRIu32, domain->policy.max_age);
		snprintf(time, sizeof(time), "%" PRIu64, domain->fetched_at);
		json_object_set_new(root, domain->name, json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", domain->id, "mode", sts_mode_name(domain->policy.mode),
								  "mx", mx, "max_age", max_age, "time", time));
		free(mx);
	}
	return root;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct domain *const *)a)->name, (*(struct domain *const *)b)->name);
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

void sts_recall(struct sts *sts, const json_t *memory, struct discover_time now)
{
	const char *name;
	json_t *value;

	if (sts->count || !json_is_object(memory))
		return;
	sts->domains = must(calloc(json_object_size(memory) + 1, sizeof(*sts->domains)));
	json_object_foreach((json_t *)memory, name, value)
	{
		struct sts_copy copy = {text_of(value, "id"), text_of(value, "mode"), text_of(value, "mx"), text_of(value, "max_age"), text_of(value, "time")};
		struct sts_policy policy;
		uint64_t time;
		if (!*name || !policy_domain_valid(name) || sts->count == STS_DOMAINS_MAX || !copy_read(&copy, &policy, &time))
			continue;
		struct domain *domain = sts->domains[sts->count++] = domain_new(name, now);
		domain->policy = policy;
		domain->fetched_at = time < now.unix_s ? time : now.unix_s;
		snprintf(domain->id, sizeof(domain->id), "%s", copy.id);
		domain->untold = true;
	}
	qsort(sts->domains, sts->count, sizeof(*sts->domains), by_name);
	sts->stale = true;
}

bool sts_next_untold(struct sts *sts, struct sts_row *row)
{
	for (; sts->told < sts->count; sts->told++) {
		struct domain *domain = sts->domains[sts->told];
		if (!domain->untold)
			continue;
		domain->untold = false;
		*row = (struct sts_row){.domain = domain->name, .state = domain->found, .why = domain->why, .id = domain->id,
					.mode = domain->id[0] ? sts_mode_name(domain->policy.mode) : "", .mx = sts_mx_print(&domain->policy),
					.max_age = domain->policy.max_age, .time = domain->fetched_at, .checked = domain->checked};
		return true;
	}
	sts->told = 0;
	return false;
}

void sts_tell_again(struct sts *sts)
{
	for (size_t i = 0; i < sts->count; i++)
		sts->domains[i]->untold |= sts->domains[i]->checked || sts->domains[i]->id[0];
	sts->told = 0;
}
