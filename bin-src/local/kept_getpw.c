#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include <skalibs/selfpipe.h>
#include <skalibs/uint32.h>
#include "become.h"
#include "exitcode.h"
#include "kept_getpw.h"
#include "spawner.h"
#include "stralloc_set.h"
#include "users/account.h"

#define OWN_GETPW "libexec/qmail-getpw"

enum {
	SOCKET = 3,
	NUMBER = 4,	/* octets */
};

static const tain patience = { .sec = { 0 }, .nano = KEPT_GETPW_MS * 1000000 };

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

void
kept_getpw_kill(struct kept_getpw *k, int i)
{
	struct kept_getpw_process *p = &k->processes[i];

	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	end(p);
	p->open = 0;
}

void
kept_getpw_reaped(struct kept_getpw *k, pid_t pid)
{
	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		struct kept_getpw_process *p = &k->processes[i];

		/* the end of its socket tells whoever waits for its answer */
		if (p->pid == pid) {
			p->pid = 0;
			if (!p->open)
				end(p);
		}
	}
}

void
kept_getpw_prepare(struct kept_getpw *k, iopause_fd *x, tain *deadline)
{
	static const tain idle = { .sec = { KEPT_GETPW_SECONDS } };

	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		struct kept_getpw_process *p = &k->processes[i];
		tain until;

		x[i] = (iopause_fd){ .fd = p->open ? p->fd : -1, .events = IOPAUSE_READ };
		if (p->fd < 0 || !p->pid || p->open == 1)
			continue;
		tain_add(&until, &p->since, p->open ? &patience : &idle);
		if (!p->open && !tain_future(&until))
			end(p);
		else if (tain_future(&until) && tain_less(&until, deadline))
			*deadline = until;
	}
}

/* --- questions ------------------------------------------------------------------------------ */

/* How many questions a process may have. */
static unsigned int
ahead(const struct kept_getpw *k)
{
	return k->is_slow ? 1 : KEPT_GETPW_AHEAD;
}

static int
may_get(const struct kept_getpw *k, const struct kept_getpw_process *p)
{
	return p->pid && p->fd >= 0 && p->open < ahead(k) && p->questions < KEPT_GETPW_QUESTIONS;
}

/* The process that has least to do, if it may get a question, else a free place for one; -1: none. */
static int
find(const struct kept_getpw *k)
{
	int best = -1, free_place = -1;

	for (int i = 0; i < KEPT_GETPW_MAX; i++) {
		const struct kept_getpw_process *p = &k->processes[i];

		if (may_get(k, p) && !(p->open && kept_getpw_is_late(k, i))
		    && (best < 0 || p->open < k->processes[best].open))
			best = i;
		if (!p->pid && !p->open && free_place < 0)
			free_place = i;
	}
	return best >= 0 ? best : free_place;
}

static int
is_idle(const struct kept_getpw *k)
{
	for (int i = 0; i < KEPT_GETPW_MAX; i++)
		if (k->processes[i].open)
			return 0;
	return 1;
}

/* Whether another process may be started beside those that are busy. */
static int
may_start(const struct kept_getpw *k, tain *until)
{
	tain_add(until, &k->moved, &patience);
	return is_idle(k) || !tain_future(until);
}

/* Returns 1, or 0 with errno set. */
static int
send_question(const struct kept_getpw_process *p, uint32_t number, const char *local)
{
	char octets[NUMBER];
	struct iovec v[2] = { { .iov_base = octets, .iov_len = NUMBER },
		{ .iov_base = (char *)(uintptr_t)local, .iov_len = strlen(local) } };

	uint32_pack_big(octets, number);
	return sendmsg(p->fd, &(struct msghdr){ .msg_iov = v, .msg_iovlen = 2 }, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

int
kept_getpw_ask(struct kept_getpw *k, uint32_t number, const char *local, uid_t uid, gid_t gid, tain *until)
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
	if (!send_question(p, number, local)) {
		/* it died: the end of its socket tells, if it was asked anything, else another one is for it */
		*until = p->open ? tain_infinite : k->moved;
		if (!p->open)
			kept_getpw_kill(k, i);
		return -1;
	}
	if (is_idle(k))
		tain_copynow(&k->moved);
	if (!p->open++)
		tain_copynow(&p->since);
	p->questions++;
	return i;
}

/* Process p has answered its oldest question. */
static void
count_answer(struct kept_getpw *k, struct kept_getpw_process *p)
{
	static const tain at_once = { .sec = { 0 }, .nano = KEPT_GETPW_AT_ONCE_MS * 1000000 };
	tain until;

	tain_add(&until, &p->since, &at_once);
	k->is_slow = !tain_future(&until);
	tain_copynow(&k->moved);
	p->since = k->moved;
	if (!--p->open && p->questions >= KEPT_GETPW_QUESTIONS)
		end(p);
}

int
kept_getpw_take(struct kept_getpw *k, int i, uint32_t *number, stralloc *fields)
{
	struct kept_getpw_process *p = &k->processes[i];
	char room[NUMBER + 1 + ACCOUNT_SIZE_MAX];
	ssize_t n;

	if (!p->open)
		return -1;
	n = recv(p->fd, room, sizeof room, MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && errno == ECONNRESET)	/* it ended with questions unread: said once, before what it has answered */
		n = recv(p->fd, room, sizeof room, MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && errno == EAGAIN)
		return -1;
	if (n < NUMBER + 1 || (size_t)n > sizeof room || !stralloc_setb(fields, room + NUMBER + 1, (size_t)n - NUMBER - 1)) {
		kept_getpw_kill(k, i);
		return -2;
	}
	uint32_unpack_big(room, number);
	count_answer(k, p);
	return (unsigned char)room[NUMBER];
}

int
kept_getpw_is_late(const struct kept_getpw *k, int i)
{
	const struct kept_getpw_process *p = &k->processes[i];
	tain until;

	tain_add(&until, &p->since, &patience);
	return p->open > 1 && !tain_future(&until);
}
