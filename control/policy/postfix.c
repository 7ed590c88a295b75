/*
 * postfix.c - reading a table: logical lines, then words, then attributes; each rule is parsed by rule_parse().
 *
 * As Postfix has it: blank lines and comments do not end a logical line, words are parted by blanks or commas, and
 * { name = value } may hold blanks. At level fingerprint `match` is a list of digests, each of a certificate or of a
 * key: two pins here. What is not said in these words is said by line, and never guessed.
 */
#include "postfix.h"

#include <errno.h>
#include <string.h>

#include "private.h"
#include "text.h"

static const char with_mark[] = "# waxseal with:", rule_mark[] = "# waxseal rule:";

/* Attributes of Postfix's that ask nothing of TLS that a rule could say. */
static const char *const beside[] = {"connection_reuse", "enable_rpk", "policy_ttl", "policy_type", "policy_domain", "policy_string",
				     "policy_failure", "mx_host_pattern"};

struct logical {
	unsigned line; /* where it begins */
	char text[RULES_LINE_MAX + 1], with[RULES_LINE_MAX + 1];
	size_t len;
	bool open, too_long;
	unsigned with_line; /* 0: none waits */
};

struct state {
	struct logical logical;
	struct ruleset *set;
	postfix_say *say;
	void *context;
};

/* The attributes of a line, as rule_parse() wants them. */
struct fields {
	struct rule_field list[RULE_FIELDS_MAX];
	size_t count;
	char match[RULES_LINE_MAX * 3]; /* all match= of the line, or its digests twice */
	bool fingerprint;
};

static void say(const struct state *s, unsigned line, enum postfix_what what, const char *key, const char *text)
{
	char message[RULES_ERROR_MAX + 128], clean[RULES_ERROR_MAX + 128];

	snprintf(message, sizeof(message), "%.100s%s%s", key, *key ? ": " : "", text);
	text_clean(message, clean, sizeof(clean));
	s->say(s->context, line, what, clean);
}

static void take_rule(struct state *s, unsigned line, struct rule *rule)
{
	if (!ruleset_find(s->set, rule_key(rule))) {
		ruleset_put(s->set, rule);
		return;
	}
	say(s, line, POSTFIX_UNSAID, rule_key(rule), "stands in this table already; one line a key");
	rule_free(rule);
}

/* ---- attributes ---- */

static int add_field(struct fields *f, const char *name, const char *value)
{
	if (f->count == RULE_FIELDS_MAX)
		return -1;
	f->list[f->count++] = (struct rule_field){name, value};
	return 0;
}

/* Several match= are one list. Each digest of level fingerprint stands for a certificate and for a key. */
static void add_match(struct fields *f, const char *value)
{
	size_t n = strlen(f->match);
	const char *cursor = value;
	char item[512];

	if (!f->fingerprint) {
		snprintf(f->match + n, sizeof(f->match) - n, "%s%s", n ? ":" : "", value);
		return;
	}
	while (item_next(&cursor, "|", item, sizeof(item)) == 1 && n < sizeof(f->match)) {
		bool own = !strncmp(item, "key:", 4) || !strncmp(item, "cert:", 5);
		n += (size_t)snprintf(f->match + n, sizeof(f->match) - n, own ? "%s%s" : "%scert:%s,key:%s", n ? "," : "", item, item);
	}
}

static bool is_beside(const char *name)
{
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
		if (!strcmp(name, beside[i]))
			return true;
	return false;
}

/* name=value; NULL, or what no rule says. */
static const char *take_attribute(struct state *s, const char *key, struct fields *f, char *word)
{
	char *equals = strchr(word, '='), note[128];

	if (!equals || equals == word)
		return "not an attribute; name=value, with blanks around { name = value } only";
	*equals = 0;
	if (!strcmp(word, "tafile"))
		return "tafile: trust anchors of one rule alone; fingerprints= of the servers, or [tls] ca_file for all rules, would be the way";
	if (is_beside(word)) {
		snprintf(note, sizeof(note), "%s: says nothing of TLS here, and is left out", word);
		say(s, s->logical.line, POSTFIX_NOTE, key, note);
		return NULL;
	}
	if (!strcmp(word, "match")) {
		add_match(f, equals + 1);
		return NULL;
	}
	return add_field(f, word, equals + 1) == 0 ? NULL : "too many attributes";
}

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t\r\n");
	for (len = strlen(text); len && strchr(" \t\r\n", text[len - 1]); len--)
		;
	text[len] = 0;
	return text;
}

