/* policy/validate.c: one thing wrong at a time, under a right checksum: each is refused, and by its name. */
#include "policy_harness.h"

/* Something of everything: rules 2 domain, 3 parent, 4 provider, 5 and 6 clients, 7 and 8 inbound, 9 pinned; two
 * providers; nested prefixes. */
static void make_all(void)
{
	uint32_t domain, parent, provider, d, client, net;

	made_begin();
	domain = made_rule(POLICY_DOMAIN, LEVEL_VERIFY, "example.org");
	made_match("mx.example.org");
	made_match(".example.net");
	parent = made_rule(POLICY_PARENT, LEVEL_ENCRYPT, ".example.org");
	provider = made_rule(POLICY_PROVIDER, LEVEL_ENCRYPT, "lab");
	d = made_destination("lab", provider, "pool1");
	made_destination("plain", 0, "");
	made_domain("example.org", domain);
	made_domain(".example.org", parent);
	made_domain("listed.example", provider);
	made_prefix4("10.0.0.0", 8, IMAGE_NONE, d);
	made_prefix4("10.77.0.0", 16, 0, d);
	made_prefix4("10.77.3.0", 24, 1, 0);
	made_prefix4("10.78.0.0", 16, 0, d);
	made_prefix6("fd77::", 16, IMAGE_NONE, d);
	made_prefix6("fd77::1", 128, 0, 0);
	client = made_rule(POLICY_CLIENT, LEVEL_ENCRYPT, "client:10.0.0.0/8");
	made.client4[made.header.client4.count++] = made_net4("10.0.0.0", 8, IMAGE_NONE, client);
	made.client4[made.header.client4.count++] = made_net4("10.1.0.0", 16, 0, client);
	client = made_rule(POLICY_CLIENT, LEVEL_NONE, "client:fd77::/16");
	made.client6[made.header.client6.count++] = made_net6("fd77::", 16, IMAGE_NONE, client);
	net = made_rule(POLICY_INBOUND, LEVEL_ENCRYPT, "inbound:10.2.0.0/16");
	made.inbound4[made.header.inbound4.count++] = made_net4("10.2.0.0", 16, IMAGE_NONE, net);
	made.inbound6[made.header.inbound6.count++] = made_net6("fd78::", 16, IMAGE_NONE, net);
	made_inbound_domain(".inside.example", made_rule(POLICY_INBOUND, LEVEL_ENCRYPT, "inbound:.inside.example"));
	made_domain("pinned.example", made_rule(POLICY_DOMAIN, LEVEL_FINGERPRINT, "pinned.example"));
	made_fingerprint(PIN_CERTIFICATE, 1, 0);
	made_fingerprint(PIN_KEY, 2, 1800000000);
}

static uint32_t slot(const char *name)
{
	for (uint32_t i = 0; i < 16; i++)
		if (made.domains[i].name != IMAGE_NONE && strcmp(made.strings + made.domains[i].name, name) == 0)
			return i;
	fail_msg("%s is not in the table", name);
	return 0;
}

static void the_whole_is_good(void **state)
{
	(void)state;
	make_all();
	policy_image_close(made_good());
}

static void headers(void **state)
{
	(void)state;
	REFUSED(made.header.magic[7] = '2', "header: no policy image");
	REFUSED(made.header.version = 1, "header: version 1");
	REFUSED(made.header.header_bytes--, "header: has");
	REFUSED(made.header.total_bytes++, "header: says");
	REFUSED(made.header.default_rule = 10, "default_rule");
	REFUSED(made.header.default_rule = 2, "default_rule");
	REFUSED(made.header.inbound_rule = 0, "inbound_rule");
	REFUSED(made.header.inbound_rule = IMAGE_NONE, "inbound_rule");
	REFUSED(made.header.enforced_domain_rules++, "enforced_domain_rules");
	REFUSED(made.header.enforced_inbound_rules = 0, "enforced_inbound_rules");
}

static void sections(void **state)
{
	(void)state;
	REFUSED(made.header.rules.stride = 48, "rules: elements of 48");
	REFUSED(made.header.rules.count = 0, "rules: 0 elements");
	REFUSED(made.header.rules.count = UINT32_MAX, "rules: 4294967295");
	REFUSED(made.header.destinations.count = 0, "destinations: 0");
	REFUSED(made.header.rules.offset += 4, "rules: offset");
	REFUSED(made.header.rules.offset = 0, "rules: offset");
	REFUSED(made.header.prefix4.offset = UINT64_MAX - 7, "prefix4: ");
	REFUSED(made.header.strings.offset = sizeof(made) - 8, "strings: ");
	REFUSED(made.header.matches.offset = sizeof(made), "matches: ");
	REFUSED(made.header.matches.offset = made.header.rules.offset, "matches: overlaps rules");
	REFUSED(made.header.prefix6.offset = made.header.prefix4.offset + 8, "overlaps prefix4");
	REFUSED(made.header.domains.count = 12, "domains: 12 slots");
	make_all();
	made.header.prefix4.count = 0;
	made.header.prefix4.offset = sizeof(made); /* an empty one may stand at the end */
	policy_image_close(made_good());
}

