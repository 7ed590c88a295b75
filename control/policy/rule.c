/*
 * rule.c - one rule: from a line or from fields, and back.
 *
 * Enters: a key and attributes as text. Leaves: a struct rule that has been checked as a whole, with the
 * canonical text of each attribute; or NULL and one line: key, attribute, the wrong value, what would be right.
 * Invariant: what rule_fields() prints parses to an equal rule. Refuses: a rule that could never be met
 * (verify for a provider without a name to match), and one that says nothing of what is to be done.
 */
#include "private.h"
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define SHOWN_MAX 80 /* characters of a wrong value in a message */

int why_set(struct why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return -EINVAL;
}

static const char *shown(const char *text, char out[SHOWN_MAX + 4])
{
	text_clean(text, out, SHOWN_MAX + 4);
	return out;
}

/* ---- the rule as a whole ---- */

static bool has_literal_match(const struct rule *rule)
{
	for (size_t i = 0; i < rule->match.count; i++)
		if (!policy_pattern_is_keyword(rule->match.items[i]))
			return true;
	return false;
}

/* "hostname" alone, as by default for verify. */
static bool compares_hostname(const struct rule *rule)
{
	for (size_t i = 0; i < rule->match.count; i++)
		if (strcmp(rule->match.items[i], "hostname") != 0)
			return false;
	return rule->match.count || rule->values.level == LEVEL_VERIFY;
}

/* A rule that compares with the server's name alone. For all the world, or for a customer, no name is known of most servers; a
 * provider's are, where the DNS of its domains tells them, or where it has one name. From outside no certificate is seen. */
static int check_match(const struct rule *rule, struct why *why)
{
	const char *level = policy_level_name((enum policy_level)rule->values.level);
	bool named = rule->kind == POLICY_PROVIDER && (rule->domains.count || (rule->servername && strcmp(rule->servername, "hostname") != 0));

	if (rule->values.level != LEVEL_VERIFY && rule->values.level != LEVEL_SECURE)
		return 0;
	if (rule->kind == POLICY_DOMAIN || rule->kind == POLICY_PARENT || named || has_literal_match(rule))
		return 0;
	if (rule->kind != POLICY_INBOUND && !compares_hostname(rule))
		return 0; /* it waits for the recipient's domain */
	return why_set(why, "level=%s: no name to match: the names of most servers are not known; "
		       "add match=mx.example.org or match=.example.org, the names in the servers' certificates", level);
}

/* Without a level a domain's rule is what is discovered for it: DANE, then MTA-STS, else as if there were no rule. A
 * provider's is that for each of its domains=; at MAIL it has the rule of "*", also where it lists none. */
static int check_level(const struct rule *rule, struct why *why)
{
	static const char *const needs_level[] = {"match", "fingerprints", "unknown", "nonsmtp", "mode", "percent", "on_fail", "protocols",
						  "ciphers", "exclude", "e2e", "overload", "stripped"};
	size_t count = sizeof(needs_level) / sizeof(needs_level[0]);

	if (attribute_given(rule, "level") || rule->kind == POLICY_DEFAULT)
		return 0;
	if (rule->kind == POLICY_DOMAIN)
		count = 2;
	else if (rule->kind == POLICY_PROVIDER && rule->domains.count)
		count = 4;
	else if (rule->kind != POLICY_PROVIDER)
		return why_set(why, "level: missing; one of %s", rule_attribute(0)->values);
	for (size_t i = 0; i < count; i++)
		if (attribute_given(rule, needs_level[i]))
			return why_set(why, "%s: needs a level beside it; one of %s", needs_level[i], rule_attribute(0)->values);
	return 0;
}

static int check_whole(const struct rule *rule, struct why *why)
{
	int err = check_level(rule, why);

	if (!err)
		err = check_match(rule, why);
	if (!err && rule->values.level == LEVEL_FINGERPRINT && rule->fingerprints.count == 0)
		err = why_set(why, "level=fingerprint: no fingerprints; add fingerprints=SHA256 of the key or the certificate");
	if (!err && rule->kind == POLICY_PROVIDER && rule->nets.count == 0 && rule->domains.count == 0)
		err = why_set(why, "nets: missing; a provider is known by its servers' addresses, nets=203.0.113.0/24, "
			      "or its recipients' domains=");
	return err;
}

/* ---- from fields ---- */

static int take_field(struct rule *rule, const struct rule_field *field, struct why *why)
{
	char name[SHOWN_MAX + 4], value[SHOWN_MAX + 4], list[WHY_MAX];
	int index = attribute_find(field->name);
	struct why inner;

	if (index == ATTRIBUTE_NONE) {
		attribute_list(list, sizeof(list));
		return why_set(why, "%.30s: no such attribute; one of %s", shown(field->name, name), list);
	}
	if (attribute_parse(index, rule, field->value, &inner) == 0)
		return 0;
	return why_set(why, "%s=%s: %s", rule_attribute((size_t)index)->name, shown(field->value, value), inner.text);
}

static struct rule *rule_new(const char *key, enum policy_kind kind)
{
	struct rule *rule = must(calloc(1, sizeof(*rule)));
	const char *name = key;

	/* "example.org" and "google" are known by name; "inbound:*" and "client:..." keep the word that tells them apart. */
	if (kind == POLICY_PROVIDER)
		name = strchr(key, ':') + 1;
	rule->key = must(strdup(key));
	rule->name = must(strdup(name));
	rule->kind = kind;
	rule->values.kind = (uint8_t)kind;
	rule->values.level = LEVEL_MAY;
	rule->values.percent = 100;
	return rule;
}

