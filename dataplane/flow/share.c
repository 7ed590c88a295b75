/*
 * share.c - how many flows a prefix of clients has, about.
 *
 * Enters: a flow's client, when it comes and when it goes. Leaves: a count that is never too low. Two rows of
 * counters under two secret hashes, of which the smaller one counts (a count-min sketch): no allocation and no
 * look-up a flow, and a prefix is taken for a busy one only if it meets busy ones in both rows.
 */
#include "private.h"

#include <rte_jhash.h>

#define SHARE_V4_BYTES 15 /* of ::ffff:a.b.c.d: a /24 */
#define SHARE_V6_BYTES 6  /* a /48: what a site is given */

static uint32_t *slot(struct flow_share *share, unsigned row, const uint8_t client[16])
{
	return &share->flows[row][rte_jhash(client, policy_addr_is_ipv4(client) ? SHARE_V4_BYTES : SHARE_V6_BYTES, share->seed[row]) % FLOW_SHARE_SLOTS];
}

uint32_t flow_share_of(struct flow_share *share, const uint8_t client[16])
{
	uint32_t least = UINT32_MAX;
	for (unsigned row = 0; row < FLOW_SHARE_ROWS; row++)
		if (*slot(share, row, client) < least)
			least = *slot(share, row, client);
	return least;
}

void flow_share_take(struct flow_share *share, const uint8_t client[16])
{
	for (unsigned row = 0; row < FLOW_SHARE_ROWS; row++)
		++*slot(share, row, client);
}

void flow_share_give(struct flow_share *share, const uint8_t client[16])
{
	for (unsigned row = 0; row < FLOW_SHARE_ROWS; row++) {
		uint32_t *flows = slot(share, row, client);
		BUG_ON(!*flows);
		--*flows;
	}
}
