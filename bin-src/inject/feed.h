/* feed: runs a program whose descriptor 0 gets a text, and then what comes on ours. */
#ifndef FEED_H
#define FEED_H
#include <stddef.h>

/* Runs argv, searched in PATH if its name has no slash; or, if home is not -1, the file argv[0] below the directory
 * home, without leaving the current directory. Waits for its end.
 * Returns its exit status; EXIT_TEMP if it could not be run, was killed, or our input could not be read: in that case
 * it is killed before it can see an end of its input. A program that stops reading is no error. Exits with EXIT_TEMP,
 * and a message, if the system gives no process. */
int feed_program(const char *const *argv, int home, const char *text, size_t len);

#endif
