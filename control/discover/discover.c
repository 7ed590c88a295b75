/*
 * discover.c - a round for each domain: MX, then the addresses of each MX, then wait as long as the TTLs say.
 *
 * A round works on a second list of hosts and replaces the known one at its end. What failed in it is taken over
 * from the known list, as long as that is younger than keep_s. Domains stand in an array by name; questions under
 * way in a table of slots, whose token has a serial, so that a late answer finds nobody.
 */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"

#define TOKEN_SLOT_BITS 16
#define TLSA_BELOW "_25._tcp."

void hosts_free(struct host *hosts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(hosts[i].name);
		free(hosts[i].family[FAMILY_A].addrs);
		free(hosts[i].family[FAMILY_AAAA].addrs);
		tlsa_dispose(&hosts[i].tlsa);
		free(hosts[i].alias);
	}
	free(hosts);
}

struct discover *discover_new(const struct control_config *config, const struct discover_ops *ops, void *context)
{
	struct discover *discover = calloc(1, sizeof(*discover));

	if (discover) {
		discover->config = config;
		discover->ops = ops;
		discover->context = context;
	}
	return discover;
}

/* Questions of a domain that nobody wants an answer to any more. */
static void forget_questions(struct discover *discover, const struct domain *domain)
{
	for (size_t i = 0; i < DISCOVER_QUESTIONS_MAX; i++) {
		struct question *question = &discover->questions[i];
		if (question->domain != domain)
			continue;
		discover->ops->forget(discover->context, question->token);
		question->domain = NULL;
		discover->open--;
	}
}

static void domain_free(struct discover *discover, struct domain *domain)
{
	if (domain->state != WAITING) {
		forget_questions(discover, domain);
		discover->busy--;
	}
	hosts_free(domain->hosts, domain->host_count);
	hosts_free(domain->next, domain->next_count);
	free(domain->name);
	free(domain);
}

void discover_free(struct discover *discover)
{
	if (!discover)
		return;
	for (size_t i = 0; i < discover->count; i++)
		domain_free(discover, discover->domains[i]);
	free(discover->domains);
	free(discover->claims);
	free(discover->hosts);
	free(discover);
}

struct domain *discover_add(const char *name, struct discover_time now)
{
	struct domain *domain = must(calloc(1, sizeof(*domain)));

	domain->name = must(strdup(name));
	domain->due_us = now.us;
	return domain;
}

static void changed(struct discover *discover)
{
	discover->stale_claims = discover->stale_hosts = true;
	discover->ops->changed(discover->context);
}

void discover_want(struct discover *discover, const char *const *domains, size_t count, struct discover_time now)
{
	bool lost = false;

	discover->left_out = count > DISCOVER_DOMAINS_MAX ? count - DISCOVER_DOMAINS_MAX : 0;
	count -= discover->left_out;
	struct domain **wanted = must(calloc(count + 1, sizeof(*wanted)));
	for (size_t i = 0, old = 0; i < count || old < discover->count;) {
		int order = i == count ? 1 : old == discover->count ? -1 : strcmp(domains[i], discover->domains[old]->name);
		if (order > 0) {
			lost |= discover->domains[old]->host_count > 0;
			domain_free(discover, discover->domains[old++]);
			continue;
		}
		wanted[i] = order == 0 ? discover->domains[old++] : discover_add(domains[i], now);
		i++;
	}
	free(discover->domains);
	discover->domains = wanted;
	discover->count = count;
	discover->earliest_us = 0;
	if (lost)
		changed(discover);
	discover_tick(discover, now);
}

/* ---- the end of a round ---- */

static bool families_equal(const struct family *a, const struct family *b)
{
	return a->count == b->count && (!a->count || memcmp(a->addrs, b->addrs, a->count * sizeof(*a->addrs)) == 0);
}

