/* control/policy/times.c: moments as they are written, and printed back in full. */
#include "control_harness.h"

static void moments(void **state)
{
	static const struct h_value cases[] = {
		{"1800000000", "2027-01-15T08:00:00Z", NULL},
		{"2027-01-31", "2027-01-31T00:00:00Z", NULL},
		{"2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z", NULL},
		{"2027-01-31t12:00:00z", "2027-01-31T12:00:00Z", NULL},
		{"2027-01-31 12:00:00Z", "2027-01-31T12:00:00Z", NULL},
		{"2027-01-31T12:00:00+01:30", "2027-01-31T10:30:00Z", NULL},
		{"2027-01-31T23:00:00-02:00", "2027-02-01T01:00:00Z", NULL},
		{"2027-01-31T12:00:00.123Z", "2027-01-31T12:00:00Z", NULL},
		{"2028-02-29", "2028-02-29T00:00:00Z", NULL},
		{"2027-01-31T23:59:60Z", "2027-02-01T00:00:00Z", NULL}, /* a leap second */
		{"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", NULL},
		{"2027-02-29", NULL, "not a time"},
		{"2027-02-29T10:00:60Z", NULL, "not a time"},
		{"2027-04-31", NULL, "not a time"},
		{"2027-00-10", NULL, "not a time"},
		{"2027-13-10", NULL, "not a time"},
		{"2027-01-00", NULL, "not a time"},
		{"2027-01-31T24:00:00Z", NULL, "not a time"},
		{"2027-01-31T12:60:00Z", NULL, "not a time"},
		{"2027-01-31T12:00:61Z", NULL, "not a time"},
		{"2027-01-31T12:00:00", NULL, "not a time"}, /* whose noon? */
		{"2027-01-31T12:00:00+24:00", NULL, "not a time"},
		{"2027-01-31T12:00:00Zz", NULL, "not a time"},
		{"2027-1-31", NULL, "not a time"},
		{"tomorrow", NULL, "not a time"},
		{"", NULL, "not a time"},
		{"-1", NULL, "not a time"},
		{"20270131", NULL, "not between"},
		{"1999-01-01", NULL, "not between"},
		{"9999999999999", NULL, "not a time"},
		{"999999999999", NULL, "not between"},
	};
	char out[TIME_TEXT_MAX] = "";
	uint64_t seconds;
	struct why why;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int err = time_parse(cases[i].text, &seconds, &why);

		if (!err)
			time_print(seconds, out);
		h_value(&cases[i], err, out, &why);
	}
	seconds = 7;
	assert_int_equal(time_parse("never", &seconds, &why), 0);
	assert_int_equal(seconds, 0);
	seconds = 7;
	assert_int_equal(time_parse("0", &seconds, &why), 0);
	assert_int_equal(seconds, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(moments)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
