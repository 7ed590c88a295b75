/* control/policy/rediskeys.c: names in Redis and canonical keys. */
#include "control_harness.h"

static void from_redis(void **state)
{
	static const struct { const char *redis, *key; int err; } cases[] = {
		{"waxseal:policy:Example.ORG", "example.org", 0},
		{"waxseal:policy:.example.org", ".example.org", 0},
		{"waxseal:policy:*", "*", 0},
		{"waxseal:provider:Google", "provider:google", 0},
		{"waxseal:client:10.0.0.0/8", "client:10.0.0.0/8", 0},
		{"waxseal:inbound:*", "inbound:*", 0},
		{"waxseal:inbound:2001:db8::/32", "inbound:2001:db8::/32", 0},
		{"waxseal:policy:", NULL, -EINVAL},
		{"waxseal:policy:a b", NULL, -EINVAL},
		{"waxseal:policy:provider:x", NULL, -EINVAL}, /* else two rules of one key */
		{"waxseal:policy:inbound:*", NULL, -EINVAL},
		{"waxseal:provider:", NULL, -EINVAL},
		{"waxseal:generation", NULL, -ENOENT},
		{"waxseal:seen:mx.example.org", NULL, -ENOENT},
		{"waxseal:discovered:example.org", NULL, -ENOENT},
		{"waxseal:appliance:a", NULL, -ENOENT},
		{"waxseal:policy", NULL, -ENOENT},
		{"Waxseal:policy:example.org", NULL, -ENOENT},
		{"other:policy:example.org", NULL, -ENOENT},
		{"waxsea", NULL, -ENOENT},
		{"", NULL, -ENOENT},
	};
	char out[KEY_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int err = rule_key_from_redis("waxseal:", cases[i].redis, out, sizeof(out));

		if (err != cases[i].err || (!err && strcmp(out, cases[i].key) != 0))
			fail_msg("%s: %d %s", cases[i].redis, err, out);
	}
	/* refused with what rule_parse() can explain */
	rule_key_from_redis("waxseal:", "waxseal:policy:provider:x", out, sizeof(out));
	assert_string_equal(out, "policy:provider:x");
	assert_int_equal(rule_key_from_redis("waxseal:", "waxseal:policy:example.org", out, 5), -ENOSPC);
}

static void and_back(void **state)
{
	static const char *const same[] = {"waxseal:policy:example.org", "waxseal:policy:*", "waxseal:provider:google",
					   "waxseal:client:10.0.0.0/8", "waxseal:inbound:2001:db8::/32"};
	char key[KEY_MAX], out[KEY_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(same); i++) {
		assert_int_equal(rule_key_from_redis("waxseal:", same[i], key, sizeof(key)), 0);
		assert_int_equal(rule_key_to_redis("waxseal:", key, out, sizeof(out)), 0);
		assert_string_equal(out, same[i]);
	}
	assert_int_equal(rule_key_to_redis("w:", "Example.ORG", out, sizeof(out)), 0);
	assert_string_equal(out, "w:policy:example.org");
	assert_int_equal(rule_key_to_redis("w:", "a b", out, sizeof(out)), -EINVAL);
	assert_int_equal(rule_key_to_redis("w:", "example.org", out, 8), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(from_redis), cmocka_unit_test(and_back)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
