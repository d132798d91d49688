#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <skalibs/types.h>
#include "relays.h"

enum { LOOK_MS = 1000 };

void
relays_look(struct relays *r, int64_t now)
{
	struct smtproutes fresh;
	struct stat st;

	if (now < r->look_at)
		return;
	r->look_at = now + LOOK_MS;
	if (stat("control/smtproutes", &st) < 0)
		memset(&st, 0, sizeof st);
	if (st.st_ino == r->inode && st.st_size == r->size && memcmp(&st.st_mtim, &r->changed, sizeof r->changed) == 0)
		return;
	if (!smtproutes_read(&fresh)) {
		if (errno == ENOMEM)
			return;
		memset(&fresh, 0, sizeof fresh);
	}
	smtproutes_free(&r->routes);
	r->routes = fresh;
	r->inode = st.st_ino;
	r->size = st.st_size;
	r->changed = st.st_mtim;
}

static int
put_lower(stralloc *to, const char *s)
{
	size_t start = to->len;

	if (!stralloc_cats(to, s))
		return 0;
	for (size_t i = start; i < to->len; i++)
		if (to->s[i] >= 'A' && to->s[i] <= 'Z')
			to->s[i] = (char)(to->s[i] + 32);
	return 1;
}

int
relays_destination(const struct relays *r, const char *domain, stralloc *name)
{
	struct smtproute route;
	char port[UINT_FMT];
	int is_relay = smtproute_find(&r->routes, domain, NULL, &route) == 1 && *route.relay;
	int ok;

	name->len = 0;
	port[uint_fmt(port, route.port)] = '\0';
	/* no domain in lower case looks like a relay's name */
	ok = is_relay ? stralloc_cats(name, "RELAY ") && put_lower(name, route.relay) && stralloc_cats(name, ":") &&
	    stralloc_cats(name, port) : put_lower(name, domain);
	return !ok || !stralloc_0(name) ? -1 : is_relay;
}
