/* takeover/choose.c: what is to be done at MAIL, SNI, and names out of rules. */
#include "takeover_harness.h"

static int choose(uint32_t capabilities, bool inbound)
{
	struct policy_parties parties = {w.params.client_addr, w.params.server_addr, inbound, 7};
	return takeover_choose(w.image, &parties, capabilities, w.env.memory, w.now).action;
}

static void test_every_level(void **state)
{
	static const struct { const char *rule; int offered, absent; } cases[] = {
		{"* level=none", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=may", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_PASS},
		{"* level=may mode=observe", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=encrypt", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=encrypt mode=observe", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=encrypt percent=0", TAKEOVER_CHOOSE_PASS, TAKEOVER_CHOOSE_PASS},
		{"* level=verify match=a.example", TAKEOVER_CHOOSE_UPGRADE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=dane-only", TAKEOVER_CHOOSE_REFUSE, TAKEOVER_CHOOSE_REFUSE},
		{"* level=block", TAKEOVER_CHOOSE_REFUSE, TAKEOVER_CHOOSE_REFUSE},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		POLICY(cases[i].rule);
		assert_int_equal(choose(SMTP_CAP_STARTTLS, false), cases[i].offered);
		assert_int_equal(choose(TAKEOVER_CAP_UNKNOWN, false), cases[i].offered);
		assert_int_equal(choose(SMTP_CAP_PIPELINING, false), cases[i].absent);
	}
}

static void test_domain_rules_make_it_wait(void **state)
{
	(void)state;
	POLICY("* level=may mode=observe", "a.example level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_RELAY);
	assert_int_equal(choose(0, false), TAKEOVER_CHOOSE_RELAY);
	assert_int_equal(choose(SMTP_CAP_STARTTLS, true), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=none", "a.example level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=may mode=observe", "a.example level=encrypt mode=observe");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
}

static void test_memory_only_under_may(void **state)
{
	(void)state;
	takeover_memory_note(w.env.memory, w.params.server_addr, w.now);
	POLICY("* level=may");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_PASS);
	POLICY("* level=encrypt");
	assert_int_equal(choose(SMTP_CAP_STARTTLS, false), TAKEOVER_CHOOSE_UPGRADE);
}

static void test_servername(void **state)
{
	(void)state;
	scene_begin();
	POLICY("* level=verify match=nexthop:.b.example:mx7.example");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule), "mx7.example");
	POLICY("* level=verify match=mx7.example servername=sni.example");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule), "sni.example");
	POLICY("* level=encrypt");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule), "mx.example"); /* the banner's */
	strcpy(w.t->params.server_name, "localhost");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule), "");
	strcpy(w.t->params.server_name, "10.77.2.1");
	assert_string_equal(choose_servername(w.t, session_rules(w.t).rule), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(test_every_level), SCENE(test_domain_rules_make_it_wait), SCENE(test_memory_only_under_may), SCENE(test_servername),
	};
	return cmocka_run_group_tests_name("takeover_choose", tests, NULL, NULL);
}
