/* surrogate: a message for a POP3 client that has not said UTF8: RFC 6856 section 2.1, RFC 6858.
 * As it is     a message that is ASCII; for a client that said UTF8, any
 * Otherwise    the fields of its header, and of its parts' and of messages in it, become ASCII as ascii_field.h says; all else passes as
 *              it is, 8-bit bodies too. So does what lies in a multipart/signed, and what mime.h cannot tell apart
 * Octets       as RFC 1939 section 3 has them, line ends as mail_data has them, dots doubled
 * Memory       a field of more than SURROGATE_FIELD_MAX octets passes with '?' for each octet above 127 */
#ifndef SURROGATE_H
#define SURROGATE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "mime.h"

enum { SURROGATE_FIELD_MAX = 64 * 1024 };

#define SURROGATE_ALL_LINES UINT64_MAX

struct surrogate {
	int is_as_it_is;
	uint64_t lines;		/* of the body that are still wanted */
	struct mime mime;
	stralloc field;		/* the header field that is read, with its line ends */
	int is_overlong;	/* and what it had was sent already */
	int in_body, is_line_start, is_over;
	stralloc ready;		/* what became of a piece, from ready_at on */
	size_t ready_at;
};

/* Begins with the message source, of which s keeps the pointer. is_utf8: the client said so. lines: how many lines of the body are
 * wanted besides the header. *s is all zero. Returns 1, or 0 with errno set. */
int surrogate_begin(struct surrogate *s, struct mail_data *source, int is_utf8, uint64_t lines);

/* Puts the next octets into out, which has room octets (at least 8). Returns how many, 0 at the end, -1 with errno set. */
ssize_t surrogate_next(struct surrogate *s, char *out, size_t room);

void surrogate_free(struct surrogate *s);

#endif
