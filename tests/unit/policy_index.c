/* policy/index.c: what the index finds is what is there, whatever the size, and nothing else. */
#include "policy_harness.h"
#include "policy/private.h"

#define FINDINGS 3000u
#define PREFIXES_MAX 5000u

static uint64_t random_state;
static uint32_t random32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

/* ---- an image of `made` and of larger sections behind it ---- */

static uint8_t *bytes;
static size_t len;

static void begin(void)
{
	made_begin();
	len = sizeof(made);
	bytes = realloc(bytes, len);
}

static void append(struct image_section *section, const void *from, uint32_t count)
{
	size_t size = (size_t)count * section->stride;

	bytes = realloc(bytes, len + size + 8);
	memset(bytes + len, 0, size + 8);
	memcpy(bytes + len, from, size);
	section->offset = len;
	section->count = count;
	len = (len + size + 7) & ~(size_t)7;
}

static struct policy_image *open_all(void)
{
	struct policy_image *image;

	memcpy(bytes, &made, sizeof(made));
	((struct image_header *)(void *)bytes)->total_bytes = len;
	((struct image_header *)(void *)bytes)->checksum = policy_image_checksum(bytes, len);
	image = policy_image_parse(bytes, len, made_error, sizeof(made_error));
	if (!image)
		fail_msg("refused: %s", made_error);
	return image;
}

/* ---- prefixes: the tree against a walk over all of them ---- */

/* As the image has them, both families in one form: the tests' own, in network byte order. */
struct net {
	uint8_t addr[16];
	uint8_t len;
};
static struct net nets[PREFIXES_MAX];
static bool ipv6;
static bool clustered; /* most of them under one prefix of 20 bits, or of 116; a few anywhere */

