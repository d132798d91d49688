/* qmail-lspawn: become the recipient, start qmail-local.
 * Trust: runs as root, so it has little to do. It never sees a message and never opens the queue. It reads requests of
 * qmail-send on descriptor 3, whose local parts are anybody's octets, users/accounts.cdb and users/cdb, and what
 * qmail-getpw prints (run as qmailp). It never becomes uid 0. A worker belongs to its user: it gets one socket and
 * /dev/null, and nothing is read from it. Started by another user than root, it starts workers for that user only. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <skalibs/iopause.h>
#include <skalibs/selfpipe.h>
#include <skalibs/strerr.h>
#include <skalibs/tai.h>
#include "become.h"
#include "exitcode.h"
#include "home.h"
#include "lookup.h"
#include "replaced.h"
#include "spawner.h"
#include "users/virtual.h"

#define USAGE "qmail-lspawn defaultdelivery (descriptor 3 is a socket to qmail-send)"
#define WORKER "libexec/qmail-local"	/* what speaks lib/job.h */
#define QUOTA "MAILDIRQUOTA"		/* to qmail-local, in the words of Maildir++ */

struct lspawn {
	struct spawner spawner;
	struct lookups lookups;
	const char *default_delivery;
};

/* Why nobody may be started as this user, NULL if he may. */
static const char *
find_objection(const struct account *account)
{
	if (account->uid == 0) {
		spawner_log("alert", "refused to deliver as uid 0, user", account->user);
		return "Mail is never delivered as root. (#4.3.5)\n";
	}
	if (geteuid() != 0 && account->uid != geteuid()) {
		spawner_log("alert", "not started by root, so unable to deliver as user", account->user);
		return "This server cannot deliver for other users. (#4.3.5)\n";
	}
	return NULL;
}

/* In the new process, which says what goes wrong on the log; the program it becomes has no way there. */
static void
run_worker(const struct account *account, const char *default_delivery)
{
	const char *argv[8] = { WORKER, "-W" };
	int log = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, JOB_WORKER_FD + 1);
	int n = 2;

	if (is_replaced(-1, "qmail-local"))
		argv[n++] = "-C";
	argv[n++] = "--";
	argv[n++] = account->user;
	argv[n++] = account->home;
	argv[n++] = account->is_virtual ? VIRTUAL_DELIVERY : default_delivery;
	if (*account->quota ? setenv(QUOTA, account->quota, 1) < 0 : unsetenv(QUOTA) < 0)
		spawner_log("alert", "out of memory for user", account->user);
	else if (!become(account->uid, account->gid))
		spawner_log("alert", "unable to become user", account->user);
	else if (log >= 0 && dup2(STDIN_FILENO, STDOUT_FILENO) >= 0 && dup2(STDIN_FILENO, STDERR_FILENO) >= 0) {
		execv(WORKER, (char *const *)(uintptr_t)argv);
		dup2(log, STDERR_FILENO);
		spawner_log("alert", "unable to exec " WORKER, strerror(errno));
	}
	_exit(EXIT_TEMP);
}

static void
answer(struct lspawn *p, const struct lookup *q)
{
	const char *trouble = q->trouble ? q->trouble : find_objection(&q->account);
	const stralloc *fields = &q->account.fields;

	if (trouble)
		spawner_defer(&p->spawner, q->id, trouble);
	else if (q->type == SPAWN_WHO)
		spawner_answer(&p->spawner, SPAWN_OK, q->id, fields->s, fields->len);
	else if (spawner_start(&p->spawner, q->id, fields->s, fields->len) == 0)
		run_worker(&q->account, p->default_delivery);
}

static void
answer_all(struct lspawn *p)
{
	struct lookup *q;

	while (!spawner_is_behind(&p->spawner) && (q = lookups_answered(&p->lookups))) {
		answer(p, q);
		lookups_took(&p->lookups, q);
	}
}

