#include <stdio.h>
#include "date822.h"

static const char months[12][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
};
static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

static size_t
format(char *s, time_t t, int with_weekday)
{
	struct tm tm;
	int n = 0;

	if (!gmtime_r(&t, &tm) || tm.tm_year < 0 || tm.tm_year > 8099) {
		t = 0;
		gmtime_r(&t, &tm);
	}
	if (with_weekday)
		n = snprintf(s, DATE822_MAX, "%s, ", days[tm.tm_wday % 7]);
	n += snprintf(s + n, (size_t)(DATE822_MAX - n), "%d %s %04d %02d:%02d:%02d -0000", tm.tm_mday,
	    months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
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
