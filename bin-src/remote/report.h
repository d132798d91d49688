/* report: what became of a message's recipients, and the texts that say so.
 * A recipient has a letter of its own, from the reply to RCPT, and one of the message, from what came after; interfaces
 * section 10. Texts are those that programs which read logs and bounces look for. */
#ifndef REPORT_H
#define REPORT_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "smtp_reply.h"

struct report_text { size_t at, len; };	/* in texts */

struct report_recipient {
	char own;		/* 0: not asked; 'r' accepted, 's' refused for now, 'h' for good */
	char message;		/* 0: not known; 'K' delivered, 'k' the same to a host with DSN, 'Z' deferred, 'D' failed */
	struct report_text own_text, message_text;
};

struct report {
	struct report_recipient *recipients;
	unsigned int len;
	int may_be_taken;	/* the message went to a server before, which did not answer: the caller's to set */
	stralloc texts;
};

/* Starts with len recipients of whom nothing is known. Returns 1, or 0 with errno ENOMEM. {0} is a valid report. */
int report_begin(struct report *r, unsigned int len);
void report_free(struct report *r);

/* A new text out of strings, ended by NULL; then, unless reply is NULL, "Remote host said: " and its lines. On lack of memory
 * it is short. */
struct report_text report_text(struct report *r, const struct smtp_reply *reply, const char *s, ...)
    __attribute__((sentinel));

/* 1 if nothing is decided about recipient n yet. */
int report_is_open(const struct report *r, unsigned int n);

/* The message's letter for every recipient that is open, or was accepted and not yet told of. */
void report_all(struct report *r, char letter, struct report_text text);

/* What is to be told of recipient n: letter K, k, Z or D; *text is set. On lack of memory the text is short. */
char report_outcome(const struct report *r, unsigned int n, stralloc *text);

/* The report that qmail-remote prints. Returns 1, or 0 with errno ENOMEM. */
int report_print(const struct report *r, stralloc *to);

#endif
