#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <skalibs/bytestr.h>
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

int
relays_destination(const struct relays *r, const char *domain, stralloc *name)
{
	static const char prefix[] = "RELAY ";	/* no domain in lower case begins so */
	struct smtproute route;
	char port[UINT_FMT];
	int is_relay = smtproute_find(&r->routes, domain, NULL, &route) == 1 && *route.relay;
	size_t start = is_relay ? sizeof prefix - 1 : 0;

	port[uint_fmt(port, route.port)] = '\0';
	if (!stralloc_copyb(name, prefix, start) || !stralloc_cats(name, is_relay ? route.relay : domain))
		return -1;
	case_lowerb(name->s + start, name->len - start);
	if (is_relay && (!stralloc_cats(name, ":") || !stralloc_cats(name, port)))
		return -1;
	return stralloc_0(name) ? is_relay : -1;
}
