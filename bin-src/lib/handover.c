#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "handover.h"
#include "lingering.h"

int
handover_share(int shared[2])
{
	int on = 1;

	return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, shared) == 0 &&
	    setsockopt(shared[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0;
}

int
handover_pair(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0;
}

/* Sends len octets of s and n descriptors (1 or 2). */
static int
send_with(int socket, const void *s, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec v = { .iov_base = (void *)(uintptr_t)s, .iov_len = len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c;

	memset(&control, 0, sizeof control);
	c = CMSG_FIRSTHDR(&m);
	/* -Wanalyzer-null-dereference: there is room for one header */
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	return sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* Reads the credentials and the first descriptor of a message. */
static void
take_word(struct msghdr *m, pid_t *who, int *end)
{
	struct ucred credentials = { .pid = 0 };

	*end = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&credentials, CMSG_DATA(c), sizeof credentials);
		else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(end, CMSG_DATA(c), sizeof *end);
	*who = credentials.pid;
}

int
handover_hear(int shared, pid_t *who, int *end)
{
	/* room for one descriptor: the kernel closes what else a process may have sent */
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_LEN(sizeof(int))];
	} control;
	char octet;
	struct iovec v = { .iov_base = &octet, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control };

	m.msg_controllen = sizeof control.room;
	if (lingering_recvmsg(shared, &m, MSG_CMSG_CLOEXEC) < 0)
		return 0;
	take_word(&m, who, end);
	return 1;
}

int
handover_send(int end, int connection, const struct handover *h)
{
	int fds[2] = { connection, end };

	return send_with(end, h, sizeof *h, fds, 2);
}

void
handover_start(int shared)
{
	struct iovec v = { .iov_base = (char[]){ 0 }, .iov_len = 1 };
	const struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t r = sendmsg(shared, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)r;
}

int
handover_ask(int shared, int end)
{
	int r = send_with(shared, "", 1, &end, 1);

	close(end);
	return r;
}

int
handover_receive(int socket, struct handover *h, int *connection, int *end)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec v = { .iov_base = h, .iov_len = sizeof *h };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control };
	const struct cmsghdr *c;
	int fds[2];
	ssize_t r;

	do {
		m.msg_controllen = sizeof control;
		r = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	c = r == (ssize_t)sizeof *h ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof fds))
		return 0;
	memcpy(fds, CMSG_DATA(c), sizeof fds);
	*connection = fds[0];
	*end = fds[1];
	return 1;
}