/* "{ name = value }" to "name=value" in place; *cursor goes behind it. NULL if it does not end. */
static char *braced(char **cursor)
{
	char *from = *cursor + 1, *end = strchr(from, '}'), *equals;

	if (!end)
		return NULL;
	*end = 0;
	*cursor = end + 1;
	from = trim(from);
	equals = strchr(from, '=');
	if (!equals)
		return from;
	*equals = 0;
	char *value = trim(equals + 1);
	size_t name_len = strlen(trim(from));
	memmove(from + name_len + 1, value, strlen(value) + 1);
	from[name_len] = '=';
	return from;
}

/* Where a comma parts two attributes, "a=b,c=d": Postfix takes it for a blank. NULL: it stands within a value. */
static char *parting_comma(char *word)
{
	for (char *comma = strchr(word, ','); comma; comma = strchr(comma + 1, ',')) {
		size_t name = strspn(comma + 1, "abcdefghijklmnopqrstuvwxyz_0123456789");
		if (!comma[1] || (name && comma[1 + name] == '='))
			return comma;
	}
	return NULL;
}

/* All attributes of `text`. NULL, or what no rule says. */
static const char *take_attributes(struct state *s, const char *key, struct fields *f, char *text)
{
	const char *wrong = NULL;
	char *cursor = text, *word;

	while (!wrong) {
		cursor += strspn(cursor, " \t\r\n,");
		if (*cursor == '{') {
			if (!(word = braced(&cursor)))
				return "{ is not closed";
			wrong = take_attribute(s, key, f, word);
			continue;
		}
		bool quoted = memchr(cursor, '"', strcspn(cursor, " \t\r\n"));
		int more = word_next(&cursor, &word);
		if (more < 0)
			return "a double quote is not closed";
		if (more == 0)
			return NULL;
		for (char *comma; !wrong && !quoted && (comma = parting_comma(word)); word = comma + 1) {
			*comma = 0;
			if (*word)
				wrong = take_attribute(s, key, f, word);
		}
		if (!wrong && *word)
			wrong = take_attribute(s, key, f, word);
	}
	return wrong;
}

/* What a key may be that no rule stands under. */
static const char *judge_key(const char *key)
{
	if (*key == '[')
		return "a next hop in brackets is a server and no recipient's domain; provider:NAME nets=its address would be the way";
	if (strchr(key, ':') && strspn(strrchr(key, ':') + 1, "0123456789") == strlen(strrchr(key, ':') + 1))
		return "a next hop with a port; a rule is for a recipient's domain, at port 25";
	if (strpbrk(key, "@/") && !strchr(key, ':'))
		return "not a recipient's domain";
	return NULL;
}

static void lower(char *text)
{
	for (; *text; text++)
		*text = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
}

/* The level is the first word behind the key, alone or as level=. */
static char *take_level(struct fields *f, char **cursor)
{
	char *level = *cursor + strspn(*cursor, " \t\r\n,");
	size_t len = strcspn(level, " \t\r\n,");

	if (memchr(level, '=', len) && strncmp(level, "level=", 6) != 0)
		return NULL;
	if (!strncmp(level, "level=", 6)) {
		level += 6;
		len -= 6;
	}
	*cursor = level + len + (level[len] != 0);
	level[len] = 0;
	lower(level);
	f->fingerprint = !strcmp(level, "fingerprint");
	return len && add_field(f, "level", level) == 0 ? level : NULL;
}

