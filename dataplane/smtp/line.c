/*
 * line.c - one line out of pieces of any size.
 *
 * Enters: bytes as they come. Leaves: a whole line with its end, in the framer's own buffer. An LF ends a
 * line, with or without a CR before it: servers take both, so whoever watches must too. Refuses: lines
 * longer than the buffer; it never cuts one in two.
 */
#include "private.h"

#include <string.h>

void smtp_framer_reset(struct smtp_framer *framer)
{
	framer->len = 0;
}

enum smtp_framing smtp_framer_input(struct smtp_framer *framer, const uint8_t *bytes, size_t len, size_t *consumed)
{
	size_t room = sizeof(framer->line) - framer->len;
	size_t n = len < room ? len : room;

	*consumed = 0;
	if (framer->len && framer->line[framer->len - 1] == '\n')
		return SMTP_LINE_WHOLE;
	const uint8_t *end = n ? memchr(bytes, '\n', n) : NULL;
	if (end)
		n = (size_t)(end - bytes) + 1;
	if (n)
		memcpy(framer->line + framer->len, bytes, n);
	framer->len += (uint16_t)n;
	*consumed = n;
	if (end)
		return SMTP_LINE_WHOLE;
	/* A full buffer without an end can only become a line that is too long. */
	return framer->len == sizeof(framer->line) ? SMTP_LINE_TOO_LONG : SMTP_LINE_PARTIAL;
}
