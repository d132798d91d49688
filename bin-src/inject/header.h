/* header: reads the header section of a submitted message from a descriptor, and hands on the body in pieces.
 * Line ends  LF; a CR before the LF belongs to the line end of a header line and is dropped. Any other CR, NUL and every
 *            octet above 127 is kept. The body is not looked at.
 * End        the header ends at an empty line, or before the first line that is neither a field (name of octets 33 to
 *            126, blanks, colon) nor the continuation of one, or with the input
 * First line "From " without a colon, as mail boxes have it, becomes the field "MBOX-Line: From ..."
 * Memory     one buffer, and the fields up to the caller's limit; never the body */
#ifndef HEADER_H
#define HEADER_H
#include <stddef.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>

enum {
	HEADER_BUFFER = 65536,
	HEADER_NAME_MAX = 997,	/* octets of a field name and its colon: RFC 5322 section 2.1.1; no colon by then, no field */
};

struct header_input {
	int fd;
	int at_end;
	size_t start, len;	/* of what is in buffer and was not taken */
	char buffer[HEADER_BUFFER];
};

/* How the header ended: at an empty line, which was taken; before a line that is part of the body; with the input. */
enum header_end { HEADER_EMPTY_LINE, HEADER_BODY_LINE, HEADER_INPUT_END };

void header_input_init(struct header_input *in, int fd);

/* Appends the fields, whole lines that each end in LF, to *fields, at most max octets.
 * Returns 1, or 0 with errno set: EMSGSIZE more than max, ENOMEM, or what read gave. */
int header_read(struct header_input *in, stralloc *fields, size_t max, enum header_end *end);

/* The next octets of the body in *s, valid until the next call. Returns how many, 0 at the end, -1 with errno set. */
ssize_t header_read_body(struct header_input *in, const char **s);

/* A field as header_read left it. */
struct header_field {
	const char *start;	/* of its name */
	size_t len;		/* of the whole, LF included */
	size_t name_len;	/* without blanks */
	size_t value;		/* offset from start behind the colon */
};

/* The field at *pos in fields (len octets), whole lines; moves *pos behind it. Returns 0 at the end. */
int header_next(const char *fields, size_t len, size_t *pos, struct header_field *field);

#endif
