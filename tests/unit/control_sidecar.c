/* control/policy/sidecar.c: a file of findings, whole or refused with the place. */
#include "control_harness.h"

static char path[] = "/tmp/waxseal-found-XXXXXX";

static struct discovered *read_text(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	strcpy(h_error, "");
	return discovered_read(path, h_error, sizeof(h_error));
}

static void everything(void **state)
{
	struct discovered *d = read_text(
		"{\"mx\": [{\"domain\": \"a.example\", \"mx\": \"mx.a.example\", \"addr\": \"192.0.2.1\", \"preference\": 10, \"secure\": true},"
		"          {\"domain\": \"a.example\", \"mx\": \"mx.a.example\", \"addr\": \"2001:db8::1\"}],"
		" \"tlsa\": {\"mx.a.example\": {\"state\": \"secure\", \"base\": \"b.example\", \"records\": [\"3 1 1 00ffAB\", \"2 0 0 30\"]},"
		"            \"n.example\": {\"state\": \"none\"}, \"f.example\": {\"state\": \"failed\"}},"
		" \"sts\": {\"a.example\": {\"mode\": \"testing\", \"mx\": [\"mx.a.example\", \"*.b.example\"], \"error\": \"sts-webpki-invalid\"}},"
		" \"probe\": {\"192.0.2.1\": {\"at\": 1700000000, \"version\": \"TLSv1.3\", \"chain\": \"self-signed\", \"dane\": \"no-match\","
		"                             \"names\": [\"mx.a.example\"], \"cert\": \"0102\", \"key\": \"ff\"}},"
		" \"seen\": {\"192.0.2.9\": 1600000000}}");

	(void)state;
	if (!d)
		fail_msg("%s", h_error);
	assert_int_equal(d->count, 2);
	assert_string_equal(d->claims[0].domain, "a.example");
	assert_string_equal(d->claims[0].mx, "mx.a.example");
	assert_int_equal(d->claims[0].preference, 10);
	assert_true(d->claims[0].mx_secure);
	assert_int_equal(d->claims[0].addr[11], 0xff);
	assert_int_equal(d->claims[0].addr[15], 1);
	assert_false(d->claims[1].mx_secure);
	assert_int_equal(d->claims[1].addr[0], 0x20);
	assert_int_equal(d->host_count, 3);
	assert_string_equal(d->hosts[0].base, "b.example");
	assert_int_equal(d->hosts[0].tlsa, TLSA_SECURE);
	assert_int_equal(d->hosts[0].record_count, 2);
	assert_int_equal(d->hosts[0].records[0].usage, 3);
	assert_memory_equal(d->hosts[0].records[0].data, "\x00\xff\xab", 3);
	assert_int_equal(d->hosts[0].records[1].len, 1);
	assert_int_equal(d->hosts[1].tlsa, TLSA_NONE);
	assert_null(d->hosts[1].base);
	assert_int_equal(d->hosts[2].tlsa, TLSA_FAILED);
	assert_int_equal(d->sts_count, 1);
	assert_int_equal(d->sts[0].mode, STS_TESTING);
	assert_int_equal(d->sts[0].error, STS_WEBPKI_INVALID);
	assert_string_equal(d->sts[0].mx[1], "*.b.example");
	assert_int_equal(d->probes[0].version, 0x0304);
	assert_int_equal(d->probes[0].chain, CHAIN_SELF_SIGNED);
	assert_int_equal(d->probes[0].dane, DANE_NO_MATCH);
	assert_int_equal(d->probes[0].certificate_sha256[1], 2);
	assert_string_equal(d->probes[0].names[0], "mx.a.example");
	assert_int_equal(d->seen[0].at, 1600000000);
	discovered_free(d);
	d = read_text("{}");
	assert_non_null(d);
	assert_int_equal(d->count + d->host_count + d->sts_count + d->probe_count + d->seen_count, 0);
	discovered_free(d);
	discovered_free(NULL);
}

static void wrong_files(void **state)
{
	static const struct { const char *text, *wrong; } cases[] = {
		{"{", "}"},
		{"[]", "not an object"},
		{"{\"tsla\": {}}", "\"tsla\" is none of"},
		{"{\"mx\": {}}", "mx: not a list"},
		{"{\"mx\": [{\"addr\": \"192.0.2.1\", \"mx_secure\": true}]}", "\"mx_secure\" is none of"},
		{"{\"mx\": [{\"addr\": \"192.0.2\"}]}", "192.0.2: not an address"},
		{"{\"tlsa\": {\"a\": {\"state\": \"good\"}}}", "\"good\" is not one of none secure failed"},
		{"{\"tlsa\": {\"a\": {\"state\": \"secure\", \"records\": [\"3 1 1\"]}}}", "\"3 1 1\" is not such as"},
		{"{\"tlsa\": {\"a\": {\"state\": \"secure\", \"records\": [\"3 1 256 ab\"]}}}", "is not such as"},
		{"{\"tlsa\": {\"a\": {\"state\": \"secure\", \"records\": [\"3 1 1 abc\"]}}}", "not hex"},
		{"{\"tlsa\": {\"a\": {\"state\": \"secure\", \"records\": [3]}}}", "is not such as"},
		{"{\"sts\": {\"a\": {\"mode\": \"force\"}}}", "\"force\" is not one of"},
		{"{\"sts\": {\"a\": {\"mode\": \"enforce\", \"mx\": \"a\"}}}", "not a list of names"},
		{"{\"sts\": {\"a\": {\"mode\": \"enforce\", \"mx\": [1]}}}", "not a list of names"},
		{"{\"sts\": {\"a\": {\"mode\": \"none\", \"error\": \"bad\"}}}", "\"bad\" is not one of"},
		{"{\"probe\": {\"192.0.2.1\": {\"version\": \"SSLv3\"}}}", "\"SSLv3\" is not one of"},
		{"{\"probe\": {\"192.0.2.1\": {\"version\": \"TLSv1.2\", \"chain\": \"fine\"}}}", "\"fine\" is not one of"},
		{"{\"seen\": {\"192.0.2.1\": \"today\"}}", "Unix seconds"},
		{"{\"seen\": {\"x\": 1}}", "x: not an address"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (read_text(cases[i].text))
			fail_msg("%s: taken", cases[i].text);
		if (!strstr(h_error, cases[i].wrong) || strchr(h_error, '\n'))
			fail_msg("%s: \"%s\" should name \"%s\"", cases[i].text, h_error, cases[i].wrong);
	}
	assert_null(discovered_read("/nonexistent", h_error, sizeof(h_error)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(everything), cmocka_unit_test(wrong_files)};
	int failed;

	close(mkstemp(path));
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
