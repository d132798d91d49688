#include <stdio.h>
#include <string.h>
#include "quote.h"
#include "stralloc_set.h"
#include "trace.h"

int
trace_delivered_to(stralloc *line, const char *local, const char *domain)
{
	size_t start = sizeof "Delivered-To: " - 1;

	if (!stralloc_sets(line, "Delivered-To: ") || !stralloc_cats(line, local) || !stralloc_append(line, '@') ||
	    !stralloc_cats(line, domain))
		return 0;
	for (size_t i = start; i < line->len; i++) {
		if (line->s[i] == '\n')
			line->s[i] = '_';
	}
	return stralloc_append(line, '\n');
}

int
trace_return_path(stralloc *line, const char *sender)
{
	return stralloc_sets(line, "Return-Path: <") && quote_address(line, sender, strlen(sender)) &&
	    stralloc_cats(line, ">\n");
}

int
trace_from_line(stralloc *line, const char *sender, time_t now)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
	};
	char date[96];
	struct tm tm;
	size_t start = sizeof "From " - 1;

	if (!gmtime_r(&now, &tm))
		tm = (struct tm){ .tm_year = 70, .tm_mday = 1, .tm_wday = 4 };
	snprintf(date, sizeof date, " %s %s %2d %02d:%02d:%02d %d\n", days[tm.tm_wday], months[tm.tm_mon], tm.tm_mday,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, 1900 + tm.tm_year);
	if (!stralloc_sets(line, "From ") || !stralloc_cats(line, *sender ? sender : "MAILER-DAEMON"))
		return 0;
	for (size_t i = start; i < line->len; i++) {
		if (line->s[i] == ' ' || line->s[i] == '\t' || line->s[i] == '\n' || line->s[i] == '\r')
			line->s[i] = '-';
	}
	return stralloc_cats(line, date);
}
