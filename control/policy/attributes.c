/*
 * attributes.c - every attribute of a rule, as one table: name, values, help, parser, printer.
 *
 * Enters: the text of one attribute. Leaves: the value in struct rule, and its canonical text back. The
 * command's help, its completion, Redis, the text file and the error messages all read this table; a new
 * attribute is a new row. Refuses: values that are not exactly one of those in the row, and attributes
 * that a rule of that kind does not have.
 */
#include "private.h"
#include "text.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define KIND(k) (1u << POLICY_##k)
#define ALL_KINDS (KIND(DOMAIN) | KIND(PARENT) | KIND(DEFAULT) | KIND(PROVIDER) | KIND(CLIENT) | KIND(INBOUND))

struct attribute;
typedef int parse_fn(const struct attribute *a, struct rule *rule, const char *value, struct why *why);
typedef void print_fn(const struct attribute *a, const struct rule *rule, FILE *out); /* writes nothing: the default */

struct attribute {
	struct rule_attribute shown;
	parse_fn *parse;
	print_fn *print;
	size_t offset;  /* of its member in struct rule */
	unsigned kinds; /* bit: enum policy_kind */
};

/* ---- words: level, mode ...; the row's `values` are the words in the order of the enum ---- */

static int word_index(const char *words, const char *value)
{
	const char *cursor = words;
	char word[32];

	for (int i = 0; item_next(&cursor, " ", word, sizeof(word)) == 1; i++)
		if (strcmp(word, value) == 0)
			return i;
	return -1;
}

static int parse_word(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	int index = word_index(a->shown.values, value);

	if (index < 0)
		return why_set(why, "not a %s; one of %s", a->shown.name, a->shown.values);
	*((uint8_t *)rule + a->offset) = (uint8_t)index;
	return 0;
}

static void print_word(const struct attribute *a, const struct rule *rule, FILE *out)
{
	const char *cursor = a->shown.values;
	char word[32] = "";
	uint8_t value = *((const uint8_t *)rule + a->offset);

	/* A level is always shown: it is what the rule is about. Of the others the first word is the default. */
	if (value == 0 && a->offset != offsetof(struct rule, values.level))
		return;
	for (unsigned i = 0; i <= value; i++)
		item_next(&cursor, " ", word, sizeof(word));
	fputs(word, out);
}

/* ---- lists ---- */

static struct text_list *list_of(const struct attribute *a, const struct rule *rule)
{
	return (struct text_list *)(void *)((uint8_t *)(uintptr_t)rule + a->offset);
}

static void print_list(const struct attribute *a, const struct rule *rule, char separator, FILE *out)
{
	const struct text_list *list = list_of(a, rule);

	for (size_t i = 0; i < list->count; i++)
		fprintf(out, "%s%s", i ? (char[]){separator, '\0'} : "", list->items[i]);
}

/* Puts the item in front of what is wrong with it, where there are several. */
static int blame_item(struct why *why, const char *item)
{
	struct why inner = *why;

	return why_set(why, "%.60s: %.180s", item, inner.text);
}

static int parse_list(const struct attribute *a, struct rule *rule, const char *value, const char *separators,
		      int (*parse_item)(const char *, char *, struct why *), struct why *why)
{
	char item[512], canonical[512];
	const char *cursor = value;
	int more, err;

	while ((more = item_next(&cursor, separators, item, sizeof(item))) == 1) {
		err = parse_item(item, canonical, why);
		if (err)
			return blame_item(why, item);
		text_list_add(list_of(a, rule), canonical);
	}
	if (more < 0)
		return why_set(why, "one of its items is too long");
	return list_of(a, rule)->count ? 0 : why_set(why, "empty; %s", a->shown.values);
}

static int parse_match(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	int err = parse_list(a, rule, value, " ,:", pattern_parse, why);

	if (!err && rule->match.count > IMAGE_MATCHES_MAX)
		return why_set(why, "%zu patterns, %d is the most", rule->match.count, IMAGE_MATCHES_MAX);
	return err;
}

static void print_match(const struct attribute *a, const struct rule *rule, FILE *out)
{
	print_list(a, rule, ':', out);
}

static int parse_domains(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	return parse_list(a, rule, value, " ,:", name_parse, why);
}

static void print_commas(const struct attribute *a, const struct rule *rule, FILE *out)
{
	print_list(a, rule, ',', out);
}

static int parse_fingerprints(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	int err = parse_list(a, rule, value, " ,|", fingerprint_parse, why);

	if (!err && rule->fingerprints.count > IMAGE_PINS_MAX)
		return why_set(why, "%zu fingerprints, %d is the most", rule->fingerprints.count, IMAGE_PINS_MAX);
	return err;
}

