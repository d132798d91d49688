/* service_loop: how a service of one process waits: for signals, for those who call, and for what callers that are there say.
 * A turn   the service sets the first of polled for what it has open; service_loop_wait; it looks at their revents;
 *          service_loop_accept takes one who calls
 * Signals  come while it waits, and at no other time
 * Callers  wait at the socket while no more are taken, or while there is no descriptor for one, SERVICE_LOOP_PAUSE_MS at a time */
#ifndef SERVICE_LOOP_H
#define SERVICE_LOOP_H
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include "service_users.h"

enum { SERVICE_LOOP_PAUSE_MS = 100 };

struct service_loop {
	int listener;		/* these three are the service's to set; polled has room for one more than it ever sets */
	struct pollfd *polled;
	sigset_t outside;	/* what is blocked while it waits: as held_signals_take leaves it */
	uint64_t paused_until;
	int has_caller;
};

/* Waits until monotonic_ms() is until, or something has come for the first len of l->polled, a caller, if takes_callers, or a signal.
 * Returns 1 with revents set, or 0 with errno set. */
int service_loop_wait(struct service_loop *l, unsigned int len, int takes_callers, uint64_t until);

/* The connection of a caller, which does not block, if one came while it was waited. -1: none; one that is not of users is closed. */
int service_loop_accept(struct service_loop *l, const struct service_users *users);

#endif
