/* takeover/pump.c: slow peers, and every order of close. */
#include "takeover_harness.h"

/* tcp/private.h, which takeover/ does not see */
uint8_t *tcp_chunk_take(struct tcp_pool *pool);
void tcp_chunk_give(struct tcp_pool *pool, uint8_t *chunk);
uint32_t tcp_pool_spare(const struct tcp_pool *pool);

static void test_quit_and_the_server_closes(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "QUIT\r\n");
	hears(SERVER, "QUIT\r\n");
	says(SERVER, "221 bye\r\n");
	SSL_shutdown(w.tls.ssl);
	scene_settle();
	tcp_shutdown(w.peer[SERVER]);
	scene_settle();
	hears(CLIENT, "221 bye\r\n");
	assert_true(tcp_eof(w.peer[CLIENT]));
	assert_true(SSL_get_shutdown(w.tls.ssl) & SSL_RECEIVED_SHUTDOWN);
	assert_false(takeover_done(w.t));
	tcp_shutdown(w.peer[CLIENT]);
	scene_settle();
	assert_true(takeover_done(w.t)); /* flow/ answers for it from here on */
	assert_false(w.reset[CLIENT] || w.reset[SERVER]);
}

/* A server that has closed its socket answers the close_notify with a reset. The client has all it can have by then. */
static void test_a_reset_behind_the_servers_end_is_not_the_clients(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "QUIT\r\n");
	says(SERVER, "221 bye\r\n");
	enum side server = SERVER;
	tcp_shutdown(w.peer[SERVER]);
	tcp_output(w.peer[SERVER], w.now, w_peer_emit, &server);
	tcp_abort(w.peer[SERVER]); /* it does not even acknowledge */
	tcp_output(w.peer[SERVER], w.now, w_peer_emit, &server);
	scene_settle();
	hears(CLIENT, "221 bye\r\n");
	assert_true(tcp_eof(w.peer[CLIENT]));
	tcp_shutdown(w.peer[CLIENT]);
	scene_settle();
	assert_true(takeover_done(w.t));
	assert_false(w.reset[CLIENT]);
}

static void test_client_closes_its_half_and_still_hears(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	tcp_shutdown(w.peer[CLIENT]);
	scene_settle();
	hears(SERVER, "NOOP\r\n");
	assert_false(tcp_eof(w.peer[SERVER])); /* with a close_notify Postfix would not answer any more */
	says(SERVER, "250 ok\r\n");
	hears(CLIENT, "250 ok\r\n");
	assert_true(tcp_eof(w.peer[SERVER]));
	tcp_shutdown(w.peer[SERVER]);
	scene_wait(60000000);
	assert_true(tcp_eof(w.peer[CLIENT]));
	assert_true(takeover_done(w.t));
}

static void test_server_closes_with_a_reply_due(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	tcp_shutdown(w.peer[SERVER]);
	scene_settle();
	assert_memory_equal(w.heard[CLIENT], "421 4.4.2 ", 10);
	assert_true(tcp_eof(w.peer[CLIENT]));
}

static void test_resets_are_passed_on(void **state)
{
	(void)state;
	in_tls();
	tcp_abort(w.peer[CLIENT]);
	scene_settle();
	assert_true(w.reset[SERVER]);
	assert_true(takeover_done(w.t));
	scene_again();
	says(CLIENT, MAIL);
	server_begins_tls(&w.cert);
	says(SERVER, TLS_HELLO);
	tcp_abort(w.peer[SERVER]);
	scene_settle();
	assert_true(w.reset[CLIENT]);
	assert_true(takeover_done(w.t));
}

static void test_reset_while_upgrading_is_a_reply(void **state)
{
	(void)state;
	scene_begin();
	says(CLIENT, MAIL);
	hears(SERVER, "STARTTLS\r\n");
	tcp_abort(w.peer[SERVER]);
	scene_settle();
	assert_memory_equal(w.heard[CLIENT], "451 4.7.5 ", 10);
	assert_false(w.reset[CLIENT]);
}

static void test_rfc5321_4_5_3_2_idle_client_is_told(void **state)
{
	(void)state;
	in_tls();
	scene_wait(310000000);
	assert_memory_equal(w.heard[CLIENT], "421 4.4.2 ", 10);
	hears(SERVER, "QUIT\r\n");
}

static void test_rfc5321_4_5_3_2_silent_server_is_reported(void **state)
{
	(void)state;
	in_tls();
	says(CLIENT, "NOOP\r\n");
	scene_wait(310000000);
	assert_memory_equal(w.heard[CLIENT], "421 4.4.2 ", 10);
	assert_string_equal(outcome().detail, "the server does not answer");
}

static void test_stop(void **state)
{
	(void)state;
	in_tls();
	takeover_stop(w.t, w.now);
	assert_true(takeover_done(w.t));
	scene_settle();
	assert_true(w.reset[SERVER]);
	assert_memory_equal(w.heard[CLIENT], "421 4.3.2 ", 10);
}

