/*
 * times.c - a moment as a person writes it.
 *
 * Enters: Unix seconds, or RFC 3339 ("2027-01-31", "2027-01-31T12:00:00Z", "...+01:00"; a date alone is its
 * midnight in UTC, where the day begins). Leaves: Unix seconds; printed back in full, so that there is no doubt.
 * Refuses: days that do not exist, and small numbers: "20270131" is a date without its hyphens.
 */
#include "private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define SECONDS_MIN 1000000000ull    /* September 2001 */
#define SECONDS_MAX 253402300799ull  /* the end of year 9999 */

/* Exactly `digits` digits and then `end` (0: anything). */
static bool number(const char **cursor, int digits, char end, int *out)
{
	*out = 0;
	for (int i = 0; i < digits; i++, (*cursor)++) {
		if (!isdigit((unsigned char)**cursor))
			return false;
		*out = *out * 10 + (**cursor - '0');
	}
	if (!end)
		return true;
	return *(*cursor)++ == end;
}

static bool parse_offset(const char **cursor, int *seconds)
{
	int hours, minutes, sign = **cursor == '-' ? -1 : 1;

	*seconds = 0;
	if (**cursor == 'Z' || **cursor == 'z') {
		(*cursor)++;
		return true;
	}
	if (**cursor != '+' && **cursor != '-')
		return false;
	(*cursor)++;
	if (!number(cursor, 2, ':', &hours) || !number(cursor, 2, 0, &minutes) || hours > 23 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

static bool parse_rfc3339(const char *text, uint64_t *out)
{
	struct tm tm = {0}, day;
	int year, month, offset = 0;
	time_t when;

	if (!number(&text, 4, '-', &year) || !number(&text, 2, '-', &month) || !number(&text, 2, 0, &tm.tm_mday))
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	if (*text == 'T' || *text == 't' || *text == ' ') {
		text++;
		if (!number(&text, 2, ':', &tm.tm_hour) || !number(&text, 2, ':', &tm.tm_min) || !number(&text, 2, 0, &tm.tm_sec))
			return false;
		if (*text == '.')
			for (text++; isdigit((unsigned char)*text);)
				text++;
		if (!parse_offset(&text, &offset))
			return false;
	}
	if (*text || year < 1970 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	day = (struct tm){.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday};
	timegm(&day);
	if (day.tm_mon != month - 1) /* it makes 3 March of 31 February */
		return false;
	when = timegm(&tm) - offset;
	*out = when < 0 ? 0 : (uint64_t)when;
	return true;
}

int time_parse(const char *text, uint64_t *out, struct why *why)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t seconds = 0;

	if (strcmp(text, "0") == 0 || strcmp(text, "never") == 0) {
		*out = 0;
		return 0;
	}
	if (digits > 0 && text[digits] == '\0' && digits <= 12)
		seconds = strtoull(text, NULL, 10);
	else if (!parse_rfc3339(text, &seconds))
		return why_set(why, "not a time; write Unix seconds, or 2027-01-31, or 2027-01-31T12:00:00Z");
	if (seconds < SECONDS_MIN || seconds > SECONDS_MAX)
		return why_set(why, "not between 2001 and 9999; write Unix seconds, or 2027-01-31, or 2027-01-31T12:00:00Z");
	*out = seconds;
	return 0;
}

void time_print(uint64_t seconds, char out[TIME_TEXT_MAX])
{
	time_t when = (time_t)seconds;
	struct tm tm;

	out[0] = '\0';
	if (gmtime_r(&when, &tm))
		strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
