/* smtp_reply: a server's reply, put together octet by octet.
 * Grammar   RFC 5321 section 4.2: lines of code, '-' or ' ', text; the last one has ' ', or nothing after the code
 * Line ends CR LF; a bare LF ends a line too, as all clients have it. Any other CR is an octet of the text
 * Trust     the server is hostile: any octet may come, any number of times. Codes that differ within a reply, a code that
 *           is none (2 to 5 and two digits; RFC 5321 section 4.2 has the second end at 5, but servers say 571), or a reply
 *           above the bounds: it makes no sense
 * Bounds    SMTP_REPLY_OCTETS_MAX octets a reply; of the text SMTP_REPLY_TEXT_MAX are kept, SMTP_REPLY_LINE_MAX of a line
 * Text      cleaned for log and bounce: no control octet but the LF after each line, and valid UTF-8 without control
 *           characters; each octet that is neither is a '?' (a tab is a blank) */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H
#include <stddef.h>

enum {
	SMTP_REPLY_LINE_MAX = 1000,	/* octets of a line that are kept; RFC 5321 section 4.5.3.1.5 has 512 */
	SMTP_REPLY_TEXT_MAX = 4000,	/* octets kept, line ends included */
	SMTP_REPLY_OCTETS_MAX = 64 * 1024,
};

enum smtp_reply_state { SMTP_REPLY_INCOMPLETE, SMTP_REPLY_COMPLETE, SMTP_REPLY_SENSELESS };

/* {0} is a reply of which nothing has come. */
struct smtp_reply {
	enum smtp_reply_state state;
	unsigned int code;	/* 0 while not known */
	size_t octets;		/* that have come */
	size_t column;		/* octets of the line that have come */
	unsigned int digits;	/* the code of this line as far as it has come */
	int is_last;		/* the line is the last one */
	int saw_cr;		/* the octet before was a CR */
	size_t text_len;
	char text[SMTP_REPLY_TEXT_MAX + 1];	/* whole lines with their codes, each ended by LF; NUL-terminated when complete */
};

/* Begins a new reply. */
void smtp_reply_begin(struct smtp_reply *reply);

/* Takes octets, up to the end of the reply. Returns how many it took; reply->state says what it has become. */
size_t smtp_reply_take(struct smtp_reply *reply, const char *s, size_t len);

/* The next line of a complete reply's text, without code and LF: *at is 0 at first. Returns 1, or 0 at the end. */
int smtp_reply_line(const struct smtp_reply *reply, size_t *at, const char **line, size_t *len);

/* Octets of an enhanced status code "x.y.z" (RFC 2034 section 4) after the code of the first line, 0 if there is none. */
size_t smtp_reply_status(const struct smtp_reply *reply, const char **status);

#endif
