/*
 * index.c - from the name of a connection to its flow.
 *
 * Enters: a key and its signature. Leaves: the flow of that name, or none. The truth is rte_hash, which has pointers to
 * the keys of all flows. It reaches a flow by three lines of memory, each known only when the one before it has come:
 * bucket, slot, key. In a large table these are what a packet waits for. So hints stand before it: lines of 16 numbers
 * of places, each with as many bits of the signature as have room beside it. They lead to a flow in one step, and those
 * of a burst are taken all at once.
 *
 * A hint decides nothing. What it names is compared whole, VLANs too, and where no hint leads to a flow rte_hash is
 * asked. So a wrong hint, or a line with no room for one more, costs time alone, and no more than rte_hash does. Nobody
 * outside can aim at a line: its number comes from the classifier's hash, which has a secret seed.
 */
#include "private.h"

#include <emmintrin.h>
#include <errno.h>
#include <sys/mman.h>

#include <rte_hash.h>
#include <rte_prefetch.h>

#define HINT_BYTES_PER_PLACE 5 /* at 4, a full table would leave 9 % of its flows without a hint; so 3 % */

_Static_assert(FLOW_BURST_MAX <= RTE_HASH_LOOKUP_BULK_MAX, "a burst is one question");

/* Without a call: this stands between a packet and its flow. */
static inline bool same(const struct flow_key *a, const struct flow_key *b)
{
	uint64_t left[sizeof(*a) / 8], right[sizeof(*a) / 8], differ = 0;
	memcpy(left, a, sizeof(left));
	memcpy(right, b, sizeof(right));
	for (unsigned i = 0; i < sizeof(*a) / 8; i++)
		differ |= left[i] ^ right[i];
	return !differ;
}

/* What is hashed are pointers; what is compared is what they point to. rte_hash compares with its unused place 0, too. */
static int compare(const void *left, const void *right, size_t len)
{
	const struct flow_key *const *a = left, *const *b = right;
	(void)len;
	return !*a || !*b || !same(*a, *b);
}

/* ---- hints ---- */

/* Which of a line's hints have these bits: a bit each. */
static inline unsigned with_bits(const uint32_t *line, uint32_t bits, uint32_t mask)
{
	const __m128i *quarters = (const __m128i *)line;
	__m128i masks = _mm_set1_epi32((int)mask), wanted = _mm_set1_epi32((int)bits), equal[4];
	for (unsigned i = 0; i < 4; i++)
		equal[i] = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(&quarters[i]), masks), wanted);
	return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(equal[0], equal[1]), _mm_packs_epi32(equal[2], equal[3])));
}

/* Which may be of a flow with this signature. */
static inline unsigned alike(const struct flow_index *index, const uint32_t *line, uint32_t signature)
{
	return with_bits(line, signature << index->place_bits, UINT32_MAX << index->place_bits);
}

/* Where a hint points to; NULL: nowhere. */
static inline struct flow *place(const struct flow_index *index, uint32_t hint)
{
	uint32_t number = (hint & ~(UINT32_MAX << index->place_bits)) - 1;
	return number < index->places ? &index->flows[number] : NULL;
}

/* The first of these hints that leads to the flow of that name. */
static inline struct flow *follow(const struct flow_index *index, const uint32_t *line, unsigned hints, const struct flow_key *key)
{
	for (; hints; hints &= hints - 1) {
		struct flow *flow = place(index, line[__builtin_ctz(hints)]);
		if (flow && same(&flow->key, key) && flow->used)
			return flow;
	}
	return NULL;
}

static uint32_t hint_to(const struct flow_index *index, const struct flow *flow, uint32_t signature)
{
	return signature << index->place_bits | ((uint32_t)(flow - index->flows) + 1);
}

/* In a line without room it stays away, until it is looked for when there is: none is moved for another's sake. */
static void put_hint(struct flow_index *index, const struct flow *flow, uint32_t signature)
{
	uint32_t *line = flow_index_line(index, signature), hint = hint_to(index, flow, signature);
	unsigned room = with_bits(line, 0, UINT32_MAX);
	if (room && !with_bits(line, hint, UINT32_MAX)) /* else: looked for twice in a burst */
		line[__builtin_ctz(room)] = hint;
}

static void take_hint(struct flow_index *index, const struct flow *flow, uint32_t signature)
{
	uint32_t *line = flow_index_line(index, signature);
	unsigned mine = with_bits(line, hint_to(index, flow, signature), UINT32_MAX);
	if (mine)
		line[__builtin_ctz(mine)] = 0;
}

