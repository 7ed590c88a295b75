/*
 * program.c - the classifier in librte_bpf, for ports that DPDK owns.
 *
 * Enters: bursts of frames, prefixes and pools. Leaves: a struct verdict in each frame's headroom. The
 * look-up tables are rte_lpm and rte_lpm6; a new policy makes new ones, and the old are freed when no
 * lcore is inside a burst any more (rte_rcu_qsbr). A frame in several segments, or without headroom, is
 * left without a verdict: the fast path counts it as malformed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bpf.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>

#include "private.h"

#define FRAME_MAX (2048 + 64) /* past the last offset that the classifier looks at */
#define POOL_BITS 4           /* next hops have 21 bits in rte_lpm6: 17 for the destination, 4 for the pool */
#define DESTINATION_MAX ((1u << 17) - 1)
#define TBL8_SPARE 256        /* tables of the second level beyond those that are surely needed */
_Static_assert(WAXSEAL_POOLS_MAX <= 1 << POOL_BITS, "a pool's number fits");

struct tables {
	struct rte_lpm *lpm4; /* NULL: no prefix of that family */
	struct rte_lpm6 *lpm6;
	struct classifier_pool pools[WAXSEAL_POOLS_MAX];
};

struct program {
	struct rte_bpf *bpf;
	struct rte_bpf_jit jit;
	uint32_t hash_seed;
	unsigned generation;
	struct tables *tables; /* swapped whole */
	struct rte_rcu_qsbr *qsbr;
};

/* External functions of a BPF program have no argument that says whose they are. */
static struct program *current;

static uint64_t worker(const struct tables *tables, uint32_t next_hop, bool found, uint64_t hash)
{
	const struct classifier_pool *pool = &tables->pools[found ? next_hop & ((1u << POOL_BITS) - 1) : 0];
	uint64_t destination = found ? next_hop >> POOL_BITS : WAXSEAL_DESTINATION_NONE;
	return destination | (pool->count ? (uint64_t)pool->workers[(uint32_t)hash % pool->count] << 32 : 0);
}

/* librte_bpf's JIT calls with a stack that may be misaligned, which aligned SSE instructions do not survive. */
__attribute__((force_align_arg_pointer)) static uint64_t steer4(uint64_t address, uint64_t hash, uint64_t c, uint64_t d, uint64_t e)
{
	const struct tables *tables = __atomic_load_n(&current->tables, __ATOMIC_ACQUIRE);
	uint32_t next_hop = 0;
	bool found = tables->lpm4 && rte_lpm_lookup(tables->lpm4, rte_be_to_cpu_32((uint32_t)address), &next_hop) == 0;
	(void)c, (void)d, (void)e;
	return worker(tables, next_hop, found, hash);
}

__attribute__((force_align_arg_pointer)) static uint64_t steer6(uint64_t high, uint64_t low, uint64_t hash, uint64_t d, uint64_t e)
{
	const struct tables *tables = __atomic_load_n(&current->tables, __ATOMIC_ACQUIRE);
	uint64_t halves[2] = {high, low};
	uint32_t next_hop = 0;
	bool found = tables->lpm6 && rte_lpm6_lookup(tables->lpm6, (const uint8_t *)halves, &next_hop) == 0;
	(void)d, (void)e;
	return worker(tables, next_hop, found, hash);
}

#define RAW64 {.type = RTE_BPF_ARG_RAW, .size = sizeof(uint64_t)}
static const struct rte_bpf_xsym externals[] = {
	{.name = WAXSEAL_STEER4, .type = RTE_BPF_XTYPE_FUNC, .func = {.val = steer4, .nb_args = 2, .args = {RAW64, RAW64}, .ret = RAW64}},
	{.name = WAXSEAL_STEER6, .type = RTE_BPF_XTYPE_FUNC, .func = {.val = steer6, .nb_args = 3, .args = {RAW64, RAW64, RAW64}, .ret = RAW64}},
};

static void free_tables(struct tables *tables)
{
	if (!tables)
		return;
	rte_lpm_free(tables->lpm4);
	rte_lpm6_free(tables->lpm6);
	free(tables);
}