static int parse_nets(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	struct net_list *list = &rule->nets;
	const char *cursor = value;
	char item[NET_TEXT_MAX];
	struct net net;
	int more;

	while ((more = item_next(&cursor, " ,", item, sizeof(item))) == 1) {
		if (net_parse(item, &net, why) != 0)
			return blame_item(why, item);
		if (net.len == 0)
			return why_set(why, "%s: is every address; the rule * is for that", item);
		if ((list->count & (list->count - 1)) == 0)
			list->items = must(realloc(list->items, (list->count ? list->count * 2 : 1) * sizeof(net)));
		list->items[list->count++] = net;
	}
	return more == 0 && list->count ? 0 : why_set(why, "not a list of networks; %s", a->shown.values);
}

static void print_nets(const struct attribute *a, const struct rule *rule, FILE *out)
{
	char text[NET_TEXT_MAX];

	(void)a;
	for (size_t i = 0; i < rule->nets.count; i++) {
		net_print(&rule->nets.items[i], text);
		fprintf(out, "%s%s", i ? "," : "", text);
	}
}

/* ---- numbers and times ---- */

static int parse_protocols(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	(void)a;
	return protocols_parse(value, &rule->values.protocol_min, &rule->values.protocol_max, why);
}

static void print_protocols(const struct attribute *a, const struct rule *rule, FILE *out)
{
	(void)a;
	if (rule->values.protocol_min)
		fprintf(out, ">=%s", protocol_name(rule->values.protocol_min));
	if (rule->values.protocol_max)
		fprintf(out, ":<=%s", protocol_name(rule->values.protocol_max));
}

static int parse_percent(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	size_t digits = strspn(value, "0123456789");
	unsigned long number = strtoul(value, NULL, 10);

	if (digits == 0 || digits > 3 || (value[digits] && strcmp(value + digits, "%") != 0) || number > 100)
		return why_set(why, "not a %s; a whole number from 0 to 100", a->shown.name);
	rule->values.percent = (uint8_t)number;
	return 0;
}

static void print_percent(const struct attribute *a, const struct rule *rule, FILE *out)
{
	(void)a;
	if (rule->values.percent != 100)
		fprintf(out, "%u", rule->values.percent);
}

static int parse_expires(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	(void)a;
	return time_parse(value, &rule->values.expires, why);
}

static void print_expires(const struct attribute *a, const struct rule *rule, FILE *out)
{
	char text[TIME_TEXT_MAX];

	(void)a;
	if (!rule->values.expires)
		return;
	time_print(rule->values.expires, text);
	fputs(text, out);
}

/* ---- texts ---- */

static char **text_of(const struct attribute *a, const struct rule *rule)
{
	return (char **)(void *)((uint8_t *)(uintptr_t)rule + a->offset);
}

static int parse_text(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	if (strlen(value) > TEXT_MAX)
		return why_set(why, "more than %d characters", TEXT_MAX);
	if (!text_printable(value))
		return why_set(why, "has a control character, or is not UTF-8; one line of plain text");
	*text_of(a, rule) = must(strdup(value));
	return 0;
}

static int parse_report(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	bool mail = strncmp(value, "mailto:", 7) == 0 && strchr(value + 7, '@');
	bool web = strncmp(value, "https://", 8) == 0 && value[8];

	if ((!mail && !web) || strchr(value, ' '))
		return why_set(why, "not an address for reports; %s", a->shown.values);
	return parse_text(a, rule, value, why);
}

static int parse_servername(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	char name[IMAGE_DOMAIN_MAX + 1];
	int err = domain_parse(value, name, why);

	if (!err)
		*text_of(a, rule) = must(strdup(name));
	return err;
}

static int parse_pool(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	char name[TOKEN_MAX + 1];
	int err = token_parse(value, "a pool's name", name, why);

	if (!err)
		*text_of(a, rule) = must(strdup(name));
	return err;
}

static int parse_ciphers(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	return ciphers_parse(value, text_of(a, rule), why);
}

static int parse_exclude(const struct attribute *a, struct rule *rule, const char *value, struct why *why)
{
	return exclude_parse(value, text_of(a, rule), why);
}

static void print_text(const struct attribute *a, const struct rule *rule, FILE *out)
{
	if (*text_of(a, rule))
		fputs(*text_of(a, rule), out);
}

/* ---- the table, in the order in which rules are printed ---- */

#define ROW(name, values, help, parse, print, member, kinds) \
	{{name, values, help}, parse, print, offsetof(struct rule, member), kinds}
#define WORDS(name, values, help, member) ROW(name, values, help, parse_word, print_word, member, ALL_KINDS)

