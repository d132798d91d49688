/* client: submits messages to the queue.
 * Two ways, chosen by queue_client_open: straight to the keeper's socket, or, where the administrator or the user set
 * QMAILQUEUE or replaced bin/qmail-queue, by running that program for each message (interface of qmail-queue(8):
 * message on descriptor 0, envelope on 1, custom error text on 6).
 * Calling order   open once; for each message: begin, message*, sender, sender_parameters?, (recipient,
 *                 recipient_parameters?)*, end (or abandon)
 * Blocking        every call may wait; the keeper is tried for QUEUE_CONNECT_WAIT seconds while it restarts, and patience seconds
 *                 each for taking the octets and for its answer; a program as long for the same. Where this process runs the
 *                 program itself its end is waited for without a limit
 * Errors          the first trouble is kept; later calls do nothing, and queue_client_end says it
 * Signals         where this process runs the program itself, SIGCHLD is set to its default, and stays so */
#ifndef QUEUE_CLIENT_H
#define QUEUE_CLIENT_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/stralloc.h>
#include "channel.h"
#include "queue/protocol.h"

enum {
	QUEUE_CONNECT_WAIT = 30,	/* seconds */
	QUEUE_ANSWER_WAIT = 86400,	/* seconds; qmail-queue's own alarm */
	QUEUE_SESSION_WAIT = 900,	/* seconds after which a client of a server is gone: RFC 5321 section 4.5.3.2.6 lets it wait for 600 */
	QUEUE_KEEP = 10,		/* seconds that an idle connection is kept */
	QUEUE_ERROR_TEXT_MAX = 255,	/* octets of a custom error text */
};

struct queue_client {
	int home;		/* descriptor of the home, or -1: the current directory is the home */
	unsigned int unusable;	/* exit code with which every message fails: it is not known which program is to be run; else 0 */
	stralloc program;	/* path of the program to run instead, NUL-terminated; len 0: the keeper's socket */
	unsigned int patience;	/* seconds; opening sets QUEUE_ANSWER_WAIT, the caller may set another */
	struct channel keeper;	/* fd -1: not connected */
	stralloc message, envelope;	/* octets not yet handed on */
	int streaming;		/* octets of this message were handed on, so it cannot be sent again from here */
	int unread;		/* the program stopped reading the message: its exit code says why, the caller need not go on */
	int with_text;		/* the program says permanent or temporary in text */
	uint64_t idle_since;	/* monotonic seconds */
	pid_t pid;		/* the program's, 0 none */
	int message_fd, envelope_fd, error_fd;	/* our ends of its pipes, -1 closed */
	int runner, status_fd;	/* of the process that starts it and tells how it ended, -1 none: this one does */
	unsigned int code;	/* the first trouble, an exit code of qmail-queue; 0 none */
	char text[QUEUE_ERROR_TEXT_MAX + 1];
};

/* What became of a message. */
struct queue_result {
	unsigned int code;	/* exit code of qmail-queue, interfaces 5.1: 0 accepted, 11, 31 ... */
	int permanent;		/* 1 if code (or the custom text) says so, else temporary */
	uint64_t number;	/* code 0: the number of the message; where a program was run, its process id */
	uint64_t time;		/* code 0: wall clock in seconds at which it was accepted */
	const char *text;	/* for people and SMTP: "unable to write message to queue (#4.3.0)"; valid until the next
				 * begin; a custom text (exit 82, first octet D or Z taken off) as the program wrote it */
};

/* Prepares *q. home: an O_PATH descriptor of the qmail home that stays the caller's, or -1 if the current directory
 * is the home and stays so. Looks at QMAILQUEUE in the environment and at whether home's bin/qmail-queue and
 * libexec/qmail-queue are one file, this once. Never fails: trouble shows at queue_client_end. */
void queue_client_open(struct queue_client *q, int home);

/* The same, but never runs a program (for qmail-queue itself, which is that program). */
void queue_client_open_keeper(struct queue_client *q, int home);

/* For a process that will shut itself in, before it does: where a program is run instead, a process is forked that will start
 * it, with the environment of now (queue/runner.h), also for children of the caller. Returns 1, also if there is none to run, or 0
 * with errno set, also if it is not known whether there is one. */
int queue_client_start_runner(struct queue_client *q);

/* Begins a message. */
void queue_client_begin(struct queue_client *q);

/* Adds len octets to the message. */
void queue_client_message(struct queue_client *q, const char *s, size_t len);

/* The message is complete; the envelope sender is the len octets of s. NUL in it: exit code 91 at the end. */
void queue_client_sender(struct queue_client *q, const char *s, size_t len);

/* Adds an envelope recipient. */
void queue_client_recipient(struct queue_client *q, const char *s, size_t len);

/* The ESMTP parameters with which the sender, or the recipient that was added last, came: to be called right after it.
 * Form as in queue/envelope.h, NUL-terminated; "" is none. Bad form: exit code 91 at the end; over QUEUE_PARAMETERS_MAX
 * octets: 31. Where a program is run instead they are left out: it may be one that does not know them. */
void queue_client_sender_parameters(struct queue_client *q, const char *parameters);
void queue_client_recipient_parameters(struct queue_client *q, const char *parameters);

/* Adds raw octets of an envelope (instead of sender, recipient and the last NUL of end); for qmail-queue. */
void queue_client_envelope(struct queue_client *q, const char *s, size_t len);

/* Ends the envelope (terminate: adds its last NUL), waits for the answer, fills *result. The octets are on disk when
 * result->code is 0. */
void queue_client_end(struct queue_client *q, int terminate, struct queue_result *result);

/* Gives the message up: nothing is queued. Also allowed after an error. */
void queue_client_abandon(struct queue_client *q);

/* Ends the connection if it has been idle for QUEUE_KEEP seconds (a server calls it now and then). */
void queue_client_rest(struct queue_client *q);

void queue_client_close(struct queue_client *q);

/* The text and permanence of an exit code, as in queue_result. */
const char *queue_exit_text(unsigned int code);
int queue_exit_is_permanent(unsigned int code);

#endif
