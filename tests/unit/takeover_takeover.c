/* takeover/takeover.c: adoption without room, what peers sent before it, time and outcomes. */
#include "takeover_harness.h"

static void test_no_room_leaves_nothing_behind(void **state)
{
	struct tcp_pool *real = w.env.pool, *tiny = tcp_pool_new(0);
	(void)state;
	w.env.pool = tiny;
	w.params.end[CLIENT].unacked = (const uint8_t *)"220 mx\r\n";
	w.params.end[CLIENT].snd_nxt += 8;
	assert_null(takeover_new(&w.env, &w.params, w.now));
	assert_int_equal(tcp_pool_used(tiny), 0);
	w.env.pool = real;
	tcp_pool_free(tiny);
}

/* The server's last reply was forwarded and lost: the end that plays the server sends it again. */
static void test_unacknowledged_bytes_are_sent_again(void **state)
{
	(void)state;
	w.params.end[CLIENT].unacked = (const uint8_t *)"250 hi\r\n";
	w.params.end[CLIENT].snd_nxt += 8;
	scene_begin();
	scene_wait(3000000);
	hears(CLIENT, "250 hi\r\n");
}

static void test_session_without_mail(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, "QUIT\r\n");
	hears(SERVER, "QUIT\r\n");
	says(SERVER, "221 bye\r\n");
	assert_int_equal(outcome().end, END_NOTHING);
	assert_string_equal(takeover_phase(w.t), "clear");
}

static void test_deadline_is_the_nearest(void **state)
{
	(void)state;
	scene_begin();
	scene_settle();
	assert_int_equal(takeover_deadline_us(w.t), 1000000 + 300000000);
	says(CLIENT, "MAIL FROM:<a@b.example>\r\n");
	says(SERVER, "220 go\r\n");
	assert_true(takeover_deadline_us(w.t) <= w.now + 30000000);
}

/* Found by the simulator, seed 102967: each of them began the server's 30 seconds anew. */
static void test_a_client_that_talks_on_prolongs_nothing(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, "MAIL FROM:<a@b.example>\r\n");
	says(SERVER, "220 go\r\n"); /* and nothing more */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(w.heard_len[CLIENT], 0);
		scene_wait(9000000);
		says(CLIENT, "NOOP\r\n");
	}
	scene_wait(9000000);
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5 ", 10);
}

static void test_too_big(void **state)
{
	struct tcp_info info;
	(void)state;
	scene_begin();
	takeover_too_big(w.t, SERVER, 1, 600, w.now); /* not in flight: RFC 5927 */
	says(CLIENT, "NOOP\r\n");
	tcp_info(w.t->end[SERVER], &info);
	assert_false(info.dead);
	hears(SERVER, "NOOP\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_no_room_leaves_nothing_behind), SCENE(test_unacknowledged_bytes_are_sent_again), SCENE(test_session_without_mail),
		SCENE(test_deadline_is_the_nearest), SCENE(test_a_client_that_talks_on_prolongs_nothing), SCENE(test_too_big),
	};
	return cmocka_run_group_tests_name("takeover_takeover", tests, NULL, NULL);
}
