/*
 * sts_text.c - RFC 8461's two small languages, read to the letter where it has consequences and no further.
 *
 * Blank lines are let through, though the RFC has none; a line without a colon, a value that is none, and a required
 * field that is missing make the whole policy invalid.
 */
#include "sts_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../dataplane/policy/policy.h"
#include "../policy/must.h"

#define VERSION "STSv1"
#define MAX_AGE_DIGITS 10

static const char *const modes[] = {[STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};
#define MODES (sizeof(modes) / sizeof(modes[0]))

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool same(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

const char *sts_mode_name(enum policy_sts mode) { return modes[mode]; }

bool sts_mode_parse(const char *text, size_t len, enum policy_sts *mode)
{
	for (size_t i = 0; i < MODES; i++)
		if (same(text, len, modes[i])) {
			*mode = (enum policy_sts)i;
			return true;
		}
	return false;
}

/* ---- the TXT record ---- */

static bool alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool sts_id_valid(const char *id)
{
	size_t len = strlen(id);

	for (size_t i = 0; i < len; i++)
		if (!alphanumeric(id[i]))
			return false;
	return len >= 1 && len <= STS_ID_MAX;
}

bool sts_record_is_ours(const char *text, size_t len)
{
	static const char begin[] = "v=" VERSION;
	size_t at = sizeof(begin) - 1;

	if (len < at || memcmp(text, begin, at) != 0)
		return false;
	while (at < len && blank(text[at]))
		at++;
	return at < len && text[at] == ';';
}

bool sts_record_parse(const char *text, size_t len, char id[STS_ID_MAX + 1])
{
	bool found = false;

	if (!sts_record_is_ours(text, len) || memchr(text, 0, len))
		return false;
	for (const char *end = text + len, *at = memchr(text, ';', len); at && at < end;) {
		at++; /* behind the semicolon */
		const char *stop = memchr(at, ';', (size_t)(end - at)), *last = stop ? stop : end;
		while (at < last && blank(*at))
			at++;
		while (last > at && blank(last[-1]))
			last--;
		if (!found && last - at > 3 && !memcmp(at, "id=", 3)) {
			size_t n = (size_t)(last - at) - 3;
			if (n > STS_ID_MAX)
				return false;
			memcpy(id, at + 3, n);
			id[n] = 0;
			if (!sts_id_valid(id))
				return false;
			found = true;
		}
		at = stop;
	}
	return found;
}

/* ---- the policy ---- */

void sts_policy_dispose(struct sts_policy *policy)
{
	for (size_t i = 0; i < policy->mx_count; i++)
		free(policy->mx[i]);
	free(policy->mx);
	*policy = (struct sts_policy){0};
}

bool sts_policy_equal(const struct sts_policy *a, const struct sts_policy *b)
{
	if (a->mode != b->mode || a->max_age != b->max_age || a->mx_count != b->mx_count)
		return false;
	for (size_t i = 0; i < a->mx_count; i++)
		if (strcmp(a->mx[i], b->mx[i]) != 0)
			return false;
	return true;
}

static bool add_mx(struct sts_policy *policy, const char *text, size_t len)
{
	char pattern[IMAGE_DOMAIN_MAX + 3];

	if (len && text[len - 1] == '.')
		len--;
	if (!len || len >= sizeof(pattern) || policy->mx_count == STS_MX_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		pattern[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
	pattern[len] = 0;
	const char *name = !strncmp(pattern, "*.", 2) ? pattern + 2 : pattern;
	if (strlen(pattern) != len || !*name || !policy_domain_valid(name) || strchr(name, '*'))
		return false;
	if (!policy->mx)
		policy->mx = must(calloc(STS_MX_MAX, sizeof(*policy->mx)));
	policy->mx[policy->mx_count++] = must(strdup(pattern));
	return true;
}

static bool max_age_parse(const char *text, size_t len, uint32_t *out)
{
	uint64_t n = 0;

	if (len < 1 || len > MAX_AGE_DIGITS)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(text[i] - '0');
	}
	*out = n > STS_MAX_AGE_MAX ? STS_MAX_AGE_MAX : (uint32_t)n;
	return true;
}

struct reading {
	struct sts_policy *policy;
	bool version, mode, max_age;
};

static const char *take_field(struct reading *r, const char *key, size_t key_len, const char *value, size_t len)
{
	if (same(key, key_len, "version")) {
		if (!r->version && !same(value, len, VERSION))
			return "version is not STSv1";
		r->version = true;
	} else if (same(key, key_len, "mode")) {
		if (!r->mode && !sts_mode_parse(value, len, &r->policy->mode))
			return "mode is none of enforce, testing, none";
		r->mode = true;
	} else if (same(key, key_len, "max_age")) {
		if (!r->max_age && !max_age_parse(value, len, &r->policy->max_age))
			return "max_age is no number of seconds";
		r->max_age = true;
	} else if (same(key, key_len, "mx")) {
		if (!add_mx(r->policy, value, len))
			return "an mx that is no host name and no *.domain, or too many";
	}
	return NULL;
}

static const char *take_line(struct reading *r, const char *line, size_t len)
{
	while (len && blank(line[len - 1]))
		len--;
	if (!len)
		return NULL;
	const char *colon = memchr(line, ':', len);
	if (!colon)
		return "a line that is no field";
	const char *value = colon + 1, *end = line + len;
	size_t key = (size_t)(colon - line);
	while (value < end && blank(*value))
		value++;
	while (key && blank(line[key - 1]))
		key--;
	return take_field(r, line, key, value, (size_t)(end - value));
}

static const char *missing(const struct reading *r)
{
	if (!r->version)
		return "no version";
	if (!r->mode)
		return "no mode";
	if (!r->max_age)
		return "no max_age";
	return r->policy->mode != STS_NONE && !r->policy->mx_count ? "no mx" : NULL;
}

const char *sts_policy_parse(const char *text, size_t len, struct sts_policy *policy)
{
	struct reading r = {.policy = policy};
	const char *why = len > STS_TEXT_MAX ? "longer than 64 KB" : NULL, *end = text + len;

	*policy = (struct sts_policy){0};
	for (const char *next; !why && text < end; text = next) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline ? newline : end) - text);
		next = newline ? newline + 1 : end;
		why = take_line(&r, text, n && text[n - 1] == '\r' ? n - 1 : n);
	}
	if (!why)
		why = missing(&r);
	if (why)
		sts_policy_dispose(policy);
	return why;
}

/* ---- Redis and the memory ---- */

bool sts_mx_parse(const char *text, struct sts_policy *policy)
{
	for (size_t len; *(text += strspn(text, " ")); text += len) {
		len = strcspn(text, " ");
		if (!add_mx(policy, text, len))
			return false;
	}
	return policy->mode == STS_NONE || policy->mx_count > 0;
}

char *sts_mx_print(const struct sts_policy *policy)
{
	char *text = NULL;
	size_t len;
	FILE *out = must(open_memstream(&text, &len));

	for (size_t i = 0; i < policy->mx_count; i++)
		fprintf(out, "%s%s", i ? " " : "", policy->mx[i]);
	fclose(out);
	return must(text);
}
