/* mime: which lines of a message are headers of it and of its parts, and which are their bodies: RFC 2045, 2046.
 * Structure   multiparts and message/rfc822 are walked, to MIME_DEPTH_MAX levels. A body of which it is not clear what it is, or which
 *             may not be looked into, is a leaf: cannot says why
 * Lines       come as mail_data has them, in pieces of MIME_PIECE octets at most
 * Trust       the message is hostile, but what is lost by nonsense in it is that message only
 * Memory      what is in struct mime, and mail_data's */
#ifndef MIME_H
#define MIME_H
#include <stddef.h>
#include <stdint.h>
#include "mail_data.h"

enum {
	MIME_DEPTH_MAX = 20,	/* parts and messages within one another */
	MIME_BOUNDARY_MAX = 70,	/* octets, RFC 2046 section 5.1.1 */
	MIME_FIELD_MAX = 2048,	/* of a Content-Type or Content-Transfer-Encoding */
	MIME_PIECE = 1024,	/* octets of a line that are looked at together */
};

enum mime_kind { MIME_LEAF, MIME_MULTIPART, MIME_MESSAGE };

/* A part, or a message, that was entered and not left. */
struct mime_level {
	enum mime_kind kind;	/* known after its header; a leaf until then */
	unsigned int number;	/* in the order of their headers */
	int is_message;		/* its header is a message's, and not a part's */
	int is_in_digest;	/* a message where it does not say what it is, RFC 2046 section 5.1.5 */
	int is_digest, is_binary;
	int is_closed;		/* a multipart after its last boundary */
	const char *cannot;	/* why its octets cannot be changed without changing what they say, a clause; NULL: they can */
	char boundary[MIME_BOUNDARY_MAX];
	size_t boundary_len;
};

/* A field of the header that is read, unfolded. */
struct mime_field {
	char s[MIME_FIELD_MAX];
	size_t len;
	unsigned int count;	/* how many there are */
};

/* What a piece of a line is. */
enum mime_what {
	MIME_END,
	MIME_UNREADABLE,	/* errno says why */
	MIME_BOUNDARY,
	MIME_FIELD,		/* of the innermost level's header */
	MIME_HEADER_END,	/* the empty line; what the level is, is known now */
	MIME_BODY,
};

struct mime {
	struct mail_data *source;	/* the caller's */
	struct mime_level levels[MIME_DEPTH_MAX];
	unsigned int depth, parts;
	const char *cannot;		/* why it cannot be told what is what; NULL: it can */

	/* of the innermost level's header */
	int in_header;
	int has_begun;			/* one of its lines was taken */
	int is_broken;			/* a line is no field, or one of the three cannot be kept */
	int is_field_start;		/* the piece is the begin of a field */
	struct mime_field type, encoding, version, *field;	/* field: which of them the piece belongs to, or NULL */

	char piece[MIME_PIECE];		/* of a line, without its end */
	size_t piece_len;
	int is_first, is_last;		/* the piece begins, or ends, the line */
	size_t line_len;		/* of the line, up to the piece's end */

	char in[4096];			/* from the source */
	size_t in_at, in_len;
};

/* Begins with the first line of m->source. */
void mime_rewind(struct mime *m);

/* Takes the next piece, and says what it is. */
enum mime_what mime_next(struct mime *m);

/* Whether it took all that the source has. */
int mime_has_ended(const struct mime *m);

struct mime_level *mime_innermost(struct mime *m);

/* Whether a header of m->source, or of a part or a message in it, has an octet above 127: reads up to the first one. What is a leaf has no
 * header in it. Returns 1 or 0, -1 with errno set. */
int mime_has_8bit_header(struct mime *m);

#endif
