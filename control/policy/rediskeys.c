/*
 * rediskeys.c - the name of a rule in Redis, and back.
 *
 * Enters: a Redis key such as "waxseal:policy:Example.ORG". Leaves: the canonical key "example.org", so that
 * two spellings in Redis are seen to be one rule. Refuses: keys of the same prefix that are not rules
 * (generation, seen, discovered, appliance) with -ENOENT; rules that name nothing with -EINVAL.
 */
#include "private.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *in_redis; /* behind the prefix */
	const char *in_key;   /* in front of a canonical key */
} families[] = {
	{"policy:", ""},
	{"provider:", "provider:"},
	{"client:", "client:"},
	{"inbound:", "inbound:"},
};
enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

static int put(char *out, size_t out_len, const char *first, const char *second, const char *third)
{
	int n = snprintf(out, out_len, "%s%s%s", first, second, third);

	return n >= 0 && (size_t)n < out_len ? 0 : -ENOSPC;
}

int rule_key_from_redis(const char *prefix, const char *redis_key, char *out, size_t out_len)
{
	size_t prefix_len = strlen(prefix);
	char canonical[KEY_MAX];
	enum policy_kind kind;
	struct why why;

	if (strncmp(redis_key, prefix, prefix_len) != 0)
		return -ENOENT;
	redis_key += prefix_len;
	for (int i = 0; i < FAMILIES; i++) {
		const char *rest = redis_key + strlen(families[i].in_redis);
		int err;

		if (strncmp(redis_key, families[i].in_redis, strlen(families[i].in_redis)) != 0)
			continue;
		/* "policy:provider:x" would else pass for the provider x, and be two rules of one key. */
		if (i == 0 && strchr(rest, ':')) {
			err = put(out, out_len, "policy:", rest, "");
			return err ? err : -EINVAL;
		}
		err = put(out, out_len, families[i].in_key, rest, "");
		if (err)
			return err;
		if (key_parse(out, canonical, &kind, &why) != 0)
			return -EINVAL;
		return put(out, out_len, canonical, "", "");
	}
	return -ENOENT;
}

int rule_key_to_redis(const char *prefix, const char *key, char *out, size_t out_len)
{
	char canonical[KEY_MAX];
	enum policy_kind kind;
	struct why why;

	if (key_parse(key, canonical, &kind, &why) != 0)
		return -EINVAL;
	return put(out, out_len, prefix, strchr(canonical, ':') ? "" : families[0].in_redis, canonical);
}