/* One logical line, in place. */
static void take_line(struct state *s)
{
	struct logical *l = &s->logical;
	static struct fields f;
	char error[RULES_ERROR_MAX] = "", *key, *cursor = l->text;
	const char *wrong = NULL;
	struct rule *rule = NULL;

	f.count = 0;
	f.match[0] = 0;
	f.fingerprint = false;
	key = l->text;
	cursor = key + strcspn(key, " \t\r\n");
	if (*cursor)
		*cursor++ = 0;
	if (l->too_long)
		wrong = "longer than a rule can be";
	if (!wrong)
		wrong = judge_key(key);
	if (!wrong && !take_level(&f, &cursor) && strncmp(key, "provider:", 9) != 0)
		wrong = "no level behind the key";
	if (!wrong)
		wrong = take_attributes(s, key, &f, cursor);
	if (!wrong && l->with_line)
		wrong = take_attributes(s, key, &f, l->with);
	if (!wrong && f.match[0])
		wrong = add_field(&f, f.fingerprint ? "fingerprints" : "match", f.match) == 0 ? NULL : "too many attributes";
	if (!wrong)
		rule = rule_parse(key, f.list, f.count, error, sizeof(error));
	if (wrong)
		say(s, l->line, POSTFIX_UNSAID, key, wrong);
	else if (!rule)
		say(s, l->line, POSTFIX_UNSAID, "", error);
	else
		take_rule(s, l->line, rule);
}

/* ---- lines ---- */

static void close_logical(struct state *s)
{
	if (s->logical.open)
		take_line(s);
	s->logical.open = false;
	s->logical.len = 0;
	s->logical.too_long = false;
	s->logical.with_line = 0;
}

static void append(struct logical *l, const char *line, size_t len)
{
	if (len > RULES_LINE_MAX - l->len) {
		l->too_long = true;
		len = RULES_LINE_MAX - l->len; /* its key is told */
	}
	memcpy(l->text + l->len, line, len);
	l->len += len;
	l->text[l->len] = 0;
}

/* A comment of ours, or none of our business. */
static void take_comment(struct state *s, unsigned number, const char *line, size_t len)
{
	char text[RULES_LINE_MAX + 1], error[RULES_ERROR_MAX];
	bool with = len >= sizeof(with_mark) - 1 && !memcmp(line, with_mark, sizeof(with_mark) - 1);
	bool rule = len >= sizeof(rule_mark) - 1 && !memcmp(line, rule_mark, sizeof(rule_mark) - 1);

	if (!with && !rule)
		return;
	close_logical(s);
	size_t mark = with ? sizeof(with_mark) - 1 : sizeof(rule_mark) - 1;
	if (len - mark > RULES_LINE_MAX) {
		say(s, number, POSTFIX_UNSAID, "", "longer than a rule can be");
		return;
	}
	memcpy(text, line + mark, len - mark);
	text[len - mark] = 0;
	if (with) {
		s->logical.with_line = number;
		memcpy(s->logical.with, text, len - mark + 1);
		return;
	}
	struct rule *parsed = rule_parse_line(text, error, sizeof(error));
	if (parsed)
		take_rule(s, number, parsed);
	else
		say(s, number, POSTFIX_UNSAID, "", *error ? error : "no rule behind \"# waxseal rule:\"");
}

static void take_physical(struct state *s, unsigned number, const char *line, size_t len)
{
	size_t blanks = 0;

	if (len && line[len - 1] == '\r')
		len--;
	while (blanks < len && (line[blanks] == ' ' || line[blanks] == '\t'))
		blanks++;
	if (blanks == len)
		return;
	if (memchr(line, 0, len)) {
		close_logical(s);
		say(s, number, POSTFIX_UNSAID, "", "a NUL byte in the line; a table is plain text");
	} else if (line[blanks] == '#') {
		take_comment(s, number, line, len);
	} else if (blanks == 0) {
		unsigned with_line = s->logical.open ? 0 : s->logical.with_line;
		close_logical(s);
		s->logical.with_line = with_line;
		s->logical.open = true;
		s->logical.line = number;
		append(&s->logical, line, len);
	} else if (s->logical.open) {
		append(&s->logical, line, len);
	} else {
		say(s, number, POSTFIX_UNSAID, "", "begins with a blank, and there is no line before it to go on with");
	}
}

void postfix_read(const char *text, size_t len, struct ruleset *set, postfix_say *tell, void *context)
{
	struct state *s = must(calloc(1, sizeof(*s)));
	unsigned number = 0;

	s->set = set;
	s->say = tell;
	s->context = context;
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t line_len = end ? (size_t)(end - text) : len, taken = line_len + (end != NULL);

		take_physical(s, ++number, text, line_len);
		text += taken;
		len -= taken;
	}
	if (!s->logical.open && s->logical.with_line)
		say(s, s->logical.with_line, POSTFIX_UNSAID, "", "\"# waxseal with:\" without a line behind it");
	close_logical(s);
	free(s);
}
