/*
 * text.c - one character at a time, as UTF-8 (RFC 3629).
 *
 * Enters: bytes. Leaves: how long a printable character is, or a clean copy. C1 controls, overlong forms and
 * surrogates are no characters: a terminal obeys the first, and jansson refuses the others together with the
 * whole object that they stand in.
 */
#include "text.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#define ELLIPSIS "..."

size_t text_character(const char *text)
{
	static const uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000}; /* by length; below it: overlong, or C1 */
	const unsigned char *p = (const unsigned char *)text;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t c = p[0] & (0xffu >> (len + 1));

	if (p[0] < 0x80)
		return p[0] >= ' ' && p[0] != 0x7f;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c < least[len] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : len;
}

bool text_printable(const char *text)
{
	for (size_t len; *text; text += len)
		if ((len = text_character(text)) == 0)
			return false;
	return true;
}

void text_clean(const char *text, char *out, size_t out_len)
{
	size_t n = 0;

	while (*text) {
		size_t len = text_character(text), taken = len ? len : 1;

		if (n + taken + sizeof(ELLIPSIS) > out_len) {
			memcpy(out + n, ELLIPSIS, sizeof(ELLIPSIS));
			return;
		}
		if (len)
			memcpy(out + n, text, len);
		else
			out[n] = '?';
		n += taken;
		text += taken;
	}
	out[n] = '\0';
}

uint64_t text_moment(const char *text)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t when = rest && (*rest == '.' || *rest == 'Z') ? timegm(&tm) : 0;

	return when > 0 ? (uint64_t)when : 0;
}
