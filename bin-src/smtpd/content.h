/* content: turns what follows DATA or BDAT into the octets of a message, and watches them on their way.
 * Line ends  only CRLF ends a line, and becomes LF (RFC 5321 section 2.3.8). A CR or LF alone condemns the message; it neither
 *            ends a line nor the data, so nothing behind it can pose as commands (SMTP smuggling)
 * DATA       ends with CRLF "." CRLF, or "." CRLF at the start; of other lines that start with a dot that dot is removed
 *            (section 4.5.2)
 * BDAT       octets as they are but for the line ends; they end where the caller says (RFC 3030 section 2)
 * Hops       lines of the header section that start with "Received" or "Delivered", in any case, as qmail counts them
 * Memory     none: works in the caller's buffer, whatever the length of lines and header */
#ifndef CONTENT_H
#define CONTENT_H
#include <stddef.h>
#include <stdint.h>

enum content_state { CONTENT_LINE_START, CONTENT_DOT, CONTENT_DOT_CR, CONTENT_TEXT, CONTENT_CR, CONTENT_END };

struct content {
	enum content_state state;
	int is_data;		/* dots count */
	int has_bare_lf, has_bare_cr;
	int in_header;
	unsigned int hops;
	uint64_t octets;	/* of the message so far */
	char name[9];		/* the first octets of the line */
	size_t column;		/* octets of the line so far; no more than sizeof name are counted */
};

/* Starts a message: with DATA, or with the first BDAT. */
void content_start(struct content *c, int is_data);

/* Takes the len octets of s, which are changed: the octets of the message that they hold are at s afterwards. Returns their
 * number, and in *used how many octets were taken: all, or fewer if the data ended (c->state is then CONTENT_END). After a
 * bare CR or LF the octets are worthless. */
size_t content_take(struct content *c, char *s, size_t len, size_t *used);

/* For BDAT: the last octet was taken. */
void content_finish(struct content *c);

static inline int
content_is_condemned(const struct content *c)
{
	return c->has_bare_lf || c->has_bare_cr;
}

#endif
