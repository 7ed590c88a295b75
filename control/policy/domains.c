/*
 * domains.c - names that a person writes: domains, match patterns, short tokens.
 *
 * Enters: text. Leaves: its canonical form, lower case and without a final dot, as the image holds it.
 * Refuses: what is no name, saying which mistake it looks like: an address, an address literal, a
 * Postfix next hop with brackets or a port, an internationalised name that is not an A-label.
 */
#include "private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static bool has_high_byte(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text >= 128)
			return true;
	return false;
}

static bool is_address(const char *text)
{
	uint8_t addr[16];

	return inet_pton(AF_INET, text, addr) == 1 || inet_pton(AF_INET6, text, addr) == 1;
}

static void lower(const char *text, char *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
	out[len] = '\0';
}

int domain_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 1], struct why *why)
{
	size_t len = strlen(text);

	if (has_high_byte(text))
		return why_set(why, "not ASCII; write an internationalised domain as its A-label (xn--...)");
	if (text[0] == '[')
		return why_set(why, "brackets name a host or an address; a rule stands under the recipient's domain");
	if (len > 0 && text[len - 1] == '.')
		len--;
	if (len == 0)
		return why_set(why, "empty where a domain was due");
	if (len > IMAGE_DOMAIN_MAX)
		return why_set(why, "%zu characters; a domain has at most %d", len, IMAGE_DOMAIN_MAX);
	lower(text, out, len);
	if (is_address(out)) /* with a final dot, too */
		return why_set(why, "an address, not a domain; for addresses write provider:NAME nets=ADDRESS/LENGTH");
	if (!policy_domain_valid(out))
		return why_set(why, "not a domain; letters, digits and hyphens in labels of at most 63, such as example.org");
	return 0;
}

int name_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 2], struct why *why)
{
	if (text[0] != '.')
		return domain_parse(text, out, why);
	out[0] = '.';
	return domain_parse(text + 1, out + 1, why);
}

int pattern_parse(const char *text, char out[IMAGE_DOMAIN_MAX + 3], struct why *why)
{
	if (strchr(text, '*') && !(text[0] == '*' && text[1] == '.' && !strchr(text + 1, '*')))
		return why_set(why, "a star stands only for the whole left-most label, as in *.example.org");
	if (text[0] == '*') {
		memcpy(out, "*.", 2);
		return domain_parse(text + 2, out + 2, why);
	}
	return name_parse(text, out, why);
}

int token_parse(const char *text, const char *what, char out[TOKEN_MAX + 1], struct why *why)
{
	size_t len = strlen(text);

	if (len == 0 || len > TOKEN_MAX)
		return why_set(why, "%s has 1 to %d characters", what, TOKEN_MAX);
	lower(text, out, len);
	if (out[strspn(out, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] != '\0')
		return why_set(why, "%s is made of letters, digits, '-', '_' and '.'", what);
	return 0;
}

void text_list_add(struct text_list *list, const char *text)
{
	/* Doubling at powers of two: no capacity to keep. */
	if ((list->count & (list->count - 1)) == 0)
		list->items = must(realloc(list->items, (list->count ? list->count * 2 : 1) * sizeof(*list->items)));
	list->items[list->count++] = must(strdup(text));
}

void text_list_free(struct text_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct text_list){0};
}

int item_next(const char **cursor, const char *separators, char *item, size_t item_len)
{
	const char *at = *cursor + strspn(*cursor, separators);
	size_t len = strcspn(at, separators);

	*cursor = at + len;
	if (len == 0)
		return 0;
	if (len >= item_len)
		return -EINVAL;
	memcpy(item, at, len);
	item[len] = '\0';
	return 1;
}
