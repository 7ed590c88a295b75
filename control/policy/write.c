/*
 * write.c - a compiled image to disk, so that a reader sees the old one or the new one, whole.
 *
 * Enters: bytes and the name they are to have. Leaves: the file, durable: temporary name in the same folder,
 * write, fsync, rename, fsync of the folder. On any error the old file stands and the temporary one is gone.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_FILE_MODE 0644 /* waxseald may run as another user; the image holds no secret */

static int fail(char *error, size_t error_len, const char *what, const char *path)
{
	int err = errno ? errno : EIO;

	snprintf(error, error_len, "cannot %s %s: %s", what, path, strerror(err));
	return -err;
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_folder(const char *path, char *error, size_t error_len)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd, err = 0;

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		err = fail(error, error_len, "sync the folder", folder);
	if (fd >= 0)
		close(fd);
	return err;
}

int image_write(const char *path, const void *image, size_t len, char *error, size_t error_len)
{
	char temporary[PATH_MAX];
	int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	int fd, err = 0;

	if (n < 0 || (size_t)n >= sizeof(temporary)) {
		errno = ENAMETOOLONG;
		return fail(error, error_len, "write", path);
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return fail(error, error_len, "create", temporary);
	if (write_all(fd, image, len) != 0 || fchmod(fd, IMAGE_FILE_MODE) != 0 || fsync(fd) != 0)
		err = fail(error, error_len, "write", temporary);
	if (close(fd) != 0 && !err)
		err = fail(error, error_len, "close", temporary);
	if (!err && rename(temporary, path) != 0)
		err = fail(error, error_len, "rename to", path);
	if (err) {
		unlink(temporary);
		return err;
	}
	return sync_folder(path, error, error_len);
}
