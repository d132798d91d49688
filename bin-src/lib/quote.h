/* quote: an envelope address as it is written in a header field.
 * In an envelope a local-part is kept without quotes (interfaces section 11); RFC 5322 section 3.4.1 wants them back
 * where it is no dot-atom. Octets from 128 on count as letters, RFC 6532 section 3.2. */
#ifndef QUOTE_H
#define QUOTE_H
#include <stddef.h>
#include <skalibs/stralloc.h>

/* Appends the address (len octets, split at its last '@') to *to. A newline, CR or NUL becomes '_': none of them can
 * stand in a field. Returns 1, or 0 with errno ENOMEM. */
int quote_address(stralloc *to, const char *s, size_t len);

#endif
