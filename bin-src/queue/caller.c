#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include "caller.h"
#include "queue/protocol.h"

static void
timed_out(int sig)
{
	(void)sig;
	_exit(QUEUE_TIMEOUT);
}

void
caller_limit(unsigned int seconds)
{
	signal(SIGALRM, timed_out);
	alarm(seconds);
}

size_t
caller_read(int fd, char *s, size_t len)
{
	ssize_t r;

	do
		r = read(fd, s, len);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		_exit(QUEUE_READ);
	return (size_t)r;
}