static bool hosts_equal(const struct host *a, size_t a_count, const struct host *b, size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (strcmp(a[i].name, b[i].name) || a[i].preference != b[i].preference ||
		    !families_equal(&a[i].family[FAMILY_A], &b[i].family[FAMILY_A]) ||
		    !families_equal(&a[i].family[FAMILY_AAAA], &b[i].family[FAMILY_AAAA]) || !tlsa_equal(&a[i].tlsa, &b[i].tlsa))
			return false;
	return true;
}

static struct host *host_named(struct host *hosts, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(hosts[i].name, name))
			return &hosts[i];
	return NULL;
}

/* A family that got no answer goes on with what it had. */
static void keep_known(struct discover *discover, struct domain *domain, uint64_t now_s)
{
	for (size_t i = 0; i < domain->next_count; i++) {
		struct host *known = host_named(domain->hosts, domain->host_count, domain->next[i].name);
		for (int f = 0; known && f < FAMILIES; f++) {
			struct family *to = &domain->next[i].family[f], *from = &known->family[f];
			if (!to->failed || !from->count || from->good_at + discover->config->dns_keep_s <= now_s)
				continue;
			to->addrs = must(malloc(from->count * sizeof(*to->addrs)));
			memcpy(to->addrs, from->addrs, from->count * sizeof(*to->addrs));
			to->count = from->count;
			to->good_at = from->good_at;
		}
		struct tlsa_set *set = &domain->next[i].tlsa;
		if (set->state == FOUND_FAILED && known && known->tlsa.good_at + discover->config->dns_keep_s > now_s)
			tlsa_copy(set, &known->tlsa);
	}
}

/* Without an answer to the MX question all stays, but for what has become too old. */
static bool expire_known(struct discover *discover, struct domain *domain, uint64_t now_s)
{
	bool lost = false;

	for (size_t i = 0; i < domain->host_count; i++)
		for (int f = 0; f < FAMILIES; f++) {
			struct family *family = &domain->hosts[i].family[f];
			if (!family->count || family->good_at + discover->config->dns_keep_s > now_s)
				continue;
			family->count = 0;
			lost = true;
		}
	for (size_t i = 0; i < domain->host_count; i++) {
		struct tlsa_set *set = &domain->hosts[i].tlsa;
		if (!set->good_at || set->good_at + discover->config->dns_keep_s > now_s)
			continue;
		tlsa_dispose(set);
		*set = (struct tlsa_set){.state = FOUND_FAILED};
		lost = true;
	}
	return lost;
}

static uint32_t clamp(uint32_t n, uint32_t least, uint32_t most)
{
	return n < least ? least : n > most ? most : n;
}

static void schedule(struct discover *discover, struct domain *domain, struct discover_time now)
{
	uint32_t wait, ttl_min = discover->config->dns_ttl_min_s;

	if (domain->failed) {
		uint32_t retry = ttl_min < DISCOVER_RETRY_MIN_S ? ttl_min : DISCOVER_RETRY_MIN_S;
		for (unsigned i = 0; i < domain->failures && retry < DISCOVER_RETRY_MAX_S; i++)
			retry *= 2;
		wait = retry < DISCOVER_RETRY_MAX_S ? retry : DISCOVER_RETRY_MAX_S;
		domain->failures++;
	} else {
		domain->ttl = clamp(domain->round_ttl, ttl_min, DISCOVER_TTL_MAX_S);
		wait = domain->ttl + DISCOVER_SLACK_S;
		domain->failures = 0;
		domain->good_at = now.unix_s;
		domain->error[0] = 0;
	}
	domain->due_us = now.us + (uint64_t)wait * 1000000;
	if (domain->due_us < discover->earliest_us)
		discover->earliest_us = domain->due_us;
}

static void enter_state(struct domain *domain, enum domain_state state)
{
	static const unsigned edges[] = {
		[WAITING] = 1u << ASKING_MX,
		[ASKING_MX] = 1u << WAITING | 1u << ASKING_ADDRESSES,
		[ASKING_ADDRESSES] = 1u << WAITING,
	};

	if (!(edges[domain->state] & 1u << state)) {
		fprintf(stderr, "waxseal-agent: discovery: no way from state %d to %d\n", domain->state, state);
		abort();
	}
	domain->state = state;
}

