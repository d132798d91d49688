/* reply: what is said to the client.
 * Form      a client that said EHLO is told enhanced codes (RFC 2034 section 4): "553 5.7.1 text (#5.7.1)"; one that said HELO, or
 *           nothing, sees qmail's form "553 text (#5.7.1)". "(#...)" is left out of 2yz and 3yz replies
 * Writes    gathered, and written by reply_flush (input calls it before it waits) or when the buffer is full
 * Trust     texts of other programs may be hostile: octets that are not printable ASCII become '?', the rest is cut
 * A client that does not read for the time limit, or is gone, makes is_broken 1: nothing is written any more */
#ifndef REPLY_H
#define REPLY_H
#include <stddef.h>
#include <stdint.h>

enum {
	REPLY_SIZE = 4096,
	REPLY_TEXT_MAX = 450,	/* RFC 5321 section 4.5.3.1.5: a line has 512 octets */
};

struct reply {
	int fd;
	int is_extended;	/* EHLO was said */
	int is_broken;
	uint64_t timeout_ms;
	size_t len;
	char last[REPLY_TEXT_MAX + 1];	/* the text of the last refusal, for the log */
	char out[REPLY_SIZE];
};

void reply_start(struct reply *r);

/* Gathers a reply of one line; code 200 to 599, enhanced its code of RFC 3463 section 2 ("5.7.1"), "" if it has none. If text ends in a
 * code of its own, "(#4.3.0)", of the same class, that one counts. */
void reply_put(struct reply *r, unsigned int code, const char *enhanced, const char *text);

/* Gathers a line of a greeting or of the answer to HELO and EHLO, as it is: separator '-' or ' '. */
void reply_line(struct reply *r, unsigned int code, char separator, const char *text);

void reply_flush(struct reply *r);

#endif
