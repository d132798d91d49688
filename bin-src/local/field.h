/* field: the body of header fields of a message.
 * Grammar   RFC 5322 section 2.2; blanks before the colon are accepted
 * Trust     the message is hostile: a body is cut, a header without end is read to the end of the message */
#ifndef FIELD_H
#define FIELD_H
#include <skalibs/stralloc.h>
#include "message.h"

enum { FIELD_MAX = 65536 };	/* octets of a body that are kept */

/* Sets *body to the unfolded bodies of the fields called name (in lower case), without blanks at both ends: of the first
 * one, or, if separator is not NUL, of all of them with separator between them. NULs are left out.
 * Returns 1; 0 if there is none (*body is empty); -1 with errno set. */
int field_get(stralloc *body, const struct message *m, const char *name, char separator);

#endif
