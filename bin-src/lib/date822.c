#include <stdint.h>
#include <stdio.h>
#include "date822.h"

static const char months[12][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
};
static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

enum { DAY = 86400, YEAR_400 = 146097 };	/* seconds of a day, days of 400 years */
#define FIRST INT64_C(-2208988800)	/* 1 January 1900 */
#define LAST INT64_C(253402300799)	/* the last second of 9999 */

struct date { int year, month, day; };	/* month from 0 */

/* The Gregorian date, days after 1 January 1970. Years are counted from March, so that a leap day is a year's last;
 * gmtime would read the time zone's file first, for a time that has none. */
static struct date
date_of(int64_t days_since_1970)
{
	int64_t n = days_since_1970 + 719468;	/* days after 1 March of the year 0, not negative from FIRST on */
	int64_t era = n / YEAR_400, left = n % YEAR_400;
	int64_t year = (left - left / 1460 + left / 36524 - left / (YEAR_400 - 1)) / 365;
	int64_t day = left - (365 * year + year / 4 - year / 100);	/* of that year */
	int64_t month = (5 * day + 2) / 153;				/* 0: March */

	return (struct date){
		.year = (int)(era * 400 + year + (month >= 10)),
		.month = (int)((month + 2) % 12),
		.day = (int)(day - (153 * month + 2) / 5 + 1),
	};
}

static size_t
format(char *s, int64_t t, int with_weekday)
{
	int64_t day, second;
	struct date d;
	int n = 0;

	if (t < FIRST || t > LAST)
		t = 0;
	second = ((t % DAY) + DAY) % DAY;
	day = (t - second) / DAY;
	d = date_of(day);
	if (with_weekday)	/* 1 January 1970 was a Thursday; 25567 days before, 1900 begins */
		n = snprintf(s, DATE822_MAX, "%s, ", days[(day + 25567 + 1) % 7]);
	n += snprintf(s + n, (size_t)(DATE822_MAX - n), "%d %s %04d %02d:%02d:%02d -0000", d.day, months[d.month], d.year,
	    (int)(second / 3600), (int)(second / 60 % 60), (int)(second % 60));
	return (size_t)n;
}

size_t
date822_trace(char s[DATE822_MAX], time_t t)
{
	return format(s, t, 0);
}

size_t
date822_date(char s[DATE822_MAX], time_t t)
{
	return format(s, t, 1);
}
