#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/allreadwrite.h>
#include <skalibs/exec.h>
#include <skalibs/strerr.h>
#include "exitcode.h"
#include "feed.h"

static void become(const char *const *argv, int home, int in) __attribute__((noreturn));
static void
become(const char *const *argv, int home, int in)
{
	if (dup2(in, 0) < 0)
		strerr_diefusys(EXIT_TEMP, "move a pipe");
	signal(SIGPIPE, SIG_DFL);
	if (home < 0)
		exec(argv);
	else if (fcntl(home, F_SETFD, 0) == 0)	/* a script is opened through it */
		execveat(home, argv[0], (char *const *)(uintptr_t)argv, environ, 0);
	strerr_diefusys(EXIT_TEMP, "run ", argv[0]);
}

/* 1 if all that came was handed on, or the program wants no more; 0 if our input could not be read. */
static int
hand_on(int to, const char *text, size_t len)
{
	char s[65536];
	ssize_t n;

	if (allwrite(to, text, len) < len)
		return 1;
	while ((n = read(0, s, sizeof s)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return 0;
		if (allwrite(to, s, (size_t)n) < (size_t)n)
			return 1;
	}
	return 1;
}

int
feed_program(const char *const *argv, int home, const char *text, size_t len)
{
	int fd[2], status, whole;
	pid_t pid, r;

	if (pipe2(fd, O_CLOEXEC) < 0)
		strerr_diefusys(EXIT_TEMP, "make a pipe");
	signal(SIGCHLD, SIG_DFL);	/* whoever started us may have ignored it, and the status would be lost */
	pid = fork();
	if (pid < 0)
		strerr_diefusys(EXIT_TEMP, "fork");
	if (pid == 0)
		become(argv, home, fd[0]);
	signal(SIGPIPE, SIG_IGN);
	close(fd[0]);
	whole = hand_on(fd[1], text, len);
	if (!whole) {
		strerr_warnwusys("read the message");
		kill(pid, SIGKILL);
	}
	close(fd[1]);
	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	return !whole || r < 0 || !WIFEXITED(status) ? EXIT_TEMP : WEXITSTATUS(status);
}
