#include <string.h>
#include "report.h"

void
report_parts(struct report *r, const char *const *strings)
{
	for (; *strings; strings++) {
		size_t len = strlen(*strings);

		if (len > REPORT_MAX - r->text.len)
			len = REPORT_MAX - r->text.len;
		if (!stralloc_catb(&r->text, *strings, len))
			return;
	}
}

size_t
report_room(const struct report *r)
{
	return r->text.len < REPORT_MAX - REPORT_OWN ? REPORT_MAX - REPORT_OWN - r->text.len : 0;
}

void
report_output(struct report *r, const char *s, size_t len)
{
	const char *nul = memchr(s, '\0', len);

	if (nul)
		len = (size_t)(nul - s);
	if (len > report_room(r))
		len = report_room(r);
	if (len == 0 || !stralloc_catb(&r->text, s, len))
		return;
	/* the next line begins at the margin */
	if (r->text.s[r->text.len - 1] != '\n')
		stralloc_append(&r->text, '\n');
}
