/* submitted: the test as qmail-queued, to which something is submitted. Current directory: the home (directory.h). */
#ifndef UNIT_SUBMITTED_H
#define UNIT_SUBMITTED_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "channel.h"

/* Makes run/, and bin/qmail-queue that is the one of libexec/: so no program is run instead. */
void submitted_home(void);

/* The socket at which submitters come; then one of them, which is waited for. */
int submitted_listen(void);
void submitted_accept(int listener, struct channel *c);

/* Takes a message, its octets and its envelope, both NUL-terminated behind their len. Returns 1, or 0 if it was given up. */
int submitted_take(struct channel *c, stralloc *message, stralloc *envelope);

/* Answers it; code: the exit code of qmail-queue, 0 accepted. */
void submitted_answer(struct channel *c, unsigned int code, uint64_t number);

#endif