/* ---- the tables ---- */

static bool fill4(struct rte_lpm *lpm, const struct port_prefix *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t address, next_hop = prefixes[i].destination << POOL_BITS | prefixes[i].pool;
		memcpy(&address, prefixes[i].addr, sizeof(address));
		/* A prefix of length 0 is two of length 1: rte_lpm has no default route. */
		if (prefixes[i].len == 0 ? rte_lpm_add(lpm, 0, 1, next_hop) || rte_lpm_add(lpm, 1u << 31, 1, next_hop)
		                         : rte_lpm_add(lpm, rte_be_to_cpu_32(address), prefixes[i].len, next_hop))
			return false;
	}
	return true;
}

static bool fill6(struct rte_lpm6 *lpm, const struct port_prefix *prefixes, size_t count)
{
	static const uint8_t upper[16] = {0x80};
	for (size_t i = 0; i < count; i++) {
		uint32_t next_hop = prefixes[i].destination << POOL_BITS | prefixes[i].pool;
		if (prefixes[i].len == 0 ? rte_lpm6_add(lpm, prefixes[i].addr, 1, next_hop) || rte_lpm6_add(lpm, upper, 1, next_hop)
		                         : rte_lpm6_add(lpm, prefixes[i].addr, prefixes[i].len, next_hop))
			return false;
	}
	return true;
}

/* Second-level tables: one for each further eight bits that a prefix does not share with the one before it. */
static uint32_t count_tbl8(const struct port_prefix *prefixes, size_t count)
{
	uint32_t tables = TBL8_SPARE;
	for (size_t i = 0; i < count; i++) {
		for (unsigned bits = 24; bits < prefixes[i].len; bits += 8)
			if (!i || memcmp(prefixes[i].addr, prefixes[i - 1].addr, bits / 8) || prefixes[i - 1].len <= bits)
				tables++;
	}
	return tables;
}

static struct tables *make_tables(struct program *program, const struct port_prefix *prefixes, size_t count, char *error, size_t error_len)
{
	struct tables *tables = calloc(1, sizeof(*tables));
	char name[32];
	size_t v4 = 0;
	bool made = tables;

	while (v4 < count && !prefixes[v4].ipv6)
		v4++;
	program->generation++;
	if (made && v4) {
		struct rte_lpm_config config = {.max_rules = (uint32_t)v4 + 2, .number_tbl8s = count_tbl8(prefixes, v4)};
		snprintf(name, sizeof(name), "waxseal4_%u", program->generation);
		tables->lpm4 = rte_lpm_create(name, SOCKET_ID_ANY, &config);
		made = tables->lpm4 && fill4(tables->lpm4, prefixes, v4);
	}
	if (made && v4 < count) {
		struct rte_lpm6_config config = {.max_rules = (uint32_t)(count - v4) + 2, .number_tbl8s = count_tbl8(prefixes + v4, count - v4)};
		snprintf(name, sizeof(name), "waxseal6_%u", program->generation);
		tables->lpm6 = rte_lpm6_create(name, SOCKET_ID_ANY, &config);
		made = tables->lpm6 && fill6(tables->lpm6, prefixes + v4, count - v4);
	}
	if (made)
		return tables;
	port_fail(ENOMEM, error, error_len,
	          "no memory for the look-up of %zu prefixes (64 MB for IPv4 and for IPv6, and again during a change): raise [dataplane] memory_mb",
	          count);
	free_tables(tables);
	return NULL;
}

int program_steer(struct program *program, const struct port_prefix *prefixes, size_t count, const struct classifier_pool *pools,
                  size_t pool_count, char *error, size_t error_len)
{
	for (size_t i = 0; i < count; i++)
		if (prefixes[i].destination > DESTINATION_MAX)
			return port_fail(EINVAL, error, error_len, "destination %u: at most %u can be told apart on ports owned by DPDK",
			                 prefixes[i].destination, DESTINATION_MAX);
	struct tables *tables = make_tables(program, prefixes, count, error, error_len), *old = program->tables;
	if (!tables)
		return -ENOMEM;
	memcpy(tables->pools, pools, pool_count * sizeof(*pools));
	__atomic_store_n(&program->tables, tables, __ATOMIC_RELEASE);
	rte_rcu_qsbr_synchronize(program->qsbr, RTE_QSBR_THRID_INVALID);
	free_tables(old);
	return 0;
}

