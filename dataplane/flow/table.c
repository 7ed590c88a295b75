/*
 * table.c - the table of flows: places, states, ageing.
 *
 * Flows stand in one array and do not move while they live; index.c finds them. The table is bounded; a SYN that finds
 * no place is refused and counted. Under a flood of SYNs the oldest embryonic flow gives way, so that established ones
 * go on and new ones come through; once the table is half full, no prefix of clients gets more than its share.
 * Only this file frees a flow, and only through flow_remove.
 */
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_random.h>

#define NO_PLACE UINT32_MAX

#define SWEEP_AHEAD 8 /* places whose line comes while others are looked at */

_Static_assert(sizeof(struct flow) == 3 * FLOW_LINE && offsetof(struct flow, seen_us) == FLOW_LINE, "ageing needs the second line alone");

const struct flow_limits flow_limits_default = {
	.flows_max = 65536,
	.embryonic_percent = 25,
	.answered_percent = 50,
	.prefix_percent = 25,
	.held_segments_max = 64,
	.held_segments_total_max = 4096,
	.handshake_timeout_us = 90000000ull,     /* Linux gives up a SYN after 127 s, most before */
	.dialogue_timeout_us = 660000000ull,     /* RFC 5321, 4.5.3.2: 5 minutes and 10 after DATA, and one more */
	.sealed_timeout_us = 7500000000ull,      /* RFC 5382, REQ-5: not below 2 hours 4 minutes */
	.closed_linger_us = 5000000ull,
	.cut_linger_us = 30000000ull,
};

void flow_bug(const char *what, const char *file, int line)
{
	fprintf(stderr, "waxseald: bug: %s at %s:%d\n", what, file, line);
	abort();
}

static const char *const state_names[FLOW_STATES] = {
	[FLOW_HANDSHAKE] = "handshake", [FLOW_DIALOGUE] = "dialogue", [FLOW_SEALING] = "sealing", [FLOW_SEALED] = "sealed",
	[FLOW_CLEAR] = "clear",         [FLOW_TAKEN] = "taken",       [FLOW_CUT] = "cut",         [FLOW_CLOSED] = "closed",
};

const char *flow_state_name(enum flow_state state)
{
	return state < FLOW_STATES ? state_names[state] : "?";
}

