#include <errno.h>
#include <string.h>
#include "route.h"
#include "stralloc_set.h"

/* A list or map file as a map. */
static int
load_map(struct control_map *map, const char *file, int with_values)
{
	stralloc entries = STRALLOC_ZERO;
	int r = control_list(&entries, file);

	if (r > 0 && !control_map_build(map, &entries, with_values))
		r = -1;
	stralloc_free(&entries);
	return r;
}

/* locals, or me alone if there is no locals. */
static const char *
load_locals(struct control_map *map)
{
	stralloc me = STRALLOC_ZERO;
	const char *trouble = NULL;
	int r = load_map(map, "control/locals", 0);

	if (r > 0)
		return NULL;
	if (r < 0)
		return "control/locals";
	r = control_line(&me, "control/me");
	if (r == 0)
		errno = ENOENT;
	if (r <= 0)
		trouble = r < 0 ? "control/me" : "control/locals";
	else if (!stralloc_0(&me) || !control_map_build(map, &me, 0)) {
		errno = ENOMEM;
		trouble = "control/me";
	}
	stralloc_free(&me);
	return trouble;
}

const char *
route_reload(struct route_rules *rules)
{
	struct route_rules fresh = { 0 };
	const char *trouble = load_locals(&fresh.locals);

	if (!trouble && load_map(&fresh.virtualdomains, "control/virtualdomains", 1) < 0)
		trouble = "control/virtualdomains";
	if (trouble) {
		int e = errno;

		route_free(&fresh);
		errno = e;
		return trouble;
	}
	control_map_free(&rules->locals);
	control_map_free(&rules->virtualdomains);
	rules->locals = fresh.locals;
	rules->virtualdomains = fresh.virtualdomains;
	return NULL;
}

const char *
route_load(struct route_rules *rules)
{
	struct route_rules fresh = { 0 };
	const char *trouble = route_reload(&fresh);
	int r;

	if (!trouble && load_map(&fresh.percenthack, "control/percenthack", 0) < 0)
		trouble = "control/percenthack";
	if (!trouble) {
		r = control_line_or_me(&fresh.envnoathost, "control/envnoathost");
		if (r < 0 || (r == 0 && !stralloc_sets(&fresh.envnoathost, "envnoathost")))
			trouble = "control/envnoathost";
	}
	if (trouble) {
		int e = errno;

		route_free(&fresh);
		errno = e;
		return trouble;
	}
	route_free(rules);
	*rules = fresh;
	return NULL;
}

void
route_free(struct route_rules *rules)
{
	control_map_free(&rules->locals);
	control_map_free(&rules->percenthack);
	control_map_free(&rules->virtualdomains);
	stralloc_free(&rules->envnoathost);
}

/* Rules 1 and 2. address becomes the result, without a NUL; *at the offset of its last '@'. */
static int
apply_rewriting(const struct route_rules *rules, const char *recipient, stralloc *address, size_t *at)
{
	const char *s;

	if (!stralloc_sets(address, recipient))
		return 0;
	if (!memrchr(address->s ? address->s : "", '@', address->len) && (!stralloc_catb(address, "@", 1) ||
	    !stralloc_catb(address, rules->envnoathost.s, rules->envnoathost.len)))
		return 0;
	for (;;) {
		s = memrchr(address->s, '@', address->len);
		*at = (size_t)(s - address->s);
		if (!control_map_find(&rules->percenthack, s + 1, address->len - *at - 1))
			return 1;
		s = memrchr(address->s, '%', *at);
		if (!s)
			return 1;
		/* each turn is a shorter address */
		address->len = *at;
		address->s[s - address->s] = '@';
	}
}

/* Rule 4: what virtualdomains says of the address, NULL if nothing. */
static const char *
find_virtual(const struct control_map *map, const stralloc *address, size_t at)
{
	const char *s = address->s, *end = s + address->len, *domain = s + at + 1;
	const char *found = control_map_find(map, s, address->len);

	if (!found)
		found = control_map_find(map, domain, (size_t)(end - domain));
	for (const char *dot = domain; !found && (dot = memchr(dot, '.', (size_t)(end - dot))); dot++)
		found = control_map_find(map, dot, (size_t)(end - dot));
	return found ? found : control_map_find(map, "", 0);
}

int
route_find(const struct route_rules *rules, const char *recipient, stralloc *address, struct route *route)
{
	const char *prepend;

	*route = (struct route){ .channel = ROUTE_LOCAL };
	if (!apply_rewriting(rules, recipient, address, &route->at))
		return 0;
	if (!control_map_find(&rules->locals, address->s + route->at + 1, address->len - route->at - 1)) {
		prepend = find_virtual(&rules->virtualdomains, address, route->at);
		if (!prepend || !*prepend)
			route->channel = ROUTE_REMOTE;
		else {
			size_t len = strlen(prepend);

			if (!stralloc_readyplus(address, len + 1))
				return 0;
			memmove(address->s + len + 1, address->s, address->len);
			memcpy(address->s, prepend, len);
			address->s[len] = '-';
			address->len += len + 1;
			route->prepended = len + 1;
			route->at += len + 1;
		}
	}
	return stralloc_catb(address, "", 1);
}
