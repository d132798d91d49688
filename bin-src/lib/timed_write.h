/* timed_write: octets for a client that may not read them.
 * What is no socket is a pipe to a proxy, which reads: it is written to without a limit of time. */
#ifndef TIMED_WRITE_H
#define TIMED_WRITE_H
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "monotonic.h"

/* Makes a single write(2) to the socket fd wait for timeout_ms at most. */
static inline void
timed_write_start(int fd, uint64_t timeout_ms)
{
	struct timeval wait = { .tv_sec = (time_t)(timeout_ms / 1000), .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}

/* Writes all len octets. Returns 1, or 0: the client is gone, or the time until (monotonic_ms) has passed and they are not all
 * written. It takes timeout_ms longer than that at most. */
static inline int
timed_write(int fd, const char *s, size_t len, uint64_t until)
{
	while (len) {
		ssize_t n = write(fd, s, len);

		if (n == 0 || (n < 0 && errno != EINTR))
			return 0;
		if (n > 0) {
			s += n;
			len -= (size_t)n;
		}
		if (len && monotonic_ms() > until)
			return 0;
	}
	return 1;
}

#endif
