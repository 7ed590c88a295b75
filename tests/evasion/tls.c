/*
 * tls.c - evasions behind the client's own STARTTLS: TLS that is none, that hides in pieces, that is too old.
 */
#include "scene.h"

#define MAIL "MAIL FROM:<mallory@client.example>\r\n"

static uint8_t made[20000];

static size_t record(uint8_t *out, uint8_t type, const void *body, size_t len)
{
	out[0] = type;
	out[1] = out[2] = 3;
	put16(out + 3, (uint32_t)len);
	memmove(out + 5, body, len);
	return 5 + len;
}

/* Handshake message: hello of 3.3, with `tls13` as supported_versions says. */
static size_t hello_message(uint8_t *out, bool client, uint16_t version, bool tls13)
{
	uint8_t *p = out + 4;
	put16(p, version);
	memset(p + 2, 0x5a, 32);
	p += 34;
	*p++ = 0; /* session id */
	if (client) {
		memcpy(p, (uint8_t[]){0, 2, 0x13, 0x01, 1, 0}, 6);
		p += 6;
	} else {
		memcpy(p, (uint8_t[]){0x13, 0x01, 0}, 3);
		p += 3;
	}
	if (tls13 && client) {
		memcpy(p, (uint8_t[]){0, 7, 0, 43, 0, 3, 2, 3, 4}, 9);
		p += 9;
	} else if (tls13) {
		memcpy(p, (uint8_t[]){0, 6, 0, 43, 0, 2, 3, 4}, 8);
		p += 8;
	}
	size_t len = (size_t)(p - out) - 4;
	out[0] = client ? 1 : 2;
	out[1] = 0;
	put16(out + 2, (uint32_t)len);
	return len + 4;
}

static void says_hello(enum side side, uint16_t version, bool tls13)
{
	uint8_t message[256];
	size_t len = hello_message(message, side == CLIENT, version, tls13);
	says_bytes(side, made, record(made, 22, message, len));
}

static void says_encrypted(enum side side)
{
	uint8_t octets[64];
	memset(octets, 0xe7, sizeof(octets));
	says_bytes(side, made, record(made, 23, octets, sizeof(octets)));
}

static void says_ccs(enum side side) { says_bytes(side, made, record(made, 20, "\1", 1)); }

static void tls_13_is_sealed(void **state) /* the measure: what an honest pair does passes */
{
	(void)state;
	starttls();
	says_hello(CLIENT, 0x0303, true);
	says_hello(SERVER, 0x0303, true);
	says_ccs(SERVER);
	says_encrypted(SERVER);
	is_state(FLOW_SEALING);
	says_encrypted(CLIENT);
	is_state(FLOW_SEALED);
	MOVED(injections, 0);
}

static void client_hello_in_many_records(void **state)
{
	uint8_t message[256];
	(void)state;
	starttls();
	size_t len = hello_message(message, true, 0x0303, true);
	for (size_t at = 0; at < len; at += 3)
		says_bytes(CLIENT, made, record(made, 22, message + at, len - at < 3 ? len - at : 3));
	says_hello(SERVER, 0x0303, true);
	says_encrypted(SERVER);
	says_encrypted(CLIENT);
	is_state(FLOW_SEALED);
}

static void client_hello_in_one_octet_segments(void **state)
{
	uint8_t message[256];
	(void)state;
	starttls();
	size_t len = record(made, 22, message, hello_message(message, true, 0x0303, true));
	for (size_t at = 0; at < len; at++)
		says_bytes(CLIENT, made + at, 1);
	says_hello(SERVER, 0x0303, true);
	says_encrypted(SERVER);
	says_encrypted(CLIENT);
	is_state(FLOW_SEALED);
}

static void client_hello_without_end(void **state)
{
	(void)state;
	starttls();
	uint8_t piece[1000] = {1, 255, 255, 255}; /* a handshake message of 16 MB */
	for (unsigned i = 0; i < 200 && scene_state() == FLOW_SEALING; i++) {
		says_bytes(CLIENT, made, record(made, 22, piece, sizeof(piece)));
		acks(SERVER);
	}
	assert_true(s.whole[SERVER] < 100000);
	MOVED(injections, 1);
	is_cut();
}

static void server_hello_below_the_floor(void **state)
{
	(void)state;
	POLICY("* level=encrypt protocols=>=TLSv1.2");
	starttls();
	says_hello(CLIENT, 0x0303, false);
	frames_out();
	size_t before = s.whole[CLIENT];
	says_hello(SERVER, 0x0301, false);
	assert_int_equal(s.whole[CLIENT], before); /* not an octet of it */
	is_cut();
	assert_int_equal(s.event.end, END_CUT);
	assert_int_equal(s.event.reason, REASON_VERSION);
}

/* "3.3" in its old field, TLS 1.1 where it counts. */
static void server_hello_that_says_two_versions(void **state)
{
	uint8_t message[256];
	(void)state;
	POLICY("* level=encrypt protocols=>=TLSv1.2");
	starttls();
	says_hello(CLIENT, 0x0303, true);
	size_t len = hello_message(message, false, 0x0303, true);
	message[len - 1] = 2;
	says_bytes(SERVER, made, record(made, 22, message, len));
	is_cut();
	assert_int_equal(s.event.end, END_CUT);
	assert_int_equal(s.event.reason, REASON_VERSION);
}

