/* retrieval: one message on its way to a POP3 client, for RETR and TOP: RFC 1939 sections 5 and 7. */
#ifndef RETRIEVAL_H
#define RETRIEVAL_H
#include <stdint.h>
#include "mail_data.h"
#include "output.h"
#include "surrogate.h"

struct retrieval {
	int fd;
	uint64_t size;		/* octets of the file */
	struct mail_data data;
	struct surrogate text;
};

/* fd, a regular file of size octets, is r's from now on. */
void retrieval_open(struct retrieval *r, int fd, uint64_t size);

/* Finds out how the message is sent; is_utf8: the client said UTF8. Return 1, or 0 with errno set: it cannot be read. */
int retrieval_begin(struct retrieval *r, int is_utf8);

/* The same with its header and lines lines of its body only. They are those of what is sent: where that is a surrogate they may end
 * elsewhere in the file (RFC 6858 section 4). */
int retrieval_begin_top(struct retrieval *r, int is_utf8, uint64_t lines);

/* Sends it, but for the line with a dot behind it. Returns 1, or 0 with errno set: it cannot be read to its end, and nothing that is
 * sent can tell the client so. */
int retrieval_send(struct retrieval *r, struct output *o);

void retrieval_close(struct retrieval *r);

#endif
