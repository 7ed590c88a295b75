/*
 * hello.c - TLS in passing: from the byte after 220 until both directions are encrypted.
 *
 * Enters: in-order bytes of both sides. Leaves: how many of them may pass, what was negotiated, and one
 * event that ends the watch. What may become TLS passes as it comes: a sender that has lost a segment sends its
 * first one again until that is acknowledged, and nothing else (RFC 5681, 3.1), so a hello must not wait here for
 * its end. But the bytes that make a ServerHello whole pass only if it is at or above the floor. What is not a TLS
 * record, or has no place at that point of RFC 8446 or 5246, is refused: plaintext must not hide behind a 220.
 */
#include <stdlib.h>
#include <string.h>

#include "tls.h"

enum { RECORD_CCS = 20, RECORD_ALERT = 21, RECORD_HANDSHAKE = TLS_RECORD_HANDSHAKE, RECORD_DATA = 23 };
enum { CLIENT_HELLO = 1, SERVER_HELLO = 2 };
enum { EXT_SERVERNAME = 0, EXT_PRE_SHARED_KEY = 41, EXT_SUPPORTED_VERSIONS = 43, EXT_KEY_SHARE = 51 };
enum { HEADER_BYTES = 5, RECORD_BYTES_MAX = 16384 + 2048, SESSION_ID_MAX = 32, TLS_1_0 = 0x0301, TLS_1_3 = 0x0304 };

enum talk { TALK_HELLO /* its hello is due */, TALK_PLAIN /* handshake in clear */, TALK_KEYED /* the next record is encrypted */, TALK_SEALED };

struct talker {
	enum talk talk;
	uint8_t header[HEADER_BYTES], type;
	uint16_t header_len, left; /* octets of the record that are still due */
	uint16_t alert_at;
	uint8_t alert[2];
	uint8_t *hello; /* the handshake message so far */
	size_t hello_len, hello_max;
};

struct tls_watch_private {
	struct talker talker[SIDES];
	uint8_t session_id[SESSION_ID_MAX];
	uint8_t session_id_len;
};

/* Bytes with an end: reading past it yields zeros and sets `bad`. */
struct cursor { const uint8_t *at, *end; bool bad; };

static const uint8_t *take(struct cursor *c, size_t len)
{
	static const uint8_t zeros[SESSION_ID_MAX];
	if ((size_t)(c->end - c->at) < len) {
		c->bad = true;
		return zeros;
	}
	c->at += len;
	return c->at - len;
}
static uint32_t take_number(struct cursor *c, unsigned bytes)
{
	const uint8_t *p = take(c, bytes);
	uint32_t n = 0;
	for (unsigned i = 0; i < bytes; i++)
		n = n << 8 | p[i];
	return n;
}
static struct cursor take_vector(struct cursor *c, unsigned length_bytes)
{
	size_t len = take_number(c, length_bytes);
	if ((size_t)(c->end - c->at) < len)
		c->bad = true;
	if (c->bad)
		return (struct cursor){c->end, c->end, true};
	c->at += len;
	return (struct cursor){c->at - len, c->at, false};
}

/* ---- the hellos ---- */

/* RFC 6066, section 3. What is no plain ASCII name is left out: it goes to logs. */
static void read_servername(struct tls_watch *watch, struct cursor ext)
{
	struct cursor list = take_vector(&ext, 2);
	while (!list.bad && list.at < list.end) {
		uint32_t kind = take_number(&list, 1);
		struct cursor name = take_vector(&list, 2);
		size_t len = (size_t)(name.end - name.at);
		if (list.bad || kind != 0 || len >= sizeof(watch->servername))
			continue;
		for (size_t i = 0; i < len; i++)
			if (name.at[i] <= 0x20 || name.at[i] >= 0x7f)
				return;
		memcpy(watch->servername, name.at, len);
		watch->servername[len] = 0;
		return;
	}
}

static enum tls_watch_event client_hello(struct tls_watch *watch, struct cursor c)
{
	struct tls_watch_private *private = watch->private;

