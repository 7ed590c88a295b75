/*
 * classify.dpdk.c - the classifier for librte_bpf, where DPDK owns the port.
 *
 * Enters: a pointer to a struct verdict in an mbuf's headroom, which holds a struct classifier_input for
 * now, with the frame right behind it. Leaves: the verdict in its place; the value returned is its action.
 * Prefix look-ups are external functions; the pools of workers are theirs, too.
 */
#include "verdict.h"

#define CLASSIFY_PASSES(frame, walk, server_is_source) 0 /* all is in user space already */
#define CLASSIFY_BEYOND(frame, p, n) 0 /* the length has been compared; librte_bpf wants no more */

extern __u64 waxseal_steer4(__u64 address, __u64 hash);
extern __u64 waxseal_steer6(__u64 high, __u64 low, __u64 hash);
#define steer4 waxseal_steer4
#define steer6 waxseal_steer6

#include "classify.h"

__attribute__((section(WAXSEAL_DPDK_SECTION), used)) __u64 waxseal_classify(struct verdict *area)
{
	const struct classifier_input *input = (const struct classifier_input *)area;
	struct frame frame = {
		.base = (__u8 *)(area + 1),
		.end = input->frame_len,
		.from_outside = input->from_outside,
		.hash_seed = input->hash_seed,
	};
	classify(&frame, area);
	return area->action;
}

_Static_assert(sizeof(struct verdict) == WAXSEAL_VERDICT_BYTES, "both programs and their readers agree");
_Static_assert(sizeof(struct classifier_input) == sizeof(struct verdict), "they share a place");
