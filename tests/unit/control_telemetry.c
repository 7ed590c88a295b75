/* control/policy/telemetry.c against a server of its own on a socket: what it answers, and when it does not. */
#include "control_harness.h"

#include "../../control/policy/telemetry.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static char folder[] = "/tmp/waxseal-telemetry-XXXXXX";
static char path[64];
static pid_t server;

/* Answers each command with `answer` of `len` bytes (SIZE_MAX: a text); closes at once for NULL. Ends with its one client. */
static void serve(const char *hello, const char *answer, size_t len)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listening = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (len == SIZE_MAX)
		len = strlen(answer);
	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listening, 1), 0);
	server = fork();
	if (server == 0) {
		char command[1024];
		int fd = accept(listening, NULL, NULL);

		if (hello && *hello)
			send(fd, hello, strlen(hello), 0);
		while (answer && hello && recv(fd, command, sizeof(command), 0) > 0)
			send(fd, answer, len, MSG_NOSIGNAL);
		_exit(0);
	}
	close(listening);
}

static int reap(void **state)
{
	(void)state;
	if (server > 0) {
		kill(server, SIGTERM);
		waitpid(server, NULL, 0);
	}
	server = 0;
	return 0;
}

static struct telemetry *opened(void)
{
	struct telemetry *t = telemetry_open(path, h_error, sizeof(h_error));

	if (!t)
		fail_msg("%s", h_error);
	return t;
}

/* What a DPDK name cannot hold comes as '/' and '_', and leaves as stats.h has it. */
static void answers_leave_with_their_own_names(void **state)
{
	static const char text[] =
		"{\"/waxseal/destination\":{\"name\":\"*\",\"bytes_client\":1,\"sessions/outbound/sealed\":5,\"reasons/not_offered\":7}}";
	(void)state;
	serve("{\"version\":\"x\"}", text, strlen(text));
	struct telemetry *t = opened();
	for (int i = 0; i < 2; i++) {
		json_t *value = telemetry_ask(t, "/waxseal/destination,0", h_error, sizeof(h_error));
		assert_int_equal(json_object_size(value), 4);
		assert_string_equal(json_string_value(json_object_get(value, "name")), "*");
		assert_int_equal(json_integer_value(json_object_get(value, "bytes_client")), 1);
		assert_int_equal(json_integer_value(json_object_get(value, "sessions.outbound.sealed")), 5);
		assert_int_equal(json_integer_value(json_object_get(value, "reasons.not-offered")), 7);
		json_decref(value);
	}
	telemetry_close(t);
}

static void an_array_of_answers_ends_at_its_limit(void **state)
{
	(void)state;
	serve("{}", "{\"/waxseal/worker\":{\"flows\":1}}", SIZE_MAX);
	struct telemetry *t = opened();
	json_t *all = telemetry_ask_all(t, "/waxseal/worker", 3, h_error, sizeof(h_error));
	assert_int_equal(json_array_size(all), 3);
	json_decref(all);
	assert_null(telemetry_ask_all(t, "/waxseal/port", 3, h_error, sizeof(h_error))); /* the answer to something else */
	telemetry_close(t);
}

static void an_empty_answer_ends_an_array(void **state)
{
	(void)state;
	serve("{}", "{\"/waxseal/worker\":null}", SIZE_MAX);
	struct telemetry *t = opened();
	json_t *one = telemetry_ask(t, "/waxseal/worker,9", h_error, sizeof(h_error));
	assert_true(json_is_null(one));
	json_decref(one);
	json_t *all = telemetry_ask_all(t, "/waxseal/worker", 3, h_error, sizeof(h_error));
	assert_true(json_is_array(all));
	assert_int_equal(json_array_size(all), 0);
	json_decref(all);
	telemetry_close(t);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	serve("{}", "{\"/waxseal/status\":", SIZE_MAX);
	struct telemetry *t = opened();
	assert_null(telemetry_ask(t, "/waxseal/status", h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "is not its JSON"));
	telemetry_close(t);
}

static void a_long_answer_is_whole(void **state)
{
	static char longest[150000];
	(void)state;
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "{\"/waxseal/flows\":\"", 19);
	memcpy(longest + sizeof(longest) - 2, "\"}", 2);
	serve("{}", longest, sizeof(longest));
	struct telemetry *t = opened();
	json_t *value = telemetry_ask(t, "/waxseal/flows,0", h_error, sizeof(h_error));
	assert_int_equal(json_string_length(value), sizeof(longest) - 21);
	json_decref(value);
	telemetry_close(t);
}

static void a_server_that_says_nothing(void **state)
{
	(void)state;
	serve("", "x", 1); /* accepts, and sends no hello */
	assert_null(telemetry_open(path, h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "does not answer within 1000 ms"));
}

static void a_server_that_goes_away(void **state)
{
	(void)state;
	serve(NULL, NULL, 0);
	assert_null(telemetry_open(path, h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "closed the connection"));
	reap(NULL);
	serve("{}", NULL, 0);
	struct telemetry *t = opened();
	assert_null(telemetry_ask(t, "/waxseal/status", h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, path));
	telemetry_close(t);
}

static void nobody_there(void **state)
{
	char longest[200];

	(void)state;
	unlink(path);
	assert_null(telemetry_open(path, h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "waxseald is not running"));
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_null(telemetry_open(longest, h_error, sizeof(h_error)));
	assert_non_null(strstr(h_error, "too long"));
	telemetry_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(answers_leave_with_their_own_names, reap), cmocka_unit_test_teardown(a_long_answer_is_whole, reap),
		cmocka_unit_test_teardown(an_array_of_answers_ends_at_its_limit, reap),
		cmocka_unit_test_teardown(an_empty_answer_ends_an_array, reap), cmocka_unit_test_teardown(nonsense_is_refused, reap),
		cmocka_unit_test_teardown(a_server_that_says_nothing, reap),
		cmocka_unit_test_teardown(a_server_that_goes_away, reap), cmocka_unit_test_teardown(nobody_there, reap),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/socket", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
