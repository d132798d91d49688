/* transfer: what qmail-qmtpd and qmail-qmqpd have in common: a message on its way from a client into the queue, the replies,
 * the log, and how the process begins.
 * Memory   a message streams into the queue; kept are the sender, one recipient, and a letter for each recipient */
#ifndef TRANSFER_H
#define TRANSFER_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "hops.h"
#include "input.h"
#include "netstring.h"
#include "peer.h"
#include "queue/client.h"
#include "settings.h"

enum {
	TRANSFER_SECONDS = 3600,	/* that a connection may last */
	TRANSFER_REUSE = 100,		/* connections of one client that a process serves one after another */
};

struct transfer {
	const char *protocol;		/* for the Received field and the log: "QMTP", "QMQP" */
	int (*prepare)(struct transfer *);	/* starts what has to be started before the process shuts itself in, when it is known who
					 * the client is: 1, or 0 with errno set. NULL: nothing */
	struct settings settings;
	struct peer peer;
	const char *relayclient;	/* NULL: may not relay; else what is put behind each recipient */
	struct queue_client queue;
	struct input in;
	stralloc replies;		/* written before the next wait */
	int is_gone;			/* replies cannot be written any more */

	/* the message */
	char letter;			/* 0: so far nothing speaks against it; 'Z' or 'D' it will not be queued, text says why */
	const char *text;
	struct hops hops;
	uint64_t octets;
	stralloc sender;
	unsigned int recipients;	/* that were taken */
	stralloc names;			/* of them, for the log */
};

/* Starts the program: options, control files, the accept loop if descriptor 0 listens, the sandbox. Returns in the process
 * that has the connection on 0 and 1. Trouble ends the process. *t is all zero but for protocol and prepare. */
void transfer_start(struct transfer *t, int argc, char *const *argv);

/* After a connection that ended in good order: waits for the next one of the same client. 1, or 0: end. */
int transfer_next(struct transfer *t);

/* Begins a message: writes the Received field into the queue. */
void transfer_begin(struct transfer *t);

/* Adds octets, lines end with LF; looks at size and hops. */
void transfer_octets(struct transfer *t, const char *s, size_t len);

/* From now on the message is refused; text stays the caller's. The first reason counts. Nothing will be queued. */
void transfer_refuse(struct transfer *t, char letter, const char *text);

/* The sender, in t->sender; the message is complete. */
void transfer_sender(struct transfer *t);

/* Adds a recipient; RELAYCLIENT's value is put behind it. */
void transfer_recipient(struct transfer *t, stralloc *address);

/* Ends the message: queued if nothing speaks against it and it has recipients. *reply is then what becomes of all the
 * recipients that were taken: K, Z or D and a text. Says it in the log. */
void transfer_end(struct transfer *t, stralloc *reply);

/* Gives up a message in the middle, and says so in the log if it has begun. */
void transfer_abandon(struct transfer *t, const char *why);

/* Queues a reply as a netstring. */
void transfer_reply(struct transfer *t, const char *s, size_t len);

/* Writes the replies. Returns 1, or 0: the client is gone or does not read. */
int transfer_flush(struct transfer *t);

/* A line in the log: "PROG: what ip=... why". */
void transfer_log(const struct transfer *t, const char *what, const char *why);

/* The same of a recipient who is refused: with the sender, and the recipient's len octets. */
void transfer_log_refusal(const struct transfer *t, const char *recipient, size_t len, const char *why);

/* Why reading ended. */
const char *transfer_why(enum netstring_result r, enum input_result failure);

#endif
