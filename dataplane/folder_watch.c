/*
 * folder_watch.c - see folder_watch.h. The folder is watched rather than the file: a rename puts another one in its place.
 */
#include "folder_watch.h"

#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096

int folder_watch_open(const char *file)
{
	char path[PATH_BYTES_MAX];
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (watch < 0)
		return -1;
	snprintf(path, sizeof(path), "%s", file);
	if (inotify_add_watch(watch, dirname(path), IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR) >= 0)
		return watch;
	close(watch);
	return -1;
}

bool folder_watch_wait(int watch, unsigned timeout_us)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct pollfd fd = {.fd = watch, .events = POLLIN}; /* poll passes over one that is negative */
	bool written = false;

	if (poll(&fd, 1, (int)(timeout_us / 1000)) <= 0)
		return false;
	for (ssize_t n; (n = read(watch, events, sizeof(events))) > 0;)
		for (char *at = events; at < events + n; at += sizeof(struct inotify_event) + ((const struct inotify_event *)at)->len)
			written |= (((const struct inotify_event *)at)->mask & (IN_MOVED_TO | IN_CLOSE_WRITE | IN_Q_OVERFLOW)) != 0;
	return written;
}
