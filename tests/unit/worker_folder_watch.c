/* folder_watch.c: what ends a wait, and that what cannot be watched is waited for all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_watch.h"

#define LONG_US 60000000 /* a test that would wait for it hangs visibly */
#define SHORT_US 20000

static char folder[] = "/tmp/waxseal-folder-XXXXXX";
static char image[64], other[64];

static void put(const char *path, int keep_open)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0 && write(fd, "x", 1) == 1);
	if (!keep_open)
		close(fd);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(image, sizeof(image), "%s/policy.image", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(image);
	unlink(other);
	rmdir(folder);
	return 0;
}

static void a_file_that_is_put_in_place_ends_it(void **state)
{
	int watch = folder_watch_open(image);

	(void)state;
	assert_true(watch >= 0);
	assert_false(folder_watch_wait(watch, SHORT_US));
	put(other, 0);
	assert_true(folder_watch_wait(watch, LONG_US)); /* written in place */
	assert_false(folder_watch_wait(watch, SHORT_US)); /* once */
	rename(other, image);
	assert_true(folder_watch_wait(watch, LONG_US));
	put(other, 1); /* a log */
	assert_false(folder_watch_wait(watch, SHORT_US));
	unlink(other);
	assert_false(folder_watch_wait(watch, SHORT_US));
	for (int i = 0; i < 1000; i++) /* more than one read of the kernel's queue */
		put(i % 2 ? other : image, 0);
	assert_true(folder_watch_wait(watch, LONG_US));
	assert_false(folder_watch_wait(watch, SHORT_US));
	close(watch);
}

static void what_cannot_be_watched_is_waited_for(void **state)
{
	int watch = folder_watch_open("/nonexistent/waxseal/policy.image");

	(void)state;
	assert_int_equal(watch, -1);
	assert_false(folder_watch_wait(watch, SHORT_US));
	watch = folder_watch_open("/etc/passwd/policy.image");
	assert_int_equal(watch, -1);
}

static void a_folder_that_goes_is_no_busy_loop(void **state)
{
	char gone[80];
	int watch;

	(void)state;
	snprintf(gone, sizeof(gone), "%s/gone", folder);
	assert_int_equal(mkdir(gone, 0700), 0);
	strcat(gone, "/image");
	watch = folder_watch_open(gone);
	assert_true(watch >= 0);
	*strrchr(gone, '/') = 0;
	rmdir(gone);
	assert_false(folder_watch_wait(watch, SHORT_US)); /* takes the news */
	assert_false(folder_watch_wait(watch, SHORT_US)); /* and waits */
	close(watch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_is_put_in_place_ends_it), cmocka_unit_test(what_cannot_be_watched_is_waited_for),
		cmocka_unit_test(a_folder_that_goes_is_no_busy_loop),
	};
	return cmocka_run_group_tests_name("folder_watch", tests, set_up, tear_down);
}
