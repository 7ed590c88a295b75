/*
 * follow.c - see follow.h. Nothing here waits: a file that is no regular one is not opened.
 */
#include "follow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 65536

void follow_init(struct follow *follow, const char *path, struct follow_position from)
{
	*follow = (struct follow){.path = path, .fd = -1, .inode = from.inode, .offset = from.offset};
}

static void forget(struct follow *follow)
{
	if (follow->fd >= 0)
		close(follow->fd);
	follow->fd = -1;
	follow->len = 0;
	follow->skipping = false;
}

void follow_dispose(struct follow *follow) { forget(follow); }

static void go_to(struct follow *follow, uint64_t offset)
{
	follow->offset = offset;
	follow->len = 0;
	follow->skipping = false;
}

static void open_file(struct follow *follow)
{
	struct stat st;

	follow->fd = open(follow->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (follow->fd < 0)
		return;
	if (fstat(follow->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		forget(follow);
		return;
	}
	if (st.st_ino != follow->inode || (uint64_t)st.st_size < follow->offset)
		go_to(follow, 0);
	follow->inode = st.st_ino;
	if ((uint64_t)st.st_size - follow->offset > FOLLOW_BACKLOG_MAX) {
		uint64_t from = (uint64_t)st.st_size - FOLLOW_BACKLOG_MAX;
		follow->skipped_bytes += from - follow->offset;
		go_to(follow, from);
		follow->skipping = true;
	}
}

static void take(struct follow *follow, const char *data, size_t len, follow_line *line, void *context)
{
	while (len) {
		const char *newline = memchr(data, '\n', len);
		size_t n = newline ? (size_t)(newline - data) : len;
		if (!follow->skipping && follow->len + n > sizeof(follow->line)) {
			follow->skipping = true;
			follow->skipped_bytes += follow->len;
			follow->len = 0;
		}
		if (follow->skipping) {
			follow->skipped_bytes += n;
		} else {
			memcpy(follow->line + follow->len, data, n);
			follow->len += n;
		}
		if (newline) {
			if (!follow->skipping && follow->len) {
				follow->lines++;
				line(context, follow->line, follow->len);
			}
			follow->len = 0;
			follow->skipping = false;
		}
		n += newline != NULL;
		data += n;
		len -= n;
	}
}

/* At the end of what is open: is there another file under the name, or is this one shorter than it was? */
static void look_again(struct follow *follow)
{
	struct stat named, open;

	if (fstat(follow->fd, &open) == 0 && (uint64_t)open.st_size < follow->offset) {
		go_to(follow, 0);
		follow->rotations++;
	}
	if (stat(follow->path, &named) != 0 || named.st_ino == follow->inode)
		return;
	forget(follow);
	follow->rotations++;
}

bool follow_read(struct follow *follow, follow_line *line, void *context)
{
	static char data[CHUNK];
	size_t left = FOLLOW_PIECE_MAX;

	if (follow->fd < 0)
		open_file(follow);
	while (follow->fd >= 0 && left >= CHUNK) {
		ssize_t n = pread(follow->fd, data, CHUNK, (off_t)follow->offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			look_again(follow);
			return true;
		}
		follow->offset += (uint64_t)n;
		left -= (size_t)n;
		take(follow, data, (size_t)n, line, context);
	}
	return follow->fd < 0;
}

struct follow_position follow_position(const struct follow *follow)
{
	return (struct follow_position){follow->inode, follow->offset - follow->len};
}
