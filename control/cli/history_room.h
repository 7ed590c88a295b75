/*
 * history_room.h - room for one more entry in the history: how many of the oldest have to go for it.
 *
 * The history is bounded by entries (GENERATION_HISTORY_MAX) and by bytes ([redis] history_mb; an entry's are those of its fields'
 * names and values). <prefix>history_bytes has their sum, which is written in the transaction that adds the entry; where it is missing
 * or cannot be right it is counted anew. The newest entry is kept however large it is.
 */
#ifndef WAXSEAL_HISTORY_ROOM_H
#define WAXSEAL_HISTORY_ROOM_H

#include <hiredis/hiredis.h>

#include "cli.h"

struct history_room {
	uint64_t keep;     /* entries that stay, the new one among them */
	uint64_t bytes;    /* of all of them */
	uint64_t squeezed; /* entries that go because of bytes */
};
/* For an entry of so many bytes. 0, or -1 with `error`. Between WATCH and MULTI. */
int history_room(const struct cli *cli, redisContext *redis, uint64_t entry_bytes, struct history_room *room, char *error, size_t error_len);

#endif
