#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "exitcode.h"
#include "monotonic.h"
#include "program.h"

enum {
	CHUNK = 4096,
	PIPE_READS = 64,	/* reads of CHUNK that empty any pipe; after the end of the program no more is read */
	LOOK_AGAIN = 50,	/* milliseconds, where the kernel cannot tell us the end of a process */
};

/* The output of one program; text up to what the report takes. */
struct output {
	int fd;		/* -1: closed by the program and all its children */
	size_t len;
	char text[REPORT_MAX];
};

static _Noreturn void
become(const char *const *argv, char *const *envp, int input, int output, int directory)
{
	static const int ours[] = { SIGPIPE, SIGXFSZ, SIGALRM, SIGCHLD };	/* that we, or who started us, may have changed */
	sigset_t none;

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		signal(ours[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* input and output are above 2: 0 to 2 are open in every caller */
	if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 ||
	    (directory >= 0 && fchdir(directory) < 0))
		_exit(EXIT_TEMP);
	execve(argv[0], (char *const *)(uintptr_t)argv, envp);
	dprintf(2, "Unable to run %s: %s. (#4.3.0)\n", argv[0], strerror(errno));
	_exit(EXIT_TEMP);
}

/* Reads once. What finds no room is dropped. Returns what read(2) does. */
static ssize_t
read_output(struct output *o)
{
	char chunk[CHUNK];
	ssize_t r = read(o->fd, chunk, sizeof chunk);
	size_t n;

	if (r <= 0)
		return r;
	n = (size_t)r < sizeof o->text - o->len ? (size_t)r : sizeof o->text - o->len;
	memcpy(o->text + o->len, chunk, n);
	o->len += n;
	return r;
}

static void
close_output(struct output *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}

/* Does what is due meanwhile. Returns how many milliseconds one may wait for the end of the process, -1: for ever. */
static int
patience(int end, const struct program_wait *wait, uint64_t *due)
{
	int ms = end < 0 ? LOOK_AGAIN : -1;
	uint64_t now;

	if (!wait)
		return ms;
	now = monotonic_ms();
	if (!*due)
		*due = now + wait->ms;
	if (now >= *due) {
		wait->call(wait->data);
		now = monotonic_ms();
		*due = now + wait->ms;
	}
	return ms >= 0 && (uint64_t)ms < *due - now ? ms : (int)(*due - now);
}

/* Waits until the process has ended, reading its output meanwhile. end: a descriptor that becomes readable at its end, or
 * -1. Returns 0 with *status set, or -1. */
static int
wait_for(pid_t pid, int end, const struct program_wait *wait, struct output *o, int *status)
{
	uint64_t due = 0;

	for (;;) {
		struct pollfd p[2] = { { .fd = end, .events = POLLIN }, { .fd = o->fd, .events = POLLIN } };
		ssize_t got;
		pid_t r;

		if (poll(p, 2, patience(end, wait, &due)) < 0) {
			if (errno != EINTR)
				return -1;
			continue;
		}
		if (p[1].revents && (got = read_output(o)) <= 0 && !(got < 0 && errno == EINTR))
			close_output(o);
		if (end >= 0 && !p[0].revents)
			continue;
		r = waitpid(pid, status, WNOHANG);
		if (r == pid)
			return 0;
		if (r < 0 && errno != EINTR)
			return -1;
	}
}

/* Takes what is in the pipe when the program has ended; a child of it may hold the other end for ever. */
static void
read_rest(struct output *o)
{
	if (o->fd < 0 || fcntl(o->fd, F_SETFL, O_NONBLOCK) < 0)
		return;
	for (int i = 0; i < PIPE_READS && read_output(o) > 0; i++)
		;
}

static int
follow(pid_t pid, const struct program_wait *wait, struct output *o)
{
	int end = (int)syscall(SYS_pidfd_open, pid, 0);
	int status, r;

	r = wait_for(pid, end, wait, o, &status);
	if (end >= 0)
		close(end);
	if (r < 0)
		return PROGRAM_FAILED;
	read_rest(o);
	return WIFEXITED(status) ? WEXITSTATUS(status) : PROGRAM_CRASHED;
}

int
program_run(const char *const *argv, char *const *envp, int input, int directory, const struct program_wait *wait,
    struct report *report)
{
	struct output o = { .fd = -1 };
	int ends[2], status = PROGRAM_FAILED;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return PROGRAM_FAILED;
	pid = fork();
	if (pid == 0)
		become(argv, envp, input, ends[1], directory);
	close(ends[1]);
	o.fd = ends[0];
	if (pid > 0)
		status = follow(pid, wait, &o);
	close_output(&o);
	report_output(report, o.text, o.len);
	return status;
}
