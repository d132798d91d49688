#include <string.h>
#include <strings.h>
#include "address_pattern.h"

int
address_pattern_is(const char *s, size_t len, const char *string)
{
	return strlen(string) == len && strncasecmp(s, string, len) == 0;
}

/* Whether address is of the len octets of domain, which begin with '@'. */
static int
is_of_domain(const char *address, const char *domain, size_t len)
{
	const char *at = strrchr(address, '@');

	return at && address_pattern_is(domain, len, at);
}

/* Whether address begins and ends as the len octets of pattern, which have one '*'. */
static int
begins_so(const char *address, const char *pattern, size_t len)
{
	const char *star = memchr(pattern, '*', len);
	size_t before = (size_t)(star - pattern), size = strlen(address);

	/* what the star stands for has no '@', which the rest begins with */
	return size >= before + 1 && strncasecmp(address, pattern, before) == 0 && !memchr(address, '@', before) &&
	    is_of_domain(address, star + 1, len - before - 1);
}

int
address_pattern_has(const char *pattern, size_t len, const char *address)
{
	const char *star = memchr(pattern, '*', len);

	if (len == 0)
		return 0;
	if (pattern[0] == '@')
		return is_of_domain(address, pattern, len);
	if (star && len == 1)
		return 1;
	return star && star + 1 < pattern + len && star[1] == '@' ? begins_so(address, pattern, len) : address_pattern_is(pattern, len, address);
}
