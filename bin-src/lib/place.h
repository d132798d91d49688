/* place: a connection on descriptors 0 and 1, by calls that every filter of sandbox.h allows. */
#ifndef PLACE_H
#define PLACE_H
#include <fcntl.h>
#include <unistd.h>

/* Puts in on 0 and out on 1, in the place of what is there; both may be one descriptor. Those that they were are closed, but 2.
 * Returns 1, or 0 with errno set. */
static inline int
place_connection(int in, int out)
{
	if (in != STDIN_FILENO) {
		close(STDIN_FILENO);
		if (fcntl(in, F_DUPFD, STDIN_FILENO) != STDIN_FILENO)
			return 0;
	}
	if (out != STDOUT_FILENO) {
		close(STDOUT_FILENO);
		if (fcntl(out, F_DUPFD, STDOUT_FILENO) != STDOUT_FILENO)
			return 0;
	}
	if (in > STDERR_FILENO)
		close(in);
	if (out > STDERR_FILENO && out != in)
		close(out);
	return 1;
}

#endif
