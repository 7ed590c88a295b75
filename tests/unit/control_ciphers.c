/* control/policy/ciphers.c: Postfix's grades and OpenSSL's names. */
#include "control_harness.h"

static void lists(void **state)
{
	static const struct h_value ciphers[] = {
		{"high", "high", NULL},
		{"ECDHE+AESGCM:HIGH:!aNULL", "ECDHE+AESGCM:HIGH:!aNULL", NULL},
		{"HIGH:@STRENGTH", "HIGH:@STRENGTH", NULL},
		{"low", NULL, "without security"},
		{"EXPORT", NULL, "without security"},
		{"null", NULL, "without security"},
		{"HIGH;rm", NULL, "not a list of ciphers"},
		{"a b", NULL, "not a list of ciphers"},
		{"h\xc3\xb6" "ch", NULL, "not a list of ciphers"},
	};
	static const struct h_value exclude[] = {
		{"RC4, MD5  3DES", "RC4:MD5:3DES", NULL},
		{"RC4:aNULL", "RC4:aNULL", NULL},
		{"!RC4", NULL, "not a list of ciphers"},
		{" ,:", NULL, "empty"},
	};
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(ciphers) + COUNT(exclude); i++) {
		bool first = i < COUNT(ciphers);
		const struct h_value *v = first ? &ciphers[i] : &exclude[i - COUNT(ciphers)];
		char *out = NULL;
		int err = (first ? ciphers_parse : exclude_parse)(v->text, &out, &why);

		h_value(v, err, out, &why);
		free(out);
	}
}

static void lengths(void **state)
{
	char text[1100], *out = NULL;
	struct why why;

	(void)state;
	memset(text, 'A', sizeof(text));
	text[1024] = '\0';
	assert_int_equal(ciphers_parse(text, &out, &why), 0);
	free(out);
	assert_int_equal(exclude_parse(text, &out, &why), -EINVAL); /* one name of 1,024 */
	for (size_t i = 100; i < 1024; i += 100)
		text[i] = ' ';
	assert_int_equal(exclude_parse(text, &out, &why), 0);
	assert_int_equal(strlen(out), 1024);
	free(out);
	text[1024] = 'A';
	text[1025] = '\0';
	assert_int_equal(ciphers_parse(text, &out, &why), -EINVAL);
	assert_int_equal(exclude_parse(text, &out, &why), -EINVAL);
}

static void grades_in_openssls_words(void **state)
{
	(void)state;
	assert_string_equal(ciphers_openssl("HIGH"), "HIGH:!aNULL");
	assert_string_equal(ciphers_openssl("medium"), "HIGH:MEDIUM:!aNULL");
	assert_string_equal(ciphers_openssl("ECDHE"), "ECDHE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(lists), cmocka_unit_test(lengths), cmocka_unit_test(grades_in_openssls_words)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
