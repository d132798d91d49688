/* Dates, compared with the C library's calendar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>
#include "date822.h"

static void
is_what_the_library_says(int64_t t)
{
	char got[DATE822_MAX], want[DATE822_MAX];
	time_t when = (time_t)t;
	struct tm tm;
	size_t len;

	assert_non_null(gmtime_r(&when, &tm));
	strftime(want, sizeof want, tm.tm_mday < 10 ? "%a, X%d %b %Y %H:%M:%S -0000" : "%a, %d %b %Y %H:%M:%S -0000", &tm);
	if (strchr(want, 'X'))	/* the day is not padded */
		memmove(strchr(want, 'X'), strchr(want, 'X') + 2, strlen(strchr(want, 'X') + 2) + 1);
	len = date822_date(got, when);
	assert_string_equal(got, want);
	assert_int_equal(len, strlen(want));
	len = date822_trace(got, when);
	assert_string_equal(got, want + 5);
	assert_int_equal(len, strlen(want) - 5);
}

static void
every_day_of_four_hundred_years(void **state)
{
	(void)state;
	for (int64_t day = -25567; day < 146097 - 25567; day++)
		is_what_the_library_says(day * 86400 + (day * 7919 % 86400 + 86400) % 86400);
}

static void
ends_of_the_range(void **state)
{
	char got[DATE822_MAX];

	(void)state;
	is_what_the_library_says(-2208988800);
	is_what_the_library_says(253402300799);
	is_what_the_library_says(-1);
	date822_trace(got, (time_t)INT64_C(253402300800));
	assert_string_equal(got, "1 Jan 1970 00:00:00 -0000");
	date822_trace(got, (time_t)INT64_MIN);
	assert_string_equal(got, "1 Jan 1970 00:00:00 -0000");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_day_of_four_hundred_years),
		cmocka_unit_test(ends_of_the_range),
	};

	return cmocka_run_group_tests_name("date822", tests, NULL, NULL);
}
