/* cli_replay.c - a session under an image, without one: what is carried out, what is only counted, and what is assumed. */
#include "policy_lines.h"

#include <string.h>

#include "../../control/cli/replay.h"

static const uint8_t client[16] = {[10] = 0xff, 0xff, 10, 1, 0, 1}, server[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
static struct policy_image *image;
static struct replay_session session;
static struct event_facts up, sealed;
static struct replay replay;

static void scene(const char *const *lines)
{
	policy_image_close(image);
	image = image_of_lines(lines);
	up = (struct event_facts){.offered = true, .tls = FACT_TLS_UP, .chain = CHAIN_TRUSTED, .version = 0x0304, .has_certificate = true,
				  .names = {"mx.a.example"}, .name_count = 1};
	sealed = (struct event_facts){.offered = true, .end_to_end = true, .tls = FACT_TLS_UP, .version = 0x0303};
	session = (struct replay_session){.client = client, .server = server, .offered = true, .flow_hash = 50, .server_name = "mx.a.example",
					  .at_s = 1800000000, .domains = {"a.example"}, .domain_count = 1, .upgrade = &up};
}
#define SCENE(...) scene((const char *const[]){__VA_ARGS__, NULL})

static void run(void)
{
	replay_session(image, &session, &replay);
}

static void recipient_is(unsigned i, enum replay_fate fate, const char *rule, enum policy_reason reason, const char *reply)
{
	const struct replay_answer *answer = &replay.rcpt[i];

	assert_true(i < replay.rcpt_count);
	assert_string_equal(replay_fate_name(answer->fate), replay_fate_name(fate));
	assert_string_equal(policy_string(image, answer->rule->name), rule);
	assert_string_equal(policy_reason_name(answer->decision.reason), policy_reason_name(reason));
	assert_memory_equal(answer->reply, reply, *reply ? strlen(reply) : 1);
}

static void test_the_destination_decides_at_mail(void **state)
{
	(void)state;
	SCENE("* encrypt", "a.example may");
	session.offered = false;
	run();
	assert_int_equal(replay.rcpt_count, 0);
	assert_int_equal(replay.mail.fate, REPLAY_DEFERRED);
	assert_string_equal(replay.mail.reply, "451 4.7.4 TLS required by policy encrypt for all destinations, not offered by mx.a.example");
}

static void test_a_recipient_brings_tls_for_those_behind_it(void **state)
{
	(void)state;
	SCENE("* may mode=observe", "a.example verify match=mx.a.example", "c.example verify match=mx.c.example");
	session.domains[0] = "b.example";
	session.domains[1] = "a.example";
	session.domains[2] = "b.example";
	session.domains[3] = "c.example";
	session.domain_count = 4;
	run();
	recipient_is(0, REPLAY_CLEAR, "*", REASON_CLEAR_ALLOWED, "");
	recipient_is(1, REPLAY_UPGRADED, "a.example", REASON_UPGRADED, "");
	assert_int_equal(replay.rcpt[2].fate, REPLAY_UPGRADED);
	recipient_is(3, REPLAY_DEFERRED, "c.example", REASON_NAME_MISMATCH, "451 4.7.5 Certificate with a matching name");
	assert_false(replay.rcpt[1].assumed);
}

static void test_what_nobody_has_seen(void **state)
{
	(void)state;
	SCENE("* may", "a.example fingerprint fingerprints=key:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
	session.upgrade = NULL;
	run();
	recipient_is(0, REPLAY_UPGRADED, "a.example", REASON_UPGRADED, "");
	assert_true(replay.rcpt[0].assumed);
	session.upgrade = &up;
	run();
	recipient_is(0, REPLAY_DEFERRED, "a.example", REASON_FINGERPRINT, "451 4.7.5");
	assert_false(replay.rcpt[0].assumed);
}

static void test_names_that_were_not_kept(void **state)
{
	(void)state;
	SCENE("* may", "a.example verify match=mx.other.example");
	up.names_cut = true;
	run();
	recipient_is(0, REPLAY_UPGRADED, "a.example", REASON_UPGRADED, "");
	assert_true(replay.rcpt[0].assumed);
	strcpy(up.mismatched, "a.example"); /* the session itself knew them all */
	run();
	recipient_is(0, REPLAY_DEFERRED, "a.example", REASON_NAME_MISMATCH, "451 4.7.5");
}

static void test_observed(void **state)
{
	(void)state;
	SCENE("* may", "a.example encrypt percent=50");
	session.offered = false;
	run();
	recipient_is(0, REPLAY_CLEAR, "a.example", REASON_NOT_OFFERED, "");
	assert_true(replay.rcpt[0].decision.observed);
	assert_memory_equal(replay.rcpt[0].would, "451 4.7.4", 9);
	session.flow_hash = 49;
	run();
	recipient_is(0, REPLAY_DEFERRED, "a.example", REASON_NOT_OFFERED, "451 4.7.4");
}

static void test_clients_own_tls(void **state)
{
	(void)state;
	SCENE("* encrypt protocols=>=TLSv1.3");
	session.sealed = &sealed;
	run();
	assert_int_equal(replay.mail.fate, REPLAY_CUT);
	assert_string_equal(replay.mail.reply, "");
	assert_int_equal(replay.rcpt_count, 0);
	sealed.version = 0x0304;
	run();
	assert_int_equal(replay.mail.fate, REPLAY_SEALED);
}

static void test_client_prefixes_and_inbound(void **state)
{
	(void)state;
	SCENE("* may", "client:10.1.0.0/16 encrypt on_fail=reject", "a.example may");
	session.offered = false;
	run();
	assert_int_equal(replay.mail.fate, REPLAY_REJECTED);
	assert_string_equal(replay.mail.reply, "554 5.7.4 TLS required by policy encrypt for client:10.1.0.0/16, not offered by mx.a.example");
	SCENE("* block", "client:10.0.0.0/8 none");
	run();
	assert_int_equal(replay.mail.fate, REPLAY_CLEAR);
	SCENE("* may", "inbound:a.example encrypt");
	session.inbound = true;
	run();
	recipient_is(0, REPLAY_REJECTED, "inbound:a.example", REASON_CLEAR_SESSION, "530 5.7.0 Must issue");
}

/* What a session met with 454 is met by a rule that minds it, where TLS was had before. */
static void test_454_where_tls_was_had(void **state)
{
	static const char *const refuse[] = {"* may stripped=refuse", NULL}, *const observe[] = {"* may stripped=refuse mode=observe", NULL};
	struct discovered_seen seen = {.at = 1799999999};
	struct discovered found = {.seen = &seen, .seen_count = 1};

	(void)state;
	memcpy(seen.addr, server, 16);
	SCENE("* may stripped=refuse");
	up.tls = FACT_TLS_REFUSED;
	run();
	assert_int_equal(replay.mail.fate, REPLAY_CLEAR); /* of that server nothing is known */
	policy_image_close(image);
	image = image_of_findings(refuse, &found);
	run();
	assert_int_equal(replay.mail.fate, REPLAY_DEFERRED);
	assert_int_equal(replay.mail.decision.reason, REASON_STRIPPED);
	up.tls = FACT_TLS_UP;
	session.stripped = true; /* then; now it upgrades */
	run();
	assert_int_equal(replay.mail.fate, REPLAY_UPGRADED);
	policy_image_close(image);
	image = image_of_findings(observe, &found);
	run();
	assert_int_equal(replay.mail.decision.reason, REASON_CLEAR_ALLOWED); /* STARTTLS is offered, and nobody tries it */
	session.offered = false;
	run();
	assert_int_equal(replay.mail.decision.reason, REASON_STRIPPED);
	assert_int_equal(replay.mail.fate, REPLAY_CLEAR);
}

static int end(void **state)
{
	(void)state;
	policy_image_close(image);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_destination_decides_at_mail), cmocka_unit_test(test_a_recipient_brings_tls_for_those_behind_it),
		cmocka_unit_test(test_what_nobody_has_seen), cmocka_unit_test(test_names_that_were_not_kept), cmocka_unit_test(test_observed),
		cmocka_unit_test(test_clients_own_tls), cmocka_unit_test(test_client_prefixes_and_inbound),
		cmocka_unit_test(test_454_where_tls_was_had),
	};
	return cmocka_run_group_tests_name("cli_replay", tests, NULL, end);
}