	if (take_number(&c, 2) >> 8 != 3)
		return TLS_WATCH_NOT_TLS;
	take(&c, 32);
	struct cursor id = take_vector(&c, 1);
	size_t id_len = (size_t)(id.end - id.at);
	struct cursor ciphers = take_vector(&c, 2), compression = take_vector(&c, 1);
	if (c.bad || id_len > SESSION_ID_MAX || ciphers.at == ciphers.end || compression.at == compression.end)
		return TLS_WATCH_NOT_TLS;
	memcpy(private->session_id, id.at, id_len);
	private->session_id_len = (uint8_t)id_len;
	if (c.at == c.end)
		return TLS_WATCH_MORE; /* TLS 1.0 knows no extensions */
	struct cursor extensions = take_vector(&c, 2);
	while (!extensions.bad && extensions.at < extensions.end) {
		uint32_t kind = take_number(&extensions, 2);
		struct cursor ext = take_vector(&extensions, 2);
		if (kind == EXT_SERVERNAME && !extensions.bad)
			read_servername(watch, ext);
	}
	return c.bad || extensions.bad ? TLS_WATCH_NOT_TLS : TLS_WATCH_MORE;
}

/* RFC 8446, section 4.1.3: a ServerHello with this random asks for another ClientHello. */
static const uint8_t retry_random[32] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

static enum tls_watch_event server_hello(struct tls_watch *watch, struct cursor c)
{
	struct tls_watch_private *private = watch->private;
	uint16_t version = (uint16_t)take_number(&c, 2);
	bool retry = memcmp(take(&c, 32), retry_random, 32) == 0;
	struct cursor id = take_vector(&c, 1);
	size_t id_len = (size_t)(id.end - id.at);
	bool psk = false;

	watch->cipher = (uint16_t)take_number(&c, 2);
	take(&c, 1);
	if (c.bad || version >> 8 != 3 || id_len > SESSION_ID_MAX)
		return TLS_WATCH_NOT_TLS;
	struct cursor extensions = c.at == c.end ? c : take_vector(&c, 2);
	while (!extensions.bad && extensions.at < extensions.end) {
		uint32_t kind = take_number(&extensions, 2);
		struct cursor ext = take_vector(&extensions, 2);
		if (kind == EXT_SUPPORTED_VERSIONS)
			version = (uint16_t)take_number(&ext, 2);
		else if (kind == EXT_KEY_SHARE)
			watch->group = (uint16_t)take_number(&ext, 2);
		else if (kind == EXT_PRE_SHARED_KEY)
			psk = true;
		if (ext.bad)
			return TLS_WATCH_NOT_TLS;
	}
	if (c.bad || extensions.bad)
		return TLS_WATCH_NOT_TLS;
	watch->version = version;
	if (version < TLS_1_0 || version < watch->floor)
		return TLS_WATCH_BELOW_FLOOR;
	if (version >= TLS_1_3)
		watch->resumed = psk;
	else
		watch->resumed = id_len && id_len == private->session_id_len && !memcmp(id.at, private->session_id, id_len);
	if (retry)
		private->talker[CLIENT].talk = TALK_HELLO;
	else
		private->talker[SERVER].talk = version >= TLS_1_3 ? TALK_KEYED : TALK_PLAIN;
	return TLS_WATCH_MORE;
}

/* Octets of a handshake record while that side's hello is due. *used: of them, those up to the hello's end. */
static enum tls_watch_event hello_input(struct tls_watch *watch, enum side side, const uint8_t *bytes, size_t len, size_t *used)
{
	struct talker *t = &watch->private->talker[side];

