#include <string.h>
#include <strings.h>
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
is_equal(const char *s, size_t len, const char *t)
{
	return strlen(t) == len && strncasecmp(s, t, len) == 0;
}

/* Whether address is of the len octets of domain, which begin with '@'. */
static int
is_of_domain(const char *address, const char *domain, size_t len)
{
	const char *at = strrchr(address, '@');

	return at && is_equal(domain, len, at);
}

/* Whether address begins and ends as the len octets of pattern, which have one '*'. */
static int
begins_so(const char *address, const char *pattern, size_t len)
{
	const char *star = memchr(pattern, '*', len);
	size_t before = (size_t)(star - pattern), size = strlen(address);

	/* what the star stands for has no '@', which the rest begins with */
	return size >= before + 1 && strncasecmp(address, pattern, before) == 0 && !memchr(address, '@', before) &&
	    is_of_domain(address, star + 1, len - before - 1);
}

/* Whether the len octets of entry, one side of a line, mean address. */
static int
means(const char *entry, size_t len, const char *address)
{
	const char *star = memchr(entry, '*', len);

	if (len == 0)
		return 0;
	if (entry[0] == '@')
		return is_of_domain(address, entry, len);
	if (star && len == 1)
		return 1;
	return star && star[1] == '@' ? begins_so(address, entry, len) : is_equal(entry, len, address);
}

static int
is_in_table(const struct senders *s, const char *login, const char *sender)
{
	const char *line = s->table.s, *end = line + s->table.len;

	for (; line < end; line += strlen(line) + 1) {
		const char *colon = strchr(line, ':');

		if (colon && means(line, (size_t)(colon - line), login) && means(colon + 1, strlen(colon + 1), sender))
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
	if (at && !strchr(login, '@') && is_equal(sender, (size_t)(at - sender), login) && control_map_find(&s->locals, at + 1, strlen(at + 1)))
		return 1;
	return is_in_table(s, login, sender);
}