static void strings(void **state)
{
	(void)state;
	REFUSED(made.strings[0] = 'x', "strings: must begin");
	REFUSED(made.strings[made.header.strings.count - 1] = 'x', "strings: must begin and end");
	REFUSED(made.strings[1] = '\n', "strings[1]: control");
	REFUSED(made.strings[1] = 127, "strings[1]: control");
	REFUSED(made.rules[2].name++, "rules[2]: name: no string");
	REFUSED(made.rules[2].owner = made.header.strings.count, "rules[2]: owner: no string");
	REFUSED(made.rules[2].reason = UINT32_MAX, "rules[2]: reason: no string");
	REFUSED(made.rules[2].ciphers = 2, "rules[2]: ciphers: no string");
	REFUSED(made.rules[2].exclude = 2, "rules[2]: exclude: no string");
	REFUSED(made.rules[2].servername = made_string("no host"), "rules[2]: servername");
	REFUSED(made.matches[1] = made.header.strings.count, "matches[1]: no string");
	REFUSED(made.matches[1] = made_string("a*"), "matches[1]: \"a*\" is no pattern");
}

static void rules(void **state)
{
	(void)state;
	REFUSED(made.rules[2].kind = POLICY_INBOUND + 1, "rules[2]: kind");
	REFUSED(made.rules[2].level = POLICY_LEVELS, "rules[2]: level");
	REFUSED(made.rules[2].mode = 2, "rules[2]: mode");
	REFUSED(made.rules[2].on_fail = 2, "rules[2]: on_fail");
	REFUSED(made.rules[2].e2e = 2, "rules[2]: e2e");
	REFUSED(made.rules[2].unknown = 3, "rules[2]: unknown");
	REFUSED(made.rules[2].nonsmtp = 2, "rules[2]: nonsmtp");
	REFUSED(made.rules[2].overload = 255, "rules[2]: overload");
	REFUSED(made.rules[2].percent = 101, "rules[2]: percent");
	REFUSED(made.rules[2].stripped = 2, "rules[2]: stripped");
	REFUSED(made.rules[2].origin = 3, "rules[2]: origin");
	REFUSED(made.rules[2].protocol_min = 0x0300, "rules[2]: protocol_min");
	REFUSED(made.rules[2].protocol_min = 0x0305, "rules[2]: protocol_min");
	REFUSED(made.rules[2].protocol_max = 0x0305, "rules[2]: protocol_max");
	REFUSED(made.rules[2].protocol_min = 0x0304; made.rules[2].protocol_max = 0x0303, "rules[2]: protocol_max");
	REFUSED(made.rules[2].match_count = IMAGE_MATCHES_MAX + 1, "rules[2]: matches");
	REFUSED(made.rules[2].match_count = 3, "rules[2]: matches");
	REFUSED(made.rules[2].match_first = UINT32_MAX, "rules[2]: matches");
	REFUSED(made.rules[2].match_count = 0, "rules[2]: level verify without a match");
	REFUSED(made.rules[2].kind = POLICY_PARENT, "rules[2]: name");
	REFUSED(made.rules[3].kind = POLICY_DOMAIN, "rules[3]: name");
	REFUSED(made.rules[0].name = made_string("all"), "rules[0]: name");
	REFUSED(made.rules[4].name = 0, "rules[4]: name");
	REFUSED(made.rules[9].fingerprint_count = 0, "rules[9]: level fingerprint without");
	REFUSED(made.rules[9].fingerprint_count = 3, "rules[9]: fingerprints");
	REFUSED(made.rules[9].fingerprint_first = UINT32_MAX, "rules[9]: fingerprints");
	REFUSED(made.header.fingerprints.count = 48; made.rules[9].fingerprint_count = IMAGE_PINS_MAX + 1, "rules[9]: fingerprints");
}

static void domains(void **state)
{
	(void)state;
	REFUSED(made.domains[slot("example.org")].rule = 10, "rule 10 of 10");
	REFUSED(made.domains[slot("example.org")].rule = 0, "is of kind");
	REFUSED(made.domains[slot("example.org")].rule = 1, "is of kind");
	REFUSED(made.domains[slot("example.org")].name = made_string("Example.org"), "is no domain");
	REFUSED(made.domains[slot("example.org")].name++, "no string");
	/* not where a look-up would come by */
	REFUSED(({
			uint32_t at = slot("example.org"), free_slot = (at + 8) & 15;
			while (made.domains[free_slot].name != IMAGE_NONE || made.domains[(free_slot - 1) & 15].name != IMAGE_NONE)
				free_slot = (free_slot + 1) & 15;
			made.domains[free_slot] = made.domains[at];
			made.domains[at].name = IMAGE_NONE;
		}), "cannot be found");
	REFUSED(made.domains[slot("example.org")].rule = 5, "is of kind"); /* a client's */
	REFUSED(made_domain("example.org", 2), "stands in slot");
	REFUSED(for (int i = 0; i < 5; i++) made_domain((char[]){'a' + i, 0}, 4), "half full");
}