/* ---- look-up ---- */

struct flow *flow_index_find(struct flow_index *index, const struct flow_key *key, uint32_t signature)
{
	const uint32_t *line = flow_index_line(index, signature);
	struct flow *flow = follow(index, line, alike(index, line, signature), key);
	void *found = NULL;
	if (flow)
		return flow;
	if (rte_hash_lookup_with_hash_data(index->hash, &key, signature, &found) >= 0)
		put_hint(index, found, signature);
	return found;
}

/* Of those that no hint has led to. */
static void ask(struct flow_index *index, const struct flow_key *const *keys, const uint32_t *signatures, const uint8_t *which, unsigned count,
                struct flow **out)
{
	const void *wanted[FLOW_BURST_MAX];
	void *found[FLOW_BURST_MAX];
	uint32_t asked[FLOW_BURST_MAX];
	uint64_t hits = 0;
	for (unsigned i = 0; i < count; i++) {
		wanted[i] = &keys[which[i]];
		asked[i] = signatures[which[i]];
	}
	rte_hash_lookup_with_hash_bulk_data(index->hash, wanted, asked, count, &hits, found);
	for (unsigned i = 0; i < count; i++) {
		if (!(hits >> i & 1))
			continue;
		out[which[i]] = found[i];
		put_hint(index, found[i], asked[i]);
		flow_prefetch(found[i]);
	}
}

void flow_index_find_bulk(struct flow_index *index, const struct flow_key *const *keys, const uint32_t *signatures, unsigned count,
                          struct flow **out)
{
	uint16_t hints[FLOW_BURST_MAX];
	uint8_t unknown[FLOW_BURST_MAX];
	unsigned asking = 0;
	for (unsigned i = 0; i < count; i++) {
		const uint32_t *line = flow_index_line(index, signatures[i]);
		hints[i] = (uint16_t)alike(index, line, signatures[i]);
		struct flow *likely = hints[i] ? place(index, line[__builtin_ctz(hints[i])]) : NULL;
		if (likely)
			flow_prefetch(likely);
	}
	for (unsigned i = 0; i < count; i++) {
		out[i] = follow(index, flow_index_line(index, signatures[i]), hints[i], keys[i]);
		if (!out[i])
			unknown[asking++] = (uint8_t)i;
	}
	if (asking)
		ask(index, keys, signatures, unknown, asking, out);
}

/* ---- life ---- */

int flow_index_add(struct flow_index *index, struct flow *flow)
{
	const struct flow_key *own = &flow->key;
	uint32_t signature = flow_signature(own, flow->hash);
	rte_prefetch0(flow_index_line(index, signature));
	int error = rte_hash_add_key_with_hash_data(index->hash, &own, signature, flow);
	if (!error)
		put_hint(index, flow, signature);
	return error;
}

void flow_index_remove(struct flow_index *index, struct flow *flow)
{
	const struct flow_key *own = &flow->key;
	uint32_t signature = flow_signature(own, flow->hash);
	rte_prefetch0(flow_index_line(index, signature));
	rte_hash_del_key_with_hash(index->hash, &own, signature);
	take_hint(index, flow, signature);
}

int flow_index_init(struct flow_index *index, const char *name, struct flow *flows, uint32_t places, int socket)
{
	struct rte_hash_parameters params = {
		.name = name,
		.entries = places,
		.key_len = sizeof(struct flow_key *),
		.socket_id = socket,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE, /* full means full, not an unlucky bucket */
	};
	index->flows = flows;
	index->places = places;
	index->place_bits = 32 - (unsigned)__builtin_clz(places); /* 0 is no place */
	index->lines = (uint32_t)((uint64_t)places * HINT_BYTES_PER_PLACE / FLOW_LINE) + 1;
	index->hints = flow_memory_new(flow_index_bytes(index));
	if (!index->hints)
		return -ENOMEM;
	index->hash = rte_hash_create(&params);
	if (!index->hash) {
		flow_index_dispose(index);
		return -ENOMEM;
	}
	rte_hash_set_cmp_func(index->hash, compare);
	return 0;
}

void flow_index_dispose(struct flow_index *index)
{
	rte_hash_free(index->hash);
	flow_memory_free(index->hints, flow_index_bytes(index));
}
