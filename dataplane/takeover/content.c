/*
 * content.c - the mail itself: DATA up to CRLF.CRLF, BDAT by count. Not an octet of it is changed.
 *
 * Only CRLF.CRLF ends DATA (RFC 5321, 4.1.1.4). A server that takes LF.LF for the end answers before we have
 * seen it, and is then out of step with us: the session is cut, and what would have been smuggled is not sent.
 */
#include "private.h"

typedef uint8_t block __attribute__((vector_size(16)));

/* Octets that can be passed over between lines: neither LF and a dot nor the CR before them is among them. */
static size_t without_dot(const uint8_t *bytes, size_t len)
{
	uint64_t hit[2] = {0, 0};
	size_t at = 0;

	for (; at + sizeof(block) < len; at += sizeof(block)) {
		block here, next;
		memcpy(&here, bytes + at, sizeof(here));
		memcpy(&next, bytes + at + 1, sizeof(next));
		block both = (block)(here == '\n') & (block)(next == '.');
		memcpy(hit, &both, sizeof(hit));
		if (hit[0] | hit[1])
			break;
	}
	return at ? at - 1 : 0;
}

size_t content_scan(unsigned *match, const uint8_t *bytes, size_t len, bool *ended)
{
	static const uint8_t end[5] = {'\r', '\n', '.', '\r', '\n'};

	*ended = false;
	for (size_t i = 0; i < len; i++) {
		if (*match == 0) { /* most octets: on to the next CR at once, and over lines that begin with no dot */
			i += without_dot(bytes + i, len - i);
			const uint8_t *cr = memchr(bytes + i, '\r', len - i);
			if (!cr)
				return len;
			i = (size_t)(cr - bytes);
			*match = 1;
		} else if (bytes[i] == end[*match]) {
			if (++*match == sizeof(end)) {
				*ended = true;
				return i + 1;
			}
		} else {
			*match = bytes[i] == '\r';
		}
	}
	return len;
}

static size_t data_input(struct takeover *t, const uint8_t *bytes, size_t len)
{
	bool ended;
	size_t taken = content_scan(&t->end_match, bytes, len, &ended);

	if (!write_server(t, bytes, taken))
		return taken;
	if (ended) {
		t->mode = CLIENT_COMMANDS;
		t->transaction = MAIL_NONE;
		if (!pipeline_push(&t->pipeline, &(struct pending){.verb = SMTP_DATA, .content = true, .clear = t->upstream != UPSTREAM_TLS}))
			last_word(t, "421 4.3.2 No memory\r\n");
	}
	return taken;
}

static size_t chunk_input(struct takeover *t, const uint8_t *bytes, size_t len)
{
	size_t taken = len < t->chunk_left ? len : (size_t)t->chunk_left;

	if (!t->chunk_drop && !write_server(t, bytes, taken))
		return taken;
	t->chunk_left -= taken;
	if (!t->chunk_left)
		t->mode = CLIENT_COMMANDS;
	return taken;
}

size_t content_input(struct takeover *t, const uint8_t *bytes, size_t len, size_t room)
{
	size_t most = room < TAKEOVER_CHUNK_MAX ? room : TAKEOVER_CHUNK_MAX;

	if (len > most)
		len = most;
	return t->mode == CLIENT_DATA ? data_input(t, bytes, len) : chunk_input(t, bytes, len);
}
