/*
 * agent_config.c - the configuration reader of the control programs: defaults, every kind of value, and
 * that each wrong line is refused with its place and what would be right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../control/policy/config.h"

static char error[512];

static int read_text(struct control_config *config, const char *text)
{
	char path[] = "/tmp/waxseal-config-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	error[0] = 0;
	int rc = control_config_read(config, path, error, sizeof(error));
	unlink(path);
	return rc;
}

static void refuses(const char *text, const char *where, const char *what)
{
	struct control_config config;

	assert_int_equal(read_text(&config, text), -1);
	if (!strstr(error, where) || !strstr(error, what))
		fail_msg("\"%s\" should name \"%s\" and \"%s\"", error, where, what);
	assert_null(strchr(error, '\n'));
}

static void defaults_and_values(void **state)
{
	struct control_config config;

	(void)state;
	assert_int_equal(read_text(&config, "; nothing\n"), 0);
	assert_string_equal(config.redis_host, "127.0.0.1");
	assert_int_equal(config.redis_port, 6379);
	assert_string_equal(config.redis_prefix, "waxseal:");
	assert_string_equal(config.metrics_host, "127.0.0.1");
	assert_int_equal(config.metrics_port, 9825);
	assert_string_equal(config.image, "/var/lib/waxseal/policy.image");
	assert_string_equal(config.file_prefix, "waxseal");

	assert_int_equal(read_text(&config, "[ports]\ninside = eth0 ; in\nanything = goes\n"
					    "[dataplane]\nworkers = 3\nfile_prefix = lab\n"
					    "[redis]\naddress = unix:/run/r.sock\nuser = w\npassword = s=e:c#ret\n"
					    "  database = 7\nprefix = lab:\n"
					    "[agent]\nmetrics =\nstate = /tmp/a.json\n"), 0);
	assert_string_equal(config.redis_unix, "/run/r.sock");
	assert_string_equal(config.redis_user, "w");
	assert_string_equal(config.redis_password, "s=e:c#ret");
	assert_int_equal(config.redis_database, 7);
	assert_string_equal(config.redis_prefix, "lab:");
	assert_int_equal(config.metrics_port, 0);
	assert_string_equal(config.state, "/tmp/a.json");
	assert_string_equal(config.file_prefix, "lab");

	assert_true(config.dns_enabled == true);
	assert_int_equal(read_text(&config, "[dns]\nenabled = no\nservers = 192.0.2.53, 2001:db8::53 127.0.0.1@5353\nttl_min_s = 1\n"), 0);
	assert_false(config.dns_enabled);
	assert_string_equal(config.dns_servers, "192.0.2.53, 2001:db8::53 127.0.0.1@5353");
	assert_int_equal(config.dns_ttl_min_s, 1);
	assert_int_equal(config.dns_keep_s, 604800);

	char host[CONTROL_TEXT_MAX];
	uint16_t port;
	assert_int_equal(read_text(&config, "[redis]\naddress = sentinel:my-master@192.0.2.1:26379, [fd77::2]:26380\n"), 0);
	assert_string_equal(config.redis_master, "my-master");
	assert_true(control_sentinel(&config, 0, host, &port) && !strcmp(host, "192.0.2.1") && port == 26379);
	assert_true(control_sentinel(&config, 1, host, &port) && !strcmp(host, "fd77::2") && port == 26380);
	assert_false(control_sentinel(&config, 2, host, &port));

	assert_int_equal(read_text(&config, "[redis]\naddress = [fd77::1]:7000\n"), 0);
	assert_string_equal(config.redis_master, "");
	assert_string_equal(config.redis_host, "fd77::1");
	assert_int_equal(config.redis_port, 7000);
	assert_string_equal(config.redis_unix, "");
}

static void wrong_lines(void **state)
{
	char line[400] = "[agent]\nstate = /";

	(void)state;
	refuses("[redis]\n\naddres = a:1\n", ":3:", "no such option; there are address user password database prefix");
	refuses("[rediss]\naddress = a:1\n", ":2:", "no such section; there are ports dataplane policy tls limits events redis agent dns");
	refuses("[redis]\naddress = localhost\n", ":2:", "host:port");
	refuses("[redis]\naddress = localhost:0\n", ":2:", "host:port");
	refuses("[redis]\naddress = localhost:70000\n", ":2:", "host:port");
	refuses("[redis]\naddress = unix:relative\n", ":2:", "unix:/path");
	refuses("[redis]\ndatabase = -1\n", ":2:", "0 to 65535");
	refuses("[redis]\nprefix = a b\n", ":2:", "without spaces");
	refuses("[redis]\nuser = w\n", "user", "password");
	refuses("[agent]\nmetrics = 9825\n", ":2:", "127.0.0.1:9825");
	refuses("[agent]\nstate =\n", ":2:", "path of a file");
	refuses("[dataplane]\nfile_prefix = ../x\n", ":2:", "without '/'");
	refuses("[agent]\nid = a b\n", ":2:", "at most 63 letters");
	refuses("[dns]\nenabled = true\n", ":2:", "yes or no");
	refuses("[dns]\nservers =\n", ":2:", "127.0.0.1@5353");
	refuses("[dns]\nservers = ns.example.org\n", ":2:", "127.0.0.1@5353");
	refuses("[dns]\nservers = 127.0.0.1@0\n", ":2:", "127.0.0.1@5353");
	refuses("[dns]\nservers = 127.0.0.1, 10.0.0.1@x\n", ":2:", "127.0.0.1@5353");
	refuses("[dns]\nttl_min_s = 0\n", ":2:", "1 to 31536000");
	refuses("[dns]\nkeep_s = -1\n", ":2:", "1 to 31536000");
	refuses("[dns]\nserver = 10.0.0.1\n", ":2:", "no such option; there are enabled servers trust_anchor ttl_min_s keep_s timeout_s");
	refuses("[agent]\njust words\n", ":2:", "name = value");
	memset(line + strlen(line), 'x', 300);
	refuses(line, ":2:", "longer than 198");
}

static void missing_file(void **state)
{
	struct control_config config;

	(void)state;
	assert_int_equal(control_config_read(&config, "/nonexistent/waxseal.conf", error, sizeof(error)), -1);
	assert_non_null(strstr(error, "/nonexistent/waxseal.conf: No such file"));
	assert_int_equal(control_config_read(&config, "/", error, sizeof(error)), -1);
}

static void the_sample_is_read(void **state)
{
	struct control_config config;

	(void)state;
	if (access("deploy/waxseal.conf", R_OK))
		skip();
	if (control_config_read(&config, "deploy/waxseal.conf", error, sizeof(error)))
		fail_msg("%s", error);
	struct control_config initial;
	control_config_default(&initial);
	strcpy(initial.events, config.events); /* an example: by default there are none */
	assert_memory_equal(&config, &initial, sizeof(config)); /* it shows the defaults */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_and_values),
		cmocka_unit_test(wrong_lines),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(the_sample_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