	*used = len;
	if (t->hello_len + len > t->hello_max) {
		size_t max = t->hello_len + len > TLS_HELLO_BYTES_MAX ? 0 : (t->hello_len + len + 1023) / 1024 * 1024;
		uint8_t *more = max ? realloc(t->hello, max) : NULL;
		if (!more)
			return TLS_WATCH_NOT_TLS;
		t->hello = more;
		t->hello_max = max;
	}
	memcpy(t->hello + t->hello_len, bytes, len);
	t->hello_len += len;
	if (t->hello[0] != (side == CLIENT ? CLIENT_HELLO : SERVER_HELLO))
		return TLS_WATCH_NOT_TLS;
	if (t->hello_len < 4)
		return TLS_WATCH_MORE;
	size_t whole = 4 + ((size_t)t->hello[1] << 16 | (size_t)t->hello[2] << 8 | t->hello[3]);
	if (whole > TLS_HELLO_BYTES_MAX)
		return TLS_WATCH_NOT_TLS;
	if (t->hello_len < whole)
		return TLS_WATCH_MORE;
	*used = len - (t->hello_len - whole);
	struct cursor body = {t->hello + 4, t->hello + whole, false};
	enum tls_watch_event event;
	if (side == CLIENT) {
		t->talk = TALK_PLAIN;
		event = client_hello(watch, body);
	} else {
		event = server_hello(watch, body); /* still TALK_HELLO after a retry request */
	}
	t->hello_len = 0;
	return event;
}

/* ---- records ---- */

static bool server_chose_1_3(const struct tls_watch *watch)
{
	return watch->version >= TLS_1_3;
}

/* A record's header is whole: has it a place here? */
static bool record_fits(const struct tls_watch *watch, enum side side)
{
	const struct talker *t = &watch->private->talker[side];

	if (t->left > RECORD_BYTES_MAX)
		return false;
	switch (t->type) {
	case RECORD_HANDSHAKE:
		return t->left > 0 && (t->talk != TALK_KEYED || !server_chose_1_3(watch)) && (side == CLIENT || watch->private->talker[CLIENT].talk != TALK_HELLO);
	case RECORD_CCS: /* TLS 1.3 sends one for the middleboxes' sake: RFC 8446, D.4 */
		return t->left == 1 && (t->talk != TALK_HELLO || watch->fed[side] > HEADER_BYTES);
	case RECORD_ALERT:
		return t->talk == TALK_KEYED ? t->left >= 2 : t->left == 2;
	case RECORD_DATA: /* of a client also early data, before the server has said anything */
		return t->talk == TALK_KEYED || (side == CLIENT && t->talk == TALK_PLAIN && (watch->version == 0 || server_chose_1_3(watch)));
	default:
		return false;
	}
}

/* The record of `t` is over. */
static enum tls_watch_event record_over(struct tls_watch *watch, enum side side)
{
	struct talker *t = &watch->private->talker[side];

	t->header_len = 0;
	if (t->type == RECORD_ALERT && t->talk != TALK_KEYED) {
		t->alert_at = 0;
		return t->alert[0] == 2 ? TLS_WATCH_ALERT : TLS_WATCH_MORE;
	}
	if (t->type == RECORD_CCS) {
		/* In TLS 1.2 what follows is encrypted; in 1.3 it means nothing. */
		if (watch->version && !server_chose_1_3(watch) && t->talk == TALK_PLAIN)
			t->talk = TALK_KEYED;
	} else if (t->talk == TALK_KEYED ? t->type != RECORD_HANDSHAKE || !server_chose_1_3(watch) /* else: the ServerHello's own */
	                                 : t->type == RECORD_DATA && server_chose_1_3(watch)) {
		t->talk = TALK_SEALED;
	}
	const struct talker *both = watch->private->talker;
	return both[CLIENT].talk == TALK_SEALED && both[SERVER].talk == TALK_SEALED ? TLS_WATCH_SEALED : TLS_WATCH_MORE;
}

static enum tls_watch_event record_body(struct tls_watch *watch, enum side side, const uint8_t *bytes, size_t len)
{
	struct talker *t = &watch->private->talker[side];
	size_t used;

