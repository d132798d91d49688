/* route: whether a recipient is local or remote, and what its address becomes (interfaces section 6.2).
 *   1 no '@': "@" and control/envnoathost are appended
 *   2 while the domain is in control/percenthack: user%host@domain becomes user@host, by the last '%'
 *   3 the domain is in control/locals (or is control/me, if there is no locals): local as it is
 *   4 control/virtualdomains has the address, its domain, ".suffix" of the domain (longest first), or the empty key:
 *     local as prepend-user@domain; but an empty prepend means: not virtual, no further key is looked at
 *   5 else remote
 * Keys are compared without ASCII case. The domain is what follows the last '@'. */
#ifndef ROUTE_H
#define ROUTE_H
#include <stddef.h>
#include <skalibs/stralloc.h>
#include "control/control.h"

enum route_channel { ROUTE_LOCAL, ROUTE_REMOTE };
enum { ROUTE_CHANNELS = 2 };

/* {0} is a valid set of rules: everything is remote. */
struct route_rules {
	struct control_map locals, percenthack, virtualdomains;
	stralloc envnoathost;
};

struct route {
	enum route_channel channel;
	size_t prepended;	/* octets of "prepend-" at the start of the address, 0 if it is not virtual */
	size_t at;		/* offset of the last '@' of the address */
};

/* Reads the control files below the current directory, the home, into *rules; frees what was there.
 * Returns NULL, or the name of the control file that is missing (errno ENOENT) or cannot be read (errno); *rules is
 * then as before. */
const char *route_load(struct route_rules *rules);

/* The same for what qmail-send reads anew on HUP: locals and virtualdomains. */
const char *route_reload(struct route_rules *rules);

/* Finds the route of recipient (NUL-terminated). *address is what it became, NUL-terminated. Without its first
 * route->prepended octets it is the address as senders know it.
 * Returns 1, or 0 (ENOMEM). */
int route_find(const struct route_rules *rules, const char *recipient, stralloc *address, struct route *route);

void route_free(struct route_rules *rules);

#endif
