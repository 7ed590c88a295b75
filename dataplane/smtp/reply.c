/*
 * reply.c - the server's lines: codes, and what an EHLO reply offers.
 *
 * Enters: one line. Leaves: its code, whether it is the reply's last, its text; capabilities as bits.
 * Refuses (code 0): anything but three digits from 200 to 599 and a blank, a hyphen or the line's end.
 */
#include "private.h"

#include <string.h>
#include <strings.h>

static bool digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

void smtp_reply_line_parse(const uint8_t *line, size_t len, struct smtp_reply_line *out)
{
	*out = (struct smtp_reply_line){0};
	if (len && line[len - 1] == '\n')
		len--;
	if (len && line[len - 1] == '\r')
		len--;
	if (len < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]))
		return;
	if (len > 3 && line[3] != ' ' && line[3] != '-')
		return;
	out->code = (uint16_t)((line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0'));
	out->last = len == 3 || line[3] == ' ';
	out->text = (const char *)line + (len > 3 ? 4 : 3);
	out->text_len = len > 3 ? len - 4 : 0;
}

static const struct { const char *name; uint32_t bit; } capabilities[] = {
	{"STARTTLS", SMTP_CAP_STARTTLS},
	{"PIPELINING", SMTP_CAP_PIPELINING},
	{"CHUNKING", SMTP_CAP_CHUNKING},
	{"SIZE", SMTP_CAP_SIZE},
	{"8BITMIME", SMTP_CAP_8BITMIME},
	{"SMTPUTF8", SMTP_CAP_SMTPUTF8},
	{"DSN", SMTP_CAP_DSN},
	{"AUTH", SMTP_CAP_AUTH},
	{"ENHANCEDSTATUSCODES", SMTP_CAP_ENHANCED},
	{"BINARYMIME", SMTP_CAP_BINARYMIME},
	{"REQUIRETLS", SMTP_CAP_REQUIRETLS},
	{"DELIVERBY", SMTP_CAP_DELIVERBY},
};

static size_t keyword_len(const char *text, size_t len)
{
	size_t n = 0;
	while (n < len && !smtp_blank((uint8_t)text[n]) && text[n] != '=') /* "AUTH=LOGIN", from before RFC 2554 */
		n++;
	return n;
}

uint32_t smtp_capability_parse(const char *text, size_t len)
{
	size_t n = keyword_len(text, len);
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
		if (strlen(capabilities[i].name) == n && strncasecmp(text, capabilities[i].name, n) == 0)
			return capabilities[i].bit;
	return 0;
}

uint64_t smtp_size_parse(const char *text, size_t len)
{
	uint64_t value = 0;
	size_t i = keyword_len(text, len);

	while (i < len && smtp_blank((uint8_t)text[i]))
		i++;
	for (; i < len && digit((uint8_t)text[i]); i++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
			return 0; /* no limit that anybody reaches */
	return value;
}
