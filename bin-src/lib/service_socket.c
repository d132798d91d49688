#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "lingering.h"
#include "monotonic.h"
#include "service_socket.h"

enum { BACKLOG = 1024, AGAIN_MS = 20 };	/* AGAIN_MS: between two tries while there are too many others */

static int
set_path(struct sockaddr_un *address, const char *path)
{
	size_t size = strlen(path) + 1;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (size > sizeof address->sun_path) {
		errno = ENAMETOOLONG;
		return 0;
	}
	memcpy(address->sun_path, path, size);
	return 1;
}

/* Closes fd, errno being kept. */
static int
fail(int fd)
{
	int e = errno;

	if (fd >= 0)
		close(fd);
	errno = e;
	return -1;
}

/* --- both ends -------------------------------------------------------------------------------------------------- */

static int
make_folder(const char *path)
{
	struct sockaddr_un folder;

	if (!set_path(&folder, path))
		return 0;
	*strrchr(folder.sun_path, '/') = '\0';
	return mkdir(folder.sun_path, 0711) == 0 || errno == EEXIST;
}

/* The name by which the socket of that path is bound, and known to who is connected to it. 1, or 0 with errno set. */
static int
set_bound_path(struct sockaddr_un *address, const char *path)
{
	char bound[sizeof address->sun_path];

	if (snprintf(bound, sizeof bound, "%s.new", path) >= (int)sizeof bound) {
		errno = ENAMETOOLONG;
		return 0;
	}
	return set_path(address, bound);
}

int
service_socket_listen(const char *path)
{
	struct sockaddr_un address;
	int fd;

	if (!set_bound_path(&address, path) || !make_folder(path))
		return -1;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(address.sun_path);
	/* renamed, so that a service which is started anew is at no moment one that is not wanted here: ENOENT */
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || chmod(address.sun_path, 0666) < 0 ||
	    listen(fd, BACKLOG) < 0 || rename(address.sun_path, path) < 0)
		return fail(fd);
	return fd;
}

/* connect(), which for a Unix socket either succeeds at once, or not while too many others do. */
static int
connect_here(int fd, const char *path, unsigned int wait_ms)
{
	struct sockaddr_un address;
	uint64_t deadline = monotonic_ms() + wait_ms;

	if (!set_path(&address, path))
		return 0;
	while (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		if ((errno != EAGAIN && errno != EINTR) || monotonic_ms() >= deadline)
			return 0;
		if (errno == EAGAIN)
			poll(NULL, 0, AGAIN_MS);
	}
	return 1;
}

static int
connect_from(int home, int fd, const char *path, unsigned int wait_ms)
{
	int here, r, e;

	if (home < 0)
		return connect_here(fd, path, wait_ms);
	here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (here < 0)
		return 0;
	r = fchdir(home) == 0 && connect_here(fd, path, wait_ms);
	e = errno;
	if (fchdir(here) < 0 && r) {
		e = errno;
		r = 0;
	}
	close(here);
	errno = e;
	return r;
}

int
service_socket_connect(int home, const char *path, unsigned int wait_ms)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || !connect_from(home, fd, path, wait_ms))
		return fail(fd);
	return fd;
}

uid_t
service_socket_peer(int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t size = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? (uid_t)-1 : peer.uid;
}

int
service_socket_allows(const uid_t *users, unsigned int len, uid_t uid)
{
	for (unsigned int i = 0; i < len; i++)
		if (users[i] == uid)
			return 1;
	return 0;
}

/* --- packets ------------------------------------------------------------------------------------------------------ */

/* Room for one descriptor: the kernel closes what else may have been sent. */
union room {
	struct cmsghdr align;
	char octets[CMSG_SPACE(sizeof(int))];
};

int
service_socket_send(int fd, const struct iovec *v, unsigned int n, int passed)
{
	union room control = { .octets = "" };
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = n };
	uint64_t deadline = monotonic_ms() + SERVICE_SOCKET_PASS_MS;
	struct cmsghdr *c;
	ssize_t r;

	if (passed >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof passed);
		memcpy(CMSG_DATA(c), &passed, sizeof passed);
	}
	while ((r = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0) {
		if (errno == ETOOMANYREFS && monotonic_ms() < deadline)
			poll(NULL, 0, AGAIN_MS);
		else if (errno != EINTR)
			break;
	}
	return r >= 0;
}

int
service_socket_say(int fd, char letter, const char *text)
{
	struct iovec v[2] = { { &letter, 1 }, { (char *)(uintptr_t)text, strlen(text) } };

	return service_socket_send(fd, v, 2, -1);
}

ssize_t
service_socket_receive(int fd, void *s, size_t len, int *passed)
{
	union room control;
	struct iovec v = { s, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	const struct cmsghdr *c;
	int got = -1;
	ssize_t r;

	do {
		if (passed) {
			m.msg_control = &control;
			m.msg_controllen = CMSG_LEN(sizeof got);
		}
		r = lingering_recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	c = passed && r >= 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof got))
		memcpy(&got, CMSG_DATA(c), sizeof got);
	if (r >= 0 && m.msg_flags & MSG_TRUNC) {
		errno = EMSGSIZE;
		r = fail(got);
		got = -1;
	}
	if (passed)
		*passed = got;
	return r;
}

int
service_socket_tell_users(int listener)
{
	int yes = 1;

	return setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0;
}

ssize_t
service_socket_receive_from(int fd, void *s, size_t len, uid_t *from)
{
	union {
		struct cmsghdr align;
		char octets[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec v = { s, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct ucred who = { .uid = (uid_t)-1 };
	const struct cmsghdr *c;
	ssize_t r;

	do {
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
		r = lingering_recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	c = r >= 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof who))
		memcpy(&who, CMSG_DATA(c), sizeof who);
	*from = who.uid;
	if (r >= 0 && m.msg_flags & MSG_TRUNC) {
		errno = EMSGSIZE;
		return -1;
	}
	return r;
}

int
service_socket_is_to(int fd, const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNSPEC }, bound;
	socklen_t size = sizeof name;
	int type = 0;
	socklen_t type_size = sizeof type;

	return set_bound_path(&bound, path) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_SEQPACKET &&
	    getpeername(fd, (struct sockaddr *)&name, &size) == 0 && name.sun_family == AF_UNIX && size <= sizeof name &&
	    size == offsetof(struct sockaddr_un, sun_path) + strlen(bound.sun_path) + 1 && strcmp(name.sun_path, bound.sun_path) == 0;
}

int
service_socket_wait(int fd, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now;
	int n;

	do {
		now = monotonic_ms();
		n = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0;
}
