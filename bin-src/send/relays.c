#include <errno.h>
#include <string.h>
#include <skalibs/bytestr.h>
#include <skalibs/types.h>
#include "relays.h"
#include "stralloc_set.h"

enum { LOOK_MS = 1000 };

void
relays_look(struct relays *r, int64_t now)
{
	struct smtproutes fresh;
	struct stamp file;

	if (now < r->look_at)
		return;
	r->look_at = now + LOOK_MS;
	file = stamp_take("control/smtproutes");
	if (stamp_is_same(&file, &r->file))
		return;
	if (!smtproutes_read(&fresh)) {
		if (errno == ENOMEM)
			return;
		memset(&fresh, 0, sizeof fresh);
	}
	smtproutes_free(&r->routes);
	r->routes = fresh;
	r->file = file;
}

int
relays_destination(const struct relays *r, const char *domain, stralloc *name)
{
	static const char prefix[] = "RELAY ";	/* no domain in lower case begins so */
	struct smtproute route;
	char port[UINT_FMT];
	int is_relay = smtproute_find(&r->routes, domain, NULL, &route) == 1 && *route.relay;
	size_t start = is_relay ? sizeof prefix - 1 : 0;

	port[uint_fmt(port, route.port)] = '\0';
	if (!stralloc_setb(name, prefix, start) || !stralloc_cats(name, is_relay ? route.relay : domain))
		return -1;
	case_lowerb(name->s + start, name->len - start);
	if (is_relay && (!stralloc_cats(name, ":") || !stralloc_cats(name, port)))
		return -1;
	return stralloc_0(name) ? is_relay : -1;
}
