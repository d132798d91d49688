/* completion: what a submission server makes of a message (RFC 6409 section 8): Date and Message-ID are added where they lack, behind the other
 * fields; Bcc and Resent-Bcc fields are left out. All else stays octet for octet.
 * Header    fields, up to an empty line (RFC 5322 section 2.2). A line that is no field ends it as well, and gets the empty line before it that
 *           lacks; but one that begins with "From " or ">From ", which mailboxes leave there
 * Memory    streaming: no more than the beginning of a line is kept, COMPLETION_NAME_MAX octets: what has no colon within is no field
 * Lines     end with LF */
#ifndef COMPLETION_H
#define COMPLETION_H
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include "author.h"

enum { COMPLETION_NAME_MAX = 256 };

enum completion_state {
	COMPLETION_LINE,	/* at the beginning of a line of the header */
	COMPLETION_NAME,	/* within what may be a field's name, which is kept */
	COMPLETION_FIELD,
	COMPLETION_DROPPED,	/* within a field that is left out */
	COMPLETION_BODY,
};

struct completion {
	/* where the message goes */
	void (*put)(void *data, const char *s, size_t len);
	void *data;
	/* what is added is made of */
	time_t time;
	uint64_t serial;
	const char *host;
	size_t host_len;
	/* gets the fields that say who has written the message; NULL: nobody wants to know */
	struct author *author;

	enum completion_state state;
	int has_field, is_dropping;	/* a line that begins with a blank goes on with one that stays, or with one that is left out */
	int has_date, has_id;
	struct author_field *kept;	/* the field is one of these, or NULL */
	int has_no_memory;		/* so it is not whole */
	size_t held;
	char hold[COMPLETION_NAME_MAX];
};

/* *c is all zero but for the first three groups. Takes octets of the message. */
void completion_take(struct completion *c, const char *s, size_t len);

/* It is at its end. */
void completion_finish(struct completion *c);

#endif
