/* address_pattern: which addresses a side of a line in control/ means.
 *     an address             that one; a login without '@' is one, too
 *     @domain                all of that domain, and of none below
 *     user-*@domain          all that begin so
 *     *                      all
 * Compared  without ASCII case */
#ifndef ADDRESS_PATTERN_H
#define ADDRESS_PATTERN_H
#include <stddef.h>

/* Whether the len octets of pattern mean address. An empty one means none. */
int address_pattern_has(const char *pattern, size_t len, const char *address);

/* Whether the len octets at s are the string, without ASCII case. */
int address_pattern_is(const char *s, size_t len, const char *string);

#endif
