#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "top.h"

enum { TOP_READ = 16 * 1024 };

/* Where in the message the octets are that come next. */
struct place {
	uint64_t at;		/* octets before them */
	uint64_t lines;		/* of the body that are still wanted */
	int is_line_start;
	int is_bare_cr;		/* a CR is all that the line has so far */
	int in_body;
};

/* Takes the octets of a line, or the part of one that is there; has_lf: its end is among them. Returns whether more is wanted. */
static int
take(struct place *p, const char *s, size_t len, int has_lf)
{
	size_t text = len - (size_t)has_lf;
	int is_empty = (p->is_line_start && text == 0) || (p->is_line_start && text == 1 && s[0] == '\r') || (p->is_bare_cr && text == 0);

	p->at += len;
	if (!has_lf) {
		p->is_bare_cr = p->is_line_start && text == 1 && s[0] == '\r';
		p->is_line_start = 0;
		return 1;
	}
	p->is_line_start = 1;
	p->is_bare_cr = 0;
	if (p->in_body)
		p->lines--;
	else
		p->in_body = is_empty;
	return !p->in_body || p->lines > 0;
}

int
top_end(int fd, uint64_t size, uint64_t lines, uint64_t *end)
{
	char buffer[TOP_READ];
	struct place p = { .lines = lines, .is_line_start = 1 };
	int goes_on = 1;

	while (goes_on && p.at < size) {
		ssize_t n = pread(fd, buffer, sizeof buffer, (off_t)p.at);
		const char *s = buffer, *stop;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n < 0 ? errno : EIO;	/* it became shorter */
			return 0;
		}
		for (stop = s + n; goes_on && s < stop;) {
			const char *lf = memchr(s, '\n', (size_t)(stop - s));
			size_t len = (size_t)((lf ? lf + 1 : stop) - s);

			goes_on = take(&p, s, len, lf != NULL);
			s += len;
		}
	}
	*end = p.at < size ? p.at : size;
	return 1;
}
