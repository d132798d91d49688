/* encoded_words: text in UTF-8 as ASCII, for a header field: RFC 2047 sections 2, 4.2 and 5, fit for a phrase. */
#ifndef ENCODED_WORDS_H
#define ENCODED_WORDS_H
#include <stddef.h>
#include <skalibs/stralloc.h>

enum { ENCODED_WORDS_COLUMNS = 76 };	/* octets of a line with encoded words, section 2 */

/* Appends text, len octets of UTF-8, to *to. *column is how many octets the current line has, and will have. A line ends with CR LF
 * where it becomes too long. Returns 1, or 0 with errno ENOMEM. */
int encoded_words(stralloc *to, size_t *column, const char *text, size_t len);

#endif
