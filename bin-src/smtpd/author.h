/* author: who a message says has written it (From), and has sent it (Sender).
 * Grammar   RFC 5322 section 3.6.2: each of these fields is there once at most; lists of addresses, as address822.h reads them
 * Memory    the two fields, of AUTHOR_OCTETS each; one that is longer is nobody's
 * Questions AUTHOR_ADDRESSES_MAX, for a field with more addresses is nobody's
 * Trust     the fields are hostile: what cannot be read is nobody's, so that no other program reads somebody else's name there */
#ifndef AUTHOR_H
#define AUTHOR_H
#include <skalibs/stralloc.h>
#include "submission_protocol.h"

enum { AUTHOR_OCTETS = 16384, AUTHOR_ADDRESSES_MAX = 100, AUTHOR_ADDRESS_MAX = 900 };

struct author_field {
	unsigned int count;	/* of fields with this name */
	int is_too_long, has_no_memory;
	stralloc body;		/* of the first one, with its colon */
};

/* All zero is that of a message without either. */
struct author {
	struct author_field from, sender;
};

/* A field of that kind begins, and its octets come, from the colon on. */
void author_begin(struct author_field *f);
void author_take(struct author_field *f, const char *s, size_t len);

/* Says whose an address is. */
typedef enum submission_answer author_owner(void *data, const char *address);

/* Whether the message belongs to owner's: SUBMISSION_YES if all addresses of From do, or with by_sender, where there is a Sender field, all
 * of that one; SUBMISSION_NO also where there is none at all, or the field makes no sense; SUBMISSION_UNKNOWN if owner says so of one, or there is
 * no memory. */
enum submission_answer author_judge(const struct author *a, int by_sender, author_owner *owner, void *data);

/* Frees what it holds, and makes it all zero. */
void author_free(struct author *a);

#endif
