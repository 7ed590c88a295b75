/*
 * ciphers.c - cipher lists as Postfix administrators write them.
 *
 * Enters: Postfix's grades "high" and "medium", or OpenSSL's own names; for exclude a list of names. Leaves:
 * the text as given, and for the image OpenSSL's form. control/ links no OpenSSL: a name that OpenSSL does
 * not know is found when the profile is made. Refuses: grades without security, and characters that no
 * cipher name has.
 */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define CIPHERS_MAX 1024

static const struct {
	const char *grade, *openssl;
} grades[] = {{"high", "HIGH:!aNULL"}, {"medium", "HIGH:MEDIUM:!aNULL"}};

const char *ciphers_openssl(const char *ciphers)
{
	for (size_t i = 0; i < sizeof(grades) / sizeof(grades[0]); i++)
		if (strcasecmp(ciphers, grades[i].grade) == 0)
			return grades[i].openssl;
	return ciphers;
}

static int check_chars(const char *text, const char *punctuation, struct why *why)
{
	for (const char *p = text; *p; p++) {
		bool letter = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9');

		if (!letter && !strchr(punctuation, *p))
			return why_set(why, "not a list of ciphers; OpenSSL's names with ':' between, such as ECDHE+AESGCM:HIGH");
	}
	if (strlen(text) > CIPHERS_MAX)
		return why_set(why, "more than %d characters", CIPHERS_MAX);
	return 0;
}

int ciphers_parse(const char *text, char **out, struct why *why)
{
	static const char *const weak[] = {"low", "export", "null"};
	int err;

	for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++)
		if (strcasecmp(text, weak[i]) == 0)
			return why_set(why, "a grade without security; high, medium, or OpenSSL's names");
	err = check_chars(text, "+-!:@=_.", why);
	if (!err)
		*out = must(strdup(text));
	return err;
}

int exclude_parse(const char *text, char **out, struct why *why)
{
	const char *cursor = text;
	char item[128], list[CIPHERS_MAX + 2] = "";
	int more, err = check_chars(text, "+-_.:, ", why);

	if (err)
		return err;
	while ((more = item_next(&cursor, " ,:", item, sizeof(item))) == 1) {
		if (list[0])
			strcat(list, ":"); /* never longer than `text`, which check_chars has measured */
		strcat(list, item);
	}
	if (more == 0 && !list[0])
		return why_set(why, "empty; OpenSSL's names with ':' between");
	if (more < 0)
		return why_set(why, "a name of more than %zu characters", sizeof(item) - 1);
	*out = must(strdup(list));
	return 0;
}
