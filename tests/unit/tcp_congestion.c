/* tcp/congestion.c: IW10, slow start, both ways to avoid congestion, restart after idle. */
#include "tcp_harness.h"

static struct tcp_info info(void)
{
	struct tcp_info i;
	tcp_info(h.ep, &i);
	return i;
}

static void adopt(const char *name)
{
	h.limits.congestion = name;
	h.limits.send_buffer_bytes_max = 2000000;
	h.adoption.snd_wscale = 6;
	h.adoption.snd_wnd = 2000000;
	h_adopt();
}

static void fill(void)
{
	tcp_write(h.ep, h_bytes + (h.ep->snd_end - OUT) % 1000000, tcp_write_room(h.ep));
	h_output();
}

/* A round trip in which all that is under way is acknowledged, two segments at a time. */
static void round_trip(void)
{
	uint32_t end = h.ep->snd_nxt - OUT;
	h_pass(100 * MILLISECONDS);
	for (uint32_t at = h.ep->snd_una - OUT; at < end;) {
		at = min_u32(at + 2000, end);
		h_input((struct seg){.ack = at, .window = 2000000});
		fill();
	}
}

/* RFC 6928 */
static void rfc6928_2_it_begins_with_ten_segments(void **state)
{
	(void)state;
	adopt("newreno");
	fill();
	assert_int_equal(h.sent_count, 10);
	h.adoption.mss = 1460;
	h.adoption.ts_ok = true;
	struct tcp_endpoint *other = tcp_adopt(h.pool, &h.adoption, &h.limits, h.now_us);
	struct tcp_info i;
	tcp_info(other, &i);
	assert_int_equal(i.cwnd, 14480);
	tcp_free(other);
}

/* RFC 5681, 3.1 */
static void rfc5681_3_1_slow_start_doubles(void **state)
{
	(void)state;
	adopt("newreno");
	fill();
	round_trip();
	assert_int_equal(info().cwnd, 20000);
	round_trip();
	assert_int_equal(info().cwnd, 40000);
}

static void rfc5681_3_1_newreno_grows_by_a_segment_a_round_trip(void **state)
{
	(void)state;
	adopt("newreno");
	h.ep->ssthresh = 10000;
	fill();
	for (uint32_t i = 1; i <= 5; i++) {
		round_trip();
		assert_in_range(info().cwnd, 10000 + 1000 * i - 1000, 10000 + 1000 * i);
	}
	assert_in_range(info().cwnd, 14000, 15000);
}

static void rfc7661_1_a_sender_with_little_to_say_does_not_grow(void **state)
{
	(void)state;
	adopt("newreno");
	h.ep->ssthresh = 10000;
	for (uint32_t i = 1; i < 200; i++) {
		h_write(1000);
		h_output();
		h_pass(10 * MILLISECONDS);
		h_input((struct seg){.ack = 1000 * i, .window = 2000000});
	}
	assert_int_equal(info().cwnd, 10000);
}

/* RFC 5681, 4.1 */
static void rfc5681_4_1_after_idle_it_begins_again(void **state)
{
	(void)state;
	adopt("newreno");
	fill();
	round_trip();
	round_trip();
	uint32_t sent = h.ep->snd_nxt - OUT;
	h.ep->snd_end = h.ep->snd_nxt; /* the application has nothing more */
	h_input((struct seg){.ack = sent, .window = 2000000});
	assert_true(info().cwnd > 40000);
	h_pass(tcp_rto(h.ep) + 1);
	h_write(50000);
	h_output();
	assert_int_equal(h.sent_count, 10);
	assert_int_equal(info().cwnd, 10000);
}

static void lose_one(void)
{
	uint32_t una = h.ep->snd_una - OUT;
	h_input((struct seg){.ack = una, .window = 2000000, .sack_count = 1, .sack = {{una + 1000, una + 5000}}});
	h_output();
	assert_int_equal(h.ep->recovery, TCP_RECOVERY);
	h_input((struct seg){.ack = h.ep->snd_nxt - OUT, .window = 2000000});
	assert_int_equal(h.ep->recovery, TCP_OPEN);
}

/* RFC 9438, 4.6, 4.7 */
static void rfc9438_4_6_cubic_reduces_to_seven_tenths(void **state)
{
	(void)state;
	adopt("cubic");
	h.ep->cwnd = 100000;
	h.ep->ssthresh = 100000;
	fill();
	lose_one();
	assert_int_equal(info().cwnd, 70000);
	assert_int_equal(h.ep->cubic.w_max, 100000);
	fill();
	lose_one();
	assert_int_equal(info().cwnd, 49000);
	assert_int_equal(h.ep->cubic.w_max, 70000 * 17 / 20); /* fast convergence */
}

/* RFC 9438, 4.1 to 4.5: back at w_max after K = cbrt(30 segments / 0.4) = 4.2 s, flat there, then beyond. */
static void rfc9438_4_2_cubic_returns_to_its_plateau(void **state)
{
	(void)state;
	adopt("cubic");
	h.ep->cwnd = 100000;
	h.ep->ssthresh = 100000;
	fill();
	lose_one();
	fill();
	uint32_t at_1s = 0, at_4s = 0, at_9s = 0;
	for (int i = 1; i <= 90; i++) {
		round_trip();
		at_1s = i == 10 ? info().cwnd : at_1s;
		at_4s = i == 42 ? info().cwnd : at_4s;
		at_9s = i == 90 ? info().cwnd : at_9s;
	}
	assert_in_range(h.ep->cubic.k_ms, 4200, 4230);
	assert_in_range(at_1s, 83000, 93000);
	assert_in_range(at_4s, 98000, 101000);
	assert_in_range(at_9s, 135000, 150000);
}

static void rfc9438_4_3_cubic_is_no_slower_than_reno_on_short_paths(void **state)
{
	(void)state;
	adopt("cubic");
	h.ep->cwnd = 20000;
	h.ep->ssthresh = 20000;
	fill();
	lose_one();
	assert_int_equal(info().cwnd, 14000);
	fill();
	for (int i = 0; i < 6; i++)
		round_trip();
	assert_true(info().cwnd >= 14000 + 6 * 529 - 1000);
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(tcp_congestion_find("newreno")->name, "newreno");
	assert_string_equal(tcp_congestion_find("cubic")->name, "cubic");
	assert_string_equal(tcp_congestion_find("bbr")->name, "cubic");
	assert_string_equal(tcp_congestion_find(NULL)->name, "cubic");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		H_TEST_PREPARED(rfc6928_2_it_begins_with_ten_segments),
		H_TEST_PREPARED(rfc5681_3_1_slow_start_doubles),
		H_TEST_PREPARED(rfc5681_3_1_newreno_grows_by_a_segment_a_round_trip),
		H_TEST_PREPARED(rfc7661_1_a_sender_with_little_to_say_does_not_grow),
		H_TEST_PREPARED(rfc5681_4_1_after_idle_it_begins_again),
		H_TEST_PREPARED(rfc9438_4_6_cubic_reduces_to_seven_tenths),
		H_TEST_PREPARED(rfc9438_4_2_cubic_returns_to_its_plateau),
		H_TEST_PREPARED(rfc9438_4_3_cubic_is_no_slower_than_reno_on_short_paths),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
