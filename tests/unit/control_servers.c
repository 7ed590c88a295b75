/* control/policy/servers.c: what was found of servers comes into the image sorted, each once, and checked again. */
#include "control_found_harness.h"

static struct policy_server server(const char *addr, const char *domain)
{
	return policy_server_of(f.image, f_addr(addr), domain);
}

static void names_and_records(void **state)
{
	(void)state;
	f_claim("b.example", 20, "mx2.example", "10.0.0.1", false);
	f_claim("a.example", 10, "mx1.example", "10.0.0.1", true);
	f_claim("b.example", 10, "mx3.example", "10.0.0.1", true);
	f_claim("a.example", 10, "mx1.example", "fd77::1", true);
	f_host("mx3.example", TLSA_FAILED);
	f_host("mx1.example", TLSA_SECURE);
	f.hosts[1].base = "alias.example";
	f_record(3, 1, 1, 32);
	f_record(1, 1, 1, 32); /* PKIX-EE: not usable */
	f_record(2, 0, 2, 64);
	f_compile(H_SET("a.example encrypt", "b.example encrypt"));
	assert_string_equal(server("10.0.0.1", "a.example").mx, "mx1.example");
	assert_string_equal(server("10.0.0.1", "a.example").base, "alias.example");
	assert_int_equal(server("10.0.0.1", "a.example").tlsa, TLSA_SECURE);
	assert_int_equal(server("10.0.0.1", "a.example").record_count, 2);
	assert_int_equal(server("10.0.0.1", "a.example").records[1].matching, 2);
	assert_memory_equal(policy_tlsa_data(f.image, &server("10.0.0.1", "a.example").records[1]), f_digest, 64);
	assert_true(server("10.0.0.1", "a.example").mx_secure);
	assert_string_equal(server("10.0.0.1", "b.example").mx, "mx3.example"); /* the preferred of two */
	assert_string_equal(server("10.0.0.1", "b.example").base, "mx3.example");
	assert_int_equal(server("10.0.0.1", "b.example").tlsa, TLSA_FAILED);
	assert_string_equal(server("fd77::1", "a.example").mx, "mx1.example");
	assert_int_equal(f.d.refused, 0);
	assert_int_equal(f.d.count, 4);
}

static void states_of_tlsa(void **state)
{
	static const struct { uint8_t usage, selector, matching; uint16_t len; enum policy_tlsa expected; } cases[] = {
		{3, 0, 0, 60, TLSA_SECURE},   {2, 1, 1, 32, TLSA_SECURE},   {0, 1, 1, 32, TLSA_UNUSABLE}, {1, 0, 1, 32, TLSA_UNUSABLE},
		{3, 2, 1, 32, TLSA_UNUSABLE}, {3, 1, 3, 32, TLSA_UNUSABLE}, {3, 1, 1, 31, TLSA_UNUSABLE}, {3, 1, 2, 32, TLSA_UNUSABLE},
		{3, 1, 0, 0, TLSA_UNUSABLE},  {255, 1, 1, 32, TLSA_UNUSABLE},
	};
	char names[COUNT(cases)][32], domain[32] = "a.example";

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char addr[32];

		snprintf(names[i], sizeof(names[i]), "mx%02zu.example", i);
		snprintf(addr, sizeof(addr), "10.0.1.%zu", i);
		f_claim(domain, 10, names[i], addr, true);
		f_host(names[i], TLSA_SECURE);
		f_record(cases[i].usage, cases[i].selector, cases[i].matching, cases[i].len);
	}
	f_claim(domain, 10, "none.example", "10.0.2.1", true);
	f_host("none.example", TLSA_NONE);
	f_claim(domain, 10, "unasked.example", "10.0.2.2", true);
	f_claim(domain, 10, "empty.example", "10.0.2.3", true);
	f_host("empty.example", TLSA_SECURE); /* a contradiction: as good as no answer */
	f_compile(H_SET("a.example dane"));
	for (size_t i = 0; i < COUNT(cases); i++) {
		char addr[32];

		snprintf(addr, sizeof(addr), "10.0.1.%zu", i);
		if (server(addr, domain).tlsa != cases[i].expected)
			fail_msg("case %zu: %d", i, server(addr, domain).tlsa);
	}
	assert_int_equal(server("10.0.2.1", domain).tlsa, TLSA_NONE);
	assert_int_equal(server("10.0.2.2", domain).tlsa, TLSA_UNKNOWN);
	assert_int_equal(server("10.0.2.3", domain).tlsa, TLSA_FAILED);
	assert_int_equal(f.d.refused, 1);
	assert_non_null(strstr(f.d.refusal, "empty.example"));
}

