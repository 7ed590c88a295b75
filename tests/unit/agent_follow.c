/*
 * agent_follow.c - a file that grows, is rotated, cut, taken away, and found again after a restart: each line once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../control/agent/follow.h"

static char folder[] = "/tmp/follow-XXXXXX", path[64], other[64], got[4096];
static struct follow follow;

static void on_line(void *context, const char *line, size_t len)
{
	(void)context;
	snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.*s|", (int)(len > 40 ? 40 : len), line);
}

static void append(const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void reads(const char *expected)
{
	got[0] = 0;
	for (int i = 0; i < 3; i++)
		while (!follow_read(&follow, on_line, NULL))
			;
	assert_string_equal(got, expected);
}

static int begin(void **state)
{
	(void)state;
	unlink(path);
	unlink(other);
	follow_init(&follow, path, (struct follow_position){0});
	return 0;
}

static int end(void **state)
{
	(void)state;
	follow_dispose(&follow);
	return 0;
}

static void grows(void **state)
{
	(void)state;
	reads("");
	append("one\ntwo\nthr");
	reads("one|two|");
	append("ee\n\n");
	reads("three|");
	reads("");
}

static void rotated(void **state)
{
	(void)state;
	append("a\n");
	reads("a|");
	append("b\n");
	rename(path, other);
	append("c\n");
	reads("b|c|");
	unlink(path);
	reads("");
	append("d\n");
	reads("d|");
}

static void truncated(void **state)
{
	(void)state;
	append("first\nsecond\n");
	reads("first|second|");
	assert_int_equal(truncate(path, 0), 0);
	reads("");
	append("x\n");
	reads("x|");
}

static void restarted(void **state)
{
	(void)state;
	append("a\nb\nhalf");
	reads("a|b|");
	struct follow_position at = follow_position(&follow);
	follow_dispose(&follow);
	append(" line\nc\n");
	follow_init(&follow, path, at);
	reads("half line|c|");
	at = follow_position(&follow);
	follow_dispose(&follow);
	rename(path, other); /* while it was away */
	append("d\n");
	follow_init(&follow, path, at);
	reads("d|");
}

static void limits(void **state)
{
	static char text[FOLLOW_LINE_MAX + 100];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	append("a\n");
	append(text);
	append("\nb\n");
	reads("a|b|");
	assert_true(follow.skipped_bytes >= FOLLOW_LINE_MAX);
	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(ftruncate(fd, (off_t)FOLLOW_BACKLOG_MAX + 100), 0); /* a hole of zeros: one line of them */
	close(fd);
	follow_dispose(&follow);
	append("\nlast\n");
	follow_init(&follow, path, (struct follow_position){0});
	reads("last|");
}

static void no_regular_file(void **state)
{
	(void)state;
	follow_dispose(&follow);
	follow_init(&follow, folder, (struct follow_position){0});
	reads("");
	follow_init(&follow, "/dev/zero", (struct follow_position){0});
	reads("");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {TEST(grows), TEST(rotated), TEST(truncated), TEST(restarted), TEST(limits), TEST(no_regular_file)};

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/events", folder);
	snprintf(other, sizeof(other), "%s/events.1", folder);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	begin(NULL);
	rmdir(folder);
	return failed;
}
