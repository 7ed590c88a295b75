/* flow/index.c: a flow is found by its name alone, whatever the hints say. */
#include "flow_harness.h"

#include "flow/private.h"

#define FLOWS 1024
#define ONE_LINE 7 /* a hash: all flows that have it share a line of hints, a signature and a bucket */

static int table(void **state)
{
	struct flow_limits limits = flow_limits_default;
	(void)state;
	limits.flows_max = FLOWS;
	limits.embryonic_percent = limits.prefix_percent = 100;
	return h_setup_limits(&limits);
}

static struct flow_key key_of(unsigned i)
{
	return (struct flow_key){.client = {[10] = 0xff, 0xff, 10, 77, (uint8_t)(i >> 8), (uint8_t)i}, .server = {[10] = 0xff, 0xff, 10, 77, 0, 2},
	                         .client_port = 20000, .server_port = 25};
}

static struct flow *add(unsigned i, uint32_t hash)
{
	struct flow_key key = key_of(i);
	struct flow *flow = flow_insert(h.table, &key, hash, h.now);
	assert_non_null(flow);
	return flow;
}

static struct flow *find(unsigned i, uint32_t hash)
{
	struct flow_key key = key_of(i);
	return flow_find(h.table, &key, hash);
}

/* As a burst does it: asks for the lines first. */
static void find_all(const unsigned *which, unsigned count, uint32_t hash, struct flow **out)
{
	struct flow_key key[FLOW_BURST_MAX];
	const struct flow_key *keys[FLOW_BURST_MAX];
	uint32_t signatures[FLOW_BURST_MAX];
	for (unsigned i = 0; i < count; i++) {
		key[i] = key_of(which[i]);
		keys[i] = &key[i];
		signatures[i] = flow_signature(keys[i], hash);
	}
	flow_index_find_bulk(&h.table->index, keys, signatures, count, out);
}

static uint32_t *the_line(void) { return flow_index_line(&h.table->index, ONE_LINE); }

static unsigned hints(void)
{
	const struct flow_index *index = &h.table->index;
	unsigned count = 0;
	for (size_t i = 0; i < index->lines * FLOW_HINTS_LINE; i++)
		count += index->hints[i] != 0;
	return count;
}

/* Hashes as the classifier's are, all over: lines are filled evenly. */
static uint32_t spread(unsigned i) { return (uint32_t)((i + 1) * 0x9e3779b97f4a7c15ull >> 32); }

static void a_full_table_is_found_and_no_stranger(void **state)
{
	struct flow *flows[FLOWS];
	(void)state;
	for (unsigned i = 0; i < FLOWS; i++)
		flows[i] = add(i, spread(i));
	assert_in_range(hints(), FLOWS * 9 / 10, FLOWS);
	for (unsigned i = 0; i < FLOWS; i++) {
		assert_ptr_equal(find(i, spread(i)), flows[i]);
		assert_null(find(FLOWS + i, spread(i))); /* the same signature, of another name */
	}
	for (unsigned i = 0; i < FLOWS; i++) {
		flow_remove(h.table, flows[i]);
		assert_null(find(i, spread(i)));
	}
	assert_int_equal(hints(), 0);
}

static void flows_past_the_end_of_a_line_are_found(void **state)
{
	struct flow *flows[40], *out[FLOW_BURST_MAX];
	unsigned which[FLOW_BURST_MAX];
	(void)state;
	for (unsigned i = 0; i < 40; i++)
		flows[i] = add(i, ONE_LINE);
	assert_int_equal(hints(), FLOW_HINTS_LINE);
	for (unsigned i = 0; i < 40; i++)
		assert_ptr_equal(find(i, ONE_LINE), flows[i]);
	for (unsigned i = 0; i < FLOW_BURST_MAX; i++)
		which[i] = i + 10; /* hinted, not hinted, and from 40 on unknown */
	find_all(which, FLOW_BURST_MAX, ONE_LINE, out);
	for (unsigned i = 0; i < FLOW_BURST_MAX; i++)
		assert_ptr_equal(out[i], which[i] < 40 ? flows[which[i]] : NULL);
	assert_int_equal(hints(), FLOW_HINTS_LINE); /* none was moved for another's sake */
}

