#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/uint32.h>
#include "exitcode.h"
#include "spawner.h"

enum { ID = 4 };	/* octets */

/* No socket of ours may ever be 0, 1 or 2. */
static int
fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return 0;
	return 1;
}

int
spawner_init(struct spawner *s)
{
	s->workers_len = 0;
	closefrom(JOB_WORKER_FD + 1);
	if (!fill_standard_descriptors() || ndelay_on(JOB_WORKER_FD) < 0 || coe(JOB_WORKER_FD) < 0)
		return 0;
	channel_init(&s->channel, JOB_WORKER_FD, ID + SPAWNER_NAME_MAX);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);	/* whoever started us may have ignored it, and ended children would not be told */
	s->signals = selfpipe_init();
	return s->signals >= 0 && selfpipe_trap(SIGCHLD);
}

int
spawner_is_behind(const struct spawner *s)
{
	return channel_unsent(&s->channel) > SPAWNER_UNSENT_MAX || s->channel.out_fds_len == CHANNEL_FDS_MAX;
}

int
spawner_next(struct spawner *s, struct spawner_request *r)
{
	struct channel_frame f;
	int fd;
	int n = channel_next(&s->channel, &f);

	if (n <= 0)
		return n;
	while ((fd = channel_take_fd(&s->channel)) >= 0)
		close(fd);	/* no request has one */
	if (f.len < ID || (f.type != SPAWN_WHO && f.type != SPAWN_START && f.type != SPAWN_KILL))
		return -1;
	*r = (struct spawner_request){ .type = f.type, .name = f.s + ID, .len = f.len - ID };
	uint32_unpack_big(f.s, &r->id);
	return 1;
}

/* Queues an answer with descriptor fd, or without (-1). */
static int
put_answer(struct spawner *s, char type, uint32_t id, const char *payload, size_t len, int fd)
{
	char frame[ID + SPAWNER_ANSWER_MAX];

	if (len > SPAWNER_ANSWER_MAX) {
		errno = EMSGSIZE;
		return 0;
	}
	uint32_pack_big(frame, id);
	memcpy(frame + ID, payload, len);
	return fd < 0 ? channel_put1(&s->channel, type, frame, ID + len)
	    : channel_put_fd(&s->channel, type, frame, ID + len, fd);
}

int
spawner_answer(struct spawner *s, char type, uint32_t id, const char *payload, size_t len)
{
	return put_answer(s, type, id, payload, len, -1);
}

int
spawner_defer(struct spawner *s, uint32_t id, const char *text)
{
	return spawner_answer(s, SPAWN_TEMP, id, text, strlen(text));
}

/* In the new process: only the socket is left, on its place. */
static void
arrange_child(int socket)
{
	int null;

	setsid();
	selfpipe_finish();
	signal(SIGPIPE, SIG_DFL);
	if (dup2(socket, JOB_WORKER_FD) < 0)
		_exit(EXIT_TEMP);
	closefrom(JOB_WORKER_FD + 1);
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		_exit(EXIT_TEMP);
	close(null);
}

/* A worker whose id is used anew may still be ending: SPAWN_KILL no longer means that one. */
static void
add_worker(struct spawner *s, uint32_t id, pid_t pid)
{
	for (unsigned int i = 0; i < s->workers_len; i++)
		if (s->workers[i].id == id)
			s->workers[i].is_named = 0;
	s->workers[s->workers_len++] = (struct spawner_worker){ .id = id, .is_named = 1, .pid = pid };
}

/* Kills a process that has not been waited for, and its group, if it leads one already. */
static void
kill_group(pid_t pid)
{
	kill(pid, SIGKILL);
	kill(-pid, SIGKILL);
}

pid_t
spawner_start(struct spawner *s, uint32_t id, const char *fields, size_t len)
{
	int pair[2];
	pid_t pid;

	if (s->workers_len == SPAWNER_WORKERS_MAX) {
		spawner_defer(s, id, "Too many deliveries at a time. (#4.3.2)\n");
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		spawner_defer(s, id, "Unable to make a socket for a delivery. (#4.3.0)\n");
		return -1;
	}
	pid = fork();
	if (pid == 0) {
		arrange_child(pair[1]);
		return 0;
	}
	close(pair[1]);
	if (pid > 0) {
		add_worker(s, id, pid);
		if (put_answer(s, SPAWN_OK, id, fields, len, pair[0]))
			return pid;
		kill_group(pid);
	}
	close(pair[0]);
	spawner_defer(s, id, "Unable to start a delivery. (#4.3.0)\n");
	return -1;
}

void
spawner_kill(struct spawner *s, uint32_t id)
{
	for (unsigned int i = 0; i < s->workers_len; i++)
		if (s->workers[i].id == id && s->workers[i].is_named)
			kill_group(s->workers[i].pid);
}

int
spawner_reap(struct spawner *s, pid_t *pid, int *wstat)
{
	siginfo_t info;

	while (info.si_pid = 0, waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
		unsigned int i = 0;

		while (i < s->workers_len && s->workers[i].pid != info.si_pid)
			i++;
		/* while it is not waited for, its number names no other group */
		if (i == s->workers_len || info.si_code != CLD_EXITED)
			kill(-info.si_pid, SIGKILL);
		*pid = waitpid(info.si_pid, wstat, WNOHANG);
		if (i == s->workers_len)
			return 1;
		s->workers[i] = s->workers[--s->workers_len];
	}
	return 0;
}

void
spawner_log(const char *kind, const char *what, const char *name)
{
	struct pollfd log = { .fd = STDERR_FILENO, .events = POLLOUT };
	char line[1024];
	size_t len;

	len = (size_t)snprintf(line, sizeof line - 1, "%s: %s: %s%s", kind, PROG, what, name ? ": " : "");
	if (len >= sizeof line - 1)
		len = sizeof line - 2;
	for (; name && *name && len < sizeof line - 1; name++)
		line[len++] = *name > 32 && *name < 127 && *name != '%' ? *name : '_';
	line[len++] = '\n';
	/* a pipe that is writable takes PIPE_BUF octets at once */
	if (poll(&log, 1, 0) == 1 && (log.revents & POLLOUT) && write(STDERR_FILENO, line, len) < 0)
		return;
}
