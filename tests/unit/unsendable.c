#include <errno.h>
#include <sys/socket.h>
#include "unsendable.h"

int unsendable = -1, unsendable_times;

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (fd != unsendable || !unsendable_times)
		return __real_sendmsg(fd, m, flags);
	unsendable_times--;
	errno = ENOMEM;
	return -1;
}