/* Another's zone must not cost anybody else the image. */
static void what_no_image_can_hold_is_left_out_alone(void **state)
{
	static const struct discovered_tlsa many[IMAGE_HOST_TLSA_MAX + 1] = {[0 ... IMAGE_HOST_TLSA_MAX] = {3, 1, 1, 32, f_digest}};

	(void)state;
	f_claim("a.example", 10, "mx.example\r\n250 ok", "10.0.0.1", true);
	f_claim("A.example", 10, "mx.example", "10.0.0.1", true);
	f_claim("", 10, "mx.example", "10.0.0.1", true);
	f_claim("a.example", 10, "mx.example", "10.0.0.1", true);
	f_host("*.example", TLSA_NONE);
	f_host("mx.example", TLSA_SECURE);
	f.hosts[1].records = many;
	f.hosts[1].record_count = COUNT(many);
	f_host("b.example", TLSA_NONE);
	f.hosts[2].base = "no host";
	f_compile(H_SET("a.example dane"));
	assert_int_equal(f.d.refused, 6);
	assert_string_equal(f.d.refusal, "MX mx.example??250?ok: no host name");
	assert_string_equal(server("10.0.0.1", "a.example").mx, "mx.example");
	assert_int_equal(server("10.0.0.1", "a.example").tlsa, TLSA_FAILED);
	assert_int_equal(f.d.count, 4); /* the caller's array is as it was */
}

static void the_name_whose_records_bind(void **state)
{
	(void)state;
	f_claim("a.example", 10, "aaa.example", "10.0.0.1", true);
	f_claim("a.example", 10, "bbb.example", "10.0.0.1", true);
	f_host("bbb.example", TLSA_SECURE);
	f_record(3, 1, 1, 32);
	f_compile(H_SET("a.example dane"));
	assert_string_equal(server("10.0.0.1", "a.example").mx, "bbb.example");
}

static void probes_and_what_was_seen(void **state)
{
	static const char *const names[] = {"MX.example.", "*.example.org", "bad name", "a*.example", "b.example"};
	struct discovered_probe probes[3] = {
		{.at = 5, .version = 0x0303, .chain = CHAIN_EXPIRED},
		{.at = 9, .version = 0x0304, .chain = CHAIN_TRUSTED, .dane = DANE_MATCHED, .names = names, .name_count = COUNT(names)},
		{.at = 9, .chain = (enum policy_chain)99},
	};
	struct discovered_seen seen[3] = {{.at = H_NOW - 5}, {.at = H_NOW - 9}, {.at = H_NOW - 91 * 86400}};

	(void)state;
	for (int i = 0; i < 3; i++) {
		memcpy(probes[i].addr, f_addr(i < 2 ? "10.0.0.1" : "10.0.0.2"), 16);
		memcpy(seen[i].addr, f_addr(i < 2 ? "10.0.0.1" : "10.0.0.2"), 16);
	}
	f.d.probes = probes;
	f.d.probe_count = 3;
	f.d.seen = seen;
	f.d.seen_count = 3;
	f_compile(H_SET("a.example encrypt"));
	const struct image_probed *p = policy_probed_at(f.image, f_addr("10.0.0.1"));
	assert_int_equal(p->at, 9); /* the newest of two */
	assert_int_equal(p->chain, CHAIN_TRUSTED);
	assert_int_equal(p->dane, DANE_MATCHED);
	assert_int_equal(p->name_count, 3);
	assert_string_equal(policy_probed_name(f.image, p, 0), "mx.example");
	assert_string_equal(policy_probed_name(f.image, p, 1), "*.example.org");
	assert_string_equal(policy_probed_name(f.image, p, 2), "b.example");
	assert_null(policy_probed_at(f.image, f_addr("10.0.0.2")));
	assert_int_equal(policy_seen_at(f.image, f_addr("10.0.0.1"))->at, H_NOW - 5);
	assert_null(policy_seen_at(f.image, f_addr("10.0.0.2"))); /* too long ago */
	assert_int_equal(f.d.refused, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOUND_TEST(names_and_records), FOUND_TEST(states_of_tlsa), FOUND_TEST(what_no_image_can_hold_is_left_out_alone),
		FOUND_TEST(the_name_whose_records_bind), FOUND_TEST(probes_and_what_was_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
