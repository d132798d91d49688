#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpassword.h"
#include "exitcode.h"
#include "login_protocol.h"
#include "login_runner.h"
#include "monotonic.h"
#include "service_socket.h"

enum {
	ABOVE = 16,
	LOOK_AGAIN = 50,	/* milliseconds; where the kernel has no descriptor for the end of a process (before Linux 5.3) */
	/* login, secret and challenge, then variables, each NAME=value NUL */
	PACKET_MAX = LOGIN_RUNNER_MAX + (LOGIN_VARIABLES_MAX - LOGIN_VARIABLES_SAID) * (LOGIN_VALUE_MAX + 64),
};

/* Waits for a packet or the end: until monotonic_ms() is deadline, or where that is 0 for ever. */
static ssize_t
await(int socket, void *s, size_t len, int *passed, uint64_t deadline)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };

	while (!deadline && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	return deadline && !service_socket_wait(socket, deadline) ? -1 : service_socket_receive(socket, s, len, passed);
}

/* --- the runner ------------------------------------------------------------------------------------------------ */

/* Where the len octets of login, secret and challenge end; NULL: nowhere, or they are too long. */
static const char *
find_variables(const char *packet, size_t len)
{
	const char *s = packet, *end = packet + len;

	for (int i = 0; i < 3 && s; i++) {
		s = memchr(s, '\0', (size_t)(end - s));
		s = s ? s + 1 : NULL;
	}
	return s && s - packet <= LOGIN_RUNNER_MAX && end[-1] == '\0' ? s : NULL;
}

/* Those that a session may say; what is not fine is not passed on. */
static void
set_variables(const char *s, const char *end)
{
	for (; s < end; s += strlen(s) + 1) {
		int i = login_variable_find(s);
		const char *value = strchr(s, '=');

		if (i >= LOGIN_VARIABLES_SAID && login_value_is_fine(value + 1))
			setenv(login_variables[i], value + 1, 1);
	}
}

/* With a connection it is a session, which may outlive who asked. Without one it can be killed, with what it starts. */
static void
run(char *const *argv, int connection, int secret)
{
	int high = fcntl(secret, F_DUPFD_CLOEXEC, ABOVE);

	if (high < 0 || (connection >= 0 && (dup2(connection, STDIN_FILENO) < 0 || dup2(connection, STDOUT_FILENO) < 0)) ||
	    (connection < 0 && setpgid(0, 0) < 0) || dup2(high, LOGIN_RUNNER_SECRET) < 0)
		_exit(EXIT_TEMP);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	_exit(EXIT_TEMP);
}

/* Returns how the program ended, as wait tells, or -1. It is killed once asker, a socket, or -1 for nobody, has no other end any more. */
static int
await_program(pid_t pid, int asker)
{
	int end = (int)syscall(SYS_pidfd_open, pid, 0), status;
	struct pollfd p[2] = { { .fd = end, .events = POLLIN }, { .fd = asker } };
	pid_t r;

	while ((r = waitpid(pid, &status, WNOHANG)) == 0)
		if (poll(p, 2, end < 0 ? LOOK_AGAIN : -1) > 0 && p[1].revents) {
			kill(pid, SIGKILL);
			kill(-pid, SIGKILL);
			p[1].fd = -1;
		}
	if (end >= 0)
		close(end);
	return r == pid ? status : -1;
}

/* Returns how it ended, as wait tells; -1: it could not be started. */
static int
run_and_wait(char *const *argv, int socket, int connection, const char *packet, size_t len)
{
	const char *variables = find_variables(packet, len);
	size_t octets = variables ? (size_t)(variables - packet) : 0;
	int ends[2];
	pid_t pid;

	/* a pipe takes that much at once */
	if (!variables || pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], packet, octets) != (ssize_t)octets)
		return -1;
	pid = fork();
	if (pid == 0) {
		set_variables(variables, packet + len);
		run(argv, connection, ends[0]);
	}
	close(ends[0]);
	close(ends[1]);
	return pid < 0 ? -1 : await_program(pid, connection < 0 ? socket : -1);
}

/* One packet, one run. 1, or 0: that was the last one. */
static int
serve_one(char *const *argv, int socket)
{
	char packet[PACKET_MAX], code;
	int connection, status;
	ssize_t n = await(socket, packet, sizeof packet, &connection, 0);

	if (n <= 0)
		return 0;
	status = run_and_wait(argv, socket, connection, packet, (size_t)n);
	explicit_bzero(packet, sizeof packet);
	if (connection >= 0)
		close(connection);
	if (status < 0 || !WIFEXITED(status))
		return 0;
	code = (char)WEXITSTATUS(status);
	return service_socket_send(socket, &(struct iovec){ &code, 1 }, 1, -1);
}

static void
serve(char *const *argv, int socket, unsigned int tries)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(EXIT_TEMP);
	signal(SIGCHLD, SIG_DFL);	/* whoever started us may have ignored it, and the exit codes would be lost */
	while (tries-- && serve_one(argv, socket))
		;
	_exit(EXIT_OK);
}

/* --- who asks it --------------------------------------------------------------------------------------------------- */

int
login_runner_start(char *const *argv, int directory, unsigned int tries)
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
		serve(argv, pair[1], tries);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return -1;
	}
	return pair[0];
}

/* Appends s and its NUL. 1, or 0: there is no room for it. */
static int
put(char *octets, size_t *len, const char *s)
{
	size_t size = strlen(s) + 1;

	if (size > LOGIN_RUNNER_MAX - *len)
		return 0;
	memcpy(octets + *len, s, size);
	*len += size;
	return 1;
}

int
login_runner_run(int runner, int connection, const char *login, const char *secret, const char *challenge, int wait_ms)
{
	uint64_t deadline = wait_ms < 0 ? 0 : monotonic_ms() + (uint64_t)wait_ms;
	char octets[PACKET_MAX];
	unsigned char code = CHECKPASSWORD_WRONG;
	size_t len = 0;
	int is_sent;

	if (!put(octets, &len, login) || !put(octets, &len, secret) || !put(octets, &len, challenge)) {
		explicit_bzero(octets, sizeof octets);
		return code;
	}
	len = login_variables_put(octets, len, sizeof octets, LOGIN_VARIABLES_SAID);
	is_sent = service_socket_send(runner, &(struct iovec){ octets, len }, 1, connection);
	explicit_bzero(octets, sizeof octets);
	if (is_sent && await(runner, &code, 1, NULL, deadline) == 1)
		return code;
	shutdown(runner, SHUT_RDWR);	/* an answer that comes yet would be taken for one about the next login */
	return -1;
}
