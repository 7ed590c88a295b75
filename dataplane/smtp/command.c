/*
 * command.c - the client's lines: verbs, paths, BDAT.
 *
 * Enters: one line, or the word that begins it. Leaves: its verb, its arguments, the domain of a path. The
 * table below is the only place that knows which verbs decide. Refuses: paths whose domain two servers
 * could read differently; the caller then has no domain, and no rule for one is ever chosen by a guess.
 */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* A verb that `opens` matches every word that begins with it. It decides, or (STARTTLS) it changes the
 * channel: a server that compares four letters must not be let into a transaction by MAILX. */
static const struct verb_row {
	const char *name;
	enum smtp_verb verb;
	bool opens;
	bool decides;
	enum smtp_after after;
} verbs[] = {
	{"EHLO",     SMTP_EHLO,     false, false, SMTP_AFTER_LINES},
	{"HELO",     SMTP_HELO,     false, false, SMTP_AFTER_LINES},
	{"LHLO",     SMTP_LHLO,     false, false, SMTP_AFTER_LINES},
	{"STARTTLS", SMTP_STARTTLS, true,  false, SMTP_AFTER_REPLY},
	{"AUTH",     SMTP_AUTH,     true,  true,  SMTP_AFTER_REPLY},
	{"X-EXPS",   SMTP_AUTH,     true,  true,  SMTP_AFTER_REPLY}, /* Exchange's AUTH of old */
	{"MAIL",     SMTP_MAIL,     true,  true,  SMTP_AFTER_LINES},
	{"SEND",     SMTP_SEND,     true,  true,  SMTP_AFTER_LINES},
	{"SOML",     SMTP_SEND,     true,  true,  SMTP_AFTER_LINES},
	{"SAML",     SMTP_SEND,     true,  true,  SMTP_AFTER_LINES},
	{"RCPT",     SMTP_RCPT,     true,  true,  SMTP_AFTER_LINES},
	{"DATA",     SMTP_DATA,     true,  true,  SMTP_AFTER_REPLY},
	{"BDAT",     SMTP_BDAT,     true,  true,  SMTP_AFTER_CHUNK},
	{"BURL",     SMTP_BURL,     true,  true,  SMTP_AFTER_LINES},
	{"TURN",     SMTP_TURN,     true,  true,  SMTP_AFTER_REPLY},
	{"ATRN",     SMTP_TURN,     true,  true,  SMTP_AFTER_REPLY},
	{"XCLIENT",  SMTP_XCLIENT,  true,  true,  SMTP_AFTER_LINES},
	{"XFORWARD", SMTP_XFORWARD, true,  true,  SMTP_AFTER_LINES},
	{"RSET",     SMTP_RSET,     false, false, SMTP_AFTER_LINES},
	{"NOOP",     SMTP_NOOP,     false, false, SMTP_AFTER_LINES},
	{"VRFY",     SMTP_VRFY,     false, false, SMTP_AFTER_LINES},
	{"EXPN",     SMTP_EXPN,     false, false, SMTP_AFTER_LINES},
	{"HELP",     SMTP_HELP,     false, false, SMTP_AFTER_LINES},
	{"QUIT",     SMTP_QUIT,     false, false, SMTP_AFTER_LINES},
	{"ETRN",     SMTP_ETRN,     false, false, SMTP_AFTER_LINES},
};
#define VERB_ROWS (sizeof(verbs) / sizeof(verbs[0]))

static const struct verb_row *row_of(enum smtp_verb verb)
{
	for (size_t i = 0; i < VERB_ROWS; i++)
		if (verbs[i].verb == verb)
			return &verbs[i];
	return NULL;
}

const char *smtp_verb_name(enum smtp_verb verb)
{
	const struct verb_row *row = row_of(verb);
	return row ? row->name : "unknown";
}

bool smtp_verb_decides(enum smtp_verb verb)
{
	const struct verb_row *row = row_of(verb);
	return row && row->decides;
}

enum smtp_after smtp_verb_after(enum smtp_verb verb)
{
	const struct verb_row *row = row_of(verb);
	return row ? row->after : SMTP_AFTER_LINES;
}

/* The words that open a verb, and what follows them directly; *used is the length of the name. */
static const struct verb_row *match(const uint8_t *word, size_t len, size_t *used)
{
	for (size_t i = 0; i < VERB_ROWS; i++) {
		size_t n = strlen(verbs[i].name);
		if (len < n || (len > n && !verbs[i].opens) || strncasecmp((const char *)word, verbs[i].name, n) != 0)
			continue;
		*used = n;
		return &verbs[i];
	}
	return NULL;
}

enum smtp_verb smtp_verb_of(const uint8_t *word, size_t len)
{
	size_t used;
	const struct verb_row *row = match(word, len, &used);
	return row ? row->verb : SMTP_UNKNOWN;
}

bool smtp_verb_may_decide(const uint8_t *word, size_t len)
{
	if (len && len < strlen("STARTTLS") && strncasecmp((const char *)word, "STARTTLS", len) == 0)
		return false; /* SEND, SOML and SAML are of 1982 */
	for (size_t i = 0; i < VERB_ROWS; i++)
		if (verbs[i].decides && len <= strlen(verbs[i].name) && strncasecmp((const char *)word, verbs[i].name, len) == 0)
			return true;
	return false;
}

/* ---- a line ---- */

static size_t without_end(const uint8_t *line, size_t len)
{
	if (len && line[len - 1] == '\n')
		len--;
	if (len && line[len - 1] == '\r')
		len--;
	return len;
}

