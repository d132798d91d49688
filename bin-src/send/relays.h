/* relays: which remote mail goes to the same server, because control/smtproutes sends it to one relay. It is then of one
 * destination: one transaction for up to JOB_RECIPIENTS_MAX recipients of a message there, sessions that serve all of it, one
 * back-off. Without an entry that names a relay a domain is a destination of its own.
 * A guess only: qmail-remote looks for itself, and parts what does not belong together (any more). So a file that cannot be
 * read, which may hold passwords that are not for qmail-send, is as good as none
 * Fresh     the file is looked at once a second at most, when it is asked for, and read anew when it has changed */
#ifndef RELAYS_H
#define RELAYS_H
#include <stdint.h>
#include <skalibs/stralloc.h>
#include "bin-src/remote/smtproute.h"
#include "stamp.h"

struct relays {
	struct smtproutes routes;
	struct stamp file;
	int64_t look_at;	/* monotonic ms */
};

/* Looks at the file if it is time. now: monotonic ms. {0} was never looked at. */
void relays_look(struct relays *r, int64_t now);

/* Sets *name, NUL-terminated, to that of the destination of mail for a domain (NUL-terminated): the domain in lower case, or
 * "RELAY host:port". Returns 1 (it is a relay's), 0, or -1 (ENOMEM). */
int relays_destination(const struct relays *r, const char *domain, stralloc *name);

#endif
