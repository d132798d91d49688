#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "job.h"
#include "unit_worker.h"

static struct channel channel = { .fd = -1 };
static pid_t pid;

void
worker_start(void (*run)(void))
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fd[0]);
		dup2(fd[1], JOB_WORKER_FD);
		if (fd[1] != JOB_WORKER_FD)
			close(fd[1]);
		if (freopen("/dev/null", "w", stderr))
			run();
		_exit(-1);
	}
	close(fd[1]);
	channel_init(&channel, fd[0], JOB_FRAME_MAX);
}

void
worker_job(uint32_t id, const char *strings, const char *message, int fd, uint64_t size)
{
	size_t len = strlen(strings);
	char *s = test_malloc(len);
	uint32_t n = 0;

	for (size_t i = 0; i < len; i++) {
		n += strings[i] == '|';
		s[i] = strings[i];
		if (s[i] == '|')
			s[i] = '\0';
	}
	assert_int_equal(job_put(&channel, id, s, n, len, message ? strlen(message) : size, message, fd), 1);
	assert_int_equal(channel_flush(&channel), 1);
	test_free(s);
}

void
worker_octets(const char *s, size_t len)
{
	assert_int_equal(send(channel.fd, s, len, MSG_NOSIGNAL), len);
}

void
worker_expect(const char *want)
{
	char got[JOB_TEXT_MAX + 64] = "end";
	struct channel_frame f;
	int r;

	while ((r = channel_next(&channel, &f)) == 0)
		if (channel_receive(&channel) < 0)
			break;
	if (r == 1) {
		assert_true(f.type == JOB_DONE && f.len >= 9);
		snprintf(got, sizeof got, "%d %d %c %.*s", f.s[3], f.s[7], f.s[8], (int)f.len - 9, f.s + 9);
	}
	if (strncmp(got, want, strlen(want)) != 0)
		fail_msg("%s, not %s", got, want);
}

void
worker_hang_up(void)
{
	channel_free(&channel);
}

pid_t
worker_pid(void)
{
	return pid;
}

int
worker_exit(void)
{
	int wstat;

	assert_int_equal(waitpid(pid, &wstat, 0), pid);
	pid = 0;
	return WIFEXITED(wstat) ? WEXITSTATUS(wstat) : -1;
}

int
worker_end(void **state)
{
	(void)state;
	worker_hang_up();
	if (pid > 0)
		worker_exit();
	return 0;
}
