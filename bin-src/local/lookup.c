#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <skalibs/djbunix.h>
#include <skalibs/selfpipe.h>
#include "become.h"
#include "exitcode.h"
#include "lookup.h"
#include "replaced.h"
#include "spawner.h"
#include "users/passwd.h"
#include "users/tables.h"

#define GETPW "bin/qmail-getpw"
#define EXEC_FAILED 120	/* interfaces section 7 */

static void
settle(struct lookup *q, const char *trouble)
{
	q->trouble = trouble;
	q->state = LOOKUP_OVER;
}

static const char *
why_it_failed(int code)
{
	switch (code) {
	case GETPW_HOME:
		return "Unable to look at a home directory. (#4.3.0)\n";
	case GETPW_NO_ALIAS:
		return "This system has no user alias. (#4.3.5)\n";
	case EXEC_FAILED:
		return "Unable to run qmail-getpw. (#4.3.0)\n";
	default:
		return "Unable to ask the user database. (#4.3.0)\n";
	}
}

/* All that was printed is there. code: 0 success, -1 a crash, or how it exited. */
static void
finish(struct lookup *q, int code)
{
	if (code)
		settle(q, why_it_failed(code));
	else if (!account_parse(&q->account, q->printed.s, q->printed.len)) {
		q->account.user = NULL;
		settle(q, "The answer of qmail-getpw makes no sense. (#4.3.0)\n");
	} else
		settle(q, NULL);
}

static void
run_getpw(const struct lookups *l, const char *local, int out)
{
	const char *const argv[] = { GETPW, local, NULL };

	setsid();
	selfpipe_finish();
	signal(SIGPIPE, SIG_DFL);
	if (dup2(out, STDOUT_FILENO) < 0)
		_exit(EXEC_FAILED);
	closefrom(STDERR_FILENO + 1);
	if (geteuid() == 0 && !become(l->uid, l->gid))
		_exit(EXEC_FAILED);
	execv(GETPW, (char *const *)(uintptr_t)argv);
	spawner_log("alert", "unable to exec " GETPW, NULL);
	_exit(EXEC_FAILED);
}

static void
start(struct lookups *l, struct lookup *q)
{
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		settle(q, "Unable to make a pipe. (#4.3.0)\n");
		return;
	}
	q->pid = fork();
	if (q->pid == 0) {
		ndelay_off(pipe_fds[1]);
		run_getpw(l, q->local, pipe_fds[1]);
	}
	close(pipe_fds[1]);
	if (q->pid < 0) {
		close(pipe_fds[0]);
		settle(q, "Unable to fork. (#4.3.0)\n");
		return;
	}
	q->fd = pipe_fds[0];
	q->state = LOOKUP_RUNS;
	l->running++;
}

/* Asks a kept process. Returns 0 if there is none for it now. */
static int
ask_kept(struct lookups *l, struct lookup *q)
{
	int i = kept_getpw_ask(&l->kept, ++l->number, q->local, l->uid, l->gid, &l->again);

	if (i == -1)
		return 0;
	if (i < 0) {
		settle(q, "Unable to run qmail-getpw. (#4.3.0)\n");
		return 1;
	}
	q->kept = i;
	q->number = l->number;
	q->state = LOOKUP_RUNS;
	return 1;
}

static void
start_some(struct lookups *l)
{
	int is_ours = -1;

	l->again = tain_infinite;
	for (unsigned int i = 0; i < l->len; i++) {
		struct lookup *q = &l->list[i];

		if (q->state != LOOKUP_WAITS)
			continue;
		if (is_ours < 0)
			is_ours = is_replaced(-1, "qmail-getpw") == 0;
		if (is_ours ? !ask_kept(l, q) : l->running == LOOKUPS_RUNNING)
			break;
		if (!is_ours)
			start(l, q);
	}
}

static void
ask_table(struct lookup *q)
{
	const char *table;
	char what[64];

	switch (tables_find(&q->account, q->local, strlen(q->local), &table)) {
	case 1:
		settle(q, NULL);
		break;
	case 0:
		break;		/* qmail-getpw knows */
	default:
		q->account.user = NULL;
		settle(q, "Unable to read a table of users. (#4.3.0)\n");
		snprintf(what, sizeof what, "unable to read %s", table);
		spawner_log("alert", what, strerror(errno));
	}
}

int
lookups_ask(struct lookups *l, char type, uint32_t id, const char *local, size_t len)
{
	struct lookup *q = &l->list[l->len];

	*q = (struct lookup){ .state = LOOKUP_WAITS, .type = type, .id = id, .kept = -1, .pid = -1, .fd = -1 };
	if (len > ACCOUNT_LOCAL_MAX || memchr(local, '\0', len)) {
		len = 0;
		settle(q, "This address is too long. (#4.1.3)\n");
	}
	q->local = strndup(local, len);
	if (!q->local)
		return 0;
	tain_addsec_g(&q->deadline, LOOKUP_SECONDS);
	l->len++;
	if (q->state == LOOKUP_WAITS)
		ask_table(q);
	return 1;
}

/* Whether what a process of its own prints is still read. */
static int
is_read(const struct lookup *q)
{
	return q->state == LOOKUP_RUNS && q->fd >= 0;
}

unsigned int
lookups_prepare(struct lookups *l, iopause_fd *x, tain *deadline)
{
	unsigned int n = KEPT_GETPW_MAX;

	start_some(l);
	kept_getpw_prepare(&l->kept, x, deadline);
	if (tain_less(&l->again, deadline))
		*deadline = l->again;
	for (unsigned int i = 0; i < l->len; i++) {
		const struct lookup *q = &l->list[i];

		if (is_read(q))
			x[n++] = (iopause_fd){ .fd = q->fd, .events = IOPAUSE_READ };
		if (q->state != LOOKUP_DYING && tain_less(&q->deadline, deadline))
			*deadline = q->deadline;
	}
	return n;
}