static void records_without_tls_in_them(void **state)
{
	(void)state;
	starttls();
	says_bytes(CLIENT, made, record(made, 23, MAIL, sizeof(MAIL) - 1)); /* clear text in a record of data, no hello before it */
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void records_of_handshake_without_a_hello(void **state)
{
	(void)state;
	starttls();
	says_bytes(CLIENT, made, record(made, 22, MAIL, sizeof(MAIL) - 1));
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void clear_text_behind_the_client_hello(void **state)
{
	uint8_t message[256];
	(void)state;
	starttls();
	size_t len = record(made, 22, message, hello_message(message, true, 0x0303, true));
	memcpy(made + len, MAIL, sizeof(MAIL) - 1);
	says_bytes(CLIENT, made, len + sizeof(MAIL) - 1);
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void clear_text_instead_of_the_server_hello(void **state)
{
	(void)state;
	starttls();
	says_hello(CLIENT, 0x0303, true);
	size_t before = s.whole[CLIENT];
	says(SERVER, "454 TLS not available after all\r\n"); /* a client that believes it goes on in clear */
	assert_int_equal(s.whole[CLIENT], before);
	MOVED(injections, 1);
	is_cut();
}

/* In records of the handshake, which TLS 1.3 has no more behind the ServerHello. */
static void clear_text_behind_the_server_hello(void **state)
{
	(void)state;
	starttls();
	says_hello(CLIENT, 0x0303, true);
	says_hello(SERVER, 0x0303, true);
	says_bytes(SERVER, made, record(made, 22, "250-AUTH PLAIN\r\n", 16));
	never_heard(CLIENT, "AUTH");
	MOVED(injections, 1);
	is_cut();
}

static void data_of_tls_12_without_a_change_of_cipher(void **state)
{
	(void)state;
	starttls();
	says_hello(CLIENT, 0x0303, false);
	says_hello(SERVER, 0x0303, false);
	says_encrypted(CLIENT);
	MOVED(injections, 1);
	is_cut();
}

static void an_old_sslv2_hello(void **state)
{
	(void)state;
	starttls();
	says_bytes(CLIENT, "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 11);
	MOVED(injections, 1);
	is_cut();
}

static void tls_alert_then_clear_text(void **state)
{
	(void)state;
	starttls();
	says_hello(CLIENT, 0x0303, true);
	says_bytes(SERVER, made, record(made, 21, "\2\x28", 2)); /* handshake failure: back to clear text? */
	says(CLIENT, MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

/* TLS from the first octet on port 25, and only that. */
static void tls_from_the_beginning(void **state)
{
	(void)state;
	POLICY("* level=encrypt protocols=>=TLSv1.2");
	handshake();
	says_hello(CLIENT, 0x0303, true);
	is_state(FLOW_SEALING);
	says_hello(SERVER, 0x0303, true);
	says_encrypted(SERVER);
	says_encrypted(CLIENT);
	is_state(FLOW_SEALED);
	MOVED(nonsmtp, 1);
}

static void tls_from_the_beginning_that_is_none(void **state)
{
	(void)state;
	handshake();
	says_bytes(CLIENT, "\x16\x03\x01\x00\x05", 5);
	says(CLIENT, "\r\nEHLO c\r\n" MAIL);
	says(SERVER, "220 mx ESMTP\r\n");
	never_heard(SERVER, "MAIL");
	MOVED(injections, 1);
	is_cut();
}

static void joined_in_clear(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .seq = 5000, .ack = 5000, .text = MAIL); /* no SYN was seen */
	never_heard(SERVER, "MAIL");
	MOVED(flows_joined, 1);
	is_state(FLOW_CUT);
	assert_true(was_reset(CLIENT) && was_reset(SERVER));
}

static void joined_by_an_empty_ack_then_clear(void **state)
{
	(void)state;
	SEG(.from = CLIENT, .seq = 5000, .ack = 5000);
	SEG(.from = CLIENT, .seq = 5000, .ack = 5000, .text = MAIL);
	never_heard(SERVER, "MAIL");
	MOVED(flows_joined, 1);
	is_state(FLOW_CUT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest rows[] = {
		ROW(tls_13_is_sealed), ROW(client_hello_in_many_records), ROW(client_hello_in_one_octet_segments), ROW(client_hello_without_end),
		ROW(server_hello_below_the_floor), ROW(server_hello_that_says_two_versions), ROW(records_without_tls_in_them),
		ROW(records_of_handshake_without_a_hello), ROW(clear_text_behind_the_client_hello), ROW(clear_text_instead_of_the_server_hello),
		ROW(clear_text_behind_the_server_hello),
		ROW(data_of_tls_12_without_a_change_of_cipher), ROW(an_old_sslv2_hello), ROW(tls_alert_then_clear_text),
		ROW(tls_from_the_beginning), ROW(tls_from_the_beginning_that_is_none), ROW(joined_in_clear), ROW(joined_by_an_empty_ack_then_clear),
	};
	return PLAY("tls", rows, argc, argv);
}
