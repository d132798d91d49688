/* remote_report: what a run of qmail-remote printed, told apart for its recipients (interfaces section 10).
 * Grammar   (r|h|s text NUL)*  one for each recipient, in order, if the server took the sender
 *           (K|Z|D text NUL)   the message; what follows it is ignored
 * Trust     any program may stand in for qmail-remote, and its texts come from anybody's server: whatever is missing or
 *           unknown is a deferral, and nothing is delivered or failed that the report does not say */
#ifndef REMOTE_REPORT_H
#define REMOTE_REPORT_H
#include <stddef.h>
#include <skalibs/stralloc.h>

/* What became of recipient n (from 0) of recipients. *text is set to his report's text and then the message's.
 * Returns 'K' delivered, 'Z' deferred or 'D' failed. On lack of memory 'Z' with whatever fits into *text. */
char remote_report_merge(stralloc *text, const char *report, size_t len, unsigned int recipients, unsigned int n);

#endif