static void end_round(struct discover *discover, struct domain *domain, struct discover_time now)
{
	bool mx_failed = domain->state == ASKING_MX && domain->failed, differs;

	if (mx_failed) {
		differs = expire_known(discover, domain, now.unix_s);
		hosts_free(domain->next, domain->next_count);
	} else {
		struct host *before = domain->hosts;
		size_t before_count = domain->host_count;
		keep_known(discover, domain, now.unix_s);
		differs = !hosts_equal(before, before_count, domain->next, domain->next_count);
		domain->hosts = domain->next;
		domain->host_count = domain->next_count;
		hosts_free(before, before_count);
	}
	domain->next = NULL;
	domain->next_count = 0;
	domain->untold = true;
	discover->stale_claims = discover->stale_hosts = true; /* they point into what was replaced */
	enter_state(domain, WAITING);
	discover->busy--;
	schedule(discover, domain, now);
	if (differs)
		changed(discover);
}

/* ---- questions and answers ---- */

static bool ask(struct discover *discover, struct domain *domain, struct question want, struct discover_time now)
{
	const struct host *host = want.type == DISCOVER_MX ? NULL : &domain->next[want.host];
	const char *name = !host ? domain->name : want.alias ? host->alias : host->name;
	char below[sizeof(TLSA_BELOW) + IMAGE_DOMAIN_MAX + 1];

	if (want.type == DISCOVER_TLSA) {
		snprintf(below, sizeof(below), TLSA_BELOW "%s", name);
		name = below;
	}

	for (size_t tried = 0; tried < DISCOVER_QUESTIONS_MAX; tried++) {
		size_t slot = discover->next_slot++ % DISCOVER_QUESTIONS_MAX;
		struct question *question = &discover->questions[slot];
		if (question->domain)
			continue;
		*question = (struct question){.domain = domain, .host = want.host, .type = want.type, .alias = want.alias,
					      .asked_us = now.us, .token = ++discover->serial << TOKEN_SLOT_BITS | slot};
		if (!discover->ops->ask(discover->context, name, want.type, question->token)) {
			question->domain = NULL;
			return false;
		}
		discover->open++;
		domain->open++;
		discover->counts.questions++;
		return true;
	}
	return false;
}

static void note_failure(struct discover *discover, struct domain *domain, const char *name, const char *why)
{
	discover->counts.failures++;
	domain->failed = true;
	snprintf(domain->error, sizeof(domain->error), "%.60s: %.60s", name, why);
}

static void ask_addresses(struct discover *discover, struct domain *domain, struct discover_time now)
{
	static const enum discover_type types[FAMILIES] = {[FAMILY_A] = DISCOVER_A, [FAMILY_AAAA] = DISCOVER_AAAA};

	enter_state(domain, ASKING_ADDRESSES);
	for (size_t i = 0; i < domain->next_count; i++)
		for (int f = 0; f < FAMILIES; f++)
			if (ask(discover, domain, (struct question){.host = i, .type = types[f]}, now)) {
				domain->next[i].open++;
			} else {
				domain->next[i].family[f].failed = true;
				note_failure(discover, domain, domain->next[i].name, "cannot be asked now");
			}
	for (size_t i = 0; i < domain->next_count; i++)
		if (!domain->next[i].open)
			domain->next[i].tlsa.state = FOUND_FAILED;
	if (!domain->open)
		end_round(discover, domain, now);
}

static void ask_tlsa(struct discover *discover, struct domain *domain, size_t at, bool alias, struct discover_time now)
{
	if (ask(discover, domain, (struct question){.host = at, .type = DISCOVER_TLSA, .alias = alias}, now))
		return;
	domain->next[at].tlsa.state = FOUND_FAILED;
	note_failure(discover, domain, domain->next[at].name, "cannot be asked now");
}

