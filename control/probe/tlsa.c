/*
 * tlsa.c - see tlsa.h. The text comes from Redis or a file that anybody may have written.
 */
#include "tlsa.h"

#include <stdio.h>
#include <string.h>

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t tlsa_record_read(const char *text, uint8_t rdata[TLSA_RDATA_MAX])
{
	unsigned head[TLSA_HEAD_BYTES];
	int at = 0;

	if (sscanf(text, "%3u-%3u-%3u-%n", &head[0], &head[1], &head[2], &at) != 3 || !at || head[0] > 255 || head[1] > 255 || head[2] > 255)
		return 0;
	for (int i = 0; i < TLSA_HEAD_BYTES; i++)
		rdata[i] = (uint8_t)head[i];
	size_t hex = strlen(text + at);
	if (!hex || hex % 2 || hex / 2 > (TLSA_RDATA_MAX - TLSA_HEAD_BYTES))
		return 0;
	for (size_t i = 0; i < hex / 2; i++) {
		int high = digit(text[at + (int)(2 * i)]), low = digit(text[at + (int)(2 * i) + 1]);
		if (high < 0 || low < 0)
			return 0;
		rdata[TLSA_HEAD_BYTES + i] = (uint8_t)(high << 4 | low);
	}
	return TLSA_HEAD_BYTES + hex / 2;
}
