#include <string.h>
#include <strings.h>
#include "address_pattern.h"
#include "senders.h"
#include "stralloc_set.h"

/* --- reading ------------------------------------------------------------------------------- */

/* control/locals, or control/me in its place. */
static int
read_locals(struct control_map *locals, const char **file)
{
	stralloc entries = STRALLOC_ZERO, me = STRALLOC_ZERO;
	int r;

	*file = "control/locals";
	r = control_list(&entries, *file);
	if (r == 0) {
		*file = "control/me";
		r = control_line(&me, *file);
		if (r > 0 && !(stralloc_setb(&entries, me.s, me.len) && stralloc_0(&entries)))
			r = -1;
	}
	if (r >= 0 && !control_map_build(locals, &entries, 0))
		r = -1;
	stralloc_free(&entries);
	stralloc_free(&me);
	return r >= 0;
}

int
senders_read(struct senders *s, const char **file)
{
	struct senders new = { .table = STRALLOC_ZERO };

	*file = "control/submissionsenders";
	if (control_list(&new.table, *file) < 0 || !read_locals(&new.locals, file)) {
		senders_free(&new);
		return 0;
	}
	senders_free(s);
	*s = new;
	return 1;
}

void
senders_free(struct senders *s)
{
	stralloc_free(&s->table);
	control_map_free(&s->locals);
}

/* --- looking ---------------------------------------------------------------------------------- */

static int
is_in_table(const struct senders *s, const char *login, const char *sender)
{
	for (size_t at = 0; at < s->table.len; at += strlen(s->table.s + at) + 1) {
		const char *line = s->table.s + at, *colon = strchr(line, ':');

		if (colon && address_pattern_has(line, (size_t)(colon - line), login) &&
		    address_pattern_has(colon + 1, strlen(colon + 1), sender))
			return 1;
	}
	return 0;
}

int
senders_has(const struct senders *s, const char *login, const char *sender)
{
	const char *at = strrchr(sender, '@');

	if (!*sender || strcasecmp(sender, login) == 0)
		return 1;
	if (at && !strchr(login, '@') && address_pattern_is(sender, (size_t)(at - sender), login) && control_map_find(&s->locals, at + 1, strlen(at + 1)))
		return 1;
	return is_in_table(s, login, sender);
}
