#include <errno.h>
#include <sys/socket.h>
#include "unsendable.h"

int unsendable = -1;

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (fd != unsendable)
		return __real_sendmsg(fd, m, flags);
	unsendable = -1;
	errno = ENOMEM;
	return -1;
}
