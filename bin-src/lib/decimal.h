/* decimal: numbers in names and lists that have thousands of them, where a general scanner costs more than all else. */
#ifndef DECIMAL_H
#define DECIMAL_H
#include <stddef.h>
#include <stdint.h>

enum { DECIMAL_DIGITS_MAX = 19 };	/* fewer octets than 2^64 has */

/* The digits that s begins with. Returns how many, or 0: there are none, or more than DECIMAL_DIGITS_MAX; then *number is not set. */
static inline size_t
decimal_scan(const char *s, uint64_t *number)
{
	uint64_t n = 0;
	size_t len = 0;

	for (; s[len] >= '0' && s[len] <= '9'; len++) {
		if (len == DECIMAL_DIGITS_MAX)
			return 0;
		n = n * 10 + (uint64_t)(s[len] - '0');
	}
	if (len)
		*number = n;
	return len;
}

#endif
