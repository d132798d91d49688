/* downgrade: a message with 8-bit octets for a server that takes none (RFC 6152 section 3), as 7-bit MIME.
 * Structure   RFC 2045, 2046: multiparts and message/rfc822 are walked, as mime.h has it. A part that holds octets
 *             above 127 is encoded quoted-printable (RFC 2045 section 6.7), whatever its type is: its content and its lines are
 *             the same for any reader. Its Content-Transfer-Encoding is replaced, that of what it lies in becomes 7bit
 * No MIME     a message, or a part, without Content-Type gets text/plain of charset unknown-8bit (RFC 1428 section 3), a message
 *             MIME-Version
 * All else    parts without such octets stay octet by octet, line ends are those of mail_data. In text before the first and after the
 *             last part of a multipart, which nobody reads (RFC 2046 section 5.1.1), a 8-bit octet becomes "?"
 * Boundaries  no line of an encoded part begins with "-", so that none can look like a boundary that was none
 * Cannot      a header with 8-bit octets; what is signed (multipart/signed, RFC 1847 section 2.1); a part that says that it is encoded
 *             already, or one of message/ that may not be (RFC 2046 section 5.2); data that has no lines; a header that is not
 *             clear about what its body is, too many levels or parts
 * Trust       the message is hostile, but what is lost by nonsense in it is that message only
 * Memory      what is in struct downgrade, and mail_data's; the message is read three times, as a stream */
#ifndef DOWNGRADE_H
#define DOWNGRADE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "mime.h"

enum {
	DOWNGRADE_PARTS_MAX = 4096,	/* those after them have to be ASCII */
	DOWNGRADE_LINE_MAX = 998,	/* of binary data that is lines all the same, RFC 5321 section 4.5.3.1.6 */
};

struct downgrade {
	uint64_t wire_size;		/* octets without doubled dots */
	const char *cannot;		/* why it cannot be converted */
	int has_ended;			/* everything was taken by downgrade_next */

	struct mime mime;
	unsigned char has_8bit[DOWNGRADE_PARTS_MAX / 8];	/* a bit for each number: the part, or one within it, has */
	int is_marking;			/* these are being found out */
	unsigned int column;		/* of an encoded line */
	int with_dots, is_line_start;
	char ready[4 * MIME_PIECE + 512];	/* what became of a piece: encoded, three octets for one and those of soft line breaks; or
						 * the fields that are added to a header */
	size_t ready_at, ready_len;
};

enum downgrade_result {
	DOWNGRADE_READY,	/* wire_size is known */
	DOWNGRADE_CANNOT,	/* cannot says why, a clause for a report */
	DOWNGRADE_UNREADABLE,	/* errno says why */
};

/* Finds out what is to be done with the message. d keeps the pointer. */
enum downgrade_result downgrade_begin(struct downgrade *d, struct mail_data *source);

/* As mail_data_rewind and mail_data_next. At the end, or before, has_ended is set. */
void downgrade_rewind(struct downgrade *d, int with_dots);
ssize_t downgrade_next(struct downgrade *d, char *out, size_t room);

#endif