static void
close_output(struct lookup *q)
{
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
}

/* The oldest question of a kept process, NULL if it has none. */
static struct lookup *
oldest(struct lookups *l, int kept)
{
	struct lookup *best = NULL;

	for (unsigned int i = 0; i < l->len; i++)
		if (l->list[i].kept == kept && (!best || (int32_t)(l->list[i].number - best->number) < 0))
			best = &l->list[i];
	return best;
}

/* What a kept process was asked is to be asked of another, but not its oldest question. */
static void
give_back(struct lookups *l, int kept)
{
	const struct lookup *first = oldest(l, kept);

	for (unsigned int i = 0; i < l->len; i++) {
		struct lookup *q = &l->list[i];

		if (q->kept == kept && q != first) {
			q->kept = -1;
			q->state = LOOKUP_WAITS;
		}
	}
}

/* Question q ends without an answer, and with it the process that works on it. */
static void
kill_process(struct lookups *l, struct lookup *q)
{
	if (q->kept >= 0)
		give_back(l, q->kept);
	if (q->kept >= 0) {
		kept_getpw_kill(&l->kept, q->kept);
		q->kept = -1;
	}
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		kill(-q->pid, SIGKILL);
	}
}

/* A kept process has ended, for all we know because of its oldest question. */
static void
fail_oldest(struct lookups *l, int kept)
{
	struct lookup *q;

	give_back(l, kept);
	q = oldest(l, kept);
	if (q) {
		q->kept = -1;
		finish(q, -1);
	}
}

/* Takes what kept process i answered. A number that is not known is that of a question that was given back. */
static void
take_answers(struct lookups *l, int kept)
{
	stralloc fields = STRALLOC_ZERO;
	uint32_t number;
	int code;

	while ((code = kept_getpw_take(&l->kept, kept, &number, &fields)) >= 0) {
		unsigned int i = 0;

		while (i < l->len && (l->list[i].kept != kept || l->list[i].number != number))
			i++;
		if (i < l->len) {
			struct lookup *q = &l->list[i];

			q->kept = -1;
			stralloc_free(&q->printed);
			q->printed = fields;
			fields = (stralloc)STRALLOC_ZERO;
			finish(q, code);
		}
	}
	if (code == -2)
		fail_oldest(l, kept);
	stralloc_free(&fields);
}

/* Reads what is there. */
static void
read_output(struct lookups *l, struct lookup *q)
{
	char octets[4096];
	ssize_t r;

	while (q->fd >= 0 && (r = read(q->fd, octets, sizeof octets)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN)
			return;
		if (r < 0 || q->printed.len + (size_t)r > ACCOUNT_SIZE_MAX
		    || !stralloc_catb(&q->printed, octets, (size_t)r)) {
			kill_process(l, q);
			settle(q, "The answer of qmail-getpw is too long. (#4.3.0)\n");
			break;
		}
	}
	close_output(q);
}

void
lookups_act(struct lookups *l, const iopause_fd *x)
{
	for (int i = 0; i < KEPT_GETPW_MAX; i++, x++) {
		if (x->fd >= 0 && x->revents)
			take_answers(l, i);
		if (kept_getpw_is_late(&l->kept, i))
			give_back(l, i);
	}
	for (unsigned int i = 0; i < l->len; i++) {
		struct lookup *q = &l->list[i];

		if (is_read(q) && (x++)->revents)
			read_output(l, q);
		if ((q->state == LOOKUP_RUNS || q->state == LOOKUP_WAITS) && !tain_future(&q->deadline)) {
			kill_process(l, q);
			settle(q, "The user database does not answer. (#4.4.3)\n");
			spawner_log("warning", GETPW " takes too long", NULL);
		}
	}
}

static void
drop(struct lookups *l, struct lookup *q)
{
	close_output(q);
	free(q->local);
	stralloc_free(&q->printed);
	account_free(&q->account);
	l->len--;
	memmove(q, q + 1, (size_t)(&l->list[l->len] - q) * sizeof *q);
}

void
lookups_reaped(struct lookups *l, pid_t pid, int wstat)
{
	kept_getpw_reaped(&l->kept, pid);
	for (unsigned int i = 0; i < l->len; i++) {
		struct lookup *q = &l->list[i];

		if (q->pid != pid)
			continue;
		q->pid = -1;
		l->running--;
		if (q->state == LOOKUP_DYING)
			drop(l, q);
		else if (q->state == LOOKUP_RUNS) {
			read_output(l, q);
			if (q->state == LOOKUP_RUNS)
				finish(q, WIFEXITED(wstat) ? WEXITSTATUS(wstat) : -1);
		}
		break;
	}
}

struct lookup *
lookups_answered(struct lookups *l)
{
	for (unsigned int i = 0; i < l->len; i++)
		if (l->list[i].state == LOOKUP_OVER)
			return &l->list[i];
	return NULL;
}

void
lookups_took(struct lookups *l, struct lookup *q)
{
	if (q->pid < 0) {
		drop(l, q);
		return;
	}
	/* its process holds a place of those that may run, until it is gone */
	close_output(q);
	q->state = LOOKUP_DYING;
}

void
lookups_kill(struct lookups *l)
{
	for (unsigned int i = 0; i < l->len; i++)
		kill_process(l, &l->list[i]);
}
