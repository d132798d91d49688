/* resend: submits a copy of a delivered message to the queue.
 * The copy is the Delivered-To line, by which a loop is noticed, and the message as it is. */
#ifndef RESEND_H
#define RESEND_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "exitcode.h"
#include "message.h"
#include "report.h"

struct resend {
	int home;		/* O_PATH descriptor of the qmail home */
	const char *line;	/* the Delivered-To line, with its newline */
	const char *sender;	/* envelope sender */
	const char *sender_parameters, *parameters;	/* of the delivered message and of its recipient; NULL: none */
	int is_list;		/* sender is not that of the delivered message: notify.h says what is carried on */
	const stralloc *recipients;	/* envelope recipients, each ended by NUL */
};

/* Submits it. Returns EXIT_OK with *number, the queue's number of the copy; EXIT_PERM or EXIT_TEMP after a report. */
enum exitcode resend_message(const struct resend *r, const struct message *m, struct report *report, uint64_t *number);

#endif
