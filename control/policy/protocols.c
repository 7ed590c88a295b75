/*
 * protocols.c - Postfix's ways to name TLS versions, reduced to a floor and a ceiling.
 *
 * Enters: ">=TLSv1.2", "TLSv1.2", "TLSv1.2 TLSv1.3", "!SSLv2 !SSLv3 !TLSv1 !TLSv1.1", "<=TLSv1.2", with blanks, commas or
 * colons between. Leaves: the lowest TLS version allowed, and the highest, 0 where that is the newest: "TLSv1.2" alone is 1.2
 * and no other. Refuses: holes, and a floor below TLS 1.0.
 */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	uint16_t version; /* on the wire; 0: never spoken here */
} protocols[] = {{"SSLv2", 0}, {"SSLv3", 0}, {"TLSv1", 0x0301}, {"TLSv1.1", 0x0302}, {"TLSv1.2", 0x0303}, {"TLSv1.3", 0x0304}};
enum { PROTOCOLS = sizeof(protocols) / sizeof(protocols[0]), FIRST_TLS = 2 };

const char *protocol_name(uint16_t version)
{
	for (int i = FIRST_TLS; i < PROTOCOLS; i++)
		if (protocols[i].version == version)
			return protocols[i].name;
	return "?";
}

static int find(const char *name)
{
	if (strcasecmp(name, "TLSv1.0") == 0)
		return FIRST_TLS;
	for (int i = 0; i < PROTOCOLS; i++)
		if (strcasecmp(name, protocols[i].name) == 0)
			return i;
	return -1;
}

/* What a list has said, as bits of protocols[]. */
struct said {
	unsigned included, excluded;
	int floor, ceiling; /* of ">=" and "<=", or -1 */
};

static int take(struct said *said, const char *item, struct why *why)
{
	size_t sign = item[0] == '!' ? 1 : (item[0] == '>' || item[0] == '<') && item[1] == '=' ? 2 : 0;
	int at = find(item + sign);

	if (at < 0)
		return why_set(why, "%.40s: not a protocol; one of TLSv1 TLSv1.1 TLSv1.2 TLSv1.3, as in >=TLSv1.2", item);
	if (item[0] == '!')
		said->excluded |= 1u << at;
	else if (at < FIRST_TLS)
		return why_set(why, "%.40s: SSL is never spoken; the lowest is >=TLSv1", item);
	else if (item[0] == '>')
		said->floor = at > said->floor ? at : said->floor;
	else if (item[0] == '<')
		said->ceiling = said->ceiling < 0 || at < said->ceiling ? at : said->ceiling;
	else
		said->included |= 1u << at;
	return 0;
}

/* The lowest and the highest of what is allowed. */
static int range_of(const struct said *said, int *low, int *high, struct why *why)
{
	const unsigned all = (1u << PROTOCOLS) - (1u << FIRST_TLS);
	unsigned allowed = (said->included ? said->included : all) & ~said->excluded;

	if (said->floor >= 0)
		allowed &= ~((1u << said->floor) - 1);
	if (said->ceiling >= 0)
		allowed &= (2u << said->ceiling) - 1;
	if (!allowed)
		return why_set(why, "leaves no version; write a floor, such as >=TLSv1.2");
	for (*low = FIRST_TLS; !(allowed & 1u << *low);)
		++*low;
	for (*high = PROTOCOLS - 1; !(allowed & 1u << *high);)
		--*high;
	for (int i = *low; i < *high; i++)
		if (!(allowed & 1u << i))
			return why_set(why, "leaves out %s between others; write a floor, such as >=TLSv1.2", protocols[i].name);
	return 0;
}

int protocols_parse(const char *text, uint16_t *floor, uint16_t *ceiling, struct why *why)
{
	struct said said = {.floor = -1, .ceiling = -1};
	const char *cursor = text;
	bool any = false;
	char item[48];
	int more, low = 0, high = 0;

	while ((more = item_next(&cursor, " ,:", item, sizeof(item))) == 1) {
		int err = take(&said, item, why);

		if (err)
			return err;
		any = true;
	}
	if (more < 0 || !any)
		return why_set(why, "not a list of protocols; write a floor, such as >=TLSv1.2");
	if (range_of(&said, &low, &high, why) != 0)
		return -EINVAL;
	*floor = protocols[low].version;
	*ceiling = high == PROTOCOLS - 1 ? 0 : protocols[high].version;
	return 0;
}