static void destinations(void **state)
{
	(void)state;
	REFUSED(made.destinations[0].name = made_string("star"), "destinations[0]: name");
	REFUSED(made.destinations[1].name = made.destinations[0].name, "destinations[1]: name");
	REFUSED(made.destinations[1].name = 0, "destinations[1]: name");
	REFUSED(made.destinations[1].pool++, "destinations[1]: name, pool");
	REFUSED(made.destinations[1].servername = made_string("a b"), "destinations[1]: servername");
	REFUSED(made.destinations[1].rule = 10, "destinations[1]: rule 10");
	REFUSED(made.destinations[1].rule = 3, "destinations[1]: rule 3");
	REFUSED(made.destinations[0].rule = 4, "destinations[0]: rule 4");
}

static void prefixes(void **state)
{
	(void)state;
	REFUSED(made.prefix4[0].len = 33, "prefix4[0]: length");
	REFUSED(made.prefix4[0].len = 6, "prefix4[0]: length");
	REFUSED(made.prefix4[1].addr |= 1, "prefix4[1]: length");
	REFUSED(made.prefix4[1].reserved[2] = 1, "prefix4[1]: length");
	REFUSED(made.prefix4[3] = made.prefix4[1], "prefix4[3]: not above");
	REFUSED(made.prefix4[1].parent = IMAGE_NONE, "prefix4[1]: parent");
	REFUSED(made.prefix4[1].parent = 1, "prefix4[1]: parent is 1"); /* a walk without end */
	REFUSED(made.prefix4[2].parent = 0, "prefix4[2]: parent");
	REFUSED(made.prefix4[3].parent = 1, "prefix4[3]: parent");
	REFUSED(made.prefix4[2].target = 3, "prefix4[2]: destination 3");
	REFUSED(made.prefix6[0].len = 129, "prefix6[0]: length");
	REFUSED(made.prefix6[0].len = 15, "prefix6[0]: length");
	REFUSED(made.prefix6[0].addr[15] = 1, "prefix6[0]: length");
	REFUSED(made.prefix6[1].reserved[6] = 1, "prefix6[1]: length");
	REFUSED(made.prefix6[1] = made.prefix6[0], "prefix6[1]: not above");
	REFUSED(made.prefix6[1].parent = IMAGE_NONE, "prefix6[1]: parent");
	REFUSED(made.prefix6[1].target = IMAGE_NONE, "prefix6[1]: destination");
}

/* Clients' prefixes lead to clients' rules and nothing else, and likewise those of servers inside. */
static void prefixes_of_clients_and_of_inbound(void **state)
{
	(void)state;
	REFUSED(made.client4[0].target = 10, "client4[0]: rule 10");
	REFUSED(made.client4[1].target = 7, "client4[1]: rule 7");
	REFUSED(made.client4[1].parent = IMAGE_NONE, "client4[1]: parent");
	REFUSED(made.client4[1].len = 12, "client4[1]: length");
	REFUSED(made.client6[0].target = 0, "client6[0]: rule 0");
	REFUSED(made.client6[0].reserved[0] = 1, "client6[0]: length");
	REFUSED(made.inbound4[0].target = 5, "inbound4[0]: rule 5");
	REFUSED(made.inbound6[0].target = IMAGE_NONE, "inbound6[0]: rule");
	REFUSED(made.header.client6.offset = made.header.client4.offset, "client6: overlaps client4");
	REFUSED(made.header.inbound_domains.count = 3, "inbound_domains: 3 slots");
	REFUSED(for (int i = 0; i < 16; i++) if (made.inbound_domains[i].name != IMAGE_NONE) made.inbound_domains[i].rule = 3,
		"inbound_domains[");
}

static void fingerprints(void **state)
{
	(void)state;
	REFUSED(made.fingerprints[1].pin = PIN_KEY + 1, "fingerprints[1]: pin");
	REFUSED(made.fingerprints[0].reserved[6] = 1, "fingerprints[0]: pin");
	REFUSED(made.header.fingerprints.stride = 40, "fingerprints: elements of 40");
}

static void prefixes_nest_as_deep_as_they_can(void **state)
{
	(void)state;
	made_begin();
	for (uint8_t len = 0; len <= 32; len++)
		made_prefix4("0.0.0.0", len, len ? len - 1u : IMAGE_NONE, 0);
	for (uint8_t len = 0; len <= 128; len++)
		made_prefix6("::", len, len ? len - 1u : IMAGE_NONE, 0);
	policy_image_close(made_good());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_is_good),
		cmocka_unit_test(headers),
		cmocka_unit_test(sections),
		cmocka_unit_test(strings),
		cmocka_unit_test(rules),
		cmocka_unit_test(domains),
		cmocka_unit_test(destinations),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(prefixes_of_clients_and_of_inbound),
		cmocka_unit_test(fingerprints),
		cmocka_unit_test(prefixes_nest_as_deep_as_they_can),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
