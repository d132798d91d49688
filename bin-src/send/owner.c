#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "job.h"
#include "owner.h"

enum { SLOTS = 16384 };

/* Strings of the answer. */
enum { DASH = 4, EXT = 5, STRINGS = 6 };

int
owners_init(struct owners *all)
{
	*all = (struct owners){ .slots = calloc(SLOTS, sizeof *all->slots), .mask = SLOTS - 1 };
	if (!all->slots)
		errno = ENOMEM;
	return all->slots != NULL;
}

static struct owner **
slot_of(const struct owners *all, const char *local, size_t len)
{
	uint64_t h = 14695981039346656037u;	/* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)local[i]) * 1099511628211u;
	return &all->slots[(h ^ h >> 32) & all->mask];
}

static struct owner *
find(const struct owners *all, const char *local, size_t len)
{
	struct owner *o = *slot_of(all, local, len);

	while (o && (strncmp(o->local, local, len) != 0 || o->local[len]))
		o = o->hash_next;
	return o;
}

static void
unlink_use(struct owners *all, struct owner *o)
{
	if (!o->facts)
		return;
	*(o->newer ? &o->newer->older : &all->newest) = o->older;
	*(o->older ? &o->older->newer : &all->oldest) = o->newer;
}

static void
link_newest(struct owners *all, struct owner *o)
{
	o->newer = NULL;
	o->older = all->newest;
	*(o->older ? &o->older->newer : &all->oldest) = o;
	all->newest = o;
}

struct owner *
owner_known(struct owners *all, const char *local, size_t len, int64_t now)
{
	struct owner *o = find(all, local, len);

	if (!o || !o->facts || o->until <= now || o->generation != all->generation)
		return NULL;
	unlink_use(all, o);
	link_newest(all, o);
	return o;
}

struct owner *
owner_get(struct owners *all, const char *local, size_t len)
{
	struct owner **slot = slot_of(all, local, len), *o = find(all, local, len);

	if (o)
		return o;
	o = calloc(1, sizeof *o + len + 1);
	if (!o) {
		errno = ENOMEM;
		return NULL;
	}
	memcpy(o->local, local, len);
	o->generation = all->generation;
	o->hash_next = *slot;
	*slot = o;
	all->count++;
	return o;
}

void
owner_ask(const struct owners *all, struct owner *o)
{
	o->is_asked = 1;
	o->until = 0;
	o->generation = all->generation;
}

/* The nth (from 0) of the NUL-ended strings in size octets, NULL if there are not as many. */
static const char *
string(const char *s, size_t size, unsigned int n)
{
	const char *end = s + size;

	for (;;) {
		const char *nul = memchr(s, '\0', (size_t)(end - s));

		if (!nul || !n--)
			return nul ? s : NULL;
		s = nul + 1;
	}
}

int
owner_identity(stralloc *to, const char *s, size_t size)
{
	const char *dash = string(s, size, DASH);
	size_t start = to->len, len = dash ? (size_t)(dash - s) : 0;

	if (!len || !*s)
		return 0;
	if (!stralloc_catb(to, s, len))
		return -1;
	for (size_t i = start; i + 1 < to->len; i++)
		if (!to->s[i])
			to->s[i] = ':';
	return 1;
}

int
owner_answer(struct owners *all, struct owner *o, const char *s, size_t size, int64_t now)
{
	const char *dash = string(s, size, DASH), *ext = string(s, size, EXT);
	stralloc facts = STRALLOC_ZERO;
	size_t identity_size;
	int r;

	if (!ext || string(s, size, STRINGS))
		return 0;
	r = owner_identity(&facts, s, size);
	identity_size = facts.len;
	if (r == 1 && !stralloc_catb(&facts, dash, (size_t)(s + size - dash)))
		r = -1;
	if (r != 1) {
		stralloc_free(&facts);
		return r;
	}
	unlink_use(all, o);
	free(o->facts);
	o->facts = facts.s;
	o->identity = facts.s;
	o->dash = facts.s + identity_size;
	o->ext = o->dash + strlen(o->dash) + 1;
	o->until = now + (strcmp(o->ext, o->local) == 0 ? OWNER_NOBODY_SECONDS : JOB_WORKER_SECONDS) * INT64_C(1000);
	o->is_asked = o->is_urgent = 0;
	link_newest(all, o);
	return 1;
}

void
owner_free(struct owners *all, struct owner *o)
{
	struct owner **at = slot_of(all, o->local, strlen(o->local));

	while (*at != o)
		at = &(*at)->hash_next;
	*at = o->hash_next;
	unlink_use(all, o);
	all->count--;
	free(o->facts);
	free(o);
}

void
owners_trim(struct owners *all)
{
	struct owner *o = all->oldest, *newer;

	for (; o && all->count > OWNERS_MAX; o = newer) {
		newer = o->newer;
		if (!o->is_asked)
			owner_free(all, o);
	}
}
