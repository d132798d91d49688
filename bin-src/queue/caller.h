/* caller: what qmail-queue, and what is put in its place, have to do with whoever runs them: a message on descriptor 0, an envelope
 * on 1, a limit of time, and exit codes (queue/protocol.h) that say what was wrong. */
#ifndef CALLER_H
#define CALLER_H
#include <stddef.h>

/* Ends the program with QUEUE_TIMEOUT after so many seconds: what does not come to an end by then was never accepted. */
void caller_limit(unsigned int seconds);

/* Reads up to len octets, and waits for one at least. Returns 0 at the end; ends the program with QUEUE_READ on an error. */
size_t caller_read(int fd, char *s, size_t len);

#endif
