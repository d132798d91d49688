#include <string.h>
#include <strings.h>
#include "hops.h"

static void
end_line(struct hops *h)
{
	if (h->column == 0 || (h->column == 1 && h->name[0] == '\r'))
		h->is_over = 1;
	else if ((h->column >= 8 && strncasecmp(h->name, "received", 8) == 0) ||
	    (h->column >= 9 && strncasecmp(h->name, "delivered", 9) == 0))
		h->count++;
	h->column = 0;
}

void
hops_watch(struct hops *h, const char *s, size_t len)
{
	while (len && !h->is_over) {
		const char *lf = memchr(s, '\n', len);
		size_t n = lf ? (size_t)(lf - s) : len;

		for (size_t i = 0; i < n && h->column < sizeof h->name; i++)
			h->name[h->column++] = s[i];
		if (!lf)
			return;
		end_line(h);
		s += n + 1;
		len -= n + 1;
	}
}
