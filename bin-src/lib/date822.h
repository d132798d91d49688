/* date822: dates of header fields, RFC 5322 section 3.3. */
#ifndef DATE822_H
#define DATE822_H
#include <stddef.h>
#include <time.h>

enum { DATE822_MAX = 48 };	/* octets that either form needs at most, its NUL included */

/* Writes "D Mon YYYY HH:MM:SS -0000" (UTC, day not padded, as qmail's trace fields have it) and a NUL.
 * Returns the octets written without the NUL. A time outside the years 1900 to 9999 is taken as 0. */
size_t date822_trace(char s[DATE822_MAX], time_t t);

/* Writes "Wdy, D Mon YYYY HH:MM:SS -0000", the form for a Date field. */
size_t date822_date(char s[DATE822_MAX], time_t t);

#endif
