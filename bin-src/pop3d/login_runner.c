#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "exitcode.h"
#include "login_runner.h"
#include "service_socket.h"

enum { PACKET_MAX = 1024, ABOVE = 16 };

/* Waits for a packet or the end. */
static ssize_t
await(int socket, void *s, size_t len, int *passed)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	return service_socket_receive(socket, s, len, passed);
}

/* --- the runner ------------------------------------------------------------------------------------------------ */

static void
run(char *const *argv, int connection, int secret)
{
	int high = fcntl(secret, F_DUPFD_CLOEXEC, ABOVE);

	if (high < 0 || (connection >= 0 && (dup2(connection, STDIN_FILENO) < 0 || dup2(connection, STDOUT_FILENO) < 0)) ||
	    dup2(high, LOGIN_RUNNER_SECRET) < 0)
		_exit(EXIT_TEMP);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	_exit(EXIT_TEMP);
}

/* Returns how it ended, as wait tells; -1: it could not be started. */
static int
run_and_wait(char *const *argv, int connection, const char *octets, size_t len)
{
	int ends[2], status;
	pid_t pid;

	/* a pipe takes that much at once */
	if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], octets, len) != (ssize_t)len)
		return -1;
	pid = fork();
	if (pid == 0)
		run(argv, connection, ends[0]);
	close(ends[0]);
	close(ends[1]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return pid < 0 ? -1 : status;
}

static void
serve(char *const *argv, int socket)
{
	char packet[PACKET_MAX], code;
	int connection, status;
	ssize_t n = await(socket, packet, sizeof packet, &connection);

	if (n <= 0)
		_exit(EXIT_OK);
	status = run_and_wait(argv, connection, packet, (size_t)n);
	if (status < 0 || !WIFEXITED(status))
		_exit(EXIT_TEMP);
	code = (char)WEXITSTATUS(status);
	service_socket_send(socket, &(struct iovec){ &code, 1 }, 1, -1);
	_exit(EXIT_OK);
}

/* --- who asks it --------------------------------------------------------------------------------------------------- */

int
login_runner_start(char *const *argv, int directory)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		if (fchdir(directory) < 0)
			_exit(EXIT_TEMP);
		serve(argv, pair[1]);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return -1;
	}
	return pair[0];
}

int
login_runner_run(int runner, int connection, const char *octets, size_t len)
{
	unsigned char code;

	if (!service_socket_send(runner, &(struct iovec){ (void *)(uintptr_t)octets, len }, 1, connection) ||
	    await(runner, &code, 1, NULL) != 1)
		return -1;
	return code;
}
