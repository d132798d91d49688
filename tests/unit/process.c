#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "process.h"

int
process_wait(int pid)
{
	int status;
	pid_t r;

	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	assert_int_equal(r, pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int
process_run(void (*it)(void *data), void *data)
{
	int errors = open("errors", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), code;
	pid_t pid;

	assert_true(errors >= 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(errors, 2);
		it(data);
		raise(SIGUSR1);	/* no exit code that it may have stands for this */
	}
	close(errors);
	code = process_wait(pid);
	return code == -SIGUSR1 ? PROCESS_WENT_ON : code;
}

unsigned int
process_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 3;	/* "." and "..", and its own */
}
