/*
 * probe_posture.c - a posture as texts and back: what makes no sense is not known, names are a certificate's, and whether
 * two say the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../control/probe/probe.h"

static struct probe_field fields[PROBE_FIELDS];
static size_t count;

static const char *field(void *context, const char *name)
{
	(void)context;
	for (size_t i = 0; i < count; i++)
		if (!strcmp(fields[i].name, name))
			return fields[i].value;
	return "";
}

static void set(const char *name, const char *value)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(fields[i].name, name))
			strcpy(fields[i].value, value);
}

static struct probe_posture sample(void)
{
	struct probe_posture p = {.at = 1800000000, .reached = true, .starttls = true, .version = 0x0304, .cipher = "TLS_AES_256_GCM_SHA384",
				  .chain = CHAIN_EXPIRED, .dane = DANE_NO_MATCH, .certificate = true, .not_after = 1700000000};

	memset(p.certificate_sha256, 0xab, 32);
	memset(p.key_sha256, 0x01, 32);
	p.versions[0] = (struct probe_version){PROBE_REFUSED, 1799990000};
	p.versions[2] = (struct probe_version){PROBE_TAKEN, 1799990001};
	p.versions[3] = (struct probe_version){PROBE_TAKEN, 1800000000};
	p.names = calloc(PROBE_NAMES_MAX, sizeof(*p.names));
	p.names[p.name_count++] = strdup("mx.a.example");
	p.names[p.name_count++] = strdup("*.b.example");
	return p;
}

static void there_and_back(void **state)
{
	struct probe_posture p = sample(), again;

	(void)state;
	count = probe_fields(&p, "mx.a.example", fields);
	assert_string_equal(field(NULL, "version"), "TLSv1.3");
	assert_string_equal(field(NULL, "versions"), "TLSv1=refused@1799990000 TLSv1.1=untried TLSv1.2=taken@1799990001 TLSv1.3=taken@1800000000");
	assert_string_equal(field(NULL, "chain"), "expired");
	assert_string_equal(field(NULL, "dane"), "no-match");
	assert_string_equal(field(NULL, "names"), "mx.a.example *.b.example");
	assert_true(probe_read(&again, field, NULL));
	assert_true(probe_posture_equal(&p, &again));
	assert_int_equal(again.at, p.at);
	assert_memory_equal(again.versions, p.versions, sizeof(p.versions));
	assert_int_equal(again.not_after, p.not_after);
	again.at++;
	assert_true(probe_posture_equal(&p, &again));
	again.chain = CHAIN_TRUSTED;
	assert_false(probe_posture_equal(&p, &again));
	probe_posture_dispose(&p);
	probe_posture_dispose(&again);
}

static void unreached(void **state)
{
	struct probe_posture p = {.at = 5, .error = "cannot connect"}, again;

	(void)state;
	count = probe_fields(&p, "mx.a.example", fields);
	assert_string_equal(field(NULL, "starttls"), "");
	assert_string_equal(field(NULL, "chain"), "");
	assert_string_equal(field(NULL, "versions"), "");
	assert_true(probe_read(&again, field, NULL));
	assert_false(again.reached);
	assert_string_equal(again.error, "cannot connect");
}

static void nonsense(void **state)
{
	static const struct { const char *name, *value; } rows[] = {
		{"time", "x"}, {"chain", "fine"}, {"cert", "abc"}, {"key", ""}, {"cert", "zz"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct probe_posture p = sample(), again;
		count = probe_fields(&p, "mx.a.example", fields);
		set(rows[i].name, rows[i].value);
		if (probe_read(&again, field, NULL))
			fail_msg("%s=%s is taken", rows[i].name, rows[i].value);
		probe_posture_dispose(&p);
		probe_posture_dispose(&again);
	}
	struct probe_posture p = sample(), again;
	count = probe_fields(&p, "mx.a.example", fields);
	set("names", "mx.a.example *. \x1b[2J ok.example ..");
	assert_true(probe_read(&again, field, NULL));
	assert_int_equal(again.name_count, 2);
	probe_posture_dispose(&p);
	probe_posture_dispose(&again);
}

/* Of the versions each is judged by itself, and one without a time or with an answer that is none is untried. */
static void nonsense_of_versions(void **state)
{
	struct probe_posture p = sample(), again;

	(void)state;
	count = probe_fields(&p, "mx.a.example", fields);
	set("versions", " TLSv1=refused TLSv1.1=perhaps@5  TLSv9=taken@5 = TLSv1.2=taken@0 @ TLSv1.2=refused@6 TLSv1.3=untried@7 x");
	assert_true(probe_read(&again, field, NULL));
	for (unsigned i = 0; i < PROBE_VERSIONS; i++)
		assert_int_equal(again.versions[i].answer, i == 2 ? PROBE_REFUSED : PROBE_UNTRIED);
	assert_int_equal(again.versions[2].at, 6);
	probe_posture_dispose(&p);
	probe_posture_dispose(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(unreached), cmocka_unit_test(nonsense),
		cmocka_unit_test(nonsense_of_versions)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
