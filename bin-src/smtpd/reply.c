#include <stdio.h>
#include <string.h>
#include "monotonic.h"
#include "reply.h"
#include "timed_write.h"

void
reply_start(struct reply *r)
{
	timed_write_start(r->fd, r->timeout_ms);
	r->len = 0;
	r->is_broken = r->is_extended = 0;
	r->last[0] = '\0';
}

void
reply_flush(struct reply *r)
{
	if (!r->is_broken && r->len)
		r->is_broken = !timed_write(r->fd, r->out, r->len, monotonic_ms() + r->timeout_ms);
	r->len = 0;
}

static void
put(struct reply *r, const char *s, size_t len)
{
	if (r->len + len > REPLY_SIZE)
		reply_flush(r);
	memcpy(r->out + r->len, s, len);
	r->len += len;
}

/* Copies text, cut and cleaned, with room for limit octets and a NUL. */
static size_t
clean(char *to, const char *text, size_t limit)
{
	size_t n = 0;

	for (; text[n] && text[n] != '\n' && text[n] != '\r' && n < limit; n++)
		to[n] = text[n] < 32 || text[n] > 126 ? '?' : text[n];
	to[n] = '\0';
	return n;
}

enum { CODE_MAX = 9 };	/* "5.300.300" */

/* The code that a text such as "... (#5.3.0)" ends in, into own; 1 if there is one of class. */
static int
own_code(char own[CODE_MAX + 1], const char *text, size_t len, unsigned int class)
{
	const char *open = strrchr(text, '(');
	size_t n, dots = 0;

	if (!open || !len || text[len - 1] != ')' || open[1] != '#')
		return 0;
	n = (size_t)(text + len - open) - 3;
	if (n < 5 || n > CODE_MAX || strspn(open + 2, "0123456789.") != n || open[2] != (char)('0' + class) || open[3] != '.')
		return 0;
	memcpy(own, open + 2, n);
	own[n] = '\0';
	for (size_t i = 0; i < n; i++)
		dots += own[i] == '.';
	return dots == 2 && own[4] != '.' && own[n - 1] != '.';
}

void
reply_line(struct reply *r, unsigned int code, char separator, const char *text)
{
	char line[REPLY_TEXT_MAX + 8];
	size_t n = (size_t)snprintf(line, 5, "%03u%c", code % 1000, separator);

	n += clean(line + n, text, REPLY_TEXT_MAX);
	line[n++] = '\r';
	line[n++] = '\n';
	put(r, line, n);
}

void
reply_put(struct reply *r, unsigned int code, const char *enhanced, const char *text)
{
	char cleaned[REPLY_TEXT_MAX + 1], own[CODE_MAX + 1], line[REPLY_TEXT_MAX + 64];
	size_t n = clean(cleaned, text, REPLY_TEXT_MAX);
	int has_own = own_code(own, cleaned, n, code / 100);
	const char *said = has_own ? own : enhanced;
	int len;

	len = snprintf(line, sizeof line, "%03u %s%s%s", code, r->is_extended ? said : "", r->is_extended && *said ? " " : "", cleaned);
	if (code >= 400) {
		if (!has_own && *said)
			len += snprintf(line + len, sizeof line - (size_t)len, " (#%s)", said);
		memcpy(r->last, cleaned, n + 1);
	}
	line[len++] = '\r';
	line[len++] = '\n';
	put(r, line, (size_t)len);
}
