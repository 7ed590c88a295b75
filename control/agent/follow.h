/*
 * follow.h - a growing file of lines, read as it grows: waxseald's session events.
 *
 * Enters: the path. Leaves: each whole line once. It survives rotation (a new file under the name: the old one is read to
 * its end first), truncation, absence and a restart (follow_position). It reads a bounded piece at a time, and of a
 * backlog longer than FOLLOW_BACKLOG_MAX only the end; what it leaves out is counted.
 */
#ifndef WAXSEAL_FOLLOW_H
#define WAXSEAL_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FOLLOW_LINE_MAX 16384
#define FOLLOW_PIECE_MAX (1u << 20)     /* bytes read at one call */
#define FOLLOW_BACKLOG_MAX (64u << 20)  /* bytes */

struct follow_position {
	uint64_t inode, offset;
};

struct follow {
	const char *path;
	int fd; /* -1: not open */
	uint64_t inode, offset;
	bool skipping; /* the rest of a line that is too long, or of one whose beginning was left out */
	char line[FOLLOW_LINE_MAX];
	size_t len;
	uint64_t lines, skipped_bytes, rotations;
};

typedef void follow_line(void *context, const char *line, size_t len);

void follow_init(struct follow *follow, const char *path, struct follow_position from);
void follow_dispose(struct follow *follow);
/* False: there is more to read at once. */
bool follow_read(struct follow *follow, follow_line *line, void *context);
struct follow_position follow_position(const struct follow *follow); /* behind the last whole line */

#endif
