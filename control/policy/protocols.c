/*
 * protocols.c - Postfix's ways to name TLS versions, reduced to a floor.
 *
 * Enters: ">=TLSv1.2", "TLSv1.2", "TLSv1.2 TLSv1.3", "!SSLv2 !SSLv3 !TLSv1 !TLSv1.1", with blanks, commas or
 * colons between. Leaves: the lowest TLS version allowed. A rule has a floor and no ceiling: "TLSv1.2"
 * alone means 1.2 or later. Refuses: holes, ceilings, and a floor below TLS 1.0.
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
	int floor; /* of ">=", or -1 */
};

static int take(struct said *said, const char *item, struct why *why)
{
	size_t sign = item[0] == '!' ? 1 : (item[0] == '>' || item[0] == '<') && item[1] == '=' ? 2 : 0;
	int at = find(item + sign);

	if (at < 0)
		return why_set(why, "%.40s: not a protocol; one of TLSv1 TLSv1.1 TLSv1.2 TLSv1.3, as in >=TLSv1.2", item);
	if (item[0] == '!')
		said->excluded |= 1u << at;
	else if (item[0] == '<' && at != PROTOCOLS - 1)
		return why_set(why, "%.40s: there is a floor and no ceiling; write >=%s", item, protocols[at < 2 ? 2 : at].name);
	else if (item[0] != '<' && at < FIRST_TLS)
		return why_set(why, "%.40s: SSL is never spoken; the lowest is >=TLSv1", item);
	else if (item[0] == '>')
		said->floor = at > said->floor ? at : said->floor;
	else if (item[0] != '<')
		said->included |= 1u << at;
	return 0;
}

static int floor_of(const struct said *said, struct why *why)
{
	const unsigned all = (1u << PROTOCOLS) - (1u << FIRST_TLS);
	unsigned allowed = (said->included ? said->included : all) & ~said->excluded;
	int low = FIRST_TLS;

	if (said->floor >= 0)
		allowed &= ~((1u << said->floor) - 1);
	if (!allowed)
		return why_set(why, "leaves no version; write a floor, such as >=TLSv1.2");
	while (!(allowed & 1u << low))
		low++;
	/* Holes, and a highest version that is excluded by name. An include list may end early: it is a floor. */
	if (said->excluded & all & ~((1u << low) - 1))
		return why_set(why, "excludes a version above %s, which stays; write a floor, such as >=TLSv1.2",
			       protocols[low].name);
	for (int i = low; said->included >> i; i++)
		if (!(allowed & 1u << i))
			return why_set(why, "leaves out %s between others; write a floor, such as >=TLSv1.2", protocols[i].name);
	return low;
}

int protocols_parse(const char *text, uint16_t *floor, struct why *why)
{
	struct said said = {.floor = -1};
	const char *cursor = text;
	bool any = false;
	char item[48];
	int more, low;

	while ((more = item_next(&cursor, " ,:", item, sizeof(item))) == 1) {
		int err = take(&said, item, why);

		if (err)
			return err;
		any = true;
	}
	if (more < 0 || !any)
		return why_set(why, "not a list of protocols; write a floor, such as >=TLSv1.2");
	low = floor_of(&said, why);
	if (low < 0)
		return low;
	*floor = protocols[low].version;
	return 0;
}
