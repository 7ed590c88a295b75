/* config.c: waxseald's configuration: defaults, every kind of value, and that each wrong line is refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

#define PORTS_GIVEN "[ports]\ninside = eth0\noutside = eth1\n"

static struct config config;
static char error[512];

static int read_text(const char *text)
{
	char path[] = "/tmp/waxseal-config-XXXXXX";
	int fd = mkstemp(path), rc;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	error[0] = '\0';
	rc = config_read(&config, path, error, sizeof(error));
	unlink(path);
	return rc;
}

static void takes(const char *text)
{
	if (read_text(text) != 0)
		fail_msg("%s: refused: %s", text, error);
}

static void refuses(const char *text, const char *where, const char *what)
{
	if (read_text(text) == 0)
		fail_msg("%s: taken", text);
	if (!strstr(error, where) || !strstr(error, what) || strchr(error, '\n'))
		fail_msg("\"%s\" should name \"%s\" and \"%s\"", error, where, what);
}

static void defaults(void **state)
{
	(void)state;
	takes(PORTS_GIVEN);
	assert_string_equal(config.port[INSIDE], "eth0");
	assert_string_equal(config.port[OUTSIDE], "eth1");
	assert_true(config.fail_open);
	assert_int_equal(config.workers, 1);
	assert_false(config.run_to_completion);
	assert_int_equal(config_lcores(&config), 1);
	assert_int_equal(config.cpu_count, 1);
	assert_string_equal(config.file_prefix, "waxseal");
	assert_string_equal(config.image, "/var/lib/waxseal/policy.image");
	assert_string_equal(config.events, "");
	assert_int_equal(config.failure_memory_s, 3600);
	assert_int_equal(config.flows, 65536);
	assert_int_equal(config.prefix_percent, 25);
	assert_int_equal(config.embryonic_percent, 25);
	assert_int_equal(config.answered_percent, 50);
	assert_int_equal(config.held_segments, 64);
}

static void limits(void **state)
{
	(void)state;
	takes(PORTS_GIVEN "[limits]\nflows = 1100000\nprefix_percent = 10\nembryonic_percent = 100\nanswered_percent = 40\nheld_segments = 4\n");
	assert_int_equal(config.flows, 1100000);
	assert_int_equal(config.prefix_percent, 10);
	assert_int_equal(config.embryonic_percent, 100);
	assert_int_equal(config.answered_percent, 40);
	assert_int_equal(config.held_segments, 4);
	refuses(PORTS_GIVEN "[limits]\nprefix_percent = 101\n", ":5:", "a number from 1 to 100");
	refuses(PORTS_GIVEN "[limits]\nheld_segments = 0\n", ":5:", "a number from 4 to 1024");
}

static void values(void **state)
{
	(void)state;
	takes("; a comment\n# another\n[ports]\ninside = 0000:03:00.0 ; in\noutside=vdev:net_tap0\n  fail = closed\n"
	      "[dataplane]\nworkers = 2\n\tcpus = 1,2,3\nmbufs = 4194304\nmemory_mb = 64\nfile_prefix = lab\nbpf_dir = /b\n"
	      "[policy]\nimage = /i\n[tls]\nca_file = /ca\nfailure_memory_s = 0\n[limits]\nflows = 64\ntakeovers = 1\nbuffer_mb = 1\n"
	      "[events]\nfile = /e\n[redis]\naddress = anything\n[agent]\nwhat = ever\n");
	assert_string_equal(config.port[INSIDE], "0000:03:00.0");
	assert_string_equal(config.port[OUTSIDE], "vdev:net_tap0");
	assert_false(config.fail_open);
	assert_int_equal(config.workers, 2);
	assert_true(config_pipeline(&config));
	assert_int_equal(config_lcores(&config), 3);
	assert_int_equal(config.cpu_count, 3);
	assert_int_equal(config.cpus[2], 3);
	assert_int_equal(config.mbufs, 4194304);
	assert_string_equal(config.file_prefix, "lab");
	assert_string_equal(config.ca_file, "/ca");
	assert_int_equal(config.failure_memory_s, 0);
	assert_int_equal(config.buffer_mb, 1);
	assert_string_equal(config.events, "/e");
	takes(PORTS_GIVEN "[dataplane]\nlayout = run-to-completion\nworkers = 2\ncpus = 4,5\n");
	assert_true(config.run_to_completion);
	assert_false(config_pipeline(&config));
	assert_int_equal(config_lcores(&config), 2);
	takes(PORTS_GIVEN "[dataplane]\nlayout = pipeline\n");
	assert_false(config_pipeline(&config));
	takes(PORTS_GIVEN "[events]\nfile =\n");
	assert_string_equal(config.events, "");
}

static void wrong_lines(void **state)
{
	(void)state;
	refuses("[ports]\ninside =\noutside = b\n", ":2:", "1 to 255");
	refuses("[ports]\nfail = Open\n", ":2:", "open or closed");
	refuses("[ports]\nmiddle = c\n", ":2:", "no such option; there are inside outside fail");
	refuses("[port]\ninside = a\n", ":2:", "no such section; sections are ports");
	refuses("[dataplane]\n\nworkers = 0\n", ":3:", "1 to 16");
	refuses("[dataplane]\nworkers = 17\n", ":2:", "1 to 16");
	refuses("[dataplane]\nworkers = -1\n", ":2:", "1 to 16");
	refuses("[dataplane]\nworkers = 2x\n", ":2:", "1 to 16");
	refuses("[dataplane]\nworkers = 99999999999999999999999\n", ":2:", "1 to 16");
	refuses("[dataplane]\nlayout = rtc\n", ":2:", "[dataplane] layout = rtc: not pipeline or run-to-completion");
	refuses("[dataplane]\nmbufs = 100\n", ":2:", "8192 to 4194304");
	refuses("[dataplane]\ncpus =\n", ":2:", "list of CPU numbers");
	refuses("[dataplane]\ncpus = 1;2\n", ":2:", "list of CPU numbers");
	refuses("[dataplane]\ncpus = 1,-2\n", ":2:", "list of CPU numbers");
	refuses("[dataplane]\ncpus = 1024\n", ":2:", "list of CPU numbers");
	refuses("[dataplane]\ncpus = 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\n", ":2:", "list of CPU numbers");
	refuses("[limits]\nflows = 63\n", ":2:", "64 to");
	refuses("[policy]\njust words\n", ":2:", "name = value");
	refuses("inside = a\n", ":1:", "no such section");
}

/* inih would take an indented line for more of the one before, and cut a long one in two. */
static void lines_are_lines(void **state)
{
	char longest[400] = PORTS_GIVEN "[policy]\nimage = /";

	(void)state;
	takes(PORTS_GIVEN "[tls]\nca_file = /ca\n  failure_memory_s = 5\n");
	assert_string_equal(config.ca_file, "/ca");
	assert_int_equal(config.failure_memory_s, 5);
	memset(longest + strlen(longest), 'x', 300);
	refuses(longest, ":5:", "longer than");
}

static void the_whole(void **state)
{
	(void)state;
	refuses("[ports]\ninside = a\n", "[ports] outside", "is missing");
	refuses("", "[ports] inside", "is missing");
	refuses(PORTS_GIVEN "[dataplane]\nworkers = 2\ncpus = 1,2\n", "cpus", "2 workers and I/O need 3 CPUs, listed are 2");
	refuses(PORTS_GIVEN "[dataplane]\nlayout = run-to-completion\nworkers = 3\ncpus = 1,2\n", "cpus", "3 workers need 3 CPUs, listed are 2");
	assert_int_equal(config_read(&config, "/nonexistent/waxseal.conf", error, sizeof(error)), -1);
	assert_non_null(strstr(error, "/nonexistent/waxseal.conf: No such file"));
	assert_int_equal(config_read(&config, "/", error, sizeof(error)), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(limits), cmocka_unit_test(values), cmocka_unit_test(wrong_lines),
					   cmocka_unit_test(lines_are_lines), cmocka_unit_test(the_whole)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
