/* policy/validate_findings.c: one thing wrong at a time in what the agent found: each is refused, and by its name. */
#include "policy_harness.h"

/* Rules 2 dane with 3 in its place, 4 DANE's own, 5 MTA-STS's; hosts a (two records) and b; two servers, two of the rest. */
static void make_all(void)
{
	made_begin();
	made_rule(POLICY_DOMAIN, LEVEL_DANE, "dane.example");
	made.rules[2].otherwise = made_rule(POLICY_DOMAIN, LEVEL_MAY, "dane.example");
	made_rule(POLICY_DOMAIN, LEVEL_DANE, "found.example");
	made.rules[4].origin = ORIGIN_DANE;
	made.rules[4].otherwise = made_rule(POLICY_DOMAIN, LEVEL_SECURE, "found.example");
	made_match("*.found.example");
	made.rules[5].origin = ORIGIN_STS;
	made_host("a.example", TLSA_SECURE);
	made_tlsa(3, 1, 1);
	made_tlsa(2, 0, 2);
	made_host("b.example", TLSA_FAILED);
	made_server("10.0.0.1", "dane.example", 0, true);
	made_server("10.0.0.1", "found.example", 1, false);
	made.sts[made.header.sts.count++] = (struct image_sts){made_string("failed.example"), IMAGE_NONE, STS_NONE, STS_FETCH_ERROR, {0}};
	made.sts[made.header.sts.count++] = (struct image_sts){made_string("found.example"), 5, STS_ENFORCE, STS_OK, {0}};
	for (int i = 0; i < 2; i++) {
		made.probed[i] = (struct image_probed){.addr = {[15] = (uint8_t)i}, .version = 0x0304, .chain = CHAIN_TRUSTED,
						       .name_first = (uint32_t)i, .name_count = 1};
		made.probed_names[i] = made_string("*.found.example");
		made.seen[i] = (struct image_seen){.addr = {[15] = (uint8_t)i}, .at = 1700000000};
	}
	made.header.probed.count = made.header.probed_names.count = made.header.seen.count = 2;
}

static void the_whole_is_good(void **state)
{
	(void)state;
	make_all();
	policy_image_close(made_good());
}

static void rules(void **state)
{
	(void)state;
	REFUSED(made.rules[2].otherwise = 6, "rules[2]: otherwise 6");
	REFUSED(made.rules[3].otherwise = 2, "rules[3]: level may has no otherwise");
	REFUSED(made.rules[2].otherwise = 2, "in each other's place"); /* a walk without end */
	REFUSED(made.rules[2].otherwise = 4; made.rules[4].otherwise = 2, "in each other's place");
	REFUSED(made.rules[0].origin = ORIGIN_DANE, "rules[0]: kind");
	REFUSED(made.rules[2].reserved[3] = 1, "rules[2]: reserved");
}

static void hosts(void **state)
{
	(void)state;
	REFUSED(made.hosts[0].name++, "hosts[0]: name or base");
	REFUSED(made.hosts[1].base = made_string("B.example"), "hosts[1]: name or base");
	REFUSED(made.hosts[1].base = 0, "hosts[1]: name or base");
	REFUSED(made.hosts[1].name = made.hosts[0].name, "hosts[1]: not above");
	REFUSED(made.hosts[1].tlsa = TLSA_FAILED + 1, "hosts[1]: 0 records in state 5");
	REFUSED(made.hosts[1].tlsa = TLSA_SECURE, "hosts[1]: 0 records");
	REFUSED(made.hosts[0].tlsa = TLSA_NONE, "hosts[0]: 2 records");
	REFUSED(made.hosts[0].tlsa_count = 3, "hosts[0]: records 3");
	REFUSED(made.hosts[0].tlsa_first = UINT32_MAX, "hosts[0]: records");
	REFUSED(made.hosts[1].reserved[0] = 1, "hosts[1]: ");
}

static void tlsa(void **state)
{
	(void)state;
	REFUSED(made.tlsa[0].usage = 1, "tlsa[0]: 1 1 1");
	REFUSED(made.tlsa[0].usage = 4, "tlsa[0]: 4");
	REFUSED(made.tlsa[1].selector = 2, "tlsa[1]: 2 2 1");
	REFUSED(made.tlsa[1].matching = 3, "tlsa[1]: 2 0 3");
	REFUSED(made.tlsa[1].matching = 2, "tlsa[1]: octets 32");
	REFUSED(made.tlsa[1].octets_count = 31, "tlsa[1]: octets 31");
	REFUSED(made.tlsa[1].matching = 0; made.tlsa[1].octets_count = 0, "tlsa[1]: octets 0");
	REFUSED(made.tlsa[1].octets_first = 33, "tlsa[1]: octets 32 from 33");
	REFUSED(made.tlsa[1].octets_first = UINT32_MAX, "tlsa[1]: octets");
	REFUSED(made.tlsa[1].reserved = 1, "tlsa[1]:");
}

static void servers(void **state)
{
	(void)state;
	REFUSED(made.servers[0].domain = 0, "servers[0]: no domain");
	REFUSED(made.servers[1].domain = made.servers[0].domain, "servers[1]: not above");
	REFUSED(made.servers[0].addr[12] = 11, "servers[1]: not above");
	REFUSED(made.servers[1].host = 2, "servers[1]: host 2 of 2");
	REFUSED(made.servers[1].mx_secure = 2, "servers[1]: host");
	REFUSED(made.servers[1].reserved[6] = 1, "servers[1]: host");
}

static void the_rest(void **state)
{
	(void)state;
	REFUSED(made.sts[0].domain = 0, "sts[0]: no domain");
	REFUSED(made.sts[1].domain = made.sts[0].domain, "sts[1]: not above");
	REFUSED(made.sts[0].mode = 3, "sts[0]: mode 3");
	REFUSED(made.sts[0].error = 4, "sts[0]: mode 0, error 4");
	REFUSED(made.sts[1].rule = 4, "sts[1]: rule 4 is not one of MTA-STS");
	REFUSED(made.sts[1].rule = 6, "sts[1]: rule 6");
	REFUSED(made.probed[1].addr[15] = 0, "probed[1]: not above");
	REFUSED(made.probed[1].chain = CHAIN_INVALID + 1, "probed[1]: chain");
	REFUSED(made.probed[1].dane = DANE_INVALID + 1, "probed[1]: chain");
	REFUSED(made.probed[1].name_count = 2, "probed[1]: names 2");
	REFUSED(made.probed[1].reserved[3] = 1, "probed[1]: chain");
	REFUSED(made.probed_names[1] = UINT32_MAX, "probed_names[1]");
	REFUSED(made.seen[1].addr[15] = 0, "seen[1]: not above");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_is_good), cmocka_unit_test(rules), cmocka_unit_test(hosts),
		cmocka_unit_test(tlsa), cmocka_unit_test(servers), cmocka_unit_test(the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
