/* lookup: asks whose a local part is: the tables (users/tables.h) at once, else qmail-getpw (kept_getpw.h; one that the
 * administrator put in its place is a process for each question), that nobody waits for.
 * Trust    the local part is anybody's; what qmail-getpw prints is bounded and checked; it runs as qmailp
 * Bounds   LOOKUPS_MAX questions are open at a time, LOOKUPS_RUNNING processes of each kind; a question is answered after
 *          LOOKUP_SECONDS at the latest, also if its process cannot even be killed (a dead file server) */
#ifndef LOOKUP_H
#define LOOKUP_H
#include <stdint.h>
#include <sys/types.h>
#include <skalibs/iopause.h>
#include <skalibs/stralloc.h>
#include <skalibs/tai.h>
#include "kept_getpw.h"
#include "users/account.h"

enum {
	LOOKUPS_MAX = 512,
	LOOKUPS_RUNNING = 32,
	LOOKUP_SECONDS = 60,
	LOOKUPS_FDS = KEPT_GETPW_MAX + LOOKUPS_RUNNING,
};

enum lookup_state {
	LOOKUP_WAITS,	/* for a process */
	LOOKUP_RUNS,
	LOOKUP_OVER,	/* the answer is known */
	LOOKUP_DYING,	/* answered, but its process is still there */
};

struct lookup {
	enum lookup_state state;
	uint32_t id;
	char type;		/* of the request: SPAWN_WHO or SPAWN_START */
	char *local;		/* NUL-terminated */
	tain deadline;
	int kept;		/* the process of kept_getpw that was asked; -1 none */
	uint32_t number;	/* what it calls the question */
	pid_t pid;		/* one of its own; -1: it has ended, or there was none */
	int fd;			/* what it prints; -1: all of it was read, or there was none */
	struct account account;	/* account.user is set: the answer */
	stralloc printed;
	const char *trouble;	/* else this is: a text for the deferral */
};

struct lookups {
	struct lookup list[LOOKUPS_MAX];	/* oldest first */
	unsigned int len;
	unsigned int running;	/* processes for one question each */
	struct kept_getpw kept;
	uint32_t number;	/* the last question of a kept one */
	tain again;		/* when those that wait for a process may get another one */
	uid_t uid;		/* who runs qmail-getpw; not used unless we are root */
	gid_t gid;
};

/* Takes a question. Its answer may be there at once. Call only while l->len < LOOKUPS_MAX. Returns 0 if memory is short. */
int lookups_ask(struct lookups *l, char type, uint32_t id, const char *local, size_t len);

/* Asks what can be asked, fills x with what to wait for, at most LOOKUPS_FDS entries, and moves *deadline to when
 * lookups_act has to be called in any case. Returns the number of entries. */
unsigned int lookups_prepare(struct lookups *l, iopause_fd *x, tain *deadline);

/* Acts upon what became readable (x as prepared; the list was not touched since) and on time that has run out. */
void lookups_act(struct lookups *l, const iopause_fd *x);

/* Child pid ended. Ignores those that are not ours. */
void lookups_reaped(struct lookups *l, pid_t pid, int wstat);

/* A question whose answer is known and was not taken, NULL if there is none. Then call lookups_took. */
struct lookup *lookups_answered(struct lookups *l);
void lookups_took(struct lookups *l, struct lookup *q);

/* Kills all that run. */
void lookups_kill(struct lookups *l);

#endif
