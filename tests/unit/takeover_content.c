/* takeover/content.c: DATA and BDAT, octet for octet, and servers that see another end. */
#include "takeover_harness.h"

static void test_scan_finds_only_crlf_dot_crlf(void **state)
{
	static const struct { const char *text; size_t end; } cases[] = {
		{".\r\nrest", 3}, {"a\r\n.\r\nrest", 6}, {"a\n.\nb", 0}, {"a\n.\r\nb", 0}, {"a\r\n.\nb", 0}, {"a\r.\r\nb", 0}, {"\r\n..\r\n", 0},
		{"\r\r\n.\r\n", 6}, {"\r\n.\r\r\n.\r\n", 9}, {"", 0}, {"x\r\n.\r\n", 6},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t piece = 1; piece < 12; piece++) {
			unsigned match = 2;
			bool ended = false;
			size_t at = 0, len = strlen(cases[i].text);
			while (at < len && !ended) {
				size_t part = len - at < piece ? len - at : piece;
				at += content_scan(&match, (const uint8_t *)cases[i].text + at, part, &ended);
			}
			assert_int_equal(ended, cases[i].end != 0);
			assert_int_equal(at, cases[i].end ? cases[i].end : len);
		}
}

/* RFC 5321's definition, octet by octet. */
static size_t plain_scan(unsigned *match, const uint8_t *bytes, size_t len, bool *ended)
{
	*ended = false;
	for (size_t i = 0; i < len; i++) {
		*match = bytes[i] == (uint8_t)"\r\n.\r\n"[*match] ? *match + 1 : bytes[i] == '\r';
		if (*match == 5) {
			*ended = true;
			return i + 1;
		}
	}
	return len;
}

static void test_scan_sees_what_a_plain_one_sees(void **state)
{
	static const char few[] = "\r\n.xxxxxxxxxxxxx";
	uint8_t text[200];
	(void)state;
	srand(1);
	for (int round = 0; round < 200000; round++) {
		size_t len = (size_t)rand() % sizeof(text), kinds = (size_t)rand() % (sizeof(few) - 3) + 3;
		unsigned match = (unsigned)rand() % 5, plain = match;
		bool ended, plain_ended;
		for (size_t i = 0; i < len; i++)
			text[i] = (uint8_t)few[(size_t)rand() % kinds];
		if (len > 20 && round % 2)
			memcpy(text + (size_t)rand() % (len - 5), "\r\n.\r\n", 5);
		assert_int_equal(content_scan(&match, text, len, &ended), plain_scan(&plain, text, len, &plain_ended));
		assert_int_equal(ended, plain_ended);
		if (!ended)
			assert_int_equal(match, plain);
	}
}

static void accepted(const char *last)
{
	scene_begin();
	says(CLIENT, MAIL);
	server_upgrades();
	says(CLIENT, "RCPT TO:<b@x.example>\r\n");
	says(SERVER, "250 ok\r\n250 ok\r\n");
	says(CLIENT, last);
	w.heard_len[CLIENT] = w.heard_len[SERVER] = 0;
	w.heard[CLIENT][0] = w.heard[SERVER][0] = 0;
}

static void test_a_large_mail_with_every_octet(void **state)
{
	enum { TOTAL = 300000 };
	char *mail = malloc(TOTAL + 8);
	size_t sent = 0;
	(void)state;
	accepted("DATA\r\n");
	says(SERVER, "354 go\r\n");
	hears(CLIENT, "354 go\r\n");
	for (int i = 0; i < TOTAL; i++)
		mail[i] = (char)(i * 7 % 251 + 1);
	memcpy(mail + TOTAL, "\r\n.\r\n", 6);
	while (sent < TOTAL + 5) {
		sent += tcp_write(w.peer[CLIENT], (const uint8_t *)mail + sent, TOTAL + 5 - sent);
		scene_settle();
	}
	assert_int_equal(w.heard_len[SERVER], TOTAL + 5);
	assert_memory_equal(w.heard[SERVER], mail, TOTAL + 5);
	says(SERVER, "250 queued\r\n");
	hears(CLIENT, "250 queued\r\n");
	says(CLIENT, MAIL); /* a second transaction */
	assert_memory_equal(w.heard[SERVER] + TOTAL + 5, MAIL, strlen(MAIL));
	free(mail);
}

static void test_bare_lf_and_dots_stay(void **state)
{
	(void)state;
	accepted("DATA\r\n");
	says(SERVER, "354 go\r\n");
	says(CLIENT, "a\nb\r\n..c\n.\nd\r\n.\r\n");
	hears(SERVER, "a\nb\r\n..c\n.\nd\r\n.\r\n");
}

static void test_smuggling_is_cut(void **state)
{
	(void)state;
	accepted("DATA\r\n");
	says(SERVER, "354 go\r\n");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "a\n.\nMAIL FROM:<evil@x.example>\r\n");
	says(SERVER, "250 queued\r\n"); /* it took LF.LF for the end */
	assert_memory_equal(w.heard[CLIENT], "421 4.3.0 ", 10);
	assert_int_equal(outcome().end, END_CUT);
}

static void test_data_refused(void **state)
{
	(void)state;
	accepted("DATA\r\n");
	says(SERVER, "451 later\r\n");
	hears(CLIENT, "451 later\r\n");
	says(CLIENT, "QUIT\r\n");
	hears(SERVER, "QUIT\r\n");
}

static void test_refusal_in_the_middle_of_content(void **state)
{
	(void)state;
	accepted("DATA\r\n");
	says(SERVER, "354 go\r\n");
	w.heard_len[CLIENT] = 0;
	says(CLIENT, "abc\r\n");
	says(SERVER, "552 too big\r\n");
	hears(CLIENT, "552 too big\r\n");
	assert_true(tcp_eof(w.peer[CLIENT]));
}

static void test_bdat_by_count(void **state)
{
	(void)state;
	accepted("BDAT 6\r\na\r\n.\r\nBDAT 5 LAST\r\nQUIT\nRSET\r\n");
	w.heard_len[SERVER] = 0;
	says(SERVER, "250 6 octets\r\n250 queued\r\n");
	hears(CLIENT, "250 6 octets\r\n250 queued\r\n");
	assert_int_equal(outcome().messages, 1);
	says(SERVER, "250 reset\r\n");
	hears(CLIENT, "250 reset\r\n");
}

static void test_bdat_answered_before_its_end(void **state)
{
	(void)state;
	accepted("BDAT 10 LAST\r\nabc");
	says(SERVER, "250 queued\r\n");
	assert_memory_equal(w.heard[CLIENT], "421 4.3.0 ", 10);
}

static void test_bdat_malformed(void **state)
{
	(void)state;
	accepted("BDAT x\r\n");
	scene_settle();
	assert_true(tcp_eof(w.peer[CLIENT]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan_finds_only_crlf_dot_crlf), cmocka_unit_test(test_scan_sees_what_a_plain_one_sees),
		SCENE(test_a_large_mail_with_every_octet), SCENE(test_bare_lf_and_dots_stay),
		SCENE(test_smuggling_is_cut), SCENE(test_data_refused), SCENE(test_refusal_in_the_middle_of_content),
		SCENE(test_bdat_by_count), SCENE(test_bdat_answered_before_its_end), SCENE(test_bdat_malformed),
	};
	return cmocka_run_group_tests_name("takeover_content", tests, NULL, NULL);
}