	if (t->type == RECORD_HANDSHAKE && t->talk == TALK_HELLO) {
		enum tls_watch_event event = hello_input(watch, side, bytes, len, &used);
		/* TLS 1.3 changes keys right behind a hello: nothing may share its record (RFC 8446, 5.1), nor that of a retry request. */
		bool over = t->hello_len == 0;
		return event == TLS_WATCH_MORE && over && used < t->left && t->talk != TALK_PLAIN ? TLS_WATCH_NOT_TLS : event;
	}
	for (size_t i = 0; t->type == RECORD_ALERT && i < len && t->alert_at < 2; i++)
		t->alert[t->alert_at++] = bytes[i];
	return TLS_WATCH_MORE;
}

/* An octet of a record's header, as soon as it comes. */
static bool header_octet_fits(const struct talker *t)
{
	return t->header_len == 1 ? t->header[0] >= RECORD_CCS && t->header[0] <= RECORD_DATA : t->header_len != 2 || t->header[1] == 3;
}

size_t tls_watch_input(struct tls_watch *watch, enum side side, const uint8_t *bytes, size_t len, enum tls_watch_event *event)
{
	struct talker *t = &watch->private->talker[side];
	size_t at = 0;

	*event = TLS_WATCH_MORE;
	while (at < len && *event == TLS_WATCH_MORE) {
		if (t->header_len < HEADER_BYTES) {
			t->header[t->header_len++] = bytes[at++];
			watch->fed[side]++;
			if (!header_octet_fits(t))
				*event = TLS_WATCH_NOT_TLS;
			if (t->header_len < HEADER_BYTES)
				continue;
			t->type = t->header[0];
			t->left = (uint16_t)(t->header[3] << 8 | t->header[4]);
			if (t->talk != TALK_SEALED && !record_fits(watch, side))
				*event = TLS_WATCH_NOT_TLS;
		} else {
			size_t piece = len - at < t->left ? len - at : t->left;
			*event = t->talk == TALK_SEALED ? TLS_WATCH_MORE : record_body(watch, side, bytes + at, piece);
			at += piece;
			watch->fed[side] += piece;
			t->left = (uint16_t)(t->left - piece);
		}
		if (*event == TLS_WATCH_MORE && t->header_len == HEADER_BYTES && t->left == 0)
			*event = record_over(watch, side);
	}
	if (*event != TLS_WATCH_NOT_TLS && *event != TLS_WATCH_BELOW_FLOOR)
		watch->approved[side] = watch->fed[side];
	return at;
}

struct tls_watch *tls_watch_new(uint16_t floor)
{
	struct tls_watch *watch = calloc(1, sizeof(*watch));

	if (!watch || !(watch->private = calloc(1, sizeof(*watch->private)))) {
		free(watch);
		return NULL;
	}
	watch->floor = floor;
	return watch;
}

void tls_watch_free(struct tls_watch *watch)
{
	if (!watch)
		return;
	free(watch->private->talker[CLIENT].hello);
	free(watch->private->talker[SERVER].hello);
	free(watch->private);
	free(watch);
}

/* ---- in the middle of a connection ---- */

#define GUESS_TEXT_MIN 16 /* that many printable octets in a row are no ciphertext */

enum tls_guess tls_guess(const uint8_t *bytes, size_t len)
{
	size_t text = 0;

	if (len >= HEADER_BYTES && bytes[0] >= RECORD_CCS && bytes[0] <= RECORD_DATA && bytes[1] == 3 && bytes[2] <= 4 &&
	    (bytes[3] << 8 | bytes[4]) <= RECORD_BYTES_MAX)
		return TLS_GUESS_YES;
	while (text < len && ((bytes[text] >= 0x20 && bytes[text] < 0x7f) || bytes[text] == '\r' || bytes[text] == '\n' || bytes[text] == '\t'))
		text++;
	if (text >= GUESS_TEXT_MIN || (text == len && len >= 4 && bytes[len - 1] == '\n'))
		return TLS_GUESS_CLEAR;
	return TLS_GUESS_UNKNOWN;
}