/* Mail to an empty local part is done without delivery: the answer is an account of empty fields, and no worker. */
static void
answer_empty(struct lspawn *p, const struct spawner_request *r)
{
	static const char fields[ACCOUNT_FIELDS];

	if (r->type == SPAWN_WHO)
		spawner_answer(&p->spawner, SPAWN_OK, r->id, fields, sizeof fields);
	else
		spawner_defer(&p->spawner, r->id, "Nobody delivers to an empty address. (#4.3.0)\n");
}

static int
can_take(const struct lspawn *p)
{
	return p->lookups.len < LOOKUPS_MAX && !spawner_is_behind(&p->spawner);
}

static void
take_requests(struct lspawn *p)
{
	struct spawner_request r;
	int n;

	while (can_take(p) && (n = spawner_next(&p->spawner, &r)) != 0) {
		if (n < 0) {
			spawner_log("alert", "qmail-send made no sense", NULL);
			_exit(EXIT_TEMP);
		}
		if (r.type == SPAWN_KILL)
			spawner_kill(&p->spawner, r.id);
		else if (r.len == 0)
			answer_empty(p, &r);
		else if (!lookups_ask(&p->lookups, r.type, r.id, r.name, r.len))
			spawner_defer(&p->spawner, r.id, "Out of memory. (#4.3.0)\n");
		answer_all(p);
	}
}

static void
reap(struct lspawn *p)
{
	pid_t pid;
	int wstat;

	while (selfpipe_read() > 0)
		;
	while (spawner_reap(&p->spawner, &pid, &wstat))
		lookups_reaped(&p->lookups, pid, wstat);
}

/* Answers and takes requests, until nothing more can be done now. Returns 0 when qmail-send is gone. */
static int
work(struct lspawn *p)
{
	int was_behind;

	do {
		answer_all(p);
		take_requests(p);
		was_behind = spawner_is_behind(&p->spawner);
		if (channel_flush(&p->spawner.channel) < 0)
			return 0;
	} while (was_behind && !spawner_is_behind(&p->spawner));
	return 1;
}

/* One turn of the loop. Returns 0 when qmail-send is gone. */
static int
turn(struct lspawn *p)
{
	iopause_fd x[2 + LOOKUPS_FDS];
	tain deadline;
	short events = can_take(p) ? IOPAUSE_READ : 0;
	unsigned int n;

	if (channel_unsent(&p->spawner.channel))
		events |= IOPAUSE_WRITE;
	x[0] = (iopause_fd){ .fd = p->spawner.signals, .events = IOPAUSE_READ };
	x[1] = (iopause_fd){ .fd = p->spawner.channel.fd, .events = events };
	tain_add_g(&deadline, &tain_infinite_relative);
	n = 2 + lookups_prepare(&p->lookups, x + 2, &deadline);
	if (iopause_g(x, n, &deadline) < 0)
		strerr_diefusys(EXIT_TEMP, "wait for requests");
	lookups_act(&p->lookups, x + 2);
	if (x[0].revents)
		reap(p);
	if (events & IOPAUSE_READ ? x[1].revents && channel_receive(&p->spawner.channel) < 0
	    : x[1].revents & IOPAUSE_EXCEPT)
		return 0;
	return work(p);
}

int
main(int argc, const char *const *argv)
{
	static struct lspawn p;

	PROG = "qmail-lspawn";
	if (argc != 2)
		strerr_dieusage(EXIT_PERM, USAGE);
	p.default_delivery = argv[1];
	if (!home_enter())
		strerr_diefusys(EXIT_TEMP, "enter the qmail home");
	if (geteuid() == 0 && become_find_user("qmailp", &p.lookups.uid, &p.lookups.gid) != 1)
		strerr_dief(EXIT_TEMP, "there is no user qmailp");
	if (!spawner_init(&p.spawner))
		strerr_diefusys(EXIT_TEMP, "take requests on descriptor 3");
	tain_now_set_stopwatch_g();
	while (turn(&p))
		;
	lookups_kill(&p.lookups);
	return EXIT_OK;
}