/* A server that does not read stops the client: nothing is buffered without bound. */
static void test_slow_server_slows_the_client(void **state)
{
	static uint8_t block[65536];
	size_t written = 0;
	(void)state;
	in_tls();
	says(CLIENT, "RCPT TO:<b@x.example>\r\nDATA\r\n");
	says(SERVER, "250 ok\r\n354 go\r\n");
	memset(block, 'x', sizeof(block));
	struct tcp_endpoint *server = w.peer[SERVER];
	struct tcp_adoption deaf = w_numbers(1, 1); /* a stand-in: the real one hears nothing, and acknowledges nothing */
	w.peer[SERVER] = tcp_adopt(w.env.pool, &deaf, &tcp_limits_default, w.now);
	for (int i = 0; i < 100; i++) {
		written += tcp_write(w.peer[CLIENT], block, sizeof(block));
		for (int k = 0; k < 10; k++) {
			w_move();
			w.now += 1000;
		}
	}
	assert_true(written > 100000 && written < 2000000);
	tcp_free(w.peer[SERVER]);
	w.peer[SERVER] = server;
}

static void test_a_burst_is_one_record_and_one_ack(void **state)
{
	enum side client = CLIENT;
	uint8_t mail[14000];
	(void)state;
	in_tls();
	says(CLIENT, "DATA\r\n");
	hears(SERVER, "DATA\r\n");
	says(SERVER, "354 go\r\n");
	memset(mail, 'x', sizeof(mail));
	assert_int_equal(tcp_write(w.peer[CLIENT], mail, sizeof(mail)), sizeof(mail));
	w.burst = true;
	tcp_output(w.peer[CLIENT], w.now, w_peer_emit, &client);
	assert_int_equal(w.queued, 0);
	takeover_turn(w.t, w.now);
	unsigned acks = 0;
	const struct wire *first = NULL;
	for (unsigned i = 0; i < w.queued; i++) {
		acks += w.queue[i].to == CLIENT;
		if (w.queue[i].to == SERVER && !first)
			first = &w.queue[i];
	}
	assert_int_equal(acks, 1);
	assert_non_null(first);
	assert_int_equal(first->payload[0], 23);
	assert_int_equal(first->payload[3] << 8 | first->payload[4], sizeof(mail) + 1 + 16); /* RFC 8446, 5.2: its type, and the tag */
	w.burst = false;
	scene_settle();
	assert_int_equal(w.heard_len[SERVER], sizeof(mail));
}

static void test_what_a_burst_brings_before_a_reset_is_delivered(void **state)
{
	enum side client = CLIENT;
	(void)state;
	in_tls();
	w.burst = true;
	tcp_write(w.peer[CLIENT], (const uint8_t *)"NOOP\r\n", 6);
	tcp_output(w.peer[CLIENT], w.now, w_peer_emit, &client);
	tcp_abort(w.peer[CLIENT]);
	tcp_output(w.peer[CLIENT], w.now, w_peer_emit, &client);
	w.burst = false;
	takeover_turn(w.t, w.now);
	scene_settle();
	hears(SERVER, "NOOP\r\n");
	assert_true(w.reset[SERVER]);
}

static void test_duplicates_in_a_burst_are_answered_one_by_one(void **state)
{
	enum side client = CLIENT;
	uint8_t mail[7000];
	(void)state;
	in_tls();
	says(CLIENT, "DATA\r\n");
	says(SERVER, "354 go\r\n");
	memset(mail, 'x', sizeof(mail));
	tcp_write(w.peer[CLIENT], mail, sizeof(mail));
	w.burst = w.lose_next = true; /* the first of five */
	tcp_output(w.peer[CLIENT], w.now, w_peer_emit, &client);
	assert_int_equal(w.queued, 4); /* RFC 5681, 3.2: the third lets the sender repeat the first */
	w.burst = false;
	w.heard_len[SERVER] = 0;
	scene_settle();
	assert_int_equal(w.heard_len[SERVER], sizeof(mail));
}

static void test_a_pool_that_is_short_does_not_hold_the_client(void **state)
{
	static uint8_t *taken[4096];
	uint8_t mail[10000];
	unsigned count = 0;
	(void)state;
	in_tls();
	says(CLIENT, "DATA\r\n");
	hears(SERVER, "DATA\r\n");
	says(SERVER, "354 go\r\n");
	memset(mail, 'x', sizeof(mail));
	assert_int_equal(tcp_write(w.peer[CLIENT], mail, sizeof(mail)), sizeof(mail));
	while (tcp_pool_spare(w.env.pool) > 4)
		taken[count++] = tcp_chunk_take(w.env.pool);
	scene_settle();
	assert_int_equal(w.heard_len[SERVER], sizeof(mail)); /* though there was no room for a whole record */
	while (count)
		tcp_chunk_give(w.env.pool, taken[--count]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_quit_and_the_server_closes), SCENE(test_a_reset_behind_the_servers_end_is_not_the_clients), SCENE(test_client_closes_its_half_and_still_hears),
		SCENE(test_server_closes_with_a_reply_due), SCENE(test_resets_are_passed_on), SCENE(test_reset_while_upgrading_is_a_reply),
		SCENE(test_rfc5321_4_5_3_2_idle_client_is_told), SCENE(test_rfc5321_4_5_3_2_silent_server_is_reported),
		SCENE(test_stop), SCENE(test_slow_server_slows_the_client),
		SCENE(test_a_burst_is_one_record_and_one_ack), SCENE(test_a_pool_that_is_short_does_not_hold_the_client),
		SCENE(test_what_a_burst_brings_before_a_reset_is_delivered),
		SCENE(test_duplicates_in_a_burst_are_answered_one_by_one),
	};
	return cmocka_run_group_tests_name("takeover_pump", tests, NULL, NULL);
}