/* RFC 7672, section 2.2.2: servers of zones that are not signed may not even answer questions for TLSA. */
static void after_addresses(struct discover *discover, struct domain *domain, size_t at, struct discover_time now)
{
	struct host *host = &domain->next[at];
	bool some = false, secure = true, failed = false;

	for (int f = 0; f < FAMILIES; f++) {
		failed |= host->family[f].failed;
		some |= host->family[f].count > 0;
		secure &= host->family[f].secure || !host->family[f].count;
	}
	if (some && secure) {
		ask_tlsa(discover, domain, at, host->alias != NULL, now);
	} else {
		host->tlsa.state = some ? FOUND_INSECURE : failed ? FOUND_FAILED : FOUND_NONE;
		host->tlsa.good_at = failed ? 0 : now.unix_s;
	}
}

static void take_tlsa(struct discover *discover, struct domain *domain, const struct question *question,
		      const struct discover_answer *answer, struct discover_time now)
{
	struct host *host = &domain->next[question->host];
	struct tlsa_set *set = &host->tlsa;

	set->good_at = now.unix_s;
	switch (answer->status) {
	case DISCOVER_FAILED:
		set->state = FOUND_FAILED;
		set->good_at = 0;
		set->bogus = answer->bogus;
		return;
	case DISCOVER_OK:
		if (!answer->secure)
			break;
		records_tlsa(answer, set);
		set->below_alias = question->alias;
		set->good_at = set->state == FOUND_FAILED ? 0 : now.unix_s;
		if (set->state != FOUND_FAILED)
			return;
		note_failure(discover, domain, host->name, "TLSA records past a limit");
		return;
	case DISCOVER_NONE:
		break;
	}
	set->state = answer->secure ? FOUND_NONE : FOUND_INSECURE;
	if (question->alias) /* then below the name that the MX record has */
		ask_tlsa(discover, domain, question->host, false, now);
}

static void start_round(struct discover *discover, struct domain *domain, struct discover_time now)
{
	domain->round_ttl = UINT32_MAX;
	domain->failed = false;
	domain->secure = true;
	domain->mx_secure = false;
	domain->tried_at = now.unix_s;
	enter_state(domain, ASKING_MX);
	discover->busy++;
	if (!ask(discover, domain, (struct question){.type = DISCOVER_MX}, now)) {
		note_failure(discover, domain, domain->name, "cannot be asked now");
		end_round(discover, domain, now);
	}
}

static void take_ttl(struct domain *domain, const struct discover_answer *answer)
{
	uint32_t ttl = answer->ttl;

	if (answer->status == DISCOVER_NONE && ttl > DISCOVER_NEGATIVE_MAX_S)
		ttl = DISCOVER_NEGATIVE_MAX_S;
	if (ttl < domain->round_ttl)
		domain->round_ttl = ttl;
	domain->secure &= answer->secure;
}

static void take_mx(struct discover *discover, struct domain *domain, const struct discover_answer *answer)
{
	bool null_mx = false;

	domain->implicit = false;
	domain->mx_secure = answer->secure;
	if (answer->status == DISCOVER_OK)
		discover->counts.ignored += records_mx(answer, &domain->next, &domain->next_count, &null_mx);
	domain->null_mx = null_mx;
	/* RFC 5321, section 5.1: only where there is no MX at all is the domain its own server. */
	if (answer->status == DISCOVER_NONE && strcmp(answer->why, "NXDOMAIN") != 0) {
		domain->next = must(calloc(1, sizeof(*domain->next)));
		domain->next[0].name = must(strdup(domain->name));
		domain->next_count = 1;
		domain->implicit = true;
	}
}

