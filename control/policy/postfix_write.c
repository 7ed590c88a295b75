/*
 * postfix_write.c - a rule as a line of a Postfix table, with a comment for what Postfix cannot say of it.
 *
 * Invariant: postfix_read() makes the same rule of what is written. A rule that Postfix would carry out otherwise (it
 * cannot observe, nor end a line by itself) gets no line: Postfix would enforce what was only to be looked at.
 */
#include "postfix.h"

#include <string.h>
#include <strings.h>

#include "private.h"

static const char *value_of(const struct rule *rule, const char *name)
{
	int index = attribute_find(name);

	return index >= 0 ? rule->printed[index] : NULL;
}

/* The pins as Postfix has them: each digest of a certificate or of a key, for ever. */
static bool pins_in_pairs(const struct rule *rule)
{
	const struct text_list *pins = &rule->fingerprints;

	for (size_t i = 0; i < pins->count; i += 2) {
		if (strchr(pins->items[i], '@') || i + 1 == pins->count || strncmp(pins->items[i], "cert:", 5) != 0 ||
		    strncmp(pins->items[i + 1], "key:", 4) != 0 || strcmp(pins->items[i] + 5, pins->items[i + 1] + 4) != 0)
			return false;
	}
	return true;
}

static bool one_label_wildcard(const struct rule *rule)
{
	for (size_t i = 0; i < rule->match.count; i++)
		if (rule->match.items[i][0] == '*')
			return true;
	return false;
}

const char *postfix_unsayable(const struct rule *rule)
{
	const char *ciphers = value_of(rule, "ciphers");

	if (rule->kind != POLICY_DOMAIN && rule->kind != POLICY_PARENT)
		return rule->kind == POLICY_DEFAULT ? "the rule for all else is smtp_tls_security_level in main.cf"
						    : "a table has no rules for providers, clients or inbound sessions";
	if (rule->values.level == LEVEL_BLOCK)
		return "Postfix has no level block; transport_maps with error: would be its way";
	if (rule->values.mode == MODE_OBSERVE || rule->values.percent != 100)
		return "Postfix enforces every line; mode=observe and percent= are waxseal's";
	if (rule->values.expires)
		return "no line of Postfix's ends by itself";
	if (rule->values.level == LEVEL_FINGERPRINT && !pins_in_pairs(rule))
		return "Postfix takes each digest for a certificate's and for a key's, and without an end";
	if (one_label_wildcard(rule))
		return "Postfix has no *.domain in match=";
	if (ciphers && strcasecmp(ciphers, "high") != 0 && strcasecmp(ciphers, "medium") != 0)
		return "Postfix has grades of ciphers, and no names";
	return NULL;
}

/* What Postfix takes at that level, in its own words. */
static bool in_line(const struct rule *rule, const char *name)
{
	bool tls = rule->values.level != LEVEL_NONE;

	if (!strcmp(name, "match"))
		return rule->values.level == LEVEL_VERIFY || rule->values.level == LEVEL_SECURE;
	if (!strcmp(name, "fingerprints"))
		return rule->values.level == LEVEL_FINGERPRINT;
	return tls && (!strcmp(name, "protocols") || !strcmp(name, "ciphers") || !strcmp(name, "exclude") || !strcmp(name, "servername"));
}

static void write_pins(const struct rule *rule, FILE *out)
{
	for (size_t i = 0; i < rule->fingerprints.count; i += 2)
		fprintf(out, "%s%s", i ? "|" : " match=", rule->fingerprints.items[i] + 5);
}

void postfix_write_head(FILE *out)
{
	fputs("# For Postfix: smtp_tls_policy_maps = texthash:THIS FILE. Where a line has no protocols=, waxseal asks for TLS 1.2 or\n"
	      "# later: smtp_tls_mandatory_protocols = >=TLSv1.2. waxseal reads its own comments back; Postfix passes them over.\n", out);
}

void postfix_write(const struct rule *rule, FILE *out)
{
	struct rule_field fields[RULE_FIELDS_MAX], with[RULE_FIELDS_MAX];
	size_t count = rule_fields(rule, fields, RULE_FIELDS_MAX), beside = 0;
	const char *why = postfix_unsayable(rule);

	if (why) {
		fprintf(out, "# %s:\n# waxseal rule: ", why);
		rule_print(out, rule_key(rule), fields, count);
		fputc('\n', out);
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (strcmp(fields[i].name, "level") != 0 && !in_line(rule, fields[i].name))
			with[beside++] = fields[i];
	if (beside) {
		rule_print(out, "# waxseal with:", with, beside);
		fputc('\n', out);
	}
	fprintf(out, "%s %s", rule_key(rule), policy_level_name((enum policy_level)rule->values.level));
	for (size_t i = 0; i < count; i++)
		if (!strcmp(fields[i].name, "fingerprints") && in_line(rule, "fingerprints"))
			write_pins(rule, out);
		else if (in_line(rule, fields[i].name))
			fprintf(out, " %s=%s", fields[i].name, fields[i].value);
	fputc('\n', out);
}
