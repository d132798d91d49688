#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/exec.h>
#include <skalibs/strerr.h>
#include "condition.h"
#include "exitcode.h"

/* 1 if errno, after an exec that failed, says something that will not change by itself. */
static int
is_lasting(void)
{
	return errno == ENOENT || errno == EACCES || errno == ENOTDIR || errno == ENOEXEC || errno == EISDIR ||
	    errno == ENAMETOOLONG || errno == ELOOP || errno == EPERM || errno == EINVAL || errno == E2BIG;
}

static _Noreturn void
become(const char *const *argv)
{
	exec(argv);
	strerr_warnwusys("run ", argv[0]);
	_exit(is_lasting() ? EXIT_PERM : EXIT_TEMP);
}

enum condition
condition_ask(const char *const *argv)
{
	int status;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	/* a terminal or a pipe is not rewound; the program gets it as it is */
	(void)lseek(STDIN_FILENO, 0, SEEK_SET);
	pid = fork();
	if (pid < 0)
		return CONDITION_UNKNOWN;
	if (pid == 0)
		become(argv);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return CONDITION_UNKNOWN;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) == EXIT_TEMP)
		return CONDITION_UNKNOWN;
	return WEXITSTATUS(status) == 0 ? CONDITION_TRUE : CONDITION_FALSE;
}