void *flow_memory_new(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

void flow_memory_free(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}

struct flow_table *flow_table_new(const char *name, const struct flow_limits *limits, const struct flow_ops *ops,
                                  struct stats *stats, uint8_t worker, int socket)
{
	struct flow_table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	table->limits = *limits;
	table->ops = *ops;
	table->stats = stats;
	table->ids = (uint64_t)worker << 56;
	TAILQ_INIT(&table->unanswered);
	TAILQ_INIT(&table->answered);
	for (unsigned row = 0; row < FLOW_SHARE_ROWS; row++)
		table->share.seed[row] = (uint32_t)rte_rand();
	table->places = limits->flows_max;
	table->freed = NO_PLACE;
	table->flows = flow_memory_new(table->places * sizeof(struct flow));
	if (table->flows && flow_index_init(&table->index, name, table->flows, table->places, socket) == 0)
		return table;
	flow_memory_free(table->flows, table->places * sizeof(struct flow));
	free(table);
	return NULL;
}

void flow_table_free(struct flow_table *table)
{
	if (!table)
		return;
	for (uint32_t i = 0; i < table->places; i++)
		if (table->flows[i].used)
			flow_remove(table, &table->flows[i]);
	BUG_ON(table->count || table->held_total);
	flow_index_dispose(&table->index);
	flow_memory_free(table->flows, table->places * sizeof(struct flow));
	free(table);
}

struct flow *flow_find(struct flow_table *table, const struct flow_key *key, uint32_t hash)
{
	return flow_index_find(&table->index, key, flow_signature(key, hash));
}

struct flow *flow_at(struct flow_table *table, uint32_t index)
{
	return index < table->places && table->flows[index].used ? &table->flows[index] : NULL;
}

uint32_t flow_places(const struct flow_table *table) { return table->places; }
uint32_t flow_count(const struct flow_table *table) { return table->count; }
uint32_t flow_held_total(const struct flow_table *table) { return table->held_total; }

static uint32_t percent_of(uint32_t percent, uint32_t all)
{
	return (uint32_t)((uint64_t)all * percent / 100);
}

static void leave_embryonic(struct flow_table *table, struct flow *flow)
{
	TAILQ_REMOVE(flow->answered ? &table->answered : &table->unanswered, flow, embryonic);
	table->embryonic_count--;
	table->answered_count -= flow->answered;
	flow->stream = NULL; /* they share its place */
	flow->session = NULL;
}

void flow_answered(struct flow_table *table, struct flow *flow)
{
	BUG_ON(flow->state != FLOW_HANDSHAKE || flow->answered);
	TAILQ_REMOVE(&table->unanswered, flow, embryonic);
	TAILQ_INSERT_TAIL(&table->answered, flow, embryonic);
	flow->answered = true;
	table->answered_count++;
}

/* For a newer embryonic flow: the oldest of those whose server has not answered; but of the answered ones while they are
 * more than their share, or nobody else is there. With E places for both and a share of S:
 * - Whoever sends SYNs in other people's names, from either side, gets no answer that fits without somebody on the other
 *   port who sees them. Such a flood ends no answered handshake, and others only with E - S SYNs in one round trip to
 *   their server.
 * - A server may be an accomplice that answers everything, or an honest one with SYN cookies. That flood gets past the
 *   share and then displaces itself: it ends no handshake that waits for its server, and an answered one only with S
 *   answered SYNs in one round trip to its client.
 * - Both at once have both prices to pay. One queue for all would be had for E SYNs in both round trips together, of
 *   any kind: with S at half of E nothing is cheaper by more than half.
 * What is ended so before its SYN-ACK begins again: track.c drops that, and the SYN is sent again. What is ended after it and
 * goes on all the same is joined in the middle: the policy's `unknown` decides, not the flood. */
static struct flow *gives_way(struct flow_table *table)
{
	uint32_t embryonic_max = percent_of(table->limits.embryonic_percent, table->limits.flows_max);
	bool beyond = table->answered_count > percent_of(table->limits.answered_percent, embryonic_max);
	if (!beyond && !TAILQ_EMPTY(&table->unanswered))
		return TAILQ_FIRST(&table->unanswered);
	return TAILQ_FIRST(&table->answered);
}

/* false: no place for this client. */
static bool make_room(struct flow_table *table, const struct flow_key *key)
{
	const struct flow_limits *limits = &table->limits;
	if (table->count >= limits->flows_max / 2 && flow_share_of(&table->share, key->client) >= percent_of(limits->prefix_percent, limits->flows_max)) {
		stats_inc(table->stats, STAT_flows_refused_prefix);
		return false;
	}
	bool full = table->count >= limits->flows_max;
	if (table->embryonic_count && (full || table->embryonic_count >= percent_of(limits->embryonic_percent, limits->flows_max))) {
		struct flow *oldest = gives_way(table);
		stats_inc(table->stats, STAT_flows_evicted);
		if (oldest->answered)
			stats_inc(table->stats, STAT_flows_evicted_answered);
		else if (!oldest->joined)
			table->forgotten_until_us = oldest->opened_us + limits->handshake_timeout_us;
		flow_remove(table, oldest);
		full = false;
	}
	if (full)
		stats_inc(table->stats, STAT_flows_refused);
	return !full;
}

/* The one freed last is the likeliest to be in the cache. */
static struct flow *take_place(struct flow_table *table)
{
	if (table->freed == NO_PLACE)
		return table->fresh < table->places ? &table->flows[table->fresh++] : NULL;
	struct flow *flow = &table->flows[table->freed];
	table->freed = flow->reopen_isn;
	return flow;
}

static void give_place(struct flow_table *table, struct flow *flow)
{
	flow->used = false;
	flow->reopen_isn = table->freed;
	table->freed = (uint32_t)(flow - table->flows);
}

struct flow *flow_insert(struct flow_table *table, const struct flow_key *key, uint32_t hash, uint64_t now_us)
{
	struct flow *flow = make_room(table, key) ? take_place(table) : NULL;
	if (!flow)
		return NULL;
	BUG_ON(flow->used);
	memset(flow, 0, sizeof(*flow));
	flow->key = *key;
	flow->hash = hash;
	if (flow_index_add(&table->index, flow)) {
		give_place(table, flow);
		stats_inc(table->stats, STAT_flows_refused);
		return NULL;
	}
	flow->used = true;
	flow->owned = table->ops.hold && table->ops.hold(table->ops.context, hash);
	flow->id = ++table->ids;
	flow->opened_us = flow->seen_us = now_us;
	flow->state = FLOW_HANDSHAKE;
	TAILQ_INSERT_TAIL(&table->unanswered, flow, embryonic);
	table->embryonic_count++;
	flow_share_take(&table->share, key->client);
	table->count++;
	table->changes++;
	return flow;
}

void flow_finish(struct flow_table *table, struct flow *flow)
{
	if (flow->counted)
		return;
	flow->counted = true;
	table->ops.closed(table->ops.context, flow);
	flow->session = NULL;
}

void flow_remove(struct flow_table *table, struct flow *flow)
{
	if (flow->state == FLOW_HANDSHAKE)
		leave_embryonic(table, flow);
	flow_offload_end(table, flow);
	flow_offload_forget(table, flow);
	flow_finish(table, flow);
	flow_stream_free(table, flow);
	flow_share_give(&table->share, flow->key.client);
	flow_index_remove(&table->index, flow);
	if (flow->owned)
		table->ops.release(table->ops.context, flow->hash);
	give_place(table, flow);
	table->count--;
	table->changes++;
	stats_inc(table->stats, STAT_flows_closed);
}

/* ---- states ---- */

#define TO(state) (1u << FLOW_##state)
static const uint8_t edges[FLOW_STATES] = {
	[FLOW_HANDSHAKE] = TO(DIALOGUE) | TO(SEALED) | TO(CLEAR) | TO(CUT) | TO(CLOSED), /* SEALED, CLEAR: joined mid-way, or level none */
	[FLOW_DIALOGUE] = TO(SEALING) | TO(CLEAR) | TO(TAKEN) | TO(CUT) | TO(CLOSED),
	[FLOW_SEALING] = TO(SEALED) | TO(CUT) | TO(CLOSED),
	[FLOW_SEALED] = TO(CLOSED),
	[FLOW_CLEAR] = TO(CUT) | TO(CLOSED),
	[FLOW_TAKEN] = TO(CLOSED),
	[FLOW_CUT] = TO(CLOSED),
	[FLOW_CLOSED] = 0,
};

void flow_enter_state(struct flow_table *table, struct flow *flow, enum flow_state state, uint64_t now_us)
{
	BUG_ON(!(edges[flow->state] & (1u << state)));
	if (flow->state == FLOW_HANDSHAKE)
		leave_embryonic(table, flow);
	flow_offload_end(table, flow);
	flow->state = state;
	flow->seen_us = now_us;
	switch (state) {
	case FLOW_DIALOGUE:
	case FLOW_SEALING:
	case FLOW_HANDSHAKE:
		break;
	case FLOW_TAKEN:
		flow->taken = true;
		break;
	case FLOW_SEALED:
	case FLOW_CLEAR:
		flow->released = true;
		if (!flow->stream)
			break;
		flow_stream_release_all(table, flow);
		if (!flow->observed)
			flow_stream_free(table, flow);
		break;
	case FLOW_CUT:
	case FLOW_CLOSED:
		flow_stream_free(table, flow);
		flow_finish(table, flow);
		break;
	case FLOW_STATES:
		BUG_ON(true);
	}
}

/* ---- ageing ---- */

static uint64_t idle_limit_us(const struct flow_limits *limits, const struct flow *flow)
{
	switch ((enum flow_state)flow->state) {
	case FLOW_HANDSHAKE:
		return limits->handshake_timeout_us;
	case FLOW_DIALOGUE:
	case FLOW_SEALING:
		return limits->dialogue_timeout_us;
	case FLOW_SEALED:
	case FLOW_CLEAR:
		/* One packet of anybody's makes a joined flow; only two peers make it one that is worth keeping. */
		return flow->joined && !(flow->side[CLIENT].heard && flow->side[SERVER].heard) ? limits->dialogue_timeout_us : limits->sealed_timeout_us;
	case FLOW_TAKEN:
		return UINT64_MAX; /* its endpoints have timers of their own */
	case FLOW_CUT:
		return limits->cut_linger_us;
	case FLOW_CLOSED:
		return flow->taken ? limits->cut_linger_us : limits->closed_linger_us;
	case FLOW_STATES:
		break;
	}
	return limits->closed_linger_us;
}

void flow_sweep(struct flow_table *table, uint64_t now_us)
{
	uint32_t share = (uint32_t)((uint64_t)table->places * FLOW_SWEEP_US / FLOW_SWEEP_ROUND_US) + 1;
	if (!table->count || now_us - table->swept_us < FLOW_SWEEP_US)
		return;
	table->swept_us = now_us;
	while (share--) {
		struct flow *flow = &table->flows[table->sweep_at];
		rte_prefetch0((const uint8_t *)(flow + SWEEP_AHEAD) + FLOW_LINE); /* past the end it is no harm */
		table->sweep_at = (table->sweep_at + 1) % table->places;
		if (!flow->used)
			continue;
		/* An embryonic flow is not kept by repeating its SYN. */
		uint64_t since_us = flow->state == FLOW_HANDSHAKE ? flow->opened_us : flow->seen_us;
		if (now_us - since_us <= idle_limit_us(&table->limits, flow))
			continue;
		if (flow_offload_alive(table, flow, now_us) && now_us - flow->seen_us <= idle_limit_us(&table->limits, flow))
			continue;
		if (flow->state != FLOW_CLOSED && flow->state != FLOW_CUT)
			stats_inc(table->stats, STAT_flows_aged);
		flow_remove(table, flow);
	}
}