/* ---- frames ---- */

void program_classify(struct program *program, unsigned lcore, enum port_side side, struct rte_mbuf **mbufs, unsigned count)
{
	if (!count)
		return;
	rte_rcu_qsbr_thread_online(program->qsbr, lcore);
	for (unsigned i = 0; i < count; i++) {
		/* net_af_packet takes the tag off without being asked, and says so; it does not say whether the tag
		 * was 802.1Q's or 802.1ad's, so a lone 802.1ad tag goes on as 802.1Q. */
		if (mbufs[i]->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
			rte_vlan_insert(&mbufs[i]);
		struct verdict *area = port_verdict(rte_pktmbuf_mtod(mbufs[i], uint8_t *));
		if (rte_pktmbuf_headroom(mbufs[i]) < WAXSEAL_VERDICT_BYTES)
			continue; /* no device does this; the fast path finds no magic */
		memset(area, 0, sizeof(*area));
		if (mbufs[i]->nb_segs != 1)
			continue;
		struct classifier_input *input = (struct classifier_input *)area;
		input->frame_len = rte_pktmbuf_data_len(mbufs[i]);
		input->from_outside = side == OUTSIDE;
		input->hash_seed = program->hash_seed;
		if (program->jit.func)
			program->jit.func(area);
		else
			rte_bpf_exec(program->bpf, area);
	}
	rte_rcu_qsbr_thread_offline(program->qsbr, lcore);
}

/* ---- life ---- */

struct program *program_new(const char *bpf_dir, unsigned workers, uint32_t hash_seed, char *error, size_t error_len)
{
	char path[512];
	struct rte_bpf_prm params = {
		.xsym = externals,
		.nb_xsym = RTE_DIM(externals),
		.prog_arg = {.type = RTE_BPF_ARG_PTR, .size = WAXSEAL_VERDICT_BYTES + FRAME_MAX},
	};
	struct classifier_pool all = {.count = workers};
	struct program *program = calloc(1, sizeof(*program));

	for (unsigned w = 0; w < workers && w < WAXSEAL_WORKERS_MAX; w++)
		all.workers[w] = (uint8_t)w;
	snprintf(path, sizeof(path), "%s/%s", bpf_dir, PORT_DPDK_OBJECT);
	port_fail(ENOMEM, error, error_len, "no memory for the classifier");
	if (!program)
		return NULL;
	program->hash_seed = hash_seed;
	program->qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(rte_rcu_qsbr_get_memsize(WAXSEAL_WORKERS_MAX), RTE_CACHE_LINE_SIZE));
	if (!program->qsbr || rte_rcu_qsbr_init(program->qsbr, WAXSEAL_WORKERS_MAX))
		goto out;
	for (unsigned i = 0; i < WAXSEAL_WORKERS_MAX; i++)
		rte_rcu_qsbr_thread_register(program->qsbr, i);
	if (program_steer(program, NULL, 0, &all, 1, error, error_len))
		goto out;
	program->bpf = rte_bpf_elf_load(&params, path, WAXSEAL_DPDK_SECTION);
	if (!program->bpf) {
		port_fail(rte_errno, error, error_len, "%s: librte_bpf does not take it: %s", path, rte_strerror(rte_errno));
		goto out;
	}
	rte_bpf_get_jit(program->bpf, &program->jit);
	current = program;
	return program;
out:
	program_free(program);
	return NULL;
}

void program_free(struct program *program)
{
	if (!program)
		return;
	if (current == program)
		current = NULL;
	rte_bpf_destroy(program->bpf);
	free_tables(program->tables);
	free(program->qsbr);
	free(program);
}
