/* slow_lookup: questions that may take long, because they ask the name service or look into homes (a file server that is
 * down holds a process for ever). Some processes, forked at start, do that; the loop that asks them never waits.
 * Bounds   SLOW_LOOKUP_PROCESSES work at a time, SLOW_LOOKUP_MAX questions are open; each is answered after SLOW_LOOKUP_MS
 *          at the latest, "cannot know" if nothing else. A process that is stuck stays so; when all are, answers are
 *          "cannot know" at once
 * Trust    a process sees what qmail-getpw sees, a local part, and the paths of homes; it has the rights of who forked it and
 *          is not shut in, because a name service loads libraries and talks to daemons of the machine's choice */
#ifndef SLOW_LOOKUP_H
#define SLOW_LOOKUP_H
#include <stdint.h>
#include <sys/types.h>
#include "deliverable.h"

enum {
	SLOW_LOOKUP_PROCESSES = 4,
	SLOW_LOOKUP_MAX = 256,
	SLOW_LOOKUP_MS = 2000,
};

struct slow_question {
	struct slow_question *next;	/* of those that wait for a process, or are free */
	uint64_t asker;
	uint64_t deadline;		/* monotonic_ms */
	int is_over;			/* answered, or nobody wants the answer any more */
	int is_late;			/* a process has worked at it for too long */
	stralloc packet;
};

struct slow_lookups {
	int fds[SLOW_LOOKUP_PROCESSES];			/* sockets: readable means slow_lookup_take */
	struct slow_question *asked[SLOW_LOOKUP_PROCESSES];	/* what a process works at; NULL: idle */
	struct slow_question questions[SLOW_LOOKUP_MAX];
	struct slow_question *free, *first, **end;	/* those that wait, oldest first */
	/* Called with each answer, also from within slow_lookup_ask. */
	void (*answer)(void *context, uint64_t asker, const struct verdict *v);
	void *context;
};

/* Forks the processes, which end when the caller does; one that is stuck, when it no longer is: a parent that Landlock keeps
 * from sending signals has no PR_SET_PDEATHSIG. Returns 1, or 0 with errno set. */
int slow_lookup_start(struct slow_lookups *s);

/* Asks, as step says: DELIVERABLE_USER or DELIVERABLE_HOME of r. asker: the caller's name for the question. */
void slow_lookup_ask(struct slow_lookups *s, uint64_t asker, uint64_t now, enum deliverable_step step, const struct deliverable *r);

/* Takes the answer of process number i. Returns 1, or 0 if that process has ended. */
int slow_lookup_take(struct slow_lookups *s, unsigned int i);

/* Answers questions whose time is over. Returns the time of the next one, UINT64_MAX if there is none. */
uint64_t slow_lookup_expire(struct slow_lookups *s, uint64_t now);

/* Nobody waits for the answer to asker's question any more. */
void slow_lookup_forget(struct slow_lookups *s, uint64_t asker);

#endif
