/* listing: what is in the queue, asked from the keeper (queue/protocol.h, SEND_READ).
 * Trust     the keeper's frames are checked for form; addresses and texts in them are whatever senders wrote
 * Waiting   at most LISTING_WAIT seconds for the keeper to say something
 * Memory    one frame; an envelope comes in pieces and is not kept here */
#ifndef LISTING_H
#define LISTING_H
#include <stddef.h>
#include <stdint.h>
#include "channel.h"
#include "queue/protocol.h"

enum { LISTING_WAIT = 60 };	/* seconds */

enum listing_kind {
	LISTING_MESSAGE,	/* notice: a live message; its recipients follow */
	LISTING_RECIPIENT,	/* recipient: one of them */
	LISTING_OVER,		/* it has no more */
	LISTING_ALL,		/* there are no more messages */
	LISTING_TROUBLE,	/* errno is set: ETIMEDOUT, EPROTO, ECONNRESET (the keeper ended, or does not answer this user), ENOMEM, ... */
};

struct listing_item {
	/* both valid until the next listing_next */
	struct queue_notice notice;
	struct {
		uint32_t index;		/* in the envelope, from 0 */
		char state;		/* 'T' to do, 'K' delivered, 'D' failed for good */
		const char *address;	/* as in the envelope, NUL-terminated */
		const char *text;	/* of 'D': why; else of no meaning */
	} recipient;
};

struct listing {
	struct channel keeper;
	const char *recipients, *end;	/* of the frame that is being taken apart */
	int in_message;
};

/* Connects and asks. The current directory is the home. Returns 1, or 0 with errno set: ENOENT or ECONNREFUSED where no
 * keeper runs, EACCES for who may not see the queue. On others whom the keeper does not answer it hangs up: EPIPE here, or
 * ECONNRESET at the next thing it would say. */
int listing_open(struct listing *l);

/* The next thing that the keeper says. */
enum listing_kind listing_next(struct listing *l, struct listing_item *item);

void listing_close(struct listing *l);

#endif
