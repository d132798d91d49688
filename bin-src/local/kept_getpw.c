#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include <skalibs/selfpipe.h>
#include "become.h"
#include "exitcode.h"
#include "kept_getpw.h"
#include "spawner.h"
#include "users/account.h"

#define GETPW "bin/qmail-getpw"
#define OWN_GETPW "libexec/qmail-getpw"

enum { SOCKET = 3 };

int
kept_getpw_is_ours(void)
{
	struct stat asked, own;

	return stat(GETPW, &asked) == 0 && stat(OWN_GETPW, &own) == 0 && asked.st_dev == own.st_dev && asked.st_ino == own.st_ino;
}

/* --- processes ------------------------------------------------------------------------- */

static void
run(int socket, uid_t uid, gid_t gid)
{
	const char *const argv[] = { OWN_GETPW, "-W", "3", NULL };

	setsid();
	selfpipe_finish();
	signal(SIGPIPE, SIG_DFL);
	if (dup2(socket, SOCKET) < 0)
		_exit(EXIT_TEMP);
	closefrom(SOCKET + 1);
	if (geteuid() == 0 && !become(uid, gid))
		_exit(EXIT_TEMP);
	execv(OWN_GETPW, (char *const *)(uintptr_t)argv);
	spawner_log("alert", "unable to exec " OWN_GETPW, NULL);
	_exit(EXIT_TEMP);
}

/* Starts process i. Returns 1, or 0 with errno set. */
static int
start(struct kept_getpw_process *p, uid_t uid, gid_t gid)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	pid = fork();
	if (pid == 0)
		run(pair[1], uid, gid);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return 0;
	}
	*p = (struct kept_getpw_process){ .pid = pid, .fd = pair[0] };
	return 1;
}

/* It sees the end of its socket. */
static void
end(struct kept_getpw_process *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void
set_busy(struct kept_getpw *k, struct kept_getpw_process *p, int is_busy)
{
	k->busy += (unsigned int)is_busy;
	k->busy -= (unsigned int)p->is_busy;
	p->is_busy = is_busy;
}

void
kept_getpw_kill(struct kept_getpw *k, int i)
{
	struct kept_getpw_process *p = &k->processes[i];

	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	end(p);
	set_busy(k, p, 0);
}

void
kept_getpw_reaped(struct kept_getpw *k, pid_t pid)
{
	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		struct kept_getpw_process *p = &k->processes[i];

		/* the end of its socket tells whoever waits for its answer */
		if (p->pid == pid) {
			p->pid = 0;
			if (!p->is_busy)
				end(p);
		}
	}
}

void
kept_getpw_expire(struct kept_getpw *k, tain *deadline)
{
	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		struct kept_getpw_process *p = &k->processes[i];

		if (!p->pid || p->fd < 0 || p->is_busy)
			continue;
		if (!tain_future(&p->idle_until))
			end(p);
		else if (tain_less(&p->idle_until, deadline))
			*deadline = p->idle_until;
	}
}

/* --- questions ------------------------------------------------------------------------------ */

/* An idle process, or a free place for one; -1: none. */
static int
find(const struct kept_getpw *k)
{
	int free_place = -1;

	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		const struct kept_getpw_process *p = &k->processes[i];

		if (p->pid && p->fd >= 0 && !p->is_busy)
			return i;
		if (!p->pid && !p->is_busy && free_place < 0)
			free_place = i;
	}
	return free_place;
}

/* Whether another process may be started beside those that are busy. */
static int
may_start(const struct kept_getpw *k, tain *until)
{
	static const tain patience = { .sec = { 0 }, .nano = KEPT_GETPW_MS * 1000000 };

	tain_add(until, &k->moved, &patience);
	return !k->busy || !tain_future(until);
}

int
kept_getpw_ask(struct kept_getpw *k, const char *local, uid_t uid, gid_t gid, tain *until)
{
	int i = find(k);
	struct kept_getpw_process *p = i < 0 ? NULL : &k->processes[i];

	if (!p) {
		*until = tain_infinite;
		return -1;
	}
	if (!p->pid) {
		if (!may_start(k, until))
			return -1;
		if (!start(p, uid, gid))
			return -2;
		tain_copynow(&k->moved);
	}
	if (send(p->fd, local, strlen(local), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		kept_getpw_kill(k, i);
		return -2;
	}
	if (!k->busy)
		tain_copynow(&k->moved);
	set_busy(k, p, 1);
	p->questions++;
	return i;
}

int
kept_getpw_take(struct kept_getpw *k, int i, stralloc *fields)
{
	struct kept_getpw_process *p = &k->processes[i];
	unsigned char code;
	char room[1 + ACCOUNT_SIZE_MAX];
	ssize_t n = recv(p->fd, room, sizeof room, MSG_DONTWAIT | MSG_TRUNC);

	if (n < 1 || (size_t)n > sizeof room || !stralloc_copyb(fields, room + 1, (size_t)n - 1)) {
		kept_getpw_kill(k, i);
		return -1;
	}
	code = (unsigned char)room[0];
	set_busy(k, p, 0);
	tain_copynow(&k->moved);
	tain_addsec_g(&p->idle_until, KEPT_GETPW_SECONDS);
	if (p->questions >= KEPT_GETPW_QUESTIONS)
		end(p);
	return code;
}