static void take_addresses(struct discover *discover, struct domain *domain, const struct question *question,
			   const struct discover_answer *answer, struct discover_time now)
{
	struct host *host = &domain->next[question->host];
	struct family *family = &host->family[question->type == DISCOVER_AAAA ? FAMILY_AAAA : FAMILY_A];

	family->failed = answer->status == DISCOVER_FAILED;
	family->secure = answer->secure;
	if (!family->failed) {
		family->good_at = now.unix_s;
		discover->counts.ignored += records_addresses(answer, question->type, family);
	}
	if (family->count && family->secure && answer->canonical && !host->alias && strcmp(answer->canonical, host->name) != 0 &&
	    *answer->canonical && policy_domain_valid(answer->canonical))
		host->alias = must(strdup(answer->canonical));
	if (--host->open == 0)
		after_addresses(discover, domain, question->host, now);
}

void discover_answered(struct discover *discover, uint64_t token, const struct discover_answer *answer, struct discover_time now)
{
	struct question *slot = &discover->questions[token & ((1u << TOKEN_SLOT_BITS) - 1)], question = *slot;
	struct domain *domain = question.domain;

	if (!domain || question.token != token)
		return;
	slot->domain = NULL;
	discover->open--;
	domain->open--;
	discover->counts.answers++;
	if (answer->status == DISCOVER_FAILED)
		note_failure(discover, domain, question.type == DISCOVER_MX ? domain->name : domain->next[question.host].name, answer->why);
	else
		take_ttl(domain, answer);
	if (question.type == DISCOVER_MX) {
		if (answer->status != DISCOVER_FAILED)
			take_mx(discover, domain, answer);
	} else if (question.type == DISCOVER_TLSA) {
		take_tlsa(discover, domain, &question, answer, now);
	} else {
		take_addresses(discover, domain, &question, answer, now);
	}
	if (domain->state == ASKING_MX && !domain->failed)
		ask_addresses(discover, domain, now);
	else if (!domain->open)
		end_round(discover, domain, now);
	discover_tick(discover, now); /* there is room for another one */
}

/* ---- time ---- */

static void time_out(struct discover *discover, struct discover_time now)
{
	const struct discover_answer silence = {.status = DISCOVER_FAILED, .why = "no answer in time"};
	uint64_t limit = (uint64_t)discover->config->dns_timeout_s * 1000000;

	discover->swept_us = now.us;
	for (size_t i = 0; i < DISCOVER_QUESTIONS_MAX && discover->open; i++) {
		struct question *question = &discover->questions[i];
		if (!question->domain || question->asked_us + limit > now.us)
			continue;
		discover->counts.timeouts++;
		discover->ops->forget(discover->context, question->token);
		discover_answered(discover, question->token, &silence, now);
	}
}

void discover_tick(struct discover *discover, struct discover_time now)
{
	uint64_t earliest = UINT64_MAX;

	if (discover->ticking)
		return;
	discover->ticking = true;
	if (now.us - discover->swept_us >= TIMEOUT_SWEEP_US)
		time_out(discover, now);
	size_t i = 0;
	for (; now.us >= discover->earliest_us && i < discover->count && discover->busy < DISCOVER_BUSY_MAX; i++) {
		struct domain *domain = discover->domains[discover->cursor++ % discover->count];
		if (domain->state == WAITING && domain->due_us <= now.us)
			start_round(discover, domain, now);
		if (domain->state == WAITING && domain->due_us < earliest)
			earliest = domain->due_us;
	}
	if (i && i == discover->count) /* seen all: nothing is due before */
		discover->earliest_us = earliest;
	discover->ticking = false;
}

struct discover_counts discover_counts(const struct discover *discover)
{
	struct discover_counts counts = discover->counts;

	counts.domains = discover->count;
	counts.busy = discover->busy;
	counts.left_out = discover->left_out;
	for (size_t i = 0; i < discover->count; i++) {
		counts.resolved += discover->domains[i]->host_count > 0;
		counts.failing += discover->domains[i]->failures > 0;
	}
	return counts;
}