static bool holds(const struct net *net, const uint8_t *addr)
{
	for (unsigned bit = 0; bit < net->len; bit++)
		if ((net->addr[bit / 8] ^ addr[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static int by_net(const void *a, const void *b)
{
	const struct net *x = a, *y = b;
	int order = memcmp(x->addr, y->addr, 16);

	return order ? order : x->len - y->len;
}

/* Crowded under a few first octets, at both ends of the space too; returns how many are distinct. */
static uint32_t make_nets(uint32_t wanted)
{
	static const uint8_t first[] = {0, 10, 10, 10, 192, 255};
	unsigned most = ipv6 ? 128 : 32;
	uint32_t kept = 0;

	memset(nets, 0, sizeof(nets));
	for (uint32_t i = 0; i < wanted; i++) {
		bool end = i == wanted / 2;

		nets[i].len = (uint8_t)(end ? most : random32() % (most + 1));
		for (unsigned k = 0; k < most / 8; k++)
			nets[i].addr[k] = end ? 255 : k == 0 ? first[random32() % 6] : (uint8_t)(random32() & (k < 3 ? 3 : 255));
		if (clustered && i % 50) {
			memset(nets[i].addr, 10, 16);
			nets[i].len = (uint8_t)(most - random32() % 3);
			nets[i].addr[most / 8 - 2] = (uint8_t)(random32() & 15);
			nets[i].addr[most / 8 - 1] = (uint8_t)random32();
		}
		for (unsigned bit = nets[i].len; bit < 128; bit++)
			nets[i].addr[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
	}
	qsort(nets, wanted, sizeof(nets[0]), by_net);
	for (uint32_t i = 0; i < wanted; i++)
		if (!kept || by_net(&nets[kept - 1], &nets[i]) != 0)
			nets[kept++] = nets[i];
	return kept;
}

/* Of all prefixes, how many share their part of the space with more than a node's worth of others. */
static uint32_t crowded(const struct index_tree *tree)
{
	uint32_t n = 0;

	for (uint32_t slot = 0; slot < tree->slots; slot++)
		if (tree->first[slot + 1] - tree->first[slot] > INDEX_FANOUT)
			n += tree->first[slot + 1] - tree->first[slot];
	return n;
}

/* Which of eight destinations; the next ones in order go to others. */
static uint32_t target_of(uint32_t i)
{
	return 1 + i % 7;
}

static void write_nets(uint32_t count)
{
	static struct image_prefix4 four[PREFIXES_MAX];
	static struct image_prefix6 six[PREFIXES_MAX];
	uint32_t ancestors[129];
	unsigned depth = 0;

	for (uint32_t i = 0; i < count; i++) {
		while (depth && !holds(&nets[ancestors[depth - 1]], nets[i].addr))
			depth--;
		uint32_t parent = depth ? ancestors[depth - 1] : IMAGE_NONE;

		ancestors[depth++] = i;
		six[i] = (struct image_prefix6){.parent = parent, .target = target_of(i), .len = nets[i].len};
		memcpy(six[i].addr, nets[i].addr, 16);
		four[i] = (struct image_prefix4){.parent = parent, .target = target_of(i), .len = nets[i].len,
						 .addr = (uint32_t)nets[i].addr[0] << 24 | (uint32_t)nets[i].addr[1] << 16 |
							 (uint32_t)nets[i].addr[2] << 8 | nets[i].addr[3]};
	}
	if (ipv6)
		append(&made.header.prefix6, six, count);
	else
		append(&made.header.prefix4, four, count);
}

static void ask(const struct policy_image *image, uint32_t count, const uint8_t *addr)
{
	uint8_t asked[16] = {[10] = 0xff, [11] = 0xff};
	uint32_t expected = 0, found;
	int longest = -1;

	for (uint32_t i = 0; i < count; i++)
		if (nets[i].len > longest && holds(&nets[i], addr)) {
			longest = nets[i].len;
			expected = target_of(i);
		}
	memcpy(ipv6 ? asked : asked + 12, addr, ipv6 ? 16 : 4);
	found = policy_destination_of(image, asked);
	if (found != expected)
		fail_msg("%u prefixes, IPv%d %02x%02x%02x%02x..%02x: %u, expected %u", count, ipv6 ? 6 : 4, addr[0], addr[1], addr[2], addr[3],
			 addr[15], found, expected);
}

/* The address `step` beside it, with a wrap at both ends. */
static void beside(uint8_t addr[16], int step)
{
	for (int k = (ipv6 ? 16 : 4) - 1; k >= 0; k--) {
		addr[k] = (uint8_t)(addr[k] + step);
		if (addr[k] != (step > 0 ? 0 : 255))
			break;
	}
}

static void ask_around(const struct policy_image *image, uint32_t count)
{
	uint32_t step = count / 350 + 1;

	for (uint32_t i = 0; i < count; i += step) {
		uint8_t addr[16];

		memcpy(addr, nets[i].addr, 16);
		ask(image, count, addr);
		beside(addr, -1);
		ask(image, count, addr);
		memcpy(addr, nets[i].addr, 16);
		for (unsigned bit = nets[i].len; bit < 128; bit++) /* its last address */
			addr[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		ask(image, count, addr);
		beside(addr, 1);
		ask(image, count, addr);
		for (unsigned k = 0; k < 16; k++)
			addr[k] = (uint8_t)random32();
		ask(image, count, addr);
	}
}

static void a_tree_finds_what_a_walk_finds(void **state)
{
	/* Around whole nodes and whole levels of either fanout. */
	static const uint32_t sizes[] = {1, 2, 8, 9, 16, 17, 64, 65, 255, 256, 257, 512, 513, 4096, 4097, PREFIXES_MAX};

	(void)state;
	for (unsigned kind = 0; kind < 4; kind++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			random_state = 88172645463325252u + i;
			ipv6 = kind & 1;
			clustered = kind & 2;
			begin();
			for (int d = 1; d < 8; d++)
				made_destination((char[]){'d', (char)('0' + d), 0}, 0, "");
			uint32_t count = make_nets(sizes[i]);
			write_nets(count);
			struct policy_image *image = open_all();
			ask_around(image, count);
			policy_image_close(image);
		}
}

/* What lies close together is told apart by the first step, though the whole space lies between it and the rest. */
static void a_few_far_away_make_nobody_else_slow(void **state)
{
	(void)state;
	clustered = true;
	for (int family = 0; family < 2; family++) {
		ipv6 = family;
		begin();
		for (int d = 1; d < 8; d++)
			made_destination((char[]){'d', (char)('0' + d), 0}, 0, "");
		uint32_t count = make_nets(PREFIXES_MAX);
		write_nets(count);
		struct policy_image *image = open_all();
		uint32_t slow = crowded(family ? &image->index.prefix6 : &image->index.prefix4);
		if (slow > count / 8)
			fail_msg("IPv%d: %u of %u", ipv6 ? 6 : 4, slow, count);
		policy_image_close(image);
	}
}

/* ---- hash tables ---- */

static uint8_t *numbered(uint32_t i)
{
	static uint8_t addr[16];

	memset(addr, 0, 16);
	addr[0] = 0x20;
	addr[13] = (uint8_t)(i >> 16);
	addr[14] = (uint8_t)(i >> 8);
	addr[15] = (uint8_t)i;
	return addr;
}

static const char *named(uint32_t i)
{
	static char name[32];

	snprintf(name, sizeof(name), "d%05u.example", i);
	return name;
}

/* Three domains for each address, each by another host; one of the rest for each number. */
static struct policy_image *with_findings(void)
{
	static struct image_server servers[FINDINGS];
	static struct image_probed probed[FINDINGS];
	static struct image_seen seen[FINDINGS];
	static struct image_sts sts[FINDINGS];
	static char strings[sizeof(made.strings) + FINDINGS * 16];
	uint32_t domains[3], used;

	begin();
	for (unsigned i = 0; i < 3; i++) {
		made_host((char[]){'m', 'x', (char)('0' + i), '.', 'e', 0}, TLSA_NONE);
		domains[i] = made_string((char[]){'a', (char)('0' + i), '.', 'e', 0});
	}
	used = made.header.strings.count;
	memcpy(strings, made.strings, used);
	for (uint32_t i = 0; i < FINDINGS; i++) {
		servers[i] = (struct image_server){.domain = domains[i % 3], .host = (i + i / 3) % 3};
		probed[i] = (struct image_probed){.at = i};
		seen[i] = (struct image_seen){.at = i};
		sts[i] = (struct image_sts){.domain = used, .rule = IMAGE_NONE, .error = (uint8_t)(i % 4)};
		memcpy(servers[i].addr, numbered(i / 3), 16);
		memcpy(probed[i].addr, numbered(i), 16);
		memcpy(seen[i].addr, numbered(i), 16);
		strcpy(strings + used, named(i));
		used += (uint32_t)strlen(named(i)) + 1;
	}
	append(&made.header.servers, servers, FINDINGS);
	append(&made.header.probed, probed, FINDINGS);
	append(&made.header.seen, seen, FINDINGS);
	append(&made.header.sts, sts, FINDINGS);
	append(&made.header.strings, strings, used);
	return open_all();
}

static void every_finding_is_found_and_no_other(void **state)
{
	struct policy_image *image = with_findings();

	(void)state;
	for (uint32_t i = 0; i < FINDINGS; i++) {
		struct policy_server server = policy_server_of(image, numbered(i / 3), (char[]){'a', (char)('0' + i % 3), '.', 'e', 0});

		assert_string_equal(server.mx, ((char[]){'m', 'x', (char)('0' + (i + i / 3) % 3), '.', 'e', 0}));
		assert_int_equal(policy_probed_at(image, numbered(i))->at, i);
		assert_int_equal(policy_seen_at(image, numbered(i))->at, i);
		assert_int_equal(policy_sts_of(image, named(i))->error, i % 4);
	}
	for (uint32_t i = FINDINGS; i < 3 * FINDINGS; i++) {
		assert_null(policy_server_of(image, numbered(i), "a0.e").mx);
		assert_null(policy_server_of(image, numbered(i % 1000), "b.e").mx);
		assert_null(policy_probed_at(image, numbered(i)));
		assert_null(policy_seen_at(image, numbered(i)));
		assert_null(policy_sts_of(image, named(i)));
	}
	policy_image_close(image);
}

/* So many names for one slot that some have its tag. */
static void a_tag_is_no_name(void **state)
{
	(void)state;
	begin();
	made_host("mx.e", TLSA_NONE);
	made_server("10.0.0.1", "a.e", 0, true);
	made.sts[made.header.sts.count++] = (struct image_sts){.domain = made_string("a.e"), .rule = IMAGE_NONE};
	struct policy_image *image = open_all();
	uint8_t addr[16];
	memcpy(addr, made_addr("10.0.0.1"), 16);
	assert_string_equal(policy_server_of(image, addr, "a.e").mx, "mx.e");
	assert_non_null(policy_sts_of(image, "a.e"));
	for (uint32_t i = 0; i < 300000; i++) {
		assert_null(policy_server_of(image, addr, named(i)).mx);
		assert_null(policy_sts_of(image, named(i)));
	}
	policy_image_close(image);
}

static void nothing_is_found_where_nothing_is(void **state)
{
	(void)state;
	begin();
	struct policy_image *image = open_all();
	assert_null(policy_server_of(image, numbered(1), "a.e").mx);
	assert_null(policy_probed_at(image, numbered(1)));
	assert_null(policy_seen_at(image, numbered(1)));
	assert_null(policy_sts_of(image, "a.e"));
	policy_image_close(image);
}

/* The same findings in another image stand elsewhere: no list of names is bad for all images. */
static void the_seed_is_that_of_the_whole_image(void **state)
{
	struct policy_image *one = with_findings(), *two;

	(void)state;
	made.header.generation++;
	two = open_all();
	assert_true(one->index.seen.seed != two->index.seen.seed);
	assert_true(policy_index_addr(&one->index.seen, numbered(1)) != policy_index_addr(&two->index.seen, numbered(1)));
	policy_image_close(one);
	policy_image_close(two);
}

static void no_element_stands_too_far_from_its_home(void **state)
{
	enum { SLOTS = 2048 };
	static const uint32_t strides[] = {INDEX_BY_NAME, INDEX_BY_ADDR};

	(void)state;
	for (size_t k = 0; k < sizeof(strides) / sizeof(strides[0]); k++) {
		uint32_t words = strides[k];
		struct index_table table = {.slots = calloc((size_t)SLOTS * words, sizeof(uint64_t)), .mask = SLOTS - 1, .words = words};

		for (uint32_t i = 0; i <= IMAGE_PROBES_MAX; i++) /* and around the end */
			assert_true(policy_index_put(&table, SLOTS - 5, numbered(i), i + 1));
		assert_false(policy_index_put(&table, SLOTS - 5, numbered(0), IMAGE_PROBES_MAX + 2));
		assert_int_equal(table.slots[(SLOTS - 5) * words + words - 1], 1);
		assert_int_equal(table.slots[(IMAGE_PROBES_MAX - 5) * words + words - 1], IMAGE_PROBES_MAX + 1);
		assert_int_equal(table.slots[(IMAGE_PROBES_MAX - 4) * words + words - 1], 0);
		if (words == INDEX_BY_ADDR)
			assert_memory_equal(&table.slots[(IMAGE_PROBES_MAX - 5) * words], numbered(IMAGE_PROBES_MAX), 16);
		free(table.slots);
	}
}

static int end(void **state)
{
	(void)state;
	free(bytes);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_finds_what_a_walk_finds),
		cmocka_unit_test(a_few_far_away_make_nobody_else_slow),
		cmocka_unit_test(every_finding_is_found_and_no_other),
		cmocka_unit_test(a_tag_is_no_name),
		cmocka_unit_test(nothing_is_found_where_nothing_is),
		cmocka_unit_test(the_seed_is_that_of_the_whole_image),
		cmocka_unit_test(no_element_stands_too_far_from_its_home),
	};
	return cmocka_run_group_tests(tests, NULL, end);
}
