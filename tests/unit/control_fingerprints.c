/* control/policy/fingerprints.c: one spelling for each pin. */
#include "control_harness.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define UPPER "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"
#define COLONS \
	"01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef"

static void pins(void **state)
{
	static const struct h_value cases[] = {
		{HEX, "cert:" HEX, NULL},
		{UPPER, "cert:" HEX, NULL},
		{COLONS, "cert:" HEX, NULL},
		{"cert:" HEX, "cert:" HEX, NULL},
		{"KEY:" COLONS, "key:" HEX, NULL},
		{"sha256:" UPPER, "cert:" HEX, NULL},
		{"key:SHA256:" HEX, "key:" HEX, NULL},
		{HEX "@2027-01-31", "cert:" HEX "@2027-01-31T00:00:00Z", NULL},
		{HEX "@never", "cert:" HEX, NULL},
		{"", NULL, "0 hex digits"},
		{"@2027-01-31", NULL, "0 hex digits"},
		{HEX "0", NULL, "65 hex digits"},
		{"d41d8cd98f00b204e9800998ecf8427e", NULL, "32 hex digits"}, /* MD5 */
		{"sha1:" HEX, NULL, "not a fingerprint"},
		{"key:key:" HEX, NULL, "not a fingerprint"},
		{HEX " ", NULL, "not a fingerprint"},
		{HEX "@", NULL, "not a time"},
		{HEX "@soon", NULL, "not a time"},
	};
	char out[FINGERPRINT_TEXT_MAX];
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		h_value(&cases[i], fingerprint_parse(cases[i].text, out, &why), out, &why);
}

static void a_pin_as_the_image_has_it(void **state)
{
	struct image_fingerprint f = fingerprint_read("cert:" HEX "@2027-01-31T00:00:00Z");

	(void)state;
	assert_int_equal(f.pin, PIN_CERTIFICATE);
	assert_int_equal(f.expires, 1801353600);
	for (int i = 0; i < 32; i++)
		assert_int_equal(f.sha256[i], (i % 8) * 0x22 + 1);
	f = fingerprint_read("key:" HEX);
	assert_int_equal(f.pin, PIN_KEY);
	assert_int_equal(f.expires, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(pins), cmocka_unit_test(a_pin_as_the_image_has_it)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
