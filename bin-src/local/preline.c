/* preline: give a program the message with the lines that a delivery puts before it.
 * Trust: runs as the user, in a dot-qmail file; what passes through is hostile, and only passed through. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/sgetopt.h>
#include <skalibs/strerr.h>
#include "exitcode.h"

#define USAGE "preline [-frdFRD] program [argument...]"

enum { LINES = 3, BUFFER = 65536, LOOK_AGAIN = 50 /* milliseconds */ };

static const char *const names[LINES] = { "UFLINE", "RPLINE", "DTLINE" };

struct feeder {
	int pipe;	/* to the program; -1: it wants no more */
	int end;	/* readable when the program has ended; -1: the kernel cannot tell */
	pid_t pid;
	int status;	/* once has_ended */
	int has_ended;
};

static void
parse_options(subgetopt *state, int omit[LINES], int argc, const char *const *argv)
{
	int c;

	while ((c = subgetopt_r(argc, argv, "frdFRD", state)) != -1) {
		switch (c) {
		case 'f': omit[0] = 1; break;
		case 'F': omit[0] = 0; break;
		case 'r': omit[1] = 1; break;
		case 'R': omit[1] = 0; break;
		case 'd': omit[2] = 1; break;
		case 'D': omit[2] = 0; break;
		default: strerr_dieusage(EXIT_PERM, USAGE);
		}
	}
	if (state->ind == argc)
		strerr_dieusage(EXIT_PERM, USAGE);
}

/* The exit status for an exec that failed: the program is missing, or it may be run later. */
static int
code_of_exec(int error)
{
	switch (error) {
	case ENOENT: case EACCES: case ENOTDIR: case ENOEXEC: case EISDIR: case ENAMETOOLONG: case ELOOP: case EPERM:
		return EXIT_PERM;
	default:
		return EXIT_TEMP;
	}
}

static void
start(struct feeder *f, const char *const *argv)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		strerr_diefusys(EXIT_TEMP, "make a pipe");
	f->pid = fork();
	if (f->pid < 0)
		strerr_diefusys(EXIT_TEMP, "fork");
	if (f->pid == 0) {
		int error;

		signal(SIGPIPE, SIG_DFL);
		if (dup2(ends[0], STDIN_FILENO) < 0)
			_exit(EXIT_TEMP);
		exec(argv);
		error = errno;
		strerr_warnwusys("run ", argv[0]);
		_exit(code_of_exec(error));
	}
	close(ends[0]);
	f->pipe = ends[1];
	fcntl(f->pipe, F_SETFL, O_NONBLOCK);
	f->end = (int)syscall(SYS_pidfd_open, f->pid, 0);
}

/* Looks whether the program has ended; waits for it if block. */
static void
look(struct feeder *f, int block)
{
	pid_t r = f->has_ended ? 0 : waitpid(f->pid, &f->status, block ? 0 : WNOHANG);

	if (r == f->pid)
		f->has_ended = 1;
	else if (r < 0 && errno != EINTR)
		strerr_diefusys(EXIT_TEMP, "wait for the program");
}

/* Writes as long as the program runs and wants it: a process that it left behind may hold the pipe and never read. */
static void
feed(struct feeder *f, const char *s, size_t len)
{
	while (len && f->pipe >= 0) {
		ssize_t r = write(f->pipe, s, len);

		if (r >= 0) {
			s += r;
			len -= (size_t)r;
		} else if (errno == EAGAIN) {
			struct pollfd p[2] = {
				{ .fd = f->pipe, .events = POLLOUT }, { .fd = f->end, .events = POLLIN },
			};

			poll(p, 2, f->end < 0 ? LOOK_AGAIN : -1);
			look(f, 0);
			if (f->has_ended)
				break;
		} else if (errno != EINTR)
			break;
	}
	if (len && f->pipe >= 0) {
		close(f->pipe);
		f->pipe = -1;
	}
}

/* Feeds the message. If it cannot be read, the program must not take a part of it for the whole. */
static void
feed_message(struct feeder *f)
{
	static char buffer[BUFFER];
	ssize_t r = 0;

	while (f->pipe >= 0 && ((r = read(STDIN_FILENO, buffer, sizeof buffer)) > 0 || (r < 0 && errno == EINTR)))
		feed(f, buffer, r > 0 ? (size_t)r : 0);
	if (r < 0) {
		int error = errno;

		kill(f->pid, SIGKILL);
		errno = error;
		strerr_diefusys(EXIT_TEMP, "read the message");
	}
	if (f->pipe >= 0)
		close(f->pipe);
	f->pipe = -1;
}

int
main(int argc, const char *const *argv)
{
	subgetopt state = SUBGETOPT_ZERO;
	int omit[LINES] = { 0 };
	const char *lines[LINES];
	struct feeder f = { .end = -1 };

	PROG = "preline";
	parse_options(&state, omit, argc, argv);
	for (int i = 0; i < LINES; i++) {
		lines[i] = getenv(names[i]);
		if (!lines[i])
			strerr_dief(EXIT_PERM, names[i], " is not set: this program is for dot-qmail files");
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	(void)lseek(STDIN_FILENO, 0, SEEK_SET);
	start(&f, argv + state.ind);
	for (int i = 0; i < LINES; i++) {
		if (!omit[i])
			/* -Wanalyzer-use-of-uninitialized-value: the loop above has set them all */
			feed(&f, lines[i], strlen(lines[i]));
	}
	feed_message(&f);
	while (!f.has_ended)
		look(&f, 1);
	if (!WIFEXITED(f.status))
		strerr_dief(EXIT_TEMP, argv[state.ind], " crashed");
	return WEXITSTATUS(f.status);
}
