#include <stdio.h>
#include "message_id.h"

int
message_id_append(stralloc *to, time_t when, uint64_t serial, const char *host, size_t host_len)
{
	char s[64];
	struct tm tm;
	int n;

	if (!gmtime_r(&when, &tm) || tm.tm_year < 0 || tm.tm_year > 8099) {
		when = 0;
		gmtime_r(&when, &tm);
	}
	n = snprintf(s, sizeof s, "<%04d%02d%02d%02d%02d%02d.%llu.qmail@", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned long long)serial);
	return stralloc_catb(to, s, (size_t)n) && stralloc_catb(to, host, host_len) && stralloc_append(to, '>');
}