/* A flow without a hint gets one when there is room: one, however often it is looked for at once. */
static void room_in_a_line_is_used_again(void **state)
{
	struct flow *flows[20], *out[4];
	(void)state;
	for (unsigned i = 0; i < 20; i++)
		flows[i] = add(i, ONE_LINE);
	for (unsigned i = 0; i < 6; i++)
		flow_remove(h.table, flows[i]);
	assert_int_equal(hints(), FLOW_HINTS_LINE - 6);
	find_all((const unsigned[]){18, 18, 0, 18}, 4, ONE_LINE, out);
	assert_ptr_equal(out[0], flows[18]);
	assert_ptr_equal(out[1], flows[18]);
	assert_null(out[2]);
	assert_ptr_equal(out[3], flows[18]);
	assert_int_equal(hints(), FLOW_HINTS_LINE - 5);
	assert_ptr_equal(find(19, ONE_LINE), flows[19]);
	assert_int_equal(hints(), FLOW_HINTS_LINE - 4);
	for (unsigned i = 6; i < 20; i++)
		flow_remove(h.table, flows[i]);
	assert_int_equal(hints(), 0);
}

/* Every value that a hint can have, right and wrong ones: of no place, of a free one, of one never used, of another flow. */
static void a_wrong_hint_is_harmless(void **state)
{
	struct flow *flows[8], *out[8];
	struct flow_index *index = &h.table->index;
	(void)state;
	for (unsigned i = 0; i < 8; i++)
		flows[i] = add(i, ONE_LINE);
	flow_remove(h.table, flows[3]);
	for (uint32_t number = 0; number < 1u << index->place_bits; number++) {
		for (unsigned i = 0; i < FLOW_HINTS_LINE; i++)
			the_line()[i] = (uint32_t)ONE_LINE << index->place_bits | number;
		for (unsigned i = 0; i < 8; i++)
			assert_ptr_equal(find(i, ONE_LINE), i == 3 ? NULL : flows[i]);
		find_all((const unsigned[]){0, 1, 2, 3, 4, 5, 6, 7}, 8, ONE_LINE, out);
		for (unsigned i = 0; i < 8; i++)
			assert_ptr_equal(out[i], i == 3 ? NULL : flows[i]);
	}
	memset(the_line(), 0, FLOW_LINE);
}

/* A free place's key stays until it is used again. */
static void a_flow_that_is_gone_is_not_found_by_its_old_hint(void **state)
{
	uint32_t line[FLOW_HINTS_LINE];
	struct flow *out[1];
	(void)state;
	struct flow *flow = add(1, ONE_LINE);
	memcpy(line, the_line(), sizeof(line));
	flow_remove(h.table, flow);
	memcpy(the_line(), line, sizeof(line));
	assert_null(find(1, ONE_LINE));
	find_all((const unsigned[]){1}, 1, ONE_LINE, out);
	assert_null(out[0]);
	struct flow *other = add(2, ONE_LINE);
	assert_ptr_equal(other, flow); /* in the same place: the old hint leads to it */
	assert_null(find(1, ONE_LINE));
	assert_ptr_equal(find(2, ONE_LINE), other);
}

/* VLANs are in no hash of the classifier's. These two have one signature. */
static void tags_are_compared(void **state)
{
	struct flow_key untagged = key_of(1), tagged = key_of(1);
	(void)state;
	tagged.vlan[1] = 5;
	uint32_t hash = 1000, other = hash ^ flow_signature(&tagged, 0);
	assert_int_equal(flow_signature(&untagged, hash), flow_signature(&tagged, other));
	struct flow *first = flow_insert(h.table, &untagged, hash, h.now), *second = flow_insert(h.table, &tagged, other, h.now);
	assert_ptr_equal(flow_find(h.table, &untagged, hash), first);
	assert_ptr_equal(flow_find(h.table, &tagged, other), second);
	flow_remove(h.table, first);
	assert_null(flow_find(h.table, &untagged, hash));
	assert_ptr_equal(flow_find(h.table, &tagged, other), second);
}

/* Flows come and go at random, in lines that are crowded and in others: what is found is what a plain list says. */
static void it_agrees_with_a_list(void **state)
{
	struct flow *flows[FLOWS] = {NULL};
	uint64_t random = 1;
	(void)state;
	for (unsigned step = 0; step < 100000; step++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		unsigned i = (unsigned)(random >> 33) % FLOWS;
		uint32_t hash = spread(i % 32); /* 32 flows in a line */
		assert_ptr_equal(find(i, hash), flows[i]);
		if (random >> 63) {
			if (flows[i])
				flow_remove(h.table, flows[i]);
			flows[i] = flows[i] ? NULL : add(i, hash);
		}
	}
	for (unsigned i = 0; i < FLOWS; i++)
		if (flows[i])
			flow_remove(h.table, flows[i]);
	assert_int_equal(hints(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, table, h_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_full_table_is_found_and_no_stranger), TEST(flows_past_the_end_of_a_line_are_found), TEST(room_in_a_line_is_used_again),
		TEST(a_wrong_hint_is_harmless), TEST(a_flow_that_is_gone_is_not_found_by_its_old_hint), TEST(tags_are_compared), TEST(it_agrees_with_a_list),
	};
	return cmocka_run_group_tests(tests, h_start_eal, NULL);
}
