#include <errno.h>
#include "fresh_routes.h"

enum { LOOK_MS = 1000 };

static void
take_stamps(struct stamp files[FRESH_ROUTES_FILES])
{
	static const char *const names[FRESH_ROUTES_FILES] = {
		"control/me", "control/locals", "control/virtualdomains", "control/percenthack", "control/envnoathost",
	};

	for (int i = 0; i < FRESH_ROUTES_FILES; i++)
		files[i] = stamp_take(names[i]);
}

/* Whether an editor may be at work: something was changed a moment ago. */
static int
is_fresh(const struct stamp files[FRESH_ROUTES_FILES])
{
	for (int i = 0; i < FRESH_ROUTES_FILES; i++)
		if (stamp_is_fresh(&files[i].changed))
			return 1;
	return 0;
}

const char *
fresh_routes_load(struct fresh_routes *r)
{
	const char *trouble;

	take_stamps(r->files);	/* before: what changes while it is read is read again */
	trouble = route_load(&r->route);
	r->in_doubt = trouble != NULL;
	r->reads++;
	return trouble;
}

const char *
fresh_routes_look(struct fresh_routes *r, uint64_t now)
{
	struct stamp files[FRESH_ROUTES_FILES];
	const char *trouble;
	int had_trouble = r->in_doubt;

	if (now - r->looked_at < LOOK_MS)
		return NULL;
	r->looked_at = now;
	take_stamps(files);
	if (stamps_are_same(files, r->files, FRESH_ROUTES_FILES) && !had_trouble)
		return NULL;
	if (is_fresh(files)) {
		r->in_doubt = 1;
		return NULL;
	}
	trouble = fresh_routes_load(r);
	return had_trouble && trouble ? NULL : trouble;
}
