/* fresh_routes: the routes of qmail-send, read anew when a control file has changed.
 * qmail-send reads them anew when it is told to. Whoever keeps old ones here would refuse mail for a domain that has moved
 * away, so nobody has to tell: at most once a second the files are looked at. Until they have been left alone for
 * STAMP_SETTLE seconds, and while they cannot be read, the old ones stay and are in doubt: nobody may be called
 * unknown then */
#ifndef FRESH_ROUTES_H
#define FRESH_ROUTES_H
#include <stdint.h>
#include "bin-src/send/route.h"
#include "stamp.h"

enum { FRESH_ROUTES_FILES = 5 };

struct fresh_routes {
	struct route_rules route;
	struct stamp files[FRESH_ROUTES_FILES];	/* as they were when they were read */
	uint64_t looked_at;	/* monotonic_ms */
	unsigned long reads;	/* how often they were read */
	int in_doubt;
};

/* Reads the files now, whatever their age. Returns NULL, or the file that cannot be read (errno): the old rules stay. */
const char *fresh_routes_load(struct fresh_routes *r);

/* To be called before rules are used; now: monotonic_ms. Returns as fresh_routes_load; NULL if there was nothing to do,
 * or the same trouble was returned before. */
const char *fresh_routes_look(struct fresh_routes *r, uint64_t now);

#endif
