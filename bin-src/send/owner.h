/* owner: whose a local part is, as qmail-lspawn said; and who waits for its answer. Pure bookkeeping.
 * Identity "user:uid:gid:home", all that a worker is bound to. Lines of users/assign may have the same user and differ in any of
 *          the others
 * Fresh    an answer counts for JOB_WORKER_SECONDS, and until a table of users or the password file changes; one that nobody's is
 *          the whole local part, and so alias has it, for OWNER_NOBODY_SECONDS: the user's home may be made a moment later, and no
 *          table tells
 * Bound    OWNERS_MAX answers are kept, the longest unused one goes first */
#ifndef OWNER_H
#define OWNER_H
#include <stddef.h>
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "message.h"

enum {
	OWNERS_MAX = 10000,
	OWNER_NOBODY_SECONDS = 5,
};

struct owner {
	struct owner *hash_next;
	struct owner *newer, *older;	/* by last use; only those that were answered */
	struct recipient_list waiting;	/* while asked */
	int64_t until;			/* monotonic ms: fresh until then */
	uint32_t generation;		/* of the tables, when it was asked */
	uint8_t is_asked;		/* no answer yet */
	uint8_t is_urgent;		/* those who wait come first in their queue afterwards */
	char *facts;			/* identity NUL dash NUL ext NUL; NULL: not answered yet */
	const char *identity, *dash, *ext;	/* in facts */
	char local[];			/* NUL-terminated */
};

struct owners {
	struct owner **slots;
	uint32_t mask, count;
	struct owner *newest, *oldest;
	uint32_t generation;		/* counts changes of the tables */
};

int owners_init(struct owners *all);	/* 1, or 0 (ENOMEM) */

/* The owner of a local part if the answer is fresh, which counts as a use of it; else NULL. */
struct owner *owner_known(struct owners *all, const char *local, size_t len, int64_t now);

/* The entry of a local part, made if there is none. NULL: ENOMEM. */
struct owner *owner_get(struct owners *all, const char *local, size_t len);

/* o is being asked about: what it answered before does not count any more. */
void owner_ask(const struct owners *all, struct owner *o);

/* Enters the answer: size octets of user, uid, gid, home, dash, ext, each ended by NUL.
 * Returns 1; 0 if it is malformed; -1 (ENOMEM). */
int owner_answer(struct owners *all, struct owner *o, const char *s, size_t size, int64_t now);

/* Forgets o. */
void owner_free(struct owners *all, struct owner *o);

/* Forgets the longest unused ones above OWNERS_MAX. Pointers to owners that were answered are invalid afterwards. */
void owners_trim(struct owners *all);

/* Appends to *to the identity, with its NUL, that an answer (as for owner_answer) begins with. Returns 1; 0 if it is malformed; -1
 * (ENOMEM). */
int owner_identity(stralloc *to, const char *s, size_t size);

#endif
