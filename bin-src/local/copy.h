/* copy: the message on descriptor 0, sent on by a helper program of a dot-qmail file. */
#ifndef COPY_H
#define COPY_H
#include <skalibs/stralloc.h>

/* The value of a variable that qmail-local sets; without it the program ends with EXIT_PERM. */
const char *copy_variable(const char *name);

/* Submits the message on descriptor 0, below DTLINE, and says "PROG: qp N" on descriptor 2. home: the qmail home, opened
 * before anything else. recipients: each ended by NUL. Ends the program with EXIT_PERM or EXIT_TEMP where that fails. */
void copy_message(int home, const char *sender, const stralloc *recipients);

#endif
