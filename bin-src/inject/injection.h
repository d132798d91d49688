/* injection: turns a submitted message into a complete one and queues or prints it: interfaces section 3.
 * Trust    the message and the environment are the caller's own; what could harm others by its size or its octets ends
 *          with exit 100 before anything is queued
 * Memory   the header as it comes, as it goes out, and the recipients, each at most INJECTION_MAX octets; the body is
 *          carried in pieces. With the queue's buffers below 64 MiB in all, whatever the input is
 * Errors   these functions are the program: they say what is wrong on descriptor 2 and exit 100 or 111 */
#ifndef INJECTION_H
#define INJECTION_H

enum { INJECTION_MAX = 16 << 20 };	/* octets */

enum injection_recipients {
	RECIPIENTS_AUTO,	/* -A: of the arguments if there are any, else of the header */
	RECIPIENTS_ARGUMENTS,	/* -a */
	RECIPIENTS_HEADER,	/* -h */
	RECIPIENTS_BOTH,	/* -H: arguments first */
};

struct injection_options {
	enum injection_recipients recipients;
	int print;		/* -n: to descriptor 1, instead of into the queue */
	const char *sender;	/* -f, or NULL */
	const char *const *arguments;	/* recipients, up to a NULL */
	const char *sender_parameters, *recipient_parameters;	/* queue/envelope.h: of the sender, of each recipient; NULL: none */
};

/* Reads the message on descriptor 0 and does it all. Reads QMAILMFTFILE, then makes the qmail home (a descriptor, or -1
 * where the current directory is the home already) the current directory. Returns EXIT_OK, or exits. */
int injection_run(const struct injection_options *options, int home);

#endif