static void print_fields(struct rule *rule)
{
	for (int i = 0; rule_attribute((size_t)i); i++)
		rule->printed[i] = attribute_print(i, rule);
}

/* Where a rule leaves the version open; policy.md's floor for MTA-STS is the one for all mandatory levels. */
static void set_defaults(struct rule *rule)
{
	if (rule->values.protocol_min == 0 && rule->values.level >= LEVEL_ENCRYPT && rule->values.level != LEVEL_BLOCK)
		rule->values.protocol_min = PROTOCOL_MODERN;
	/* Mail that must travel encrypted waits where there is no room for it: it does not go out in clear. */
	if (!attribute_given(rule, "overload") && rule->values.level >= LEVEL_ENCRYPT)
		rule->values.overload = PASS_RESET;
}

struct rule *rule_parse(const char *key, const struct rule_field *fields, size_t count, char *error, size_t error_len)
{
	char canonical[KEY_MAX], text[SHOWN_MAX + 4];
	enum policy_kind kind;
	struct rule *rule = NULL;
	struct why why = {""};
	int err = key_parse(key, canonical, &kind, &why);

	if (!err)
		rule = rule_new(canonical, kind);
	for (size_t i = 0; i < count && !err; i++)
		err = take_field(rule, &fields[i], &why);
	if (!err)
		err = check_whole(rule, &why);
	if (err) {
		char message[SHOWN_MAX + 4 + WHY_MAX];

		/* Parts of a value stand in it, too. */
		snprintf(message, sizeof(message), "%s: %s", shown(key, text), why.text);
		text_clean(message, error, error_len);
		rule_free(rule);
		return NULL;
	}
	print_fields(rule);
	set_defaults(rule);
	return rule;
}

/* ---- from a line ---- */

int word_next(char **cursor, char **word)
{
	char *from = *cursor + strspn(*cursor, " \t\r\n"), *to = from;
	bool quoted = false;

	*word = to;
	if (!*from || *from == '#') {
		*cursor = from;
		return 0;
	}
	for (; *from && (quoted || !strchr(" \t\r\n", *from)); from++) {
		if (*from == '"')
			quoted = !quoted;
		else if (quoted && *from == '\\' && (from[1] == '"' || from[1] == '\\'))
			*to++ = *++from;
		else
			*to++ = *from;
	}
	if (quoted)
		return -EINVAL;
	*cursor = *from ? from + 1 : from;
	*to = '\0';
	return 1;
}

/* `word` as name=value; as Postfix has it, the first one may be a level alone. */
static int split_word(char *word, bool first, struct rule_field *out)
{
	char *equals = strchr(word, '=');

	if (!equals && !first)
		return -EINVAL;
	out->name = equals ? word : "level";
	out->value = equals ? equals + 1 : word;
	if (equals)
		*equals = '\0';
	return 0;
}

static struct rule *parse_words(char *line, char *error, size_t error_len)
{
	struct rule_field fields[RULE_FIELDS_MAX];
	char *cursor = line, *key, *word, text[SHOWN_MAX + 4];
	size_t count = 0;
	int more = word_next(&cursor, &key);

	if (more == 0)
		return NULL;
	while (more > 0 && (more = word_next(&cursor, &word)) == 1) {
		if (count == RULE_FIELDS_MAX) {
			snprintf(error, error_len, "%s: more than %d attributes", shown(key, text), RULE_FIELDS_MAX);
			return NULL;
		}
		if (split_word(word, count == 0, &fields[count]) != 0) {
			char bad[SHOWN_MAX + 4];

			snprintf(error, error_len, "%s: %s: not an attribute; write name=value, with quotes around blanks",
				 shown(key, text), shown(word, bad));
			return NULL;
		}
		count++;
	}
	if (more < 0) {
		snprintf(error, error_len, "%s: a double quote is not closed", shown(key, text));
		return NULL;
	}
	return rule_parse(key, fields, count, error, error_len);
}

struct rule *rule_parse_line(const char *line, char *error, size_t error_len)
{
	size_t len = strnlen(line, RULES_LINE_MAX + 1);
	struct rule *rule;
	char *copy;

	error[0] = '\0';
	if (len > RULES_LINE_MAX) {
		snprintf(error, error_len, "the line is longer than %d characters", RULES_LINE_MAX);
		return NULL;
	}
	copy = must(strdup(line));
	rule = parse_words(copy, error, error_len);
	free(copy);
	return rule;
}

/* ---- the rest ---- */

void rule_free(struct rule *rule)
{
	if (!rule)
		return;
	for (size_t i = 0; i < ATTRIBUTES_MAX; i++)
		free(rule->printed[i]);
	text_list_free(&rule->match);
	text_list_free(&rule->domains);
	text_list_free(&rule->fingerprints);
	free(rule->nets.items);
	free(rule->servername);
	free(rule->ciphers);
	free(rule->exclude);
	free(rule->pool);
	free(rule->owner);
	free(rule->reason);
	free(rule->report);
	free(rule->name);
	free(rule->key);
	free(rule);
}

const char *rule_key(const struct rule *rule)
{
	return rule->key;
}

size_t rule_fields(const struct rule *rule, struct rule_field *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; rule_attribute(i) && n < max; i++)
		if (rule->printed[i])
			out[n++] = (struct rule_field){rule_attribute(i)->name, rule->printed[i]};
	return n;
}

uint64_t rule_expires(const struct rule *rule)
{
	return rule->values.expires;
}

const char *rule_unsupported(const struct rule *rule)
{
	(void)rule;
	return NULL; /* every key and level that the parser takes can be put into force, or refuses by itself */
}