static const struct attribute attributes[] = {
	WORDS("level", "none may encrypt dane dane-only fingerprint verify secure block",
	      "what is asked of the session; none touches nothing, may upgrades where offered; a domain without one: as DANE or MTA-STS has it",
	      values.level),
	ROW("match", "hostname, nexthop, dot-nexthop, mx.example.org, .example.org or *.example.org, with ':' between",
	    "names accepted in the certificate; default hostname for verify, nexthop:dot-nexthop for secure", parse_match,
	    print_match, match, ALL_KINDS),
	ROW("protocols", ">=TLSv1.2, or as Postfix has it",
	    "lowest TLS version, and for upgrades the highest; default >=TLSv1.2 from encrypt on (Postfix: >=TLSv1), none below that", parse_protocols,
	    print_protocols, values, ALL_KINDS),
	ROW("ciphers", "OpenSSL's names with ':' between, or high, medium", "ciphers offered in an upgrade", parse_ciphers,
	    print_text, ciphers, ALL_KINDS),
	ROW("exclude", "OpenSSL's names with ':' between", "ciphers not offered in an upgrade", parse_exclude, print_text,
	    exclude, ALL_KINDS),
	ROW("fingerprints", "[key:|cert:]SHA256[@TIME], with ',' between", "pinned keys or certificates, for level fingerprint",
	    parse_fingerprints, print_commas, fingerprints, ALL_KINDS),
	ROW("servername", "mx.example.org, or hostname", "SNI of an upgrade; default the server's host name", parse_servername,
	    print_text, servername, ALL_KINDS),
	WORDS("mode", "enforce observe", "observe decides and counts, and does nothing", values.mode),
	ROW("percent", "0..100", "share of the flows that is enforced; the others are observed", parse_percent, print_percent,
	    values, ALL_KINDS),
	WORDS("on_fail", "defer reject", "class of the reply: defer is 4xx, reject is 5xx", values.on_fail),
	WORDS("e2e", "trust probe", "a client's own TLS under verify, secure, fingerprint, dane: trust it, or ask for a probe's proof",
	      values.e2e),
	WORDS("unknown", "tls pass reset", "flows joined in the middle: what is TLS passes, all pass, or none", values.unknown),
	WORDS("nonsmtp", "pass reset", "bytes on port 25 that are not SMTP", values.nonsmtp),
	WORDS("overload", "pass reset", "no room to take a session over: pass it in clear (none, may), or refuse with 421 (the others)", values.overload),
	WORDS("stripped", "pass refuse", "TLS was had at this server before, and now STARTTLS is not offered, or refused: pass as the level says, or refuse even at may",
	      values.stripped),
	ROW("pool", "NAME", "the worker pool of this destination", parse_pool, print_text, pool,
	    KIND(PROVIDER) | KIND(DEFAULT)),
	ROW("domains", "example.org or .example.org, with ',' between", "recipient domains that have this provider's rule",
	    parse_domains, print_commas, domains, KIND(PROVIDER)),
	ROW("nets", "203.0.113.0/24 or 2001:db8::/32, with ',' between", "addresses of this provider's servers", parse_nets,
	    print_nets, nets, KIND(PROVIDER)),
	ROW("expires", "Unix seconds or 2027-01-31T12:00:00Z", "when the rule ends by itself", parse_expires, print_expires,
	    values, ALL_KINDS),
	ROW("owner", "text", "whose rule it is", parse_text, print_text, owner, ALL_KINDS),
	ROW("reason", "text", "why it is there", parse_text, print_text, reason, ALL_KINDS),
	ROW("report", "mailto:tls@example.org or https://example.org/tls", "where TLS reports for this domain would go",
	    parse_report, print_text, report, ALL_KINDS),
};
enum { ATTRIBUTES = sizeof(attributes) / sizeof(attributes[0]) };
_Static_assert(ATTRIBUTES <= ATTRIBUTES_MAX, "struct rule has a bit and a text for each attribute");

const struct rule_attribute *rule_attribute(size_t index)
{
	return index < ATTRIBUTES ? &attributes[index].shown : NULL;
}

int attribute_find(const char *name)
{
	for (int i = 0; i < ATTRIBUTES; i++)
		if (strcmp(name, attributes[i].shown.name) == 0)
			return i;
	return ATTRIBUTE_NONE;
}

int attribute_parse(int index, struct rule *rule, const char *value, struct why *why)
{
	const struct attribute *a = &attributes[index];

	if (!(a->kinds & 1u << rule->kind))
		return why_set(why, "only a %s has it",
			       a->kinds & KIND(DEFAULT) ? "provider:NAME or *" : "provider:NAME");
	if (rule->given & 1u << index)
		return why_set(why, "given twice; once would be right");
	if (!*value)
		return why_set(why, "empty; leave the attribute out, or give %s", a->shown.values);
	rule->given |= 1u << index;
	return a->parse(a, rule, value, why);
}

char *attribute_print(int index, const struct rule *rule)
{
	const struct attribute *a = &attributes[index];
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (!(rule->given & 1u << index))
		return NULL;
	out = must(open_memstream(&text, &len));
	a->print(a, rule, out);
	if (fclose(out) != 0 || len == 0) {
		free(text);
		return NULL;
	}
	return text;
}

bool attribute_given(const struct rule *rule, const char *name)
{
	int index = attribute_find(name);

	return index >= 0 && rule->given & 1u << index;
}

void attribute_list(char *out, size_t len)
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < ATTRIBUTES && n < len; i++)
		n += (size_t)snprintf(out + n, len - n, "%s%s", i ? " " : "", attributes[i].shown.name);
}
