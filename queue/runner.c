#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include <skalibs/uint32.h>
#include "queue/protocol.h"
#include "queue/runner.h"

enum { RUNNER_FD = 3 };	/* in the runner, its socket */

/* --- pipes and the program ------------------------------------------------------------- */

/* A pipe whose ends are both close-on-exec and above RUNNER_ERROR_FD, so that no dup2 hits one of them. */
static int
high_pipe(int fd[2])
{
	int low[2], ok;

	if (pipe2(low, O_CLOEXEC) < 0)
		return 0;
	fd[0] = fcntl(low[0], F_DUPFD_CLOEXEC, RUNNER_ERROR_FD + 1);
	fd[1] = fcntl(low[1], F_DUPFD_CLOEXEC, RUNNER_ERROR_FD + 1);
	ok = fd[0] >= 0 && fd[1] >= 0;
	close(low[0]);
	close(low[1]);
	if (!ok && fd[0] >= 0)
		close(fd[0]);
	if (!ok && fd[1] >= 0)
		close(fd[1]);
	return ok;
}

static void
close_all(const int fds[RUNNER_PIPES])
{
	for (int i = 0; i < RUNNER_PIPES; i++)
		close(fds[i]);
}

int
runner_pipes(int ours[RUNNER_PIPES], int theirs[RUNNER_PIPES])
{
	for (int i = 0; i < RUNNER_PIPES; i++) {
		int ends[2];

		if (!high_pipe(ends)) {
			while (i--) {
				close(ours[i]);
				close(theirs[i]);
			}
			return 0;
		}
		ours[i] = ends[i != RUNNER_ERROR];
		theirs[i] = ends[i == RUNNER_ERROR];
	}
	return 1;
}

void
runner_become(const char *program, int home, const int ends[RUNNER_PIPES])
{
	if (dup2(ends[RUNNER_MESSAGE], 0) < 0 || dup2(ends[RUNNER_ENVELOPE], 1) < 0 || dup2(ends[RUNNER_ERROR], RUNNER_ERROR_FD) < 0)
		_exit(QUEUE_EXEC);
	if (home >= 0 && fchdir(home) < 0)
		_exit(QUEUE_HOME);
	signal(SIGPIPE, SIG_DFL);
	execl(program, program, (char *)NULL);
	_exit(QUEUE_EXEC);
}

/* --- messages with descriptors ---------------------------------------------------------- */

/* Returns 1, or 0 with errno set. */
static int
put(int fd, uint32_t number, const int *fds, size_t count)
{
	char octets[4], control[CMSG_SPACE(RUNNER_PIPES * sizeof(int))] = { 0 };
	struct iovec v = { .iov_base = octets, .iov_len = sizeof octets };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t r;

	uint32_pack_big(octets, number);
	if (count) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	do
		r = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r == (ssize_t)sizeof octets;
}

/* 1 if nobody is left who could send; a message of no octets reads as an end, too. */
static int
has_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1;
}

/* Takes a message with exactly count descriptors. Returns 1; 0 at the end; -1 if it is anything else: none of its descriptors
 * is kept. */
static int
take(int fd, uint32_t *number, int *fds, size_t count)
{
	char octets[4];
	union { struct cmsghdr align; char octets[CMSG_SPACE(RUNNER_PIPES * sizeof(int))]; } control;
	struct iovec v = { .iov_base = octets, .iov_len = sizeof octets };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof control.octets };
	struct cmsghdr *c;
	size_t came = 0;
	ssize_t r;

	do
		r = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return 0;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		came = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (r == (ssize_t)sizeof octets && came == count) {
		uint32_unpack_big(octets, number);
		if (count)
			memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		return 1;
	}
	for (size_t i = 0; i < came; i++) {	/* may be one more than was asked room for: the room is a whole word */
		int extra;

		memcpy(&extra, CMSG_DATA(c) + i * sizeof extra, sizeof extra);
		close(extra);
	}
	return r == 0 && has_ended(fd) ? 0 : -1;
}

/* --- the runner -------------------------------------------------------------------------- */

/* A process of its own for each request: starts the program, tells, waits, tells. */
static void
serve_request(int reply, const char *program, int home)
{
	int ours[RUNNER_PIPES], theirs[RUNNER_PIPES], status;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	if (!runner_pipes(ours, theirs))
		_exit(1);
	pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		runner_become(program, home, theirs);
	}
	if (pid < 0)
		_exit(1);
	close_all(theirs);
	if (!put(reply, (uint32_t)pid, ours, RUNNER_PIPES))
		_exit(1);
	/* from now on the end of the pipes is the asking side's to make */
	close_all(ours);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	put(reply, (uint32_t)status, NULL, 0);
	_exit(0);
}

static void
serve(const char *program, int home)
{
	uint32_t number;
	int reply, r;

	signal(SIGCHLD, SIG_IGN);	/* nobody waits for those that serve requests */
	signal(SIGTERM, SIG_IGN);	/* a session that is being stopped may have a message to finish */
	while ((r = take(RUNNER_FD, &number, &reply, 1))) {
		if (r < 0)
			continue;	/* whoever holds the socket may send anything, and ends nothing for the others */
		if (fork() == 0) {
			close(RUNNER_FD);
			serve_request(reply, program, home);
		}
		close(reply);	/* where fork failed, this says so */
	}
	_exit(0);
}

/* In the runner: of the parent's descriptors only 2 stays, and the home. */
static void
leave_descriptors(int socket, int *home)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), high = fcntl(socket, F_DUPFD_CLOEXEC, RUNNER_FD + 2);
	int high_home = *home >= 0 ? fcntl(*home, F_DUPFD_CLOEXEC, RUNNER_FD + 2) : -1;

	if (null < 0 || high < 0 || (*home >= 0 && high_home < 0) || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(high, RUNNER_FD) < 0)
		_exit(1);
	fcntl(RUNNER_FD, F_SETFD, FD_CLOEXEC);
	if (*home >= 0) {
		if (dup2(high_home, RUNNER_FD + 1) < 0)
			_exit(1);
		*home = RUNNER_FD + 1;
		fcntl(*home, F_SETFD, FD_CLOEXEC);
	}
	closefrom(RUNNER_FD + 1 + (*home >= 0));
}

int
runner_start(const char *program, int home)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		leave_descriptors(ends[1], &home);
		serve(program, home);
	}
	close(ends[1]);
	if (pid < 0) {
		int e = errno;

		close(ends[0]);
		errno = e;
		return -1;
	}
	return ends[0];
}

/* --- the asking side ------------------------------------------------------------------------ */

int
runner_run(int runner, int fds[RUNNER_PIPES], pid_t *pid)
{
	int ends[2], ok;
	uint32_t number;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	ok = put(runner, 0, &ends[1], 1);
	close(ends[1]);
	if (ok && take(ends[0], &number, fds, RUNNER_PIPES) == 1) {
		*pid = (pid_t)number;
		return ends[0];
	}
	close(ends[0]);
	return -1;
}

int
runner_wait(int fd)
{
	uint32_t status;
	int ok = take(fd, &status, NULL, 0) == 1;

	close(fd);
	return ok ? (int)status : -1;
}
