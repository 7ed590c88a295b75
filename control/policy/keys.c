/*
 * keys.c - what a rule stands under.
 *
 * Enters: "example.org", ".example.org", "*", "provider:NAME", "client:CIDR", "inbound:*", "inbound:DOMAIN",
 * "inbound:CIDR", in any case. Leaves: the one canonical spelling, and the kind of rule. Two spellings of
 * one key must not be two rules: whichever came last would win without a word.
 */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

const char *key_subject(const char *key)
{
	return strchr(key, ':') + 1;
}

bool key_subject_is_net(const char *subject)
{
	return strpbrk(subject, ":/") != NULL;
}

static int parse_provider(const char *text, char out[KEY_MAX], struct why *why)
{
	char token[TOKEN_MAX + 1];
	int err = token_parse(text, "a provider's name", token, why);

	if (!err)
		snprintf(out, KEY_MAX, "provider:%s", token);
	return err;
}

static int parse_client(const char *text, char out[KEY_MAX], struct why *why)
{
	char cidr[NET_TEXT_MAX];
	struct net net;
	int err = net_parse(text, &net, why);

	if (err)
		return err;
	net_print(&net, cidr);
	snprintf(out, KEY_MAX, "client:%s", cidr);
	return 0;
}

static int parse_inbound(const char *text, char out[KEY_MAX], struct why *why)
{
	char name[IMAGE_DOMAIN_MAX + 2], cidr[NET_TEXT_MAX];
	struct net net;
	int err;

	if (strcmp(text, "*") == 0) {
		strcpy(out, "inbound:*");
		return 0;
	}
	if (key_subject_is_net(text)) {
		err = net_parse(text, &net, why);
		if (err)
			return err;
		net_print(&net, cidr);
		snprintf(out, KEY_MAX, "inbound:%s", cidr);
		return 0;
	}
	err = name_parse(text, name, why);
	if (!err)
		snprintf(out, KEY_MAX, "inbound:%s", name);
	return err;
}

static const struct {
	const char *prefix;
	enum policy_kind kind;
	int (*parse)(const char *text, char out[KEY_MAX], struct why *why);
} prefixes[] = {
	{"provider:", POLICY_PROVIDER, parse_provider},
	{"client:", POLICY_CLIENT, parse_client},
	{"inbound:", POLICY_INBOUND, parse_inbound},
};

int key_parse(const char *text, char out[KEY_MAX], enum policy_kind *kind, struct why *why)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i].prefix);

		if (strncasecmp(text, prefixes[i].prefix, len) == 0) {
			*kind = prefixes[i].kind;
			return prefixes[i].parse(text + len, out, why);
		}
	}
	if (strcmp(text, "*") == 0) {
		*kind = POLICY_DEFAULT;
		strcpy(out, "*");
		return 0;
	}
	if (strchr(text, ':'))
		return why_set(why, "not a key; one of DOMAIN .DOMAIN * provider:NAME client:CIDR inbound:*");
	*kind = text[0] == '.' ? POLICY_PARENT : POLICY_DOMAIN;
	return name_parse(text, out, why);
}