bool smtp_line_ambiguous(const uint8_t *line, size_t len)
{
	len = without_end(line, len);
	return len && (memchr(line, '\r', len) || memchr(line, 0, len));
}

void smtp_command_parse(const uint8_t *line, size_t len, struct smtp_command *out)
{
	size_t at = 0, word, used = 0;

	*out = (struct smtp_command){.verb = SMTP_UNKNOWN, .odd = smtp_line_ambiguous(line, len)};
	len = without_end(line, len);
	for (size_t i = 0; i < len && !out->odd; i++)
		out->odd = line[i] >= 0x80;
	while (at < len && smtp_blank(line[at]))
		at++;
	for (word = at; word < len && !smtp_blank(line[word]);)
		word++;
	const struct verb_row *row = match(line + at, word - at, &used);
	if (row)
		out->verb = row->verb;
	at = row ? at + used : word;
	while (at < len && smtp_blank(line[at]))
		at++;
	while (len > at && smtp_blank(line[len - 1]))
		len--;
	out->args = (const char *)line + at;
	out->args_len = len - at;
}

/* ---- paths ---- */

struct path { const char *at, *end; };

/* Behind "TO:" or "FROM:"; RFC 5321 has no blank there, clients do. */
static bool path_find(const struct smtp_command *command, struct path *path)
{
	const char *p = command->args, *end = p + command->args_len;
	static const char *const introductions[] = {"FROM", "TO"};

	for (size_t i = 0; i < 2; i++) {
		size_t n = strlen(introductions[i]);
		if ((size_t)(end - p) < n || strncasecmp(p, introductions[i], n) != 0)
			continue;
		const char *q = p + n;
		while (q < end && smtp_blank((uint8_t)*q))
			q++;
		if (q == end || *q != ':')
			return false;
		for (q++; q < end && smtp_blank((uint8_t)*q);)
			q++;
		*path = (struct path){q, end};
		return q < end;
	}
	return false;
}

/* Cuts the path out of its brackets, or, without them, up to the first blank. */
static bool path_cut(struct path *path)
{
	bool bracket = *path->at == '<', quoted = false;
	const char *p = path->at + bracket;

	path->at = p;
	for (; p < path->end; p++) {
		if (*p == '\\' && p + 1 < path->end)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && (bracket ? *p == '>' : smtp_blank((uint8_t)*p)))
			break;
	}
	/* "<a@good.example>x" is read with or without its tail. */
	if (bracket && (p == path->end || (p + 1 < path->end && !smtp_blank((uint8_t)p[1]))))
		return false;
	path->end = p;
	return !quoted;
}

/* "@one.example,@two.example:user@three.example": the route is ignored, as RFC 5321 (3.6.1) lets servers do. */
static bool route_skip(struct path *path)
{
	if (path->at == path->end || *path->at != '@')
		return true;
	const char *colon = memchr(path->at, ':', (size_t)(path->end - path->at));
	const char *quote = memchr(path->at, '"', (size_t)(path->end - path->at));
	if (!colon || (quote && quote < colon))
		return false;
	path->at = colon + 1;
	return true;
}

static int domain_copy(const char *domain, size_t len, char out[SMTP_DOMAIN_MAX])
{
	bool literal = len > 2 && domain[0] == '[' && domain[len - 1] == ']';

	while (len && domain[len - 1] == '.')
		len--;
	if (!len || len >= SMTP_DOMAIN_MAX || domain[0] == '.')
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)domain[i];
		bool edge = literal && (i == 0 || i == len - 1);
		if (c <= ' ' || c == 0x7f || (!edge && strchr("\"\\()<>[],;@%!", c)) || (c == ':' && !literal)) {
			out[0] = 0;
			return -EINVAL;
		}
		out[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	out[len] = 0;
	return 0;
}

int smtp_path_domain(const struct smtp_command *command, char out[SMTP_DOMAIN_MAX])
{
	struct path path;
	const char *domain = NULL;
	bool quoted = false;

	out[0] = 0;
	if (!path_find(command, &path) || !path_cut(&path) || !route_skip(&path))
		return -EINVAL;
	for (const char *p = path.at; p < path.end; p++) {
		if (*p == '\\' && p + 1 < path.end)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (*p == '@' && !quoted)
			domain = p + 1; /* the last one: servers split at the rightmost */
	}
	if (!domain)
		return 0;
	return domain_copy(domain, (size_t)(path.end - domain), out);
}

/* ---- chunks ---- */

static bool last_word(const char *p, size_t len)
{
	return len == 4 && strncasecmp(p, "LAST", 4) == 0;
}

bool smtp_args_end_with_last(const struct smtp_command *command)
{
	size_t len = command->args_len;
	return len > 4 && smtp_blank((uint8_t)command->args[len - 5]) && last_word(command->args + len - 4, 4);
}

int smtp_bdat_parse(const struct smtp_command *command, uint64_t *size, bool *last)
{
	const char *p = command->args, *end = p + command->args_len;
	uint64_t n = 0;

	*size = 0;
	*last = false;
	if (p == end || *p < '0' || *p > '9')
		return -EINVAL;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -EINVAL;
	if (p < end) {
		if (!smtp_blank((uint8_t)*p))
			return -EINVAL;
		while (smtp_blank((uint8_t)*p)) /* the arguments end with no blank */
			p++;
		if (!last_word(p, (size_t)(end - p)))
			return -EINVAL;
		*last = true;
	}
	*size = n;
	return 0;
}
