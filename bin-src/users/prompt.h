/* prompt: asks for a password on the terminal, without showing it.
 * A signal that ends the program, or stops it, finds the terminal as it was. */
#ifndef PROMPT_H
#define PROMPT_H
#include <skalibs/stralloc.h>

enum { PROMPT_MAX = 1024 };	/* octets; more are taken for an error */

/* Asks on the process's terminal (/dev/tty), whatever descriptors 0 and 1 are. The answer replaces what is in *answer,
 * without its LF and NUL-terminated, which len does not count; the caller wipes it.
 * Returns 1; 0 with errno set: there is no terminal (ENXIO), or it was closed (EPIPE), or the answer is too long or holds a
 * NUL (EINVAL). */
int prompt_password(stralloc *answer, const char *question);

/* The same of the first line of a descriptor, or of all there is if it has no LF; nothing is asked, and no octet behind the
 * LF is read. */
int prompt_read_line(stralloc *answer, int fd);

/* Wipes and frees. */
void prompt_forget(stralloc *answer);

#endif
